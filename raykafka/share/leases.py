"""When leases end, and how many records each time is about."""

from __future__ import annotations

from typing import Final

_STEP_MS: Final = 100
"""Leases that end within the same step end together; none ends early."""


class Leases:
    """Records by the monotonic time at which their leases end; there are few such times."""

    def __init__(self) -> None:
        self._records: dict[int, int] = {}

    def end_of(self, now_ms: int, duration_ms: int) -> int:
        """When a lease that begins now ends."""
        step = max(1, min(_STEP_MS, duration_ms // 10))
        return -(-(now_ms + duration_ms) // step) * step

    def add(self, until_ms: int, count: int) -> None:
        """So many more records are leased until then."""
        self._records[until_ms] = self._records.get(until_ms, 0) + count

    def remove(self, until_ms: int, count: int) -> None:
        """So many records are not leased until then any more."""
        left = self._records[until_ms] - count
        if left:
            self._records[until_ms] = left
        else:
            del self._records[until_ms]

    def are_over(self, now_ms: int) -> bool:
        """Whether a lease has ended."""
        return any(until_ms <= now_ms for until_ms in self._records)

    @property
    def next_ms(self) -> int | None:
        """When the next lease ends."""
        return min(self._records) if self._records else None

    @property
    def total(self) -> int:
        """Records that are leased."""
        return sum(self._records.values())
