"""Batches for the tests of the log."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from raykafka.log.batch import encode_batch
from raykafka.log.batch_header import BatchHeader, read_header
from raykafka.log.markers import encode_marker
from raykafka.log.schema import UNTYPED_SCHEMA
from raykafka.model import Compression, PartitionId, TopicId

PARTITION = PartitionId(TopicId("0123456789abcdef0123456789abcdef"), 0)
OTHER_PARTITION = PartitionId(TopicId("0123456789abcdef0123456789abcdef"), 1)
NOW = 1_700_000_000_000


def make_batch(
    values: Sequence[bytes] = (b"value",),
    *,
    timestamp: int = NOW,
    timestamps: Sequence[int] | None = None,
    partition: PartitionId = PARTITION,
    producer_id: int = -1,
    producer_epoch: int = -1,
    base_sequence: int = -1,
    compression: Compression = Compression.NONE,
    schema: pa.Schema = UNTYPED_SCHEMA,
    columns: Sequence[pa.Array] | None = None,
    schema_id: int = 0,
    transactional: bool = False,
) -> bytearray:
    """The message of one batch, as a producer sends it."""
    count = len(values)
    times = list(timestamps) if timestamps is not None else [timestamp + i for i in range(count)]
    value_columns = list(columns) if columns is not None else [pa.array(values, pa.binary())]
    records = pa.record_batch(
        [
            pa.array(times, pa.timestamp("ms")),
            pa.nulls(count, pa.binary()),
            pa.nulls(count, schema.field(2).type),
            *value_columns,
        ],
        schema=schema,
    )
    encoded = encode_batch(
        records,
        partition,
        schema_id=schema_id,
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        base_sequence=base_sequence,
        compression=compression,
        transactional=transactional,
    )
    return bytearray(b"".join(bytes(memoryview(chunk)) for chunk in encoded.chunks))


def make_marker(
    producer_id: int,
    producer_epoch: int,
    *,
    commit: bool,
    schema: pa.Schema = UNTYPED_SCHEMA,
    schema_id: int = 0,
    now_ms: int = NOW,
) -> bytearray:
    """The end of a transaction."""
    encoded = encode_marker(
        schema,
        schema_id,
        PARTITION,
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        commit=commit,
        now_ms=now_ms,
    )
    return bytearray(b"".join(bytes(memoryview(chunk)) for chunk in encoded.chunks))


def parsed(message: bytearray) -> tuple[bytearray, BatchHeader]:
    """A message with its header, as ``PartitionLog.append`` takes them."""
    return message, read_header(message)
