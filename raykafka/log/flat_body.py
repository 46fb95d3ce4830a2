"""The body of a batch straight from the memory of its columns.

Having Arrow's writer list the buffers of plain columns, and taking its list apart, takes as long as
the batch's CRC. Here are only columns whose buffers can be sent as they are: neither cut at their
beginning nor nested. Everything else is left to Arrow.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

import pyarrow as pa

from raykafka.log.body import Chunk
from raykafka.log.ipc_message import Layout
from raykafka.log.schema import FIXED_WIDTH, HEADERS_TYPE, VARIABLE_WIDTH

_OFFSETS: Final = {
    kind: struct.Struct("<q" if kind in (pa.large_binary().id, pa.large_string().id) else "<i")
    for kind in VARIABLE_WIDTH
}
_HEADERS: Final = HEADERS_TYPE.id
_LIST_OFFSETS: Final = struct.Struct("<i")
_WORTH_A_CHUNK: Final = 4 << 10
"""Smaller buffers side by side are copied together: each chunk costs calls on its way."""
_PADDING: Final = tuple(bytes(count) for count in range(8))
_NO_OFFSETS: Final = bytes(8)
_EMPTY_CHILDREN: Final = (b"", b"", _NO_OFFSETS, b"", b"", _NO_OFFSETS, b"")
"""Buffers below a list of headers that is empty in every record: a struct, its key, its value."""


def flat_body(batch: pa.RecordBatch) -> tuple[Layout, list[Chunk], int] | None:
    """Layout, body and its size of an uncompressed batch; None where Arrow has to make them.

    The chunks are views of the columns' memory, whose contents are not looked at but for the ends
    of variable columns.
    """
    rows = batch.num_rows
    nodes: list[int] = []
    buffers: list[Chunk] = []
    for column in batch.columns:
        own = None if column.offset else _buffers(column, rows)
        if own is None:
            return None
        nodes += (rows, column.null_count)
        buffers += own
        if len(own) > 3:
            nodes += (0, 0) * 3
    places: list[int] = []
    body: list[Chunk] = []
    small: list[Chunk] = []
    position = 0
    for buffer in buffers:
        size = len(buffer)
        places += (position, size)
        if size > _WORTH_A_CHUNK:
            if small:
                body.append(b"".join(small))
                small.clear()
            body.append(buffer)
        elif size:
            small.append(buffer)
        if size & 7:
            small.append(_PADDING[-size & 7])
        position += size + 7 & -8
    if small:
        body.append(b"".join(small))
    layout = Layout(
        rows, struct.pack(f"<{len(nodes)}q", *nodes), struct.pack(f"<{len(places)}q", *places), -1
    )
    return layout, body, position


def _buffers(column: pa.Array, rows: int) -> Sequence[Chunk] | None:
    """The buffers of a column and of what is below it."""
    kind = column.type
    own = column.buffers()
    bitmap = _first(own[0], (rows + 7) >> 3 if column.null_count else 0)
    if kind.id in FIXED_WIDTH:
        values = _first(own[1], (rows * kind.bit_width + 7) >> 3)
        return None if bitmap is None or values is None else (bitmap, values)
    if kind.id in _OFFSETS:
        places = _OFFSETS[kind.id]
        offsets = _first(own[1], places.size * (rows + 1))
        if bitmap is None or offsets is None or places.unpack_from(offsets)[0]:
            return None
        (end,) = places.unpack_from(offsets, places.size * rows)
        data = _first(own[2], end)
        return None if data is None else (bitmap, offsets, data)
    if kind.id == _HEADERS and kind.equals(HEADERS_TYPE):
        offsets = _first(own[1], _LIST_OFFSETS.size * (rows + 1))
        if bitmap is None or offsets is None:
            return None
        first, last = (_LIST_OFFSETS.unpack_from(offsets, at)[0] for at in (0, 4 * rows))
        return None if first or last else (bitmap, offsets, *_EMPTY_CHILDREN)
    return None


def _first(buffer: pa.Buffer | None, size: int) -> Chunk | None:
    """The first ``size`` bytes; None where the buffer does not have them."""
    if size == 0:
        return b""
    if buffer is None or not 0 < size <= buffer.size:
        return None
    return buffer if buffer.size == size else buffer.slice(0, size)
