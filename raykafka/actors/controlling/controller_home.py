"""The controller's directory: whose cluster it is, its secret, and the metadata log."""

from __future__ import annotations

import os
import secrets
import uuid
from typing import Final

from raykafka.actors.machine_log import PartitionMachineLog
from raykafka.clock import Clock
from raykafka.controller.topics import METADATA_TOPIC
from raykafka.errors import KafkaStorageError
from raykafka.model import PartitionId, TopicId
from raykafka.storage.local_store import LocalStore
from raykafka.storage.log_directory import LogDirectory

CONTROLLER_ID: Final = -1
"""Stands for the controller where the directory of a broker would name the broker."""
SECRET_FILE: Final = "secret"
_SECRET_BYTES: Final = 32
_METADATA: Final = PartitionId(TopicId(f"{1:032x}"), 0)


class ControllerHome:
    """``<data_dir>/controller``. Blocking; used in threads."""

    def __init__(self, data_dir: str, clock: Clock) -> None:
        self._directory = LogDirectory(os.path.join(data_dir, "controller"))
        self._clock = clock
        self._store: LocalStore | None = None
        self.cluster_id = ""
        self.secret = b""

    def lock(self) -> None:
        """Own the directory; raises ``LogDirLockedError`` while another controller does."""
        self._directory.lock()

    def enter(self) -> None:
        """Read who the cluster is, or found it.

        Raises ``InconsistentClusterIdError``, ``UnsupportedVersionError``, ``LogDamagedError`` or
        ``KafkaStorageError``.
        """
        meta = self._directory.read_meta()
        self.cluster_id = uuid.uuid4().hex if meta is None else meta.cluster_id
        self._directory.claim(self.cluster_id, CONTROLLER_ID)
        self.secret = self._read_or_make_secret()

    def open_log(self) -> PartitionMachineLog:
        """The metadata log, recovered."""
        self._store = LocalStore(self._directory.path)
        return PartitionMachineLog(self._store, METADATA_TOPIC, _METADATA, self._clock)

    def leave(self, *, clean: bool) -> None:
        """Give the directory up; ``clean`` says that the log was closed."""
        if self._store is not None:
            self._store.close()
            self._store = None
        self._directory.unlock(clean=clean)

    def _read_or_make_secret(self) -> bytes:
        path = os.path.join(self._directory.path, SECRET_FILE)
        try:
            with open(path, "rb") as file:
                secret = file.read()
        except FileNotFoundError:
            return _make_secret(path)
        except OSError as error:
            raise KafkaStorageError(f"cannot read {path}: {error.strerror}") from error
        if len(secret) != _SECRET_BYTES:
            raise KafkaStorageError(
                f"{path} has {len(secret)} bytes instead of {_SECRET_BYTES}; restore it, or stop"
                " the cluster and remove it to get a new secret"
            )
        return secret


def _make_secret(path: str) -> bytes:
    """Written beside its place first, so that nobody ever finds half a secret."""
    secret = secrets.token_bytes(_SECRET_BYTES)
    temporary = f"{path}.tmp"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o600)
            file.write(secret)
            file.flush()
            os.fsync(descriptor)
        os.replace(temporary, path)
    except OSError as error:
        raise KafkaStorageError(f"cannot write {path}: {error.strerror}") from error
    return secret
