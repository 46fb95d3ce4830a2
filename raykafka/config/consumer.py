"""Configuration of consumers; see ``config_client`` for how keys are spelled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from raykafka.config.client import CLIENT_KEYS
from raykafka.config.definition import (
    ConfigKey,
    ConfigTable,
    ConfigType,
    Importance,
    between,
    callable_or_with,
    member_of,
    one_of,
)
from raykafka.errors import InvalidConfigError
from raykafka.model import IsolationLevel

_MIB = 1 << 20
_INT_MAX = (1 << 31) - 1
_NAMES = frozenset({"group_id", "group_instance_id", "group_remote_assignor"})


def _isolation(value: object) -> object:
    known = {level.name.lower(): level for level in IsolationLevel}
    return known.get(str(value), value)


CONSUMER: Final = ConfigTable(
    "consumer",
    (
        ConfigKey(
            "auto.commit.interval.ms",
            ConfigType.INT,
            5000,
            Importance.LOW,
            "Milliseconds between two commits of `enable.auto.commit`.",
            between(0, _INT_MAX),
        ),
        ConfigKey(
            "auto.offset.reset",
            ConfigType.STRING,
            "latest",
            Importance.MEDIUM,
            "Where to start without a position or a committed offset, or where the position is no "
            "longer in the log: `earliest`, `latest`, or `none` to raise an error.",
            one_of("earliest", "latest", "none"),
        ),
        ConfigKey(
            "check.crcs",
            ConfigType.BOOLEAN,
            True,
            Importance.LOW,
            "Whether the CRC-32C of every batch is checked by the consumer too.",
        ),
        ConfigKey(
            "client.rack",
            ConfigType.STRING,
            "",
            Importance.LOW,
            "Rack of this consumer: where neither the leader nor a follower in sync is on its "
            "machine, it reads from one in its rack (KIP-392).",
        ),
        ConfigKey(
            "columns",
            ConfigType.LIST,
            None,
            Importance.MEDIUM,
            "Typed topics: the value columns to read; only these travel. Unset: all.",
        ),
        ConfigKey(
            "consumer.timeout.ms",
            ConfigType.INT,
            -1,
            Importance.LOW,
            "Milliseconds that iterating over a consumer waits for the next record before it ends; "
            "-1 waits for ever.",
            between(-1, _INT_MAX),
        ),
        ConfigKey(
            "enable.auto.commit",
            ConfigType.BOOLEAN,
            True,
            Importance.MEDIUM,
            "Groups: whether `poll` commits the positions of what earlier polls returned, every "
            "`auto.commit.interval.ms`, before partitions are given up, and in `close`.",
        ),
        ConfigKey(
            "fetch.max.bytes",
            ConfigType.INT,
            50 * _MIB,
            Importance.MEDIUM,
            "Bytes per server that may wait in the consumer, and that one answer may carry; the "
            "first batch is delivered even if it is larger.",
            between(1, 1 << 30),
        ),
        ConfigKey(
            "fetch.max.wait.ms",
            ConfigType.INT,
            500,
            Importance.LOW,
            "Milliseconds a server waits for `fetch.min.bytes`.",
            between(0, _INT_MAX),
        ),
        ConfigKey(
            "fetch.min.bytes",
            ConfigType.INT,
            1,
            Importance.LOW,
            "Bytes a server gathers before it answers.",
            between(0, 1 << 30),
        ),
        ConfigKey(
            "follower.fetch.enable",
            ConfigType.BOOLEAN,
            True,
            Importance.LOW,
            "Whether to read from a follower in sync that is nearer than the leader: on this "
            "machine, where its segments can be mapped, or in `client.rack`. A follower hears a "
            "few milliseconds later than its leader what is committed.",
        ),
        ConfigKey(
            "group.id",
            ConfigType.STRING,
            "",
            Importance.HIGH,
            "Name of the consumer group, for `subscribe` and `commit`. Empty: no group.",
        ),
        ConfigKey(
            "group.instance.id",
            ConfigType.STRING,
            "",
            Importance.MEDIUM,
            "Name of this member that outlives the process: who comes back under it within the "
            "group's session timeout gets its partitions back (static membership, KIP-345).",
        ),
        ConfigKey(
            "group.remote.assignor",
            ConfigType.STRING,
            "",
            Importance.MEDIUM,
            "Groups: which of the cluster's assignors spreads the partitions. Empty: the cluster's "
            "default.",
        ),
        ConfigKey(
            "isolation.level",
            ConfigType.STRING,
            "read_uncommitted",
            Importance.MEDIUM,
            "`read_committed` hides records of open and aborted transactions.",
            member_of(IsolationLevel, "read_uncommitted, read_committed"),
            convert=_isolation,
        ),
        ConfigKey(
            "key.deserializer",
            ConfigType.OBJECT,
            None,
            Importance.MEDIUM,
            "Turns bytes into a key: a function, or an object with `deserialize(topic, data)`. "
            "Unset: bytes.",
            callable_or_with("deserialize"),
        ),
        ConfigKey(
            "mapped.reads",
            ConfigType.BOOLEAN,
            True,
            Importance.LOW,
            "Whether segments on this machine are memory-mapped instead of sent over the socket.",
        ),
        ConfigKey(
            "max.partition.fetch.bytes",
            ConfigType.INT,
            8 * _MIB,
            Importance.MEDIUM,
            "Bytes per partition in one answer. Kafka's default is 1 MiB.",
            between(1, 1 << 30),
        ),
        ConfigKey(
            "max.poll.interval.ms",
            ConfigType.INT,
            300_000,
            Importance.MEDIUM,
            "Groups: milliseconds between two polls after which the member leaves its group, since "
            "it seems to be stuck; also how long it may take to give partitions up.",
            between(1, _INT_MAX),
        ),
        ConfigKey(
            "max.poll.records",
            ConfigType.INT,
            500,
            Importance.MEDIUM,
            "Records that one `poll` returns at most.",
            between(1, _INT_MAX),
        ),
        ConfigKey(
            "value.deserializer",
            ConfigType.OBJECT,
            None,
            Importance.MEDIUM,
            "Turns bytes into a value: a function, or an object with `deserialize(topic, data)`. "
            "Unset: bytes.",
            callable_or_with("deserialize"),
        ),
        *CLIENT_KEYS,
    ),
)
"""Keys of a consumer."""


@dataclass(frozen=True, slots=True)
class ConsumerConfig:
    """A consumer's settings with all defaults filled in; made by ``parse``."""

    auto_commit_interval_ms: int
    auto_offset_reset: str
    check_crcs: bool
    client_id: str
    client_rack: str
    columns: tuple[str, ...] | None
    consumer_timeout_ms: int
    enable_auto_commit: bool
    fetch_max_bytes: int
    fetch_max_wait_ms: int
    fetch_min_bytes: int
    follower_fetch_enable: bool
    group_id: str
    group_instance_id: str
    group_remote_assignor: str
    isolation_level: IsolationLevel
    key_deserializer: object
    mapped_reads: bool
    max_partition_fetch_bytes: int
    max_poll_interval_ms: int
    max_poll_records: int
    metadata_max_age_ms: int
    request_timeout_ms: int
    retry_backoff_ms: int
    value_deserializer: object

    @classmethod
    def parse(cls, settings: Mapping[str, object] | None = None) -> ConsumerConfig:
        """Settings as given, the rest from the table; None for a name stands for none.

        Raises ``InvalidConfigError`` that names the key, also where two keys contradict each other.
        """
        given = {
            name: value
            for name, value in (settings or {}).items()
            if value is not None or name.replace(".", "_") not in _NAMES
        }
        values = {**CONSUMER.defaults(), **CONSUMER.parse(given)}
        config = cls(**values)  # type: ignore[arg-type]
        if config.fetch_max_wait_ms >= config.request_timeout_ms:
            raise InvalidConfigError(
                '"fetch.max.wait.ms" must be less than "request.timeout.ms", else a quiet '
                "partition looks like a dead server"
            )
        if config.group_instance_id and not config.group_id:
            raise InvalidConfigError(
                '"group.instance.id" names a member of a group: give "group.id", too'
            )
        return config
