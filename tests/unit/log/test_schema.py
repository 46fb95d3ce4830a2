from __future__ import annotations

import struct
from typing import Any

import pyarrow as pa
import pytest

from raykafka.errors import (
    InvalidConfigError,
    InvalidRecordError,
    InvalidRequestError,
    UnsupportedSchemaChangeError,
)
from raykafka.log.schema import (
    RESERVED,
    UNTYPED_VALUE_SCHEMA,
    check_fits,
    check_value_schema,
    column_layout,
    conform,
    deserialize_schema,
    evolve,
    serialize_schema,
    storage_schema,
)


def one(kind: pa.DataType, **options: Any) -> pa.Schema:
    return pa.schema([pa.field("c", kind, **options)])


def test_the_storage_schema_begins_with_the_reserved_columns() -> None:
    schema = storage_schema(UNTYPED_VALUE_SCHEMA.with_metadata({"pandas": "much"}))
    assert schema.names == [*RESERVED, "value"]
    assert schema.field("__timestamp").type == pa.timestamp("ms")
    assert schema.field("__key").type == pa.binary()
    assert schema.field("__headers").type == pa.list_(
        pa.struct([("key", pa.string()), ("value", pa.binary())])
    )
    assert schema.metadata is None


def test_the_layout_counts_what_arrow_writes(every_type: pa.RecordBatch) -> None:
    layout = column_layout(every_type.schema)
    assert layout is column_layout(every_type.schema)
    for position, column in enumerate(every_type.columns):
        first, last = layout.buffers[position]
        assert last - first == len(column.buffers())
    assert layout.not_null == (0,)


def test_schemas_survive_the_round_trip(every_type: pa.RecordBatch) -> None:
    schema = pa.schema([f for f in every_type.schema if f.name not in RESERVED])
    assert deserialize_schema(serialize_schema(schema.with_metadata({"a": "b"}))) == schema
    assert deserialize_schema(memoryview(serialize_schema(schema))).metadata is None


UNSUPPORTED = [
    pa.dictionary(pa.int8(), pa.string()),
    pa.string_view(),
    pa.binary_view(),
    pa.dense_union([pa.field("a", pa.int8())]),
    pa.sparse_union([pa.field("a", pa.int8())]),
    pa.run_end_encoded(pa.int32(), pa.string()),
    pa.null(),
    pa.struct([]),
    pa.list_(pa.int8(), 0),
    pa.list_view(pa.int8()),
    pa.list_(pa.dictionary(pa.int8(), pa.string())),
    pa.struct([pa.field("x", pa.map_(pa.string(), pa.string_view()))]),
]


@pytest.mark.parametrize("kind", UNSUPPORTED, ids=str)
def test_types_that_need_more_than_a_message_are_refused(kind: pa.DataType) -> None:
    with pytest.raises(InvalidConfigError, match="'c' has type .* not support"):
        check_value_schema(one(kind))
    with pytest.raises(InvalidConfigError):
        deserialize_schema(bytes(one(kind).serialize()))


class Evil(pa.ExtensionType):  # type: ignore[misc]
    """An extension type whose deserialiser must never run."""

    ran = False

    def __init__(self) -> None:
        super().__init__(pa.int8(), "test.evil")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type: object, serialized: bytes) -> Evil:
        cls.ran = True
        return cls()


@pytest.mark.parametrize("nested", [False, True])
def test_extension_types_are_refused_unread(nested: bool) -> None:
    kind = Evil()
    schema = one(pa.list_(pa.struct([pa.field("x", kind)])) if nested else kind)
    with pytest.raises(InvalidConfigError, match="extension"):
        serialize_schema(schema)
    raw = bytes(schema.serialize())
    pa.register_extension_type(kind)
    try:
        Evil.ran = False
        with pytest.raises(InvalidConfigError, match="storage type"):
            deserialize_schema(raw)
        assert not Evil.ran
    finally:
        pa.unregister_extension_type("test.evil")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "at least one column"),
        ([""], "not allowed"),
        (["__key"], "two underscores"),
        (["a", "b", "a"], "'a' appears more than once"),
        ([f"c{n}" for n in range(1001)], "1001 columns are more than the 1000"),
    ],
)
def test_bad_names_are_refused(names: list[str], message: str) -> None:
    schema = pa.schema([pa.field(name, pa.int8()) for name in names])
    with pytest.raises(InvalidConfigError, match=message):
        check_value_schema(schema)


def test_deep_nesting_is_refused() -> None:
    kind: pa.DataType = pa.int8()
    for _ in range(33):
        kind = pa.list_(kind)
    with pytest.raises(InvalidConfigError, match="nests deeper than 32"):
        check_value_schema(one(kind))


def test_bytes_that_are_not_a_schema_are_refused() -> None:
    good = serialize_schema(one(pa.int8()))
    batch = bytes(pa.record_batch([pa.array([1], pa.int8())], names=["c"]).serialize())
    for bad in (
        b"",
        b"garbage",
        good[:-8],
        good + b"12345678",
        batch,
        good[:4] + struct.pack("<i", -5) + good[8:],
        good[:4] + struct.pack("<i", 2**31 - 1) + good[8:],
        bytes(5 << 20),
    ):
        with pytest.raises((InvalidRequestError, InvalidConfigError)):
            deserialize_schema(bad)


# --- what fits ------------------------------------------------------------------------------------

LOSSLESS = [
    (pa.array([1, 2], pa.int32()), pa.int64()),
    (pa.array([1, 2], pa.int64()), pa.int16()),
    (pa.array([1, 2], pa.uint8()), pa.float64()),
    (pa.array([0.5], pa.float32()), pa.float64()),
    (pa.array(["a", None]), pa.large_string()),
    (pa.array(["a"], pa.large_string()), pa.string()),
    (pa.array(["a"], pa.string_view()), pa.string()),
    (pa.array([b"a"], pa.binary_view()), pa.binary()),
    (pa.array(["a"]), pa.binary()),
    (pa.array(["a", "b"]).dictionary_encode(), pa.string()),
    (pa.array(["a", None, "a"]).dictionary_encode(), pa.large_string()),
    (pa.array([None, None]), pa.float64()),
    (pa.array([1], pa.timestamp("s")), pa.timestamp("ns")),
    (pa.array([1], pa.timestamp("s", "UTC")), pa.timestamp("ms", "Europe/Berlin")),
    (pa.array([1000], pa.timestamp("ms")), pa.timestamp("s")),
    (pa.array([1], pa.time32("s")), pa.time64("us")),
    (pa.array([[1]], pa.list_(pa.int32())), pa.large_list(pa.int64())),
    (pa.array([[1.0, 2.0]]), pa.list_(pa.float64(), 2)),
    (pa.array([{"a": 1}]), pa.struct([pa.field("a", pa.int32())])),
]


@pytest.mark.parametrize(
    ("column", "kind"), LOSSLESS, ids=lambda value: str(getattr(value, "type", value))
)
def test_lossless_conversions_are_made(column: pa.Array, kind: pa.DataType) -> None:
    table = conform(pa.table({"c": column}), one(kind))
    assert table.schema == one(kind)
    table.validate(full=True)
    expected = column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column
    if kind in (pa.float64(), pa.binary()) or pa.types.is_timestamp(kind):
        expected = expected.cast(kind)
    if pa.types.is_time(kind):
        return
    assert table.column("c").to_pylist() == expected.to_pylist()


LOSSY = [
    (pa.array(["1"]), pa.int64(), "string"),
    (pa.array([1.5]), pa.int64(), "double"),
    (pa.array([1.5]), pa.float32(), "double"),
    (pa.array([1]), pa.string(), "int64"),
    (pa.array([b"a"]), pa.string(), "binary"),
    (pa.array([1], pa.timestamp("ms")), pa.timestamp("ms", "UTC"), "timestamp"),
    (pa.array([1], pa.date32()), pa.timestamp("ms"), "date32"),
    (pa.array([[1]]), pa.list_(pa.string()), "list"),
    (pa.array([{"a": 1}]), pa.struct([pa.field("b", pa.int64())]), "struct"),
    (pa.array([True]), pa.int8(), "bool"),
]


@pytest.mark.parametrize(
    ("column", "kind", "named"), LOSSY, ids=lambda value: str(getattr(value, "type", value))
)
def test_other_conversions_name_the_column_and_both_types(
    column: pa.Array, kind: pa.DataType, named: str
) -> None:
    with pytest.raises(InvalidRecordError) as caught:
        conform(pa.table({"c": column}), one(kind))
    assert "column 'c' has type " + str(column.type) in caught.value.message
    assert str(kind) in caught.value.message
    assert named in caught.value.message


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (pa.array([2**40]), pa.int32()),
        (pa.array([-1]), pa.uint8()),
        (pa.array([2**60 + 1]), pa.float64()),
        (pa.array([1001], pa.timestamp("ms")), pa.timestamp("s")),
        (pa.array([[1.0]]), pa.list_(pa.float64(), 2)),
    ],
    ids=str,
)
def test_values_that_would_change_are_refused(column: pa.Array, kind: pa.DataType) -> None:
    with pytest.raises(InvalidRecordError, match="'c' has type .* without loss"):
        conform(pa.table({"c": column}), one(kind))


def test_column_order_is_free_and_nullable_columns_may_be_missing() -> None:
    topic = pa.schema(
        [pa.field("a", pa.int64(), nullable=False), pa.field("b", pa.string()), ("c", pa.bool_())]
    )
    table = conform(pa.table({"c": [True], "a": [1]}), topic)
    assert table.schema == topic
    assert table.to_pylist() == [{"a": 1, "b": None, "c": True}]
    batch = pa.record_batch({"a": pa.array([1, 2])})
    assert conform(batch, topic).column("b").null_count == 2
    with pytest.raises(InvalidRecordError, match=r"'a' \(int64\) is missing"):
        check_fits(pa.schema([("b", pa.string())]), topic)
    with pytest.raises(InvalidRecordError, match="'d' is not in the topic's schema, which has 'a'"):
        check_fits(pa.schema([("a", pa.int64()), ("d", pa.string())]), topic)
    with pytest.raises(InvalidRecordError, match="'a' appears more than once"):
        check_fits(pa.schema([("a", pa.int64()), ("a", pa.int64())]), topic)
    with pytest.raises(InvalidRecordError, match=r"'a' \(int64\) holds 1 nulls"):
        conform(pa.table({"a": [1, None]}), topic)


def test_chunks_and_empty_tables_conform() -> None:
    table = pa.concat_tables([pa.table({"c": pa.array([n], pa.int32())}) for n in range(3)])
    assert conform(table, one(pa.int64())).column("c").to_pylist() == [0, 1, 2]
    assert conform(table.slice(0, 0), one(pa.int64())).num_rows == 0


# --- evolution ------------------------------------------------------------------------------------


def test_nullable_columns_are_added_at_the_end() -> None:
    old, added = one(pa.int8()), pa.schema([("d", pa.string())])
    assert evolve(old, added).names == ["c", "d"]
    with pytest.raises(UnsupportedSchemaChangeError, match="'d' must be nullable"):
        evolve(old, pa.schema([pa.field("d", pa.string(), nullable=False)]))
    with pytest.raises(UnsupportedSchemaChangeError, match="'c' exists already"):
        evolve(old, old)
    with pytest.raises(InvalidConfigError, match="do not support"):
        evolve(old, pa.schema([("d", pa.null())]))
    with pytest.raises(InvalidConfigError, match="two underscores"):
        evolve(old, pa.schema([("__d", pa.int8())]))
