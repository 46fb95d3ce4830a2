"""Settings of a partition's log, and what its operations answer with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from raykafka.config import TopicConfig
from raykafka.model import TimestampType
from raykafka.storage.api import LocalFile

_DAY_MS = 24 * 60 * 60 * 1000


@dataclass(frozen=True, slots=True)
class LogConfig:
    """What of a topic's settings a log needs; defaults are those of the keys of the same name."""

    segment_bytes: int = 1 << 30
    """A segment holds at least one batch, also when that is larger."""
    segment_ms: int = 7 * _DAY_MS
    retention_bytes: int = -1
    retention_ms: int = 7 * _DAY_MS
    message_timestamp_type: TimestampType = TimestampType.CREATE_TIME
    producer_id_expiration_ms: int = _DAY_MS

    @classmethod
    def of(cls, topic: TopicConfig, producer_id_expiration_ms: int = _DAY_MS) -> LogConfig:
        """The settings of a topic on a broker."""
        return cls(
            topic.segment_bytes,
            topic.segment_ms,
            topic.retention_bytes,
            topic.retention_ms,
            topic.message_timestamp_type,
            producer_id_expiration_ms,
        )


class AppendResult(NamedTuple):
    """Where a batch stands now."""

    base_offset: int
    append_time_ms: int
    """When it was appended; a duplicate has the time of the first one."""
    duplicate: bool = False
    """The batch was in the log already, nothing was written."""


class VisibleBatches(NamedTuple):
    """What readers see of a part of the log with transactions."""

    batches: list[memoryview]
    next_offset: int
    """Where the next read goes on."""
    complete: bool
    """Whether nothing was left out."""


@dataclass(frozen=True, slots=True)
class SegmentSlice:
    """Batches that a co-located reader takes from the file by itself; their CRCs held."""

    file: LocalFile
    positions_and_sizes: bytes
    """Packed ``<QQ`` pairs: position in the file and size of each batch."""
    count: int
    size_bytes: int
    """Sum of the batches' sizes."""
    next_offset: int
    """Where the next read goes on."""
    complete: bool = True
    """Whether nothing was left out: no marker, no batch that was aborted."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Batches that stand one behind the other in one segment; not verified."""

    file: LocalFile | None
    """None where the store's files are not this machine's."""
    position: int
    """Where the first batch begins in the segment."""
    sizes: list[int]
    """Of the batches, in bytes."""
    next_offset: int
    """Where the last batch ends."""


@dataclass(slots=True)
class RecoveryReport:
    """What opening a log found; all zero and empty when there was nothing to do."""

    scanned_bytes: int = 0
    """Bytes whose checksums were computed."""
    torn_bytes: int = 0
    """Bytes of incomplete writes that were cut off."""
    torn_copies: list[str] = field(default_factory=list)
    """Where they were copied to."""
    damaged: list[tuple[int, int]] = field(default_factory=list)
    """Offset ranges, end exclusive, that cannot be read."""
    resealed: list[str] = field(default_factory=list)
    """Segments whose footer was missing or damaged and was written anew."""
    notes: list[str] = field(default_factory=list)
    """Everything else worth a line in the log: missing or damaged small files."""

    @property
    def clean(self) -> bool:
        """Nothing was lost, damaged or missing."""
        return not (self.torn_bytes or self.damaged or self.resealed or self.notes)
