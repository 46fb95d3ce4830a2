"""Configuration of brokers: Kafka's keys where Kafka has them, with Kafka's meaning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Final

from raykafka.config.coordinators import COORDINATOR_KEYS, CoordinatorConfig
from raykafka.config.definition import (
    ConfigKey,
    ConfigTable,
    ConfigType,
    Importance,
    Validator,
    at_least,
    between,
    one_of,
    render,
)
from raykafka.config.replication import REPLICATION_KEYS
from raykafka.config.topic import DEFAULT_TOPIC, TOPIC, TopicConfig
from raykafka.errors import InvalidConfigError

_MIB = 1 << 20
_DAY_MS = 24 * 60 * 60 * 1000

_BROKER_NAME_OF: Final = {
    "cleanup.policy": "log.cleanup.policy",
    "compression.type": "compression.type",
    "fsync": "log.fsync",
    "fsync.interval.ms": "log.fsync.interval.ms",
    "max.message.bytes": "message.max.bytes",
    "message.timestamp.type": "log.message.timestamp.type",
    "min.insync.replicas": "min.insync.replicas",
    "retention.bytes": "log.retention.bytes",
    "retention.ms": "log.retention.ms",
    "segment.bytes": "log.segment.bytes",
    "segment.ms": "log.roll.ms",
    "unclean.leader.election.enable": "unclean.leader.election.enable",
}


def _default_of_topics(key: ConfigKey) -> ConfigKey:
    return replace(
        key,
        name=_BROKER_NAME_OF[key.name],
        importance=Importance.LOW,
        documentation=f"Default of the topics' `{key.name}`.",
    )


def _is_port_range(value: object) -> bool:
    try:
        low, high = _port_range(str(value))
    except ValueError:
        return False
    return 0 <= low <= high < 65536 and (low > 0 or high == 0)


def _is_odd(value: object) -> bool:
    return isinstance(value, int) and 1 <= value <= 9 and value % 2 == 1


def _port_range(text: str) -> tuple[int, int]:
    low, _, high = text.partition("-")
    return int(low), int(high or low)


_OWN_BROKER_KEYS = (
    ConfigKey(
        "auto.create.topics.enable",
        ConfigType.BOOLEAN,
        False,
        Importance.LOW,
        "Whether using an unknown topic creates it. raykafka never does: create topics first.",
        one_of(False),
        dynamic=False,
    ),
    ConfigKey(
        "auto.leader.rebalance.enable",
        ConfigType.BOOLEAN,
        True,
        Importance.MEDIUM,
        "Whether partitions go back to their preferred leaders by themselves, every "
        "`leader.imbalance.check.interval.seconds`.",
    ),
    ConfigKey(
        "broker.heartbeat.interval.ms",
        ConfigType.INT,
        300,
        Importance.LOW,
        "Milliseconds between two heartbeats of a broker, or of one of its partition actors.",
        at_least(10),
        dynamic=False,
    ),
    ConfigKey(
        "broker.session.timeout.ms",
        ConfigType.INT,
        2000,
        Importance.MEDIUM,
        "Milliseconds without a heartbeat after which the controller fences a broker, and gives "
        "what a silent partition actor leads to others. Kafka's default is 9000.",
        at_least(100),
        dynamic=False,
    ),
    ConfigKey(
        "controller.quorum.election.timeout.ms",
        ConfigType.INT,
        1000,
        Importance.LOW,
        "Milliseconds that a voter waits for votes before it asks again, and up to half as much "
        "again by chance.",
        at_least(10),
        dynamic=False,
    ),
    ConfigKey(
        "controller.quorum.fetch.timeout.ms",
        ConfigType.INT,
        1000,
        Importance.MEDIUM,
        "Milliseconds without a word of the active controller, and up to half as much again by "
        "chance, after which the other voters elect. The end of its connections tells them sooner.",
        at_least(10),
        dynamic=False,
    ),
    ConfigKey(
        "controller.quorum.voters",
        ConfigType.INT,
        3,
        Importance.HIGH,
        "Controllers that hold the metadata, on as many nodes. A majority of them must live. With "
        "fewer nodes there are fewer, but always an odd number.",
        Validator("an odd number from 1 to 9", _is_odd),
        dynamic=False,
    ),
    ConfigKey(
        "default.replication.factor",
        ConfigType.INT,
        1,
        Importance.MEDIUM,
        "Copies of a topic's partitions where the topic's creator names no number.",
        between(1, 32767),
    ),
    ConfigKey(
        "disk.reserve.bytes",
        ConfigType.INT,
        -1,
        Importance.HIGH,
        "Free bytes of the disk below which produce requests are refused; reads go on. "
        "-1: 256 MiB or 5 % of the disk, whichever is smaller.",
        at_least(-1),
        dynamic=False,
    ),
    ConfigKey(
        "leader.imbalance.check.interval.seconds",
        ConfigType.INT,
        300,
        Importance.LOW,
        "Seconds between two looks for partitions that their preferred leader does not lead.",
        at_least(1),
    ),
    ConfigKey(
        "listener.host",
        ConfigType.STRING,
        "",
        Importance.HIGH,
        "Address that listeners bind. Empty: the node's Ray address, which is loopback on a single "
        "machine. All addresses (0.0.0.0) are never bound by default.",
        dynamic=False,
    ),
    ConfigKey(
        "listener.ports",
        ConfigType.STRING,
        "0",
        Importance.MEDIUM,
        "Ports that listeners take: one port, a range such as `9200-9299` (a listener per "
        "partition actor and one for the controller), or 0 for any free port.",
        Validator("a port, a range such as 9200-9299, or 0", _is_port_range),
        dynamic=False,
    ),
    ConfigKey(
        "log.dirs",
        ConfigType.LIST,
        "",
        Importance.HIGH,
        "Directory that holds the broker's partitions. Empty: `broker-<id>` below the cluster's "
        "data directory.",
        dynamic=False,
    ),
    ConfigKey(
        "log.retention.check.interval.ms",
        ConfigType.INT,
        300_000,
        Importance.LOW,
        "Milliseconds between two looks for segments to roll or delete.",
        at_least(1),
        dynamic=False,
    ),
    ConfigKey(
        "max.connections",
        ConfigType.INT,
        10_000,
        Importance.MEDIUM,
        "Connections that one listener accepts at a time; further ones are closed.",
        at_least(1),
        dynamic=False,
    ),
    ConfigKey(
        "max.parked.fetches",
        ConfigType.INT,
        10_000,
        Importance.LOW,
        "Fetch requests that may wait for data in one partition actor; further ones are refused as "
        "busy, and clients try again.",
        at_least(1),
        dynamic=False,
    ),
    ConfigKey(
        "metadata.log.max.record.bytes.between.snapshots",
        ConfigType.INT,
        20 * _MIB,
        Importance.LOW,
        "Bytes of metadata records after which a snapshot takes their place; one is also made "
        "after 20,000 records.",
        at_least(1),
        dynamic=False,
    ),
    ConfigKey(
        "num.partitions",
        ConfigType.INT,
        1,
        Importance.MEDIUM,
        "Partitions of a topic where its creator names no number.",
        between(1, 100_000),
    ),
    ConfigKey(
        "partition.actors",
        ConfigType.INT,
        0,
        Importance.HIGH,
        "Partition actors (processes) per broker. 0: one per core of the node.",
        between(0, 1024),
        dynamic=False,
    ),
    ConfigKey(
        "partition.actor.spares",
        ConfigType.INT,
        1,
        Importance.MEDIUM,
        "Processes that wait on each node to take a dead partition actor's place at once, about "
        "90 MB of memory each. Without one the successor's process has to be started first.",
        between(0, 64),
        dynamic=False,
    ),
    ConfigKey(
        "producer.id.expiration.ms",
        ConfigType.INT,
        _DAY_MS,
        Importance.LOW,
        "Milliseconds after which the state of an idempotent producer that no longer writes is "
        "forgotten.",
        at_least(1),
        dynamic=False,
    ),
    ConfigKey(
        "queued.max.bytes",
        ConfigType.INT,
        512 * _MIB,
        Importance.MEDIUM,
        "Bytes that all connections of one listener together may have waiting to be sent before it "
        "stops reading requests.",
        at_least(_MIB),
        dynamic=False,
    ),
    ConfigKey(
        "socket.request.max.bytes",
        ConfigType.INT,
        100 * _MIB,
        Importance.MEDIUM,
        "Largest request in bytes; a connection that announces a larger one is closed.",
        between(1024, 1 << 30),
        dynamic=False,
    ),
)

BROKER: Final = ConfigTable(
    "broker",
    _OWN_BROKER_KEYS
    + REPLICATION_KEYS
    + COORDINATOR_KEYS
    + tuple(_default_of_topics(key) for key in TOPIC if key.name in _BROKER_NAME_OF),
)
"""Keys of brokers; the cluster's controller reads the same ones."""


@dataclass(frozen=True, slots=True)
class BrokerConfig:
    """A broker's settings with all defaults filled in; made by ``parse``."""

    auto_create_topics_enable: bool
    auto_leader_rebalance_enable: bool
    broker_heartbeat_interval_ms: int
    broker_session_timeout_ms: int
    controller_quorum_election_timeout_ms: int
    controller_quorum_fetch_timeout_ms: int
    controller_quorum_voters: int
    default_replication_factor: int
    disk_reserve_bytes: int
    follower_replication_throttled_rate: int
    leader_imbalance_check_interval_seconds: int
    leader_replication_throttled_rate: int
    listener_host: str
    listener_ports: str
    log_dirs: tuple[str, ...]
    log_retention_check_interval_ms: int
    max_connections: int
    max_parked_fetches: int
    metadata_log_max_record_bytes_between_snapshots: int
    num_partitions: int
    partition_actor_spares: int
    partition_actors: int
    producer_id_expiration_ms: int
    queued_max_bytes: int
    replica_fetch_max_bytes: int
    replica_lag_time_max_ms: int
    socket_request_max_bytes: int
    topic_defaults: TopicConfig
    """What topics have where they set nothing themselves."""
    coordinators: CoordinatorConfig
    """Of internal topics, groups and transactions."""

    @classmethod
    def parse(cls, settings: Mapping[str, object] | None = None) -> BrokerConfig:
        """Settings as given, the rest from the table.

        Raises ``InvalidConfigError`` that names the key, also where two keys contradict each other.
        """
        values = {**BROKER.defaults(), **BROKER.parse(settings or {})}
        own = {item.name: values[item.name] for item in fields(cls) if item.name in values}
        topic = {
            TOPIC.find(name).field_name: values[BROKER.find(broker_name).field_name]
            for name, broker_name in _BROKER_NAME_OF.items()
        }
        coordinators = {key.field_name: values[key.field_name] for key in COORDINATOR_KEYS}
        config = cls(
            **own,  # type: ignore[arg-type]
            topic_defaults=replace(DEFAULT_TOPIC, **topic),  # type: ignore[arg-type]
            coordinators=CoordinatorConfig(**coordinators),  # type: ignore[arg-type]
        )
        if config.broker_session_timeout_ms <= config.broker_heartbeat_interval_ms:
            raise InvalidConfigError(
                '"broker.session.timeout.ms" must be larger than "broker.heartbeat.interval.ms", '
                "else every broker is fenced between two heartbeats"
            )
        if config.topic_defaults.max_message_bytes > config.socket_request_max_bytes:
            raise InvalidConfigError(
                '"message.max.bytes" must not be larger than "socket.request.max.bytes", else the '
                "largest batches can never arrive"
            )
        return config

    @property
    def listener_port_range(self) -> tuple[int, int]:
        """First and last port that a listener may take; (0, 0) for any free one."""
        return _port_range(self.listener_ports)

    def to_settings(self) -> dict[str, str]:
        """Every key and its value as text, as ``describe`` shows them."""
        own = _OWN_BROKER_KEYS + REPLICATION_KEYS
        settings = {key.name: render(getattr(self, key.field_name)) for key in own}
        for key in COORDINATOR_KEYS:
            settings[key.name] = render(getattr(self.coordinators, key.field_name))
        topic = self.topic_defaults.to_settings()
        settings.update({broker: topic[name] for name, broker in _BROKER_NAME_OF.items()})
        return settings
