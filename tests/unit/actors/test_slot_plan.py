"""What a partition actor is told, and when it is told again."""

from __future__ import annotations

from typing import Any

from controller_kit import Cluster, topic

from raykafka.actors.controlling.slot_plan import MAX_ASSIGNMENTS, Plan, SlotPlanner
from raykafka.actors.ports import AssignmentResult
from raykafka.controller.commands import (
    AlterConfigs,
    CreateTopics,
    DeleteTopics,
    LosePartitionActor,
    ReportReplicas,
    ResourceToAlter,
    SettingChange,
)
from raykafka.controller.image import SlotKey
from raykafka.errors import KafkaStorageError

SLOT = SlotKey(0, 0)


def results_of(plan: Plan) -> list[AssignmentResult]:
    removed = [AssignmentResult(removal.partition, -1) for removal in plan.removals]
    opened = [AssignmentResult(a.partition, a.leader_epoch, 0) for a in plan.assignments]
    return removed + opened


class Actor:
    """Follows plans to the letter, and reports."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.planner = SlotPlanner(SLOT)
        self.overrides: dict[str, str] = {}

    def plan(self, now_ms: int = 0) -> Plan:
        return self.planner.plan(self.cluster.image, self.overrides, now_ms)

    def settle(self) -> list[Any]:
        """Every assignment made until there is nothing left to do."""
        made: list[Any] = []
        for _ in range(100):
            plan = self.plan()
            if plan.calls:
                made.extend(plan.assignments)
                self.planner.note(plan, results_of(plan), 0)
            elif plan.reports:
                incarnation = self.cluster.image.actors[SLOT].incarnation
                self.cluster.do(ReportReplicas(*SLOT, incarnation, plan.opened, plan.removed))
            else:
                return made
        raise AssertionError("it never ends")


def test_large_topics_come_in_slices() -> None:
    cluster = Cluster.started(slots=1)
    cluster.do(CreateTopics([topic("a", 1), topic("b", 2500)]))
    actor = Actor(cluster)
    sizes = []
    while (plan := actor.plan()).calls:
        sizes.append(len(plan.assignments))
        actor.planner.note(plan, results_of(plan), 0)
    assert sizes == [MAX_ASSIGNMENTS, MAX_ASSIGNMENTS, 501]
    actor.settle()
    assert all(partition.online for partition in cluster.topic("b").partitions)
    assert not actor.plan().reports


def test_only_what_has_changed_is_told_again() -> None:
    cluster = Cluster.started(slots=1)
    cluster.do(CreateTopics([topic("a", 2), topic("b", 2)]))
    actor = Actor(cluster)
    assert len(actor.settle()) == 4
    change = SettingChange("retention.ms", "5")
    cluster.do(AlterConfigs([ResourceToAlter("topic", "a", [change])]))
    assert not actor.planner.is_settled(cluster.topic("a"), {})
    assert [(a.topic, dict(a.configs)) for a in actor.settle()] == [
        ("a", {"retention.ms": "5"})
    ] * 2
    assert actor.planner.is_settled(cluster.topic("a"), {})
    actor.overrides = {"segment.ms": "9", "retention.ms": "7"}
    told = {a.topic: dict(a.configs) for a in actor.settle()}
    assert told == {
        "a": {"segment.ms": "9", "retention.ms": "5"},
        "b": {"segment.ms": "9", "retention.ms": "7"},
    }
    assert cluster.topic("a").partitions[0].leader_epoch == 0, "settings need no new leader"


def test_a_successor_is_told_everything_in_new_epochs() -> None:
    cluster = Cluster.started(slots=1)
    cluster.do(CreateTopics([topic("a", 2)]))
    actor = Actor(cluster)
    assert [a.opened_before for a in actor.settle()] == [False, False]
    cluster.do(LosePartitionActor(*SLOT, 1))
    assert not actor.plan().calls, "nobody to tell, and nothing to lead"
    cluster.start_slot(*SLOT)
    actor.planner.forget()
    assert [(a.leader_epoch, a.opened_before) for a in actor.settle()] == [(2, True), (2, True)]


def test_a_failure_is_told_once_and_tried_again_later() -> None:
    cluster = Cluster.started(slots=1)
    cluster.do(CreateTopics([topic("a", 1)]))
    actor = Actor(cluster)
    plan = actor.plan(now_ms=0)
    (partition,) = (assignment.partition for assignment in plan.assignments)
    error = KafkaStorageError("no such disk")
    failed = [AssignmentResult(partition, 0, -1, error.code, error.message)]
    assert [str(e) for _, e in actor.planner.note(plan, failed, 0)] == ["no such disk"]
    assert not actor.plan(now_ms=999).calls
    again = actor.plan(now_ms=1000)
    assert again.calls
    assert actor.planner.note(again, failed, 1000) == []
    assert str(actor.planner.failures[partition]) == "no such disk"
    actor.planner.note(again, results_of(again), 2000)
    assert actor.planner.failures == {}
    assert actor.plan(now_ms=2000).reports


def test_deleted_topics_are_removed_and_forgotten() -> None:
    cluster = Cluster.started(slots=1)
    cluster.do(CreateTopics([topic("a", 3), topic("b", 1)]))
    actor = Actor(cluster)
    actor.settle()
    cluster.do(DeleteTopics(["a"]))
    plan = actor.plan()
    assert [(removal.topic, removal.partition.partition) for removal in plan.removals] == [
        ("a", 0),
        ("a", 1),
        ("a", 2),
    ]
    actor.settle()
    assert not cluster.image.removals
    assert set(actor.planner._told) == {cluster.topic("b").topic_id}
