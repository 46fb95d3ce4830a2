"""Configuration of share groups, set with ``raykafka share-group config`` or an ``Admin``.

The settings of a group are kept with its state, so every consumer and every leader goes by the same
ones; what a group does not set is the broker's ``group.share.*``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from raykafka.config.definition import (
    ConfigKey,
    ConfigTable,
    ConfigType,
    Importance,
    between,
    member_of,
    one_of,
)
from raykafka.model import IsolationLevel

_DAY_MS: Final = 24 * 60 * 60 * 1000

LOCK_DURATION: Final = ConfigKey(
    "group.share.record.lock.duration.ms",
    ConfigType.INT,
    30_000,
    Importance.MEDIUM,
    "Milliseconds that a share consumer has a record for itself; then others may have it.",
    between(100, _DAY_MS),
    dynamic=False,
)
DELIVERY_LIMIT: Final = ConfigKey(
    "group.share.delivery.count.limit",
    ConfigType.INT,
    5,
    Importance.MEDIUM,
    "Deliveries after which a record that no share consumer has accepted is given up.",
    between(1, 1000),
    dynamic=False,
)
MAX_RECORD_LOCKS: Final = ConfigKey(
    "group.share.partition.max.record.locks",
    ConfigType.INT,
    2000,
    Importance.MEDIUM,
    "Records of one partition that a share group may have in flight: from the first one that is "
    "not done to the last one that was delivered.",
    between(1, 100_000),
    dynamic=False,
)
SHARE_BROKER_KEYS: Final = (LOCK_DURATION, DELIVERY_LIMIT, MAX_RECORD_LOCKS)


def _isolation(value: object) -> object:
    known = {level.name.lower(): level for level in IsolationLevel}
    return known.get(str(value), value)


SHARE_GROUP: Final = ConfigTable(
    "share group",
    (
        ConfigKey(
            "errors.deadletterqueue.topic.name",
            ConfigType.STRING,
            "",
            Importance.HIGH,
            "Topic that takes records which were rejected or delivered too often (KIP-1191); it "
            "has to be there and untyped. Empty: they are dropped.",
        ),
        ConfigKey(
            "share.auto.offset.reset",
            ConfigType.STRING,
            "latest",
            Importance.HIGH,
            "Where a group begins to read a partition: `earliest` or `latest`.",
            one_of("earliest", "latest"),
        ),
        ConfigKey(
            "share.delivery.count.limit",
            ConfigType.INT,
            DELIVERY_LIMIT.default,
            Importance.MEDIUM,
            f"The group's own `{DELIVERY_LIMIT.name}`.",
            DELIVERY_LIMIT.valid,
        ),
        ConfigKey(
            "share.isolation.level",
            ConfigType.STRING,
            "read_uncommitted",
            Importance.MEDIUM,
            "`read_committed` hides records of open and aborted transactions.",
            member_of(IsolationLevel, "read_uncommitted, read_committed"),
            convert=_isolation,
        ),
        ConfigKey(
            "share.partition.max.record.locks",
            ConfigType.INT,
            MAX_RECORD_LOCKS.default,
            Importance.LOW,
            f"The group's own `{MAX_RECORD_LOCKS.name}`.",
            MAX_RECORD_LOCKS.valid,
        ),
        ConfigKey(
            "share.record.lock.duration.ms",
            ConfigType.INT,
            LOCK_DURATION.default,
            Importance.MEDIUM,
            f"The group's own `{LOCK_DURATION.name}`.",
            LOCK_DURATION.valid,
        ),
    ),
)
"""Keys of a share group."""


class ShareDefaults(Protocol):
    """The broker's ``group.share.*``, for groups that set nothing themselves."""

    @property
    def group_share_delivery_count_limit(self) -> int:
        """See the key."""

    @property
    def group_share_partition_max_record_locks(self) -> int:
        """See the key."""

    @property
    def group_share_record_lock_duration_ms(self) -> int:
        """See the key."""


@dataclass(frozen=True, slots=True)
class ShareGroupConfig:
    """A group's settings with all defaults filled in; made by ``parse``."""

    errors_deadletterqueue_topic_name: str
    share_auto_offset_reset: str
    share_delivery_count_limit: int
    share_isolation_level: IsolationLevel
    share_partition_max_record_locks: int
    share_record_lock_duration_ms: int

    @classmethod
    def parse(cls, settings: Mapping[str, object], defaults: ShareDefaults) -> ShareGroupConfig:
        """The group's settings, the rest from the broker and the table.

        Raises ``InvalidConfigError`` that names the key.
        """
        values = SHARE_GROUP.defaults()
        values["share_delivery_count_limit"] = defaults.group_share_delivery_count_limit
        values["share_partition_max_record_locks"] = defaults.group_share_partition_max_record_locks
        values["share_record_lock_duration_ms"] = defaults.group_share_record_lock_duration_ms
        return cls(**{**values, **SHARE_GROUP.parse(settings)})  # type: ignore[arg-type]
