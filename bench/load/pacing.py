"""When records are due, and which rate to try next: pure arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

NS = 1_000_000_000
FIRST_RATE = 10_000.0
"""Where OMB begins to look for the highest rate."""
ALLOWED_BACKLOG_RECORDS = 1000
"""OMB's limit for what may be late or unread at a sustainable rate."""
ALLOWED_BACKLOG_S = 0.1
"""The same in time, for rates at which OMB's limit is less than one batch of a client."""


@dataclass(frozen=True)
class Schedule:
    """An open loop: send ``number`` is due at its time, whatever became of those before it."""

    start_ns: int
    rate: float
    """Per second."""

    def due_ns(self, number: int) -> int:
        return self.start_ns + round(number * NS / self.rate)

    def ready(self, now_ns: int) -> int:
        """How many sends are due by ``now_ns``."""
        if now_ns < self.start_ns:
            return 0
        return math.floor((now_ns - self.start_ns) * self.rate / NS) + 1

    @classmethod
    def of_worker(cls, start_ns: int, rate: float, worker: int, workers: int) -> Schedule:
        """One of several that take turns: together they send at ``rate``, evenly spaced."""
        return cls(start_ns + round(worker * NS / rate), rate / workers)


@dataclass
class RateSearch:
    """Finds the highest rate that is sustained: doubles, then closes in on it."""

    first: float = FIRST_RATE
    most_probes: int = 9
    closeness: float = 1.1
    """Enough when the lowest rate that failed is at most this many times the best one."""
    best: float = 0.0
    _failed: float = field(default=math.inf, init=False)
    _next: float = field(default=0.0, init=False)
    _probes: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._next = self.first

    @property
    def done(self) -> bool:
        close = self.best > 0 and self._failed / self.best <= self.closeness
        return close or self._probes >= self.most_probes

    @property
    def rate(self) -> float:
        """What to try now."""
        return self._next

    def tell(self, *, sustained: bool, achieved: float) -> None:
        """How the try went; ``achieved`` is the rate at which records came through."""
        self._probes += 1
        tried = self._next
        if sustained:
            self.best = max(self.best, tried)
        else:
            self._failed = min(self._failed, tried)
        if math.isinf(self._failed):
            self._next = tried * 2
            return
        guess = achieved * 0.97
        inside = self.best * 1.03 < guess < self._failed / 1.03
        self._next = guess if inside and not sustained else self._middle()

    def _middle(self) -> float:
        return math.sqrt(self.best * self._failed) if self.best else self._failed / 2


def is_sustained(rate: float, late_records: float, unread_records: int) -> bool:
    """Whether a rate held: nothing piled up before the producers nor before the consumers."""
    allowed = max(ALLOWED_BACKLOG_RECORDS, rate * ALLOWED_BACKLOG_S)
    return late_records <= allowed and unread_records <= allowed


def shares(total: int, parts: int) -> list[int]:
    """``total`` in ``parts`` whole numbers that differ by one at most."""
    return [total // parts + (number < total % parts) for number in range(parts)]
