"""A few records of an untyped topic as a batch, without Arrow.

Building four Arrow arrays and having them written costs several times more than the bytes
themselves when there is one record. The layout is that of ``ipc_message``; what comes out is read
like any other batch.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

import pyarrow as pa
from crc32c import crc32c

from raykafka.log.batch import (
    NO_LEADER,
    SMALL_BODY,
    EncodedBatch,
    assemble,
    assemble_around,
    decode_batch,
)
from raykafka.log.batch_header import (
    MAGIC,
    TRANSACTIONAL,
    BatchHeader,
    Message,
    flags_of,
    leader_part,
    make_header,
    partition_seed,
    producer_part,
)
from raykafka.log.body import Chunk
from raykafka.log.ipc_message import SLOT_END, SLOT_POSITION, Layout, build_metadata
from raykafka.log.schema import HEADERS_TYPE, UNTYPED_SCHEMA
from raykafka.model import Compression, PartitionId

_TRANSACTIONAL: Final = flags_of(Compression.NONE, control=False, transactional=True)

MAX_ROWS: Final = 64
"""With more records than this Arrow is faster."""

_PADDING: Final = tuple(bytes(count) for count in range(8))
_NO_OFFSETS: Final = bytes(8)
_NODES: Final = struct.Struct("<14q")
_BUFFERS: Final = struct.Struct("<34q")
_ROW: Final = struct.Struct("<q")
_OFFSETS_OF_ONE: Final = struct.Struct("<2i")
_SIZES_OF_ONE: Final = struct.Struct("<2x48x24xq72xq8x72xq184xq")
"""Behind the slot of a batch with one record: null counts and data sizes of its key and value."""
METADATA_OF_ONE: Final = SLOT_END + len(
    build_metadata(Layout(1, bytes(14 * 8), bytes(34 * 8), -1), 0, b"")[1]
)


class SmallRecords(NamedTuple):
    """Records of an untyped topic without headers, as plain lists."""

    timestamps: Sequence[int]
    keys: Sequence[bytes | None] | None
    """None where no record has one."""
    values: Sequence[bytes | None]

    @property
    def num_rows(self) -> int:
        return len(self.values)

    def to_arrow(self) -> pa.RecordBatch:
        """The same in the storage schema."""
        rows = len(self.values)
        keys = self.keys
        columns = [
            pa.array(self.timestamps, pa.timestamp("ms")),
            pa.nulls(rows, pa.binary()) if keys is None else pa.array(keys, pa.binary()),
            pa.nulls(rows, HEADERS_TYPE),
            pa.array(self.values, pa.binary()),
        ]
        return pa.RecordBatch.from_arrays(columns, schema=UNTYPED_SCHEMA)


def encode_records(
    records: SmallRecords,
    partition: PartitionId,
    *,
    producer_id: int = -1,
    producer_epoch: int = -1,
    base_sequence: int = -1,
    transactional: bool = False,
) -> EncodedBatch:
    """Encodes 1 to ``MAX_ROWS`` records, uncompressed, under schema id 0.

    Equal to ``encode_batch`` of ``records.to_arrow()``, up to padding.
    """
    timestamps, keys, values = records
    rows = len(values)
    first = timestamps[0]
    flags = _TRANSACTIONAL if transactional else 0
    if rows == 1:
        producer = (flags, producer_epoch, 1, producer_id, base_sequence, 0, first, first)
        return _encode_one(keys[0] if keys else None, values[0], producer, partition)
    first, last = min(timestamps), max(timestamps)
    producer = (flags, producer_epoch, rows, producer_id, base_sequence, 0, first, last)
    bits = (rows + 7) >> 3
    stamps = struct.pack(f"<{rows}q", *timestamps)
    key_nulls, key_parts = (rows, _absent(rows)) if keys is None else _binary(keys, rows)
    value_nulls, value_parts = _binary(values, rows)
    nodes = _NODES.pack(rows, 0, rows, key_nulls, rows, rows, 0, 0, 0, 0, 0, 0, rows, value_nulls)
    pieces: list[bytes] = []
    places: list[int] = []
    position = 0
    for part in (
        b"",
        stamps,
        *key_parts,
        bytes(bits),  # no record has headers
        bytes(4 * rows + 4),
        b"",
        b"",
        _NO_OFFSETS,
        b"",
        b"",
        _NO_OFFSETS,
        b"",
        *value_parts,
    ):
        size = len(part)
        places.append(position)
        places.append(size)
        if size:
            pieces.append(part)
            position += size
            if size & 7:
                pieces.append(_PADDING[-size & 7])
                position += -size & 7
    return assemble(
        Layout(rows, nodes, _BUFFERS.pack(*places), -1),
        [b"".join(pieces)],
        position,
        NO_LEADER,
        producer,
        partition,
    )


def _encode_one(
    key: bytes | None, value: bytes | None, producer: tuple[int, ...], partition: PartitionId
) -> EncodedBatch:
    """One record: most of the work has been done for an earlier one of the same size."""
    k, v = key or b"", value or b""
    before_slot, behind_slot, about_key, about_rest, body_size, _ = frame_of_one(
        key is None, value is None, len(k), len(v)
    )
    timestamp, padding = _ROW.pack(producer[-1]), _PADDING[-len(v) & 7]
    if body_size > SMALL_BODY:
        body: list[Chunk] = [timestamp, about_key, k, about_rest, v, padding]
        metadata = (before_slot, behind_slot)
        return assemble_around(metadata, body, body_size, NO_LEADER, producer, partition)
    fields = (*producer, METADATA_OF_ONE + body_size)
    start = before_slot + MAGIC
    rest = b"".join(
        (producer_part(fields), behind_slot, timestamp, about_key, k, about_rest, v, padding)
    )
    leader = (*NO_LEADER, crc32c(rest, crc32c(start, partition_seed(partition))))
    header = make_header((*leader, *fields, METADATA_OF_ONE))
    return EncodedBatch([b"".join((start, leader_part(leader), rest))], header)


def is_one_record(message: Message, header: BatchHeader) -> bool:
    """Whether a batch is, to the byte, what ``encode_records`` makes of one record.

    Such a batch is valid: there is nothing in it that a reader could stumble over. ``header`` is
    what ``verify`` returned. False says nothing; ``validate_batch`` knows.
    """
    return _shape_in(message, header) is not None


class OneRecord(NamedTuple):
    """The record of a batch that holds no other, beside the batch."""

    timestamp: int
    key: bytes | None
    value: bytes | None
    message: Message
    header: BatchHeader

    @property
    def num_rows(self) -> int:
        return 1

    def to_arrow(self) -> pa.RecordBatch:
        """The batch in the storage schema; a view of the message."""
        return decode_batch(self.message, UNTYPED_SCHEMA, header=self.header)


def read_one_record(message: Message, header: BatchHeader) -> OneRecord | None:
    """The record of a batch that ``is_one_record``, without Arrow; None for any other batch."""
    shape = _shape_in(message, header)
    if shape is None:
        return None
    key_nulls, value_nulls, key_size, value_size = shape.sizes
    key_at, value_at = shape.key_at, shape.value_at
    return OneRecord(
        header.base_timestamp,
        None if key_nulls else bytes(message[key_at : key_at + key_size]),
        None if value_nulls else bytes(message[value_at : value_at + value_size]),
        message,
        header,
    )


def _shape_in(message: Message, header: BatchHeader) -> _ShapeOfOne | None:
    """The shape of a batch with one record; None for any other batch."""
    start = header.metadata_size
    if (
        start != METADATA_OF_ONE
        or header.record_count != 1
        or header.flags & ~TRANSACTIONAL
        or header.schema_id
    ):
        return None
    shape = _shape_of_one(*_SIZES_OF_ONE.unpack_from(message, SLOT_END))
    if shape is None or header.size - start != shape.body_size:
        return None
    frame, timestamp = shape.frame, header.base_timestamp
    parts = (frame.before_slot, frame.behind_slot, timestamp, frame.key, frame.headers)
    if timestamp != header.max_timestamp or shape.parts.unpack_from(message) != parts:
        return None
    return shape


class FrameOfOne(NamedTuple):
    """All bytes of a batch with one record that do not depend on what is in it."""

    before_slot: bytes
    behind_slot: bytes
    """Up to the body."""
    key: bytes
    """Behind the timestamp, up to the key's data: its offsets, or that it is null."""
    headers: bytes
    """Behind the key's data up to the value's: the key's padding, that there are no headers, and
    the value's offsets."""
    body_size: int
    headers_at: int
    """Where in the body it is said that there are no headers."""


@functools.lru_cache(maxsize=4096)
def frame_of_one(key_nulls: int, value_nulls: int, key_size: int, value_size: int) -> FrameOfOne:
    """The frame for these sizes, which ``can_be`` has allowed."""
    key = (8, 1, 16, 8, 24, 0) if key_nulls else (8, 0, 8, 8, 16, key_size)
    at = 24 if key_nulls else 16 + (key_size + 7 & -8)
    a, b, c, d = at + 8, at + 16, at + 24, at + 32
    headers = (at, 1, a, 8, b, 0, b, 0, b, 8, c, 0, c, 0, c, 8, d, 0)
    value = (d, 1, d + 8, 8, d + 16, 0) if value_nulls else (d, 0, d, 8, d + 8, value_size)
    body_size = d + 16 if value_nulls else d + 8 + (value_size + 7 & -8)
    nodes = _NODES.pack(1, 0, 1, key_nulls, 1, 1, 0, 0, 0, 0, 0, 0, 1, value_nulls)
    places = _BUFFERS.pack(0, 0, 0, 8, *key, *headers, *value)
    return FrameOfOne(
        *build_metadata(Layout(1, nodes, places, -1), body_size, b""),
        bytes(16) if key_nulls else _OFFSETS_OF_ONE.pack(0, key_size),
        bytes(32 + (-key_size & 7))
        + (bytes(16) if value_nulls else _OFFSETS_OF_ONE.pack(0, value_size)),
        body_size,
        at,
    )


class _ShapeOfOne(NamedTuple):
    """How to tell that a batch is made of a frame, whatever is in it."""

    frame: FrameOfOne
    parts: struct.Struct
    """Unpacks the frame, with the timestamp in its place, and leaves out the rest."""
    body_size: int
    sizes: tuple[int, int, int, int]
    key_at: int
    """Where the key's data stand in the message."""
    value_at: int


@functools.lru_cache(maxsize=4096)
def _shape_of_one(
    key_nulls: int, value_nulls: int, key_size: int, value_size: int
) -> _ShapeOfOne | None:
    """The shape of a batch with these sizes, which somebody claims; None where they cannot be."""
    if not can_be(key_nulls, value_nulls, key_size, value_size):
        return None
    frame = frame_of_one(key_nulls, value_nulls, key_size, value_size)
    before, behind, key, headers = map(len, frame[:4])
    slot = SLOT_END - SLOT_POSITION
    parts = struct.Struct(f"<{before}s{slot}x{behind}sq{key}s{key_size}x{headers}s")
    key_at = METADATA_OF_ONE + 8 + key
    sizes = (key_nulls, value_nulls, key_size, value_size)
    return _ShapeOfOne(frame, parts, frame.body_size, sizes, key_at, parts.size)


def can_be(key_nulls: int, value_nulls: int, key_size: int, value_size: int) -> bool:
    """Whether one record can have these null counts and sizes."""
    return (
        0 <= key_nulls <= 1
        and 0 <= value_nulls <= 1
        and 0 <= key_size < 1 << 31
        and 0 <= value_size < 1 << 31
        and not (key_nulls * key_size or value_nulls * value_size)
    )


def _binary(column: Sequence[bytes | None], rows: int) -> tuple[int, tuple[bytes, bytes, bytes]]:
    """Number of nulls; validity, offsets and data of a binary column of several rows."""
    offsets = [0]
    end = nulls = validity = 0
    for number, value in enumerate(column):
        if value is None:
            nulls += 1
        else:
            end += len(value)
            validity |= 1 << number
        offsets.append(end)
    data = b"".join([value for value in column if value])
    bitmap = validity.to_bytes((rows + 7) >> 3, "little") if nulls else b""
    return nulls, (bitmap, struct.pack(f"<{rows + 1}i", *offsets), data)


def _absent(rows: int) -> tuple[bytes, bytes, bytes]:
    return bytes((rows + 7) >> 3), bytes(4 * rows + 4), b""
