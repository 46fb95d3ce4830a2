"""The file that tells programs of this machine how to talk to a cluster without joining Ray.

It holds the cluster's secret, so only its owner may read it.
"""

from __future__ import annotations

import os

import msgspec

from raykafka.actors.ports import ClusterAccess
from raykafka.errors import ClusterUnreachableError, KafkaStorageError
from raykafka.model import Endpoint

ENDPOINT_FILE = "endpoint.json"
"""Its name in a cluster's data directory."""


class _Content(msgspec.Struct):
    cluster_id: str
    cluster_name: str
    host: str
    port: int
    secret: bytes
    controllers: tuple[Endpoint, ...] = ()


def endpoint_file(data_dir: str) -> str:
    """Where the endpoint file of a cluster stands."""
    return os.path.join(data_dir, ENDPOINT_FILE)


def write_endpoint_file(data_dir: str, access: ClusterAccess) -> None:
    """Replace the file at once; nobody ever reads half of it. Raises ``KafkaStorageError``."""
    content = _Content(
        access.cluster_id,
        access.cluster_name,
        access.controller.host,
        access.controller.port,
        access.secret,
        access.controllers,
    )
    path = endpoint_file(data_dir)
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(msgspec.json.encode(content))
        os.replace(temporary, path)
    except OSError as error:
        raise KafkaStorageError(f"cannot write {path}: {error.strerror}") from error


def read_endpoint_file(path: str) -> ClusterAccess:
    """What the file says; raises ``ClusterUnreachableError`` when it is missing or not whole."""
    try:
        with open(path, "rb") as file:
            content = msgspec.json.decode(file.read(), type=_Content)
    except FileNotFoundError:
        raise ClusterUnreachableError(
            f"no cluster has left its address in {path}; start one with that data directory"
        ) from None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ClusterUnreachableError(f"{path} cannot be read: {error}") from error
    return ClusterAccess(
        content.cluster_id,
        content.cluster_name,
        Endpoint(content.host, content.port),
        content.secret,
        content.controllers,
    )


def remove_endpoint_file(data_dir: str) -> None:
    """Take the file away after a clean stop; nothing happens when there is none."""
    try:
        os.unlink(endpoint_file(data_dir))
    except FileNotFoundError:
        return
