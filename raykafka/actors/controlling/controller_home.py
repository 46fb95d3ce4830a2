"""A controller's directory: whose cluster it is, its secret, and the metadata log."""

from __future__ import annotations

import os
from typing import Final

from raykafka.actors.environment import Environment
from raykafka.actors.machine_log import PartitionMachineLog
from raykafka.actors.ports import ControllerSpec
from raykafka.controller.topics import METADATA_TOPIC
from raykafka.errors import KafkaStorageError
from raykafka.model import PartitionId, TopicId
from raykafka.storage.api import SegmentStore

CONTROLLER_ID: Final = -1
"""Stands for voter 0 where the directory of a broker would name the broker; then down from it."""
SECRET_FILE: Final = "secret"
_SECRET_BYTES: Final = 32
_ID_BYTES: Final = 16
_METADATA: Final = PartitionId(TopicId(f"{1:032x}"), 0)


def controller_directory(data_dir: str, voter_id: int) -> str:
    """Directory of a voter below the cluster's data directory."""
    return os.path.join(data_dir, f"controller-{voter_id}" if voter_id else "controller")


class ControllerHome:
    """One voter's directory. Blocking; used in threads."""

    def __init__(self, spec: ControllerSpec, environment: Environment) -> None:
        path = controller_directory(spec.data_dir, spec.voter_id)
        self._directory = environment.directory_factory(path)
        self._spec = spec
        self._environment = environment
        self._store: SegmentStore | None = None
        self.cluster_id = ""
        self.secret = b""

    def lock(self) -> None:
        """Own the directory; raises ``LogDirLockedError`` while another controller does."""
        self._directory.lock()

    def enter(self) -> None:
        """Read who the cluster is, or found it, or join the one that the spec names.

        Raises ``InconsistentClusterIdError``, ``UnsupportedVersionError``, ``LogDamagedError`` or
        ``KafkaStorageError``.
        """
        meta = self._directory.read_meta()
        if self._spec.cluster_id:
            self.cluster_id = self._spec.cluster_id
        elif meta is not None:
            self.cluster_id = meta.cluster_id
        else:
            self.cluster_id = self._environment.random_bytes(_ID_BYTES).hex()
        self._directory.claim(self.cluster_id, CONTROLLER_ID - self._spec.voter_id)
        self.secret = self._read_or_make_secret()

    def open_log(self) -> PartitionMachineLog:
        """The metadata log, recovered."""
        self._store = self._environment.store_factory(self._directory.path)
        clock = self._environment.clock
        return PartitionMachineLog(self._store, METADATA_TOPIC, _METADATA, clock)

    def leave(self, *, clean: bool) -> None:
        """Give the directory up; ``clean`` says that the log was closed."""
        if self._store is not None:
            self._store.close()
            self._store = None
        self._directory.unlock(clean=clean)

    def _read_or_make_secret(self) -> bytes:
        secret = self._directory.read_private(SECRET_FILE)
        if secret is None:
            secret = self._spec.secret or self._environment.random_bytes(_SECRET_BYTES)
            self._directory.write_private(SECRET_FILE, secret)
        elif len(secret) != _SECRET_BYTES:
            raise KafkaStorageError(
                f"{os.path.join(self._directory.path, SECRET_FILE)} has {len(secret)} bytes instead"
                f" of {_SECRET_BYTES}; restore it, or stop the cluster and remove it to get a new"
                " secret"
            )
        return secret
