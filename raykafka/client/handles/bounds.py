"""Where a read starts and ends, as people say it: offsets, moments, ``earliest``, ``latest``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Literal, NamedTuple

from raykafka.client.consumer import Consumer
from raykafka.errors import (
    InvalidRequestError,
    OffsetOutOfRangeError,
    UnknownTopicOrPartitionError,
)
from raykafka.model import TopicPartition

Bound = int | datetime | str
"""An offset, a moment with its time zone, ``"earliest"`` or ``"latest"``."""
Bounds = Bound | Mapping[int, Bound]
"""One bound for every partition, or one each by partition number."""

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class Moment(NamedTuple):
    """A time in milliseconds since the epoch."""

    ms: int


Place = int | Moment | Literal["earliest", "latest"]
"""A bound that has been checked."""


class OffsetRange(NamedTuple):
    """Offsets of one partition: ``end`` is exclusive, None means that the read goes on."""

    start: int
    end: int | None


def parse_bound(bound: object) -> Place:
    """Check one bound.

    Raises ``InvalidRequestError`` for a moment without a time zone (whose would it be: the
    writer's, the reader's?), a negative offset, or anything else.
    """
    if isinstance(bound, datetime):
        if bound.tzinfo is None or bound.utcoffset() is None:
            raise InvalidRequestError(
                f"{bound!r} has no time zone; say which one is meant, for example "
                "datetime(..., tzinfo=timezone.utc) or moment.astimezone()"
            )
        return Moment((bound - _EPOCH) // timedelta(milliseconds=1))
    if isinstance(bound, int) and not isinstance(bound, bool) and bound >= 0:
        return bound
    if bound == "earliest":
        return "earliest"
    if bound == "latest":
        return "latest"
    raise InvalidRequestError(
        f"{bound!r} is no place in a log; give an offset from 0, 'earliest', 'latest', or a "
        "datetime with a time zone"
    )


def parse_bounds(bounds: object, partitions: Sequence[int], default: Place) -> dict[int, Place]:
    """A bound for each partition; partitions that a mapping leaves out get ``default``.

    Raises ``UnknownTopicOrPartitionError`` for a partition that is not read, and what
    ``parse_bound`` raises.
    """
    if not isinstance(bounds, Mapping):
        return dict.fromkeys(partitions, parse_bound(bounds))
    unknown = [number for number in bounds if number not in partitions]
    if unknown:
        raise UnknownTopicOrPartitionError(
            f"a bound is given for partition {unknown[0]!r}, which is not read; "
            f"there are {', '.join(map(str, partitions))}"
        )
    return {
        number: parse_bound(bounds[number]) if number in bounds else default
        for number in partitions
    }


def resolve(
    consumer: Consumer,
    topic: str,
    starts: Mapping[int, Place],
    ends: Mapping[int, Place] | None,
) -> dict[TopicPartition, OffsetRange]:
    """Offsets for checked bounds, as the partitions are now; ``ends=None`` leaves reads open.

    An end beyond the log's is its end. Raises ``OffsetOutOfRangeError`` for a start outside of the
    log: records that a reader counts on are gone, or never were.
    """
    partitions = [TopicPartition(topic, number) for number in starts]
    first = consumer.beginning_offsets(partitions)
    last = consumer.end_offsets(partitions)
    moments = _moments(consumer, topic, starts, last)
    end_moments = {} if ends is None else _moments(consumer, topic, ends, last)
    ranges = {}
    for partition in partitions:
        number = partition.partition
        low, high = first[partition], last[partition]
        start = _offset(starts[number], low, high, moments.get(partition, high))
        if not low <= start <= high:
            raise OffsetOutOfRangeError(
                f"{partition} holds offsets {low} to {high} (exclusive), not {start}; start at "
                "one of them or at 'earliest'"
            )
        end = None
        if ends is not None:
            end = _offset(ends[number], low, high, end_moments.get(partition, high))
            end = max(start, min(end, high))
        ranges[partition] = OffsetRange(start, end)
    return ranges


def _offset(place: Place, low: int, high: int, at_moment: int) -> int:
    if isinstance(place, Moment):
        return at_moment
    if place == "earliest":
        return low
    if place == "latest":
        return high
    return place


def _moments(
    consumer: Consumer, topic: str, places: Mapping[int, Place], last: Mapping[TopicPartition, int]
) -> dict[TopicPartition, int]:
    """Offsets of the bounds that are moments; the partition's end where no record is that young."""
    asked = {
        TopicPartition(topic, number): place.ms
        for number, place in places.items()
        if isinstance(place, Moment)
    }
    early = {partition: max(0, ms) for partition, ms in asked.items()}
    found = consumer.offsets_for_times(early)
    return {p: last[p] if answer is None else answer.offset for p, answer in found.items()}
