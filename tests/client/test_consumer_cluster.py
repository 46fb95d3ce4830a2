"""The consumer against the real servers: mapped and sent alike, and through kills."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from raykafka.client.admin import Admin
from raykafka.client.consumer import Consumer
from raykafka.client.consuming import frame_cutting
from raykafka.client.producer import Producer
from raykafka.errors import (
    LogDamagedError,
    MappedReadError,
    OffsetOutOfRangeError,
    UnknownTopicOrPartitionError,
)
from raykafka.model import TimestampType, TopicPartition
from raykafka.testing.local_cluster import LocalCluster
from tests.kits.topics import add_columns, create_topic, delete_topic

BIG = 20_000
"""Records that are worth mapping."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """Shared by the tests that kill nothing."""
    with LocalCluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[LocalCluster]:
    """For one test to kill."""
    with LocalCluster(tmp_path) as running:
        yield running


def reader(cluster: LocalCluster, topic: str, partitions: int = 1, **settings: Any) -> Consumer:
    consumer = Consumer(
        cluster.bootstrap, **{"auto_offset_reset": "earliest", "retry_backoff_ms": 5, **settings}
    )
    consumer.assign([TopicPartition(topic, number) for number in range(partitions)])
    return consumer


def numbers(count: int, start: int = 0) -> pa.Table:
    values = [b"%08d" % number for number in range(start, start + count)]
    return pa.table({"value": pa.array(values, pa.binary())})


def send(cluster: LocalCluster, topic: str, *tables: pa.Table, **send_table: Any) -> None:
    with Producer(cluster.bootstrap) as producer:
        for table in tables:
            producer.send_table(topic, table, **send_table).get(20)


def read_table(consumer: Consumer, count: int) -> pa.Table:
    parts = []
    seen = 0
    while seen < count:
        table = consumer.poll_table(timeout_ms=10_000, metadata=["__offset"])
        assert table is not None, f"only {seen} of {count} came"
        seen += table.num_rows
        parts.append(table)
    return pa.concat_tables(parts)


@pytest.mark.parametrize("compression", ["none", "zstd"])
@pytest.mark.parametrize("mapped", [True, False])
def test_mapped_and_sent_are_the_same(
    cluster: LocalCluster, mapped: bool, compression: str
) -> None:
    configs = {"segment.bytes": str(1 << 20), "compression.type": compression}
    topic = create_topic(cluster.bootstrap, configs=configs)
    tables = [numbers(BIG, start) for start in range(0, 5 * BIG, BIG)]
    send(cluster, topic, *tables)
    with reader(cluster, topic, mapped_reads=mapped) as consumer:
        table = read_table(consumer, 5 * BIG)
        sent = consumer.metrics()["bytes_fetched_total"]
    assert table.column("value").equals(pa.concat_tables(tables).column(0))
    assert table.column("__offset").to_pylist() == list(range(5 * BIG))
    assert (sent < 10_000) == mapped


def test_files_that_cannot_be_mapped_are_sent(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = []

    def refuse(self: object, *args: object) -> list[memoryview]:
        refused.append(args)
        raise MappedReadError("another mount namespace")

    monkeypatch.setattr(frame_cutting.MappedReader, "batches", refuse)
    topic = create_topic(cluster.bootstrap)
    send(cluster, topic, numbers(BIG), numbers(BIG, BIG))
    with reader(cluster, topic) as consumer:
        table = read_table(consumer, 2 * BIG)
        assert table.column("__offset").to_pylist() == list(range(2 * BIG))
    assert len(refused) == 1


def test_seeks_into_mapped_segments(cluster: LocalCluster) -> None:
    topic = create_topic(cluster.bootstrap)
    send(cluster, topic, numbers(BIG), numbers(BIG, BIG))
    with reader(cluster, topic) as consumer:
        for offset in (2 * BIG - 1, 0, BIG - 1, BIG, 17):
            consumer.seek(TopicPartition(topic, 0), offset)
            (records,) = consumer.poll(timeout_ms=10_000, max_records=2).values()
            assert (records[0].offset, records[0].value) == (offset, b"%08d" % offset)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("mapped", [True, False])
def test_a_log_that_was_written_record_by_record(
    cluster: LocalCluster, mapped: bool, late: bool
) -> None:
    count = 1500
    stamps = "LogAppendTime" if late else "CreateTime"
    topic = create_topic(cluster.bootstrap, configs={"message.timestamp.type": stamps})
    partition = TopicPartition(topic, 0)
    with Producer(cluster.bootstrap, linger_ms=0) as producer:
        for number in range(count):
            value = None if number % 97 == 0 else b"v" * (number % 50)
            key = b"%d" % number if number % 3 else None
            headers = [("h", b"x")] if number % 500 == 7 else []
            producer.send(topic, value, key, timestamp_ms=number, headers=headers).get(20)
    with reader(cluster, topic, mapped_reads=mapped, max_poll_records=400) as consumer:
        records = []
        while len(records) < count:
            records += consumer.poll(timeout_ms=10_000)[partition]
        assert [record.offset for record in records] == list(range(count))
        assert all(records[n].key == (b"%d" % n if n % 3 else None) for n in range(count))
        assert all(len(records[n].value or b"") == n % 50 for n in range(count) if n % 97)
        assert [n for n in range(count) if records[n].value is None] == list(range(0, count, 97))
        assert [n for n in range(count) if records[n].headers] == [7, 507, 1007]
        assert late or [record.timestamp for record in records] == list(range(count))
        assert (records[5].timestamp_type is TimestampType.LOG_APPEND_TIME) == late
        consumer.seek(partition, 777)
        table = consumer.poll_table(10_000, max_records=100, metadata=["__offset", "__key"])
        assert table is not None
        assert table.column("__offset").to_pylist() == list(range(777, 777 + table.num_rows))
        (records,) = consumer.poll(timeout_ms=10_000, max_records=3).values()
        assert records[0].offset == 777 + table.num_rows


def test_what_is_mapped_outlives_the_topic(cluster: LocalCluster) -> None:
    topic = create_topic(cluster.bootstrap)
    send(cluster, topic, numbers(BIG))
    with reader(cluster, topic) as consumer:
        table = read_table(consumer, BIG)
        delete_topic(cluster.bootstrap, topic)
        assert table.column("value")[BIG - 1].as_py() == b"%08d" % (BIG - 1)
        with pytest.raises(UnknownTopicOrPartitionError, match=topic):
            list(consumer)


FLIGHT = pa.schema([("id", pa.int64()), ("carrier", pa.string()), ("delay", pa.float64())])


@pytest.mark.parametrize("mapped", [True, False])
def test_projection_and_added_columns(cluster: LocalCluster, mapped: bool) -> None:
    topic = create_topic(cluster.bootstrap, schema=FLIGHT, configs={"key.column": "id"})
    old = pa.table({"id": range(BIG), "carrier": ["UA"] * BIG, "delay": [0.5] * BIG}, schema=FLIGHT)
    send(cluster, topic, old)
    add_columns(cluster.bootstrap, topic, pa.schema([("gate", pa.string())]))
    send(cluster, topic, {"id": [-1], "carrier": ["DL"], "delay": [None], "gate": ["C1"]})
    with reader(cluster, topic, mapped_reads=mapped, columns=["gate", "carrier"]) as consumer:
        table = read_table(consumer, BIG + 1)
        assert table.column_names == ["__offset", "gate", "carrier"]
        assert table.column("gate").null_count == BIG
        consumer.seek(TopicPartition(topic, 0), BIG - 1)
        found: list[Any] = []
        while len(found) < 2:
            for records in consumer.poll(timeout_ms=10_000).values():
                found += [(record.key, record.value) for record in records]
        assert found == [
            (b"%d" % (BIG - 1), {"gate": None, "carrier": "UA"}),
            (b"-1", {"gate": "C1", "carrier": "DL"}),
        ]


def test_offsets_and_times(cluster: LocalCluster) -> None:
    topic = create_topic(cluster.bootstrap)
    at = TopicPartition(topic, 0)
    send(cluster, topic, numbers(10), timestamps=1_000)
    send(cluster, topic, numbers(10), timestamps=2_000)
    with reader(cluster, topic) as consumer:
        assert consumer.beginning_offsets([at]) == {at: 0}
        assert consumer.end_offsets([at]) == {at: 20}
        found = consumer.offsets_for_times({at: 1_500})[at]
        assert found is not None
        assert (found.offset, found.timestamp) == (10, 2_000)
        assert consumer.offsets_for_times({at: 2_001}) == {at: None}


def test_records_arrive_while_they_are_written(cluster: LocalCluster) -> None:
    topic = create_topic(cluster.bootstrap, partitions=4)
    count = 400

    def write() -> None:
        with Producer(cluster.bootstrap) as producer:
            for number in range(count):
                producer.send(topic, b"%d" % number, key=b"%d" % (number % 7)).get(20)

    with reader(cluster, topic, 4) as consumer:
        writer = threading.Thread(target=write)
        writer.start()
        seen = _collect(consumer, count)
        writer.join()
    assert sorted(seen) == list(range(count))
    for key in range(7):
        mine = [number for number in seen if number % 7 == key]
        assert mine == sorted(mine)


def _collect(consumer: Consumer, count: int) -> list[int]:
    seen: list[int] = []
    expected: dict[TopicPartition, int] = {}
    while len(seen) < count:
        polled = consumer.poll(timeout_ms=20_000)
        assert polled, f"only {len(seen)} of {count} came"
        for partition, records in polled.items():
            for record in records:
                assert record.offset == expected.get(partition, 0)
                expected[partition] = record.offset + 1
                seen.append(int(record.value))
    return seen


@pytest.mark.parametrize("victim", ["partition actors", "controller", "broker", "everything"])
def test_kills_on_the_way(mortal: LocalCluster, victim: str) -> None:
    topic = create_topic(mortal.bootstrap, partitions=4)
    count, rounds = 300, 4
    kill = {
        "partition actors": lambda: [
            mortal.kill_partition_actor(slot) for slot in mortal.partition_actor_slots()
        ],
        "controller": mortal.kill_controller,
        "broker": mortal.kill_broker,
        "everything": mortal.kill_all,
    }[victim]
    with reader(mortal, topic, 4) as consumer, Producer(mortal.bootstrap) as producer:
        seen = []
        expected: dict[TopicPartition, int] = {}
        for number in range(rounds):
            futures = [producer.send(topic, b"%d" % (number * count + i)) for i in range(count)]
            producer.flush()
            for future in futures:
                future.get(20)
            kill()
            while len(seen) < (number + 1) * count:
                polled = consumer.poll(timeout_ms=20_000)
                assert polled, f"only {len(seen)} came"
                for partition, records in polled.items():
                    for record in records:
                        assert record.offset == expected.get(partition, 0)
                        expected[partition] = record.offset + 1
                        seen.append(int(record.value))
    assert sorted(seen) == list(range(rounds * count))


def test_a_restart_on_the_same_directory(mortal: LocalCluster) -> None:
    topic = create_topic(mortal.bootstrap)
    send(mortal, topic, numbers(BIG))
    with reader(mortal, topic) as consumer:
        assert read_table(consumer, BIG).num_rows == BIG
        mortal.restart()
        send(mortal, topic, numbers(10, BIG))
        table = read_table(consumer, 10)
        assert table.column("__offset").to_pylist() == list(range(BIG, BIG + 10))


def test_a_topic_deleted_and_made_anew(cluster: LocalCluster) -> None:
    topic = create_topic(cluster.bootstrap)
    send(cluster, topic, numbers(100))
    with reader(cluster, topic) as consumer:
        read_table(consumer, 100)
        delete_topic(cluster.bootstrap, topic)
        create_topic(cluster.bootstrap, name=topic)
        send(cluster, topic, numbers(5))
        assert read_table(consumer, 5).column("__offset").to_pylist() == list(range(5))


@pytest.mark.parametrize("mapped", [True, False])
def test_damage_on_disk_stops_the_reader_there(
    mortal: LocalCluster, mapped: bool, tmp_path: Path
) -> None:
    topic = create_topic(mortal.bootstrap, configs={"segment.bytes": "300000"})
    at = TopicPartition(topic, 0)
    send(mortal, topic, *[numbers(5000, start) for start in range(0, 30_000, 5000)])
    mortal.stop()
    segment = sorted(tmp_path.rglob(f"{topic}-0/*.arrow"))[1]
    data = bytearray(segment.read_bytes())
    data[data.index(b"%08d" % 12_000)] ^= 1
    segment.write_bytes(data)
    mortal.start()
    with reader(mortal, topic, mapped_reads=mapped) as consumer:
        seen: list[int] = []
        with pytest.raises(LogDamagedError, match=f"{topic}-0 at offset 10000"):
            _collect_offsets(consumer, seen)
        assert seen == list(range(10_000))
        assert consumer.position(at) == 10_000
        consumer.seek(at, 15_000)
        table = read_table(consumer, 15_000)
        assert table.column("__offset").to_pylist() == list(range(15_000, 30_000))


def _collect_offsets(consumer: Consumer, seen: list[int]) -> None:
    while True:
        for batch in consumer.poll_batches(timeout_ms=10_000):
            seen.extend(range(batch.base_offset, batch.next_offset))


@pytest.mark.parametrize("policy", ["earliest", "none"])
def test_records_deleted_under_the_reader(cluster: LocalCluster, policy: str) -> None:
    topic = create_topic(cluster.bootstrap)
    at = TopicPartition(topic, 0)
    send(cluster, topic, numbers(10), numbers(10, 10))
    with Admin(cluster.bootstrap) as admin:
        admin.delete_records({at: 10})
    with reader(cluster, topic, auto_offset_reset=policy) as consumer:
        consumer.seek(at, 3)
        if policy == "none":
            with pytest.raises(OffsetOutOfRangeError, match="at offset 3"):
                consumer.poll(timeout_ms=10_000)
            consumer.seek_to_beginning(at)
        table = read_table(consumer, 10)
        assert table.column("__offset").to_pylist() == list(range(10, 20))


@pytest.mark.parametrize("push", [True, False])
def test_a_record_larger_than_every_limit_still_comes(cluster: LocalCluster, push: bool) -> None:
    topic = create_topic(cluster.bootstrap)
    big = b"x" * 2_000_000
    send(cluster, topic, pa.table({"value": [big]}), pa.table({"value": [big, b"y"]}))
    limits = {"fetch_max_bytes": 1000, "max_partition_fetch_bytes": 1000, "mapped_reads": False}
    with reader(cluster, topic, fetch_min_bytes=1 if push else 2, **limits) as consumer:
        table = read_table(consumer, 3)
        assert [len(value) for value in table.column("value").to_pylist()] == [len(big)] * 2 + [1]
