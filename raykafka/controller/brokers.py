"""Commands about brokers and partition actors: registration, fencing, incarnations, elections.

An incarnation is made durable before the actor of that name is started, so a controller that takes
over knows which names to look for. Whatever an older incarnation says is refused or ignored.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from raykafka.controller.commands import (
    AllocatePartitionActor,
    DrainBroker,
    FenceBroker,
    LosePartitionActor,
    Outcome,
    RegisterBroker,
    ReportReplicas,
    StartPartitionActor,
    UnfenceBroker,
    UnregisterBroker,
)
from raykafka.controller.elections import (
    changes_of,
    elect,
    elections_after_loss,
    elections_after_start,
    rules_of,
)
from raykafka.controller.image import NO_LEADER, BrokerState, MetadataImage, SlotKey, TopicState
from raykafka.controller.leaders import registered
from raykafka.controller.settings import Settings
from raykafka.controller.updates import (
    BrokerFenced,
    BrokerRegistered,
    BrokerStateChanged,
    BrokerUnfenced,
    BrokerUnregistered,
    OpenedPartition,
    PartitionActorAllocated,
    PartitionActorLost,
    PartitionActorStarted,
    PartitionsOpened,
    ReplicasRemoved,
    Update,
)
from raykafka.errors import (
    InvalidReplicationFactorError,
    InvalidRequestError,
    StaleBrokerEpochError,
)
from raykafka.model import TopicId


def register_broker(image: MetadataImage, command: RegisterBroker) -> Outcome:
    """A new incarnation of a known broker, or a new broker, which has not had one yet."""
    broker_id, slots, incarnation = command.broker_id, command.slots, 0
    if broker_id == -1:
        broker_id = max((*image.brokers, *image.retired), default=-1) + 1
    else:
        known = registered(image, broker_id)
        incarnation = known.incarnation + 1
        # A pool never shrinks: replicas in the places given up would have no house.
        slots = max(slots, known.slots)
    record = BrokerRegistered(
        broker_id, incarnation, command.node_id, command.host, command.rack, slots
    )
    state = BrokerState(broker_id, incarnation, command.node_id, command.host, command.rack, slots)
    return Outcome([record], state)


def match_broker(
    image: MetadataImage,
    node_id: str,
    host: str,
    live_node_ids: Collection[str],
    taken: Collection[int] = (),
) -> BrokerState | None:
    """The broker whose data the node holds, or None for a node that was not seen before.

    Node ids change whenever Ray is started anew, so a broker whose node is gone is taken to be on
    the node with the same address; and where there is one broker and one node only, on that one.
    Brokers that are ``taken`` have found their node already.
    """
    brokers = [broker for id_, broker in sorted(image.brokers.items()) if id_ not in taken]
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


def unfence_broker(image: MetadataImage, settings: Settings, command: UnfenceBroker) -> Outcome:
    """The broker may take replicas from now on.

    The first word of a new incarnation also says what its log directory is worth: replicas on
    another directory than before, on an old copy of it, or on one whose machine crashed, may lack
    records that were acknowledged, and are distrusted (KIP-966). A crash takes nothing of a topic
    with ``fsync=batch``.
    """
    broker = registered(image, command.broker_id)
    if broker.incarnation != command.incarnation:
        raise StaleBrokerEpochError(
            f"broker {command.broker_id} is at incarnation {broker.incarnation},"
            f" {command.incarnation} is over"
        )
    if broker.incarnation == 0:
        raise StaleBrokerEpochError(f"broker {command.broker_id} has not been started yet")
    if not broker.fenced and broker.pid == command.pid:
        return Outcome([], None)
    records: list[Update] = []
    if broker.unfenced_incarnation != command.incarnation:
        is_known = _is_known(broker, command)
        if not is_known or not command.clean:
            records.extend(_lose_broker(image, settings, broker.broker_id, distrust=not is_known))
    records.append(
        BrokerUnfenced(command.broker_id, command.incarnation, command.pid, command.directory_id)
    )
    return Outcome(records, None)


def _is_known(broker: BrokerState, command: UnfenceBroker) -> bool:
    """Whether the directory is the one that the broker had last, and no old copy of it."""
    if command.last_incarnation != -1 and command.last_incarnation < broker.unfenced_incarnation:
        return False
    known = command.directory_id and broker.directory_id
    return not known or command.directory_id == broker.directory_id


def _lose_broker(
    image: MetadataImage, settings: Settings, broker_id: int, *, distrust: bool
) -> list[Update]:
    """Every partition actor of the broker is gone; with ``distrust`` all that is on its disk, else
    what had not been forced to it.
    """
    slots = [SlotKey(broker_id, slot) for slot in range(image.brokers[broker_id].slots)]
    records: list[Update] = [
        PartitionActorLost(*slot, image.actors[slot].incarnation)
        for slot in slots
        if image.actor_runs(slot)
    ]
    records.extend(elections_after_loss(image, settings, slots, distrust=distrust, power_cut=True))
    return records


def fence_broker(image: MetadataImage, command: FenceBroker) -> Outcome:
    """The broker takes no new replicas until it is back; its partition actors serve on."""
    broker = image.brokers.get(command.broker_id)
    if broker is None or broker.fenced or broker.incarnation != command.incarnation:
        return Outcome([], None)
    return Outcome([BrokerFenced(command.broker_id, command.incarnation)], None)


def drain_broker(image: MetadataImage, command: DrainBroker) -> Outcome:
    """Refused where the other brokers could not take over what this one holds."""
    broker = registered(image, command.broker_id)
    if broker.draining == command.draining:
        return Outcome([], None)
    if command.draining:
        others = [b.broker_id for b in image.placeable_brokers() if b is not broker]
        for topic in image.topics.values():
            for index, partition in enumerate(topic.partitions):
                copies = len(partition.target)
                if broker.broker_id in partition.replicas and copies > len(others):
                    raise InvalidReplicationFactorError(
                        f"{topic.name}-{index} has {copies} replicas, and without broker"
                        f" {broker.broker_id} only {others} are left; add a broker first, or"
                        " reassign the topic to fewer replicas"
                    )
    changed = BrokerStateChanged(broker.broker_id, command.draining, broker.stopping)
    return Outcome([changed], None)


def unregister_broker(image: MetadataImage, command: UnregisterBroker) -> Outcome:
    """Refused while the broker runs, or holds replicas."""
    broker = registered(image, command.broker_id)
    held = image.replica_count(broker.broker_id)
    if held:
        raise InvalidRequestError(
            f"broker {broker.broker_id} holds {held} replicas; drain it first"
        )
    slots = (SlotKey(broker.broker_id, slot) for slot in range(broker.slots))
    if not broker.fenced or any(map(image.actor_runs, slots)):
        raise InvalidRequestError(f"broker {broker.broker_id} still runs; stop it first")
    return Outcome([BrokerUnregistered(broker.broker_id)], None)


def allocate_partition_actor(
    image: MetadataImage, settings: Settings, command: AllocatePartitionActor
) -> Outcome:
    """The next incarnation of a slot; what the last one led loses its leader first."""
    slot = SlotKey(command.broker_id, command.slot)
    actor = image.actors.get(slot)
    incarnation = 1 if actor is None else actor.incarnation + 1
    records: list[Update] = []
    if actor is not None and actor.alive:
        records.append(PartitionActorLost(*slot, actor.incarnation))
        records.extend(elections_after_loss(image, settings, [slot]))
    records.append(PartitionActorAllocated(*slot, incarnation))
    return Outcome(records, incarnation)


def start_partition_actor(
    image: MetadataImage, settings: Settings, command: StartPartitionActor
) -> Outcome:
    """The actor listens: what its slot holds and has no leader may be led by it, in new epochs."""
    slot = SlotKey(command.broker_id, command.slot)
    actor = image.actors.get(slot)
    if actor is None or actor.incarnation != command.incarnation:
        raise stale_actor(slot, command.incarnation)
    started = PartitionActorStarted(
        *slot, command.incarnation, command.host, command.port, command.pid
    )
    if not actor.alive:
        return Outcome([started, *elections_after_start(image, settings, slot)], None)
    # A controller came back and found it as it was, but for a new address at most.
    address = (command.host, command.port, command.pid)
    unchanged = (actor.host, actor.port, actor.pid) == address
    return Outcome([] if unchanged else [started], None)


def stale_actor(slot: SlotKey, incarnation: int) -> StaleBrokerEpochError:
    """The refusal of what an actor says that has been replaced, or is held to be dead."""
    return StaleBrokerEpochError(
        f"incarnation {incarnation} of partition actor {slot.slot} of broker {slot.broker_id} is"
        " over"
    )


def lose_partition_actor(
    image: MetadataImage, settings: Settings, command: LosePartitionActor
) -> Outcome:
    """Its replicas leave the ISR; others lead on; without any the partition has no leader."""
    slot = SlotKey(command.broker_id, command.slot)
    actor = image.actors.get(slot)
    if actor is None or not actor.alive or actor.incarnation != command.incarnation:
        return Outcome([], None)
    records: list[Update] = [PartitionActorLost(*slot, actor.incarnation)]
    records.extend(elections_after_loss(image, settings, [slot]))
    return Outcome(records, None)


def report_replicas(image: MetadataImage, settings: Settings, command: ReportReplicas) -> Outcome:
    """Marks what the actor has opened in its current epoch, forgets what it has removed.

    A log that has opened may be what a partition without leader waited for.
    """
    slot = SlotKey(command.broker_id, command.slot)
    actor = image.actors.get(slot)
    if actor is None or not actor.alive or actor.incarnation != command.incarnation:
        return Outcome([], None)
    records: list[Update] = []
    for topic_id, reports in command.opened.items():
        topic = image.topics.get(topic_id)
        if topic is None:
            continue
        opened = _current(topic, slot, reports)
        news = [report for report in opened if _is_news(topic, slot, report)]
        if news:
            records.append(PartitionsOpened(topic_id, news, slot.broker_id))
        leaderless = {
            report.partition: topic.partitions[report.partition]
            for report in opened
            if topic.partitions[report.partition].leader == NO_LEADER
        }
        if leaderless:
            rules = rules_of(image, settings, topic, image.may_serve)
            elected = {index: elect(state, rules) for index, state in leaderless.items()}
            records.extend(changes_of(topic, elected))
    removed: dict[TopicId, list[int]] = {}
    for partition in command.removed:
        removal = image.removals.get(partition)
        if removal is not None and slot in removal.slots:
            removed.setdefault(partition.topic_id, []).append(partition.partition)
    records.extend(ReplicasRemoved(*slot, topic_id, gone) for topic_id, gone in removed.items())
    return Outcome(records, None)


def _current(
    topic: TopicState, slot: SlotKey, reports: Sequence[OpenedPartition]
) -> list[OpenedPartition]:
    """The reports about replicas that the slot holds, in the epoch that has not ended."""
    return [
        report
        for report in reports
        if report.partition < len(topic.partitions)
        and topic.partitions[report.partition].houses(slot)
        and topic.partitions[report.partition].leader_epoch == report.leader_epoch
    ]


def _is_news(topic: TopicState, slot: SlotKey, report: OpenedPartition) -> bool:
    partition = topic.partitions[report.partition]
    if partition.leader == slot.broker_id and partition.opened_epoch != report.leader_epoch:
        return True
    return slot.broker_id not in partition.opened_by
