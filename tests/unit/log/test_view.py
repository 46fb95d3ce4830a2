from __future__ import annotations

import pytest

from raykafka.errors import LogDamagedError, OffsetOutOfRangeError
from raykafka.log.view import LogView, SegmentRange


def test_an_empty_log() -> None:
    view = LogView()
    assert (view.log_start_offset, view.log_end_offset, view.size_bytes) == (0, 0, 0)
    with pytest.raises(OffsetOutOfRangeError):
        view.segment_for(0)
    view.add_segment(SegmentRange(0, 0, 0))
    assert view.segment_for(0) == 0
    assert view.active.is_empty


def test_a_log_that_was_emptied_keeps_its_offsets() -> None:
    view = LogView([SegmentRange(50, 50, 0)], log_start_offset=50)
    assert view.log_end_offset == 50
    with pytest.raises(OffsetOutOfRangeError, match="holds 50 up to 50"):
        view.segment_for(49)


def test_appending_extends_the_active_segment() -> None:
    view = LogView([SegmentRange(0, 10, 100, 5)])
    view.add_segment(SegmentRange(10, 10, 0))
    view.extend(next_offset=13, size_bytes=30, largest_timestamp=9)
    view.extend(next_offset=14, size_bytes=30, largest_timestamp=2)
    assert view.active == SegmentRange(10, 14, 60, 9)
    assert (view.log_end_offset, view.size_bytes) == (14, 160)
    with pytest.raises(ValueError, match="cannot end"):
        view.extend(next_offset=13, size_bytes=1, largest_timestamp=0)


def test_segments_do_not_overlap() -> None:
    view = LogView([SegmentRange(0, 10, 100)])
    with pytest.raises(ValueError, match="overlaps"):
        view.add_segment(SegmentRange(9, 9, 0))
    view = LogView([SegmentRange(10, 10, 0)])
    with pytest.raises(ValueError, match="exists already"):
        view.add_segment(SegmentRange(10, 10, 0))


def test_damage_names_the_range_and_where_to_go_on() -> None:
    view = LogView([SegmentRange(0, 20, 100)], damaged=[(5, 8), (8, 10), (15, 16)])
    assert view.damaged == ((5, 10), (15, 16))
    with pytest.raises(LogDamagedError, match="5 to 9 are damaged .* seek to 10"):
        view.segment_for(7)
    assert view.segment_for(10) == 0
    assert view.next_damage(0) == 5
    assert view.next_damage(7) == 7
    assert view.next_damage(10) == 15
    assert view.next_damage(16) is None
    view.advance_log_start(9)
    assert view.damaged == ((9, 10), (15, 16))


def test_dropping_segments_moves_the_log_start() -> None:
    view = LogView([SegmentRange(0, 5, 1), SegmentRange(5, 9, 2), SegmentRange(9, 9, 0)])
    view.mark_damaged(1, 3)
    assert view.drop_segments(0) == ()
    assert [s.base_offset for s in view.drop_segments(1)] == [0]
    assert view.log_start_offset == 5
    assert view.damaged == ()
    with pytest.raises(ValueError, match="roll first"):
        view.drop_segments(2)
    view.advance_log_start(100)
    assert view.log_start_offset == 9
    assert not view.advance_log_start(3)
