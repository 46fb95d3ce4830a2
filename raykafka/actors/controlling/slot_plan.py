"""What a partition actor still has to be told: the image against what it has acknowledged.

A replica is told again in a new leader epoch, of another listener of its leader, of other settings
and schemas, and whether its copy counts; the leader also of everything else that changes its
partition's state. Without a leader the replicas are told that there is none: they stop serving.
A new leader is told after the old one, where that lives: readers of the old one could miss what the
new one commits.

Pure bookkeeping. A topic whose state object has not changed since it was settled is skipped, so a
look at a large cluster costs a comparison per topic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from raykafka.actors.ports import AssignmentResult, PartitionAssignment, PartitionRemoval
from raykafka.controller.image import (
    NO_LEADER,
    MetadataImage,
    PartitionActorState,
    PartitionState,
    SlotKey,
    TopicState,
)
from raykafka.controller.updates import OpenedPartition
from raykafka.errors import RaykafkaError, error_for
from raykafka.model import Endpoint, LeaderEpoch, PartitionId, TopicId

MAX_ASSIGNMENTS: Final = 1000
"""Replicas in one call: enough to make the call cheap, few enough to see progress."""
_LONGEST_HOLD_MS: Final = 3000
"""For an old leader to be told that it is none; by then one that hangs has lost its lease."""
_RETRY_MS: Final = 1000
"""Before a replica that could not be opened or removed is tried again."""


class _Told(NamedTuple):
    """The version of a replica that the actor has acknowledged."""

    leader_epoch: int
    leader: Endpoint | None
    """Listener that it follows; None for the leader itself, and while there is none."""
    partition_epoch: int
    """-1 for followers, whom it does not concern."""
    trusted: bool
    """Whether the copy counts: one that does not may be cut and copied again."""
    settings_version: int
    overrides: Mapping[str, str]
    throttled_rate: int

    @property
    def leads(self) -> bool:
        """Whether it tells the replica to lead."""
        return self.partition_epoch != -1


IsLed = Callable[[PartitionId, int], bool]
"""Whether another living actor was told to lead the partition in an older epoch than that, and of
none since."""


def nobody_leads(partition: PartitionId, leader_epoch: int) -> bool:
    """An ``IsLed`` for a slot that has nobody to wait for."""
    return False


class Throttle(NamedTuple):
    """The actor's share of its broker's rates, in bytes per second; -1 for no limit."""

    leader: int = -1
    follower: int = -1


NO_THROTTLE: Final = Throttle()


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
    failed: list[PartitionId] = field(default_factory=list)
    """Could not be opened, but may lead or be in sync by the image."""
    held: bool = False
    """Whether something is not told yet because a former leader has to be told first."""

    @property
    def calls(self) -> bool:
        """Whether the actor has to be called."""
        return bool(self.assignments or self.removals)

    @property
    def reports(self) -> bool:
        """Whether the metadata have to be told."""
        return bool(self.opened or self.removed or self.failed)


class SlotPlanner:
    """Book of one slot."""

    def __init__(self, slot: SlotKey) -> None:
        self.slot = slot
        self.failures: dict[PartitionId, RaykafkaError] = {}
        """Replicas that the actor could not open, and why."""
        self._told: dict[TopicId, dict[int, _Told]] = {}
        self._settled: dict[TopicId, TopicState] = {}
        self._overrides: Mapping[str, str] = {}
        self._actors: Mapping[SlotKey, PartitionActorState] = {}
        self._throttle = NO_THROTTLE
        self._removed: set[PartitionId] = set()
        self._retry_ms: dict[PartitionId, int] = {}
        self._held_ms: dict[PartitionId, int] = {}
        """Since when a new leader is not told."""

    def forget(self) -> None:
        """A new actor knows nothing."""
        self.failures.clear()
        self._told.clear()
        self._settled.clear()
        self._removed.clear()
        self._retry_ms.clear()
        self._held_ms.clear()

    def on_failed(self, partitions: Iterable[PartitionId], now_ms: int) -> None:
        """The actor has given these replicas up while they were in use: they are opened again."""
        for partition in partitions:
            self._told.get(partition.topic_id, {}).pop(partition.partition, None)
            self._settled.pop(partition.topic_id, None)
            self._retry_ms[partition] = now_ms + _RETRY_MS

    def is_settled(self, topic: TopicState, overrides: Mapping[str, str]) -> bool:
        """Whether every replica of ``topic`` here that can be opened knows its newest settings."""
        told = self._told.get(topic.topic_id, {})
        wanted = (topic.settings_version, overrides)
        return all(
            PartitionId(topic.topic_id, index) in self.failures
            or (index in told and (told[index].settings_version, told[index].overrides) == wanted)
            for index in self._housed(topic)
        )

    def still_leads(self, partition: PartitionId, leader_epoch: int) -> bool:
        """Whether the actor was told to lead in an older epoch than that, and of none since."""
        told = self._told.get(partition.topic_id, {}).get(partition.partition)
        if told is None or partition in self.failures:
            return False
        return told.leads and told.leader_epoch < leader_epoch

    def has_handed_over(self, image: MetadataImage) -> bool:
        """Whether the actor leads nothing that is led in a newer epoch by the image."""
        return not any(
            self.still_leads(PartitionId(topic_id, index), topic.partitions[index].leader_epoch)
            for topic_id, told in self._told.items()
            if (topic := image.topics.get(topic_id)) is not None
            for index in told
        )

    def plan(
        self,
        image: MetadataImage,
        overrides: Mapping[str, str],
        now_ms: int,
        throttle: Throttle = NO_THROTTLE,
        is_led: IsLed = nobody_leads,
    ) -> Plan:
        """What is to be done now; ``overrides`` are topic settings that hold for all topics.

        ``is_led`` says whether another actor still believes that it leads a partition.
        """
        known = (self._overrides, self._throttle)
        if (overrides, throttle) != known or image.actors is not self._actors:
            self._overrides, self._throttle, self._actors = overrides, throttle, image.actors
            self._settled.clear()
        plan = Plan()
        if not image.actor_runs(self.slot):
            return plan
        self._forget_deleted(image)
        self._plan_removals(image, plan, now_ms)
        for topic in image.topics.values():
            if self._settled.get(topic.topic_id) is not topic:
                self._plan_topic(image, topic, plan, now_ms, is_led)
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
            told = self._told.setdefault(partition.topic_id, {})
            if version is None:
                self._removed.add(partition)
                told.pop(partition.partition, None)
            else:
                told[partition.partition] = version
        return news

    def _forget_deleted(self, image: MetadataImage) -> None:
        self._removed.intersection_update(image.removals)
        gone = {*self._told, *self._settled}.difference(image.topics)
        for topic_id in gone:
            self._told.pop(topic_id, None)
            self._settled.pop(topic_id, None)
        for partition in list(self.failures):
            topic = image.topics.get(partition.topic_id)
            housed = topic is not None and topic.partitions[partition.partition].houses(self.slot)
            if not housed and partition not in image.removals:
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

    def _plan_topic(
        self, image: MetadataImage, topic: TopicState, plan: Plan, now_ms: int, is_led: IsLed
    ) -> None:
        told = self._told.get(topic.topic_id, {})
        settled = True
        configs: dict[str, str] = {}
        for index in self._housed(topic):
            state = topic.partitions[index]
            partition = PartitionId(topic.topic_id, index)
            wanted = self._wanted(image, topic, state)
            if told.get(index) == wanted:
                if self._is_unreported(image, state):
                    settled = False
                    report = OpenedPartition(index, state.leader_epoch)
                    plan.opened.setdefault(topic.topic_id, []).append(report)
                continue
            settled = False
            if partition in self.failures and self.slot.broker_id in (
                state.leader,
                *state.isr,
                *state.elr,
            ):
                plan.failed.append(partition)
            if not self._is_due(partition, now_ms) or len(plan.assignments) >= MAX_ASSIGNMENTS:
                continue
            if wanted.leads and self._is_held(partition, state, is_led, now_ms):
                plan.held = True
                continue
            configs = configs or {**self._overrides, **topic.configs}
            plan.versions.append(wanted)
            plan.assignments.append(
                PartitionAssignment(
                    topic=topic.name,
                    partition=partition,
                    leader_epoch=LeaderEpoch(state.leader_epoch),
                    configs=configs,
                    schemas=topic.schemas,
                    opened_before=self._must_exist(state),
                    leader_id=state.leader,
                    leader=wanted.leader,
                    replicas=state.replicas,
                    isr=state.isr,
                    elr=state.elr,
                    partition_epoch=state.partition_epoch,
                    throttled_rate=wanted.throttled_rate,
                )
            )
        if settled:
            self._settled[topic.topic_id] = topic

    def _is_held(
        self, partition: PartitionId, state: PartitionState, is_led: IsLed, now_ms: int
    ) -> bool:
        """For a bounded time: the old leader's actor may be busy with others."""
        if not is_led(partition, state.leader_epoch):
            self._held_ms.pop(partition, None)
            return False
        return now_ms - self._held_ms.setdefault(partition, now_ms) < _LONGEST_HOLD_MS

    def _wanted(self, image: MetadataImage, topic: TopicState, state: PartitionState) -> _Told:
        leads = state.leader == self.slot.broker_id
        actor = None if leads else image.leader_actor(state)
        return _Told(
            state.leader_epoch,
            None if actor is None else Endpoint(actor.host, actor.port),
            state.partition_epoch if leads else -1,
            state.is_trusted(self.slot.broker_id),
            topic.settings_version,
            self._overrides,
            self._throttle.leader if leads else self._throttle.follower,
        )

    def _is_unreported(self, image: MetadataImage, state: PartitionState) -> bool:
        """Whether the metadata do not know yet that this replica, which is told, is open."""
        broker_id = self.slot.broker_id
        if state.leader == broker_id and state.opened_epoch != state.leader_epoch:
            return True
        # It may be what the partition waits for: see ``report_replicas``.
        waits = state.leader == NO_LEADER and state.may_lead(broker_id)
        return (waits and image.may_serve(self.slot)) or broker_id not in state.opened_by

    def _must_exist(self, state: PartitionState) -> bool:
        """What was open before and may hold the only copy of something is never made anew."""
        broker_id = self.slot.broker_id
        return broker_id in state.opened_by and state.is_trusted(broker_id)

    def _housed(self, topic: TopicState) -> Iterator[int]:
        """Partitions of which this slot holds a replica."""
        return (
            index for index, partition in enumerate(topic.partitions) if partition.houses(self.slot)
        )

    def _is_due(self, partition: PartitionId, now_ms: int) -> bool:
        return now_ms >= self._retry_ms.get(partition, 0)
