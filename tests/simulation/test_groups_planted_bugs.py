"""The simulation of groups finds what it is there to find: mistakes that were made on purpose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from group_rounds import one_round
from group_world import Coordinator, World

from raykafka.group import membership, offsets, reconciliation, targets
from raykafka.group.assignors.range import RangeAssignor
from raykafka.group.reconciliation import reconcile

Plant = Callable[[pytest.MonkeyPatch], None]


def nobody_is_waited_for(patch: pytest.MonkeyPatch) -> None:
    """A partition is given before its owner has let it go."""

    def hasty(current: Any, target: Any, epoch: int, owners: Any, **said: Any) -> Any:
        return reconcile(current, target, epoch, {}, **said)

    patch.setattr(membership, "reconcile", hasty)


def any_epoch_will_do(patch: pytest.MonkeyPatch) -> None:
    """Late commits of somebody who has been replaced count."""
    patch.setattr(offsets, "_check_member", lambda group, command: None)
    patch.setattr(offsets, "_problem_of", lambda group, around, member_id, offset: None)


def answers_before_they_are_committed(patch: pytest.MonkeyPatch) -> None:
    """A member is told what a failover may undo."""
    append = Coordinator._append

    def hasty(self: Coordinator, records: Any, on_answer: Any, answer: Any) -> None:
        append(self, records, lambda _: None, answer)
        on_answer(answer)

    patch.setattr(Coordinator, "_append", hasty)


def everything_moves(patch: pytest.MonkeyPatch) -> None:
    """The assignor does not look at what members have."""
    patch.setattr(targets, "chosen_assignor", lambda *_, **__: RangeAssignor())


def sessions_do_not_end(patch: pytest.MonkeyPatch) -> None:
    """Members that were killed keep what they had."""
    patch.setattr(membership.Membership, "expire", lambda *_: [])


def news_is_not_told(patch: pytest.MonkeyPatch) -> None:
    """Held heartbeats are not answered when there is something to say."""
    patch.setattr("group_world.GroupMachine.has_news", lambda *_: False)
    patch.setattr(World, "_may_hold", lambda *_: True)
    patch.setattr("group_world.INTERVAL_MS", 1_000_000)


BUGS: list[Plant] = [
    nobody_is_waited_for,
    any_epoch_will_do,
    answers_before_they_are_committed,
    everything_moves,
    sessions_do_not_end,
    news_is_not_told,
]


@pytest.mark.parametrize("plant", BUGS, ids=lambda plant: plant.__name__)
def test_a_mistake_is_found(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    assert reconciliation.reconcile is reconcile
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        rounds(400)


def rounds(count: int) -> None:
    """The first of these that finds something ends them."""
    for seed in range(count):
        one_round(seed)
