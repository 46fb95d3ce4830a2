"""Keeps a reserve free on the disk, so that it never fills up to the last byte.

A full disk stops more than appends: checkpoints, retention and the metadata log need room to get
out of it again. Producers are refused before that.
"""

from __future__ import annotations

from raykafka.clock import Clock, SystemClock
from raykafka.errors import DiskFullError
from raykafka.storage.disk_usage import DiskUsage, UsageOf, disk_usage

_LOOK_AGAIN_BYTES = 64 * 1024
_LOOK_AGAIN_MS = 100


class DiskGuard:
    """Refuses writes that would eat into the reserve; one per log directory and process."""

    def __init__(
        self,
        path: str,
        reserve_bytes: int,
        *,
        clock: Clock | None = None,
        usage_of: UsageOf = disk_usage,
    ) -> None:
        """``path`` is any existing path on the disk; ``reserve_bytes`` stay free, 0 for none."""
        self.path = path
        self.reserve_bytes = reserve_bytes
        self._clock = clock or SystemClock()
        self._usage_of = usage_of
        self._looked_at_ms = -_LOOK_AGAIN_MS
        self._allowance = 0

    def check(self, size: int, now_ms: int | None = None) -> None:
        """Return when ``size`` more bytes may be written, else raise ``DiskFullError``.

        ``now_ms`` is the clock's monotonic time, from who has just read it. The file system is
        asked at most once per 64 KiB written or 100 ms, so several writers together may overshoot
        by that much each; the reserve is larger by far.
        """
        self._allowance -= size
        if now_ms is None:
            now_ms = self._clock.monotonic_ms()
        if self._allowance >= 0 and now_ms - self._looked_at_ms < _LOOK_AGAIN_MS:
            return
        self._looked_at_ms = now_ms
        usable = self.usable_bytes()
        if size > usable:
            self._allowance = 0
            raise DiskFullError(
                f"the disk of {self.path} has {max(usable, 0)} bytes left above its reserve of "
                f"{self.reserve_bytes} (disk.reserve.bytes); free space or lower the retention. "
                "Reads go on"
            )
        self._allowance = min(usable - size, _LOOK_AGAIN_BYTES)

    def usage(self) -> DiskUsage:
        """How full the disk is now; raises ``KafkaStorageError`` when it does not answer."""
        return self._usage_of(self.path)

    def usable_bytes(self) -> int:
        """Free bytes above the reserve, now; negative when the reserve is already eaten into."""
        return self.usage().free_bytes - self.reserve_bytes
