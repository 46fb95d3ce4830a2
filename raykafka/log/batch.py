"""Record batches as bytes: encode, check, decode and project them.

A batch is one Arrow IPC ``RecordBatch`` message whose header stands in its metadata
(``ipc_message`` has the layout, ``batch_header`` the fields). The producer's bytes are what is
checksummed, stored, replicated and read; only the leader's part of the header is filled in later.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import crc32c
import numpy as np
import pyarrow as pa

from raykafka.errors import (
    CorruptMessageError,
    InvalidRecordError,
    UnsupportedCompressionTypeError,
)
from raykafka.log.batch_header import (
    MAGIC as MAGIC,
)
from raykafka.log.batch_header import (
    MAX_RECORDS,
    BatchHeader,
    Message,
    flags_of,
    leader_part,
    make_header,
    partition_seed,
    producer_part,
)
from raykafka.log.batch_header import find_batch as find_batch
from raykafka.log.batch_header import peek_header as peek_header
from raykafka.log.batch_header import read_header as read_header
from raykafka.log.batch_header import stamp as stamp
from raykafka.log.batch_header import verify as verify
from raykafka.log.body import (
    Chunk,
    bound_uncompressed,
    check_columns,
    select_columns,
    trim_empty,
)
from raykafka.log.flat_body import flat_body
from raykafka.log.ipc_message import (
    SLOT_END,
    SLOT_SIZE,
    Layout,
    arrow_layout,
    build_metadata,
    read_layout,
)
from raykafka.log.schema import ARROW_ERRORS, column_layout
from raykafka.model import Compression, PartitionId

DEFAULT_MAX_UNCOMPRESSED: Final = 256 << 20
"""Bytes that the buffers of one batch may claim to have once decompressed."""

SMALL_BODY: Final = 64 << 10
"""A body up to this size is joined with its metadata, a larger one stays in pieces."""
_TIMESTAMP_TYPE: Final = pa.timestamp("ms")
_SIZES = struct.Struct("<Ii")
NO_LEADER: Final = (-1, -1, -1, 0)
_BLANK_SLOT: Final = b" " * SLOT_SIZE


class EncodedBatch(NamedTuple):
    """A batch ready to be sent: the chunks one after the other are the message."""

    chunks: list[Chunk]
    """Large column buffers are the caller's own, not copied; they must not change meanwhile."""
    header: BatchHeader


class _Sink:
    """A file for Arrow's writer that keeps what it is given, without copying."""

    closed = False

    def __init__(self) -> None:
        self.chunks: list[bytes | pa.Buffer] = []

    def write(self, data: bytes | pa.Buffer) -> int:
        self.chunks.append(data)
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Nothing is held open."""


def encode_batch(
    batch: pa.RecordBatch,
    partition: PartitionId,
    *,
    schema_id: int = 0,
    producer_id: int = -1,
    producer_epoch: int = -1,
    base_sequence: int = -1,
    compression: Compression = Compression.NONE,
    control: bool = False,
    transactional: bool = False,
    commit: bool = False,
    stats: bytes = b"",
) -> EncodedBatch:
    """Encodes records (in the storage schema) for one partition.

    ``stats`` is what ``column_statistics`` made of the batch, or nothing. A slice costs its own
    rows only. Raises ``InvalidRecordError`` for an empty batch or one whose first column is not a
    ``__timestamp`` without nulls.
    """
    rows = batch.num_rows
    base_timestamp, max_timestamp = _timestamps(batch)
    flat = flat_body(batch) if compression is Compression.NONE else None
    layout, body, body_size = flat or _arrow_body(batch, compression)
    fields = (
        flags_of(compression, control=control, transactional=transactional, commit=commit),
        producer_epoch,
        rows,
        producer_id,
        base_sequence,
        schema_id,
        base_timestamp,
        max_timestamp,
    )
    return assemble(layout, body, body_size, NO_LEADER, fields, partition, stats)


def decode_batch(
    message: Message,
    schema: pa.Schema,
    *,
    columns: Sequence[str] | None = None,
    header: BatchHeader | None = None,
    max_uncompressed: int = DEFAULT_MAX_UNCOMPRESSED,
) -> pa.RecordBatch:
    """The records of a batch that has been verified; uncompressed columns are views of ``message``.

    ``schema`` is the storage schema that the batch was written with. With ``columns`` only those
    are decompressed and returned, in the order given. The contents of columns are not validated.
    ``header`` is what ``verify`` returned; without it the message's is read.
    Raises ``CorruptMessageError`` where the message does not fit the schema or claims more than
    ``max_uncompressed`` bytes, ``InvalidRecordError`` for a column that the schema lacks.
    """
    if header is None:
        header = read_header(message)
    layout = read_layout(message, header.metadata_size)
    # Arrow reads the buffers it expects and overlooks further ones: columns would be mistaken.
    places = column_layout(schema)
    if (
        len(layout.nodes) != 16 * len(places.buffers_per_node)
        or len(layout.buffers) != 16 * places.buffers[-1][1]
    ):
        raise CorruptMessageError("the batch has other columns than its schema")
    compressed = layout.codec >= 0
    if columns is not None:
        check_columns(schema, columns)
    if compressed:
        body = memoryview(message)[header.metadata_size : header.size]
        if columns is not None:
            layout, pieces, size = select_columns(layout, body, schema, columns)
            before, after = build_metadata(layout, size, b"")
            body = memoryview(b"".join(pieces))
            message = b"".join((before, _BLANK_SLOT, after, body))
            schema = pa.schema([schema.field(name) for name in columns])
        bound_uncompressed(layout, body, max_uncompressed)
    try:
        batch = pa.ipc.read_record_batch(pa.py_buffer(message), schema)
        return batch if columns is None or compressed else batch.select(columns)
    except ARROW_ERRORS as error:
        raise CorruptMessageError(
            f"the batch at offset {header.base_offset} does not fit its schema: {error}"
        ) from None


def validate_batch(
    message: Message,
    schema: pa.Schema,
    *,
    header: BatchHeader | None = None,
    max_uncompressed: int = DEFAULT_MAX_UNCOMPRESSED,
) -> pa.RecordBatch:
    """Decodes a batch from outside and checks everything a reader will rely on.

    Checked are the sizes, every buffer and value (UTF-8, offsets, nulls), the number of records
    and the smallest and largest timestamp. Not checked is the CRC: see ``verify``, whose result
    may be handed in as ``header``.
    Raises ``InvalidRecordError``.
    """
    try:
        if header is None:
            header = read_header(message)
        if header.size != len(message):
            raise InvalidRecordError(
                f"{len(message) - header.size} bytes follow the batch; send one batch at a time"
            )
        batch = decode_batch(message, schema, header=header, max_uncompressed=max_uncompressed)
        batch.validate(full=True)
    except (CorruptMessageError, *ARROW_ERRORS) as error:
        raise InvalidRecordError(f"the batch is not valid: {error}") from None
    if batch.num_rows != header.record_count:
        raise InvalidRecordError(
            f"the batch says it has {header.record_count} records and holds {batch.num_rows}"
        )
    for position in column_layout(schema).not_null:
        nulls = batch.column(position).null_count
        if nulls:
            raise InvalidRecordError(
                f"column {schema.field(position).name!r} holds {nulls} nulls and accepts none"
            )
    if _timestamps(batch) != (header.base_timestamp, header.max_timestamp):
        raise InvalidRecordError("the batch's header and its __timestamp column disagree")
    return batch


def project_batch(
    message: Message,
    schema: pa.Schema,
    columns: Sequence[str],
    partition: PartitionId,
) -> list[Chunk]:
    """The batch with only ``columns``, in that order; chunks are views of ``message``.

    Nothing is decompressed or copied. Every header value stays but the size; the CRC is that of the
    projected batch, computed after the original has passed. Statistics are left out.
    Raises ``CorruptMessageError``, and ``InvalidRecordError`` for a column that the schema lacks.
    """
    header = verify(message, partition)
    check_columns(schema, columns)
    layout = read_layout(message, header.metadata_size)
    body = memoryview(message)[header.metadata_size : header.size]
    layout, pieces, size = select_columns(layout, body, schema, columns)
    return assemble(layout, pieces, size, header[:4], header[5:13], partition).chunks


def _arrow_body(batch: pa.RecordBatch, compression: Compression) -> tuple[Layout, list[Chunk], int]:
    """Layout, body and its size as Arrow makes them."""
    metadata, body = _arrow_message(batch, compression)
    return trim_empty(arrow_layout(metadata), body, batch.schema)


def _arrow_message(batch: pa.RecordBatch, compression: Compression) -> tuple[bytes, list[Chunk]]:
    """Flatbuffer and body of the message that Arrow makes of a batch."""
    if compression is Compression.NONE and pa.ipc.get_record_batch_size(batch) <= SMALL_BODY:
        message = memoryview(batch.serialize())
        end = 8 + _SIZES.unpack_from(message)[1]
        return bytes(message[8:end]), [message[end:]]
    try:
        options = pa.ipc.IpcWriteOptions(
            compression=None if compression is Compression.NONE else compression.value
        )
    except ARROW_ERRORS as error:
        raise UnsupportedCompressionTypeError(
            f"this Arrow cannot compress with {compression.value}: {error}"
        ) from None
    sink = _Sink()
    writer = pa.ipc.new_stream(pa.PythonFile(sink, mode="w"), batch.schema, options=options)
    writer.write_batch(batch)
    chunks = iter(sink.chunks)
    _take_metadata(chunks)  # the schema's message
    return _take_metadata(chunks), list(chunks)


def _take_metadata(chunks: Iterable[bytes | pa.Buffer]) -> bytes:
    """Takes the next message's beginning off Arrow's writes: small ones up to the body."""
    taken = b""
    for chunk in chunks:
        taken += bytes(chunk)
        if len(taken) >= 8 and len(taken) >= 8 + _SIZES.unpack_from(taken)[1]:
            break
    return taken[8:]


def assemble(
    layout: Layout,
    body: list[Chunk],
    body_size: int,
    leader: tuple[int, ...],
    producer: tuple[int, ...],
    partition: PartitionId,
    stats: bytes = b"",
) -> EncodedBatch:
    """The message around a body, with its CRC. ``leader`` and ``producer`` are the parts' fields
    without crc, check and size.
    """
    metadata = build_metadata(layout, body_size, stats)
    return assemble_around(metadata, body, body_size, leader, producer, partition)


def assemble_around(
    metadata: tuple[bytes, bytes],
    body: list[Chunk],
    body_size: int,
    leader: tuple[int, ...],
    producer: tuple[int, ...],
    partition: PartitionId,
) -> EncodedBatch:
    """``assemble`` with what ``build_metadata`` returned."""
    before, after = metadata
    metadata_size = SLOT_END + len(after)
    size = metadata_size + body_size
    start = before + MAGIC
    crc = crc32c.crc32c(start, partition_seed(partition))
    if body_size <= SMALL_BODY:
        rest = b"".join((producer_part((*producer, size)), after, *body))
        body = []
    else:
        rest = producer_part((*producer, size)) + after
    crc = crc32c.crc32c(rest, crc)
    for chunk in body:
        crc = crc32c.crc32c(chunk, crc)
    leader = (*leader, crc)
    header = make_header((*leader, *producer, size, metadata_size))
    return EncodedBatch([b"".join((start, leader_part(leader), rest)), *body], header)


def _timestamps(batch: pa.RecordBatch) -> tuple[int, int]:
    """Smallest and largest timestamp in milliseconds."""
    rows = batch.num_rows
    if not 0 < rows <= MAX_RECORDS:
        raise InvalidRecordError(f"a batch has 1 to {MAX_RECORDS} records, not {rows}")
    column = batch.column(0)
    if column.type != _TIMESTAMP_TYPE or column.null_count:
        raise InvalidRecordError(
            f"the first column must be __timestamp of type {_TIMESTAMP_TYPE} without nulls, "
            f"not {column.type} with {column.null_count} nulls"
        )
    if rows == 1:
        value = column[0].value
        return value, value
    values = np.frombuffer(column.buffers()[1], np.int64, rows, 8 * column.offset)
    return int(values.min()), int(values.max())
