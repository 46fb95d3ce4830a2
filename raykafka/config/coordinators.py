"""Broker settings of coordinators: of their topics, of groups, of transactions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from raykafka.config.definition import ConfigKey, ConfigType, Importance, between

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


COORDINATOR_KEYS: Final = (
    _partitions("offsets.topic.num.partitions", "__consumer_offsets"),
    _copies("offsets.topic.replication.factor", "__consumer_offsets"),
    _partitions("transaction.state.log.num.partitions", "__transaction_state"),
    _copies("transaction.state.log.replication.factor", "__transaction_state"),
    _partitions("share.coordinator.state.topic.num.partitions", "__share_group_state"),
    _copies("share.coordinator.state.topic.replication.factor", "__share_group_state"),
)


@dataclass(frozen=True, slots=True)
class CoordinatorConfig:
    """Settings of coordinators with all defaults filled in; part of ``BrokerConfig``."""

    offsets_topic_num_partitions: int
    offsets_topic_replication_factor: int
    share_coordinator_state_topic_num_partitions: int
    share_coordinator_state_topic_replication_factor: int
    transaction_state_log_num_partitions: int
    transaction_state_log_replication_factor: int
