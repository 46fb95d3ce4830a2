"""Commands about topics. Everything is validated before the first record is made."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Final

from raykafka.config import TopicConfig
from raykafka.controller.commands import (
    AddSchema,
    CreatePartitions,
    CreateTopics,
    DeleteTopics,
    Outcome,
    PartitionsToCreate,
    TopicAnswer,
    TopicToCreate,
)
from raykafka.controller.image import NO_LEADER, MetadataImage, SlotKey, TopicState
from raykafka.controller.placement import Candidate, Loads, place_on, place_partitions
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
    InvalidReplicaAssignmentError,
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
from raykafka.internal_topics import INTERNAL_TOPICS

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
    placer = _Placer(image)
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
            created = _plan_topic(image, settings, topic, placer, room)
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
    placer: _Placer,
    room: int,
) -> TopicCreated:
    validate_topic_name(topic.name)
    if not topic.internal:
        _refuse_internal(topic.name, "is made when it is first needed")
    if topic.name in image.topic_ids:
        raise TopicAlreadyExistsError(f"topic {topic.name!r} already exists")
    defaults = settings.broker(image)
    count, copies = topic.num_partitions, topic.replication_factor
    if topic.assignments:
        if (count, copies) != (-1, -1):
            raise InvalidRequestError(
                f"topic {topic.name!r}: give a replica assignment or the numbers of partitions and"
                " replicas, not both"
            )
        count, copies = len(topic.assignments), len(topic.assignments[0])
    count = defaults.num_partitions if count == -1 else count
    _validate_partition_count(topic.name, count)
    if count > room:
        raise PolicyViolationError(
            f"topic {topic.name!r}: the request asks for more than {MAX_PARTITIONS} new"
            " partitions in all; split it"
        )
    copies = defaults.default_replication_factor if copies == -1 else copies
    if not topic.assignments:
        _validate_replication_factor(topic.name, copies)
    validate_topic_config(
        TopicConfig.parse(topic.configs, defaults.topic_defaults),
        typed=bool(topic.schema),
        max_request_bytes=defaults.socket_request_max_bytes,
    )
    return TopicCreated(
        topic_id=topic.topic_id,
        name=topic.name,
        partitions=placer.place(count, copies, topic.assignments),
        configs=dict(topic.configs),
        schemas=[topic.schema] if topic.schema else [],
    )


def _refuse_internal(name: str, reason: str) -> None:
    if name in INTERNAL_TOPICS:
        raise InvalidTopicError(f"topic {name!r} holds the state of coordinators, it {reason}")


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


class _Placer:
    """Places the new partitions of one command."""

    def __init__(self, image: MetadataImage) -> None:
        self._image = image
        self._candidates = [
            Candidate(broker.broker_id, broker.rack, broker.slots)
            for broker in image.placeable_brokers()
        ]
        self._loads = Loads(self._candidates, image.slot_loads(), image.preferred_leads())

    def place(
        self, count: int, copies: int, assignments: Sequence[Sequence[int]]
    ) -> list[Placement]:
        """The given replicas, or where they fit best; whoever runs is in sync, nobody has data."""
        if assignments:
            for brokers in assignments:
                validate_replicas(self._image, brokers)
                if len(brokers) != copies:
                    raise InvalidReplicaAssignmentError(
                        f"every partition of a topic has as many replicas: {list(brokers)} are"
                        f" {len(brokers)}, not {copies}"
                    )
            placed = [place_on(brokers, self._loads) for brokers in assignments]
        else:
            placed = place_partitions(count, copies, self._candidates, self._loads)
        return [self._placement(*replicas) for replicas in placed]

    def _placement(self, brokers: tuple[int, ...], slots: tuple[int, ...]) -> Placement:
        running = tuple(
            broker
            for broker, slot in zip(brokers, slots, strict=True)
            if self._image.may_serve(SlotKey(broker, slot))
        )
        leader = running[0] if running else NO_LEADER
        isr = running if running != brokers else ()
        return Placement(brokers, slots, leader, isr)


def validate_replicas(
    image: MetadataImage, brokers: Sequence[int], *, known: Collection[int] = ()
) -> None:
    """Raise ``InvalidReplicaAssignmentError`` unless these brokers can take a partition.

    Those in ``known`` have it already, whatever their state.
    """
    if not brokers:
        raise InvalidReplicaAssignmentError("a partition needs at least one replica")
    if len(set(brokers)) != len(brokers):
        raise InvalidReplicaAssignmentError(f"{list(brokers)} names a broker twice")
    able = [broker.broker_id for broker in image.placeable_brokers()]
    for broker_id in brokers:
        if broker_id in able or broker_id in known:
            continue
        broker = image.brokers.get(broker_id)
        if broker is None:
            problem = f"there is no broker {broker_id}"
        elif broker.fenced:
            problem = f"broker {broker_id} is not alive"
        else:
            problem = f"broker {broker_id} is being drained or stopped"
        raise InvalidReplicaAssignmentError(f"{problem}; replicas can be placed on {able}")


def delete_topics(image: MetadataImage, command: DeleteTopics) -> Outcome:
    """Kafka's DeleteTopics: each topic succeeds or fails by itself."""
    seen = Counter(command.names)
    records: list[Update] = []
    answers: list[TopicAnswer] = []
    for name in command.names:
        topic = image.topic(name)
        try:
            if seen[name] > 1:
                raise InvalidRequestError(f"the request names topic {name!r} twice")
            if topic is None:
                raise unknown_topic(name)
            _refuse_internal(name, "cannot be deleted")
        except RaykafkaError as error:
            answers.append(TopicAnswer(name, error=error))
            continue
        records.append(TopicDeleted(topic.topic_id))
        answers.append(TopicAnswer(name, topic.topic_id, len(topic.partitions)))
    return Outcome(records, answers)


def create_partitions(image: MetadataImage, command: CreatePartitions) -> Outcome:
    """Kafka's CreatePartitions: a topic may only grow."""
    seen = Counter(topic.name for topic in command.topics)
    placer = _Placer(image)
    records: list[Update] = []
    answers: list[TopicAnswer] = []
    for wanted in command.topics:
        topic = image.topic(wanted.name)
        try:
            if seen[wanted.name] > 1:
                raise InvalidRequestError(f"the request names topic {wanted.name!r} twice")
            if topic is None:
                raise unknown_topic(wanted.name)
            _refuse_internal(wanted.name, "keeps its number of partitions: keys belong to them")
            missing = _validate_growth(topic, wanted)
            copies = len(topic.partitions[0].target)
            placements = placer.place(missing, copies, wanted.assignments)
        except RaykafkaError as error:
            answers.append(TopicAnswer(wanted.name, error=error))
            continue
        records.append(PartitionsCreated(topic.topic_id, placements))
        answers.append(TopicAnswer(wanted.name, topic.topic_id, wanted.total_count))
    return Outcome([] if command.validate_only else records, answers)


def _validate_growth(topic: TopicState, wanted: PartitionsToCreate) -> int:
    present = len(topic.partitions)
    if wanted.total_count <= present:
        raise InvalidPartitionsError(
            f"topic {wanted.name!r} has {present} partitions; the number can only grow,"
            f" {wanted.total_count} were asked for"
        )
    _validate_partition_count(wanted.name, wanted.total_count)
    missing = wanted.total_count - present
    if wanted.assignments and len(wanted.assignments) != missing:
        raise InvalidReplicaAssignmentError(
            f"topic {wanted.name!r} gets {missing} new partitions, replicas were assigned for"
            f" {len(wanted.assignments)}"
        )
    return missing


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
