from __future__ import annotations

from typing import Any

import pytest

from raykafka.errors import OffsetOutOfRangeError
from raykafka.log.retention import check_delete_records, plan_retention
from raykafka.log.view import LogView, SegmentRange


def view(*segments: tuple[int, int, int, int], start: int | None = None) -> LogView:
    return LogView((SegmentRange(*segment) for segment in segments), log_start_offset=start)


LOG = [(0, 10, 100, 1_000), (10, 20, 100, 2_000), (20, 30, 100, 3_000), (30, 30, 0, -1)]


def plan(log: LogView, **changes: Any) -> tuple[int, bool]:
    limits: dict[str, Any] = {"now_ms": 10_000, "retention_ms": -1, "retention_bytes": -1}
    limits["high_watermark"] = log.log_end_offset
    return tuple(plan_retention(log, **{**limits, **changes}))  # type: ignore[return-value]


def test_nothing_goes_without_limits() -> None:
    assert plan(view(*LOG)) == (0, False)
    assert plan(LogView()) == (0, False)


def test_by_age() -> None:
    assert plan(view(*LOG), retention_ms=8_000) == (1, False)  # exactly 8,000 ms old stays
    assert plan(view(*LOG), retention_ms=7_999) == (2, False)
    assert plan(view(*LOG), retention_ms=0) == (3, False)


def test_by_size_the_log_keeps_at_least_that_much() -> None:
    assert plan(view(*LOG), retention_bytes=300) == (0, False)
    assert plan(view(*LOG), retention_bytes=201) == (0, False)
    assert plan(view(*LOG), retention_bytes=200) == (1, False)
    assert plan(view(*LOG), retention_bytes=0) == (3, False)


def test_by_log_start_offset() -> None:
    assert plan(view(*LOG, start=19)) == (1, False)
    assert plan(view(*LOG, start=20)) == (2, False)


def test_never_above_the_high_watermark() -> None:
    assert plan(view(*LOG), retention_ms=0, high_watermark=19) == (1, False)
    assert plan(view(*LOG), retention_bytes=0, high_watermark=0) == (0, False)


def test_an_old_active_segment_is_rolled_first() -> None:
    assert plan(view(*LOG[:3]), retention_ms=0) == (3, True)
    assert plan(view((30, 30, 0, -1)), retention_ms=0) == (0, False)


def test_a_segment_that_cannot_be_read_does_not_hold_up_the_others() -> None:
    damaged = (0, 10, 100, -1)
    assert plan(view(damaged, *LOG[1:]), retention_ms=7_500) == (2, False)
    assert plan(view(damaged, *LOG[1:]), retention_ms=9_000) == (0, False)


def test_delete_records() -> None:
    log = view(*LOG, start=5)
    assert check_delete_records(log, 12, 25) == 12
    assert check_delete_records(log, -1, 25) == 25
    assert check_delete_records(log, 3, 25) == 5
    for wrong in (26, -2):
        with pytest.raises(OffsetOutOfRangeError, match="high watermark, 25"):
            check_delete_records(log, wrong, 25)
