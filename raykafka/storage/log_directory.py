"""A broker's log directory: who owns it, whose data it holds, and how its last owner ended."""

from __future__ import annotations

import fcntl
import glob
import os
from typing import Final

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
_BOOT_ID_FILE: Final = "/proc/sys/kernel/random/boot_id"


class LogDirectoryMeta(msgspec.Struct, frozen=True):
    """Content of ``meta.json``; a later version may know more fields."""

    format_version: int
    cluster_id: str = ""
    broker_id: int = -1
    directory_id: str = ""
    """Identity of this very directory (KIP-858); empty in one of an older version."""
    incarnation: int = -1
    """Of the broker that claimed it last."""


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
        self._intact = True

    def lock(self) -> None:
        """Become the owner, until ``unlock`` or the end of the process, however it ends.

        Raises ``LogDirLockedError`` that names the process which owns the directory.
        """
        if self._lock_descriptor is not None:
            return
        try:
            os.makedirs(self.path, exist_ok=True)
            is_new = not os.path.exists(self._lock_path)
            descriptor = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise KafkaStorageError(
                f"cannot use log directory {self.path}: {error.strerror}; check that it is a "
                "directory this user may write to"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner, _ = _read_lock(descriptor)
            os.close(descriptor)
            raise LogDirLockedError(
                f"log directory {self.path} is owned by process {owner} (see {self._lock_path}); "
                "stop it or use another directory"
            ) from error
        _, boot = _read_lock(descriptor)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n{boot_id()}\n".encode(), 0)
        self._lock_descriptor = descriptor
        # The marker counts once: whoever dies without writing it again has died uncleanly.
        try:
            os.unlink(self._marker_path)
            self.clean_shutdown = True
            self._sync()
        except FileNotFoundError:
            self.clean_shutdown = False
        self._intact = is_new or self.clean_shutdown or (boot != "" and boot == boot_id())

    def unlock(self, *, clean: bool = False) -> None:
        """Give the directory up; ``clean`` says that every log in it was closed."""
        if self._lock_descriptor is None:
            return
        if clean:
            descriptor = os.open(self._marker_path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
            os.fsync(descriptor)
            os.close(descriptor)
            self._sync()
        os.close(self._lock_descriptor)
        self._lock_descriptor = None

    def is_intact(self) -> bool:
        """Whether all that was ever written here is still there; to be asked after ``lock``.

        What a killed process wrote stays in the page cache, so it counts as kept as long as the
        machine has not been started anew; otherwise every slot must have been closed cleanly.
        """
        if not self._intact:
            return False
        for path in glob.glob(f"{glob.escape(self.path)}/.lock-*"):
            if os.path.exists(path.replace("/.lock-", "/.clean-shutdown-")):
                continue
            with open(path, "rb") as file:
                _, boot = _read_lock(file.fileno())
            if not boot or boot != boot_id():
                return False
        return True

    def _sync(self) -> None:
        """Make files that were created or deleted here survive a power cut as such."""
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def claim(
        self, cluster_id: str, broker_id: int, incarnation: int = -1, directory_id: str = ""
    ) -> LogDirectoryMeta:
        """Write whose directory this is, or check it; nothing in it is changed on refusal.

        Returns what it said before, with the identity that it has from now on: ``directory_id`` is
        for one that has none yet. ``incarnation`` is that of the broker which claims it.

        Raises ``InconsistentClusterIdError`` for another cluster's or broker's directory,
        ``UnsupportedVersionError`` for one of a later format, ``LogDamagedError`` for unreadable
        meta data.
        """
        meta = self.read_meta() or LogDirectoryMeta(FORMAT_VERSION, cluster_id, broker_id)
        if (meta.cluster_id, meta.broker_id) != (cluster_id, broker_id):
            raise InconsistentClusterIdError(
                f"log directory {self.path} belongs to broker {meta.broker_id} of cluster "
                f"{meta.cluster_id}, not to broker {broker_id} of {cluster_id}; use another one"
            )
        known = msgspec.structs.replace(meta, directory_id=meta.directory_id or directory_id)
        claimed = msgspec.structs.replace(known, incarnation=incarnation)
        if claimed != self.read_meta():
            LocalStore(self.path).publish(META_FILE, msgspec.json.encode(claimed))
        return known

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


def boot_id() -> str:
    """Names the time since the machine was started; empty where it cannot be told."""
    try:
        with open(_BOOT_ID_FILE, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def _read_lock(descriptor: int) -> tuple[str, str]:
    """Process and boot id that a lock file names; an older version wrote no boot id."""
    words = os.pread(descriptor, 128, 0).decode("ascii", "replace").split()
    return (words[0] if words else "unknown", words[1] if len(words) > 1 else "")
