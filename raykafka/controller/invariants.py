"""What holds for every image. Checked by tests after each step, off in production."""

from __future__ import annotations

import msgspec

from raykafka.controller.image import NO_LEADER, MetadataImage, PartitionState, TopicState


def validate(image: MetadataImage) -> None:
    """Raise ``AssertionError`` that says which invariant the image breaks."""
    assert len(image.topic_ids) == len(image.topics), "a topic has one name, a name one topic"
    for topic_id, topic in image.topics.items():
        assert topic.topic_id == topic_id, f"{topic.name}: filed under another id"
        assert image.topic_ids.get(topic.name) == topic_id, f"{topic.name}: name leads elsewhere"
        assert topic.partitions, f"{topic.name}: no partitions"
        for index, partition in enumerate(topic.partitions):
            _validate_partition(image, topic, index, partition)
    for removed, removal in image.removals.items():
        assert removal.slots, f"{removed}: waits for nobody"
        topic_of = image.topics.get(removed.topic_id)
        if topic_of is not None:
            state = topic_of.partitions[removed.partition]
            held = {slot.broker_id for slot in removal.slots}.intersection(state.replicas)
            assert not held, f"{removed}: removed from {held} while it is kept there"
    for broker_id, broker in image.brokers.items():
        assert broker.broker_id == broker_id >= 0
        assert broker_id not in image.retired, f"broker {broker_id}: unregistered and there"
        assert broker.slots >= 1, f"broker {broker_id}: an empty pool"
        assert broker.incarnation >= 0
        assert broker.fenced or broker.incarnation > 0, f"broker {broker_id}: never started"
        assert broker.fenced or broker.unfenced_incarnation in (0, broker.incarnation)
    for slot, actor in image.actors.items():
        assert slot.broker_id in image.brokers, f"{slot}: actor of an unknown broker"
        assert slot.slot < image.brokers[slot.broker_id].slots, f"{slot}: outside the pool"
        assert not actor.alive or actor.port > 0, f"{slot}: alive without a listener"
    assert image.next_producer_id >= 0


def validate_step(before: MetadataImage, after: MetadataImage) -> None:
    """Raise ``AssertionError`` when something went back that only goes forward."""
    assert after.controller_epoch >= before.controller_epoch
    assert after.next_producer_id >= before.next_producer_id
    assert before.retired.items() <= after.retired.items(), "a broker is unregistered for good"
    for broker_id, broker in before.brokers.items():
        if broker_id in after.retired:
            continue
        assert after.brokers[broker_id].incarnation >= broker.incarnation
        assert after.brokers[broker_id].slots >= broker.slots
    for slot, actor in before.actors.items():
        if slot.broker_id in after.retired:
            continue
        assert after.actors[slot].incarnation >= actor.incarnation
    for topic_id, topic in before.topics.items():
        now = after.topics.get(topic_id)
        if now is None:
            continue
        assert len(now.partitions) >= len(topic.partitions)
        assert now.settings_version >= topic.settings_version
        assert now.schemas[: len(topic.schemas)] == topic.schemas
        for old, new in zip(topic.partitions, now.partitions, strict=False):
            _validate_partition_step(topic.name, old, new)


def _validate_partition_step(topic: str, old: PartitionState, new: PartitionState) -> None:
    assert new.leader_epoch >= old.leader_epoch
    assert new.opened_epoch >= old.opened_epoch
    one_leader = new.leader_epoch > old.leader_epoch or new.leader == old.leader
    assert one_leader, f"{topic}: two leaders in epoch {old.leader_epoch}"
    changed = _versioned(new) != _versioned(old)
    assert new.partition_epoch >= old.partition_epoch, f"{topic}: its epoch went back"
    grown = new.partition_epoch > old.partition_epoch
    assert grown == changed, f"{topic}: {old} became {new}"


def _versioned(partition: PartitionState) -> PartitionState:
    """What ``partition_epoch`` is the version of."""
    return msgspec.structs.replace(partition, partition_epoch=0, opened_epoch=-1, opened_by=())


def _validate_partition(
    image: MetadataImage, topic: TopicState, index: int, partition: PartitionState
) -> None:
    name = f"{topic.name}-{index}"
    replicas = partition.replicas
    assert replicas, f"{name}: no replicas"
    assert len(replicas) == len(set(replicas)) == len(partition.slots), f"{name}: {replicas}"
    assert partition.isr or partition.leader == NO_LEADER, f"{name}: empty ISR"
    eligible = (*partition.isr, *partition.elr)
    assert len(set(eligible)) == len(eligible), f"{name}: {eligible} in ISR and ELR"
    for named in (eligible, partition.adding, partition.removing, partition.opened_by):
        assert set(named) <= set(replicas), f"{name}: {named} beyond the replicas"
    assert partition.last_known_leader in (NO_LEADER, *replicas), f"{name}: a strange leader"
    assert partition.target, f"{name}: nothing would be left"
    assert not set(partition.adding) & set(partition.removing), f"{name}: added and removed"
    assert partition.leader_epoch >= 0
    assert -1 <= partition.opened_epoch <= partition.leader_epoch, f"{name}: opened too early"
    for broker_id, slot in zip(replicas, partition.slots, strict=True):
        assert broker_id in image.brokers, f"{name}: unknown broker {broker_id}"
        assert slot < image.brokers[broker_id].slots, f"{name}: slot {slot} outside the pool"
    if partition.leader != NO_LEADER:
        assert partition.leader in partition.isr, f"{name}: leader out of sync"
        assert partition.last_known_leader == NO_LEADER, f"{name}: a leader, and a former one"
        for broker_id in partition.isr:
            assert image.actor_runs(partition.slot_of(broker_id)), f"{name}: {broker_id} is dead"
