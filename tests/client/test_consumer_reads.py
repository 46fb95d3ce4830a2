"""What a consumer returns, against leaders that do as they are told."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator

import pyarrow as pa
import pytest

from raykafka.client.consumer import Consumer
from raykafka.errors import (
    IllegalStateError,
    InvalidConfigError,
    InvalidPartitionsError,
    InvalidRequestError,
)
from raykafka.model import Compression, OffsetAndTimestamp, TimestampType, TopicPartition
from tests.kits.scripted_cluster import ScriptedCluster, Topic

P0, P1 = TopicPartition("t", 0), TopicPartition("t", 1)


@pytest.fixture
def cluster() -> Iterator[ScriptedCluster]:
    with ScriptedCluster(leaders=2) as running:
        yield running


@pytest.fixture
def topic(cluster: ScriptedCluster) -> Topic:
    """Partition 0 holds 0..5 in batches of three, partition 1 holds a, b."""
    made = cluster.create("t", partitions=2)
    cluster.append(made, [b"0", b"1", b"2"], timestamps=[100, 110, 120])
    cluster.append(made, [b"3", b"4", b"5"], timestamps=[200, 210, 220])
    cluster.append(made, [b"a", b"b"], partition=1)
    return made


def reader(cluster: ScriptedCluster, *partitions: TopicPartition, **settings: object) -> Consumer:
    consumer = Consumer(cluster.bootstrap, **{"auto_offset_reset": "earliest", **settings})
    consumer.assign(partitions or [P0])
    return consumer


def values(consumer: Consumer, count: int, **poll: int) -> list[object]:
    """Values of the next records, each exactly where its position says."""
    found: list[object] = []
    while len(found) < count:
        polled = consumer.poll(timeout_ms=5000, **poll)
        assert polled, f"only {found} came, wanted {count}"
        for partition, records in polled.items():
            assert all(record.topic_partition == partition for record in records)
            assert records[-1].offset < consumer.position(partition)
            found += [record.value for record in records]
    return found


def test_reads_from_the_beginning_and_goes_on(cluster: ScriptedCluster, topic: Topic) -> None:
    with reader(cluster) as consumer:
        assert values(consumer, 6) == [b"0", b"1", b"2", b"3", b"4", b"5"]
        assert consumer.position(P0) == 6
        assert consumer.poll() == {}
        cluster.append(topic, [b"6"])
        assert values(consumer, 1) == [b"6"]
    assert len(cluster.leaders[0].fetches) == 1
    assert cluster.leaders[0].fetches[0].push


def test_latest_starts_at_the_end(cluster: ScriptedCluster, topic: Topic) -> None:
    with reader(cluster, auto_offset_reset="latest") as consumer:
        assert consumer.position(P0) == 6
        cluster.append(topic, [b"6"])
        assert values(consumer, 1) == [b"6"]


def test_partitions_of_several_leaders(cluster: ScriptedCluster, topic: Topic) -> None:
    with reader(cluster, P0, P1) as consumer:
        found = values(consumer, 8)
        assert sorted(v for v in found if v in b"012345") == [b"%d" % i for i in range(6)]
        assert [v for v in found if v in (b"a", b"b")] == [b"a", b"b"]
        assert consumer.metrics()["connection_count"] == 2


def test_one_poll_returns_at_most_the_limit(cluster: ScriptedCluster, topic: Topic) -> None:
    with reader(cluster, P0, P1, max_poll_records=2) as consumer:
        seen = []
        while len(seen) < 8:
            polled = consumer.poll(timeout_ms=5000)
            assert sum(map(len, polled.values())) <= 2
            seen += [r.value for records in polled.values() for r in records]
        assert consumer.poll(timeout_ms=0, max_records=1) == {}
    with reader(cluster, max_poll_records=2) as consumer:
        (records,) = consumer.poll(timeout_ms=5000, max_records=1).values()
        assert [r.value for r in records] == [b"0"]
        assert consumer.position(P0) == 1


@pytest.mark.parametrize("limit", [0, -1])
def test_limits_must_be_positive(cluster: ScriptedCluster, topic: Topic, limit: int) -> None:
    with reader(cluster) as consumer:
        for call in (consumer.poll, consumer.poll_table, consumer.poll_batches):
            with pytest.raises(InvalidRequestError, match="max_records"):
                call(max_records=limit)
        with pytest.raises(InvalidRequestError, match="max_bytes"):
            consumer.poll_table(max_bytes=limit)


def test_seek_within_a_batch_and_back(cluster: ScriptedCluster, topic: Topic) -> None:
    with reader(cluster) as consumer:
        consumer.seek(P0, 4)
        assert values(consumer, 2) == [b"4", b"5"]
        consumer.seek(P0, 1)
        assert consumer.position(P0) == 1
        assert values(consumer, 2, max_records=2) == [b"1", b"2"]
        consumer.seek_to_beginning(P0)
        assert values(consumer, 1, max_records=1) == [b"0"]
        consumer.seek_to_end()
        assert consumer.position(P0) == 6
        assert consumer.poll() == {}


def test_seek_discards_what_was_fetched(cluster: ScriptedCluster, topic: Topic) -> None:
    with reader(cluster) as consumer:
        assert values(consumer, 1, max_records=1) == [b"0"]
        consumer.seek(P0, 5)
        cluster.append(topic, [b"6"])
        assert values(consumer, 2) == [b"5", b"6"]


@pytest.mark.parametrize("at_end", [False, True])
def test_a_push_on_its_way_does_not_undo_a_seek(
    cluster: ScriptedCluster, topic: Topic, at_end: bool
) -> None:
    with reader(cluster) as consumer:
        assert len(values(consumer, 6)) == 6
        for number in range(6, 30):
            cluster.append(topic, [b"%d" % number])  # pushed at once, and not read yet
            consumer.seek_to_end(P0) if at_end else consumer.seek_to_beginning(P0)
            assert consumer.position(P0) == (number + 1 if at_end else 0)
            if not at_end:
                assert values(consumer, 1, max_records=1) == [b"0"]


@pytest.mark.parametrize("offset", [-1, 1.5, "1", True, None])
def test_seek_refuses_what_is_no_offset(cluster: ScriptedCluster, offset: object) -> None:
    with reader(cluster) as consumer, pytest.raises(InvalidRequestError, match="offset"):
        consumer.seek(P0, offset)  # type: ignore[arg-type]


def test_only_assigned_partitions_have_positions(cluster: ScriptedCluster, topic: Topic) -> None:
    with reader(cluster) as consumer:
        for call in (
            lambda: consumer.seek(P1, 0),
            lambda: consumer.position(P1),
            lambda: consumer.pause(P1),
            lambda: consumer.resume(P1),
            lambda: consumer.seek_to_end(P1),
        ):
            with pytest.raises(IllegalStateError, match="t-1 is not assigned"):
                call()
        for wrong in ("t", ("t",), ("t", -1), ("t", "0"), (0, "t"), ("t", True)):
            with pytest.raises(InvalidPartitionsError):
                consumer.assign([wrong])  # type: ignore[list-item]
        assert consumer.assignment() == {P0}


def test_assign_keeps_positions_of_what_stays(cluster: ScriptedCluster, topic: Topic) -> None:
    with reader(cluster) as consumer:
        assert values(consumer, 2, max_records=2) == [b"0", b"1"]
        consumer.assign([P1, P0])
        assert consumer.assignment() == {P0, P1}
        assert sorted(values(consumer, 6)) == [b"2", b"3", b"4", b"5", b"a", b"b"]
        consumer.assign([P1])
        cluster.append(topic, [b"6"])
        cluster.append(topic, [b"c"], partition=1)
        assert values(consumer, 1) == [b"c"]
        consumer.assign([])
        assert consumer.poll() == {}


def test_pause_and_resume(cluster: ScriptedCluster, topic: Topic) -> None:
    with reader(cluster, P0, P1) as consumer:
        assert values(consumer, 1, max_records=1) in ([b"0"], [b"a"])
        consumer.pause(P0)
        assert consumer.paused() == {P0}
        before = consumer.position(P0)
        consumer.poll(timeout_ms=5000)
        cluster.append(topic, [b"6"])
        cluster.append(topic, [b"c"], partition=1)
        while consumer.position(P1) < 3:
            assert P0 not in consumer.poll(timeout_ms=5000)
        assert consumer.position(P0) == before
        consumer.resume(P0)
        assert consumer.paused() == set()
        assert values(consumer, 7 - before)[-1] == b"6"


def test_pause_of_all_returns_nothing(cluster: ScriptedCluster, topic: Topic) -> None:
    with reader(cluster, P0, P1) as consumer:
        consumer.pause()
        assert consumer.poll(timeout_ms=50) == {}
        consumer.resume()
        assert len(values(consumer, 8)) == 8


def test_iteration_moves_the_position_record_by_record(
    cluster: ScriptedCluster, topic: Topic
) -> None:
    with reader(cluster, consumer_timeout_ms=50) as consumer:
        positions = [(record.offset, consumer.position(P0)) for record in consumer]
        assert positions == [(i, i + 1) for i in range(6)]
        consumer.seek(P0, 0)
        assert [next(consumer).value, next(consumer).value] == [b"0", b"1"]
        assert values(consumer, 4) == [b"2", b"3", b"4", b"5"]
        with pytest.raises(StopIteration):
            next(consumer)


def test_seek_inside_of_iteration(cluster: ScriptedCluster, topic: Topic) -> None:
    with reader(cluster, consumer_timeout_ms=50) as consumer:
        seen = []
        for record in consumer:
            seen.append(record.offset)
            if seen == [0, 1]:
                consumer.seek(P0, 4)
            if seen == [0, 1, 4]:
                consumer.assign([P1])
        assert seen == [0, 1, 4, 0, 1]


def test_breaking_off_iteration_loses_nothing(cluster: ScriptedCluster, topic: Topic) -> None:
    with reader(cluster, consumer_timeout_ms=50) as consumer:
        for record in consumer:
            if record.offset == 1:
                break
        assert [record.offset for record in consumer] == [2, 3, 4, 5]


def test_offsets_by_end_and_time(cluster: ScriptedCluster, topic: Topic) -> None:
    with Consumer(cluster.bootstrap) as consumer:
        assert consumer.beginning_offsets([P0, P1]) == {P0: 0, P1: 0}
        assert consumer.end_offsets([P0, ("t", 1)]) == {P0: 6, P1: 2}
        found = consumer.offsets_for_times({P0: 121, P1: 5000})
        assert found == {P0: OffsetAndTimestamp(3, 220, 0), P1: None}
        assert consumer.offsets_for_times({}) == {}
        with pytest.raises(InvalidRequestError, match="t-0"):
            consumer.offsets_for_times({P0: -1})


def test_topics_and_partitions(cluster: ScriptedCluster, topic: Topic) -> None:
    cluster.create("other")
    with Consumer(cluster.bootstrap) as consumer:
        assert consumer.topics() == {"t", "other"}
        assert consumer.partitions_for_topic("t") == {0, 1}
        assert consumer.partitions_for_topic("unknown") is None


def test_lag_and_counters(cluster: ScriptedCluster, topic: Topic) -> None:
    with reader(cluster) as consumer:
        assert consumer.metrics()["records_lag"] == {}
        values(consumer, 2, max_records=2)
        metrics = consumer.metrics()
        assert metrics["records_lag"] == {P0: 4}
        assert metrics["records_lag_max"] == 4
        assert metrics["records_consumed_total"] == 2
        assert metrics["bytes_fetched_total"] > 0


def test_deserializers_and_keys(cluster: ScriptedCluster) -> None:
    class Upper:
        def deserialize(self, topic: str, data: bytes) -> str:
            return f"{topic}:{data.decode().upper()}"

    made = cluster.create("t")
    cluster.append(made, [b'{"a": 1}', None], keys=[b"k", None])
    with reader(cluster, key_deserializer=Upper(), value_deserializer=json.loads) as consumer:
        (records,) = consumer.poll(timeout_ms=5000).values()
        assert [(r.key, r.value) for r in records] == [("t:K", {"a": 1}), (None, None)]
        assert pickle.loads(pickle.dumps(records[0])).value == {"a": 1}


def test_log_append_time(cluster: ScriptedCluster) -> None:
    made = cluster.create("t")
    cluster.append(made, [b"a"], timestamps=[7], append_time_ms=9000)
    with reader(cluster) as consumer:
        (records,) = consumer.poll(timeout_ms=5000).values()
        assert records[0].timestamp == 9000
        assert records[0].timestamp_type is TimestampType.LOG_APPEND_TIME
        consumer.seek(P0, 0)
        table = consumer.poll_table(timeout_ms=5000, metadata=["__timestamp"])
        assert table.column("__timestamp").cast(pa.int64()).to_pylist() == [9000]


@pytest.mark.parametrize("compression", [Compression.LZ4, Compression.ZSTD])
def test_compressed_batches(cluster: ScriptedCluster, compression: Compression) -> None:
    made = cluster.create("t")
    cluster.append(made, [b"x" * 1000] * 50, compression=compression)
    with reader(cluster) as consumer:
        assert values(consumer, 50) == [b"x" * 1000] * 50


# --- tables -----------------------------------------------------------------------------------


def test_a_table_of_everything_there(cluster: ScriptedCluster, topic: Topic) -> None:
    with reader(cluster) as consumer:
        tables = []
        while consumer.position(P0) < 6:
            tables.append(consumer.poll_table(timeout_ms=5000))
        table = pa.concat_tables(tables)
        assert table.column_names == ["value"]
        assert table.column("value").to_pylist() == [b"%d" % i for i in range(6)]
        assert consumer.poll_table() is None


def test_limits_of_tables(cluster: ScriptedCluster, topic: Topic) -> None:
    with reader(cluster) as consumer:
        assert consumer.poll_table(timeout_ms=5000, max_records=2).num_rows == 2
        assert consumer.position(P0) == 2
        assert consumer.poll_table(timeout_ms=5000, max_bytes=1).num_rows == 1
        assert consumer.poll_table(timeout_ms=5000, max_bytes=1).num_rows == 3


def test_metadata_columns(cluster: ScriptedCluster) -> None:
    made = cluster.create("t")
    cluster.append(made, [b"a", b"b"], timestamps=[5, 6], keys=[b"k", None])
    with reader(cluster) as consumer:
        wanted = ["__topic", "__partition", "__offset", "__timestamp", "__key", "__headers"]
        table = consumer.poll_table(timeout_ms=5000, metadata=wanted)
        assert table.column_names == [*wanted, "value"]
        assert table.drop_columns(["__timestamp"]).to_pylist() == [
            dict(zip([n for n in table.column_names if n != "__timestamp"], row, strict=True))
            for row in [("t", 0, 0, b"k", None, b"a"), ("t", 0, 1, None, None, b"b")]
        ]
        assert table.schema.field("__offset").type == pa.int64()
        with pytest.raises(InvalidConfigError, match="__nonsense"):
            consumer.poll_table(metadata=["__nonsense"])


def test_batches_know_their_place(cluster: ScriptedCluster, topic: Topic) -> None:
    with reader(cluster) as consumer:
        consumer.seek(P0, 1)
        batches = []
        while consumer.position(P0) < 6:
            batches += consumer.poll_batches(timeout_ms=5000)
        assert [(b.partition, b.base_offset, b.next_offset, b.num_rows) for b in batches] == [
            (P0, 1, 3, 2),
            (P0, 3, 6, 3),
        ]


# --- typed topics -----------------------------------------------------------------------------

FLIGHT = pa.schema([("id", pa.int64()), ("carrier", pa.string()), ("delay", pa.float64())])


def flights(cluster: ScriptedCluster) -> Topic:
    made = cluster.create("t", schema=FLIGHT, key_column="id")
    rows = {"id": [1, 2], "carrier": ["UA", "DL"], "delay": [0.5, None]}
    cluster.append(made, rows)
    return made


def test_typed_records(cluster: ScriptedCluster) -> None:
    flights(cluster)
    with reader(cluster) as consumer:
        (records,) = consumer.poll(timeout_ms=5000).values()
        assert [(r.key, r.value) for r in records] == [
            (b"1", {"id": 1, "carrier": "UA", "delay": 0.5}),
            (b"2", {"id": 2, "carrier": "DL", "delay": None}),
        ]


@pytest.mark.parametrize("compression", [Compression.NONE, Compression.ZSTD])
def test_projection_keeps_the_key(cluster: ScriptedCluster, compression: Compression) -> None:
    made = cluster.create("t", schema=FLIGHT, key_column="id")
    rows = {"id": [1], "carrier": ["UA"], "delay": [0.5]}
    cluster.append(made, rows, compression=compression)
    with reader(cluster, columns=["delay", "carrier"]) as consumer:
        (records,) = consumer.poll(timeout_ms=5000).values()
        assert (records[0].key, records[0].value) == (b"1", {"delay": 0.5, "carrier": "UA"})
        assert list(records[0].value) == ["delay", "carrier"]
        consumer.seek(P0, 0)
        table = consumer.poll_table(timeout_ms=5000, metadata=["__key"])
        assert table.to_pylist() == [{"__key": b"1", "delay": 0.5, "carrier": "UA"}]
    asked = cluster.leaders[0].fetches[0].columns
    assert asked == ["__timestamp", "__key", "__headers", "delay", "carrier", "id"]


def test_projection_over_topics_with_different_keys(cluster: ScriptedCluster) -> None:
    flights(cluster)
    other = cluster.create("u", schema=FLIGHT.append(pa.field("no", pa.string())), key_column="no")
    row = {"id": [7], "carrier": ["B6"], "delay": [1.0], "no": ["x"]}
    cluster.append(other, row)
    with reader(cluster, P0, TopicPartition("u", 0), columns=["carrier"]) as consumer:
        found = {}
        while len(found) < 3:
            for records in consumer.poll(timeout_ms=5000).values():
                found.update({(r.topic, r.key): r.value["carrier"] for r in records})
        assert found == {("t", b"1"): "UA", ("t", b"2"): "DL", ("u", b"x"): "B6"}


def test_an_unknown_column_is_refused_by_name(cluster: ScriptedCluster) -> None:
    flights(cluster)
    with reader(cluster, columns=["delai"]) as consumer:
        for _ in range(2):
            with pytest.raises(InvalidConfigError, match=r"'delai'.*'delay'"):
                consumer.poll(timeout_ms=5000)


def test_columns_added_later_are_null_in_older_batches(cluster: ScriptedCluster) -> None:
    made = flights(cluster)
    newer = FLIGHT.append(pa.field("gate", pa.string()))
    cluster.call(lambda: made.schemas.append(newer))
    row = {"id": [3], "carrier": ["AA"], "delay": [2.0], "gate": ["C1"]}
    cluster.append(made, row)
    for columns in (None, ["gate", "id"]):
        with reader(cluster, columns=columns) as consumer:
            gates = [r["gate"] for r in values(consumer, 3)]  # type: ignore[index]
            assert gates == [None, None, "C1"]
            consumer.seek(P0, 0)
            tables = []
            while consumer.position(P0) < 3:
                tables.append(consumer.poll_table(timeout_ms=5000))
            assert pa.concat_tables(tables).column("gate").to_pylist() == [None, None, "C1"]


def test_a_schema_added_while_reading(cluster: ScriptedCluster) -> None:
    made = flights(cluster)
    with reader(cluster) as consumer:
        assert len(values(consumer, 2)) == 2

        def add() -> None:
            made.schemas.append(FLIGHT.append(pa.field("gate", pa.string())))
            cluster.metadata_offset += 1

        cluster.call(add)
        cluster.append(made, {"id": [3], "carrier": ["AA"], "delay": [2.0], "gate": ["C1"]})
        assert values(consumer, 1) == [{"id": 3, "carrier": "AA", "delay": 2.0, "gate": "C1"}]


def test_tables_of_topics_with_different_columns(cluster: ScriptedCluster, topic: Topic) -> None:
    other = cluster.create("u", schema=pa.schema([("n", pa.int64())]))
    cluster.append(other, {"n": [1]})
    clash = cluster.create("v", schema=pa.schema([("value", pa.int64())]))
    cluster.append(clash, {"value": [1]})

    def table_of(*partitions: TopicPartition) -> pa.Table:
        with reader(cluster, *partitions) as consumer:
            for _ in range(100):
                consumer.pause()
                consumer.poll(timeout_ms=10)  # paused: what arrives is kept
                consumer.resume()
                consumer.poll(timeout_ms=0, max_records=1)
                consumer.seek_to_beginning()
                table = consumer.poll_table(timeout_ms=5000)
                if table.num_columns > 1:
                    return table
        raise AssertionError("both topics never came together")

    assert set(table_of(P1, TopicPartition("u", 0)).column_names) == {"value", "n"}
    with pytest.raises(IllegalStateError, match="poll_batches"):
        table_of(P1, TopicPartition("v", 0))


def test_what_does_not_fit_in_a_table_is_read_again(cluster: ScriptedCluster, topic: Topic) -> None:
    clash = cluster.create("v", schema=pa.schema([("value", pa.int64())]))
    cluster.append(clash, {"value": [1]})
    rows = 0
    with reader(cluster, P1, TopicPartition("v", 0)) as consumer:
        consumer.pause()
        for _ in range(20):
            consumer.poll(timeout_ms=10)  # paused: what arrives is kept
        consumer.resume()
        try:
            while table := consumer.poll_table(timeout_ms=200):
                rows += table.num_rows
        except IllegalStateError:
            rows += sum(each.num_rows for each in consumer.poll_batches(timeout_ms=2000))
            rows += sum(each.num_rows for each in consumer.poll_batches(timeout_ms=200))
        ends = consumer.end_offsets(consumer.assignment())
    assert rows == sum(ends.values())


# --- how it fetches ---------------------------------------------------------------------------


def test_fetch_min_bytes_is_a_long_poll(cluster: ScriptedCluster, topic: Topic) -> None:
    with reader(cluster, fetch_min_bytes=100, fetch_max_wait_ms=7) as consumer:
        assert len(values(consumer, 6)) == 6
    asked = cluster.leaders[0].fetches[0]
    assert (asked.push, asked.min_bytes, asked.max_wait_ms) == (False, 100, 7)


def test_limits_reach_the_leader(cluster: ScriptedCluster, topic: Topic) -> None:
    settings = {"max_partition_fetch_bytes": 12345, "fetch_max_bytes": 54321}
    with reader(cluster, mapped_reads=False, **settings) as consumer:
        values(consumer, 6)
    asked = cluster.leaders[0].fetches[0]
    assert (asked.partitions[0].max_bytes, asked.credit_bytes, asked.host_id) == (12345, 54321, "")


def test_credit_is_given_back_as_records_are_consumed(cluster: ScriptedCluster) -> None:
    made = cluster.create("t")
    for _ in range(40):
        cluster.append(made, [b"x" * 500] * 2)
    size = len(made.logs[0].batches[0])
    with reader(cluster, mapped_reads=False, fetch_max_bytes=4 * size) as consumer:
        seen = 0
        while seen < 80:
            polled = consumer.poll(timeout_ms=5000, max_records=1)
            seen += sum(map(len, polled.values()))
            session = next(iter(cluster.leaders[0].sessions.values()))
            assert session.spent - session.credit < 2 * size
    assert sum(credit.credit_bytes for credit in cluster.leaders[0].credits) >= 35 * size
    assert len(cluster.leaders[0].fetches) == 1
