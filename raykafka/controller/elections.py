"""Who leads: functions over the image, as Kafka elects (preferred first, from the ISR)."""

from __future__ import annotations

from collections.abc import Callable

from raykafka.controller.image import (
    NO_LEADER,
    MetadataImage,
    PartitionState,
    SlotKey,
)
from raykafka.controller.updates import LeaderChange, LeadersChanged


def elect_leader(
    partition: PartitionState, is_alive: Callable[[SlotKey], bool], *, unclean: bool = False
) -> int:
    """The broker that shall lead, or ``NO_LEADER``.

    The first replica in order of preference that is in sync and whose actor runs. ``unclean``
    falls back to any replica that runs, which may lose records: only for those who ask for it.
    """
    running = [
        broker_id
        for broker_id, slot in zip(partition.replicas, partition.slots, strict=True)
        if is_alive(SlotKey(broker_id, slot))
    ]
    for broker_id in running:
        if broker_id in partition.isr:
            return broker_id
    return running[0] if unclean and running else NO_LEADER


def elections_after_start(image: MetadataImage, slot: SlotKey) -> list[LeadersChanged]:
    """Elections that the start of a new partition actor in ``slot`` calls for.

    What the slot's last actor led gets a new epoch, since its owner is a new one; what has no
    leader gets one if the new actor may lead it.
    """

    def is_alive(key: SlotKey) -> bool:
        return key == slot or _runs(image, key)

    return _elections(image, slot, is_alive, leaderless_too=True)


def elections_after_loss(image: MetadataImage, slot: SlotKey) -> list[LeadersChanged]:
    """Elections that the death of the partition actor in ``slot`` calls for."""

    def is_alive(key: SlotKey) -> bool:
        return key != slot and _runs(image, key)

    return _elections(image, slot, is_alive, leaderless_too=False)


def _runs(image: MetadataImage, key: SlotKey) -> bool:
    actor = image.actors.get(key)
    return actor is not None and actor.alive


def _elections(
    image: MetadataImage,
    slot: SlotKey,
    is_alive: Callable[[SlotKey], bool],
    *,
    leaderless_too: bool,
) -> list[LeadersChanged]:
    updates: list[LeadersChanged] = []
    for topic in image.topics.values():
        changes: list[LeaderChange] = []
        for index, partition in enumerate(topic.partitions):
            if partition.leader == NO_LEADER:
                concerned = leaderless_too and slot.broker_id in partition.replicas
            else:
                concerned = partition.leader == slot.broker_id
            if not concerned or partition.slot_of(slot.broker_id) != slot:
                continue
            leader = elect_leader(partition, is_alive)
            if leader != NO_LEADER or partition.leader != NO_LEADER:
                changes.append(LeaderChange(index, leader, partition.leader_epoch + 1))
        if changes:
            updates.append(LeadersChanged(topic.topic_id, changes))
    return updates
