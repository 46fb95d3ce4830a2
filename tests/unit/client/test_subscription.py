"""Assignment and positions."""

from __future__ import annotations

import pytest

from raykafka.client.consuming.subscription import Subscription, checked
from raykafka.errors import IllegalStateError, InvalidPartitionsError
from raykafka.model import EARLIEST_TIMESTAMP, TopicPartition

A, B, C = (TopicPartition("t", number) for number in range(3))


def test_assign_returns_what_was_dropped_and_keeps_the_rest() -> None:
    subscription = Subscription()
    assert subscription.assign([A, B, A]) == set()
    assert list(subscription) == [A, B]
    subscription.seek(A, 5)
    subscription.paused.update([A, B])
    assert subscription.assign([C, A]) == {B}
    assert subscription.state(A).position == 5
    assert subscription.paused == {A}
    assert (len(subscription), B in subscription, C in subscription) == (2, False, True)


def test_a_wrong_partition_changes_nothing() -> None:
    subscription = Subscription()
    subscription.assign([A])
    with pytest.raises(InvalidPartitionsError):
        subscription.assign([B, "t-1"])  # type: ignore[list-item]
    assert list(subscription) == [A]


def test_fetchable_leaves_out_paused_and_unpositioned() -> None:
    subscription = Subscription()
    subscription.assign([A, B, C])
    assert subscription.unpositioned() == [A, B, C]
    subscription.seek(A, 1)
    subscription.seek(B, 2)
    subscription.paused.add(B)
    assert list(subscription.fetchable()) == [(A, 1)]
    assert subscription.unpositioned() == [C]


def test_reset_forgets_the_position_until_seek() -> None:
    subscription = Subscription()
    subscription.assign([A])
    subscription.seek(A, 1)
    subscription.reset(A, EARLIEST_TIMESTAMP)
    state = subscription.state(A)
    assert (state.position, state.reset_timestamp) == (None, EARLIEST_TIMESTAMP)
    subscription.seek(A, 3)
    assert (state.position, state.reset_timestamp) == (3, None)


def test_selected_means_all_without_arguments() -> None:
    subscription = Subscription()
    subscription.assign([A, B])
    assert subscription.selected([]) == [A, B]
    assert subscription.selected([("t", 1)]) == [B]  # type: ignore[list-item]
    with pytest.raises(IllegalStateError, match="t-2"):
        subscription.selected([A, C])


@pytest.mark.parametrize("wrong", ["t", ("t", -1), ("t", 1.0), (1, "t"), ("t", True), None, ("t",)])
def test_what_is_no_partition(wrong: object) -> None:
    with pytest.raises(InvalidPartitionsError):
        checked(wrong)
