"""The body of a batch's message: which of its pieces belong to which column.

Nothing here reads a value: columns are taken out, and empty ones shortened, by the offsets and
lengths that the message's metadata give, so compressed columns stay compressed.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Final, Union

from raykafka.errors import CorruptMessageError, InvalidRecordError
from raykafka.log.ipc_message import Layout, compact
from raykafka.log.schema import column_layout

if TYPE_CHECKING:
    import pyarrow as pa

Chunk = Union[bytes, memoryview, "pa.Buffer"]

_WORTH_TRIMMING: Final = 1024
_WORTH_REPLACING: Final = 64
_EMPTY_OFFSETS: Final = b"\xff" * 8 + bytes(8)
"""Offsets of an empty array, behind the mark of a buffer that is stored uncompressed. (A buffer
without bytes would be valid too, but polars cannot decompress one.)"""
_PAIR = struct.Struct("<qq")


def trim_empty(
    layout: Layout, body: list[Chunk], schema: pa.Schema
) -> tuple[Layout, list[Chunk], int]:
    """Replaces long buffers of empty arrays: Arrow writes the whole parent's offsets for the empty
    child of a list, 12 bytes per record of every batch without headers.
    """
    body_size = sum(map(len, body))
    if body_size <= _WORTH_TRIMMING:
        return layout, body, body_size
    nodes = list(_PAIR.iter_unpack(layout.nodes))
    if all(length for length, _ in nodes):
        return layout, body, body_size
    buffers = list(_PAIR.iter_unpack(layout.buffers))
    fillers = 0
    position = 0
    for count, (length, _) in zip(column_layout(schema).buffers_per_node, nodes, strict=True):
        for number in range(position, position + count if not length else position):
            if buffers[number][1] > _WORTH_REPLACING:
                filler = body_size + len(_EMPTY_OFFSETS) * fillers
                buffers[number] = (filler, 16) if layout.codec >= 0 else (filler + 8, 8)
                fillers += 1
        position += count
    if not fillers:
        return layout, body, body_size
    packed, ranges, size = compact(buffers)
    body = list(_cut([*body, _EMPTY_OFFSETS * fillers], ranges))
    return layout._replace(buffers=packed), body, size


def select_columns(
    layout: Layout, body: memoryview, schema: pa.Schema, columns: Sequence[str]
) -> tuple[Layout, list[Chunk], int]:
    """Layout, body and its size of some columns; bounds every buffer.

    Raises ``CorruptMessageError`` where the message does not fit the schema.
    """
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


def check_columns(schema: pa.Schema, columns: Sequence[str]) -> None:
    """Raises ``InvalidRecordError`` where columns are absent, named twice, or none at all."""
    positions = column_layout(schema).positions
    for name in columns:
        if name not in positions:
            raise InvalidRecordError(
                f"column {name!r} is not in the topic, which has {', '.join(positions)}"
            )
    if not columns or len(set(columns)) < len(columns):
        raise InvalidRecordError("name at least one column, and each of them once")


def bound_uncompressed(layout: Layout, body: memoryview, limit: int) -> None:
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


def _cut(chunks: list[Chunk], ranges: list[tuple[int, int]]) -> Iterator[Chunk]:
    """The given ranges of chunks that stand one behind the other."""
    starts = list(accumulate(map(len, chunks), initial=0))
    for start, end in ranges:
        number = bisect_right(starts, start) - 1
        while start < end:
            chunk, chunk_start = chunks[number], starts[number]
            stop = min(end, starts[number + 1])
            whole = stop - start == len(chunk)
            yield chunk if whole else memoryview(chunk)[start - chunk_start : stop - chunk_start]
            start = stop
            number += 1
