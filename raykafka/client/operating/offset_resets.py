"""Where a group is going to stand after a reset of its offsets. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from raykafka.errors import InvalidRequestError
from raykafka.model import OffsetAndMetadata, TopicPartition


class OffsetReset(NamedTuple):
    """How the new offset of a partition is found; one of these is given.

    As with Kafka's ``kafka-consumer-groups --reset-offsets``.
    """

    to: str | None = None
    """``earliest``, ``latest`` or ``current``."""
    to_offset: int | None = None
    to_time_ms: int | None = None
    """The first record at or after this time, in milliseconds since the epoch."""
    shift_by: int | None = None
    """So many records on, or back if it is negative."""
    offsets: Mapping[TopicPartition, int] | None = None
    """One by one."""

    def check(self) -> None:
        """Raise ``InvalidRequestError`` unless exactly one way is given."""
        given = [name for name, value in self._asdict().items() if value is not None]
        if len(given) != 1:
            raise InvalidRequestError(
                f"say in one way where to reset the offsets to, not in {len(given)}: to, "
                "to_offset, to_time, shift_by, by_duration_ms or offsets"
            )
        if self.to not in (None, "earliest", "latest", "current"):
            raise InvalidRequestError(
                f"{self.to!r} is no place to reset to; use 'earliest', 'latest' or 'current'"
            )


class PartitionBounds(NamedTuple):
    """What can be read of a partition, and what was asked for by time."""

    start: int
    end: int
    at_time: int = -1
    """Offset of the first record at or after the time; -1 where there is none."""


class OffsetChange(NamedTuple):
    """One partition of a reset."""

    partition: TopicPartition
    before: int | None
    """What is committed; None for nothing."""
    after: int
    note: str = ""
    """Why it is not where it was asked to be."""


def plan_reset(
    reset: OffsetReset,
    bounds: Mapping[TopicPartition, PartitionBounds],
    committed: Mapping[TopicPartition, OffsetAndMetadata],
) -> list[OffsetChange]:
    """The new offsets of the partitions in ``bounds``, in order; kept within what can be read.

    Raises ``InvalidRequestError`` where ``shift_by`` has nothing to start from.
    """
    changes = []
    for place in sorted(bounds):
        before = committed[place].offset if place in committed else None
        wanted = _wanted(reset, place, bounds[place], before)
        start, end = bounds[place].start, bounds[place].end
        note = ""
        if wanted < start:
            note = f"{wanted} is before the first record"
        elif wanted > end:
            note = f"{wanted} is after the last record"
        changes.append(OffsetChange(place, before, max(start, min(end, wanted)), note))
    return changes


def _wanted(
    reset: OffsetReset, place: TopicPartition, bounds: PartitionBounds, before: int | None
) -> int:
    if reset.to == "earliest":
        return bounds.start
    if reset.to == "latest":
        return bounds.end
    if reset.to == "current":
        return bounds.end if before is None else before
    if reset.to_offset is not None:
        return reset.to_offset
    if reset.to_time_ms is not None:
        return bounds.end if bounds.at_time < 0 else bounds.at_time
    if reset.offsets is not None:
        return reset.offsets[place]
    if before is None:
        raise InvalidRequestError(
            f"the group has committed nothing for {place}, so there is nothing to shift from; "
            "reset it to an offset, or leave it out"
        )
    return before + (reset.shift_by or 0)
