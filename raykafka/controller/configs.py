"""Commands and questions about configuration: incremental as in KIP-339, validated as a whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from raykafka.config import BROKER, TOPIC, BrokerConfig, ConfigTable, TopicConfig
from raykafka.controller.apply import apply_updates
from raykafka.controller.commands import AlterConfigs, Outcome, ResourceToAlter, SettingChange
from raykafka.controller.elections import changes_of, with_isr
from raykafka.controller.image import MetadataImage, TopicState
from raykafka.controller.settings import ALL_BROKERS, Settings
from raykafka.controller.topics import unknown_topic, validate_topic_config
from raykafka.controller.updates import BrokerConfigChanged, TopicConfigChanged, Update
from raykafka.errors import (
    BrokerIdNotRegisteredError,
    InvalidConfigError,
    InvalidRequestError,
    RaykafkaError,
)
from raykafka.internal_topics import INTERNAL_TOPICS

_CLUSTER_ONLY = frozenset(
    {
        "num.partitions",
        "default.replication.factor",
        "auto.leader.rebalance.enable",
        "leader.imbalance.check.interval.seconds",
        "min.insync.replicas",  # leaders and elections have to agree on it (KIP-966)
    }
)
_KEPT = ("retention.ms", "retention.bytes")
"""Settings that are -1 for topics of coordinators."""


class Setting(NamedTuple):
    """One effective setting; ``source`` is topic, broker, cluster or default."""

    name: str
    value: str
    source: str
    read_only: bool
    documentation: str


def alter_configs(image: MetadataImage, settings: Settings, command: AlterConfigs) -> Outcome:
    """Each resource succeeds or fails by itself, all of its changes together."""
    seen = Counter((resource.type, resource.name) for resource in command.resources)
    records: list[Update] = []
    answers: list[RaykafkaError | None] = []
    for resource in command.resources:
        try:
            if seen[resource.type, resource.name] > 1:
                raise InvalidRequestError(
                    f"the request names {resource.type} {resource.name!r} twice"
                )
            record = _plan(image, settings, resource)
        except RaykafkaError as error:
            answers.append(error)
            continue
        answers.append(None)
        if record is not None:
            records.append(record)
    if command.validate_only:
        return Outcome([], answers)
    return Outcome([*records, *_no_longer_eligible(image, settings, records)], answers)


def _no_longer_eligible(
    image: MetadataImage, settings: Settings, records: Sequence[Update]
) -> list[Update]:
    """Who is out of sync must not be elected where fewer in sync are enough from now on: they
    commit without it (KIP-966).
    """
    after = apply_updates(image, records)
    found: list[Update] = []
    for topic in after.topics.values():
        if any(partition.elr for partition in topic.partitions):
            minimum = settings.topic(after, topic).min_insync_replicas
            wanted = {
                index: with_isr(partition, partition.isr, minimum)
                for index, partition in enumerate(topic.partitions)
            }
            found.extend(changes_of(topic, wanted))
    return found


def describe_configs(
    image: MetadataImage, settings: Settings, type_: str, name: str
) -> list[Setting]:
    """Every setting of a topic or broker, and where its value comes from.

    Raises ``UnknownTopicOrPartitionError``, ``BrokerIdNotRegisteredError`` or
    ``InvalidRequestError`` for a type of resource that there is not.
    """
    if type_ == "topic":
        return _describe_topic(image, settings, _topic(image, name))
    return _describe_broker(image, settings, _broker_id(image, type_, name))


def _plan(
    image: MetadataImage, settings: Settings, resource: ResourceToAlter
) -> TopicConfigChanged | BrokerConfigChanged | None:
    if resource.type == "topic":
        topic = _topic(image, resource.name)
        after = _changed(TOPIC, topic.configs, resource.changes)
        if topic.name in INTERNAL_TOPICS:
            _check_kept(topic.name, after)
        defaults = settings.broker(image)
        validate_topic_config(
            TopicConfig.parse(after, defaults.topic_defaults),
            typed=bool(topic.schemas),
            max_request_bytes=defaults.socket_request_max_bytes,
        )
        return TopicConfigChanged(topic.topic_id, after) if after != topic.configs else None
    broker_id = _broker_id(image, resource.type, resource.name)
    before = image.broker_configs.get(broker_id, {})
    after = _changed(BROKER, before, resource.changes)
    if broker_id != ALL_BROKERS:
        for name in _CLUSTER_ONLY.intersection(after):
            raise InvalidConfigError(
                f'"{name}" holds for the whole cluster; alter it for all brokers (empty name)'
            )
    BrokerConfig.parse({**settings.given(image, broker_id), **after})
    return BrokerConfigChanged(broker_id, after) if after != before else None


def _check_kept(name: str, configs: Mapping[str, str]) -> None:
    """Coordinators shorten their logs themselves: whatever else did would take their state away."""
    for key in _KEPT:
        if configs.get(key) != "-1":
            raise InvalidConfigError(f'"{key}" of {name} is always -1: its records do not expire')


def _changed(
    table: ConfigTable, before: Mapping[str, str], changes: Sequence[SettingChange]
) -> dict[str, str]:
    after = dict(before)
    changed: set[str] = set()
    for change in changes:
        key = table.find(change.name)
        if key.name in changed:
            raise InvalidRequestError(f'the request changes "{key.name}" twice')
        changed.add(key.name)
        if not key.dynamic:
            when = "the topic is created" if table is TOPIC else "the cluster is started"
            raise InvalidConfigError(f'"{key.name}" can only be set when {when}')
        if change.op == "set":
            table.parse_value(key.name, change.value)
            after[key.name] = change.value
        elif change.op == "delete":
            after.pop(key.name, None)
        else:
            raise InvalidRequestError(f"there is no operation {change.op!r}; use set or delete")
    return after


def _topic(image: MetadataImage, name: str) -> TopicState:
    topic = image.topic(name)
    if topic is None:
        raise unknown_topic(name)
    return topic


def _broker_id(image: MetadataImage, type_: str, name: str) -> int:
    if type_ != "broker":
        raise InvalidRequestError(f"there is no resource type {type_!r}; use topic or broker")
    if not name:
        return ALL_BROKERS
    if name.isascii() and name.isdigit() and int(name) in image.brokers:
        return int(name)
    raise BrokerIdNotRegisteredError(
        f"there is no broker {name!r}; known are {sorted(image.brokers)}, an empty name means all"
    )


def _describe_topic(image: MetadataImage, settings: Settings, topic: TopicState) -> list[Setting]:
    values = settings.topic(image, topic).to_settings()
    changed = settings.topic_overrides(image, ALL_BROKERS)
    builtin = TopicConfig.parse().to_settings()
    described = []
    for key in TOPIC:
        if key.name in topic.configs:
            source = "topic"
        elif key.name in changed or values[key.name] != builtin[key.name]:
            source = "cluster"
        else:
            source = "default"
        described.append(
            Setting(key.name, values[key.name], source, not key.dynamic, key.documentation)
        )
    return described


def _describe_broker(image: MetadataImage, settings: Settings, broker_id: int) -> list[Setting]:
    values = settings.broker(image, broker_id).to_settings()
    given = settings.given(image, ALL_BROKERS)
    own = image.broker_configs.get(broker_id, {}) if broker_id != ALL_BROKERS else {}
    described = []
    for key in BROKER:
        source = "broker" if key.name in own else "cluster" if key.name in given else "default"
        described.append(
            Setting(key.name, values[key.name], source, not key.dynamic, key.documentation)
        )
    return described
