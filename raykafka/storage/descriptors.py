"""What a directory's store does with descriptors, and what it says when that fails."""

from __future__ import annotations

import errno
import os
from typing import Final

from raykafka.errors import DiskFullError, KafkaStorageError
from raykafka.storage.api import Buffer, missing

NO_DESCRIPTOR: Final = frozenset({errno.EMFILE, errno.ENFILE})
READ_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC
_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def storage_error(what: str, error: OSError) -> KafkaStorageError:
    """The error to raise for what the system said, with what to do about it."""
    if isinstance(error, FileNotFoundError):
        return missing(str(error.filename))
    if error.errno in _NO_SPACE:
        return DiskFullError(
            f"{what}: {error.strerror}. Free space or lower the retention; reads go on"
        )
    hint = (
        "raise the limit of open files (ulimit -n)"
        if error.errno in NO_DESCRIPTOR
        else ("check the disk and the directory's permissions")
    )
    return KafkaStorageError(f"{what}: {error.strerror}; {hint}")


def duplicate(descriptor: int) -> int:
    """-1 where the process has no descriptor left."""
    try:
        return os.dup(descriptor)
    except OSError:
        return -1


def write_all(descriptor: int, data: Buffer) -> None:
    """Write to the last byte."""
    written, size = os.write(descriptor, data), memoryview(data).nbytes
    while written < size:
        written += os.write(descriptor, memoryview(data).cast("B")[written:])


def sync_data(descriptor: int) -> None:
    """Make a file's content durable."""
    sync = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync
    sync(descriptor)


def sync_directory(directory: str) -> None:
    """Make the names in a directory durable."""
    try:
        descriptor = os.open(directory, READ_FLAGS)
    except FileNotFoundError:
        return  # removed since: then its parent is what has to be synced
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
