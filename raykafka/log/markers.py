"""Markers: control batches that say how a transaction ended (KIP-98, KIP-890).

A marker is one row and takes one offset. Its header says it all: the producer's id, an epoch that
is newer than the transaction's, and whether it was committed. The row is there for other readers of
the file: nulls, and in columns that may not be null what comes nearest to nothing.
"""

from __future__ import annotations

import functools
import struct
from typing import Final, NamedTuple

import pyarrow as pa

from raykafka.log.batch import NO_LEADER, EncodedBatch, assemble_around, encode_batch
from raykafka.log.batch_header import flags_of
from raykafka.log.body import Chunk
from raykafka.log.flat_body import flat_body
from raykafka.log.ipc_message import build_metadata
from raykafka.model import Compression, PartitionId

_TIMESTAMP: Final = struct.Struct("<q")


def encode_marker(
    schema: pa.Schema,
    schema_id: int,
    partition: PartitionId,
    *,
    producer_id: int,
    producer_epoch: int,
    commit: bool,
    now_ms: int,
) -> EncodedBatch:
    """The marker in a topic's newest storage schema, with the time at which it is written."""
    template = _template(schema)
    if template is None:
        return encode_batch(
            _row(schema, now_ms),
            partition,
            schema_id=schema_id,
            producer_id=producer_id,
            producer_epoch=producer_epoch,
            control=True,
            transactional=True,
            commit=commit,
        )
    flags = flags_of(Compression.NONE, control=True, transactional=True, commit=commit)
    fields = (flags, producer_epoch, 1, producer_id, -1, schema_id, now_ms, now_ms)
    body: list[Chunk] = [_TIMESTAMP.pack(now_ms), template.rest]
    size = template.size
    return assemble_around(template.metadata, body, size, NO_LEADER, fields, partition)


class _Template(NamedTuple):
    """All of a marker but its header and its time."""

    metadata: tuple[bytes, bytes]
    rest: bytes
    """The body behind the time."""
    size: int
    """Bytes of the body."""


@functools.lru_cache(maxsize=256)
def _template(schema: pa.Schema) -> _Template | None:
    """What the markers of a schema have in common; None where Arrow has to make each of them."""
    flat = flat_body(_row(schema, 0))
    if flat is None:
        return None
    layout, chunks, size = flat
    body = b"".join(bytes(memoryview(chunk)) for chunk in chunks)
    return _Template(build_metadata(layout, size, b""), body[_TIMESTAMP.size :], size)


def _row(schema: pa.Schema, now_ms: int) -> pa.RecordBatch:
    columns = [pa.array([now_ms], pa.int64()).view(schema.field(0).type)]
    columns += [_nothing(field) for field in list(schema)[1:]]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _nothing(field: pa.Field) -> pa.Array:
    """One row of a column: null, or zero, or empty."""
    if field.nullable:
        return pa.nulls(1, field.type)
    return _empty_values(field.type, 1)


def _empty_values(data_type: pa.DataType, count: int) -> pa.Array:
    """Rows that are not null: all bytes are zero, which is a value of every Arrow type."""
    if pa.types.is_struct(data_type):
        children = [_values(child, count) for child in data_type]
        return pa.Array.from_buffers(data_type, count, [None], 0, children=children)
    if pa.types.is_fixed_size_list(data_type):
        values = _values(data_type.value_field, count * data_type.list_size)
        return pa.Array.from_buffers(data_type, count, [None], 0, children=[values])
    nulls = pa.nulls(count, data_type)
    if pa.types.is_null(data_type):
        return nulls
    children = []
    if pa.types.is_map(data_type):
        entry = pa.struct([data_type.key_field, data_type.item_field])
        children = [pa.array([], entry)]
    elif pa.types.is_list(data_type) or pa.types.is_large_list(data_type):
        children = [pa.array([], data_type.value_type)]
    # The first buffer is the one that marks them as null.
    buffers = [None, *nulls.buffers()[1 : data_type.num_buffers]]
    return pa.Array.from_buffers(data_type, count, buffers, 0, children=children)


def _values(field: pa.Field, count: int) -> pa.Array:
    return pa.nulls(count, field.type) if field.nullable else _empty_values(field.type, count)
