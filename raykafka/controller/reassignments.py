"""Moving replicas to other brokers (KIP-455).

Rules:
- ``replicas`` holds the target first, then what is to be given up; both are kept until every
  replica of the target is in sync. Only then the rest is given up, and its files removed.
- A new target or a cancellation gives up at once what was being added and is not wanted any more.
- Nothing is given up that leaves a partition without a replica in sync.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from raykafka.controller.commands import AlterReassignments, Outcome, Reassignment
from raykafka.controller.elections import Rules, changes_of, elect, rules_of, with_isr
from raykafka.controller.image import NO_LEADER, MetadataImage, PartitionState, TopicState
from raykafka.controller.placement import Candidate, Loads
from raykafka.controller.settings import Settings
from raykafka.controller.topics import unknown_topic, validate_replicas
from raykafka.controller.updates import Update
from raykafka.errors import (
    InvalidReplicaAssignmentError,
    InvalidRequestError,
    NoReassignmentInProgressError,
    RaykafkaError,
    ReassignmentInProgressError,
    UnknownTopicOrPartitionError,
)
from raykafka.model import PartitionId, TopicId


def alter_reassignments(
    image: MetadataImage, settings: Settings, command: AlterReassignments
) -> Outcome:
    """Each partition's reassignment begins, changes or is cancelled, or is refused by itself."""
    candidates = [Candidate(b.broker_id, b.rack, b.slots) for b in image.live_brokers()]
    loads = Loads(candidates, image.slot_loads(), image.preferred_leads())
    wanted: dict[TopicId, dict[int, PartitionState]] = {}
    answers: list[RaykafkaError | None] = []
    for change in command.changes:
        try:
            topic = find_partition(image, change.topic, change.partition)
            changed = wanted.setdefault(topic.topic_id, {})
            if change.partition in changed:
                raise InvalidRequestError(f"{_name(change)} is named twice")
            rules = rules_of(image, settings, topic, image.may_serve)
            changed[change.partition] = _plan(image, topic, change, rules, loads)
        except RaykafkaError as error:
            answers.append(error)
        else:
            answers.append(None)
    records: list[Update] = []
    for topic_id, changed in wanted.items():
        records.extend(changes_of(image.topics[topic_id], changed))
    return Outcome(records, answers)


def find_partition(image: MetadataImage, name: str, partition: int) -> TopicState:
    """The topic; raises ``UnknownTopicOrPartitionError`` when it lacks that partition."""
    topic = image.topic(name)
    if topic is None:
        raise unknown_topic(name)
    if not 0 <= partition < len(topic.partitions):
        raise UnknownTopicOrPartitionError(
            f"topic {name!r} has partitions 0 to {len(topic.partitions) - 1}, not {partition}"
        )
    return topic


def complete(partition: PartitionState, rules: Rules) -> PartitionState:
    """The partition without what it gives up, if all that it shall keep are in sync."""
    if not partition.adding and not partition.removing:
        return partition
    target = partition.target
    if not set(target) <= set(partition.isr):
        return partition
    return _reduced(partition, target, (), (), rules)


def _plan(
    image: MetadataImage, topic: TopicState, change: Reassignment, rules: Rules, loads: Loads
) -> PartitionState:
    before = topic.partitions[change.partition]
    if change.replicas is None:
        if not before.adding and not before.removing:
            raise NoReassignmentInProgressError(f"{_name(change)} is not being reassigned")
        return _give_up(before, before.original, (), (), rules, change)
    target = tuple(change.replicas)
    staying = [broker for broker in target if broker in before.replicas]
    added = [broker for broker in target if broker not in before.replicas]
    validate_replicas(image, target, known=staying)
    removal = image.removals.get(PartitionId(topic.topic_id, change.partition))
    for broker in added:
        if removal is not None and any(slot.broker_id == broker for slot in removal.slots):
            raise ReassignmentInProgressError(
                f"an older replica of {_name(change)} is still being removed from broker {broker};"
                " try again in a moment"
            )
    places = dict(zip(before.replicas, before.slots, strict=True))
    for broker in added:
        places[broker] = loads.add(broker, leads=broker == target[0])
    adding = tuple(broker for broker in target if broker not in before.original)
    removing = tuple(broker for broker in before.original if broker not in target)
    replicas = (*target, *removing)
    dropped = [broker for broker in before.replicas if broker not in replicas]
    grown = msgspec.structs.replace(
        before,
        replicas=(*replicas, *dropped),
        slots=tuple(places[broker] for broker in (*replicas, *dropped)),
    )
    return complete(_give_up(grown, replicas, adding, removing, rules, change), rules)


def _give_up(
    partition: PartitionState,
    replicas: Sequence[int],
    adding: Sequence[int],
    removing: Sequence[int],
    rules: Rules,
    change: Reassignment,
) -> PartitionState:
    """The partition with these replicas alone; refused where nobody else could lead."""
    candidates = partition.isr or partition.elr or (partition.last_known_leader,)
    if candidates != (NO_LEADER,) and not set(candidates) & set(replicas):
        raise InvalidReplicaAssignmentError(
            f"{_name(change)}: only brokers {list(candidates)} hold all records, and would be given"
            f" up; wait until one of {list(replicas)} has caught up"
        )
    return _reduced(partition, replicas, adding, removing, rules)


def _reduced(
    partition: PartitionState,
    replicas: Sequence[int],
    adding: Sequence[int],
    removing: Sequence[int],
    rules: Rules,
) -> PartitionState:
    def left(brokers: Collection[int]) -> tuple[int, ...]:
        return tuple(broker for broker in replicas if broker in brokers)

    last = partition.last_known_leader
    slots = dict(zip(partition.replicas, partition.slots, strict=True))
    reduced = msgspec.structs.replace(
        partition,
        replicas=tuple(replicas),
        slots=tuple(slots[broker] for broker in replicas),
        isr=left(partition.isr),
        elr=left(partition.elr),
        last_known_leader=last if last in replicas else NO_LEADER,
        adding=tuple(adding),
        removing=tuple(removing),
        opened_by=tuple(broker for broker in partition.opened_by if broker in replicas),
    )
    settled = with_isr(reduced, reduced.isr, rules.min_insync_replicas)
    return settled if partition.leader in replicas else elect(settled, rules)


def _name(change: Reassignment) -> str:
    return f"{change.topic}-{change.partition}"
