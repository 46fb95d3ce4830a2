"""A machine with its log in a list, checked after every step."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from raykafka.controller.commands import (
    AllocatePartitionActor,
    AlterPartitions,
    CreateTopics,
    ElectController,
    IsrAnswer,
    IsrChange,
    IsrMember,
    LosePartitionActor,
    RegisterBroker,
    ReportReplicas,
    StartPartitionActor,
    TopicToCreate,
    UnfenceBroker,
)
from raykafka.controller.image import MetadataImage, SlotKey, TopicState
from raykafka.controller.invariants import validate, validate_step
from raykafka.controller.machine import ClusterMetadataMachine
from raykafka.controller.settings import Settings
from raykafka.controller.updates import OpenedPartition
from raykafka.model import TopicId

_IDS = itertools.count(1)


def topic(
    name: str,
    partitions: int = 1,
    copies: int = -1,
    *,
    configs: Mapping[str, str] | None = None,
    schema: bytes = b"",
    assignments: Sequence[Sequence[int]] = (),
) -> TopicToCreate:
    topic_id = TopicId(f"{next(_IDS):032x}")
    count = -1 if assignments else partitions
    return TopicToCreate(name, topic_id, count, copies, dict(configs or {}), schema, assignments)


class Cluster:
    """Runs commands as a shell does, minus the disk; every image it passes through is valid."""

    def __init__(self, static: Mapping[str, str] | None = None) -> None:
        self.settings = Settings(static or {})
        self.machine = ClusterMetadataMachine(self.settings)
        self.log: list[bytes] = []

    @classmethod
    def started(
        cls,
        *,
        brokers: int = 1,
        slots: int = 1,
        static: Mapping[str, str] | None = None,
        racks: Sequence[str] = (),
    ) -> Cluster:
        cluster = cls(static)
        cluster.do(ElectController("c" * 32, "test", "127.0.0.1", 9))
        for index in range(brokers):
            place = (f"node-{index}", f"10.0.0.{index}", racks[index] if racks else "", slots)
            registered = cluster.do(RegisterBroker(-1, *place))
            broker = cluster.do(RegisterBroker(registered.broker_id, *place))
            directory = f"directory-{index}"
            cluster.do(UnfenceBroker(broker.broker_id, broker.incarnation, 100 + index, directory))
            for slot in range(slots):
                cluster.start_slot(broker.broker_id, slot)
        return cluster

    @property
    def image(self) -> MetadataImage:
        return self.machine.image

    def topic(self, name: str) -> TopicState:
        found = self.image.topic(name)
        assert found is not None
        return found

    def start_slot(self, broker_id: int, slot: int) -> int:
        incarnation = self.do(AllocatePartitionActor(broker_id, slot))
        self.do(StartPartitionActor(broker_id, slot, incarnation, "h", 1000 + slot, 1))
        assert isinstance(incarnation, int)
        return incarnation

    def create(self, name: str, partitions: int = 1, copies: int = 1, **configs: str) -> None:
        """A topic with data: every replica has opened its log."""
        settings = {key.replace("_", "."): value for key, value in configs.items()}
        (answer,) = self.do(CreateTopics([topic(name, partitions, copies, configs=settings)]))
        assert answer.error is None, answer.error
        for slot, actor in self.image.actors.items():
            if actor.alive:
                self.open_all(slot)

    def open_all(self, slot: SlotKey) -> None:
        """The slot's actor says that everything it was told is open."""
        opened = {
            topic_id: [
                OpenedPartition(index, partition.leader_epoch)
                for index, partition in enumerate(state.partitions)
            ]
            for topic_id, state in self.image.topics.items()
        }
        self.do(ReportReplicas(*slot, self.image.actors[slot].incarnation, opened))

    def lose(self, broker_id: int, slot: int = 0) -> None:
        """The slot's actor dies."""
        incarnation = self.image.actors[SlotKey(broker_id, slot)].incarnation
        self.do(LosePartitionActor(broker_id, slot, incarnation))

    def propose(self, name: str, isr: Sequence[int], **stale: int) -> IsrAnswer:
        """What the leader of the topic's first partition is answered to an ISR."""
        state = self.topic(name)
        partition = state.partitions[0]
        slot = partition.slot_of(partition.leader)
        actors = self.image.actors
        members = [IsrMember(id_, actors[partition.slot_of(id_)].incarnation) for id_ in isr]
        change = IsrChange(
            state.topic_id, 0, partition.leader_epoch, partition.partition_epoch, members
        )._replace(**stale)
        (answer,) = self.do(AlterPartitions(*slot, actors[slot].incarnation, [change]))
        assert isinstance(answer, IsrAnswer)
        return answer

    def restart_broker(self, broker_id: int, **said: Any) -> None:
        """The broker is made anew on its node; ``said`` is what its log directory tells."""
        known = self.image.brokers[broker_id]
        place = (known.node_id, known.host, known.rack, known.slots)
        broker = self.do(RegisterBroker(broker_id, *place))
        directory = said.pop("directory_id", known.directory_id)
        self.do(UnfenceBroker(broker_id, broker.incarnation, 7, directory, **said))

    def do(self, command: Any) -> Any:
        before = self.machine.image
        outcome = self.machine.handle(command, now_ms=0)
        assert self.machine.image is before, "handle changes nothing"
        encoded = [self.machine.encode(record) for record in outcome.records]
        self.machine.replay([self.machine.decode(data) for data in encoded])
        self.log.extend(encoded)
        validate(self.machine.image)
        validate_step(before, self.machine.image)
        return outcome.answer

    def replayed(self) -> MetadataImage:
        """The image that another machine gets from the log, one record at a time."""
        machine = ClusterMetadataMachine(self.settings)
        for data in self.log:
            machine.replay([machine.decode(data)])
        return machine.image
