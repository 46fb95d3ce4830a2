"""Who leads and who is in sync: functions over one partition, as Kafka elects (KIP-966, KIP-497).

Rules:
- The first replica in order of preference that is in sync and runs leads; else one that is out of
  sync but eligible (ELR); else, when there is neither, the last known leader. Anyone else only for
  those who ask for an unclean election.
- Whoever leaves the ISR stays eligible while fewer than the effective ``min.insync.replicas`` are
  in sync: the high watermark does not advance meanwhile, so it misses nothing below it.
- A replica whose log may have lost records is distrusted: it leaves both. When nobody is left, it
  is the last known leader that may come back.
- With a leader, everyone in the ISR runs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import NamedTuple

import msgspec

from raykafka.controller.image import (
    NO_LEADER,
    MetadataImage,
    PartitionState,
    SlotKey,
    TopicState,
)
from raykafka.controller.settings import Settings
from raykafka.controller.updates import PartitionChange, PartitionsChanged
from raykafka.model import FsyncPolicy, TopicId


class Rules(NamedTuple):
    """What decides an election beside the partition itself."""

    is_alive: Callable[[SlotKey], bool]
    """Whether the actor in a slot may lead and be in sync."""
    min_insync_replicas: int = 1
    unclean: bool = False
    """Whether anyone that runs may lead when nobody else can; that may lose records."""
    durable: bool = False
    """Whether what is committed has been forced to the disk of every replica in sync."""


def with_isr(
    partition: PartitionState,
    isr: Collection[int],
    min_insync_replicas: int,
    *,
    distrusted: Collection[int] = (),
) -> PartitionState:
    """The partition with that ISR; its former members stay eligible if they may.

    Who leads is not touched: see ``elect``.
    """
    in_sync = tuple(broker for broker in partition.replicas if broker in isr)
    eligible: tuple[int, ...] = ()
    needed = partition.effective_min_isr(min_insync_replicas)
    if len(in_sync) < needed:
        # A minimum that was lowered meanwhile let the high watermark advance without the others.
        others = partition.elr if len(partition.isr) < needed else ()
        candidates = {*partition.isr, *others}.difference(in_sync, distrusted)
        eligible = tuple(broker for broker in partition.replicas if broker in candidates)
    last = partition.last_known_leader
    if not in_sync and not eligible and last == NO_LEADER:
        trusted = partition.isr or partition.elr
        last = partition.leader if partition.leader in trusted else trusted[0] if trusted else last
    return msgspec.structs.replace(partition, isr=in_sync, elr=eligible, last_known_leader=last)


def without(
    partition: PartitionState, gone: Collection[int], min_insync_replicas: int, *, distrust: bool
) -> PartitionState:
    """The partition after these replicas have left the ISR, and with ``distrust`` the ELR too."""
    isr = [broker for broker in partition.isr if broker not in gone]
    return with_isr(partition, isr, min_insync_replicas, distrusted=gone if distrust else ())


def elect(partition: PartitionState, rules: Rules) -> PartitionState:
    """The partition with a leader that may lead: the present one if possible; or with none."""
    alive = [
        broker
        for broker, slot in zip(partition.replicas, partition.slots, strict=True)
        if rules.is_alive(SlotKey(broker, slot))
    ]
    in_sync = [broker for broker in alive if broker in partition.isr]
    if partition.leader in in_sync:
        return partition
    if in_sync:
        return _led_by(partition, _preferred(partition, in_sync), in_sync, rules)
    eligible = [broker for broker in alive if broker in partition.elr]
    if eligible:
        return _led_by(partition, _preferred(partition, eligible), eligible[:1], rules)
    last = partition.last_known_leader
    if not partition.isr and not partition.elr and last in alive:
        return _led_by(partition, last, [last], rules)
    if rules.unclean and alive:
        return _led_uncleanly(partition, _preferred(partition, alive))
    if partition.leader == NO_LEADER:
        return partition
    return msgspec.structs.replace(
        with_isr(partition, in_sync, rules.min_insync_replicas),
        leader=NO_LEADER,
        leader_epoch=partition.leader_epoch + 1,
        last_known_leader=partition.leader,
    )


def move_leader(partition: PartitionState, leader: int) -> PartitionState:
    """The partition led by another replica that is in sync, in a new epoch."""
    return msgspec.structs.replace(
        partition, leader=leader, leader_epoch=partition.leader_epoch + 1
    )


def _preferred(partition: PartitionState, candidates: list[int]) -> int:
    """The first that is to stay, else the first."""
    staying = (broker for broker in candidates if broker not in partition.removing)
    return next(staying, candidates[0])


def _led_by(
    partition: PartitionState, leader: int, isr: Collection[int], rules: Rules
) -> PartitionState:
    members = isr if leader in isr else [leader]
    return msgspec.structs.replace(
        with_isr(partition, members, rules.min_insync_replicas),
        leader=leader,
        leader_epoch=partition.leader_epoch + 1,
        last_known_leader=NO_LEADER,
    )


def _led_uncleanly(partition: PartitionState, leader: int) -> PartitionState:
    """Nobody else is eligible any more: the new leader's log is the truth from now on."""
    return msgspec.structs.replace(
        partition,
        isr=(leader,),
        elr=(),
        leader=leader,
        leader_epoch=partition.leader_epoch + 1,
        last_known_leader=NO_LEADER,
    )


# --- from partitions to updates -----------------------------------------------------------------


Change = Callable[[PartitionState, Rules], PartitionState]
"""What becomes of a partition under the rules of its topic."""


def change_partitions(
    image: MetadataImage,
    settings: Settings,
    is_alive: Callable[[SlotKey], bool],
    concerned: Callable[[PartitionState], bool],
    change: Change,
) -> list[PartitionsChanged]:
    """The updates that ``change`` makes of the partitions that are ``concerned``."""
    updates: list[PartitionsChanged] = []
    for topic in image.topics.values():
        found = [i for i, partition in enumerate(topic.partitions) if concerned(partition)]
        if found:
            rules = rules_of(image, settings, topic, is_alive)
            wanted = {index: change(topic.partitions[index], rules) for index in found}
            updates.extend(changes_of(topic, wanted))
    return updates


def rules_of(
    image: MetadataImage,
    settings: Settings,
    topic: TopicState,
    is_alive: Callable[[SlotKey], bool],
    *,
    unclean: bool = False,
) -> Rules:
    """The rules of a topic's elections; ``unclean`` is for who asks for it on demand."""
    config = settings.topic(image, topic)
    allowed = unclean or config.unclean_leader_election_enable
    durable = config.fsync is FsyncPolicy.BATCH
    return Rules(is_alive, config.min_insync_replicas, allowed, durable)


def changes_of(
    topic: TopicState, wanted: Mapping[int, PartitionState]
) -> Iterator[PartitionsChanged]:
    """At most one update: the partitions of ``wanted``, by index, that differ from what they are.

    Their partition epochs grow by one.
    """
    changes = [
        _change(index, topic.partitions[index], new)
        for index, new in wanted.items()
        if new != topic.partitions[index]
    ]
    if changes:
        yield PartitionsChanged(TopicId(topic.topic_id), changes)


def _change(index: int, old: PartitionState, new: PartitionState) -> PartitionChange:
    moved = (new.replicas, new.slots) != (old.replicas, old.slots)
    return PartitionChange(
        partition=index,
        leader=new.leader,
        leader_epoch=new.leader_epoch,
        partition_epoch=old.partition_epoch + 1,
        isr=new.isr,
        elr=new.elr,
        last_known_leader=new.last_known_leader,
        adding=new.adding,
        removing=new.removing,
        replicas=new.replicas if moved else (),
        slots=new.slots if moved else (),
    )


def elections_after_start(
    image: MetadataImage, settings: Settings, slot: SlotKey
) -> list[PartitionsChanged]:
    """Elections in partitions without leader that the new actor in ``slot`` may make possible."""

    def is_alive(key: SlotKey) -> bool:
        return (key == slot or image.actor_runs(key)) and (
            not image.brokers[key.broker_id].stopping
        )

    def concerned(partition: PartitionState) -> bool:
        return partition.leader == NO_LEADER and partition.houses(slot)

    return change_partitions(image, settings, is_alive, concerned, elect)


def elections_after_return(
    image: MetadataImage, settings: Settings, broker_id: int
) -> list[PartitionsChanged]:
    """Elections in partitions that wait for a broker which does not stop after all."""

    def is_alive(key: SlotKey) -> bool:
        return image.may_serve(key) or (key.broker_id == broker_id and image.actor_runs(key))

    def concerned(partition: PartitionState) -> bool:
        return partition.leader == NO_LEADER and broker_id in partition.replicas

    return change_partitions(image, settings, is_alive, concerned, elect)


def elections_after_loss(
    image: MetadataImage,
    settings: Settings,
    slots: Collection[SlotKey],
    *,
    distrust: bool = False,
    power_cut: bool = False,
) -> list[PartitionsChanged]:
    """What the death of the actors in ``slots``, all of one broker, leads to.

    With ``distrust`` their logs may have lost records as well, or are another broker's; with
    ``power_cut`` no more than what had not been forced to the disk.
    """
    (broker_id,) = {slot.broker_id for slot in slots}

    def is_alive(key: SlotKey) -> bool:
        return key not in slots and image.may_serve(key)

    def concerned(partition: PartitionState) -> bool:
        return broker_id in partition.replicas and partition.slot_of(broker_id) in slots

    def change(partition: PartitionState, rules: Rules) -> PartitionState:
        doubtful = distrust or (power_cut and not rules.durable)
        left = without(partition, (broker_id,), rules.min_insync_replicas, distrust=doubtful)
        return elect(left, rules) if partition.leader in (broker_id, NO_LEADER) else left

    return change_partitions(image, settings, is_alive, concerned, change)
