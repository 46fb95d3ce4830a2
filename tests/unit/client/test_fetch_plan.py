"""One fetch per leader."""

from __future__ import annotations

from raykafka.client.consuming.fetch_plan import Leader, PlannedFetch, plan_fetches
from raykafka.model import Endpoint, TopicPartition

HERE, THERE = Endpoint("h", 1), Endpoint("h", 2)


def test_groups_by_leader_and_names_those_without() -> None:
    a, b, c, d = (TopicPartition("t", number) for number in range(4))
    leaders = {a: Leader(HERE, "id", 3), b: Leader(THERE, "id", 4), c: Leader(HERE, "id", 5)}
    plan = plan_fetches([(a, 10), (b, 20), (c, 30), (d, 40)], leaders.get)
    assert plan.fetches == {
        HERE: {a: PlannedFetch("id", 3, 10), c: PlannedFetch("id", 5, 30)},
        THERE: {b: PlannedFetch("id", 4, 20)},
    }
    assert plan.leaderless == [d]


def test_nothing_wanted_is_nothing_planned() -> None:
    plan = plan_fetches([], lambda partition: None)
    assert (plan.fetches, plan.leaderless) == ({}, [])
