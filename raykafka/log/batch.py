"""Record batches as bytes: encode, check, decode and project them.

A batch is one Arrow IPC ``RecordBatch`` message whose header stands in its metadata
(``ipc_message`` has the layout, ``batch_header`` the fields). The producer's bytes are what is
checksummed, stored, replicated and read; only the leader's part of the header is filled in later.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple, Union

import crc32c
import pyarrow as pa
import pyarrow.compute as pc

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
    partition_seed,
    producer_part,
)
from raykafka.log.batch_header import find_batch as find_batch
from raykafka.log.batch_header import peek_header as peek_header
from raykafka.log.batch_header import read_header as read_header
from raykafka.log.batch_header import stamp as stamp
from raykafka.log.batch_header import verify as verify
from raykafka.log.ipc_message import (
    SLOT_END,
    SLOT_SIZE,
    Layout,
    arrow_layout,
    build_metadata,
    compact,
    read_layout,
)
from raykafka.log.schema import ARROW_ERRORS, column_layout
from raykafka.model import Compression, PartitionId

DEFAULT_MAX_UNCOMPRESSED: Final = 256 << 20
"""Bytes that the buffers of one batch may claim to have once decompressed."""

_SMALL_BATCH: Final = 64 << 10
_WORTH_TRIMMING: Final = 1024
_TIMESTAMP_TYPE: Final = pa.timestamp("ms")
_PAIR = struct.Struct("<qq")
_SIZES = struct.Struct("<Ii")
_NO_LEADER: Final = (-1, -1, -1, 0)
_BLANK_SLOT: Final = b" " * SLOT_SIZE


Chunk = Union[bytes, memoryview, "pa.Buffer"]


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
    stats: bytes = b"",
) -> EncodedBatch:
    """Encodes records (in the storage schema) for one partition.

    ``stats`` is what ``column_statistics`` made of the batch, or nothing. A slice costs its own
    rows only. Raises ``InvalidRecordError`` for an empty batch or one whose first column is not a
    ``__timestamp`` without nulls.
    """
    rows = batch.num_rows
    base_timestamp, max_timestamp = _timestamps(batch)
    metadata, body = _arrow_message(batch, compression)
    layout = arrow_layout(metadata)
    body_size = sum(map(len, body))
    if body_size > _WORTH_TRIMMING:
        layout, body, body_size = _trim(layout, body, body_size, batch.schema)
    fields = (
        flags_of(compression, control=control, transactional=transactional),
        producer_epoch,
        rows,
        producer_id,
        base_sequence,
        schema_id,
        base_timestamp,
        max_timestamp,
    )
    return _assemble(layout, body, body_size, _NO_LEADER, fields, partition, stats)


def decode_batch(
    message: Message,
    schema: pa.Schema,
    *,
    columns: Sequence[str] | None = None,
    max_uncompressed: int = DEFAULT_MAX_UNCOMPRESSED,
) -> pa.RecordBatch:
    """The records of a batch that has been verified; uncompressed columns are views of ``message``.

    ``schema`` is the storage schema that the batch was written with. With ``columns`` only those
    are decompressed and returned, in the order given. The contents of columns are not validated.
    Raises ``CorruptMessageError`` where the message does not fit the schema or claims more than
    ``max_uncompressed`` bytes, ``InvalidRecordError`` for a column that the schema lacks.
    """
    header = read_header(message)
    layout = read_layout(message, header.metadata_size)
    compressed = layout.codec >= 0
    if columns is not None:
        _check_columns(schema, columns)
    if compressed:
        body = memoryview(message)[header.metadata_size : header.size]
        if columns is not None:
            layout, pieces, size = _select(layout, body, schema, columns)
            before, after = build_metadata(layout, size, b"")
            body = memoryview(b"".join(pieces))
            message = b"".join((before, _BLANK_SLOT, after, body))
            schema = pa.schema([schema.field(name) for name in columns])
        _bound_uncompressed(layout, body, max_uncompressed)
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
    max_uncompressed: int = DEFAULT_MAX_UNCOMPRESSED,
) -> pa.RecordBatch:
    """Decodes a batch from outside and checks everything a reader will rely on.

    Checked are the sizes, every buffer and value (UTF-8, offsets, nulls), the number of records
    and the smallest and largest timestamp. Not checked is the CRC: see ``verify``.
    Raises ``InvalidRecordError``.
    """
    try:
        header = read_header(message)
        if header.size != len(message):
            raise InvalidRecordError(
                f"{len(message) - header.size} bytes follow the batch; send one batch at a time"
            )
        batch = decode_batch(message, schema, max_uncompressed=max_uncompressed)
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
    _check_columns(schema, columns)
    layout = read_layout(message, header.metadata_size)
    body = memoryview(message)[header.metadata_size : header.size]
    layout, pieces, size = _select(layout, body, schema, columns)
    return _assemble(layout, pieces, size, header[:4], header[5:13], partition).chunks


def _arrow_message(batch: pa.RecordBatch, compression: Compression) -> tuple[bytes, list[Chunk]]:
    """Flatbuffer and body of the message that Arrow makes of a batch."""
    if compression is Compression.NONE and pa.ipc.get_record_batch_size(batch) <= _SMALL_BATCH:
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


def _assemble(
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
    before, after = build_metadata(layout, body_size, stats)
    metadata_size = SLOT_END + len(after)
    size = metadata_size + body_size
    start = before + MAGIC
    if body_size <= _SMALL_BATCH:
        rest = b"".join((producer_part((*producer, size)), after, *body))
        body = []
    else:
        rest = producer_part((*producer, size)) + after
    crc = crc32c.crc32c(rest, crc32c.crc32c(start, partition_seed(partition)))
    for chunk in body:
        crc = crc32c.crc32c(chunk, crc)
    header = BatchHeader._make((*leader, crc, *producer, size, metadata_size))
    return EncodedBatch([b"".join((start, leader_part((*leader, crc)), rest)), *body], header)


def _trim(
    layout: Layout, body: list[Chunk], body_size: int, schema: pa.Schema
) -> tuple[Layout, list[Chunk], int]:
    """Leaves out the buffers of empty arrays: Arrow writes the whole parent's offsets for the empty
    child of a list, 12 bytes per record of every batch without headers.
    """
    nodes = list(_PAIR.iter_unpack(layout.nodes))
    if all(length for length, _ in nodes):
        return layout, body, body_size
    buffers = list(_PAIR.iter_unpack(layout.buffers))
    position = 0
    for count, (length, _) in zip(column_layout(schema).buffers_per_node, nodes, strict=True):
        if not length:
            buffers[position : position + count] = [(0, 0)] * count
        position += count
    packed, ranges, size = compact(buffers)
    return layout._replace(buffers=packed), list(_cut(body, ranges)), size


def _select(
    layout: Layout, body: memoryview, schema: pa.Schema, columns: Sequence[str]
) -> tuple[Layout, list[Chunk], int]:
    """The layout and body of some columns; bounds every buffer."""
    places = column_layout(schema)
    nodes = list(_PAIR.iter_unpack(layout.nodes))
    buffers = list(_PAIR.iter_unpack(layout.buffers))
    if len(nodes) != len(places.buffers_per_node) or len(buffers) != places.buffers[-1][1]:
        raise CorruptMessageError("the batch has other columns than its schema")
    kept_nodes: list[tuple[int, int]] = []
    kept_buffers: list[tuple[int, int]] = []
    for name in columns:
        position = places.positions[name]
        kept_nodes += nodes[slice(*places.nodes[position])]
        kept_buffers += buffers[slice(*places.buffers[position])]
    for offset, length in kept_buffers:
        if offset & 7 or not 0 <= offset <= offset + length <= len(body):
            raise CorruptMessageError("a buffer of the batch lies outside of its body")
    packed, ranges, size = compact(kept_buffers)
    if size > len(body):
        raise CorruptMessageError("buffers of the batch overlap")
    packed_nodes = b"".join(_PAIR.pack(*node) for node in kept_nodes)
    selected = layout._replace(nodes=packed_nodes, buffers=packed)
    return selected, [body[start:end] for start, end in ranges], size


def _cut(chunks: list[Chunk], ranges: list[tuple[int, int]]) -> Iterator[Chunk]:
    """The given ranges, in ascending order, of chunks that stand one behind the other."""
    wanted = iter(ranges)
    start, end = next(wanted, (-1, -1))
    position = 0
    for chunk in chunks:
        chunk_end = position + len(chunk)
        while start < chunk_end and position < end:
            if start <= position and chunk_end <= end:
                yield chunk
            else:
                yield memoryview(chunk)[max(start - position, 0) : end - position]
            if end > chunk_end:
                break
            start, end = next(wanted, (-1, -1))
        position = chunk_end


def _check_columns(schema: pa.Schema, columns: Sequence[str]) -> None:
    positions = column_layout(schema).positions
    for name in columns:
        if name not in positions:
            raise InvalidRecordError(
                f"column {name!r} is not in the topic, which has {', '.join(positions)}"
            )
    if not columns or len(set(columns)) < len(columns):
        raise InvalidRecordError("name at least one column, and each of them once")


def _bound_uncompressed(layout: Layout, body: memoryview, limit: int) -> None:
    """Each compressed buffer begins with its uncompressed length: adds them up before Arrow
    allocates any of them.
    """
    total = 0
    for offset, length in _PAIR.iter_unpack(layout.buffers):
        if not length:
            continue
        if length < 8 or not 0 <= offset <= offset + length <= len(body):
            raise CorruptMessageError("a buffer of the batch lies outside of its body")
        (size,) = struct.unpack_from("<q", body, offset)
        if size < -1:
            raise CorruptMessageError("a compressed buffer of the batch has a negative length")
        total += length - 8 if size == -1 else size
        if total > limit:
            raise CorruptMessageError(
                f"the batch claims more than {limit} bytes when decompressed; send smaller batches"
            )


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
    extremes = pc.min_max(column)
    return extremes["min"].value, extremes["max"].value
