"""Which segments may go: Kafka's ``cleanup.policy=delete`` and ``deleteRecords``."""

from __future__ import annotations

from typing import NamedTuple

from raykafka.errors import OffsetOutOfRangeError
from raykafka.log.view import LogView, SegmentRange


class RetentionPlan(NamedTuple):
    """What to do about a log; nothing where ``delete`` is 0."""

    delete: int
    """How many of the oldest segments have to go."""
    roll_first: bool
    """Whether the active segment is one of them, so that a new one has to begin before."""


def plan_retention(
    view: LogView,
    *,
    now_ms: int,
    retention_ms: int,
    retention_bytes: int,
    high_watermark: int,
) -> RetentionPlan:
    """The oldest segments to delete, by age, by size and by the log start offset.

    As Kafka's ``UnifiedLog.deleteOldSegments``. A segment goes where its largest timestamp is more
    than ``retention_ms`` ago, where the log without it still has ``retention_bytes``, or where it
    ends at or before the log start offset; -1 switches the first two off. Only whole segments below
    the high watermark go. The active one goes only when it holds records, then also by the log
    start offset, where Kafka keeps its file.
    """
    segments = view.segments
    limits = [
        _count_old(segments, now_ms - retention_ms) if retention_ms >= 0 else 0,
        _count_excess(segments, retention_bytes) if retention_bytes >= 0 else 0,
        _count_before(segments, view.log_start_offset),
    ]
    allowed = _count_before(segments, high_watermark)
    delete = min(max(limits), allowed)
    if delete and delete == len(segments) and segments[-1].is_empty:
        delete -= 1
    return RetentionPlan(delete, 0 < delete == len(segments))


def check_delete_records(view: LogView, before: int, high_watermark: int) -> int:
    """The log start offset that ``deleteRecords`` asks for (KIP-107); -1 is the high watermark.

    Raises ``OffsetOutOfRangeError`` for an offset behind the high watermark or a negative one. One
    below the log start offset changes nothing.
    """
    if before == -1:
        before = high_watermark
    if not 0 <= before <= high_watermark:
        raise OffsetOutOfRangeError(
            f"records can be deleted up to the high watermark, {high_watermark}, not up to {before}"
        )
    return max(before, view.log_start_offset)


def _count_old(segments: tuple[SegmentRange, ...], oldest_ms: int) -> int:
    """Oldest segments whose records are all older. One whose timestamps cannot be read is judged by
    the first readable one behind it, which is newer: it must not hold up all the others.
    """
    count = 0
    for number, segment in enumerate(segments, 1):
        if segment.largest_timestamp >= oldest_ms:
            break
        if segment.largest_timestamp >= 0:
            count = number
    return count


def _count_excess(segments: tuple[SegmentRange, ...], retention_bytes: int) -> int:
    excess = sum(segment.size_bytes for segment in segments) - retention_bytes
    for count, segment in enumerate(segments):
        excess -= segment.size_bytes
        if excess < 0:
            return count
    return len(segments)


def _count_before(segments: tuple[SegmentRange, ...], offset: int) -> int:
    """Oldest segments that end at or before ``offset``."""
    for count, segment in enumerate(segments):
        if segment.next_offset > offset:
            return count
    return len(segments)
