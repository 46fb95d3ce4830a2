"""Image + update -> image: the only way in which the metadata change, live and at replay alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec

from raykafka.controller.image import (
    BrokerState,
    Draft,
    MetadataImage,
    PartitionActorState,
    PartitionState,
    PendingRemoval,
    SlotKey,
    TopicState,
)
from raykafka.controller.updates import (
    BrokerConfigChanged,
    BrokerFenced,
    BrokerRegistered,
    BrokerStateChanged,
    BrokerUnfenced,
    BrokerUnregistered,
    ControllerElected,
    LeadersChanged,
    PartitionActorAllocated,
    PartitionActorLost,
    PartitionActorStarted,
    PartitionChange,
    PartitionsChanged,
    PartitionsCreated,
    PartitionsOpened,
    Placement,
    ProducerIdsAllocated,
    ReplicasRemoved,
    SchemaAdded,
    StateRecord,
    TopicConfigChanged,
    TopicCreated,
    TopicDeleted,
    Update,
)
from raykafka.model import PartitionId


def apply_updates(image: MetadataImage, updates: Iterable[Update]) -> MetadataImage:
    """The image after all ``updates``, in order; ``image`` itself stays as it is."""
    draft = Draft(image)
    for update in updates:
        _APPLY[type(update)](draft, update)
    return draft.freeze()


def _new_partition(placement: Placement) -> PartitionState:
    return PartitionState(
        replicas=placement.replicas,
        slots=placement.slots,
        isr=placement.isr or placement.replicas,
        leader=placement.leader,
        leader_epoch=0,
    )


def _controller_elected(draft: Draft, update: ControllerElected) -> None:
    draft.set(
        controller_epoch=update.controller_epoch,
        cluster_id=update.cluster_id,
        cluster_name=update.cluster_name,
        controller_host=update.host,
        controller_port=update.port,
    )


def _broker_registered(draft: Draft, update: BrokerRegistered) -> None:
    known = draft.brokers.get(update.broker_id)
    draft.brokers[update.broker_id] = BrokerState(
        broker_id=update.broker_id,
        incarnation=update.incarnation,
        node_id=update.node_id,
        host=update.host,
        rack=update.rack,
        slots=update.slots,
        directory_id="" if known is None else known.directory_id,
        unfenced_incarnation=0 if known is None else known.unfenced_incarnation,
        draining=known is not None and known.draining,
    )


def _broker_unfenced(draft: Draft, update: BrokerUnfenced) -> None:
    broker = draft.brokers[update.broker_id]
    draft.brokers[update.broker_id] = msgspec.structs.replace(
        broker,
        fenced=False,
        pid=update.pid,
        directory_id=update.directory_id or broker.directory_id,
        unfenced_incarnation=update.incarnation,
    )


def _broker_fenced(draft: Draft, update: BrokerFenced) -> None:
    broker = draft.brokers[update.broker_id]
    draft.brokers[update.broker_id] = msgspec.structs.replace(broker, fenced=True, pid=0)


def _broker_state_changed(draft: Draft, update: BrokerStateChanged) -> None:
    draft.brokers[update.broker_id] = msgspec.structs.replace(
        draft.brokers[update.broker_id], draining=update.draining, stopping=update.stopping
    )


def _broker_unregistered(draft: Draft, update: BrokerUnregistered) -> None:
    """Replicas that waited to be removed from its disk stay there: nobody uses it any more."""
    broker = draft.brokers.pop(update.broker_id)
    draft.retired[update.broker_id] = broker.node_id
    draft.broker_configs.pop(update.broker_id, None)
    for slot in [slot for slot in draft.actors if slot.broker_id == update.broker_id]:
        del draft.actors[slot]
    for partition, removal in list(draft.removals.items()):
        left = tuple(slot for slot in removal.slots if slot.broker_id != update.broker_id)
        if left:
            draft.removals[partition] = PendingRemoval(removal.topic, left)
        else:
            del draft.removals[partition]


def _actor_allocated(draft: Draft, update: PartitionActorAllocated) -> None:
    key = SlotKey(update.broker_id, update.slot)
    draft.actors[key] = PartitionActorState(update.incarnation)


def _actor_started(draft: Draft, update: PartitionActorStarted) -> None:
    key = SlotKey(update.broker_id, update.slot)
    draft.actors[key] = PartitionActorState(
        update.incarnation, alive=True, host=update.host, port=update.port, pid=update.pid
    )


def _actor_lost(draft: Draft, update: PartitionActorLost) -> None:
    key = SlotKey(update.broker_id, update.slot)
    draft.actors[key] = PartitionActorState(update.incarnation)


def _topic_created(draft: Draft, update: TopicCreated) -> None:
    draft.put_topic(
        TopicState(
            topic_id=update.topic_id,
            name=update.name,
            partitions=tuple(_new_partition(placement) for placement in update.partitions),
            configs=dict(update.configs),
            schemas=tuple(update.schemas),
        )
    )


def _partitions_created(draft: Draft, update: PartitionsCreated) -> None:
    partitions = draft.partitions(update.topic_id)
    partitions.extend(_new_partition(placement) for placement in update.partitions)


def _topic_deleted(draft: Draft, update: TopicDeleted) -> None:
    topic = draft.drop_topic(update.topic_id)
    for index, partition in enumerate(topic.partitions):
        slots = map(SlotKey, partition.replicas, partition.slots)
        _remove_later(draft, PartitionId(update.topic_id, index), topic.name, slots)


def _remove_later(
    draft: Draft, partition: PartitionId, topic: str, slots: Iterable[SlotKey]
) -> None:
    before = draft.removals.get(partition)
    waiting = () if before is None else before.slots
    draft.removals[partition] = PendingRemoval(topic, tuple(dict.fromkeys((*waiting, *slots))))


def _replicas_removed(draft: Draft, update: ReplicasRemoved) -> None:
    slot = SlotKey(update.broker_id, update.slot)
    for partition in update.partitions:
        key = PartitionId(update.topic_id, partition)
        removal = draft.removals.pop(key)
        remaining = tuple(other for other in removal.slots if other != slot)
        if remaining:
            draft.removals[key] = PendingRemoval(removal.topic, remaining)


def _leaders_changed(draft: Draft, update: LeadersChanged) -> None:
    partitions = draft.partitions(update.topic_id)
    for change in update.changes:
        old = partitions[change.partition]
        partitions[change.partition] = msgspec.structs.replace(
            old,
            leader=change.leader,
            leader_epoch=change.leader_epoch,
            partition_epoch=old.partition_epoch + 1,
        )


def _partitions_changed(draft: Draft, update: PartitionsChanged) -> None:
    partitions = draft.partitions(update.topic_id)
    for change in update.changes:
        old = partitions[change.partition]
        new = partitions[change.partition] = _changed(old, change)
        given_up = [broker for broker in old.replicas if broker not in new.replicas]
        if given_up:
            topic = draft.topics[update.topic_id].name
            partition = PartitionId(update.topic_id, change.partition)
            _remove_later(draft, partition, topic, map(old.slot_of, given_up))


def _changed(old: PartitionState, change: PartitionChange) -> PartitionState:
    replicas = change.replicas or old.replicas
    return PartitionState(
        replicas=replicas,
        slots=change.slots or old.slots,
        isr=change.isr,
        leader=change.leader,
        leader_epoch=change.leader_epoch,
        opened_epoch=old.opened_epoch,
        partition_epoch=change.partition_epoch,
        elr=change.elr,
        last_known_leader=change.last_known_leader,
        adding=change.adding,
        removing=change.removing,
        opened_by=tuple(broker for broker in old.opened_by if broker in replicas),
    )


def _partitions_opened(draft: Draft, update: PartitionsOpened) -> None:
    partitions = draft.partitions(update.topic_id)
    for opened in update.opened:
        old = partitions[opened.partition]
        broker_id = old.leader if update.broker_id == -1 else update.broker_id
        leads = broker_id == old.leader
        partitions[opened.partition] = msgspec.structs.replace(
            old,
            opened_epoch=opened.leader_epoch if leads else old.opened_epoch,
            opened_by=tuple(sorted({*old.opened_by, broker_id})),
        )


def _topic_config_changed(draft: Draft, update: TopicConfigChanged) -> None:
    topic = draft.current_topic(update.topic_id)
    draft.put_topic(
        msgspec.structs.replace(
            topic, configs=dict(update.configs), settings_version=topic.settings_version + 1
        )
    )


def _broker_config_changed(draft: Draft, update: BrokerConfigChanged) -> None:
    if update.configs:
        draft.broker_configs[update.broker_id] = dict(update.configs)
    else:
        draft.broker_configs.pop(update.broker_id, None)


def _schema_added(draft: Draft, update: SchemaAdded) -> None:
    topic = draft.current_topic(update.topic_id)
    draft.put_topic(
        msgspec.structs.replace(
            topic,
            schemas=(*topic.schemas, update.schema),
            settings_version=topic.settings_version + 1,
        )
    )


def _producer_ids_allocated(draft: Draft, update: ProducerIdsAllocated) -> None:
    draft.set(next_producer_id=update.next_producer_id)


_APPLY: Final[Mapping[type[StateRecord], Callable[[Draft, Any], None]]] = {
    ControllerElected: _controller_elected,
    BrokerRegistered: _broker_registered,
    BrokerUnfenced: _broker_unfenced,
    BrokerFenced: _broker_fenced,
    BrokerStateChanged: _broker_state_changed,
    BrokerUnregistered: _broker_unregistered,
    PartitionActorAllocated: _actor_allocated,
    PartitionActorStarted: _actor_started,
    PartitionActorLost: _actor_lost,
    TopicCreated: _topic_created,
    PartitionsCreated: _partitions_created,
    TopicDeleted: _topic_deleted,
    ReplicasRemoved: _replicas_removed,
    LeadersChanged: _leaders_changed,
    PartitionsChanged: _partitions_changed,
    PartitionsOpened: _partitions_opened,
    TopicConfigChanged: _topic_config_changed,
    BrokerConfigChanged: _broker_config_changed,
    SchemaAdded: _schema_added,
    ProducerIdsAllocated: _producer_ids_allocated,
}
