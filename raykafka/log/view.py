"""What a partition's log consists of: segments, ends, and ranges that cannot be read."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from raykafka.errors import LogDamagedError, OffsetOutOfRangeError


class DamagedRange(NamedTuple):
    """Offsets that are in the log and cannot be read: ``start`` inclusive, ``end`` exclusive."""

    start: int
    end: int


@dataclass(slots=True)
class SegmentRange:
    """One segment as the arithmetic sees it."""

    base_offset: int
    next_offset: int
    """Behind its last record; equal to ``base_offset`` while it is empty."""
    size_bytes: int
    largest_timestamp: int = -1
    """In milliseconds; -1 while it is empty or where nothing in it can be read."""

    @property
    def is_empty(self) -> bool:
        return self.next_offset == self.base_offset


class LogView:
    """The segments in ascending order, the last one active; plain state without I/O."""

    __slots__ = ("_bases", "_damaged", "_segments", "log_start_offset")

    def __init__(
        self,
        segments: Iterable[SegmentRange] = (),
        *,
        log_start_offset: int | None = None,
        damaged: Iterable[tuple[int, int]] = (),
    ) -> None:
        self._segments: list[SegmentRange] = []
        self._bases: list[int] = []
        self._damaged: list[DamagedRange] = []
        for segment in segments:
            self.add_segment(segment)
        self.log_start_offset = (
            log_start_offset
            if log_start_offset is not None
            else (self._bases[0] if self._bases else 0)
        )
        for start, end in damaged:
            self.mark_damaged(start, end)

    @property
    def segments(self) -> tuple[SegmentRange, ...]:
        return tuple(self._segments)

    @property
    def active(self) -> SegmentRange:
        """The segment that is appended to; raises ``IndexError`` where there is none yet."""
        return self._segments[-1]

    @property
    def log_end_offset(self) -> int:
        """The next offset to be assigned."""
        end = self._segments[-1].next_offset if self._segments else 0
        return max(end, self.log_start_offset)

    @property
    def size_bytes(self) -> int:
        return sum(segment.size_bytes for segment in self._segments)

    @property
    def damaged(self) -> tuple[DamagedRange, ...]:
        """Ranges at or behind the log start offset, ascending, none touching another."""
        start = self.log_start_offset
        return tuple(
            DamagedRange(max(damage.start, start), damage.end)
            for damage in self._damaged
            if damage.end > start
        )

    def add_segment(self, segment: SegmentRange) -> None:
        """Begins a segment behind the others.

        Raises ``ValueError`` where it overlaps the last one. A gap is allowed, for the owner to
        mark as damaged.
        """
        if self._segments and segment.base_offset < self._segments[-1].next_offset:
            raise ValueError(f"segment {segment.base_offset} overlaps {self._segments[-1]}")
        if self._bases and segment.base_offset == self._bases[-1]:
            raise ValueError(f"segment {segment.base_offset} exists already")
        self._segments.append(segment)
        self._bases.append(segment.base_offset)

    def extend(self, *, next_offset: int, size_bytes: int, largest_timestamp: int) -> None:
        """Notes a batch of ``size_bytes`` appended to the active segment."""
        active = self._segments[-1]
        if next_offset < active.next_offset:
            raise ValueError(
                f"the log ends at {active.next_offset}, it cannot end at {next_offset}"
            )
        active.next_offset = next_offset
        active.size_bytes += size_bytes
        active.largest_timestamp = max(active.largest_timestamp, largest_timestamp)

    def segment_for(self, offset: int) -> int:
        """Number of the segment in which reading at ``offset`` begins; the log end offset stands in
        the active one, an offset in a gap in the segment behind it.

        Raises ``OffsetOutOfRangeError`` outside of the log, ``LogDamagedError`` in a damaged range.
        """
        if not self.log_start_offset <= offset <= self.log_end_offset or not self._segments:
            raise OffsetOutOfRangeError(
                f"offset {offset} is outside of the log, which holds {self.log_start_offset} up to "
                f"{self.log_end_offset}; seek to the beginning, the end or an offset in between"
            )
        damage = self.damaged_at(offset)
        if damage is not None:
            raise LogDamagedError(
                f"offsets {damage.start} to {damage.end - 1} are damaged and cannot be read; seek "
                f"to {damage.end} to go on behind them"
            )
        number = max(bisect_right(self._bases, offset) - 1, 0)
        if offset >= self._segments[number].next_offset and number + 1 < len(self._segments):
            return number + 1
        return number

    def damaged_at(self, offset: int) -> DamagedRange | None:
        """The damaged range that holds ``offset``."""
        position = bisect_right(self._damaged, (offset, 2**63)) - 1
        if position >= 0 and offset < self._damaged[position].end:
            return self._damaged[position]
        return None

    def next_damage(self, offset: int) -> int | None:
        """First damaged offset at or behind ``offset``: how far a read may go."""
        for damage in self._damaged:
            if damage.end > offset:
                return max(damage.start, offset)
        return None

    def mark_damaged(self, start: int, end: int) -> None:
        """Adds a range, joined with those that it overlaps or touches; nothing if it is empty."""
        if start >= end:
            return
        apart: list[DamagedRange] = []
        for damage in self._damaged:
            if damage.end < start or end < damage.start:
                apart.append(damage)
            else:
                start, end = min(start, damage.start), max(end, damage.end)
        self._damaged = sorted([*apart, DamagedRange(start, end)])

    def advance_log_start(self, offset: int) -> bool:
        """Moves the log start offset forward, up to the log end offset; False where it stays."""
        offset = min(offset, self.log_end_offset)
        if offset <= self.log_start_offset:
            return False
        self.log_start_offset = offset
        return True

    def drop_segments(self, count: int) -> tuple[SegmentRange, ...]:
        """Removes the oldest segments and answers with them; the log begins at the next one.

        Raises ``ValueError`` where the active segment would go: roll first.
        """
        if not 0 <= count < max(len(self._segments), 1):
            raise ValueError(f"cannot drop {count} of {len(self._segments)} segments; roll first")
        dropped = tuple(self._segments[:count])
        del self._segments[:count], self._bases[:count]
        if dropped:
            self.advance_log_start(self._bases[0])
            self._damaged = [damage for damage in self._damaged if damage.end > self._bases[0]]
        return dropped
