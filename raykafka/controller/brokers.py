"""Commands about brokers and partition actors: registration, fencing, incarnations, elections.

An incarnation is made durable before the actor of that name is started, so a controller that takes
over knows which names to look for. Whatever an older incarnation says is refused or ignored.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from raykafka.controller.commands import (
    AllocatePartitionActor,
    FenceBroker,
    LosePartitionActor,
    Outcome,
    RegisterBroker,
    ReportReplicas,
    StartPartitionActor,
    UnfenceBroker,
)
from raykafka.controller.elections import elections_after_loss, elections_after_start
from raykafka.controller.image import BrokerState, MetadataImage, SlotKey
from raykafka.controller.updates import (
    BrokerFenced,
    BrokerRegistered,
    BrokerUnfenced,
    OpenedPartition,
    PartitionActorAllocated,
    PartitionActorLost,
    PartitionActorStarted,
    PartitionsOpened,
    ReplicasRemoved,
    Update,
)
from raykafka.errors import BrokerIdNotRegisteredError, StaleBrokerEpochError
from raykafka.model import TopicId


def register_broker(image: MetadataImage, command: RegisterBroker) -> Outcome:
    """A new incarnation of a known broker, or a new broker, which has not had one yet."""
    broker_id, slots, incarnation = command.broker_id, command.slots, 0
    if broker_id == -1:
        broker_id = max(image.brokers, default=-1) + 1
    else:
        known = _registered(image, broker_id)
        incarnation = known.incarnation + 1
        # A pool never shrinks: replicas in the places given up would have no house.
        slots = max(slots, known.slots)
    record = BrokerRegistered(
        broker_id, incarnation, command.node_id, command.host, command.rack, slots
    )
    state = BrokerState(broker_id, incarnation, command.node_id, command.host, command.rack, slots)
    return Outcome([record], state)


def match_broker(
    image: MetadataImage, node_id: str, host: str, live_node_ids: Collection[str]
) -> BrokerState | None:
    """The broker whose data the node holds, or None for a node that was not seen before.

    Node ids change whenever Ray is started anew, so a broker whose node is gone is taken to be on
    the node with the same address; and where there is one broker and one node only, on that one.
    """
    brokers = [broker for _, broker in sorted(image.brokers.items())]
    for broker in brokers:
        if broker.node_id == node_id:
            return broker
    homeless = [broker for broker in brokers if broker.node_id not in live_node_ids]
    for broker in homeless:
        if broker.host == host:
            return broker
    if len(brokers) == len(homeless) == len(live_node_ids) == 1:
        return homeless[0]
    return None


def _registered(image: MetadataImage, broker_id: int) -> BrokerState:
    broker = image.brokers.get(broker_id)
    if broker is None:
        raise BrokerIdNotRegisteredError(f"broker {broker_id} is not registered")
    return broker


def unfence_broker(image: MetadataImage, command: UnfenceBroker) -> Outcome:
    """The broker may take replicas from now on."""
    broker = _registered(image, command.broker_id)
    if broker.incarnation != command.incarnation:
        raise StaleBrokerEpochError(
            f"broker {command.broker_id} is at incarnation {broker.incarnation},"
            f" {command.incarnation} is over"
        )
    if broker.incarnation == 0:
        raise StaleBrokerEpochError(f"broker {command.broker_id} has not been started yet")
    if not broker.fenced and broker.pid == command.pid:
        return Outcome([], None)
    return Outcome([BrokerUnfenced(command.broker_id, command.incarnation, command.pid)], None)


def fence_broker(image: MetadataImage, command: FenceBroker) -> Outcome:
    """The broker takes no new replicas until it is back; its partition actors serve on."""
    broker = image.brokers.get(command.broker_id)
    if broker is None or broker.fenced or broker.incarnation != command.incarnation:
        return Outcome([], None)
    return Outcome([BrokerFenced(command.broker_id, command.incarnation)], None)


def allocate_partition_actor(image: MetadataImage, command: AllocatePartitionActor) -> Outcome:
    """The next incarnation of a slot; what the last one led loses its leader first."""
    slot = SlotKey(command.broker_id, command.slot)
    actor = image.actors.get(slot)
    incarnation = 1 if actor is None else actor.incarnation + 1
    records: list[Update] = []
    if actor is not None and actor.alive:
        records.append(PartitionActorLost(*slot, actor.incarnation))
        records.extend(elections_after_loss(image, slot))
    records.append(PartitionActorAllocated(*slot, incarnation))
    return Outcome(records, incarnation)


def start_partition_actor(image: MetadataImage, command: StartPartitionActor) -> Outcome:
    """The actor listens: it leads what its slot holds, in new epochs."""
    slot = SlotKey(command.broker_id, command.slot)
    actor = image.actors.get(slot)
    if actor is None or actor.incarnation != command.incarnation:
        raise StaleBrokerEpochError(
            f"incarnation {command.incarnation} of partition actor {slot.slot} of broker"
            f" {slot.broker_id} is over"
        )
    started = PartitionActorStarted(
        *slot, command.incarnation, command.host, command.port, command.pid
    )
    if not actor.alive:
        return Outcome([started, *elections_after_start(image, slot)], None)
    # A controller came back and found it as it was, but for a new address at most.
    address = (command.host, command.port, command.pid)
    unchanged = (actor.host, actor.port, actor.pid) == address
    return Outcome([] if unchanged else [started], None)


def lose_partition_actor(image: MetadataImage, command: LosePartitionActor) -> Outcome:
    """Others that are in sync lead on; without any the partition has no leader."""
    slot = SlotKey(command.broker_id, command.slot)
    actor = image.actors.get(slot)
    if actor is None or not actor.alive or actor.incarnation != command.incarnation:
        return Outcome([], None)
    records: list[Update] = [PartitionActorLost(*slot, actor.incarnation)]
    records.extend(elections_after_loss(image, slot))
    return Outcome(records, None)


def report_replicas(image: MetadataImage, command: ReportReplicas) -> Outcome:
    """Marks what the actor has opened in its current epoch, forgets what it has removed."""
    slot = SlotKey(command.broker_id, command.slot)
    actor = image.actors.get(slot)
    if actor is None or not actor.alive or actor.incarnation != command.incarnation:
        return Outcome([], None)
    records: list[Update] = []
    for topic_id, reports in command.opened.items():
        opened = _news(image, slot, topic_id, reports)
        if opened:
            records.append(PartitionsOpened(topic_id, opened))
    removed: dict[TopicId, list[int]] = {}
    for partition in command.removed:
        removal = image.removals.get(partition)
        if removal is not None and slot in removal.slots:
            removed.setdefault(partition.topic_id, []).append(partition.partition)
    records.extend(ReplicasRemoved(*slot, topic_id, gone) for topic_id, gone in removed.items())
    return Outcome(records, None)


def _news(
    image: MetadataImage, slot: SlotKey, topic_id: TopicId, reports: Sequence[OpenedPartition]
) -> list[OpenedPartition]:
    topic = image.topics.get(topic_id)
    if topic is None:
        return []
    opened: list[OpenedPartition] = []
    for report in reports:
        if report.partition >= len(topic.partitions):
            continue
        partition = topic.partitions[report.partition]
        if partition.leader != slot.broker_id or partition.slot_of(slot.broker_id) != slot:
            continue
        if report.leader_epoch == partition.leader_epoch != partition.opened_epoch:
            opened.append(report)
    return opened
