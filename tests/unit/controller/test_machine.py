"""Replay gives the same image, random commands keep it valid, and large topics are cheap."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest
from controller_kit import Cluster, topic
from hypothesis import given, settings
from hypothesis import strategies as st

from raykafka.controller import commands
from raykafka.controller.apply import apply_updates
from raykafka.controller.image import MetadataImage
from raykafka.controller.machine import ClusterMetadataMachine
from raykafka.controller.settings import Settings
from raykafka.controller.updates import LeaderChange, LeadersChanged, OpenedPartition, Update
from raykafka.errors import RaykafkaError, UnsupportedVersionError
from raykafka.model import PartitionId

NAMES = st.sampled_from(["a", "b", "c"])
BROKERS = st.integers(0, 2)
SLOTS = st.integers(0, 1)
SMALL = st.integers(1, 3)
NODES = st.sampled_from(["n0", "n1", "n2"])


def _create(name: str, count: int) -> Any:
    return commands.CreateTopics([topic(name, count)])


COMMANDS = st.one_of(
    st.builds(_create, NAMES, SMALL),
    st.builds(lambda name: commands.DeleteTopics([name]), NAMES),
    st.builds(
        lambda name, count: commands.CreatePartitions([commands.PartitionsToCreate(name, count)]),
        NAMES,
        st.integers(1, 6),
    ),
    st.builds(commands.RegisterBroker, st.integers(-1, 2), NODES, st.just("h"), st.just(""), SMALL),
    st.builds(commands.UnfenceBroker, BROKERS, SMALL, st.just(7)),
    st.builds(commands.FenceBroker, BROKERS, SMALL),
    st.builds(commands.LosePartitionActor, BROKERS, SLOTS, SMALL),
    st.builds(commands.StartPartitionActor, BROKERS, SLOTS, SMALL, st.just("h"), SMALL, st.just(1)),
    st.builds(commands.AllocateProducerIds, SMALL),
    st.just("allocate"),
    st.just("report"),
    st.just("elect"),
)


def _resolve(cluster: Cluster, command: Any, draw: Any) -> Any:
    """Commands that only make sense against what there is."""
    image = cluster.image
    if command == "elect":
        return commands.ElectController("c" * 32, "test", "h", 1)
    if command == "allocate":
        places = [(b.broker_id, s) for b in image.brokers.values() for s in range(b.slots)]
        place = draw(st.sampled_from(places)) if places else None
        return commands.AllocatePartitionActor(*place) if place else commands.AllocateProducerIds(1)
    if command == "report":
        if not image.actors:
            return commands.AllocateProducerIds(1)
        slot = draw(st.sampled_from(sorted(image.actors)))
        opened = {
            topic_id: [
                OpenedPartition(index, partition.leader_epoch - draw(st.integers(0, 1)))
                for index, partition in enumerate(state.partitions)
            ]
            for topic_id, state in image.topics.items()
        }
        removed: list[PartitionId] = sorted(image.removals)
        return commands.ReportReplicas(*slot, image.actors[slot].incarnation, opened, removed)
    return command


@settings(max_examples=150, deadline=None)
@given(st.lists(COMMANDS, max_size=40), st.data())
def test_random_commands_keep_the_image_valid_and_replay_repeats_it(
    steps: list[Any], data: st.DataObject
) -> None:
    cluster = Cluster()
    for step in steps:
        try:
            cluster.do(_resolve(cluster, step, data.draw))
        except RaykafkaError:
            continue
    assert cluster.replayed() == cluster.image


def test_a_log_of_a_newer_version_stops_the_replay() -> None:
    unknown = msgspec.msgpack.encode({"type": "PartitionReassigned", "topic_id": "x"})
    for data in (unknown, b"\xc1", b""):
        with pytest.raises(UnsupportedVersionError, match="newer"):
            ClusterMetadataMachine.decode(data)


def test_a_field_of_a_newer_version_is_skipped() -> None:
    data = msgspec.msgpack.encode(
        {"type": "ProducerIdsAllocated", "next_producer_id": 4, "reason": "new"}
    )
    machine = ClusterMetadataMachine(Settings({}))
    machine.replay([machine.decode(data)])
    assert machine.image.next_producer_id == 4


def test_an_old_image_stays_as_it_was() -> None:
    cluster = Cluster.started()
    cluster.do(commands.CreateTopics([topic("t", 3)]))
    before = cluster.image
    partitions = before.topics[before.topic_ids["t"]].partitions
    cluster.do(commands.DeleteTopics(["t"]))
    cluster.do(commands.CreateTopics([topic("u", 3)]))
    assert set(before.topic_ids) == {"t"}
    assert before.topics[before.topic_ids["t"]].partitions is partitions


def test_large_topics_are_cheap() -> None:
    """1,000 partitions and as many leader changes, one update each: 15 ms where it was written."""
    cluster = Cluster.started(slots=4)
    machine = cluster.machine
    create = commands.CreateTopics([topic("t", 1000)])
    started = time.perf_counter()
    machine.replay(machine.handle(create, now_ms=0).records)
    topic_id = machine.image.topic_ids["t"]
    changes: list[Update] = [
        LeadersChanged(topic_id, [LeaderChange(index, 0, 1)]) for index in range(1000)
    ]
    machine.replay(changes)
    batched = time.perf_counter() - started
    assert {partition.leader_epoch for partition in cluster.topic("t").partitions} == {1}
    assert batched < 0.3

    image: MetadataImage = machine.image
    started = time.perf_counter()
    for index in range(1000):
        change = LeadersChanged(topic_id, [LeaderChange(index, 0, 2)])
        image = apply_updates(image, [change])
    assert time.perf_counter() - started < 0.3, "one at a time"
