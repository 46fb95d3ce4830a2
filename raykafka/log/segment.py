"""Segment files: their names, and the beginning and end that make Arrow files of them.

A segment is ``MAGIC``, the schema's message, then batches as they came. That is what the active one
looks like; sealing appends the footer that turns it into an Arrow IPC file, which any Arrow tool
opens. The footer lists the batches and carries raykafka's own index of them, so a sealed segment
needs no scan. Bytes that the footer does not list (a damaged range) are simply passed over.
"""

from __future__ import annotations

import base64
import re
import struct
from typing import Final, NamedTuple

import crc32c
import pyarrow as pa

from raykafka.errors import CorruptMessageError, InvalidConfigError, InvalidRequestError
from raykafka.log.schema import ARROW_ERRORS, refuse_extensions, schema_message_size
from raykafka.log.segment_index import SegmentIndex as SegmentIndex

MAGIC: Final = b"ARROW1\0\0"
"""First bytes of an Arrow file, padded to 8."""
SUFFIX: Final = ".arrow"
END_OF_STREAM: Final = b"\xff\xff\xff\xff\0\0\0\0"
TRAILER_SIZE: Final = 10
"""Last bytes of an Arrow file: int32 footer size and the magic without its padding."""
MAX_FOOTER_BYTES: Final = 1 << 30
_INDEX_KEY: Final = b"rk.index"
_CLOSING_MAGIC: Final = b"ARROW1"
_NAME: Final = re.compile(r"([0-9]{20})\.arrow")

# Fixed part of a footer: root, vtable of the Footer table, the table, the number of batches.
_FOOTER: Final = struct.Struct("<I7H6xiIIIH2xI")
_FOOTER_SHAPE: Final = (24, 14, 20, 16, 4, 0, 8, 12, 24 - 4)
_CRC: Final = struct.Struct("<I")
_BLOCK: Final = struct.Struct("<qi4xq")
# Behind the list of batches: custom_metadata with one pair, its table, its key, its value's size.
_PAIR: Final = struct.Struct("<II4HiIII8s4xI")
_PAIR_SHAPE: Final = (1, 12, 8, 12, 4, 8, 8, 8, 20, len(_INDEX_KEY), _INDEX_KEY)


class Preamble(NamedTuple):
    """What stands before a segment's first batch."""

    schema: pa.Schema
    size: int


def segment_name(base_offset: int) -> str:
    """File name of the segment that begins with this offset: 20 digits are enough for any int64, so
    that names sort as their offsets do (Kafka's convention).
    """
    if base_offset < 0:
        raise ValueError(f"a segment cannot begin at offset {base_offset}")
    return f"{base_offset:020d}{SUFFIX}"


def parse_segment_name(name: str) -> int | None:
    """The base offset in a segment's file name; None for a file that is not a segment."""
    match = _NAME.fullmatch(name)
    if match is None or int(match[1]) >= 2**63:
        return None
    return int(match[1])


def should_roll(
    *,
    size: int,
    incoming: int,
    age_ms: int,
    segment_bytes: int,
    segment_ms: int,
) -> bool:
    """Whether a new segment has to begin before ``incoming`` bytes are appended.

    As Kafka's ``LogSegment.shouldRoll``: when the batch would not fit into ``segment_bytes``, or
    the segment's first batch is older than ``segment_ms``. ``size`` counts batches only: a segment
    without any (0) never rolls.
    """
    return size > 0 and (size + incoming > segment_bytes or age_ms > segment_ms)


def build_preamble(schema: pa.Schema) -> bytes:
    """The first bytes of a segment: magic and schema message; their length is a multiple of 8."""
    return MAGIC + bytes(schema.serialize())


def read_preamble(data: bytes | bytearray | memoryview) -> Preamble:
    """Reads what ``build_preamble`` wrote; raises ``CorruptMessageError`` where it is damaged."""
    if bytes(data[: len(MAGIC)]) != MAGIC:
        raise CorruptMessageError("the file does not begin with ARROW1: it is not a segment")
    rest = memoryview(data)[len(MAGIC) :]
    try:
        size = schema_message_size(rest)
        refuse_extensions(rest[:size])
        schema = pa.ipc.read_schema(pa.py_buffer(rest[:size]))
    except (InvalidRequestError, InvalidConfigError, *ARROW_ERRORS) as error:
        raise CorruptMessageError(f"the segment's schema is damaged: {error}") from None
    return Preamble(schema, len(MAGIC) + size)


def build_footer(schema: pa.Schema, index: SegmentIndex) -> bytes:
    """Everything behind the last batch: end of stream, footer, its size and the closing magic.

    The footer is a small flatbuffer (``format/File.fbs``): a new root with the list of batches and
    the index that points at the schema inside the footer Arrow writes for a file without batches.
    Four bytes behind the index are the CRC-32C of what stands before and behind its value.
    """
    empty = _empty_footer(schema)
    schema_at, version = _schema_in_footer(empty)
    rows = index.to_bytes()
    blocks_end = _FOOTER.size + _BLOCK.size * len(index)
    value = blocks_end + _PAIR.size
    encoded_size = 4 * ((len(rows) + _CRC.size + 2) // 3)  # in base64
    end = _footer_end(value, encoded_size)
    footer = bytearray(end)
    _FOOTER.pack_into(
        footer,
        0,
        *_FOOTER_SHAPE,
        end + schema_at - 28,
        44 - 32,
        blocks_end - 36,
        version,
        len(index),
    )
    for number, (position, metadata_size, size) in enumerate(index.blocks()):
        place = _FOOTER.size + _BLOCK.size * number
        _BLOCK.pack_into(footer, place, position, metadata_size, size - metadata_size)
    _PAIR.pack_into(footer, blocks_end, *_PAIR_SHAPE, encoded_size)
    crc = crc32c.crc32c(empty, crc32c.crc32c(footer[:value]))
    footer[value : value + encoded_size] = base64.b64encode(rows + _CRC.pack(crc))
    trailer = struct.pack("<i", len(footer) + len(empty)) + _CLOSING_MAGIC
    return b"".join((END_OF_STREAM, footer, empty, trailer))


def footer_size(trailer: bytes | bytearray | memoryview) -> int:
    """Bytes that ``build_footer`` wrote, from the last ``TRAILER_SIZE`` bytes of a file.

    Raises ``CorruptMessageError`` where the file does not end as an Arrow file does: it was never
    sealed, or is damaged.
    """
    tail = bytes(trailer[-TRAILER_SIZE:])
    if len(tail) < TRAILER_SIZE or tail[4:] != _CLOSING_MAGIC:
        raise CorruptMessageError("the segment does not end with ARROW1: it has no footer")
    (size,) = struct.unpack_from("<i", tail)
    if not 0 < size <= MAX_FOOTER_BYTES:
        raise CorruptMessageError(f"the segment's footer cannot have {size} bytes")
    return len(END_OF_STREAM) + int(size) + TRAILER_SIZE


def parse_footer(tail: bytes | bytearray | memoryview) -> tuple[pa.Schema, SegmentIndex]:
    """Schema and index of a sealed segment, from its last ``footer_size`` bytes or more.

    Raises ``CorruptMessageError`` where the footer is damaged or ``tail`` is too short.
    """
    size = footer_size(tail)
    if size > len(tail):
        raise CorruptMessageError(f"the footer has {size} bytes, but {len(tail)} are here")
    footer = memoryview(tail)[len(tail) - size :]
    if bytes(footer[:8]) != END_OF_STREAM:
        raise CorruptMessageError("the segment's batches do not end where its footer begins")
    footer = footer[8:]
    try:
        refuse_extensions(footer)
        index = _index_in_footer(footer[:-TRAILER_SIZE])
        # Arrow reads the schema of a file whose batches it is never asked for.
        reader = pa.ipc.open_file(pa.BufferReader(pa.py_buffer(b"".join((MAGIC, footer)))))
        schema = reader.schema
    except (InvalidConfigError, struct.error, *ARROW_ERRORS) as error:
        raise CorruptMessageError(f"the segment's footer is damaged: {error}") from None
    if reader.num_record_batches != len(index):
        raise CorruptMessageError("the segment's footer and its index disagree")
    return schema, index


def _index_in_footer(footer: memoryview) -> SegmentIndex:
    fixed = _FOOTER.unpack_from(footer)
    blocks_end = _FOOTER.size + _BLOCK.size * fixed[-1]
    if (fixed[: len(_FOOTER_SHAPE)], *fixed[10:12]) != (_FOOTER_SHAPE, 44 - 32, blocks_end - 36):
        raise CorruptMessageError("the segment's footer is not one that raykafka wrote")
    *pair, size = _PAIR.unpack_from(footer, blocks_end)
    value = blocks_end + _PAIR.size
    if tuple(pair) != _PAIR_SHAPE or size > len(footer) - value:
        raise CorruptMessageError("the segment's footer carries no index")
    decoded = base64.b64decode(footer[value : value + size], validate=True)
    crc = crc32c.crc32c(footer[_footer_end(value, size) :], crc32c.crc32c(footer[:value]))
    if decoded[-_CRC.size :] != _CRC.pack(crc):
        raise CorruptMessageError("the segment's footer fails its CRC")
    return SegmentIndex.from_bytes(decoded[: -_CRC.size])


def _footer_end(value: int, size: int) -> int:
    """Where Arrow's own footer begins: behind the index's terminating zero, at a multiple of 8."""
    return (value + size + 8) & ~7


def _empty_footer(schema: pa.Schema) -> bytes:
    sink = pa.BufferOutputStream()
    pa.ipc.new_file(sink, schema).close()
    file: bytes = sink.getvalue().to_pybytes()
    (size,) = struct.unpack_from("<i", file, len(file) - TRAILER_SIZE)
    return file[len(file) - TRAILER_SIZE - size : len(file) - TRAILER_SIZE]


def _schema_in_footer(footer: bytes) -> tuple[int, int]:
    """Position of the schema's table in a footer that Arrow wrote, and the metadata version."""
    (root,) = struct.unpack_from("<I", footer)
    vtable = root - struct.unpack_from("<i", footer, root)[0]
    version_at, schema_at = struct.unpack_from("<HH", footer, vtable + 4)
    field = root + schema_at
    version = struct.unpack_from("<H", footer, root + version_at)[0] if version_at else 0
    return field + struct.unpack_from("<I", footer, field)[0], version
