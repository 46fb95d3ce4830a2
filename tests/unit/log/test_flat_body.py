from __future__ import annotations

import struct
from typing import Any

import pyarrow as pa
import pytest

from raykafka.log.batch import _arrow_body, encode_batch, validate_batch
from raykafka.log.flat_body import flat_body
from raykafka.log.schema import UNTYPED_SCHEMA, storage_schema
from raykafka.model import Compression, PartitionId

FLAT: dict[str, tuple[pa.DataType, list[Any]]] = {
    "boolean": (pa.bool_(), [True, None, False]),
    "int8": (pa.int8(), [1, None, 3]),
    "float64": (pa.float64(), [0.5, 1.5, 2.5]),
    "decimal": (pa.decimal128(10, 2), [1, None, 3]),
    "date": (pa.date32(), [1, 2, 3]),
    "interval": (pa.month_day_nano_interval(), [(1, 2, 3)] * 3),
    "fixed": (pa.binary(3), [b"abc", None, b"def"]),
    "text": (pa.string(), ["grün", None, ""]),
    "large_text": (pa.large_string(), ["blau", "", None]),
    "bytes": (pa.binary(), [b"", b"\x00\xff", b"x" * 9]),
    "all null": (pa.binary(), [None, None, None]),
}


@pytest.fixture
def flat() -> pa.RecordBatch:
    """An untyped topic's reserved columns and one of each flat kind, 300 records."""
    schema = storage_schema(pa.schema([pa.field(name, kind) for name, (kind, _) in FLAT.items()]))
    rows = 300
    columns = [
        pa.array(range(rows), pa.timestamp("ms")),
        pa.array([b"k", None, b"key"] * 100, pa.binary()),
        pa.nulls(rows, schema.field("__headers").type),
        *(pa.array(values * 100, kind) for kind, values in FLAT.values()),
    ]
    return pa.record_batch(columns, schema=schema)


def _buffers(layout: Any) -> list[int]:
    return [length for _, length in struct.iter_unpack("<qq", layout.buffers)]


def test_it_is_what_arrow_makes(flat: pa.RecordBatch) -> None:
    ours, theirs = flat_body(flat), _arrow_body(flat, Compression.NONE)
    assert ours is not None
    assert ours[0].nodes == theirs[0].nodes
    assert _buffers(ours[0]) == _buffers(theirs[0])
    assert sum(map(len, ours[1])) == ours[2]


def test_it_is_read_like_any_other_batch(
    flat: pa.RecordBatch, partition: PartitionId, joined: Any
) -> None:
    message = joined(encode_batch(flat, partition).chunks)
    assert validate_batch(message, flat.schema).equals(flat)


@pytest.mark.parametrize("spare", [0, 1, 1000])
def test_memory_behind_a_column_is_not_sent(
    partition: PartitionId, joined: Any, spare: int
) -> None:
    rows = 5
    column = pa.array([b"secret!"] * (rows + spare), pa.binary()).slice(0, rows)
    batch = pa.record_batch(
        [
            pa.array(range(rows), pa.timestamp("ms")),
            pa.nulls(rows, pa.binary()),
            pa.nulls(rows, UNTYPED_SCHEMA.field("__headers").type),
            column,
        ],
        schema=UNTYPED_SCHEMA,
    )
    body = flat_body(batch)
    assert body is not None
    message = joined(encode_batch(batch, partition).chunks)
    assert bytes(message).count(b"secret!") == rows
    assert validate_batch(message, UNTYPED_SCHEMA).equals(batch)


def test_headers_in_no_record(untyped: Any, partition: PartitionId, joined: Any) -> None:
    batch = untyped([b"a", b"b", b"c"], headers=[[], None, []])
    assert flat_body(batch) is not None
    message = joined(encode_batch(batch, partition).chunks)
    assert validate_batch(message, UNTYPED_SCHEMA).equals(batch)


@pytest.mark.parametrize(
    "batch",
    [
        pytest.param({"headers": [None, [{"key": "k", "value": b"v"}]]}, id="headers"),
        pytest.param({"cut": 1}, id="slice"),
    ],
)
def test_what_is_not_flat_is_left_to_arrow(untyped: Any, batch: dict[str, Any]) -> None:
    made = untyped([b"a", b"b"], headers=batch.get("headers"))
    assert flat_body(made.slice(batch.get("cut", 0))) is None


def test_nested_columns_are_left_to_arrow(every_type: pa.RecordBatch) -> None:
    assert flat_body(every_type) is None


def test_values_that_do_not_begin_at_zero_are_left_to_arrow(
    untyped: Any, partition: PartitionId, joined: Any
) -> None:
    offsets = pa.py_buffer(struct.pack("<3i", 2, 3, 5))
    column = pa.Array.from_buffers(pa.binary(), 2, [None, offsets, pa.py_buffer(b"??abc")])
    batch = untyped([b"", b""])
    batch = pa.record_batch([*batch.columns[:3], column], schema=UNTYPED_SCHEMA)
    assert flat_body(batch) is None
    message = joined(encode_batch(batch, partition).chunks)
    assert validate_batch(message, UNTYPED_SCHEMA).column(3).to_pylist() == [b"a", b"bc"]


@pytest.mark.parametrize("end", [6, -1])
def test_values_that_end_outside_of_their_memory_are_left_to_arrow(untyped: Any, end: int) -> None:
    offsets = bytearray(struct.pack("<3i", 0, 3, 5))
    parts = [None, pa.py_buffer(offsets), pa.py_buffer(b"abcde")]
    column = pa.Array.from_buffers(pa.binary(), 2, parts)
    batch = pa.record_batch([*untyped([b"", b""]).columns[:3], column], schema=UNTYPED_SCHEMA)
    struct.pack_into("<i", offsets, 8, end)  # Arrow has looked at it by now
    assert flat_body(batch) is None
