"""The broker's settings as the group machine wants them, with assignors of one's own loaded."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from raykafka.config.coordinators import CoordinatorConfig
from raykafka.errors import InvalidConfigError
from raykafka.group.assignors.api import Assignor
from raykafka.group.settings import GroupSettings

_KEY: Final = "group.consumer.assignors"
_MINUTE_MS: Final = 60_000


def group_settings(config: CoordinatorConfig) -> GroupSettings:
    """Raises ``InvalidConfigError`` for an assignor that cannot be had."""
    defaults = GroupSettings()
    return replace(
        defaults,
        consumer=replace(
            defaults.consumer,
            session_timeout_ms=config.group_consumer_session_timeout_ms,
            heartbeat_interval_ms=_interval_ms(
                config.group_consumer_heartbeat_interval_ms,
                config.group_consumer_session_timeout_ms,
            ),
            max_size=config.group_consumer_max_size,
            assignors=load_assignors(
                config.group_consumer_assignors, list(defaults.consumer.assignors.values())
            ),
        ),
        share=replace(
            defaults.share,
            session_timeout_ms=config.group_share_session_timeout_ms,
            heartbeat_interval_ms=_interval_ms(
                config.group_share_heartbeat_interval_ms, config.group_share_session_timeout_ms
            ),
            max_size=config.group_share_max_size,
        ),
        offset_metadata_max_bytes=config.offset_metadata_max_bytes,
        offsets_retention_ms=config.offsets_retention_minutes * _MINUTE_MS,
        offsets_retention_check_interval_ms=config.offsets_retention_check_interval_ms,
    )


def _interval_ms(configured_ms: int, session_timeout_ms: int) -> int:
    """Two heartbeats may get lost before a session ends."""
    return min(configured_ms, max(1, session_timeout_ms // 3))


def load_assignors(names: Sequence[str], built_in: Sequence[Assignor]) -> dict[str, Assignor]:
    """By their own names, in the order given; raises ``InvalidConfigError``."""
    known = {assignor.name: assignor for assignor in built_in}
    found: dict[str, Assignor] = {}
    for name in names:
        assignor = known.get(name) or _imported(name, known)
        if assignor.name in found:
            raise InvalidConfigError(f'"{_KEY}" has two assignors named {assignor.name!r}')
        found[assignor.name] = assignor
    if not found:
        raise InvalidConfigError(f'"{_KEY}" must name an assignor')
    return found


def _imported(name: str, known: dict[str, Assignor]) -> Assignor:
    module, colon, attribute = name.partition(":")
    if not colon:
        raise InvalidConfigError(
            f'"{_KEY}" has no assignor {name!r}: known are {", ".join(known)}; one of your own is '
            "written as package.module:Name"
        )
    try:
        found = getattr(importlib.import_module(module), attribute)
        assignor = found() if isinstance(found, type) else found
        if not (isinstance(assignor.name, str) and callable(assignor.assign)):
            raise TypeError("it lacks a name, or assign()")
    except Exception as error:
        raise InvalidConfigError(f'"{_KEY}": {name} cannot be loaded: {error}') from error
    made: Assignor = assignor
    return made
