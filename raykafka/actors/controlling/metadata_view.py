"""The image as clients see it: answers to METADATA and DESCRIBE_CLUSTER, without asking anyone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from raykafka.controller.image import (
    NO_LEADER,
    MetadataImage,
    PartitionState,
    SlotKey,
    TopicState,
)
from raykafka.controller.settings import Settings
from raykafka.controller.topics import unknown_topic, validate_topic_name
from raykafka.errors import LeaderNotAvailableError, RaykafkaError
from raykafka.model import PartitionId, TopicId
from raykafka.protocol.messages import BrokerInfo, FollowerInfo, PartitionInfo, TopicInfo

FindFailure = Callable[[SlotKey, PartitionId], RaykafkaError | None]
"""Why a slot's actor could not open a partition."""
_NOT_AVAILABLE: Final = LeaderNotAvailableError.code


class MetadataView:
    """Makes answers, and keeps those about topics that have not changed."""

    def __init__(self, settings: Settings, find_failure: FindFailure) -> None:
        self._settings = settings
        self._find_failure = find_failure
        self._image = MetadataImage()
        self._known: dict[TopicId, tuple[TopicState, TopicInfo]] = {}

    def topics(self, image: MetadataImage, names: Sequence[str] | None) -> list[TopicInfo]:
        """The topics of these names, or all; one that does not exist is an error in its place."""
        self._forget_if_outdated(image)
        if names is None:
            return [self._topic(image, topic) for topic in image.topics.values()]
        found: list[TopicInfo] = []
        for name in names:
            topic = image.topic(name)
            found.append(_missing(name) if topic is None else self._topic(image, topic))
        return found

    def _forget_if_outdated(self, image: MetadataImage) -> None:
        before = self._image
        if before.actors is not image.actors or before.broker_configs is not image.broker_configs:
            self._known.clear()
        elif before.topics is not image.topics:
            gone = self._known.keys() - image.topics.keys()
            for topic_id in gone:
                del self._known[topic_id]
        self._image = image

    def _topic(self, image: MetadataImage, topic: TopicState) -> TopicInfo:
        known = self._known.get(topic.topic_id)
        if known is not None and known[0] is topic:
            return known[1]
        config = self._settings.topic(image, topic)
        partitions = [self._partition(image, topic, i) for i in range(len(topic.partitions))]
        info = TopicInfo(
            name=topic.name,
            topic_id=topic.topic_id,
            partitions=partitions,
            schemas=list(topic.schemas),
            key_column=config.key_column,
            compression=config.compression_type,
            max_message_bytes=config.max_message_bytes,
            timestamp_type=int(config.message_timestamp_type),
        )
        if all(partition.error_code == 0 for partition in partitions):
            # Why one failed is not part of the image, so an answer that says it is not kept.
            self._known[topic.topic_id] = (topic, info)
        return info

    def _partition(self, image: MetadataImage, topic: TopicState, index: int) -> PartitionInfo:
        state = topic.partitions[index]
        actor = image.leader_actor(state) if state.online else None
        code, message = 0, ""
        if actor is None:
            failure = self._failure(PartitionId(topic.topic_id, index), state)
            code = _NOT_AVAILABLE if failure is None else failure.code
            message = "" if failure is None else failure.message
        return PartitionInfo(
            partition=index,
            leader_id=NO_LEADER if actor is None else state.leader,
            leader_epoch=state.leader_epoch,
            host="" if actor is None else actor.host,
            port=0 if actor is None else actor.port,
            replicas=list(state.replicas),
            isr=list(state.isr),
            error_code=code,
            error_message=message,
            offline_replicas=[
                broker for broker in state.replicas if not image.actor_runs(state.slot_of(broker))
            ],
            eligible_leader_replicas=list(state.elr),
            last_known_leader=state.last_known_leader,
            adding_replicas=list(state.adding),
            removing_replicas=list(state.removing),
            followers=[] if actor is None else list(_followers(image, state)),
        )

    def _failure(self, partition: PartitionId, state: PartitionState) -> RaykafkaError | None:
        """Why nobody leads: the failure of whoever should, or of another replica."""
        suspects = (state.leader, state.last_known_leader, *state.replicas)
        for broker_id in suspects:
            if broker_id != NO_LEADER:
                failure = self._find_failure(state.slot_of(broker_id), partition)
                if failure is not None:
                    return failure
        return None


def _followers(image: MetadataImage, state: PartitionState) -> Iterator[FollowerInfo]:
    """Followers that hold all that is committed, or soon will, and can be asked for it."""
    for broker_id in state.isr:
        actor = image.actors.get(state.slot_of(broker_id))
        if broker_id != state.leader and actor is not None and actor.alive:
            yield FollowerInfo(broker_id, actor.host, actor.port)


def broker_infos(image: MetadataImage) -> list[BrokerInfo]:
    """Every broker that was ever registered, the fenced ones marked."""
    return [
        BrokerInfo(broker_id, broker.host, broker.rack, not broker.fenced)
        for broker_id, broker in sorted(image.brokers.items())
    ]


def _missing(name: str) -> TopicInfo:
    error: RaykafkaError = unknown_topic(name)
    try:
        validate_topic_name(name)
    except RaykafkaError as invalid:
        error = invalid
    return TopicInfo(name=name, error_code=error.code, error_message=error.message)
