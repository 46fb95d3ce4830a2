"""Configuration that producers and consumers have in common.

Python code writes the keys with underscores (``linger_ms``), property files with dots
(``linger.ms``); both are accepted everywhere. Names, meanings and defaults are Kafka's, except
where the documentation of a key says otherwise.
"""

from __future__ import annotations

from typing import Final

from raykafka.config.definition import ConfigKey, ConfigType, Importance, at_least

CLIENT_KEYS: Final = (
    ConfigKey(
        "client.id",
        ConfigType.STRING,
        "",
        Importance.MEDIUM,
        "Name of this client in the servers' logs.",
    ),
    ConfigKey(
        "metadata.max.age.ms",
        ConfigType.INT,
        300_000,
        Importance.LOW,
        "Milliseconds after which the metadata are fetched anew even if nothing went wrong.",
        at_least(1),
    ),
    ConfigKey(
        "request.timeout.ms",
        ConfigType.INT,
        30_000,
        Importance.MEDIUM,
        "Milliseconds a request may take before it counts as failed.",
        at_least(1),
    ),
    ConfigKey(
        "retry.backoff.ms",
        ConfigType.INT,
        20,
        Importance.LOW,
        "Milliseconds between two attempts. Kafka's default is 100.",
        at_least(0),
    ),
)
"""Keys of every client."""
