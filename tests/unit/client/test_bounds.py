"""Where reads start and end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from raykafka.client.handles.bounds import Moment, OffsetRange, parse_bound, parse_bounds, resolve
from raykafka.errors import (
    InvalidRequestError,
    OffsetOutOfRangeError,
    UnknownTopicOrPartitionError,
)
from raykafka.model import OffsetAndTimestamp, TopicPartition

A, B = TopicPartition("t", 0), TopicPartition("t", 1)


class Offsets:
    """Partition 0 holds 10..99 with times offset * 10, partition 1 nothing, at 5."""

    def beginning_offsets(self, partitions: Iterable[TopicPartition]) -> dict[Any, int]:
        return {p: {A: 10, B: 5}[p] for p in partitions}

    def end_offsets(self, partitions: Iterable[TopicPartition]) -> dict[Any, int]:
        return {p: {A: 100, B: 5}[p] for p in partitions}

    def offsets_for_times(self, times: Mapping[TopicPartition, int]) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        for partition, ms in times.items():
            offset = max(10, -(-ms // 10))
            empty = partition == B or offset >= 100
            found[partition] = None if empty else OffsetAndTimestamp(offset, ms, 0)
        return found


def resolved(start: object, end: object = "latest") -> dict[TopicPartition, OffsetRange]:
    starts = parse_bounds(start, [0, 1], "earliest")
    ends = None if end is None else parse_bounds(end, [0, 1], "latest")
    return resolve(Offsets(), "t", starts, ends)  # type: ignore[arg-type]


def test_moments_are_milliseconds_whatever_the_zone() -> None:
    utc = datetime(2013, 1, 1, 12, tzinfo=timezone.utc)
    assert parse_bound(utc) == Moment(1_357_041_600_000)
    assert parse_bound(utc.astimezone(timezone(timedelta(hours=-5)))) == parse_bound(utc)
    assert parse_bound(utc + timedelta(microseconds=1999)) == Moment(1_357_041_600_001)
    assert parse_bound(datetime(1969, 12, 31, tzinfo=timezone.utc)) == Moment(-86_400_000)


@pytest.mark.parametrize(
    ("bound", "message"),
    [
        (datetime(2013, 1, 1), "no time zone"),  # noqa: DTZ001
        (-1, "offset from 0"),
        (True, "offset from 0"),
        (1.5, "offset from 0"),
        ("first", "earliest"),
        (None, "no place"),
    ],
)
def test_what_is_no_place(bound: object, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        parse_bound(bound)


def test_one_bound_or_one_each() -> None:
    assert parse_bounds(7, [0, 1], "earliest") == {0: 7, 1: 7}
    assert parse_bounds({1: 7}, [0, 1], "earliest") == {0: "earliest", 1: 7}
    with pytest.raises(UnknownTopicOrPartitionError, match="partition 2"):
        parse_bounds({2: 7}, [0, 1], "earliest")


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        ("earliest", "latest", (10, 100)),
        ("latest", "latest", (100, 100)),
        ("earliest", "earliest", (10, 10)),
        ({0: 20}, {0: 30}, (20, 30)),
        ({0: 20}, {0: 1000}, (20, 100)),
        ({0: 30}, {0: 20}, (30, 30)),
        ({0: 100}, "latest", (100, 100)),
        (datetime.fromtimestamp(0.255, timezone.utc), "latest", (26, 100)),
        ("earliest", datetime.fromtimestamp(0.5, timezone.utc), (10, 50)),
        (datetime.fromtimestamp(99, timezone.utc), "latest", (100, 100)),
        (datetime.fromtimestamp(-99, timezone.utc), "latest", (10, 100)),
        ("earliest", datetime.fromtimestamp(99, timezone.utc), (10, 100)),
        ({0: 20}, None, (20, None)),
    ],
)
def test_ranges(start: object, end: object, expected: tuple[int, int | None]) -> None:
    assert resolved(start, end)[A] == expected


def test_an_empty_partition_is_an_empty_range() -> None:
    assert resolved("earliest")[B] == (5, 5)
    assert resolved(datetime.fromtimestamp(0, timezone.utc))[B] == (5, 5)


@pytest.mark.parametrize("start", [9, 101])
def test_a_start_outside_of_the_log_is_refused(start: int) -> None:
    with pytest.raises(OffsetOutOfRangeError, match=f"t-0 holds offsets 10 to 100.*not {start}"):
        resolved({0: start})
