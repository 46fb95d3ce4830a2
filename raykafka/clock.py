"""Time as a value that is handed in: the only module that reads the clock."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What tells the time; ``raykafka.testing.manual_clock`` has one that is moved by hand."""

    def now_ms(self) -> int:
        """Wall-clock time in milliseconds since the epoch (UTC); may jump either way."""

    def now_s(self) -> float:
        """The same in seconds with their fraction: half the price, for who asks once per record."""

    def monotonic_ms(self) -> int:
        """Milliseconds since some fixed moment; never goes back."""


class SystemClock:
    """The machine's clocks."""

    now_s = staticmethod(time.time)

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> int:
        return time.monotonic_ns() // 1_000_000
