"""Checks of batches before they are appended, and which of a leader's batches go together."""

from __future__ import annotations

from collections.abc import Sequence

from raykafka.errors import (
    FencedLeaderEpochError,
    InvalidRecordError,
    OffsetOutOfRangeError,
    UnknownSchemaVersionError,
)
from raykafka.log.batch_header import BatchHeader
from raykafka.log.segment import should_roll
from raykafka.storage.log_segment import MAX_SEGMENT_BATCHES, LogSegment
from raykafka.storage.log_types import LogConfig


def check_batches(
    headers: Sequence[BatchHeader], size: int, leader_epoch: int, schema_count: int, name: str
) -> None:
    """Batches of ``size`` bytes in all follow each other and fit to the log ``name``.

    Raises ``InvalidRecordError``, ``OffsetOutOfRangeError`` for a gap between them,
    ``FencedLeaderEpochError`` for one of an older epoch than ``leader_epoch`` or its predecessor,
    ``UnknownSchemaVersionError`` for a schema that is not known here yet.
    """
    if not headers:
        raise InvalidRecordError(f"no batches came to be appended to {name}")
    expected = headers[0].base_offset
    for header in headers:
        size -= header.size
        if header.base_offset != expected or expected < 0:
            raise OffsetOutOfRangeError(
                f"a batch at offset {header.base_offset} came to {name}, the one at {expected} was "
                "to follow; fetch from there again"
            )
        expected += header.record_count
        if header.leader_epoch < leader_epoch or header.leader_epoch < 0:
            raise FencedLeaderEpochError(
                f"{name} has epoch {leader_epoch} already, the batch at offset "
                f"{header.base_offset} is of epoch {header.leader_epoch}; find out who leads, and "
                "where the two logs part"
            )
        leader_epoch = header.leader_epoch
        if not 0 <= header.schema_id < schema_count:
            raise UnknownSchemaVersionError(
                f"the batch at offset {header.base_offset} of {name} has schema "
                f"{header.schema_id}, {schema_count} are known here; wait for the topic's metadata"
            )
    if size:
        raise InvalidRecordError(f"the batches for {name} and their headers differ by {size} bytes")


def end_of_run(
    active: LogSegment, headers: Sequence[BatchHeader], first: int, config: LogConfig
) -> int:
    """One past the last batch that one write appends to ``active``; ``first`` goes in anyway.

    Segments end where the leader's would with the same settings: their age is told by the append
    times, or a copy of an old log would have a segment for every batch.
    """
    size = active.size_bytes + headers[first].size
    schema_id = headers[first].schema_id
    began_ms = active.first_append_ms
    if began_ms < 0:
        began_ms = headers[first].append_time_ms
    last = min(len(headers), first + MAX_SEGMENT_BATCHES - len(active.loaded_index))
    number = first + 1
    while number < last:
        header = headers[number]
        if header.schema_id != schema_id or should_roll(
            size=size,
            incoming=header.size,
            age_ms=header.append_time_ms - began_ms,
            segment_bytes=config.segment_bytes,
            segment_ms=config.segment_ms,
        ):
            break
        size += header.size
        number += 1
    return number


def wrong_schema(schema_id: int, newest: int, name: str) -> UnknownSchemaVersionError:
    """What a leader tells the producer of a batch that does not have the newest schema."""
    return UnknownSchemaVersionError(
        f"the batch has schema {schema_id}, {name} has {newest} as its newest; refresh the "
        "metadata and encode it again"
    )
