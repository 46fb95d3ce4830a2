"""Record views give the fields of their columns and make nothing before it is asked for."""

from __future__ import annotations

import pickle
from typing import Any

import pyarrow as pa
import pytest

from raykafka.client.consuming.records import ConsumerRecord, ConsumerRecords
from raykafka.client.consuming.rows import RowFormat, Rows
from raykafka.errors import SerializationError
from raykafka.log.small_batch import SmallRecords, encode_records, read_one_record
from raykafka.model import PartitionId, TimestampType, TopicId, TopicPartition

HEADERS = pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())]))


def untyped(
    values: list[bytes | None],
    *,
    keys: list[bytes | None] | None = None,
    headers: list[list[tuple[str, bytes]] | None] | None = None,
    base_offset: int = 100,
    log_append_time: int | None = None,
    **row_format: Any,
) -> Rows:
    count = len(values)
    listed = (
        None
        if headers is None
        else [None if h is None else [{"key": k, "value": v} for k, v in h] for h in headers]
    )
    columns = pa.record_batch(
        {
            "__timestamp": pa.array(range(1000, 1000 + count), pa.timestamp("ms")),
            "__key": pa.array(keys or [None] * count, pa.binary()),
            "__headers": pa.array(listed or [None] * count, HEADERS),
            "value": pa.array(values, pa.binary()),
        }
    )
    return Rows(columns, RowFormat("t", (), **row_format), 3, base_offset, log_append_time)


def sizes(record: ConsumerRecord) -> tuple[int, int, int]:
    return (
        record.serialized_key_size,
        record.serialized_value_size,
        record.serialized_header_size,
    )


@pytest.mark.parametrize("log_append_time", [None, 77])
@pytest.mark.parametrize(("key", "value"), [(b"k", b"v"), (None, b""), (b"", None)])
def test_a_record_read_without_arrow_is_the_same(
    key: bytes | None, value: bytes | None, log_append_time: int | None
) -> None:
    encoded = encode_records(SmallRecords([1000], [key], [value]), PartitionId(TopicId("a"), 0))
    message = b"".join(map(bytes, encoded.chunks))
    record = read_one_record(message, encoded.header)
    assert record is not None
    given = untyped([value], keys=[key], log_append_time=log_append_time)
    rows = Rows(record, given.format, 3, 100, log_append_time)
    assert ConsumerRecords([rows]) == ConsumerRecords([given])
    (one,) = ConsumerRecords([rows])
    assert pickle.loads(pickle.dumps(one)) == one.copy() == one
    assert sizes(one) == sizes(ConsumerRecords([given])[0])
    assert rows.columns.to_pylist() == given.columns.to_pylist()


def test_fields_of_an_untyped_record() -> None:
    rows = untyped([b"a", None], keys=[b"k", None], headers=[[("h", b"1"), ("h", b"2")], None])
    first, second = ConsumerRecords([rows])
    assert (first.topic, first.partition, first.offset) == ("t", 3, 100)
    assert first.topic_partition == TopicPartition("t", 3)
    assert (first.timestamp, first.timestamp_type) == (1000, TimestampType.CREATE_TIME)
    assert (first.key, first.value, first.headers) == (b"k", b"a", [("h", b"1"), ("h", b"2")])
    assert sizes(first) == (1, 1, 4)
    assert (second.key, second.value, second.headers, second.offset) == (None, None, [], 101)
    assert sizes(second) == (-1, -1, -1)


def test_columns_nobody_looks_at_are_never_converted() -> None:
    rows = untyped([b"a", b"b"])
    assert [record.value for record in ConsumerRecords([rows])] == [b"a", b"b"]
    others = ("keys", "header_lists", "timestamps", "raw_keys")
    assert not any(_is_set(rows, name) for name in others)


def _is_set(rows: Rows, name: str) -> bool:
    try:
        object.__getattribute__(rows, name)
    except AttributeError:
        return False
    return True


def test_a_misspelt_attribute_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="timestampz"):
        _ = untyped([b"a"]).timestampz


def test_log_append_time_replaces_the_column() -> None:
    record = ConsumerRecords([untyped([b"a"], log_append_time=77)])[0]
    assert (record.timestamp, record.timestamp_type) == (77, TimestampType.LOG_APPEND_TIME)


def test_missing_timestamps_read_as_minus_one() -> None:
    rows = untyped([b"a", b"b"])
    stamps = pa.array([None, 5], pa.timestamp("ms"))
    holed = rows.columns.set_column(0, "__timestamp", stamps)
    records = ConsumerRecords([Rows(holed, rows.format, 0, 0)])
    assert [record.timestamp for record in records] == [-1, 5]


def test_sliced_columns_keep_their_rows() -> None:
    rows = untyped([b"%d" % i for i in range(10)], keys=[b"k%d" % i for i in range(10)])
    part = Rows(rows.columns.slice(4, 3), rows.format, 3, 104)
    assert [(r.offset, r.key, r.value, r.timestamp) for r in ConsumerRecords([part])] == [
        (100 + i, b"k%d" % i, b"%d" % i, 1000 + i) for i in (4, 5, 6)
    ]


def test_a_deserializer_runs_once_per_record_and_only_where_asked() -> None:
    calls: list[bytes] = []

    def decode(topic: str, raw: bytes) -> str:
        assert topic == "t"
        calls.append(raw)
        return raw.decode()

    records = ConsumerRecords([untyped([b"a", b"b", None], deserialize_value=decode)])
    assert calls == []
    assert [records[1].value, records[1].value, records[2].value] == ["b", "b", None]
    assert calls == [b"b"]
    assert records[1].serialized_value_size == 1


def test_a_failing_deserializer_names_the_record() -> None:
    def fail(topic: str, raw: bytes) -> object:
        raise ValueError("not JSON")

    record = ConsumerRecords([untyped([b"a", b"b"], deserialize_value=fail)])[1]
    with pytest.raises(SerializationError, match=r"value of t-3 at offset 101 .*not JSON"):
        _ = record.value
    assert record.offset == 101


def typed() -> Rows:
    columns = pa.record_batch(
        {
            "__timestamp": pa.array([1, 2], pa.timestamp("ms")),
            "__key": pa.nulls(2, pa.binary()),
            "__headers": pa.nulls(2, HEADERS),
            "id": pa.array([7, None], pa.int64()),
            "name": pa.array(["x", "y"]),
        }
    )
    return Rows(columns, RowFormat("t", ("name", "id"), key_column="id"), 0, 0)


def test_typed_values_are_dicts_in_the_wanted_order() -> None:
    first, second = ConsumerRecords([typed()])
    assert first.value == {"name": "x", "id": 7}
    assert list(second.value) == ["name", "id"]
    assert first.value is first.value
    assert (first.key, second.key, first.serialized_value_size) == (b"7", None, -1)


def test_records_behave_like_a_list() -> None:
    records = ConsumerRecords(
        [untyped([b"a", b"b"]), untyped([], base_offset=102), untyped([b"c"], base_offset=102)]
    )
    assert len(records) == 3
    assert [r.offset for r in records] == [100, 101, 102]
    assert [records[0].value, records[-1].value, records[2].value] == [b"a", b"c", b"c"]
    assert [r.value for r in records[1:]] == [b"b", b"c"]
    assert records == list(records)
    assert records != list(records)[:2]
    assert next(reversed(records)).offset == 102
    assert "100..102" in repr(records)
    for index in (3, -4):
        with pytest.raises(IndexError):
            records[index]
    assert not ConsumerRecords([])


@pytest.mark.parametrize(
    "make", [ConsumerRecord.copy, lambda record: pickle.loads(pickle.dumps(record))]
)
def test_a_record_on_its_own(make: Any) -> None:
    rows = untyped(
        [b"1", b"2"],
        keys=[None, b"k"],
        headers=[None, [("h", b"v")]],
        deserialize_value=lambda _, raw: int(raw),
    )
    record = ConsumerRecords([rows])[1]
    alone = make(record)
    assert alone == record
    assert hash(alone) == hash(record)
    assert alone.value == 2
    assert sizes(alone) == (1, 1, 2)
    assert make(ConsumerRecords([typed()])[0]).value == {"name": "x", "id": 7}
    assert alone != "something else"


def test_repr_shows_the_fields() -> None:
    record: ConsumerRecord = ConsumerRecords([untyped([b"a"])])[0]
    assert "offset=100" in repr(record)
    assert "value=b'a'" in repr(record)
