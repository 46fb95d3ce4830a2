"""A machine with its log in a list, checked after every step."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from raykafka.controller.commands import (
    AllocatePartitionActor,
    ElectController,
    RegisterBroker,
    StartPartitionActor,
    TopicToCreate,
    UnfenceBroker,
)
from raykafka.controller.image import MetadataImage, TopicState
from raykafka.controller.invariants import validate, validate_step
from raykafka.controller.machine import ClusterMetadataMachine
from raykafka.controller.settings import Settings
from raykafka.model import TopicId

_IDS = itertools.count(1)


def topic(
    name: str, partitions: int = 1, *, configs: Mapping[str, str] | None = None, schema: bytes = b""
) -> TopicToCreate:
    topic_id = TopicId(f"{next(_IDS):032x}")
    return TopicToCreate(name, topic_id, partitions, -1, dict(configs or {}), schema)


class Cluster:
    """Runs commands as a shell does, minus the disk; every image it passes through is valid."""

    def __init__(self, static: Mapping[str, str] | None = None) -> None:
        self.settings = Settings(static or {})
        self.machine = ClusterMetadataMachine(self.settings)
        self.log: list[bytes] = []

    @classmethod
    def started(
        cls, *, brokers: int = 1, slots: int = 1, static: Mapping[str, str] | None = None
    ) -> Cluster:
        cluster = cls(static)
        cluster.do(ElectController("c" * 32, "test", "127.0.0.1", 9))
        for index in range(brokers):
            place = (f"node-{index}", f"10.0.0.{index}", "", slots)
            registered = cluster.do(RegisterBroker(-1, *place))
            broker = cluster.do(RegisterBroker(registered.broker_id, *place))
            cluster.do(UnfenceBroker(broker.broker_id, broker.incarnation, 100 + index))
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
