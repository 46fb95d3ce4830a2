"""Readers of committed records on a real cluster: every way to read, next to one that sees all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from raykafka.client.admin import Admin, NewTopic
from raykafka.client.consumer import Consumer
from raykafka.client.handle import TopicHandle
from raykafka.client.producer import Producer
from raykafka.model import TopicPartition
from raykafka.testing.local_cluster import LocalCluster

P0 = TopicPartition("t", 0)
COMMITTED = [b"plain 0", b"commit 4", b"commit 5", b"plain 7"]
EVERYTHING = [
    b"plain 0",
    b"abort 1",
    b"abort 2",
    b"commit 4",
    b"commit 5",
    b"plain 7",
    b"open 8",
]
"""Markers stand at 3 and 6."""
END = 9
_NOTHING_MS = 30
"""How long a reader waits for records that must not come."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with LocalCluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture(scope="module")
def writer(cluster: LocalCluster) -> Iterator[Producer]:
    """Its transaction is open when the tests read."""
    with (
        Admin(cluster.bootstrap) as admin,
        Producer(cluster.bootstrap) as plain,
        Producer(cluster.bootstrap, transactional_id="w") as producer,
    ):
        admin.create_topics([NewTopic("t", num_partitions=1)])
        producer.init_transactions()
        send(plain, b"plain 0")
        producer.begin_transaction()
        send(producer, b"abort 1")
        send(producer, b"abort 2")
        producer.abort_transaction()
        producer.begin_transaction()
        send(producer, b"commit 4")
        send(producer, b"commit 5")
        producer.commit_transaction()
        send(plain, b"plain 7")
        producer.begin_transaction()
        send(producer, b"open 8")
        yield producer


def send(producer: Producer, value: bytes, topic: str = "t") -> int:
    offset: int = producer.send(topic, value, partition=0).get(10).offset
    return offset


def reader(cluster: LocalCluster, level: str, **settings: Any) -> Consumer:
    consumer = Consumer(
        cluster.bootstrap,
        isolation_level=level,
        auto_offset_reset="earliest",
        consumer_timeout_ms=10_000,
        **settings,
    )
    consumer.assign([P0])
    return consumer


def by_poll(consumer: Consumer, timeout_ms: int) -> list[bytes]:
    polled = consumer.poll(timeout_ms)
    return [record.value for records in polled.values() for record in records]


def by_single_polls(consumer: Consumer, timeout_ms: int) -> list[bytes]:
    polled = consumer.poll(timeout_ms, max_records=1)
    return [records[-1].value for records in polled.values()]


def by_iteration(consumer: Consumer, timeout_ms: int) -> list[bytes]:
    record = next(consumer, None) if timeout_ms > _NOTHING_MS else None
    return [] if record is None else [record.value]


def by_tables(consumer: Consumer, timeout_ms: int) -> list[bytes]:
    table = consumer.poll_table(timeout_ms)
    return [] if table is None else table.column("value").to_pylist()


def by_batches(consumer: Consumer, timeout_ms: int) -> list[bytes]:
    found: list[bytes] = []
    for each in consumer.poll_batches(timeout_ms):
        assert each.next_offset >= each.base_offset + each.num_rows
        found += each.batch.column("value").to_pylist()
    return found


Read = Callable[[Consumer, int], list[bytes]]


def everything(consumer: Consumer, count: int, read: Read = by_poll) -> list[bytes]:
    """``count`` records, and that nothing follows."""
    found: list[bytes] = []
    while len(found) < count:
        more = read(consumer, 10_000)
        assert more, f"only {found} came"
        found += more
    assert read(consumer, _NOTHING_MS) == []
    return found


WAYS = [by_poll, by_single_polls, by_iteration, by_tables, by_batches]


@pytest.mark.parametrize("read", WAYS)
@pytest.mark.parametrize("fetch_min_bytes", [1, 2])
@pytest.mark.parametrize("mapped_reads", [True, False])
def test_every_way_to_read(
    cluster: LocalCluster,
    writer: Producer,
    read: Read,
    fetch_min_bytes: int,
    mapped_reads: bool,
) -> None:
    settings = {"fetch_min_bytes": fetch_min_bytes, "mapped_reads": mapped_reads}
    with reader(cluster, "read_committed", fetch_max_wait_ms=100, **settings) as consumer:
        assert everything(consumer, len(COMMITTED), read) == COMMITTED
        assert consumer.position(P0) == END - 1
    with reader(cluster, "read_uncommitted", fetch_max_wait_ms=100, **settings) as consumer:
        assert everything(consumer, len(EVERYTHING), read) == EVERYTHING
        assert consumer.position(P0) == END


@pytest.mark.parametrize("start", range(END))
def test_reading_begins_anywhere(cluster: LocalCluster, writer: Producer, start: int) -> None:
    offsets = dict(zip((0, 4, 5, 7), COMMITTED, strict=True))
    with reader(cluster, "read_committed") as consumer:
        consumer.seek(P0, start)
        wanted = [value for at, value in offsets.items() if at >= start]
        assert everything(consumer, len(wanted)) == wanted


def test_ends_and_lag_are_those_of_the_isolation_level(
    cluster: LocalCluster, writer: Producer
) -> None:
    for level, end in (("read_committed", END - 1), ("read_uncommitted", END)):
        with reader(cluster, level) as consumer:
            assert consumer.end_offsets([P0]) == {P0: end}
            consumer.poll(5_000, max_records=1)
            assert consumer.metrics()["records_lag"] == {P0: end - 1}
            wanted = COMMITTED if level == "read_committed" else EVERYTHING
            everything(consumer, len(wanted) - 1)
            assert consumer.metrics()["records_lag"] == {P0: 0}


def test_handles(cluster: LocalCluster, writer: Producer) -> None:
    handle = TopicHandle(cluster.bootstrap, "t")
    committed = handle.read(isolation_level="read_committed")
    assert committed.to_table().column("value").to_pylist() == COMMITTED
    assert [record.value for record in committed.records()] == COMMITTED
    assert handle.read().to_table().column("value").to_pylist() == EVERYTHING
    last = handle.tail(2, follow=False, isolation_level="read_committed")
    assert [record.value for record in last.records()] == [b"plain 7"]


def test_a_waiting_reader_hears_of_the_end(cluster: LocalCluster, writer: Producer) -> None:
    """Also in another topic: a reader takes both, and gets what was written before in order."""
    with (
        Admin(cluster.bootstrap) as admin,
        Producer(cluster.bootstrap, transactional_id="v") as producer,
        Consumer(
            cluster.bootstrap, isolation_level="read_committed", auto_offset_reset="earliest"
        ) as consumer,
    ):
        admin.create_topics([NewTopic("u", num_partitions=1)])
        partition = TopicPartition("u", 0)
        consumer.assign([partition])
        producer.init_transactions()
        for commit in (True, False, True):
            producer.begin_transaction()
            offset = send(producer, b"value", "u")
            assert consumer.poll(_NOTHING_MS) == {}
            if commit:
                producer.commit_transaction()
                [records] = consumer.poll(5_000).values()
                assert [record.offset for record in records] == [offset]
            else:
                producer.abort_transaction()
            while consumer.position(partition) < offset + 2:
                assert consumer.poll(_NOTHING_MS) == {}


def test_typed_topics_with_columns_that_may_not_be_null(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    schema = pa.schema([pa.field("x", pa.int64(), nullable=False), pa.field("y", pa.string())])
    with (
        Admin(cluster.bootstrap) as admin,
        Producer(cluster.bootstrap, transactional_id="typed") as producer,
    ):
        admin.create_topics([NewTopic("typed", num_partitions=1, schema=schema)])
        producer.init_transactions()
        for commit in (False, True):
            producer.begin_transaction()
            table = pa.table({"x": [1, 2], "y": ["a", None]}, schema=schema)
            producer.send_table("typed", table, partition=0).get(10)
            if commit:
                producer.commit_transaction()
            else:
                producer.abort_transaction()
    handle = TopicHandle(cluster.bootstrap, "typed")
    read = handle.read(columns=["x"], isolation_level="read_committed")
    assert read.to_table(metadata=["__offset"]).to_pydict() == {"__offset": [3, 4], "x": [1, 2]}
    assert handle.read().to_table().column("x").to_pylist() == [1, 2, 1, 2]
