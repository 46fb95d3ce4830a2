"""What leaders propose about the ISR, and what they are refused (KIP-497, KIP-903)."""

from __future__ import annotations

import pytest
from controller_kit import Cluster

from raykafka import errors
from raykafka.controller.commands import AlterPartitions, IsrChange, IsrMember
from raykafka.controller.image import SlotKey
from raykafka.model import TopicId


@pytest.fixture
def cluster() -> Cluster:
    cluster = Cluster.started(brokers=3)
    cluster.create("t", copies=3, min_insync_replicas="2")
    return cluster


def test_shrinking_and_expanding(cluster: Cluster) -> None:
    leader, second, third = cluster.topic("t").partitions[0].replicas
    answer = cluster.propose("t", [leader])
    state = cluster.topic("t").partitions[0]
    assert answer.error is None
    assert (answer.leader, answer.leader_epoch, answer.isr) == (leader, 0, (leader,))
    assert answer.partition_epoch == state.partition_epoch == 1
    assert (state.isr, set(state.elr)) == ((leader,), {second, third})
    assert cluster.propose("t", [third, leader]).isr == (leader, third), "in order of preference"
    state = cluster.topic("t").partitions[0]
    assert (state.isr, state.elr, state.partition_epoch) == ((leader, third), (), 2)


def test_the_same_isr_again_is_no_change(cluster: Cluster) -> None:
    before = cluster.image
    answer = cluster.propose("t", cluster.topic("t").partitions[0].isr)
    assert (answer.error, answer.partition_epoch) == (None, 0)
    assert cluster.image is before


def test_refusals_change_nothing(cluster: Cluster) -> None:
    leader, second, third = cluster.topic("t").partitions[0].replicas
    cluster.lose(third)
    before = cluster.image
    newest = cluster.topic("t").partitions[0].partition_epoch
    refused = [
        (cluster.propose("t", [leader], leader_epoch=-1), errors.FencedLeaderEpochError),
        (cluster.propose("t", [leader], leader_epoch=5), errors.UnknownLeaderEpochError),
        (
            cluster.propose("t", [leader], partition_epoch=newest - 1),
            errors.InvalidUpdateVersionError,
        ),
        (
            cluster.propose("t", [leader], partition_epoch=newest + 1),
            errors.InvalidUpdateVersionError,
        ),
        (cluster.propose("t", [second]), errors.InvalidRequestError),
        (cluster.propose("t", [leader, leader]), errors.InvalidRequestError),
        (cluster.propose("t", [leader, second, third]), errors.IneligibleReplicaError),
        (cluster.propose("t", [leader], topic_id=TopicId("0" * 32)), errors.UnknownTopicIdError),
        (cluster.propose("t", [leader], partition=7), errors.UnknownTopicIdError),
    ]
    for answer, error in refused:
        assert type(answer.error) is error
    assert cluster.image is before


def test_a_member_of_the_past_is_not_eligible(cluster: Cluster) -> None:
    leader, second, third = cluster.topic("t").partitions[0].replicas
    cluster.lose(third)
    cluster.start_slot(third, 0)
    state = cluster.topic("t")
    members = [IsrMember(leader, 1), IsrMember(second, 1), IsrMember(third, 1)]
    change = IsrChange(state.topic_id, 0, 0, state.partitions[0].partition_epoch, members)
    (answer,) = cluster.do(AlterPartitions(leader, 0, 1, [change]))
    assert type(answer.error) is errors.IneligibleReplicaError
    assert cluster.propose("t", [leader, second, third]).error is None


def test_only_the_leader_proposes(cluster: Cluster) -> None:
    leader, second, _ = cluster.topic("t").partitions[0].replicas
    topic_id = cluster.topic("t").topic_id
    change = IsrChange(topic_id, 0, 0, 0, [IsrMember(second, 1)])
    (answer,) = cluster.do(AlterPartitions(second, 0, 1, [change]))
    assert type(answer.error) is errors.NotLeaderOrFollowerError
    for stale in (AlterPartitions(leader, 0, 9, [change]), AlterPartitions(leader, 5, 1, [change])):
        with pytest.raises(errors.StaleBrokerEpochError):
            cluster.do(stale)


def test_one_bad_proposal_leaves_the_others_alone(cluster: Cluster) -> None:
    cluster.create("u", 3, copies=3)
    state = cluster.topic("u")
    leader = state.partitions[0].leader
    mine = [i for i, p in enumerate(state.partitions) if p.leader == leader]
    good = IsrChange(state.topic_id, mine[0], 0, 0, [IsrMember(leader, 1)])
    bad = good._replace(leader_epoch=3)
    answers = cluster.do(AlterPartitions(*SlotKey(leader, 0), 1, [bad, good, good]))
    kinds = [type(answer.error) for answer in answers]
    assert kinds == [errors.UnknownLeaderEpochError, type(None), errors.InvalidRequestError]
    assert cluster.topic("u").partitions[mine[0]].isr == (leader,)
