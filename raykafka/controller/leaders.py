"""Elections on demand (KIP-460), and brokers that hand everything over before they stop."""

from __future__ import annotations

from collections.abc import Iterable

from raykafka.controller.commands import (
    ElectionAnswer,
    ElectLeaders,
    Outcome,
    ResumeBroker,
    ShutDownBroker,
)
from raykafka.controller.elections import (
    Rules,
    change_partitions,
    changes_of,
    elect,
    elections_after_return,
    move_leader,
    rules_of,
    without,
)
from raykafka.controller.image import (
    NO_LEADER,
    BrokerState,
    MetadataImage,
    PartitionState,
    SlotKey,
    TopicState,
)
from raykafka.controller.reassignments import find_partition
from raykafka.controller.settings import Settings
from raykafka.controller.updates import BrokerStateChanged, Update
from raykafka.errors import (
    BrokerIdNotRegisteredError,
    ElectionNotNeededError,
    EligibleLeadersNotAvailableError,
    NotEnoughReplicasError,
    PreferredLeaderNotAvailableError,
    RaykafkaError,
)
from raykafka.model import TopicId, TopicPartition


def elect_leaders(image: MetadataImage, settings: Settings, command: ElectLeaders) -> Outcome:
    """Each election succeeds or fails by itself."""
    wanted: dict[TopicId, dict[int, PartitionState]] = {}
    answers: list[ElectionAnswer] = []
    chosen = command.partitions
    for place in _everything(image) if chosen is None else chosen:
        try:
            topic = find_partition(image, *place)
            state = topic.partitions[place.partition]
            if command.unclean:
                rules = rules_of(image, settings, topic, image.may_serve, unclean=True)
                after = _led_by_anyone(state, rules, place)
            else:
                after = _led_by_preferred(image, state, place)
        except RaykafkaError as error:
            if chosen is not None:
                answers.append(ElectionAnswer(*place, error))
            continue
        wanted.setdefault(topic.topic_id, {})[place.partition] = after
        answers.append(ElectionAnswer(*place))
    records: list[Update] = []
    for topic_id, changed in wanted.items():
        records.extend(changes_of(image.topics[topic_id], changed))
    return Outcome(records, answers)


def _everything(image: MetadataImage) -> Iterable[TopicPartition]:
    for topic in image.topics.values():
        for index in range(len(topic.partitions)):
            yield TopicPartition(topic.name, index)


def _led_by_preferred(
    image: MetadataImage, state: PartitionState, place: TopicPartition
) -> PartitionState:
    preferred = state.target[0]
    if state.leader == preferred:
        raise ElectionNotNeededError(f"{place} is led by its preferred leader, broker {preferred}")
    if preferred not in state.isr or not image.may_serve(state.slot_of(preferred)):
        raise PreferredLeaderNotAvailableError(
            f"broker {preferred}, the preferred leader of {place}, is not in sync; it leads again"
            " when it has caught up"
        )
    return move_leader(state, preferred)


def _led_by_anyone(state: PartitionState, rules: Rules, place: TopicPartition) -> PartitionState:
    if state.leader != NO_LEADER:
        raise ElectionNotNeededError(f"{place} is led by broker {state.leader}")
    after = elect(state, rules)
    if after.leader == NO_LEADER:
        raise EligibleLeadersNotAvailableError(
            f"none of the brokers {list(state.replicas)} that hold {place} runs; start one of them"
        )
    return after


# --- brokers that stop --------------------------------------------------------------------------


def shut_down_broker(image: MetadataImage, settings: Settings, command: ShutDownBroker) -> Outcome:
    """Kafka's controlled shutdown: nobody has to wait for the broker once it stops."""
    broker = registered(image, command.broker_id)
    id_ = broker.broker_id
    if not command.force:
        _check_spared(image, settings, id_)

    def is_alive(slot: SlotKey) -> bool:
        return slot.broker_id != id_ and image.may_serve(slot)

    def concerned(partition: PartitionState) -> bool:
        return id_ in partition.isr and partition.isr != (id_,)

    def change(partition: PartitionState, rules: Rules) -> PartitionState:
        left = without(partition, (id_,), rules.min_insync_replicas, distrust=False)
        return elect(left, rules) if partition.leader == id_ else left

    records: list[Update] = [BrokerStateChanged(id_, broker.draining, stopping=True)]
    records.extend(change_partitions(image, settings, is_alive, concerned, change))
    led = sum(
        partition.leader == id_ and partition.isr == (id_,)
        for topic in image.topics.values()
        for partition in topic.partitions
    )
    return Outcome(records, led)


def resume_broker(image: MetadataImage, settings: Settings, command: ResumeBroker) -> Outcome:
    """The broker may lead and be in sync again, and what waited for it gets a leader."""
    broker = image.brokers.get(command.broker_id)
    if broker is None:
        return Outcome([], None)
    records: list[Update] = []
    if broker.stopping:
        records.append(BrokerStateChanged(broker.broker_id, broker.draining))
    records.extend(elections_after_return(image, settings, broker.broker_id))
    return Outcome(records, None)


def registered(image: MetadataImage, broker_id: int) -> BrokerState:
    """The broker; raises ``BrokerIdNotRegisteredError``."""
    broker = image.brokers.get(broker_id)
    if broker is None:
        raise BrokerIdNotRegisteredError(
            f"there is no broker {broker_id}; known are {sorted(image.brokers)}"
        )
    return broker


def _check_spared(image: MetadataImage, settings: Settings, broker_id: int) -> None:
    """Raise ``NotEnoughReplicasError`` where the others are too few for acks=all for now.

    Partitions whose replicas are never more than ``min.insync.replicas`` cannot be helped.
    """
    for topic in image.topics.values():
        for index, partition in enumerate(topic.partitions):
            if broker_id not in partition.replicas:
                continue
            needed = _needed(image, settings, topic, partition)
            others = [other for other in partition.isr if other != broker_id]
            if len(partition.target) > needed > len(others):
                raise NotEnoughReplicasError(
                    f"without broker {broker_id} only {others} would be in sync for"
                    f" {topic.name}-{index}, whose writes need {needed}; wait until"
                    f" {[b for b in partition.target if b not in partition.isr]} have caught up"
                )


def _needed(
    image: MetadataImage, settings: Settings, topic: TopicState, partition: PartitionState
) -> int:
    minimum = settings.topic(image, topic).min_insync_replicas
    return partition.effective_min_isr(minimum)
