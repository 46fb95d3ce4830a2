"""Batches to test with."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa
import pytest

from raykafka.log.schema import HEADERS_TYPE, UNTYPED_SCHEMA, storage_schema
from raykafka.model import PartitionId, TopicId

MakeUntyped = Callable[..., pa.RecordBatch]


@pytest.fixture(scope="session")
def partition() -> PartitionId:
    return PartitionId(TopicId("0123456789abcdef" * 2), 3)


@pytest.fixture(scope="session")
def untyped() -> MakeUntyped:
    """Makes a batch of an untyped topic from its values."""

    def make(
        values: Sequence[bytes | None],
        *,
        keys: Sequence[bytes | None] | None = None,
        headers: Sequence[list[dict[str, object]] | None] | None = None,
        timestamps: Sequence[int] | None = None,
    ) -> pa.RecordBatch:
        count = len(values)
        return pa.record_batch(
            [
                pa.array(timestamps or range(1_000, 1_000 + count), pa.timestamp("ms")),
                pa.array(keys or [None] * count, pa.binary()),
                pa.array(headers or [None] * count, HEADERS_TYPE),
                pa.array(values, pa.binary()),
            ],
            schema=UNTYPED_SCHEMA,
        )

    return make


@pytest.fixture(scope="session")
def every_type() -> pa.RecordBatch:
    """Twenty records of a typed topic that has a column of each kind of layout."""
    types: dict[str, pa.DataType] = {
        "boolean": pa.bool_(),
        "int32": pa.int32(),
        "float64": pa.float64(),
        "decimal": pa.decimal128(10, 2),
        "date": pa.date32(),
        "timestamp": pa.timestamp("us", "UTC"),
        "duration": pa.duration("ms"),
        "text": pa.string(),
        "large_text": pa.large_string(),
        "bytes": pa.binary(),
        "fixed": pa.binary(3),
        "list": pa.list_(pa.string()),
        "large_list": pa.large_list(pa.int16()),
        "vector": pa.list_(pa.float32(), 2),
        "struct": pa.struct([pa.field("a", pa.int64()), pa.field("b", pa.list_(pa.binary()))]),
        "map": pa.map_(pa.string(), pa.int8()),
    }
    values: dict[str, object] = {
        "boolean": True,
        "int32": 7,
        "float64": 0.5,
        "decimal": 3,
        "date": 19_000,
        "timestamp": 1_700_000_000_000_000,
        "duration": 12,
        "text": "grün",
        "large_text": "blau",
        "bytes": b"\x00\xff",
        "fixed": b"abc",
        "list": ["x", "y"],
        "large_list": [1, 2, 3],
        "vector": [1.0, 2.0],
        "struct": {"a": 1, "b": [b"p", b"q"]},
        "map": [("k", 1)],
    }
    rows = 20
    schema = storage_schema(pa.schema(list(types.items())))
    columns = [
        pa.array(range(rows), pa.timestamp("ms")),
        pa.array([b"key%d" % row for row in range(rows)], pa.binary()),
        pa.array([[{"key": "h", "value": b"v"}], None] * (rows // 2), HEADERS_TYPE),
    ]
    for name, kind in types.items():
        columns.append(pa.array([values[name], None, values[name], None] * (rows // 4), kind))
    return pa.record_batch(columns, schema=schema)


@pytest.fixture(scope="session")
def joined() -> Callable[..., bytearray]:
    """The bytes of chunks, as a receiver has them."""

    def join(chunks: Sequence[object]) -> bytearray:
        return bytearray(b"".join(memoryview(chunk) for chunk in chunks))  # type: ignore[arg-type]

    return join
