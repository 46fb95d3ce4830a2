"""Replicas move without a moment in which fewer are in sync (KIP-455)."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from controller_kit import Cluster, topic

from raykafka import errors
from raykafka.controller.commands import (
    AlterReassignments,
    CreateTopics,
    DeleteTopics,
    DrainBroker,
    FenceBroker,
    Reassignment,
    ReportReplicas,
)
from raykafka.controller.image import NO_LEADER, PartitionState, SlotKey
from raykafka.model import PartitionId


@pytest.fixture
def cluster() -> Cluster:
    cluster = Cluster.started(brokers=5)
    cluster.do(CreateTopics([topic("t", assignments=[[0, 1, 2]])]))
    for broker_id in range(3):
        cluster.open_all(SlotKey(broker_id, 0))
    return cluster


def state(cluster: Cluster) -> PartitionState:
    return cluster.topic("t").partitions[0]


def reassign(
    cluster: Cluster, replicas: Sequence[int] | None, partition: int = 0
) -> errors.RaykafkaError | None:
    (answer,) = cluster.do(AlterReassignments([Reassignment("t", partition, replicas)]))
    assert answer is None or isinstance(answer, errors.RaykafkaError)
    return answer


def test_the_old_are_given_up_when_all_of_the_target_are_in_sync(cluster: Cluster) -> None:
    assert reassign(cluster, [3, 0, 4]) is None
    moving = state(cluster)
    assert (moving.replicas, moving.adding, moving.removing) == ((3, 0, 4, 1, 2), (3, 4), (1, 2))
    assert (moving.leader, moving.leader_epoch, moving.isr) == (0, 0, (0, 1, 2))
    assert not cluster.image.removals

    assert cluster.propose("t", [0, 1, 2, 3]).error is None
    assert state(cluster).removing == (1, 2), "broker 4 is missing"
    answer = cluster.propose("t", [0, 1, 2, 3, 4])
    assert (answer.error, answer.isr) == (None, (3, 0, 4))
    done = state(cluster)
    assert (done.replicas, done.isr, done.adding, done.removing) == ((3, 0, 4), (3, 0, 4), (), ())
    assert (done.leader, done.leader_epoch) == (0, 0), "its leader stays"
    topic_id = cluster.topic("t").topic_id
    removal = cluster.image.removals[PartitionId(topic_id, 0)]
    assert removal.slots == (SlotKey(1, 0), SlotKey(2, 0))


def test_a_leader_that_is_given_up_hands_over_at_the_end(cluster: Cluster) -> None:
    reassign(cluster, [3, 1])
    assert state(cluster).leader == 0
    answer = cluster.propose("t", [0, 1, 2, 3])
    assert type(answer.error) is errors.NewLeaderElectedError
    done = state(cluster)
    assert (done.replicas, done.leader, done.leader_epoch, done.isr) == ((3, 1), 3, 1, (3, 1))


def test_fewer_replicas_and_another_order_take_effect_at_once(cluster: Cluster) -> None:
    reassign(cluster, [2, 1, 0])
    assert (state(cluster).replicas, state(cluster).leader) == ((2, 1, 0), 0)
    assert state(cluster).slots == (0, 0, 0)
    reassign(cluster, [1])
    done = state(cluster)
    assert (done.replicas, done.isr, done.leader, done.removing) == ((1,), (1,), 1, ())


def test_a_target_that_is_out_of_sync_is_waited_for(cluster: Cluster) -> None:
    cluster.lose(1)
    reassign(cluster, [0, 1])
    assert state(cluster).removing == (2,)
    cluster.start_slot(1, 0)
    cluster.propose("t", [0, 1, 2])
    assert state(cluster).replicas == (0, 1)


def test_cancelling_restores_the_replicas(cluster: Cluster) -> None:
    reassign(cluster, [3, 4])
    cluster.propose("t", [0, 1, 2, 3])
    assert reassign(cluster, None) is None
    back = state(cluster)
    assert (set(back.replicas), back.adding, back.removing) == ({0, 1, 2}, (), ())
    assert (back.isr, back.leader) == ((0, 1, 2), 0)
    removal = cluster.image.removals[PartitionId(cluster.topic("t").topic_id, 0)]
    assert set(removal.slots) == {SlotKey(3, 0), SlotKey(4, 0)}
    assert type(reassign(cluster, None)) is errors.NoReassignmentInProgressError


def test_a_new_target_replaces_the_one_under_way(cluster: Cluster) -> None:
    reassign(cluster, [3, 0, 1])
    reassign(cluster, [4, 0, 1])
    moving = state(cluster)
    assert (moving.adding, moving.removing) == ((4,), (2,))
    assert 3 not in moving.replicas
    assert type(reassign(cluster, [3, 0, 1])) is errors.ReassignmentInProgressError
    topic_id = cluster.topic("t").topic_id
    cluster.do(ReportReplicas(3, 0, 1, {}, [PartitionId(topic_id, 0)]))
    assert reassign(cluster, [3, 0, 1]) is None


def test_the_only_replica_in_sync_is_not_given_up(cluster: Cluster) -> None:
    reassign(cluster, [3, 4])
    cluster.propose("t", [0, 3])
    for broker_id in (0, 1, 2):
        cluster.lose(broker_id)
    assert (state(cluster).leader, state(cluster).isr) == (3, (3,))
    answer = reassign(cluster, None)
    assert type(answer) is errors.InvalidReplicaAssignmentError
    assert "caught up" in str(answer)
    cluster.lose(3)
    assert state(cluster).leader == NO_LEADER
    assert type(reassign(cluster, None)) is errors.InvalidReplicaAssignmentError


@pytest.mark.parametrize(
    ("replicas", "message"),
    [
        ([], "at least one"),
        ([0, 0], "twice"),
        ([0, 9], "no broker 9"),
        ([0, 3], "not alive"),
        ([0, 4], "drained"),
        ([0, 1, 2, 3, 4], "not alive"),
    ],
)
def test_targets_that_are_refused(cluster: Cluster, replicas: list[int], message: str) -> None:
    cluster.do(FenceBroker(3, 1))
    cluster.do(DrainBroker(4))
    before = cluster.image
    answer = reassign(cluster, replicas)
    assert type(answer) is errors.InvalidReplicaAssignmentError
    assert message in str(answer)
    assert cluster.image is before


def test_a_replica_stays_on_a_broker_that_is_not_alive(cluster: Cluster) -> None:
    cluster.do(FenceBroker(2, 1))
    assert reassign(cluster, [0, 2]) is None
    assert state(cluster).replicas == (0, 2)


def test_unknown_partitions_and_the_same_one_twice(cluster: Cluster) -> None:
    changes = [
        Reassignment("t", 0, [0, 1]),
        Reassignment("t", 0, [0, 2]),
        Reassignment("t", 7, [0]),
        Reassignment("none", 0, [0]),
    ]
    answers = cluster.do(AlterReassignments(changes))
    assert [type(answer) for answer in answers] == [
        type(None),
        errors.InvalidRequestError,
        errors.UnknownTopicOrPartitionError,
        errors.UnknownTopicOrPartitionError,
    ]


def test_a_wider_reassignment_asks_for_no_more_replicas_in_sync() -> None:
    cluster = Cluster.started(brokers=3)
    cluster.create("t", copies=1, min_insync_replicas="2")
    (old,) = state(cluster).replicas
    reassign(cluster, [(old + 1) % 3, (old + 2) % 3])
    assert state(cluster).effective_min_isr(2) == 1


def test_a_topic_that_is_deleted_meanwhile_leaves_nothing(cluster: Cluster) -> None:
    reassign(cluster, [3, 1])
    cluster.propose("t", [0, 1, 2, 3])
    topic_id = cluster.topic("t").topic_id
    cluster.do(DeleteTopics(["t"]))
    slots = cluster.image.removals[PartitionId(topic_id, 0)].slots
    assert {slot.broker_id for slot in slots} == {0, 1, 2, 3}
