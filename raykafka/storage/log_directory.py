"""A broker's log directory: who owns it, whose data it holds, and how its last owner ended."""

from __future__ import annotations

import fcntl
import os

import msgspec

from raykafka.errors import (
    InconsistentClusterIdError,
    KafkaStorageError,
    LogDamagedError,
    LogDirLockedError,
    UnsupportedVersionError,
)
from raykafka.storage.local_store import LocalStore

FORMAT_VERSION = 1
"""Of everything below the directory; raised when an older raykafka could not read it any more."""
META_FILE = "meta.json"


class LogDirectoryMeta(msgspec.Struct, frozen=True):
    """Content of ``meta.json``; a later version may know more fields."""

    format_version: int
    cluster_id: str = ""
    broker_id: int = -1


class LogDirectory:
    """One directory of segments, and the right to write in it."""

    def __init__(self, path: str, *, slot: int | None = None) -> None:
        """``path`` is created by ``lock``; nothing is touched before.

        ``slot`` names one of several owners that share the directory, each with partitions of its
        own; None is the broker itself.
        """
        self.path = os.path.abspath(path)
        suffix = "" if slot is None else f"-{slot}"
        self._lock_path = f"{self.path}/.lock{suffix}"
        self._marker_path = f"{self.path}/.clean-shutdown{suffix}"
        self._lock_descriptor: int | None = None
        self.clean_shutdown = False
        """Whether the last owner closed every log (Kafka's ``.kafka_cleanshutdown``)."""

    def lock(self) -> None:
        """Become the owner, until ``unlock`` or the end of the process, however it ends.

        Raises ``LogDirLockedError`` that names the process which owns the directory.
        """
        if self._lock_descriptor is not None:
            return
        try:
            os.makedirs(self.path, exist_ok=True)
            descriptor = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise KafkaStorageError(
                f"cannot use log directory {self.path}: {error.strerror}; check that it is a "
                "directory this user may write to"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            raise LogDirLockedError(
                f"log directory {self.path} is owned by process {owner} (see {self._lock_path}); "
                "stop it or use another directory"
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._lock_descriptor = descriptor
        # The marker counts once: whoever dies without writing it again has died uncleanly.
        try:
            os.unlink(self._marker_path)
            self.clean_shutdown = True
        except FileNotFoundError:
            self.clean_shutdown = False

    def unlock(self, *, clean: bool = False) -> None:
        """Give the directory up; ``clean`` says that every log in it was closed."""
        if self._lock_descriptor is None:
            return
        if clean:
            descriptor = os.open(self._marker_path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
            os.fsync(descriptor)
            os.close(descriptor)
        os.close(self._lock_descriptor)
        self._lock_descriptor = None

    def claim(self, cluster_id: str, broker_id: int) -> None:
        """Write whose directory this is, or check it; nothing in it is changed on refusal.

        Raises ``InconsistentClusterIdError`` for another cluster's or broker's directory,
        ``UnsupportedVersionError`` for one of a later format, ``LogDamagedError`` for unreadable
        meta data.
        """
        meta = self.read_meta()
        if meta is None:
            meta = LogDirectoryMeta(FORMAT_VERSION, cluster_id, broker_id)
            LocalStore(self.path).publish(META_FILE, msgspec.json.encode(meta))
        elif (meta.cluster_id, meta.broker_id) != (cluster_id, broker_id):
            raise InconsistentClusterIdError(
                f"log directory {self.path} belongs to broker {meta.broker_id} of cluster "
                f"{meta.cluster_id}, not to broker {broker_id} of {cluster_id}; use another one"
            )

    def read_private(self, name: str) -> bytes | None:
        """Content of a small file that only its owner may read, None where there is none."""
        path = f"{self.path}/{name}"
        try:
            with open(path, "rb") as file:
                return file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise KafkaStorageError(f"cannot read {path}: {error.strerror}") from error

    def write_private(self, name: str, content: bytes) -> None:
        """Write such a file, durably; beside its place first, so that nobody finds half of it."""
        path = f"{self.path}/{name}"
        temporary = f"{path}.tmp"
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with open(descriptor, "wb") as file:
                os.fchmod(descriptor, 0o600)
                file.write(content)
                file.flush()
                os.fsync(descriptor)
            os.replace(temporary, path)
        except OSError as error:
            raise KafkaStorageError(f"cannot write {path}: {error.strerror}") from error

    def read_meta(self) -> LogDirectoryMeta | None:
        """What ``meta.json`` says, None where there is none yet; raises as ``claim`` does."""
        try:
            with open(f"{self.path}/{META_FILE}", "rb") as file:
                meta = msgspec.json.decode(file.read(), type=LogDirectoryMeta)
        except FileNotFoundError:
            return None
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise LogDamagedError(
                f"{self.path}/{META_FILE} is damaged ({error}); restore it, or write it anew with "
                f'{{"format_version": {FORMAT_VERSION}, "cluster_id": ..., "broker_id": ...}}'
            ) from error
        if meta.format_version > FORMAT_VERSION:
            raise UnsupportedVersionError(
                f"log directory {self.path} has format {meta.format_version}, this raykafka reads "
                f"up to {FORMAT_VERSION}; upgrade raykafka"
            )
        return meta
