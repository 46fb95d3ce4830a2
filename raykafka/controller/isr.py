"""Commands about who is in sync: proposals of leaders (KIP-497, KIP-903), and logs that failed."""

from __future__ import annotations

from raykafka.controller.brokers import stale_actor
from raykafka.controller.commands import (
    AlterPartitions,
    FailReplicas,
    IsrAnswer,
    IsrChange,
    Outcome,
)
from raykafka.controller.elections import changes_of, elect, rules_of, with_isr, without
from raykafka.controller.image import NO_LEADER, MetadataImage, PartitionState, SlotKey
from raykafka.controller.reassignments import complete
from raykafka.controller.settings import Settings
from raykafka.controller.updates import Update
from raykafka.errors import (
    FencedLeaderEpochError,
    IneligibleReplicaError,
    InvalidRequestError,
    InvalidUpdateVersionError,
    NewLeaderElectedError,
    NotLeaderOrFollowerError,
    RaykafkaError,
    UnknownLeaderEpochError,
    UnknownTopicIdError,
)
from raykafka.model import TopicId


def alter_partitions(image: MetadataImage, settings: Settings, command: AlterPartitions) -> Outcome:
    """Each proposal succeeds or fails by itself; the first of two for one partition counts."""
    slot = SlotKey(command.broker_id, command.slot)
    actor = image.actors.get(slot)
    if actor is None or not actor.alive or actor.incarnation != command.incarnation:
        raise stale_actor(slot, command.incarnation)
    wanted: dict[TopicId, dict[int, PartitionState]] = {}
    answers: list[IsrAnswer] = []
    for change in command.changes:
        topic_id, index = TopicId(change.topic_id), change.partition
        changed = wanted.setdefault(topic_id, {})
        try:
            if index in changed:
                raise InvalidRequestError("the request names this partition twice")
            before = _find(image, topic_id, index)
            _check(image, slot, before, change)
        except RaykafkaError as error:
            answers.append(IsrAnswer(topic_id, index, error=error))
            continue
        changed[index] = after = _altered(image, settings, before, change)
        epoch = before.partition_epoch + (after != before)
        answer = IsrAnswer(topic_id, index, after.leader, after.leader_epoch, epoch, after.isr)
        if after.leader != before.leader:
            moved = NewLeaderElectedError("the reassignment is complete, and another broker leads")
            answer = answer._replace(error=moved)
        answers.append(answer)
    records: list[Update] = []
    for topic_id, changed in wanted.items():
        if changed:
            records.extend(changes_of(image.topics[topic_id], changed))
    return Outcome(records, answers)


def _find(image: MetadataImage, topic_id: TopicId, index: int) -> PartitionState:
    topic = image.topics.get(topic_id)
    if topic is None or not 0 <= index < len(topic.partitions):
        raise UnknownTopicIdError(f"there is no partition {index} of a topic with id {topic_id}")
    return topic.partitions[index]


def _check(image: MetadataImage, slot: SlotKey, state: PartitionState, change: IsrChange) -> None:
    if change.leader_epoch < state.leader_epoch:
        raise FencedLeaderEpochError(
            f"leader epoch {change.leader_epoch} is over, it is {state.leader_epoch} now"
        )
    if change.leader_epoch > state.leader_epoch:
        raise UnknownLeaderEpochError(
            f"there has been no leader epoch {change.leader_epoch}, it is {state.leader_epoch} now"
        )
    if state.leader != slot.broker_id or not state.houses(slot):
        raise NotLeaderOrFollowerError(
            f"slot {slot.slot} of broker {slot.broker_id} does not lead the partition"
        )
    if change.partition_epoch != state.partition_epoch:
        raise InvalidUpdateVersionError(
            f"the ISR was proposed for partition epoch {change.partition_epoch}, it is"
            f" {state.partition_epoch} now"
        )
    proposed = [member.broker_id for member in change.isr]
    if len(set(proposed)) != len(proposed) or not set(proposed) <= set(state.replicas):
        raise InvalidRequestError(f"ISR {proposed} is not a set of the replicas {state.replicas}")
    if slot.broker_id not in proposed:
        raise InvalidRequestError(f"ISR {proposed} lacks the leader, broker {slot.broker_id}")
    for member in change.isr:
        if member.broker_id in state.isr:
            continue  # whoever is in sync runs; its leader may not have heard of it yet
        actor = image.actors.get(state.slot_of(member.broker_id))
        if actor is None or not actor.alive or actor.incarnation != member.incarnation:
            raise IneligibleReplicaError(
                f"incarnation {member.incarnation} of the partition actor of broker"
                f" {member.broker_id} does not run; it cannot be in sync"
            )
        if image.brokers[member.broker_id].stopping and member.broker_id not in state.isr:
            raise IneligibleReplicaError(f"broker {member.broker_id} is about to stop")


def _altered(
    image: MetadataImage, settings: Settings, state: PartitionState, change: IsrChange
) -> PartitionState:
    topic = image.topics[TopicId(change.topic_id)]
    rules = rules_of(image, settings, topic, image.may_serve)
    isr = [member.broker_id for member in change.isr]
    return complete(with_isr(state, isr, rules.min_insync_replicas), rules)


def fail_replicas(image: MetadataImage, settings: Settings, command: FailReplicas) -> Outcome:
    """The replicas leave ISR and ELR; others lead on. They may come back as followers, or, where
    nobody else may lead, when their log opens (``ReportReplicas``).
    """
    slot = SlotKey(command.broker_id, command.slot)
    actor = image.actors.get(slot)
    if actor is None or not actor.alive or actor.incarnation != command.incarnation:
        return Outcome([], None)
    wanted: dict[TopicId, dict[int, PartitionState]] = {}
    for partition in command.partitions:
        topic = image.topics.get(partition.topic_id)
        if topic is None or partition.partition >= len(topic.partitions):
            continue
        state = topic.partitions[partition.partition]
        if not state.houses(slot) or slot.broker_id not in (state.leader, *state.isr, *state.elr):
            continue
        rules = rules_of(image, settings, topic, lambda key: key != slot and image.may_serve(key))
        left = without(state, (slot.broker_id,), rules.min_insync_replicas, distrust=True)
        wanted.setdefault(topic.topic_id, {})[partition.partition] = (
            elect(left, rules) if state.leader in (slot.broker_id, NO_LEADER) else left
        )
    records: list[Update] = []
    for topic_id, changed in wanted.items():
        records.extend(changes_of(image.topics[topic_id], changed))
    return Outcome(records, None)
