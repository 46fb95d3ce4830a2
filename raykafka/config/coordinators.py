"""Broker settings of coordinators: of their topics, of groups, of transactions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from raykafka.config.definition import ConfigKey, ConfigType, Importance, at_least, between
from raykafka.config.share_group import SHARE_BROKER_KEYS

_MAX_COPIES: Final = 32767


def _partitions(name: str, topic: str) -> ConfigKey:
    return ConfigKey(
        name,
        ConfigType.INT,
        8,
        Importance.MEDIUM,
        f"Partitions of `{topic}`, each with a coordinator of its own; fixed once the topic has "
        "been created, which the first request that needs it does.",
        between(1, 1000),
        dynamic=False,
    )


def _copies(name: str, topic: str) -> ConfigKey:
    return ConfigKey(
        name,
        ConfigType.INT,
        3,
        Importance.HIGH,
        f"Copies of `{topic}`; fewer where fewer brokers are alive when it is created. With three "
        "or more, two must be in sync to change anything.",
        between(1, _MAX_COPIES),
        dynamic=False,
    )


def _session(kind: str) -> ConfigKey:
    return ConfigKey(
        f"group.{kind}.session.timeout.ms",
        ConfigType.INT,
        45_000,
        Importance.MEDIUM,
        f"Milliseconds without a heartbeat after which a member of a {kind} group is removed and "
        "its partitions go to others. Heartbeats do not depend on how fast records are processed.",
        at_least(100),
        dynamic=False,
    )


def _interval(kind: str) -> ConfigKey:
    return ConfigKey(
        f"group.{kind}.heartbeat.interval.ms",
        ConfigType.INT,
        5000,
        Importance.LOW,
        f"Milliseconds between two heartbeats of a member of a {kind} group; at most a third of "
        "the session timeout counts. A member learns of a new assignment at once all the same: its "
        "coordinator holds the heartbeat back and answers it when there is news.",
        at_least(10),
        dynamic=False,
    )


def _size(kind: str, default: int) -> ConfigKey:
    return ConfigKey(
        f"group.{kind}.max.size",
        ConfigType.INT,
        default,
        Importance.MEDIUM,
        f"Members that a {kind} group may have; more are refused.",
        at_least(1),
        dynamic=False,
    )


_GROUP_KEYS: Final = (
    ConfigKey(
        "group.consumer.assignors",
        ConfigType.LIST,
        "uniform,range",
        Importance.MEDIUM,
        "Assignors that members may ask for, the default first: `uniform`, `range`, or one of your "
        "own as `package.module:Name`, which every broker must be able to import.",
        dynamic=False,
    ),
    _session("consumer"),
    _interval("consumer"),
    _size("consumer", 1000),
    _session("share"),
    _interval("share"),
    _size("share", 200),
    ConfigKey(
        "offset.metadata.max.bytes",
        ConfigType.INT,
        4096,
        Importance.HIGH,
        "Bytes of the text that may be committed with an offset.",
        between(0, 1 << 20),
        dynamic=False,
    ),
    ConfigKey(
        "offsets.retention.check.interval.ms",
        ConfigType.INT,
        600_000,
        Importance.LOW,
        "Milliseconds between two looks for committed offsets that have expired.",
        at_least(1),
        dynamic=False,
    ),
    ConfigKey(
        "offsets.retention.minutes",
        ConfigType.INT,
        7 * 24 * 60,
        Importance.HIGH,
        "Minutes that a group without members keeps its offsets, counted from the last commit or "
        "from when the last member left, whichever is later. Offsets of topics that a group with "
        "members is not subscribed to expire likewise, from their last commit.",
        at_least(1),
        dynamic=False,
    ),
)

COORDINATOR_KEYS: Final = (
    *_GROUP_KEYS,
    _partitions("offsets.topic.num.partitions", "__consumer_offsets"),
    _copies("offsets.topic.replication.factor", "__consumer_offsets"),
    _partitions("transaction.state.log.num.partitions", "__transaction_state"),
    _copies("transaction.state.log.replication.factor", "__transaction_state"),
    ConfigKey(
        "transaction.max.timeout.ms",
        ConfigType.INT,
        900_000,
        Importance.HIGH,
        "Longest `transaction_timeout_ms` that a producer may ask for, in milliseconds: so long an "
        "open transaction can hold up consumers that read only what is committed.",
        at_least(1),
        dynamic=False,
    ),
    ConfigKey(
        "transaction.two.phase.commit.enable",
        ConfigType.BOOLEAN,
        True,
        Importance.LOW,
        "Whether producers may prepare transactions, which then wait for their end without a "
        "timeout (KIP-939). Kafka's default is false because its permissions decide who may; here "
        "whoever has the cluster's secret may do everything, and prepared transactions can be "
        "listed and ended by anybody.",
        dynamic=False,
    ),
    ConfigKey(
        "transactional.id.expiration.ms",
        ConfigType.INT,
        7 * 24 * 60 * 60 * 1000,
        Importance.HIGH,
        "Milliseconds after which a transactional id that is not used, and has no transaction "
        "open, is forgotten.",
        at_least(1),
        dynamic=False,
    ),
    _partitions("share.coordinator.state.topic.num.partitions", "__share_group_state"),
    _copies("share.coordinator.state.topic.replication.factor", "__share_group_state"),
    *SHARE_BROKER_KEYS,
)


@dataclass(frozen=True, slots=True)
class CoordinatorConfig:
    """Settings of coordinators with all defaults filled in; part of ``BrokerConfig``."""

    group_consumer_assignors: tuple[str, ...]
    group_consumer_heartbeat_interval_ms: int
    group_consumer_max_size: int
    group_consumer_session_timeout_ms: int
    group_share_delivery_count_limit: int
    group_share_heartbeat_interval_ms: int
    group_share_max_size: int
    group_share_partition_max_record_locks: int
    group_share_record_lock_duration_ms: int
    group_share_session_timeout_ms: int
    offset_metadata_max_bytes: int
    offsets_retention_check_interval_ms: int
    offsets_retention_minutes: int
    offsets_topic_num_partitions: int
    offsets_topic_replication_factor: int
    share_coordinator_state_topic_num_partitions: int
    share_coordinator_state_topic_replication_factor: int
    transaction_max_timeout_ms: int
    transaction_state_log_num_partitions: int
    transaction_state_log_replication_factor: int
    transaction_two_phase_commit_enable: bool
    transactional_id_expiration_ms: int
