"""The Arrow IPC message around a batch, read and written by hand.

Arrow's own writer cannot leave room for header fields that a server fills in later, and its reader
cannot take columns out without decompressing them; both need only the outermost flatbuffer tables
(``Message`` and ``RecordBatch`` of ``format/Message.fbs``). Every message that raykafka writes has
the same shape, so that the header slot always stands at the same place::

    byte 0     continuation 0xFFFFFFFF, int32 metadata size      (encapsulated message format)
    byte 8     Message table, custom_metadata vector, key "rk"
    byte 100   value of "rk": the header slot, 106 characters    (see batch_header)
    byte 208   key and value of "rk.stats", where there are statistics
    then       RecordBatch table, nodes, buffers, compression
    then       body; the whole length is a multiple of 8

Reading trusts nothing, and needs no general flatbuffer reader: whatever is not laid out this way is
refused with ``CorruptMessageError``, so that Arrow's reader sees the same tables as this one.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

from raykafka.errors import CorruptMessageError

CONTINUATION: Final = 0xFFFFFFFF
SLOT_SIZE: Final = 106
SLOT_POSITION: Final = 100
SLOT_END: Final = SLOT_POSITION + SLOT_SIZE
PREFIX_SIZE: Final = 208
MAX_METADATA_BYTES: Final = 16 << 20
"""No batch's metadata is larger: 1,000 columns with statistics take a fraction of it."""

STATISTICS_KEY: Final = b"rk.stats"

_U16 = struct.Struct("<H")
_U32 = struct.Struct("<I")
_I32 = struct.Struct("<i")
_I64 = struct.Struct("<q")

# The constant parts in their order; positions count from the flatbuffer's beginning (byte 8).
_HEAD: Final = struct.pack(
    "<I7H6xi",
    24,  # the root table stands at 24
    *(
        14,
        24,
        20,
        22,
        4,
        8,
        16,
    ),  # its vtable: sizes, then version, header_type, header, bodyLength,
    20,  # custom_metadata; the table begins with the way back to the vtable
)
_KIND: Final = struct.pack(
    "<IhBx", 8, 4, 3
)  # custom_metadata at 48; MetadataVersion V5; RecordBatch
_FIRST_KEY: Final = _U32.pack(68 - 52)
_SLOT_KEY: Final = struct.pack("<4HiIII4sI", 8, 12, 4, 8, 8, 8, 12, 2, b"rk", SLOT_SIZE)
_STATISTICS_TABLE: Final = 200
_KEY_VALUE_VTABLE: Final = 60

_SECOND_KEY: Final = _STATISTICS_TABLE - 56
_KEYS: Final = ((1, 0), (2, _SECOND_KEY))

_PREFIX: Final = struct.Struct("<100s106s2s")
_BEFORE_SLOT: Final = struct.Struct("<Ii28sIq8sI4sI32s")

# RecordBatch table: vtable at 0, table at 16, nodes at 44, then buffers, then compression.
_TABLE: Final = struct.Struct("<12s4xIIqIIII")
_PLAIN_VTABLE: Final = struct.pack("<6H", 12, 24, 8, 4, 16, 0)
_COMPRESSED_VTABLE: Final = struct.pack("<6H", 12, 24, 8, 4, 16, 20)
_BUFFER_COUNT: Final = struct.Struct("<4xI")
_COMPRESSION: Final = struct.Struct("<12sBB2x")
_COMPRESSION_VTABLE: Final = struct.pack("<4HI", 8, 6, 4, 5, 8)


class Layout(NamedTuple):
    """What a ``RecordBatch`` table says about the body."""

    length: int
    nodes: bytes
    """Packed ``FieldNode`` structs: int64 length and int64 null count each, depth first."""
    buffers: bytes
    """Packed ``Buffer`` structs: int64 offset in the body and int64 length each."""
    codec: int
    """``CompressionType``: 0 for LZ4_FRAME, 1 for ZSTD, -1 where the body is not compressed."""


class MessageSizes(NamedTuple):
    """What the fixed beginning of a message says of the rest."""

    metadata_size: int
    """Bytes before the body, the eight of the continuation and the size included."""
    body_size: int
    has_statistics: bool


def read_prefix(message: bytes | bytearray | memoryview) -> tuple[MessageSizes, bytes]:
    """What the fixed beginning of a message says, and its slot; every constant is compared.

    Raises ``CorruptMessageError`` where it is not one that raykafka wrote.
    """
    try:
        before_slot, slot, end = _PREFIX.unpack_from(message)
    except struct.error:
        raise CorruptMessageError(
            f"{len(message)} bytes are too few for a batch, whose header takes {PREFIX_SIZE}; "
            "send the whole batch again"
        ) from None
    if end != b"\0\0":
        raise CorruptMessageError("the bytes do not begin with a raykafka batch; send it again")
    return _read_sizes(before_slot), slot


# Batches of equal size begin with the same bytes, and small ones come in few sizes.
@functools.lru_cache(maxsize=1024)
def _read_sizes(before_slot: bytes) -> MessageSizes:
    (
        continuation,
        flatbuffer_size,
        head,
        _,
        body_size,
        kind,
        pairs,
        first_key,
        second_key,
        slot_key,
    ) = _BEFORE_SLOT.unpack(before_slot)
    if (
        head != _HEAD
        or kind != _KIND
        or slot_key != _SLOT_KEY
        or first_key != _FIRST_KEY
        or continuation != CONTINUATION
        or (pairs, second_key) not in _KEYS
        or not PREFIX_SIZE <= flatbuffer_size + 8 <= MAX_METADATA_BYTES
        or body_size < 0
        or (flatbuffer_size | body_size) & 7
    ):
        raise CorruptMessageError("the bytes do not begin with a raykafka batch; send it again")
    return MessageSizes(flatbuffer_size + 8, body_size, pairs == 2)


def read_layout(message: bytes | bytearray | memoryview, metadata_size: int) -> Layout:
    """The ``RecordBatch`` table of a message whose prefix has been read.

    Raises ``CorruptMessageError`` where it has not the shape that ``build_metadata`` gives it.
    """
    try:
        start = 8 + 28 + _U32.unpack_from(message, 36)[0] - 16
        vtable, back, nodes_at, length, buffers_at, compression_at, _, nodes = _TABLE.unpack_from(
            message, start
        )
        buffers_start = start + 48 + 16 * nodes + 8
        (buffers,) = _U32.unpack_from(message, buffers_start - 4)
        end = buffers_start + 16 * buffers
        codec = -1
        if vtable == _COMPRESSED_VTABLE:
            form, codec, method = _COMPRESSION.unpack_from(message, end)
            if form != _COMPRESSION_VTABLE or codec > 1 or method:
                raise CorruptMessageError("the batch is compressed in an unknown way")
    except struct.error:
        raise CorruptMessageError("the batch's metadata point outside of themselves") from None
    plain = vtable == _PLAIN_VTABLE
    if (
        not (plain or vtable == _COMPRESSED_VTABLE)
        or (back, nodes_at, buffers_at) != (16, 24, 48 + 16 * nodes + 4 - 32)
        or compression_at != (0 if plain else end - start + 8 - 36)
        or metadata_size != (end if plain else end + 16)
    ):
        raise CorruptMessageError("the batch's metadata are not laid out as raykafka does")
    view = memoryview(message)
    return Layout(
        length,
        bytes(view[start + 48 : buffers_start - 8]),
        bytes(view[buffers_start:end]),
        codec,
    )


def arrow_layout(metadata: bytes) -> Layout:
    """The layout in the flatbuffer of a message that Arrow itself has just written."""
    (root,) = _U32.unpack_from(metadata)
    table = _follow(metadata, root + _field(metadata, root, 2))
    compression_at = _field(metadata, table, 3)
    codec = -1
    if compression_at:
        compression = _follow(metadata, table + compression_at)
        codec_at = _field(metadata, compression, 0)
        codec = metadata[compression + codec_at] if codec_at else 0
    return Layout(
        _I64.unpack_from(metadata, table + _field(metadata, table, 0))[0],
        _structs(metadata, table + _field(metadata, table, 1)),
        _structs(metadata, table + _field(metadata, table, 2)),
        codec,
    )


def read_statistics_value(message: bytes | bytearray | memoryview) -> bytes:
    """The value of ``rk.stats`` of a message, or nothing.

    Raises ``CorruptMessageError`` where the second key is another one or its size is a lie.
    """
    sizes, _ = read_prefix(message)
    if not sizes.has_statistics:
        return b""
    size_at = 8 + _STATISTICS_TABLE + 28
    metadata = bytes(memoryview(message)[: sizes.metadata_size])
    if len(metadata) < size_at + 4 or metadata[size_at - 12 : size_at - 4] != STATISTICS_KEY:
        raise CorruptMessageError("the batch's second metadata key is not rk.stats")
    (size,) = _U32.unpack_from(metadata, size_at)
    if size > len(metadata) - size_at - 4:
        raise CorruptMessageError("the batch's statistics are longer than its metadata")
    return metadata[size_at + 4 : size_at + 4 + size]


def build_metadata(layout: Layout, body_size: int, statistics: bytes) -> tuple[bytes, bytes]:
    """Everything of a message that stands before the slot, and between the slot and the body."""
    extra = _statistics_block(statistics) if statistics else b""
    nodes, buffers = layout.nodes, layout.buffers
    buffers_at = 48 + len(nodes) + 4
    compressed = layout.codec >= 0
    compression_at = buffers_at + 4 + len(buffers)
    table = _TABLE.pack(
        _COMPRESSED_VTABLE if compressed else _PLAIN_VTABLE,
        16,
        44 - 20,
        layout.length,
        buffers_at - 32,
        compression_at + 8 - 36 if compressed else 0,
        0,
        len(nodes) >> 4,
    )
    after = b"".join(
        (
            b"\0\0",
            extra,
            table,
            nodes,
            _BUFFER_COUNT.pack(len(buffers) >> 4),
            buffers,
            _COMPRESSION.pack(_COMPRESSION_VTABLE, layout.codec, 0) if compressed else b"",
        )
    )
    before = _BEFORE_SLOT.pack(
        CONTINUATION,
        SLOT_END + len(after) - 8,
        _HEAD,
        200 + len(extra) + 16 - 28,
        body_size,
        _KIND,
        2 if extra else 1,
        _FIRST_KEY,
        _SECOND_KEY if extra else 0,
        _SLOT_KEY,
    )
    return before, after


def compact(buffers: Sequence[tuple[int, int]]) -> tuple[bytes, list[tuple[int, int]], int]:
    """Puts the given (offset, length) pieces of a body one behind the other.

    Answers with the packed ``Buffer`` structs of the new body, the (start, end) ranges of the old
    body that make it up, neighbours joined, and the new body's size. Ranges are whole multiples of
    8 bytes, as Arrow pads each buffer.
    """
    packed: list[int] = []
    ranges: list[tuple[int, int]] = []
    position = 0
    for offset, length in buffers:
        packed += (position, length)
        padded = (length + 7) & ~7
        if not padded:
            continue
        position += padded
        if ranges and ranges[-1][1] == offset:
            ranges[-1] = (ranges[-1][0], offset + padded)
        else:
            ranges.append((offset, offset + padded))
    return struct.pack(f"<{len(packed)}q", *packed), ranges, position


def _field(metadata: bytes, table: int, number: int) -> int:
    """Offset of a field within a table that Arrow wrote; 0 where it is absent."""
    vtable = table - _I32.unpack_from(metadata, table)[0]
    if _U16.unpack_from(metadata, vtable)[0] <= 4 + 2 * number:
        return 0
    return int(_U16.unpack_from(metadata, vtable + 4 + 2 * number)[0])


def _follow(metadata: bytes, position: int) -> int:
    return int(position + _U32.unpack_from(metadata, position)[0])


def _structs(metadata: bytes, field: int) -> bytes:
    """A vector of 16-byte structs."""
    vector = _follow(metadata, field)
    return metadata[vector + 4 : vector + 4 + 16 * _U32.unpack_from(metadata, vector)[0]]


def _statistics_block(statistics: bytes) -> bytes:
    # KeyValue table at 200, key at 212, value at 228; shares the vtable of the slot's table.
    block = struct.pack(
        "<iIII8sxxxxI",
        _STATISTICS_TABLE - _KEY_VALUE_VTABLE,
        212 - 204,
        228 - 208,
        len(STATISTICS_KEY),
        STATISTICS_KEY,
        len(statistics),
    )
    tail = b"\0" * (8 - (len(block) + len(statistics)) % 8)  # at least the terminating zero
    return b"".join((block, statistics, tail))
