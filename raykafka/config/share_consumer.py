"""Configuration of share consumers (KIP-932).

What concerns the group as a whole (where it begins, leases, deliveries, isolation, dead letters) is
kept with the group: see ``share_group``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from raykafka.config.consumer import CONSUMER, ConsumerConfig
from raykafka.config.definition import ConfigKey, ConfigTable, ConfigType, Importance, one_of
from raykafka.errors import InvalidConfigError

IMPLICIT: Final = "implicit"
EXPLICIT: Final = "explicit"

_FROM_CONSUMERS: Final = (
    "check.crcs",
    "client.id",
    "client.rack",
    "columns",
    "consumer.timeout.ms",
    "fetch.max.bytes",
    "fetch.max.wait.ms",
    "group.id",
    "key.deserializer",
    "mapped.reads",
    "max.partition.fetch.bytes",
    "max.poll.interval.ms",
    "max.poll.records",
    "metadata.max.age.ms",
    "request.timeout.ms",
    "retry.backoff.ms",
    "value.deserializer",
)
_MODE: Final = ConfigKey(
    "share.acknowledgement.mode",
    ConfigType.STRING,
    IMPLICIT,
    Importance.HIGH,
    "`implicit`: what `poll` returned is accepted by the next `poll` or `commit`. `explicit`: "
    "every record has to be acknowledged before the next `poll`.",
    one_of(IMPLICIT, EXPLICIT),
)

SHARE_CONSUMER: Final = ConfigTable(
    "share consumer", (*(CONSUMER.find(name) for name in _FROM_CONSUMERS), _MODE)
)
"""Keys of a share consumer."""


@dataclass(frozen=True, slots=True)
class ShareConsumerConfig:
    """A share consumer's settings with all defaults filled in; made by ``parse``."""

    consumer: ConsumerConfig
    """What it has in common with other consumers; the rest of it does not count."""
    explicit: bool
    """Whether every record has to be acknowledged by the application."""

    @classmethod
    def parse(cls, settings: Mapping[str, object] | None = None) -> ShareConsumerConfig:
        """Settings as given, the rest from the table.

        Raises ``InvalidConfigError`` that names the key.
        """
        given = dict(settings or {})
        mode = SHARE_CONSUMER.parse(given).get(_MODE.field_name, IMPLICIT)
        common = {name: value for name, value in given.items() if not _is_mode(name)}
        consumer = ConsumerConfig.parse(common)
        if not consumer.group_id:
            raise InvalidConfigError('"group.id" names the share group; a share consumer needs one')
        return cls(consumer, mode == EXPLICIT)


def _is_mode(name: str) -> bool:
    return name in (_MODE.name, _MODE.field_name)
