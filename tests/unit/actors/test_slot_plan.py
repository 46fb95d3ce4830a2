"""What a partition actor is told, and when it is told again."""

from __future__ import annotations

from typing import Any

from controller_kit import Cluster, topic

from raykafka.actors.controlling.slot_plan import MAX_ASSIGNMENTS, Plan, SlotPlanner
from raykafka.actors.ports import AssignmentResult
from raykafka.controller.commands import (
    AlterConfigs,
    AlterReassignments,
    CreateTopics,
    DeleteTopics,
    FailReplicas,
    LosePartitionActor,
    Reassignment,
    ReportReplicas,
    ResourceToAlter,
    ResumeBroker,
    SettingChange,
    ShutDownBroker,
    StartPartitionActor,
)
from raykafka.controller.image import SlotKey
from raykafka.errors import KafkaStorageError
from raykafka.model import Endpoint, PartitionId

SLOT = SlotKey(0, 0)


def results_of(plan: Plan) -> list[AssignmentResult]:
    removed = [AssignmentResult(removal.partition, -1) for removal in plan.removals]
    opened = [AssignmentResult(a.partition, a.leader_epoch, 0) for a in plan.assignments]
    return removed + opened


class Actor:
    """Follows plans to the letter, and reports."""

    def __init__(self, cluster: Cluster, slot: SlotKey = SLOT) -> None:
        self.cluster = cluster
        self.slot = slot
        self.planner = SlotPlanner(slot)
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
                incarnation = self.cluster.image.actors[self.slot].incarnation
                self.cluster.do(ReportReplicas(*self.slot, incarnation, plan.opened, plan.removed))
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
    assert again.failed == [partition], "others may lead meanwhile"
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


# --- several brokers ----------------------------------------------------------------------------


def replicated(copies: int = 3, **configs: str) -> tuple[Cluster, list[Actor]]:
    """A topic with one partition, led by broker 0, everything told and reported."""
    cluster = Cluster.started(brokers=copies)
    settings = {key.replace("_", "."): value for key, value in configs.items()}
    wanted = topic("t", assignments=[list(range(copies))], configs=settings)
    cluster.do(CreateTopics([wanted]))
    actors = [Actor(cluster, SlotKey(broker_id, 0)) for broker_id in range(copies)]
    for actor in actors:
        actor.settle()
    return cluster, actors


def test_followers_are_told_whom_they_follow() -> None:
    cluster = Cluster.started(brokers=2)
    cluster.do(CreateTopics([topic("t", assignments=[[1, 0]])]))
    (led,) = Actor(cluster, SlotKey(1, 0)).settle()
    (followed,) = Actor(cluster, SlotKey(0, 0)).settle()
    assert (led.leader_id, led.leader, led.replicas, led.isr) == (1, None, (1, 0), (1, 0))
    assert (followed.leader_id, followed.leader) == (1, Endpoint("h", 1000))
    assert not followed.opened_before
    state = cluster.topic("t").partitions[0]
    assert state.online
    assert state.opened_by == (0, 1)


def test_a_change_of_the_isr_is_told_to_the_leader_and_whom_it_concerns() -> None:
    cluster, actors = replicated()
    cluster.propose("t", [0, 1])
    told = [actor.settle() for actor in actors]
    assert [len(assignments) for assignments in told] == [1, 0, 1]
    (assignment,) = told[0]
    assert (assignment.isr, assignment.partition_epoch) == ((0, 1), 1)


def test_a_new_leader_is_told_after_the_old_one_that_lives() -> None:
    cluster, (first, second, _) = replicated()
    partition = PartitionId(cluster.topic("t").topic_id, 0)
    cluster.do(AlterReassignments([Reassignment("t", 0, [1, 2])]))
    assert cluster.topic("t").partitions[0].leader == 1
    assert first.planner.still_leads(partition, 1)
    assert not first.planner.has_handed_over(cluster.image)

    def told_now(now_ms: int) -> Plan:
        return second.planner.plan(cluster.image, {}, now_ms, is_led=first.planner.still_leads)

    plan = told_now(0)
    assert plan.held
    assert not plan.calls
    first.settle()
    assert first.planner.has_handed_over(cluster.image)
    plan = told_now(10)
    assert not plan.held
    assert [a.leader_id for a in plan.assignments] == [1]


def test_an_old_leader_that_cannot_be_told_is_not_waited_for_for_ever() -> None:
    cluster, (_, second, _) = replicated()
    cluster.do(AlterReassignments([Reassignment("t", 0, [1, 2])]))
    for now_ms, held in ((0, True), (2999, True), (3000, False)):
        plan = second.planner.plan(cluster.image, {}, now_ms, is_led=lambda *_: True)
        assert plan.held is held


def test_settings_and_leaders_are_told_to_all() -> None:
    cluster, actors = replicated()
    change = SettingChange("retention.ms", "5")
    cluster.do(AlterConfigs([ResourceToAlter("topic", "t", [change])]))
    assert [len(actor.settle()) for actor in actors] == [1, 1, 1]
    cluster.lose(0)
    told = [actor.settle() for actor in actors]
    assert [len(assignments) for assignments in told] == [0, 1, 1], "the dead are told nothing"
    assert {a.leader_id for assignments in told for a in assignments} == {1}
    assert told[2][0].leader_epoch == 1


def test_a_leader_that_listens_elsewhere_is_told_to_its_followers() -> None:
    cluster, actors = replicated(copies=2)
    cluster.do(StartPartitionActor(0, 0, 1, "h", 4711, 1))
    assert [len(actor.settle()) for actor in actors] == [0, 1]


def test_without_a_leader_replicas_are_told_so() -> None:
    cluster, actors = replicated(copies=2)
    cluster.propose("t", [0])
    for actor in actors:
        actor.settle()
    cluster.lose(0)
    (assignment,) = actors[1].settle()
    assert (assignment.leader_id, assignment.leader, assignment.leader_epoch) == (-1, None, 1)
    assert not assignment.opened_before, "it is out of sync: nothing rests on what it holds"


def test_what_rests_on_a_replica_is_never_made_anew() -> None:
    cluster, actors = replicated(copies=2, min_insync_replicas="2")
    cluster.lose(1)
    actors[0].settle()
    cluster.lose(0)
    for broker_id in (0, 1):
        actors[broker_id].planner.forget()
    cluster.start_slot(1, 0)
    assert cluster.topic("t").partitions[0].leader == 1, "both are eligible"
    assert [a.opened_before for a in actors[1].settle()] == [True]
    cluster.start_slot(0, 0)
    (assignment,) = actors[0].settle()
    assert (assignment.leader_id, assignment.opened_before) == (1, True)


def test_a_failed_replica_gives_way_and_comes_back_as_a_follower() -> None:
    cluster, (first, second) = replicated(copies=2)
    (change,) = (SettingChange("retention.ms", "5"),)
    cluster.do(AlterConfigs([ResourceToAlter("topic", "t", [change])]))
    plan = first.plan()
    error = KafkaStorageError("a bad disk")
    failed = [AssignmentResult(a.partition, 0, -1, error.code, "") for a in plan.assignments]
    first.planner.note(plan, failed, 0)
    assert first.planner.is_settled(cluster.topic("t"), {}), "it is not waited for"
    plan = first.plan()
    assert not plan.calls
    cluster.do(FailReplicas(0, 0, 1, plan.failed))
    state = cluster.topic("t").partitions[0]
    assert (state.leader, state.isr) == (1, (1,))
    second.settle()
    assert not first.plan().reports
    plan = first.plan(now_ms=1000)
    assert [(a.leader_id, a.opened_before) for a in plan.assignments] == [(1, False)]


def test_a_replica_on_a_broker_that_stops_is_not_reported_in_vain() -> None:
    cluster, (actor,) = replicated(copies=1)
    cluster.do(ShutDownBroker(0))
    cluster.lose(0)
    cluster.start_slot(0, 0)
    actor.planner.forget()
    assert [assignment.leader_id for assignment in actor.settle()] == [-1]
    cluster.do(ResumeBroker(0))
    assert [assignment.leader_id for assignment in actor.settle()] == [0]


def test_a_failed_replica_that_nobody_replaces_leads_when_it_opens() -> None:
    cluster, (actor,) = replicated(copies=1)
    partition = PartitionId(cluster.topic("t").topic_id, 0)
    cluster.do(FailReplicas(0, 0, 1, [partition]))
    told = actor.settle()
    assert [(a.leader_id, a.leader_epoch, a.opened_before) for a in told] == [
        (-1, 1, True),
        (0, 2, True),
    ]
    assert cluster.topic("t").partitions[0].online


def test_a_replica_that_failed_while_it_was_not_in_sync_is_opened_again() -> None:
    """Nothing of it changes in the metadata, so nothing else would tell the actor."""
    cluster, (_, second) = replicated(copies=2)
    partition = PartitionId(cluster.topic("t").topic_id, 0)
    cluster.do(FailReplicas(1, 0, 1, [partition]))
    second.settle()
    before = cluster.image
    cluster.do(FailReplicas(1, 0, 1, [partition]))
    assert cluster.image.topics == before.topics
    second.planner.on_failed([partition], 5000)
    assert not second.plan(now_ms=5999).calls
    plan = second.plan(now_ms=6000)
    assert [(a.leader_id, a.opened_before) for a in plan.assignments] == [(0, False)]
