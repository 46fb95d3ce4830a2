"""Static members (KIP-345): they leave for now, come back, and are replaced."""

from __future__ import annotations

import pytest
from group_kit import CLICKS, GroupBench

from raykafka.errors import (
    FencedInstanceIdError,
    FencedMemberEpochError,
    InvalidRequestError,
    UnknownMemberIdError,
    UnreleasedInstanceIdError,
)


@pytest.fixture
def bench() -> GroupBench:
    bench = GroupBench()
    bench.join("g", "a", instance_id="one")
    bench.join("g", "b", instance_id="two")
    bench.settle("g", "a", "b")
    return bench


def test_a_successor_takes_the_place_without_a_rebalance(bench: GroupBench) -> None:
    before, epoch = bench.owned("g")["a"], bench.describe("g").group_epoch
    bench.beat("g", "a", -2, instance_id="one")
    assert bench.describe("g").state == "Stable"
    assert bench.describe("g").members[0].member_epoch == -2
    answer = bench.join("g", "a2", instance_id="one")
    assert (answer.member_epoch, answer.assignment) == (epoch, before)
    assert bench.describe("g").group_epoch == epoch
    assert set(bench.owned("g")) == {"a2", "b"}


def test_the_same_process_may_come_back(bench: GroupBench) -> None:
    before = bench.owned("g")["a"]
    bench.beat("g", "a", -2, instance_id="one")
    bench.beat("g", "a", -2, instance_id="one")
    assert not bench.last, "leaving twice is leaving once"
    with pytest.raises(FencedMemberEpochError):
        bench.beat("g", "a", 2, instance_id="one")
    assert bench.join("g", "a", instance_id="one").assignment == before


def test_a_successor_with_other_topics_is_a_change(bench: GroupBench) -> None:
    epoch = bench.describe("g").group_epoch
    bench.beat("g", "a", -2, instance_id="one")
    answer = bench.join("g", "a2", "views", instance_id="one")
    assert answer.member_epoch == epoch + 1
    assert set(answer.assignment or {}) == {"V" * 32}


def test_nobody_takes_the_place_of_one_that_is_there(bench: GroupBench) -> None:
    with pytest.raises(UnreleasedInstanceIdError):
        bench.join("g", "a2", instance_id="one")
    for _ in range(5):
        bench.tick(10_000)
        bench.beat("g", "b", bench.epoch("g", "b"), instance_id="two")
    bench.join("g", "a2", instance_id="one")
    assert set(bench.owned("g")) == {"a2", "b"}


def test_the_one_that_was_replaced_is_fenced(bench: GroupBench) -> None:
    bench.beat("g", "a", -2, instance_id="one")
    bench.join("g", "a2", instance_id="one")
    with pytest.raises(UnknownMemberIdError):
        bench.beat("g", "a", 2, instance_id="one")
    with pytest.raises(FencedInstanceIdError):
        bench.beat("g", "b", 2, instance_id="one")
    with pytest.raises(UnknownMemberIdError):
        bench.beat("g", "b", 2, instance_id="three")


def test_one_that_stays_away_is_removed(bench: GroupBench) -> None:
    bench.beat("g", "a", -2, instance_id="one")
    for _ in range(5):
        bench.tick(10_000)
        bench.beat("g", "b", bench.epoch("g", "b"), instance_id="two")
    assert bench.owned("g") == {"b": {CLICKS: (0, 1, 2, 3)}}


def test_what_it_had_may_go_to_others_when_the_target_changes(bench: GroupBench) -> None:
    bench.beat("g", "a", -2, instance_id="one")
    bench.beat("g", "b", -1, instance_id="two")
    answer = bench.join("g", "c")
    assert answer.assignment, "nobody has to wait for one that is away"
    bench.settle("g", "c")
    assert bench.describe("g").state == "Stable"


def test_leaving_for_good_needs_no_successor(bench: GroupBench) -> None:
    bench.beat("g", "a", -1, instance_id="one")
    assert bench.beat("g", "b", 2, instance_id="two").assignment == {CLICKS: (0, 1, 2, 3)}


def test_identities_are_kept(bench: GroupBench) -> None:
    with pytest.raises(InvalidRequestError, match=r"leave for now"):
        bench.beat("g", "a", -2)
    with pytest.raises(InvalidRequestError, match=r"another group.instance.id"):
        bench.join("g", "a", instance_id="two")
    bench.restart()
    with pytest.raises(UnreleasedInstanceIdError):
        bench.join("g", "a2", instance_id="one")
