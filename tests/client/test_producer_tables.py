"""Tables: what is accepted, where rows go, what arrives."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from raykafka.client.partitioner import partition_for_key
from raykafka.client.producer import Producer
from raykafka.client.producing.futures import BatchMetadata
from raykafka.errors import (
    InvalidRecordError,
    InvalidTimestampError,
    SerializationError,
    UnknownTopicOrPartitionError,
)
from raykafka.log.stats import read_statistics
from tests.kits.produce_cluster import ProduceCluster
from tests.kits.scripted_cluster import Topic

SECOND_0 = datetime.fromtimestamp(0, timezone.utc).replace(tzinfo=None)
FLIGHTS = pa.schema(
    [
        pa.field("carrier", pa.string(), nullable=False),
        pa.field("delay", pa.int64()),
        pa.field("tail", pa.string()),
    ]
)


@pytest.fixture
def cluster() -> Iterator[ProduceCluster]:
    with ProduceCluster(leaders=2) as running:
        yield running


@pytest.fixture
def topic(cluster: ProduceCluster) -> Topic:
    return cluster.create("t", partitions=4)


@pytest.fixture
def flights(cluster: ProduceCluster) -> Topic:
    return cluster.create("f", partitions=4, schema=FLIGHTS)


@pytest.fixture
def producer(cluster: ProduceCluster, topic: Topic, flights: Topic) -> Iterator[Producer]:
    with Producer(cluster.bootstrap) as running:
        yield running


def stored(cluster: ProduceCluster, topic: Topic) -> list[dict[str, Any]]:
    return [row for log in topic.logs for row in cluster.rows(log)]


VALUES = {"carrier": ["AA", "BB"], "delay": [1, None], "tail": ["N1", "N2"]}


@pytest.mark.parametrize(
    "data",
    [
        pa.table(VALUES, schema=FLIGHTS),
        pa.record_batch(VALUES, schema=FLIGHTS),
        pa.RecordBatchReader.from_batches(FLIGHTS, [pa.record_batch(VALUES, schema=FLIGHTS)]),
        VALUES,
        {"tail": np.array(["N1", "N2"]), "carrier": pa.array(["AA", "BB"]), "delay": [1, None]},
        [
            {"carrier": "AA", "delay": 1, "tail": "N1"},
            {"carrier": "BB", "delay": None, "tail": "N2"},
        ],
        pd.DataFrame(
            {"carrier": ["AA", "BB"], "delay": pd.array([1, None], "Int32"), "tail": ["N1", "N2"]}
        ),
        pl.DataFrame(VALUES, schema_overrides={"delay": pl.Int32, "tail": pl.Categorical}),
    ],
    ids=["table", "batch", "reader", "dict", "dict of arrays", "rows", "pandas", "polars"],
)
def test_every_kind_of_table(cluster: ProduceCluster, flights: Topic, data: Any) -> None:
    with Producer(cluster.bootstrap) as producer:
        found = producer.send_table("f", data, partition=2).get(10)
        assert found == [BatchMetadata("f", 2, 0, found[0].timestamp, 2)]
    rows = stored(cluster, flights)
    assert [row["carrier"] for row in rows] == ["AA", "BB"]
    assert [row["delay"] for row in rows] == [1, None]
    assert [row["tail"] for row in rows] == ["N1", "N2"]


def test_rows_need_not_have_the_same_columns(
    cluster: ProduceCluster, producer: Producer, flights: Topic
) -> None:
    rows = [{"carrier": "AA"}, {"delay": 5, "carrier": "BB"}, {"tail": "N3", "carrier": "CC"}]
    producer.send_table("f", rows, partition=0).get(10)
    found = [(row["carrier"], row["delay"], row["tail"]) for row in stored(cluster, flights)]
    assert found == [("AA", None, None), ("BB", 5, None), ("CC", None, "N3")]
    with pytest.raises(InvalidRecordError, match="'gate' is not in the topic's schema"):
        producer.send_table("f", [{"carrier": "AA"}, {"carrier": "AA", "gate": "B4"}])


@pytest.mark.parametrize("as_rows", [False, True], ids=["dict", "rows"])
def test_numbers_of_python_have_no_width(
    cluster: ProduceCluster, producer: Producer, as_rows: bool
) -> None:
    embedding = pa.list_(pa.float32(), 2)
    schema = pa.schema([("a", pa.float32()), ("b", pa.float16()), ("c", embedding)])
    topic = cluster.create("numbers", partitions=1, schema=schema)
    rows = [{"a": 1.5, "b": 2, "c": [1, 0.5]}, {"a": None, "b": None, "c": None}]
    columns = {name: [row[name] for row in rows] for name in schema.names}
    producer.send_table("numbers", rows if as_rows else columns).get(10)
    assert [{name: row[name] for name in schema.names} for row in stored(cluster, topic)] == rows
    for wrong in ([16_777_217], ["1.5"], np.array([1.5])):
        with pytest.raises(
            InvalidRecordError, match="column 'a' has type .*, the topic's .* float"
        ):
            producer.send_table("numbers", {"a": wrong})


def test_an_untyped_topic_takes_values_and_keys(
    cluster: ProduceCluster, topic: Topic, producer: Producer
) -> None:
    table = pa.table({"value": ["a", "b", None, "d"], "id": pa.array([1, 2, 1, None], pa.int32())})
    found = producer.send_table("t", table, key="id", timestamps=5).get(10)
    assert sum(batch.count for batch in found) == 4
    for row in stored(cluster, topic):
        assert row["__timestamp"] == SECOND_0 + timedelta(milliseconds=5)
    by_value = {row["value"]: row["__key"] for row in stored(cluster, topic)}
    assert by_value == {b"a": b"1", b"b": b"2", None: b"1", b"d": None}
    one = partition_for_key(b"1", 4)
    assert [row["value"] for row in cluster.rows(topic.logs[one]) if row["__key"] == b"1"] == [
        b"a",
        None,
    ]


def test_rows_of_a_key_keep_their_order(
    cluster: ProduceCluster, flights: Topic, producer: Producer
) -> None:
    rng = np.random.default_rng(1)
    for first in range(0, 5000, 1000):
        table = pa.table(
            {
                "carrier": pa.array([f"K{n}" for n in rng.integers(0, 20, 1000)]),
                "delay": pa.array(range(first, first + 1000)),
            }
        )
        producer.send_table("f", table, key="carrier")
    producer.flush(10)
    rows = stored(cluster, flights)
    assert len(rows) == 5000
    for partition, log in enumerate(flights.logs):
        mine = cluster.rows(log)
        assert all(partition_for_key(row["carrier"].encode(), 4) == partition for row in mine)
        assert [row["delay"] for row in mine] == sorted(row["delay"] for row in mine)
        assert all(row["__key"] == row["carrier"].encode() for row in mine)


def test_the_key_column_of_a_topic_decides_without_being_stored_twice(
    cluster: ProduceCluster,
) -> None:
    topic = cluster.create("k", partitions=4, schema=FLIGHTS, key_column="tail")
    table = {"carrier": ["A", "B", "C"], "tail": ["N1", "N2", None]}
    with Producer(cluster.bootstrap) as producer:
        producer.send_table("k", table).get(10)
        producer.send_table("k", table, key="tail").get(10)
        with pytest.raises(InvalidRecordError, match=r"its column 'tail' \(key.column\)"):
            producer.send_table("k", table, key="carrier")
        with pytest.raises(InvalidRecordError, match="key column 'tail' is missing"):
            producer.send_table("k", {"carrier": ["A"]})
        with pytest.raises(InvalidRecordError, match="leave key out"):
            producer.send("k", {"carrier": "A"}, key=b"x")
    rows = stored(cluster, topic)
    assert len(rows) == 6
    assert {row["__key"] for row in rows} == {None}
    for partition, log in enumerate(topic.logs):
        for row in cluster.rows(log):
            if row["tail"] is not None:
                assert partition_for_key(row["tail"].encode(), 4) == partition


@pytest.mark.parametrize(
    "timestamps",
    [
        "at",
        pa.array([1000, 2000]),
        [1000, 2000],
        np.array([1000, 2000]),
        [SECOND_0 + timedelta(seconds=1), SECOND_0 + timedelta(seconds=2)],
        pa.chunked_array([[datetime(1970, 1, 1, 0, 0, 1, tzinfo=timezone.utc)],
                          [datetime(1970, 1, 1, 0, 0, 2, tzinfo=timezone.utc)]]),
    ],
    ids=["column", "arrow", "list", "numpy", "datetimes", "with zone"],
)  # fmt: skip
def test_timestamps(
    cluster: ProduceCluster, topic: Topic, producer: Producer, timestamps: Any
) -> None:
    table = pa.table({"value": [b"a", b"b"], "at": pa.array([1000, 2000], pa.timestamp("ms"))})
    if not isinstance(timestamps, str):
        table = table.drop_columns(["at"])
    found = producer.send_table("t", table, partition=0, timestamps=timestamps).get(10)
    assert found[0].timestamp == 2000
    stamps = [row["__timestamp"] for row in stored(cluster, topic)]
    assert stamps == [SECOND_0 + timedelta(seconds=1), SECOND_0 + timedelta(seconds=2)]


def test_a_table_that_was_read_can_be_sent_on(
    cluster: ProduceCluster, topic: Topic, producer: Producer
) -> None:
    table = pa.table(
        {
            "__topic": ["other", "other"],
            "__partition": [7, 7],
            "__offset": [100, 101],
            "__timestamp": pa.array([1, 2], pa.timestamp("ms")),
            "__key": pa.array([b"k", None]),
            "__headers": pa.array(
                [[{"key": "h", "value": b"1"}], None],
                pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())])),
            ),
            "value": [b"a", b"b"],
        }
    )
    producer.send_table("t", table).get(10)
    rows = sorted(stored(cluster, topic), key=lambda row: row["value"])
    assert [row["__key"] for row in rows] == [b"k", None]
    assert rows[0]["__headers"] == [{"key": "h", "value": b"1"}]
    assert [row["__timestamp"].microsecond for row in rows] == [1000, 2000]


@pytest.mark.parametrize(
    ("data", "options", "error", "message"),
    [
        ({"carrier": ["A"], "dealy": [1]}, {}, InvalidRecordError, "'dealy' is not in"),
        ({"carrier": ["A"], "delay": ["late"]}, {}, InvalidRecordError, "'delay'.*string.*int64"),
        ({"carrier": ["A"], "delay": [1.5]}, {}, InvalidRecordError, "'delay'.*double.*int64"),
        ({"delay": [1]}, {}, InvalidRecordError, "'carrier'.*missing"),
        ({"carrier": ["A", None]}, {}, InvalidRecordError, "'carrier'.*1 nulls"),
        ({"carrier": ["A"]}, {"key": "no"}, InvalidRecordError, "key column 'no' is missing"),
        ({"carrier": ["A"]}, {"timestamps": "no"}, InvalidRecordError, "timestamp column 'no'"),
        ({"carrier": ["A"]}, {"timestamps": [1, 2]}, InvalidTimestampError, "1 rows"),
        ({"carrier": ["A"]}, {"timestamps": ["x"]}, InvalidTimestampError, "not string"),
        ({"carrier": ["A"]}, {"timestamps": [1 << 64]}, InvalidTimestampError, "milliseconds"),
        ({"carrier": ["A"]}, {"timestamps": 1 << 63}, InvalidTimestampError, "milliseconds"),
        ({"carrier": ["A"]}, {"timestamps": -1}, InvalidTimestampError, "milliseconds"),
        ({"carrier": ["A"]}, {"timestamps": [None]}, InvalidTimestampError, "nulls"),
        ({"carrier": ["A"]}, {"partition": 4}, UnknownTopicOrPartitionError, "0 to 3"),
        ({"carrier": ["A"], "delay": [1, 2]}, {}, SerializationError, "Arrow table"),
        ({"carrier": ["A"], "delay": [1 << 70]}, {}, InvalidRecordError, "'delay'.*int64"),
        ([{"carrier": "A", "delay": 1 << 70}], {}, InvalidRecordError, "'delay'.*int64"),
        ({"carrier": ["A", 1]}, {}, InvalidRecordError, "'carrier'.*string"),
        ({"carrier": ["A"], "x": [1, "a"]}, {}, SerializationError, "'x' is no array"),
        ("text", {}, SerializationError, "cannot make a table of str"),
        (b"bytes", {}, SerializationError, "cannot make a table of bytes"),
        ({"carrier": ["A"], "x": [1.5]}, {"key": "x"}, InvalidRecordError, "key column.*double"),
    ],
)
def test_tables_that_do_not_fit(
    cluster: ProduceCluster,
    flights: Topic,
    producer: Producer,
    data: Any,
    options: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        producer.send_table("f", data, **options)
    assert cluster.produces == []


def test_values_that_only_the_schema_explains(cluster: ProduceCluster) -> None:
    topic = cluster.create("m", partitions=1, schema=pa.schema([("m", pa.map_("string", "int64"))]))
    with Producer(cluster.bootstrap) as producer:
        producer.send_table("m", {"m": [[("k", 1)]]}).get(10)
        producer.send_table("m", [{"m": [("k", 2)]}]).get(10)
    assert [row["m"] for row in cluster.rows(topic.logs[0])] == [[("k", 1)], [("k", 2)]]


def test_an_empty_table_is_done_at_once(producer: Producer, cluster: ProduceCluster) -> None:
    future = producer.send_table("f", pa.table(VALUES, schema=FLIGHTS).slice(0, 0))
    assert future.done()
    assert future.get() == []
    assert cluster.produces == []


def test_large_tables_are_cut_and_small_chunks_joined(
    cluster: ProduceCluster, topic: Topic, producer: Producer
) -> None:
    with Producer(cluster.bootstrap, max_request_size=100_000) as small:
        table = pa.table({"value": [b"%06d" % i + bytes(94) for i in range(5000)]})
        found = small.send_table("t", table, partition=1).get(10)
    assert len(found) > 4
    assert sum(batch.count for batch in found) == 5000
    assert [row["value"][:6] for row in cluster.rows(topic.logs[1])] == [
        b"%06d" % i for i in range(5000)
    ]
    assert all(header.size <= 100_000 for header in cluster.headers(topic, 1))
    with Producer(cluster.bootstrap, max_request_size=2000) as tiny:
        # Less than columns are reckoned to need: half of it is for rows all the same.
        found = tiny.send_table("t", table.slice(0, 20), partition=3).get(10)
    assert sum(batch.count for batch in found) == 20
    assert all(header.size <= 2000 for header in cluster.headers(topic, 3))
    chunks = pa.chunked_array([[b"%d" % i] for i in range(100)])
    assert len(producer.send_table("t", pa.table({"value": chunks}), partition=2).get(10)) == 1


def test_slices_of_a_keyless_table_spread_over_partitions(
    cluster: ProduceCluster, topic: Topic
) -> None:
    with Producer(cluster.bootstrap, max_request_size=50_000) as producer:
        found = producer.send_table("t", {"value": [bytes(1000)] * 2000}).get(10)
    assert {batch.partition for batch in found} == {0, 1, 2, 3}


def test_sends_and_tables_keep_their_order(
    cluster: ProduceCluster, topic: Topic, producer: Producer
) -> None:
    for i in range(0, 30, 3):
        producer.send("t", b"%d" % i, partition=0)
        producer.send_table("t", {"value": [b"%d" % (i + 1), b"%d" % (i + 2)]}, partition=0)
    producer.flush(10)
    assert cluster.records(topic, 0) == [b"%d" % i for i in range(30)]


def test_typed_batches_carry_statistics(
    cluster: ProduceCluster, flights: Topic, producer: Producer
) -> None:
    producer.send_table("f", {"carrier": ["A"] * 20, "delay": [*range(19), None]}, partition=0).get(
        10
    )
    for i in range(20):
        producer.send("f", {"carrier": "B", "delay": i}, partition=1)
    producer.flush(10)
    table, rows = flights.logs[0].batches[0], flights.logs[1].batches[0]
    assert tuple(read_statistics(table)["delay"]) == (0, 18, 1)
    assert tuple(read_statistics(rows)["delay"]) == (0, 19, 0)


def test_a_table_reports_the_error_of_any_batch(
    cluster: ProduceCluster, topic: Topic, producer: Producer
) -> None:
    errors: list[Exception] = []
    future = producer.send_table("t", {"value": [b"v"]}, partition=0)
    future.add_both(errors.append)
    cluster.call(lambda: cluster.topics.pop("t"))
    cluster.change_topics()
    producer._metadata.refresh(["t"])
    later = producer.send_table("f", VALUES)
    producer.flush(10)
    assert later.succeeded()
    assert len(errors) == 1


def test_a_zero_copy_table_costs_no_memory_of_its_own(
    cluster: ProduceCluster, topic: Topic, producer: Producer
) -> None:
    table = pa.table({"value": pa.array([bytes(1000)] * 4000, pa.binary())})
    cluster.silent = True
    future = producer.send_table("t", table, partition=0)
    before = pa.total_allocated_bytes()
    cluster.release()
    future.get(10)
    del future
    assert pa.total_allocated_bytes() - before < table.nbytes / 4
