"""Replay gives the same image, random commands keep it valid, and large topics are cheap."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable
from typing import Any, get_args

import msgspec
import pytest
from controller_kit import Cluster, topic
from hypothesis import given, settings
from hypothesis import strategies as st

from raykafka.controller import commands
from raykafka.controller.apply import apply_updates
from raykafka.controller.image import MetadataImage, PartitionActorState, SlotKey
from raykafka.controller.invariants import validate
from raykafka.controller.machine import ClusterMetadataMachine
from raykafka.controller.settings import Settings
from raykafka.controller.updates import (
    LeaderChange,
    LeadersChanged,
    OpenedPartition,
    Update,
    decode,
)
from raykafka.errors import RaykafkaError, UnsupportedVersionError
from raykafka.model import PartitionId, TopicId

KINDS = [
    *("create", "create", "grow", "delete", "alter", "schema", "producer ids", "elect"),
    *("register", "unfence", "fence", "allocate", "start", "start", "lose", "report", "report"),
    *("start", "start", "isr", "isr", "isr", "fail", "unfence", "reassign", "reassign", "cancel"),
    *("leaders", "drain", "shut down", "resume", "unregister", "isr", "start"),
]
STEPS = st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 255)), min_size=10, max_size=60)


def _report(image: MetadataImage, slot: SlotKey, dice: int) -> Any:
    """What the slot's actor says: mostly the truth, at times of an epoch that is over."""
    opened = {
        topic_id: [
            OpenedPartition(index, partition.leader_epoch - dice % 5 // 4)
            for index, partition in enumerate(state.partitions)
        ]
        for topic_id, state in image.topics.items()
    }
    return commands.ReportReplicas(
        *slot, image.actors[slot].incarnation, opened, sorted(image.removals)
    )


def _proposal(image: MetadataImage, slot: SlotKey, dice: int) -> Any:
    """What the slot's actor says about the ISR of what it leads: at times it is out of date."""
    changes = []
    for topic_id, state in image.topics.items():
        for index, partition in enumerate(state.partitions):
            if partition.leader != slot.broker_id:
                continue
            members = [
                commands.IsrMember(id_, image.actors[key].incarnation - (dice % 13 == 0))
                for id_ in partition.replicas
                if (key := partition.slot_of(id_)) in image.actors
                and (id_ == partition.leader or (dice + id_) % 3)
            ]
            epoch = partition.partition_epoch - (dice % 11 == 0)
            changes.append(
                commands.IsrChange(topic_id, index, partition.leader_epoch, epoch, members)
            )
    return commands.AlterPartitions(*slot, image.actors[slot].incarnation, changes)


def _replicas(image: MetadataImage, dice: int) -> list[int]:
    count = len(image.brokers)
    brokers = sorted(image.brokers)
    return [brokers[(dice + step) % count] for step in range(1 + dice // 4 % min(3, count))]


def _failure(image: MetadataImage, slot: SlotKey, dice: int) -> Any:
    partitions = [PartitionId(topic_id, dice % 4) for topic_id in image.topics]
    return commands.FailReplicas(*slot, image.actors[slot].incarnation, partitions)


def _command(image: MetadataImage, kind: str, dice: int) -> Any:
    """A command that makes sense most of the time; now and then it is out of date."""
    name = f"topic-{dice % 3}"
    broker = image.brokers[sorted(image.brokers)[dice % len(image.brokers)]]
    broker_age = broker.incarnation - (dice // 4 % 6 == 0)
    slot = SlotKey(broker.broker_id, dice // 3 % broker.slots)
    actor = image.actors.get(slot, PartitionActorState(1))
    age = actor.incarnation - (dice // 16 % 5 == 0)
    change = commands.SettingChange("retention.ms", str(dice), "delete" if dice % 2 else "set")
    resource = commands.ResourceToAlter("topic", name, [change])
    schema = b"s" if dice % 2 else b""
    configs = {"min.insync.replicas": str(1 + dice // 12 % 3)}
    if dice // 36 % 4 == 0:
        configs["unclean.leader.election.enable"] = "true"
    table: dict[str, Callable[[], Any]] = {
        "create": lambda: commands.CreateTopics(
            [topic(name, 1 + dice % 4, 1 + dice // 4 % 3, configs=configs, schema=schema)]
        ),
        "grow": lambda: commands.CreatePartitions([commands.PartitionsToCreate(name, dice % 9)]),
        "delete": lambda: commands.DeleteTopics([name]),
        "alter": lambda: commands.AlterConfigs([resource]),
        "schema": lambda: commands.AddSchema(name, 1 + dice % 3, b"more"),
        "producer ids": lambda: commands.AllocateProducerIds(1 + dice),
        "elect": lambda: commands.ElectController("c" * 32, "test", "h", 1),
        "register": lambda: commands.RegisterBroker(
            dice % 4 - 1 if len(image.brokers) < 5 else broker.broker_id, "n", "h", "", 1 + dice % 3
        ),
        "unfence": lambda: commands.UnfenceBroker(
            broker.broker_id, broker_age, 7 + dice % 2, f"d{dice // 32}", dice % 3 > 0
        ),
        "fence": lambda: commands.FenceBroker(broker.broker_id, broker_age),
        "allocate": lambda: commands.AllocatePartitionActor(*slot),
        "start": lambda: commands.StartPartitionActor(*slot, age, "h", 1 + dice, 1),
        "lose": lambda: commands.LosePartitionActor(*slot, age),
        "report": lambda: _report(image, slot, dice) if slot in image.actors else None,
        "isr": lambda: _proposal(image, slot, dice) if slot in image.actors else None,
        "reassign": lambda: commands.AlterReassignments(
            [commands.Reassignment(name, dice % 2, _replicas(image, dice))]
        ),
        "cancel": lambda: commands.AlterReassignments(
            [commands.Reassignment(name, index, None) for index in (0, 1)]
        ),
        "leaders": lambda: commands.ElectLeaders(dice % 3 == 0),
        "drain": lambda: commands.DrainBroker(broker.broker_id, dice % 3 > 0),
        "shut down": lambda: commands.ShutDownBroker(broker.broker_id, dice % 2 > 0),
        "resume": lambda: commands.ResumeBroker(broker.broker_id),
        "unregister": lambda: commands.UnregisterBroker(broker.broker_id),
        "fail": lambda: _failure(image, slot, dice) if slot in image.actors else None,
    }
    return table[kind]()


def _play(steps: list[tuple[str, int]]) -> Cluster:
    cluster = Cluster.started(brokers=3, slots=2)
    for kind, dice in steps:
        command = _command(cluster.image, kind, dice)
        if command is None:
            continue
        with contextlib.suppress(RaykafkaError):
            cluster.do(command)
    return cluster


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_random_commands_keep_the_image_valid_and_replay_repeats_it(
    steps: list[tuple[str, int]],
) -> None:
    cluster = _play(steps)
    assert cluster.replayed() == cluster.image


def test_random_commands_reach_every_update() -> None:
    """The test above is worth something: its commands do all there is to do."""
    chance = random.Random(1)
    seen: set[str] = set()
    for _ in range(80):
        steps = [(chance.choice(KINDS), chance.randrange(256)) for _ in range(60)]
        seen.update(type(decode(data)).__name__ for data in _play(steps).log)
    everything = {update.__name__ for update in get_args(Update)}
    assert everything - seen == {"BrokerConfigChanged", "LeadersChanged"}


def test_a_log_from_before_replication_is_read() -> None:
    """Entries as they were written when every partition had one replica."""
    cluster = Cluster.started(brokers=1)
    topic_id = TopicId("a" * 32)
    entries = [
        {
            "type": "TopicCreated",
            "topic_id": topic_id,
            "name": "t",
            "partitions": [[[0], [0], 0], [[0], [0], 0]],
        },
        {"type": "PartitionsOpened", "topic_id": topic_id, "opened": [[0, 0]]},
        {"type": "PartitionActorLost", "broker_id": 0, "slot": 0, "incarnation": 1},
        {"type": "LeadersChanged", "topic_id": topic_id, "changes": [[0, -1, 1], [1, -1, 1]]},
        {"type": "BrokerUnfenced", "broker_id": 0, "incarnation": 1, "pid": 5},
    ]
    for entry in entries:
        cluster.machine.replay([decode(msgspec.msgpack.encode(entry))])
    validate(cluster.image)
    first, second = cluster.topic("t").partitions
    assert (first.isr, first.leader, first.leader_epoch, first.opened_by) == ((0,), -1, 1, (0,))
    assert second.opened_by == ()
    cluster.start_slot(0, 0)
    state = cluster.topic("t").partitions[0]
    assert (state.leader, state.leader_epoch, state.isr) == (0, 2, (0,))


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
