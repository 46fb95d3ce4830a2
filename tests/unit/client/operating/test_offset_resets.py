"""Where a reset puts a group, as Kafka's tool does it."""

from __future__ import annotations

from typing import Any

import pytest

from raykafka.client.operating.offset_resets import (
    OffsetChange,
    OffsetReset,
    PartitionBounds,
    plan_reset,
)
from raykafka.errors import InvalidRequestError
from raykafka.model import OffsetAndMetadata, TopicPartition

A, B = TopicPartition("t", 0), TopicPartition("t", 1)
BOUNDS = {B: PartitionBounds(0, 10, 7), A: PartitionBounds(5, 20, -1)}
COMMITTED = {A: OffsetAndMetadata(12), B: OffsetAndMetadata(3)}


def after(**way: Any) -> dict[TopicPartition, int]:
    changes = plan_reset(OffsetReset(**way), BOUNDS, COMMITTED)
    assert [change.partition for change in changes] == [A, B]
    return {change.partition: change.after for change in changes}


@pytest.mark.parametrize(
    ("way", "a", "b"),
    [
        ({"to": "earliest"}, 5, 0),
        ({"to": "latest"}, 20, 10),
        ({"to": "current"}, 12, 3),
        ({"to_offset": 8}, 8, 8),
        ({"to_time_ms": 1}, 20, 7),
        ({"shift_by": 2}, 14, 5),
        ({"shift_by": -2}, 10, 1),
        ({"offsets": {A: 6, B: 9}}, 6, 9),
    ],
)
def test_ways(way: dict[str, Any], a: int, b: int) -> None:
    assert after(**way) == {A: a, B: b}


def test_offsets_outside_are_moved_inside_and_it_says_so() -> None:
    assert plan_reset(OffsetReset(to_offset=3), BOUNDS, {}) == [
        OffsetChange(A, None, 5, "3 is before the first record"),
        OffsetChange(B, None, 3),
    ]
    assert plan_reset(OffsetReset(to_offset=15), BOUNDS, COMMITTED) == [
        OffsetChange(A, 12, 15),
        OffsetChange(B, 3, 10, "15 is after the last record"),
    ]


def test_current_without_a_committed_offset_is_the_end() -> None:
    assert plan_reset(OffsetReset(to="current"), {A: BOUNDS[A]}, {})[0].after == 20


def test_nothing_to_shift_from() -> None:
    with pytest.raises(InvalidRequestError, match="nothing to shift from"):
        plan_reset(OffsetReset(shift_by=1), BOUNDS, {A: OffsetAndMetadata(1)})


@pytest.mark.parametrize("way", [{}, {"to": "earliest", "to_offset": 1}, {"to": "start"}])
def test_one_way_exactly(way: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError):
        OffsetReset(**way).check()
