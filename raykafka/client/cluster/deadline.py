"""Time limits and pauses between attempts, shared by every blocking call of the clients."""

from __future__ import annotations

from raykafka.clock import Clock


class Deadline:
    """A moment ``timeout_ms`` from now; None never comes."""

    __slots__ = ("_at_ms", "_clock")

    def __init__(self, clock: Clock, timeout_ms: float | None, now_ms: int | None = None) -> None:
        """``now_ms`` is the clock's monotonic time, from who has just read it."""
        self._clock = clock
        self._at_ms: float | None = None
        if timeout_ms is not None:
            self._at_ms = (clock.monotonic_ms() if now_ms is None else now_ms) + timeout_ms

    @property
    def expired(self) -> bool:
        """Whether no time is left."""
        return self._at_ms is not None and self._clock.monotonic_ms() >= self._at_ms

    def remaining_ms(self, at_most_ms: int) -> int:
        """Milliseconds left, never negative and never more than ``at_most_ms``."""
        if self._at_ms is None:
            return at_most_ms
        return max(0, min(at_most_ms, int(self._at_ms - self._clock.monotonic_ms())))


class Backoff:
    """Pauses that double from ``first_ms`` to ``largest_ms`` (Kafka's ``retry.backoff.ms``)."""

    __slots__ = ("_first_ms", "_largest_ms", "_next_ms")

    def __init__(self, first_ms: int, largest_ms: int = 1000) -> None:
        self._first_ms = max(1, first_ms)
        self._largest_ms = max(self._first_ms, largest_ms)
        self._next_ms = self._first_ms

    def next_ms(self) -> int:
        """The pause before the next attempt, in milliseconds."""
        pause = self._next_ms
        self._next_ms = min(self._largest_ms, pause * 2)
        return pause

    def reset(self) -> None:
        """Start over, after something worked."""
        self._next_ms = self._first_ms
