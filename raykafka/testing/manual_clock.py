"""A clock that stands still until it is told otherwise."""

from __future__ import annotations


class ManualClock:
    """A ``Clock`` for tests; both of its times are in milliseconds."""

    def __init__(self, now_ms: int = 1_600_000_000_000) -> None:
        self._now_ms = now_ms
        self._monotonic_ms = 0

    def now_ms(self) -> int:
        """The wall-clock time that was last set."""
        return self._now_ms

    def now_s(self) -> float:
        """The same in seconds."""
        return self._now_ms / 1000

    def monotonic_ms(self) -> int:
        """The milliseconds that have been advanced so far."""
        return self._monotonic_ms

    def advance(self, milliseconds: int) -> None:
        """Let time pass on both clocks; raises ``ValueError`` for a negative step."""
        if milliseconds < 0:
            raise ValueError("time only advances; use set_now_ms to move the wall clock back")
        self._now_ms += milliseconds
        self._monotonic_ms += milliseconds

    def set_now_ms(self, now_ms: int) -> None:
        """Move the wall clock alone, as an administrator or NTP does; it may go back."""
        self._now_ms = now_ms
