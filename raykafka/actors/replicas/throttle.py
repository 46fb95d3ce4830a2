"""Bounds how fast copies that are not in sync catch up (KIP-73); those in sync never wait."""

from __future__ import annotations

from typing import Final

UNLIMITED: Final = -1


class Throttle:
    """A rate in bytes per second for everything that one partition actor sends, or receives."""

    __slots__ = ("_free_ms", "rate")

    def __init__(self) -> None:
        self.rate = UNLIMITED
        self._free_ms = 0.0
        """Monotonic time at which everything let through so far is paid for."""

    def wait(self, now_ms: int) -> float:
        """Seconds until what was let through is paid for; 0 where something may follow now."""
        return 0.0 if self.rate < 0 else max(0.0, (self._free_ms - now_ms) / 1000)

    def take(self, size: int, now_ms: int) -> float:
        """Let ``size`` bytes through; seconds to wait before more may follow."""
        if self.rate < 0:
            return 0.0
        self._free_ms = max(self._free_ms, now_ms) + size * 1000 / max(self.rate, 1)
        return (self._free_ms - now_ms) / 1000
