"""Log view, segment index and retention against one entry per offset."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from raykafka.errors import LogDamagedError, OffsetOutOfRangeError
from raykafka.log.batch_header import BatchHeader
from raykafka.log.retention import plan_retention
from raykafka.log.segment_index import SegmentIndex
from raykafka.log.view import LogView, SegmentRange

# --- view -----------------------------------------------------------------------------------------

segment_shapes = st.lists(
    st.tuples(st.integers(0, 2), st.integers(1, 5), st.integers(0, 9)), min_size=1, max_size=6
)


def build(shapes: list[tuple[int, int, int]], first: int) -> LogView:
    view, offset = LogView(log_start_offset=first), first
    for gap, records, timestamp in shapes:
        view.add_segment(SegmentRange(offset + gap, offset + gap, 0))
        offset += gap + records
        view.extend(next_offset=offset, size_bytes=10 * records, largest_timestamp=timestamp)
    return view


@given(segment_shapes, st.integers(0, 3), st.integers(0, 40), st.integers(-2, 45))
def test_which_segment_holds_an_offset(
    shapes: list[tuple[int, int, int]], first: int, start: int, asked: int
) -> None:
    view = build(shapes, first)
    view.advance_log_start(start)
    assert view.log_start_offset == max(first, min(start, view.log_end_offset))
    segments = view.segments
    if not view.log_start_offset <= asked <= view.log_end_offset:
        try:
            view.segment_for(asked)
        except OffsetOutOfRangeError:
            return
        raise AssertionError("an offset outside of the log was accepted")
    ending_behind = [n for n, s in enumerate(segments) if s.next_offset > asked]
    expected = ending_behind[0] if ending_behind else len(segments) - 1
    assert view.segment_for(asked) == expected


ranges = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=8)


@given(ranges, st.integers(0, 30))
def test_damage_is_a_set_of_offsets(pairs: list[tuple[int, int]], start: int) -> None:
    view = LogView([SegmentRange(0, 40, 1)])
    damaged: set[int] = set()
    for low, high in pairs:
        view.mark_damaged(low, high)
        damaged |= set(range(low, high))
    view.advance_log_start(start)
    damaged = {offset for offset in damaged if offset >= start}
    assert {o for low, high in view.damaged for o in range(low, high)} == damaged
    for (_, end), (begin, _) in pairwise(view.damaged):
        assert end < begin
    for offset in range(start, 40):
        assert view.next_damage(offset) == min((d for d in damaged if d >= offset), default=None)
        try:
            view.segment_for(offset)
        except LogDamagedError:
            assert offset in damaged
        else:
            assert offset not in damaged


# --- retention ------------------------------------------------------------------------------------


@given(
    segment_shapes,
    st.integers(-1, 12),
    st.integers(-1, 200),
    st.integers(0, 40),
    st.integers(0, 40),
)
def test_retention_takes_the_longest_allowed_prefix(
    shapes: list[tuple[int, int, int]],
    retention_ms: int,
    retention_bytes: int,
    start: int,
    high_watermark: int,
) -> None:
    view = build(shapes, 0)
    view.advance_log_start(start)
    plan = plan_retention(
        view,
        now_ms=10,
        retention_ms=retention_ms,
        retention_bytes=retention_bytes,
        high_watermark=high_watermark,
    )
    segments = view.segments

    def may_go(count: int) -> bool:
        gone, kept = segments[:count], segments[count:]
        by_age = retention_ms >= 0 and all(10 - s.largest_timestamp > retention_ms for s in gone)
        by_size = retention_bytes >= 0 and sum(s.size_bytes for s in kept) >= retention_bytes
        by_start = all(s.next_offset <= view.log_start_offset for s in gone)
        below = all(s.next_offset <= high_watermark for s in gone)
        return below and (by_age or by_size or by_start)

    assert plan.delete == max(n for n in range(len(segments) + 1) if n == 0 or may_go(n))
    assert plan.roll_first == (plan.delete == len(segments))


# --- index ----------------------------------------------------------------------------------------

rows = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4), st.integers(-1, 20)), max_size=12)


@given(rows, st.integers(0, 12), st.integers(-1, 50), st.integers(-2, 22))
def test_the_index_finds_offsets_and_times(
    batches: list[tuple[int, int, int]], keep: int, offset: int, timestamp: int
) -> None:
    index, position, next_offset = SegmentIndex(), 8, 0
    for gap, count, largest in batches:
        header = BatchHeader(
            *(next_offset + gap, 4, 99, 0, 0, 0, -1, count, -1, -1, 0, 0, largest, 800, 600)
        )
        index.add(header, position)
        position += 800 + 8 * gap
        next_offset = header.next_offset
        index.find_timestamp(
            timestamp
        )  # interleaved with appends: the search keeps a running maximum
    index.truncate(keep)
    entries = list(index)
    assert len(entries) == min(keep, len(batches))
    assert index.find(offset) == next(
        (n for n, entry in enumerate(entries) if entry.next_offset > offset), len(entries)
    )
    assert index.find_timestamp(timestamp) == next(
        (n for n, entry in enumerate(entries) if entry.max_timestamp >= timestamp), len(entries)
    )
    assert index.largest_timestamp() == max((e.max_timestamp for e in entries), default=-1)
    restored = SegmentIndex.from_bytes(index.to_bytes())
    assert restored == index
    assert list(restored) == entries
    assert list(index.blocks()) == [(e.position, e.metadata_size, e.size) for e in entries]
