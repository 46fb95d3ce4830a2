"""What a place for segments must be able to do: bytes at a path, durably.

Paths are relative to the store's root, with ``/`` between their parts, and never leave it. Calls
block; what takes long (``flush``, cold or remote reads) is for a thread. Every failure is a
``KafkaStorageError`` or one of its kinds, with what to do in its message.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol, TypeAlias, runtime_checkable

from raykafka.errors import InvalidRequestError, KafkaStorageError

Buffer: TypeAlias = "bytes | bytearray | memoryview"


class MissingFileError(KafkaStorageError, retriable=False, refresh_metadata=False):
    """The store has no file at this path; if it was deleted by hand, restore it."""


class FileTooShortError(MissingFileError):
    """The file ends before the bytes that were asked for; it was cut from outside."""


class SegmentStore(Protocol):
    """A flat space of files that grow at their end or are replaced as a whole.

    ``append``, ``flush``, ``read`` and ``size`` may be called from several threads; one path is
    appended to by one thread at a time.
    """

    def append(self, path: str, data: Buffer) -> int:
        """Write ``data`` at the end of the file, which is created if need be; returns its new size.

        All or nothing: a partial write is cut back. Raises ``DiskFullError`` after a cut back for
        lack of space, ``KafkaStorageError`` for everything else (the file's end is not known then).
        """

    def read(self, path: str, start: int, length: int) -> memoryview:
        """Exactly ``length`` bytes from ``start``: a slice of a mapping where possible.

        A slice stays valid for as long as it is held, also when the file grows or is deleted.
        Raises ``MissingFileError``, or ``FileTooShortError`` when the file ends earlier.
        """

    def size(self, path: str) -> int:
        """Bytes in the file; raises ``MissingFileError``."""

    def flush(self, path: str) -> None:
        """Return when what was appended before the call survives a power cut.

        Raises ``KafkaStorageError``; the bytes must then be held to be lost, since a second flush
        may succeed without having written them.
        """

    def truncate(self, path: str, size: int) -> None:
        """Cut the file to ``size`` bytes. Slices behind ``size`` must not be in use any more."""

    def publish(self, path: str, data: Buffer, *, durable: bool = True) -> None:
        """Write a whole file at once: readers see the old content or the new one, never a part.

        With ``durable=False`` a power cut may leave the old content, or an empty file.
        """

    def list(self, prefix: str) -> list[str]:
        """Sorted paths of the files that start with ``prefix``, at any depth."""

    def delete(self, path: str) -> None:
        """Remove the file, and its directory if that is empty now; ``MissingFileError``."""

    def close(self) -> None:
        """Give handles back. Slices that are still held stay valid."""


class LocalFile(NamedTuple):
    """Where a co-located reader finds a file, and how it knows that it found the same one."""

    path: str
    device: int
    inode: int
    version: int
    """Time of the file's last change in nanoseconds."""


@runtime_checkable
class MappableStore(Protocol):
    """A store whose files other processes of the machine can map."""

    def local_file(self, path: str) -> LocalFile:
        """The file's place on this machine; raises ``MissingFileError``."""


@runtime_checkable
class CachedStore(Protocol):
    """A store whose reads may wait for a disk, and which knows when."""

    def is_cached(self, path: str, start: int, length: int) -> bool:
        """Whether a ``read`` of those bytes finds them in memory; raises as ``read`` does."""

    def load(self, path: str, start: int, length: int) -> None:
        """Bring those bytes into memory; for a thread, since it waits for the disk."""


def checked_path(path: str) -> str:
    """``path``, or ``InvalidRequestError`` if it could leave the store's root."""
    parts = path.split("/")
    if "\0" in path or any(part in ("", ".", "..") for part in parts):
        raise InvalidRequestError(f"{path!r} is not a path inside a store")
    return path


def missing(path: str) -> MissingFileError:
    """The error for a path that does not exist."""
    return MissingFileError(f"{path} does not exist; if it was deleted by hand, restore it")


def too_short(path: str, start: int, length: int, size: int) -> FileTooShortError:
    """The error for a read past the end."""
    return FileTooShortError(
        f"{path} ends at byte {size}, {length} bytes from {start} were asked for; it was cut from "
        "outside, so restart the partition: recovery says what is missing"
    )
