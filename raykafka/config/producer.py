"""Configuration of producers; see ``config_client`` for how keys are spelled."""

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
    Validator,
    at_least,
    between,
    callable_or_with,
    member_of,
)
from raykafka.errors import InvalidConfigError
from raykafka.model import Acks, Compression

_MIB = 1 << 20
_INT_MAX = (1 << 31) - 1


def _acks(value: object) -> object:
    text = str(value.value if isinstance(value, Acks) else value).lower()
    return {"all": Acks.ALL, "-1": Acks.ALL, "0": Acks.NONE, "1": Acks.LEADER}.get(text, value)


def _compression(value: object) -> object:
    return Compression(value)


PRODUCER: Final = ConfigTable(
    "producer",
    (
        ConfigKey(
            "acks",
            ConfigType.STRING,
            "all",
            Importance.HIGH,
            "What a record waits for: `all` in-sync copies, the leader alone (`1`) or none (`0`).",
            member_of(Acks, "all, 1, 0"),
            convert=_acks,
        ),
        ConfigKey(
            "batch.size",
            ConfigType.INT,
            _MIB,
            Importance.MEDIUM,
            "Bytes of records after which a partition's batch is sent without waiting for "
            "`linger.ms`. Kafka's default is 16 KiB; columns pay off in larger batches.",
            between(0, 1 << 30),
        ),
        ConfigKey(
            "buffer.memory",
            ConfigType.INT,
            64 * _MIB,
            Importance.HIGH,
            "Bytes of records that may wait to be sent; then `send` waits up to `max.block.ms`.",
            at_least(1),
        ),
        ConfigKey(
            "compression.type",
            ConfigType.STRING,
            Compression.NONE,
            Importance.MEDIUM,
            "Codec of the batches: `none`, `lz4` or `zstd`. A topic whose own `compression.type` "
            "is not `producer` overrides it.",
            member_of(Compression, "none, lz4, zstd"),
            convert=_compression,
        ),
        ConfigKey(
            "delivery.timeout.ms",
            ConfigType.INT,
            120_000,
            Importance.MEDIUM,
            "Milliseconds between `send` and success or failure, retries included.",
            at_least(1),
        ),
        ConfigKey(
            "enable.idempotence",
            ConfigType.BOOLEAN,
            True,
            Importance.HIGH,
            "Whether the servers drop repeated batches and keep the order of retried ones. Needs "
            "`acks=all`, `retries` above 0 and at most 5 requests in flight; where one of these is "
            "set otherwise and this key is not set, idempotence is off, as in Kafka.",
        ),
        ConfigKey(
            "key.serializer",
            ConfigType.OBJECT,
            None,
            Importance.MEDIUM,
            "Turns a key into bytes: a function, or an object with `serialize(topic, value)`. "
            "Unset: bytes as they are, text as UTF-8.",
            callable_or_with("serialize"),
        ),
        ConfigKey(
            "linger.ms",
            ConfigType.INT,
            5,
            Importance.MEDIUM,
            "Milliseconds a batch waits for more records. A caller that waits for the result of "
            "its only record does not wait for this.",
            at_least(0),
        ),
        ConfigKey(
            "max.block.ms",
            ConfigType.INT,
            60_000,
            Importance.MEDIUM,
            "Milliseconds that `send` may wait for metadata and for room in `buffer.memory`.",
            at_least(0),
        ),
        ConfigKey(
            "max.in.flight.requests.per.connection",
            ConfigType.INT,
            5,
            Importance.LOW,
            "Batches that may be unacknowledged per partition.",
            at_least(1),
            aliases=("max.in.flight",),
        ),
        ConfigKey(
            "max.request.size",
            ConfigType.INT,
            8 * _MIB,
            Importance.MEDIUM,
            "Largest batch in bytes; one record that is larger is refused by `send`. Kafka's "
            "default is 1 MiB.",
            between(1, 1 << 30),
        ),
        ConfigKey(
            "partitioner",
            ConfigType.OBJECT,
            None,
            Importance.MEDIUM,
            "A function `(topic, key bytes or None, number of partitions) -> partition`. Unset: "
            "murmur2 of the key as in Kafka, and a sticky partition for records without key.",
            Validator("a function", lambda value: value is None or callable(value)),
        ),
        ConfigKey(
            "retries",
            ConfigType.INT,
            _INT_MAX,
            Importance.LOW,
            "Times a batch is sent again after a retriable error, within `delivery.timeout.ms`.",
            between(0, _INT_MAX),
        ),
        ConfigKey(
            "transaction.timeout.ms",
            ConfigType.INT,
            60_000,
            Importance.LOW,
            "Milliseconds after which the cluster aborts a transaction that is open and not "
            "prepared; the producer is fenced then.",
            between(1, _INT_MAX),
        ),
        ConfigKey(
            "transaction.two.phase.commit.enable",
            ConfigType.BOOLEAN,
            False,
            Importance.LOW,
            "Whether `prepare_transaction` may be used: a prepared transaction is never aborted "
            "by a timeout, it waits for somebody's decision (KIP-939).",
        ),
        ConfigKey(
            "transactional.id",
            ConfigType.STRING,
            "",
            Importance.MEDIUM,
            "Name under which the producer writes in transactions; it outlives the process, and "
            "the newest producer of a name fences all older ones. Empty: no transactions. Needs "
            "`enable.idempotence`.",
        ),
        ConfigKey(
            "value.serializer",
            ConfigType.OBJECT,
            None,
            Importance.MEDIUM,
            "Turns a value into bytes: a function, or an object with `serialize(topic, value)`. "
            "Unset: bytes as they are, text as UTF-8.",
            callable_or_with("serialize"),
        ),
        *CLIENT_KEYS,
    ),
)
"""Keys of a producer."""


@dataclass(frozen=True, slots=True)
class ProducerConfig:
    """A producer's settings with all defaults filled in; made by ``parse``."""

    acks: Acks
    batch_size: int
    buffer_memory: int
    client_id: str
    compression_type: Compression
    delivery_timeout_ms: int
    enable_idempotence: bool
    key_serializer: object
    linger_ms: int
    max_block_ms: int
    max_in_flight_requests_per_connection: int
    max_request_size: int
    metadata_max_age_ms: int
    partitioner: object
    request_timeout_ms: int
    retries: int
    retry_backoff_ms: int
    transaction_timeout_ms: int
    transaction_two_phase_commit_enable: bool
    transactional_id: str
    value_serializer: object

    @property
    def max_in_flight(self) -> int:
        """Short for ``max_in_flight_requests_per_connection``."""
        return self.max_in_flight_requests_per_connection

    @classmethod
    def parse(cls, settings: Mapping[str, object] | None = None) -> ProducerConfig:
        """Settings as given, the rest from the table.

        Raises ``InvalidConfigError`` that names the key, also where two keys contradict each other
        (Kafka's rules, KIP-91 and KIP-679).
        """
        given = PRODUCER.parse(settings or {})
        values = {**PRODUCER.defaults(), **given}
        config = cls(**values)  # type: ignore[arg-type]
        conflict = config._idempotence_conflict()
        if config.enable_idempotence and conflict:
            if "enable_idempotence" in given:
                raise InvalidConfigError(f'"enable.idempotence" needs {conflict}')
            values["enable_idempotence"] = False
        if not values["enable_idempotence"] and config.transactional_id:
            needs = conflict or '"enable.idempotence" to be true'
            raise InvalidConfigError(f'"transactional.id" needs {needs}')
        if config.transaction_two_phase_commit_enable and not config.transactional_id:
            raise InvalidConfigError(
                '"transaction.two.phase.commit.enable" needs a "transactional.id"'
            )
        shortest = config.linger_ms + config.request_timeout_ms
        if config.delivery_timeout_ms < shortest:
            if "delivery_timeout_ms" in given:
                raise InvalidConfigError(
                    '"delivery.timeout.ms" must be at least "linger.ms" + "request.timeout.ms" '
                    f"({shortest}), else a record times out before its first attempt does"
                )
            values["delivery_timeout_ms"] = shortest
        return cls(**values)  # type: ignore[arg-type]

    def _idempotence_conflict(self) -> str:
        if self.acks is not Acks.ALL:
            return '"acks" to be all'
        if self.retries == 0:
            return '"retries" above 0'
        if self.max_in_flight_requests_per_connection > 5:
            return '"max.in.flight.requests.per.connection" of at most 5'
        return ""
