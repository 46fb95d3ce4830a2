"""A few records of an untyped topic as a batch, without Arrow.

Building four Arrow arrays and having them written costs several times more than the bytes
themselves when there is one record. The layout is that of ``ipc_message``; what comes out is read
like any other batch.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

import pyarrow as pa

from raykafka.log.batch import NO_LEADER, EncodedBatch, assemble
from raykafka.log.ipc_message import Layout
from raykafka.log.schema import HEADERS_TYPE, UNTYPED_SCHEMA
from raykafka.model import PartitionId

MAX_ROWS: Final = 64
"""With more records than this Arrow is faster."""

_PADDING: Final = tuple(bytes(count) for count in range(8))
_NO_OFFSETS: Final = bytes(8)
_NODES: Final = struct.Struct("<14q")
_BUFFERS: Final = struct.Struct("<34q")
_ROW: Final = struct.Struct("<q")
_OFFSETS_OF_ONE: Final = struct.Struct("<2i")


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
) -> EncodedBatch:
    """Encodes 1 to ``MAX_ROWS`` records, uncompressed, under schema id 0.

    Equal to ``encode_batch`` of ``records.to_arrow()``, up to padding.
    """
    timestamps, keys, values = records
    rows = len(values)
    bits = (rows + 7) >> 3
    stamps = _ROW.pack(timestamps[0]) if rows == 1 else struct.pack(f"<{rows}q", *timestamps)
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
    first = min(timestamps)
    return assemble(
        Layout(rows, nodes, _BUFFERS.pack(*places), -1),
        [b"".join(pieces)],
        position,
        NO_LEADER,
        (0, producer_epoch, rows, producer_id, base_sequence, 0, first, max(timestamps)),
        partition,
    )


def _binary(column: Sequence[bytes | None], rows: int) -> tuple[int, tuple[bytes, bytes, bytes]]:
    """Number of nulls; validity, offsets and data of a binary column."""
    if rows == 1:
        only = column[0]
        if only is None:
            return 1, _absent(1)
        return 0, (b"", _OFFSETS_OF_ONE.pack(0, len(only)), only)
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
