"""Commands about topics. Everything is validated before the first record is made."""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

from raykafka.config import TopicConfig
from raykafka.controller.commands import (
    AddSchema,
    CreatePartitions,
    CreateTopics,
    DeleteTopics,
    Outcome,
    TopicAnswer,
    TopicToCreate,
)
from raykafka.controller.image import NO_LEADER, MetadataImage, SlotKey
from raykafka.controller.placement import Candidate, place_partitions
from raykafka.controller.settings import Settings
from raykafka.controller.updates import (
    PartitionsCreated,
    Placement,
    SchemaAdded,
    TopicCreated,
    TopicDeleted,
    Update,
)
from raykafka.errors import (
    InvalidConfigError,
    InvalidPartitionsError,
    InvalidReplicationFactorError,
    InvalidRequestError,
    InvalidTopicError,
    InvalidUpdateVersionError,
    PolicyViolationError,
    RaykafkaError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
    UnsupportedSchemaChangeError,
)

MAX_TOPIC_NAME_LENGTH: Final = 249
MAX_PARTITIONS: Final = 10_000
"""Partitions of one topic, and new ones in one request (Kafka has the same bound)."""
METADATA_TOPIC: Final = "__cluster_metadata"
"""The controller's own log; the name is not free for topics."""
_LEGAL_NAME: Final = re.compile(r"[a-zA-Z0-9._-]+\Z")
_MAX_SCHEMA_ID: Final = (1 << 15) - 1


def validate_topic_name(name: str) -> None:
    """Kafka's rules (``org.apache.kafka.common.internals.Topic``); raises ``InvalidTopicError``."""
    if not name:
        raise InvalidTopicError("the topic name is empty")
    if len(name) > MAX_TOPIC_NAME_LENGTH:
        raise InvalidTopicError(
            f"the topic name has {len(name)} characters, {MAX_TOPIC_NAME_LENGTH} are allowed:"
            f" {name[:40]!r}..."
        )
    if name in (".", "..") or not _LEGAL_NAME.match(name):
        raise InvalidTopicError(
            f"topic name {name!r} is not valid: use ASCII letters, digits, '.', '_' and '-',"
            " and not '.' or '..' alone"
        )
    if name == METADATA_TOPIC:
        raise InvalidTopicError(f"topic name {name!r} is reserved for the controller")


def unknown_topic(name: str) -> UnknownTopicOrPartitionError:
    """The error for a topic that does not exist."""
    return UnknownTopicOrPartitionError(f"topic {name!r} does not exist; create it first")


def validate_topic_config(config: TopicConfig, *, typed: bool, max_request_bytes: int) -> None:
    """Rules that tie a topic's settings to each other; raises ``InvalidConfigError``."""
    if config.key_column and not typed:
        raise InvalidConfigError(
            f'"key.column" is {config.key_column!r}, but the topic has no schema; give it a schema'
            " with that column, or leave the key out"
        )
    if config.max_message_bytes > max_request_bytes:
        raise InvalidConfigError(
            f'"max.message.bytes" is {config.max_message_bytes}, more than the'
            f' "socket.request.max.bytes" of {max_request_bytes}; such a batch could never arrive'
        )


def create_topics(image: MetadataImage, settings: Settings, command: CreateTopics) -> Outcome:
    """Kafka's CreateTopics: each topic succeeds or fails by itself."""
    seen = Counter(topic.name for topic in command.topics)
    deleting = {removal.topic for removal in image.removals.values()}
    loads = image.slot_loads()
    room = MAX_PARTITIONS
    records: list[Update] = []
    answers: list[TopicAnswer] = []
    for topic in command.topics:
        try:
            if seen[topic.name] > 1:
                raise InvalidRequestError(f"the request names topic {topic.name!r} twice")
            if topic.name in deleting:
                raise TopicAlreadyExistsError(
                    f"topic {topic.name!r} is still being deleted; try again in a moment"
                )
            created = _plan_topic(image, settings, topic, loads, room)
        except RaykafkaError as error:
            answers.append(TopicAnswer(topic.name, error=error))
            continue
        records.append(created)
        room -= len(created.partitions)
        topic_id = "" if command.validate_only else created.topic_id
        answers.append(TopicAnswer(topic.name, topic_id, len(created.partitions)))
    return Outcome([] if command.validate_only else records, answers)


def _plan_topic(
    image: MetadataImage,
    settings: Settings,
    topic: TopicToCreate,
    loads: dict[SlotKey, int],
    room: int,
) -> TopicCreated:
    validate_topic_name(topic.name)
    if topic.name in image.topic_ids:
        raise TopicAlreadyExistsError(f"topic {topic.name!r} already exists")
    defaults = settings.broker(image)
    count = defaults.num_partitions if topic.num_partitions == -1 else topic.num_partitions
    _validate_partition_count(topic.name, count)
    if count > room:
        raise PolicyViolationError(
            f"topic {topic.name!r}: the request asks for more than {MAX_PARTITIONS} new"
            " partitions in all; split it"
        )
    copies = topic.replication_factor
    if copies == -1:
        copies = defaults.default_replication_factor
    _validate_replication_factor(topic.name, copies)
    validate_topic_config(
        TopicConfig.parse(topic.configs, defaults.topic_defaults),
        typed=bool(topic.schema),
        max_request_bytes=defaults.socket_request_max_bytes,
    )
    return TopicCreated(
        topic_id=topic.topic_id,
        name=topic.name,
        partitions=_place(image, count, copies, loads),
        configs=dict(topic.configs),
        schemas=[topic.schema] if topic.schema else [],
    )


def _validate_partition_count(name: str, count: int) -> None:
    if not 1 <= count <= MAX_PARTITIONS:
        raise InvalidPartitionsError(
            f"topic {name!r} cannot have {count} partitions; ask for 1 to {MAX_PARTITIONS}"
        )


def _validate_replication_factor(name: str, copies: int) -> None:
    if copies < 1:
        raise InvalidReplicationFactorError(
            f"topic {name!r}: the replication factor is {copies}, it must be at least 1"
        )
    if copies > 1:
        raise InvalidReplicationFactorError(
            f"topic {name!r}: replication factor {copies} is not available in this version, which"
            " keeps one copy of each partition; use 1"
        )


def _place(
    image: MetadataImage, count: int, copies: int, loads: dict[SlotKey, int]
) -> list[Placement]:
    candidates = [Candidate(b.broker_id, b.rack, b.slots) for b in image.live_brokers()]
    placements = []
    for brokers, slots in place_partitions(count, copies, candidates, loads):
        running = (
            broker_id
            for broker_id, slot in zip(brokers, slots, strict=True)
            if (actor := image.actors.get(SlotKey(broker_id, slot))) is not None and actor.alive
        )
        placements.append(Placement(brokers, slots, next(running, NO_LEADER)))
    return placements


def delete_topics(image: MetadataImage, command: DeleteTopics) -> Outcome:
    """Kafka's DeleteTopics: each topic succeeds or fails by itself."""
    seen = Counter(command.names)
    records: list[Update] = []
    answers: list[TopicAnswer] = []
    for name in command.names:
        topic = image.topic(name)
        if seen[name] > 1:
            error: RaykafkaError = InvalidRequestError(f"the request names topic {name!r} twice")
            answers.append(TopicAnswer(name, error=error))
        elif topic is None:
            answers.append(TopicAnswer(name, error=unknown_topic(name)))
        else:
            records.append(TopicDeleted(topic.topic_id))
            answers.append(TopicAnswer(name, topic.topic_id, len(topic.partitions)))
    return Outcome(records, answers)


def create_partitions(image: MetadataImage, command: CreatePartitions) -> Outcome:
    """Kafka's CreatePartitions: a topic may only grow."""
    seen = Counter(topic.name for topic in command.topics)
    loads = image.slot_loads()
    records: list[Update] = []
    answers: list[TopicAnswer] = []
    for wanted in command.topics:
        topic = image.topic(wanted.name)
        try:
            if seen[wanted.name] > 1:
                raise InvalidRequestError(f"the request names topic {wanted.name!r} twice")
            if topic is None:
                raise unknown_topic(wanted.name)
            present = len(topic.partitions)
            if wanted.total_count <= present:
                raise InvalidPartitionsError(
                    f"topic {wanted.name!r} has {present} partitions; the number can only grow,"
                    f" {wanted.total_count} were asked for"
                )
            _validate_partition_count(wanted.name, wanted.total_count)
            copies = len(topic.partitions[0].replicas)
            placements = _place(image, wanted.total_count - present, copies, loads)
        except RaykafkaError as error:
            answers.append(TopicAnswer(wanted.name, error=error))
            continue
        records.append(PartitionsCreated(topic.topic_id, placements))
        answers.append(TopicAnswer(wanted.name, topic.topic_id, wanted.total_count))
    return Outcome([] if command.validate_only else records, answers)


def add_schema(image: MetadataImage, command: AddSchema) -> Outcome:
    """The next schema of a typed topic; that it only adds nullable columns is for the caller."""
    topic = image.topic(command.topic)
    if topic is None:
        raise unknown_topic(command.topic)
    if not topic.schemas:
        raise UnsupportedSchemaChangeError(
            f"topic {command.topic!r} is untyped, it has no columns to add to; create a topic with"
            " a schema"
        )
    if command.schema_id != len(topic.schemas):
        raise InvalidUpdateVersionError(
            f"topic {command.topic!r} has {len(topic.schemas)} schemas; the change was made for"
            f" one that has {command.schema_id}"
        )
    if command.schema_id > _MAX_SCHEMA_ID:
        raise UnsupportedSchemaChangeError(
            f"topic {command.topic!r} has had {len(topic.schemas)} schemas, the most there can be"
        )
    record = SchemaAdded(topic.topic_id, command.schema_id, command.schema)
    return Outcome([record], command.schema_id)
