"""What the machine has to know of the broker's settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from raykafka.group.assignors.api import Assignor
from raykafka.group.assignors.range import RangeAssignor
from raykafka.group.assignors.share import ShareAssignor
from raykafka.group.assignors.uniform import UniformAssignor

_DAY_MS = 24 * 60 * 60 * 1000


def _built_in() -> Mapping[str, Assignor]:
    return {assignor.name: assignor for assignor in (UniformAssignor(), RangeAssignor())}


@dataclass(frozen=True, slots=True)
class KindSettings:
    """Settings that consumer groups and share groups have each of their own."""

    session_timeout_ms: int = 45_000
    heartbeat_interval_ms: int = 5000
    max_size: int = 1000
    assignors: Mapping[str, Assignor] = field(default_factory=_built_in)
    """By name; the first one is the default."""


def _share_kind() -> KindSettings:
    assignor = ShareAssignor()
    return KindSettings(max_size=200, assignors={assignor.name: assignor})


@dataclass(frozen=True, slots=True)
class GroupSettings:
    """Defaults are those of the broker's settings."""

    consumer: KindSettings = field(default_factory=KindSettings)
    share: KindSettings = field(default_factory=_share_kind)
    offset_metadata_max_bytes: int = 4096
    offsets_retention_ms: int = 7 * _DAY_MS
    offsets_retention_check_interval_ms: int = 600_000
    producer_id_expiration_ms: int = _DAY_MS

    def of(self, *, share: bool) -> KindSettings:
        """Of one kind of group."""
        return self.share if share else self.consumer
