"""How full a log directory's disk is, and how much of it stays free."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

from raykafka.errors import KafkaStorageError

_LARGEST_DEFAULT_RESERVE = 256 << 20
_RESERVE_SHARE = 20


class DiskUsage(NamedTuple):
    """Bytes of a file system."""

    total_bytes: int
    free_bytes: int


UsageOf = Callable[[str], DiskUsage]
"""Tells how full the disk of a path is; raises ``KafkaStorageError`` when it does not answer."""


def disk_usage(path: str) -> DiskUsage:
    """Ask the file system of ``path``; raises ``KafkaStorageError`` when it does not answer."""
    try:
        status = os.statvfs(path)
    except OSError as error:
        raise KafkaStorageError(
            f"cannot look at the disk of {path}: {error.strerror}; is it still mounted?"
        ) from error
    return DiskUsage(status.f_blocks * status.f_frsize, status.f_bavail * status.f_frsize)


def disk_reserve(path: str, configured: int, usage_of: UsageOf = disk_usage) -> int:
    """``disk.reserve.bytes``; its default -1 is 256 MiB or 5 % of the disk, the smaller of both."""
    if configured >= 0:
        return configured
    return min(_LARGEST_DEFAULT_RESERVE, usage_of(path).total_bytes // _RESERVE_SHARE)
