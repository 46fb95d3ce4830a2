"""The keys of brokers that say how copies are made."""

from __future__ import annotations

from typing import Final

from raykafka.config.definition import ConfigKey, ConfigType, Importance, at_least, between

_MIB: Final = 1 << 20

REPLICATION_KEYS: Final = (
    ConfigKey(
        "follower.replication.throttled.rate",
        ConfigType.INT,
        -1,
        Importance.MEDIUM,
        "Bytes per second that a broker may receive for replicas that are not in sync, as those a "
        "reassignment adds; its partition actors share them. -1: no limit.",
        at_least(-1),
    ),
    ConfigKey(
        "leader.replication.throttled.rate",
        ConfigType.INT,
        -1,
        Importance.MEDIUM,
        "Bytes per second that a broker may send to replicas that are not in sync; its partition "
        "actors share them. -1: no limit.",
        at_least(-1),
    ),
    ConfigKey(
        "replica.fetch.max.bytes",
        ConfigType.INT,
        8 * _MIB,
        Importance.MEDIUM,
        "Bytes of one partition that may be on their way to a follower. One that lacks more than "
        "that is brought up to date from the leader's files first. Kafka's default is 1 MiB.",
        between(1024, 64 * _MIB),
        dynamic=False,
    ),
    ConfigKey(
        "replica.lag.time.max.ms",
        ConfigType.INT,
        10_000,
        Importance.HIGH,
        "Milliseconds that a follower may lack something its leader has before it leaves the ISR.",
        at_least(100),
        dynamic=False,
    ),
)
