"""Incarnations, fencing, elections and epochs."""

from __future__ import annotations

import pytest
from controller_kit import Cluster, topic

from raykafka import errors
from raykafka.controller.brokers import match_broker
from raykafka.controller.commands import (
    AllocatePartitionActor,
    AllocateProducerIds,
    CreateTopics,
    DeleteTopics,
    ElectController,
    FenceBroker,
    LosePartitionActor,
    ProducerIdAnswer,
    RegisterBroker,
    ReportReplicas,
    StartPartitionActor,
    UnfenceBroker,
)
from raykafka.controller.image import NO_LEADER, SlotKey
from raykafka.controller.producer_ids import next_epoch
from raykafka.controller.updates import OpenedPartition
from raykafka.model import PartitionId


@pytest.fixture
def cluster() -> Cluster:
    return Cluster.started(brokers=1, slots=2)


def open_all(cluster: Cluster, name: str, slot: int, incarnation: int) -> None:
    state = cluster.topic(name)
    opened = [
        OpenedPartition(index, partition.leader_epoch)
        for index, partition in enumerate(state.partitions)
        if partition.slots == (slot,)
    ]
    cluster.do(ReportReplicas(0, slot, incarnation, {state.topic_id: opened}))


def test_a_dead_actor_leaves_its_partitions_without_leader_until_the_next_opened_them(
    cluster: Cluster,
) -> None:
    cluster.do(CreateTopics([topic("t", 2)]))
    for slot in (0, 1):
        open_all(cluster, "t", slot, 1)
    assert all(partition.online for partition in cluster.topic("t").partitions)

    cluster.do(LosePartitionActor(0, 0, 1))
    lost, kept = cluster.topic("t").partitions
    assert (lost.leader, lost.leader_epoch, lost.online) == (NO_LEADER, 1, False)
    assert cluster.image.leader_actor(lost) is None
    assert (kept.leader, kept.leader_epoch, kept.online) == (0, 0, True)

    assert cluster.start_slot(0, 0) == 2
    back = cluster.topic("t").partitions[0]
    assert (back.leader, back.leader_epoch, back.online) == (0, 2, False)
    assert back.opened_epoch == 0, "it has held data, so it is never made anew"
    open_all(cluster, "t", 0, 2)
    assert cluster.topic("t").partitions[0].online


def test_reports_of_the_past_are_ignored(cluster: Cluster) -> None:
    cluster.do(CreateTopics([topic("t", 2)]))
    topic_id = cluster.topic("t").topic_id
    cluster.do(LosePartitionActor(0, 0, 1))
    before = cluster.image
    stale = [
        ReportReplicas(0, 0, 1, {topic_id: [OpenedPartition(0, 0)]}),
        ReportReplicas(0, 1, 1, {topic_id: [OpenedPartition(0, 1), OpenedPartition(9, 0)]}),
        ReportReplicas(0, 1, 1, {topic_id: [OpenedPartition(1, 7)]}),
        ReportReplicas(0, 1, 1, {}, [PartitionId(topic_id, 1)]),
        LosePartitionActor(0, 0, 1),
        LosePartitionActor(0, 1, 9),
        FenceBroker(0, 9),
    ]
    for command in stale:
        cluster.do(command)
    assert cluster.image is before
    cluster.start_slot(0, 0)
    for late in (StartPartitionActor(0, 0, 1, "h", 1, 1), StartPartitionActor(0, 5, 1, "h", 1, 1)):
        with pytest.raises(errors.StaleBrokerEpochError):
            cluster.do(late)


def test_a_controller_that_comes_back_adopts_without_a_new_epoch(cluster: Cluster) -> None:
    cluster.do(CreateTopics([topic("t", 2)]))
    before = cluster.image
    cluster.do(StartPartitionActor(0, 0, 1, "h", 1000, 1))
    assert cluster.image is before
    cluster.do(StartPartitionActor(0, 0, 1, "h", 1001, 1))
    assert cluster.image.actors[SlotKey(0, 0)].port == 1001
    assert cluster.topic("t") == before.topic("t")


def test_a_new_incarnation_deposes_the_one_that_was_not_known_to_be_dead(cluster: Cluster) -> None:
    cluster.do(CreateTopics([topic("t", 2)]))
    assert cluster.do(AllocatePartitionActor(0, 0)) == 2
    assert cluster.topic("t").partitions[0].leader == NO_LEADER
    assert not cluster.image.actors[SlotKey(0, 0)].alive


def test_fencing_ends_placement_but_not_service(cluster: Cluster) -> None:
    cluster.do(CreateTopics([topic("t")]))
    open_all(cluster, "t", 0, 1)
    cluster.do(FenceBroker(0, 1))
    assert cluster.topic("t").partitions[0].online
    (answer,) = cluster.do(CreateTopics([topic("u")]))
    assert isinstance(answer.error, errors.InvalidReplicationFactorError)

    broker = cluster.do(RegisterBroker(0, "node-0", "10.0.0.0", "", 2))
    assert broker.incarnation == 2
    with pytest.raises(errors.StaleBrokerEpochError):
        cluster.do(UnfenceBroker(0, 1, 5))
    cluster.do(UnfenceBroker(0, 2, 5))
    (answer,) = cluster.do(CreateTopics([topic("u")]))
    assert answer.error is None


def test_brokers_are_known_again_by_node_then_by_address_then_by_being_alone() -> None:
    image = Cluster.started(brokers=2).image

    def match(node: str, host: str, *others: str) -> int | None:
        broker = match_broker(image, node, host, {node, *others})
        return None if broker is None else broker.broker_id

    assert match("node-1", "moved", "node-0") == 1
    assert match("new", "10.0.0.0", "node-1") == 0, "node-0 is gone, its address is not"
    assert match("new", "10.0.0.0", "node-0", "node-1") is None, "one more node on that machine"
    assert match("new", "10.0.0.9", "node-1") is None, "it might hold anybody's data"

    image = Cluster.started(brokers=1).image
    assert match("new", "other-address") == 0
    assert match("new", "other-address", "one-more") is None


def test_a_pool_grows_and_never_shrinks() -> None:
    cluster = Cluster.started(slots=2)
    for wanted, got in ((4, 4), (1, 4)):
        broker = cluster.do(RegisterBroker(0, "node-0", "10.0.0.0", "", wanted))
        assert broker.slots == got
    with pytest.raises(errors.BrokerIdNotRegisteredError):
        cluster.do(RegisterBroker(9, "node-9", "10.0.0.9", "", 1))


def test_deleting_leaves_a_note_for_the_slots(cluster: Cluster) -> None:
    cluster.do(CreateTopics([topic("t", 2)]))
    topic_id = cluster.topic("t").topic_id
    cluster.do(DeleteTopics(["t"]))
    removals = cluster.image.removals
    assert removals[PartitionId(topic_id, 1)].slots == (SlotKey(0, 1),)
    assert removals[PartitionId(topic_id, 1)].topic == "t"


def test_controller_epochs_grow_and_the_cluster_id_stays(cluster: Cluster) -> None:
    assert cluster.do(ElectController("c" * 32, "test", "h", 1)) == 2
    with pytest.raises(errors.InconsistentClusterIdError):
        cluster.do(ElectController("d" * 32, "test", "h", 1))


def test_producer_ids_are_unique_and_epochs_grow(cluster: Cluster) -> None:
    assert [cluster.do(AllocateProducerIds(10)) for _ in range(3)] == [0, 10, 20]
    image = cluster.image
    assert next_epoch(image, 3, 0) == ProducerIdAnswer(3, 1)
    assert next_epoch(image, 3, 0) == ProducerIdAnswer(3, 1), "asked again"
    assert next_epoch(image, 3, -1) == ProducerIdAnswer(3, 0)
    assert next_epoch(image, 3, 32766) is None, "epochs used up"
    with pytest.raises(errors.UnknownProducerIdError):
        next_epoch(image, 30, 0)
