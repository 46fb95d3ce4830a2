"""Configuration of topics: Kafka's keys where Kafka has them, with Kafka's meaning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from raykafka.config.definition import (
    ConfigKey,
    ConfigTable,
    ConfigType,
    Importance,
    at_least,
    between,
    member_of,
    one_of,
    render,
)
from raykafka.model import FsyncPolicy, TimestampType

_MIB = 1 << 20
_DAY_MS = 24 * 60 * 60 * 1000


def _timestamp_type(value: object) -> object:
    names = {
        "createtime": TimestampType.CREATE_TIME,
        "logappendtime": TimestampType.LOG_APPEND_TIME,
    }
    if isinstance(value, TimestampType):
        return value
    kind = names.get(str(value).lower())
    if kind is None:
        raise ValueError
    return kind


def _fsync_policy(value: object) -> object:
    return FsyncPolicy(value)


TOPIC: Final = ConfigTable(
    "topic",
    (
        ConfigKey(
            "cleanup.policy",
            ConfigType.STRING,
            "delete",
            Importance.MEDIUM,
            "What happens to old segments: `delete` removes them by `retention.ms` and "
            "`retention.bytes`.",
            one_of("delete"),
        ),
        ConfigKey(
            "compression.type",
            ConfigType.STRING,
            "producer",
            Importance.MEDIUM,
            "Codec of the topic's batches. Producers compress, servers never re-encode: `none`, "
            "`lz4` and `zstd` are what producers of this topic use; `producer` leaves the choice "
            "to each producer's `compression.type`. Compressed segments are not memory-mapped "
            "without a copy.",
            one_of("none", "lz4", "zstd", "producer"),
        ),
        ConfigKey(
            "fsync",
            ConfigType.STRING,
            "none",
            Importance.HIGH,
            "When written batches are forced to the disk. `batch`: before they are acknowledged, "
            "several batches in one flush. `interval`: every `fsync.interval.ms`. `none`: left to "
            "the operating system, as Kafka does; an acknowledged batch then survives the death of "
            "any process but not a power cut.",
            member_of(FsyncPolicy, "batch, interval, none"),
            convert=_fsync_policy,
        ),
        ConfigKey(
            "fsync.interval.ms",
            ConfigType.INT,
            1000,
            Importance.LOW,
            "Milliseconds between flushes where `fsync` is `interval`.",
            at_least(1),
        ),
        ConfigKey(
            "key.column",
            ConfigType.STRING,
            "",
            Importance.MEDIUM,
            "Typed topics: the column that is the record's key. Text and binary columns are taken "
            "as they are, integers as their decimal text. Empty: records have keys of their own.",
            dynamic=False,
        ),
        ConfigKey(
            "max.message.bytes",
            ConfigType.INT,
            8 * _MIB,
            Importance.MEDIUM,
            "Largest batch in bytes as it is stored. Kafka's default is 1 MiB; batches of columns "
            "are larger by nature.",
            between(1, 1 << 30),
        ),
        ConfigKey(
            "message.timestamp.type",
            ConfigType.STRING,
            "CreateTime",
            Importance.MEDIUM,
            "Whose clock a record's timestamp is: `CreateTime` the producer's, `LogAppendTime` the "
            "leader's.",
            member_of(TimestampType, "CreateTime, LogAppendTime"),
            convert=_timestamp_type,
        ),
        ConfigKey(
            "min.insync.replicas",
            ConfigType.INT,
            1,
            Importance.HIGH,
            "Copies that must be in sync for a produce with `acks=all` to be accepted.",
            at_least(1),
        ),
        ConfigKey(
            "retention.bytes",
            ConfigType.INT,
            -1,
            Importance.MEDIUM,
            "Bytes a partition keeps; older segments beyond them are deleted. -1: no limit.",
            at_least(-1),
        ),
        ConfigKey(
            "retention.ms",
            ConfigType.INT,
            7 * _DAY_MS,
            Importance.HIGH,
            "Milliseconds a record is kept; segments whose newest record is older are deleted. "
            "-1: for ever.",
            at_least(-1),
        ),
        ConfigKey(
            "segment.bytes",
            ConfigType.INT,
            1024 * _MIB,
            Importance.MEDIUM,
            "Size in bytes at which a segment is sealed and a new one begun.",
            at_least(14),
        ),
        ConfigKey(
            "segment.ms",
            ConfigType.INT,
            7 * _DAY_MS,
            Importance.MEDIUM,
            "Age in milliseconds at which a segment is sealed even if it is not full.",
            at_least(1),
        ),
        ConfigKey(
            "unclean.leader.election.enable",
            ConfigType.BOOLEAN,
            False,
            Importance.HIGH,
            "Whether a replica that may lack acknowledged records becomes the leader when no other "
            "one can: the partition is available again, and what the new leader lacks is lost.",
        ),
    ),
)
"""Keys of a topic."""


@dataclass(frozen=True, slots=True)
class TopicConfig:
    """A topic's settings with all defaults filled in; made by ``parse``."""

    cleanup_policy: str
    compression_type: str
    fsync: FsyncPolicy
    fsync_interval_ms: int
    key_column: str
    max_message_bytes: int
    message_timestamp_type: TimestampType
    min_insync_replicas: int
    retention_bytes: int
    retention_ms: int
    segment_bytes: int
    segment_ms: int
    unclean_leader_election_enable: bool

    @classmethod
    def parse(
        cls, settings: Mapping[str, object] | None = None, defaults: TopicConfig | None = None
    ) -> TopicConfig:
        """Settings as given, the rest from ``defaults`` or the table.

        Raises ``InvalidConfigError`` that names the key.
        """
        base = DEFAULT_TOPIC if defaults is None else defaults
        return replace(base, **TOPIC.parse(settings or {}))  # type: ignore[arg-type]

    def to_settings(self) -> dict[str, str]:
        """Every key and its value as text, as ``describe`` shows them."""
        return {key.name: _topic_text(getattr(self, key.field_name)) for key in TOPIC}


def _topic_text(value: object) -> str:
    if isinstance(value, TimestampType):
        return "CreateTime" if value is TimestampType.CREATE_TIME else "LogAppendTime"
    return render(value)


DEFAULT_TOPIC: Final = TopicConfig(**TOPIC.defaults())  # type: ignore[arg-type]
"""What a topic has on brokers that set nothing either."""
