"""Runs of records in the same state: a sorted map from offsets to what is known of them.

Work is done per run, never per record: a batch that one member acquires and accepts is one span
from beginning to end, and a bitmap makes as many as it has changes.
"""

from __future__ import annotations

import enum
from bisect import bisect_right
from collections.abc import Iterator

NOBODY = ""
NEVER = -1


class RecordState(enum.IntEnum):
    """What a record of a share partition is; the numbers are Kafka's, and stand in the log."""

    AVAILABLE = 0
    """Any member may acquire it."""
    ACQUIRED = 1
    """One member works on it, until its lease ends."""
    ACKNOWLEDGED = 2
    """Done."""
    ARCHIVING = 3
    """Given up; it is on its way to the dead-letter topic (KIP-1191)."""
    ARCHIVED = 4
    """Given up."""


TERMINAL = frozenset({RecordState.ACKNOWLEDGED, RecordState.ARCHIVED})
"""States that nothing leads out of."""


class Span:
    """Records from ``first`` to before ``end`` that share everything."""

    __slots__ = ("delivery_count", "end", "first", "member", "state", "until_ms")

    def __init__(
        self,
        first: int,
        end: int,
        state: RecordState,
        delivery_count: int = 0,
        member: str = NOBODY,
        until_ms: int = NEVER,
    ) -> None:
        self.first = first
        self.end = end
        self.state = state
        self.delivery_count = delivery_count
        """How often the records have been given to a member."""
        self.member = member
        """Who has acquired them."""
        self.until_ms = until_ms
        """Monotonic time at which the lease ends."""

    def __len__(self) -> int:
        return self.end - self.first

    def __repr__(self) -> str:
        return (
            f"Span({self.first}..{self.end}, {self.state.name}, {self.delivery_count}, "
            f"{self.member!r}, {self.until_ms})"
        )

    def like(self, other: Span) -> bool:
        """Whether both may be one span."""
        return (
            self.state is other.state
            and self.delivery_count == other.delivery_count
            and self.member == other.member
            and self.until_ms == other.until_ms
        )


def _first(span: Span) -> int:
    return span.first


class SpanMap:
    """Disjoint spans in the order of their offsets; there may be holes between them."""

    def __init__(self) -> None:
        self._spans: list[Span] = []

    def __iter__(self) -> Iterator[Span]:
        return iter(self._spans)

    def __len__(self) -> int:
        return len(self._spans)

    @property
    def end(self) -> int:
        """What follows the last span; -1 without any."""
        return self._spans[-1].end if self._spans else -1

    def front(self) -> Span | None:
        """The span with the lowest offsets."""
        return self._spans[0] if self._spans else None

    def overlapping(self, first: int, end: int) -> list[Span]:
        """Every span that has a record from ``first`` to before ``end``, whole."""
        spans = self._spans
        low = max(0, bisect_right(spans, first, key=_first) - 1)
        if low < len(spans) and spans[low].end <= first:
            low += 1
        high = bisect_right(spans, end - 1, key=_first)
        return spans[low:high]

    def within(self, first: int, end: int) -> list[Span]:
        """The spans from ``first`` to before ``end``, cut where they reach beyond."""
        self._cut(first)
        self._cut(end)
        return self.overlapping(first, end)

    def append(self, span: Span) -> None:
        """Add a span behind all others."""
        spans = self._spans
        if spans and spans[-1].end == span.first and spans[-1].like(span):
            spans[-1].end = span.end
        else:
            spans.append(span)

    def put(self, span: Span) -> None:
        """Say ``span`` of its offsets, whatever was said of them before."""
        self._cut(span.first)
        self._cut(span.end)
        spans = self._spans
        low = bisect_right(spans, span.first - 1, key=_first)
        high = bisect_right(spans, span.end - 1, key=_first)
        spans[low:high] = [span]
        self.join(span.first, span.end)

    def join(self, first: int, end: int) -> None:
        """Make one span of neighbours that are alike, from the one before ``first`` to after
        ``end``.
        """
        spans = self._spans
        low = max(0, bisect_right(spans, first - 1, key=_first) - 1)
        high = bisect_right(spans, end, key=_first)
        joined: list[Span] = []
        for span in spans[low:high]:
            if joined and joined[-1].end == span.first and joined[-1].like(span):
                joined[-1].end = span.end
            else:
                joined.append(span)
        if len(joined) < high - low:
            spans[low:high] = joined

    def drop_before(self, offset: int) -> None:
        """Forget everything before ``offset``."""
        self._cut(offset)
        del self._spans[: bisect_right(self._spans, offset - 1, key=_first)]

    def _cut(self, offset: int) -> None:
        """Let a span begin at ``offset`` where one reaches across it."""
        spans = self._spans
        index = bisect_right(spans, offset, key=_first) - 1
        if index < 0:
            return
        span = spans[index]
        if span.first < offset < span.end:
            rest = Span(
                offset, span.end, span.state, span.delivery_count, span.member, span.until_ms
            )
            span.end = offset
            spans.insert(index + 1, rest)
