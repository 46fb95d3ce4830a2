"""What a partition actor still has to be told: the image against what it has acknowledged.

Pure bookkeeping. A topic whose state object has not changed since it was settled is skipped, so a
look at a large cluster costs a comparison per topic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from raykafka.actors.ports import AssignmentResult, PartitionAssignment, PartitionRemoval
from raykafka.controller.image import MetadataImage, SlotKey, TopicState
from raykafka.controller.updates import OpenedPartition
from raykafka.errors import RaykafkaError, error_for
from raykafka.model import LeaderEpoch, PartitionId, TopicId

MAX_ASSIGNMENTS: Final = 1000
"""Replicas in one call: enough to make the call cheap, few enough to see progress."""
_RETRY_MS: Final = 1000
"""Before a replica that could not be opened or removed is tried again."""


class _Told(NamedTuple):
    """The version of a replica that the actor has acknowledged."""

    leader_epoch: int
    settings_version: int
    overrides: Mapping[str, str]


@dataclass(slots=True)
class Plan:
    """The next steps; calls come first, reports are made when there are no calls."""

    assignments: list[PartitionAssignment] = field(default_factory=list)
    versions: list[_Told] = field(default_factory=list)
    """What each assignment tells."""
    removals: list[PartitionRemoval] = field(default_factory=list)
    opened: dict[TopicId, list[OpenedPartition]] = field(default_factory=dict)
    """Acknowledged, but not in the image yet."""
    removed: list[PartitionId] = field(default_factory=list)

    @property
    def calls(self) -> bool:
        """Whether the actor has to be called."""
        return bool(self.assignments or self.removals)

    @property
    def reports(self) -> bool:
        """Whether the metadata have to be told."""
        return bool(self.opened or self.removed)


class SlotPlanner:
    """Book of one slot."""

    def __init__(self, slot: SlotKey) -> None:
        self.slot = slot
        self.failures: dict[PartitionId, RaykafkaError] = {}
        """Replicas that the actor could not open, and why."""
        self._told: dict[TopicId, dict[int, _Told]] = {}
        self._settled: dict[TopicId, TopicState] = {}
        self._overrides: Mapping[str, str] = {}
        self._removed: set[PartitionId] = set()
        self._retry_ms: dict[PartitionId, int] = {}

    def forget(self) -> None:
        """A new actor knows nothing."""
        self.failures.clear()
        self._told.clear()
        self._settled.clear()
        self._removed.clear()
        self._retry_ms.clear()

    def is_settled(self, topic: TopicState, overrides: Mapping[str, str]) -> bool:
        """Whether every replica of ``topic`` here is told of its newest settings."""
        told = self._told.get(topic.topic_id, {})
        return all(
            told.get(index) == _Told(epoch, topic.settings_version, overrides)
            for index, epoch in self._led(topic)
        )

    def plan(self, image: MetadataImage, overrides: Mapping[str, str], now_ms: int) -> Plan:
        """What is to be done now; ``overrides`` are topic settings that hold for all topics."""
        if overrides != self._overrides:
            self._overrides = overrides
            self._settled.clear()
        plan = Plan()
        self._forget_deleted(image)
        self._plan_removals(image, plan, now_ms)
        for topic in image.topics.values():
            if self._settled.get(topic.topic_id) is not topic:
                self._plan_topic(topic, plan, now_ms)
            if len(plan.assignments) >= MAX_ASSIGNMENTS:
                break
        return plan

    def note(
        self, plan: Plan, results: Sequence[AssignmentResult], now_ms: int
    ) -> list[tuple[PartitionId, RaykafkaError]]:
        """Take down what the actor answered to ``plan``; returns failures that are new."""
        versions = {
            assignment.partition: version
            for assignment, version in zip(plan.assignments, plan.versions, strict=True)
        }
        news: list[tuple[PartitionId, RaykafkaError]] = []
        for result in results:
            partition = result.partition
            if result.error_code:
                error = error_for(result.error_code, result.error_message)
                if str(self.failures.get(partition)) != str(error):
                    news.append((partition, error))
                self.failures[partition] = error
                self._retry_ms[partition] = now_ms + _RETRY_MS
                continue
            self.failures.pop(partition, None)
            self._retry_ms.pop(partition, None)
            version = versions.get(partition)
            if version is None:
                self._removed.add(partition)
            else:
                told = self._told.setdefault(partition.topic_id, {})
                told[partition.partition] = version
        return news

    def _forget_deleted(self, image: MetadataImage) -> None:
        self._removed.intersection_update(image.removals)
        gone = {*self._told, *self._settled}.difference(image.topics)
        for topic_id in gone:
            self._told.pop(topic_id, None)
            self._settled.pop(topic_id, None)
        for partition in list(self.failures):
            if partition.topic_id not in image.topics and partition not in image.removals:
                del self.failures[partition]
                self._retry_ms.pop(partition, None)

    def _plan_removals(self, image: MetadataImage, plan: Plan, now_ms: int) -> None:
        for partition, removal in image.removals.items():
            if self.slot not in removal.slots:
                continue
            if partition in self._removed:
                plan.removed.append(partition)
            elif self._is_due(partition, now_ms) and len(plan.removals) < MAX_ASSIGNMENTS:
                plan.removals.append(PartitionRemoval(removal.topic, partition))

    def _plan_topic(self, topic: TopicState, plan: Plan, now_ms: int) -> None:
        told = self._told.get(topic.topic_id, {})
        settled = True
        configs: dict[str, str] = {}
        for index, epoch in self._led(topic):
            wanted = _Told(epoch, topic.settings_version, self._overrides)
            partition = PartitionId(topic.topic_id, index)
            state = topic.partitions[index]
            if told.get(index) == wanted:
                if state.opened_epoch != epoch:
                    settled = False
                    report = OpenedPartition(index, epoch)
                    plan.opened.setdefault(topic.topic_id, []).append(report)
                continue
            settled = False
            if not self._is_due(partition, now_ms) or len(plan.assignments) >= MAX_ASSIGNMENTS:
                continue
            configs = configs or {**self._overrides, **topic.configs}
            plan.versions.append(wanted)
            plan.assignments.append(
                PartitionAssignment(
                    topic=topic.name,
                    partition=partition,
                    leader_epoch=LeaderEpoch(epoch),
                    configs=configs,
                    schemas=topic.schemas,
                    opened_before=state.opened_epoch >= 0,
                )
            )
        if settled:
            self._settled[topic.topic_id] = topic

    def _led(self, topic: TopicState) -> list[tuple[int, int]]:
        """Partitions that this slot leads, and their epochs."""
        broker_id, slot = self.slot
        return [
            (index, partition.leader_epoch)
            for index, partition in enumerate(topic.partitions)
            if partition.leader == broker_id and partition.slot_of(broker_id).slot == slot
        ]

    def _is_due(self, partition: PartitionId, now_ms: int) -> bool:
        return now_ms >= self._retry_ms.get(partition, 0)
