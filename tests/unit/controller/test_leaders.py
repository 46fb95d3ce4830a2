"""Elections on demand, and brokers that stop, drain and leave."""

from __future__ import annotations

import pytest
from controller_kit import Cluster, topic

from raykafka import errors
from raykafka.controller.commands import (
    AlterReassignments,
    CreateTopics,
    DrainBroker,
    ElectLeaders,
    FenceBroker,
    Reassignment,
    RegisterBroker,
    ResumeBroker,
    ShutDownBroker,
    UnregisterBroker,
)
from raykafka.controller.image import NO_LEADER, PartitionState, SlotKey
from raykafka.model import TopicPartition

T0 = TopicPartition("t", 0)


@pytest.fixture
def cluster() -> Cluster:
    cluster = Cluster.started(brokers=3)
    wanted = topic("t", assignments=[[0, 1, 2]], configs={"min.insync.replicas": "2"})
    cluster.do(CreateTopics([wanted]))
    for broker_id in range(3):
        cluster.open_all(SlotKey(broker_id, 0))
    return cluster


def state(cluster: Cluster) -> PartitionState:
    return cluster.topic("t").partitions[0]


def elect(cluster: Cluster, *, unclean: bool = False) -> errors.RaykafkaError | None:
    (answer,) = cluster.do(ElectLeaders(unclean, [T0]))
    assert answer.error is None or isinstance(answer.error, errors.RaykafkaError)
    return answer.error


def test_the_preferred_leader_comes_back_on_demand(cluster: Cluster) -> None:
    assert type(elect(cluster)) is errors.ElectionNotNeededError
    cluster.lose(0)
    assert type(elect(cluster)) is errors.PreferredLeaderNotAvailableError
    cluster.start_slot(0, 0)
    assert type(elect(cluster)) is errors.PreferredLeaderNotAvailableError, "it is not in sync"
    assert cluster.do(ElectLeaders(unclean=False)) == []
    cluster.propose("t", [0, 1, 2])
    (answer,) = cluster.do(ElectLeaders(unclean=False))
    assert (answer.topic, answer.partition, answer.error) == ("t", 0, None)
    assert (state(cluster).leader, state(cluster).leader_epoch) == (0, 2)


def test_unclean_elections_are_for_partitions_that_nobody_leads(cluster: Cluster) -> None:
    assert type(elect(cluster, unclean=True)) is errors.ElectionNotNeededError
    cluster.propose("t", [0, 1])
    for broker_id in (0, 1, 2):
        cluster.lose(broker_id)
    assert type(elect(cluster, unclean=True)) is errors.EligibleLeadersNotAvailableError
    cluster.start_slot(2, 0)
    assert state(cluster).leader == NO_LEADER
    assert elect(cluster, unclean=True) is None
    assert (state(cluster).leader, state(cluster).isr, state(cluster).elr) == (2, (2,), ())


def test_an_eligible_replica_goes_before_an_unclean_one(cluster: Cluster) -> None:
    cluster.propose("t", [0])
    cluster.lose(0)
    assert state(cluster).leader == 1
    (answer,) = cluster.do(ElectLeaders(True, [TopicPartition("t", 3)]))
    assert type(answer.error) is errors.UnknownTopicOrPartitionError


# --- brokers ------------------------------------------------------------------------------------


def test_a_broker_that_stops_hands_over_first(cluster: Cluster) -> None:
    assert cluster.do(ShutDownBroker(0)) == 0
    after = state(cluster)
    assert (after.leader, after.leader_epoch, after.isr, after.elr) == (1, 1, (1, 2), ())
    assert not cluster.image.may_serve(SlotKey(0, 0))
    answer = cluster.propose("t", [0, 1, 2])
    assert type(answer.error) is errors.IneligibleReplicaError
    (created,) = cluster.do(CreateTopics([topic("u", 1, 3)]))
    assert type(created.error) is errors.InvalidReplicationFactorError
    cluster.lose(0)
    cluster.restart_broker(0)
    cluster.start_slot(0, 0)
    assert cluster.propose("t", [0, 1, 2]).error is None
    assert elect(cluster) is None


def test_a_broker_does_not_stop_where_too_few_would_be_in_sync(cluster: Cluster) -> None:
    cluster.lose(2)
    before = cluster.image
    with pytest.raises(errors.NotEnoughReplicasError, match=r"t-0, whose writes need 2.*\[2\]"):
        cluster.do(ShutDownBroker(0))
    assert cluster.image is before
    cluster.do(ShutDownBroker(2))
    assert cluster.do(ShutDownBroker(0, force=True)) == 0
    assert (state(cluster).leader, state(cluster).isr, state(cluster).elr) == (1, (1,), (0,))


def test_a_single_copy_is_served_until_the_end(cluster: Cluster) -> None:
    cluster.do(CreateTopics([topic("one", assignments=[[1]])]))
    assert cluster.do(ShutDownBroker(1)) == 1
    assert cluster.topic("one").partitions[0].leader == 1
    cluster.lose(0)
    assert cluster.topic("one").partitions[0].leader == 1, "others' deaths do not matter to it"
    cluster.do(ResumeBroker(1))
    assert cluster.image.may_serve(SlotKey(1, 0))
    before = cluster.image
    cluster.do(ResumeBroker(1))
    cluster.do(ResumeBroker(9))
    assert cluster.image is before


def test_a_broker_that_did_not_stop_leads_what_waited_for_it() -> None:
    cluster = Cluster.started(brokers=2)
    cluster.create("one", copies=1)
    (holder,) = cluster.topic("one").partitions[0].replicas
    cluster.do(ShutDownBroker(holder))
    cluster.lose(holder)
    cluster.start_slot(holder, 0)
    assert cluster.topic("one").partitions[0].leader == NO_LEADER, "it is about to stop"
    cluster.do(ResumeBroker(holder))
    assert cluster.topic("one").partitions[0].leader == holder


def test_a_drained_broker_takes_nothing_new(cluster: Cluster) -> None:
    with pytest.raises(errors.InvalidReplicationFactorError, match="t-0 has 3 replicas"):
        cluster.do(DrainBroker(2))
    cluster.do(AlterReassignments([Reassignment("t", 0, [0, 2])]))
    cluster.do(DrainBroker(2))
    (created,) = cluster.do(CreateTopics([topic("u", 4, 2)]))
    assert created.error is None
    assert {b for p in cluster.topic("u").partitions for b in p.replicas} == {0, 1}
    cluster.restart_broker(2)
    assert cluster.image.brokers[2].draining, "also after a restart"
    cluster.do(DrainBroker(2, draining=False))
    assert not cluster.image.brokers[2].draining


def test_an_empty_broker_leaves_for_good(cluster: Cluster) -> None:
    with pytest.raises(errors.InvalidRequestError, match="1 replicas"):
        cluster.do(UnregisterBroker(2))
    cluster.do(AlterReassignments([Reassignment("t", 0, [0, 1])]))
    assert cluster.image.removals
    with pytest.raises(errors.InvalidRequestError, match="still runs"):
        cluster.do(UnregisterBroker(2))
    cluster.lose(2)
    cluster.do(FenceBroker(2, 1))
    cluster.do(UnregisterBroker(2))
    assert set(cluster.image.brokers) == {0, 1}
    assert cluster.image.retired == {2: "node-2"}
    assert not cluster.image.removals, "nobody is left to remove its files"
    assert cluster.do(RegisterBroker(-1, "new", "h", "", 1)).broker_id == 3
    with pytest.raises(errors.BrokerIdNotRegisteredError):
        cluster.do(UnregisterBroker(2))
