"""What share groups read: transactions, deleted records, mapped files; late dead letters."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from share_assignment import FixedAssignment
from share_kit import GROUP
from wire_kit import wait_until

from raykafka.client.admin import Admin, NewTopic
from raykafka.client.consumer import Consumer
from raykafka.client.producer import Producer
from raykafka.client.share_consumer import ShareConsumer
from raykafka.errors import RaykafkaError
from raykafka.model import AcknowledgeType, TopicPartition
from raykafka.testing.local_cluster import LocalCluster

P0 = TopicPartition("t", 0)
Make = Callable[..., ShareConsumer]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    with LocalCluster(tmp_path, partition_actors=1) as running:
        with Admin(running.bootstrap) as admin:
            admin.create_topics([NewTopic("t")])
            admin.alter_share_group_configs(GROUP, {"share.auto.offset.reset": "earliest"})
        yield running


@pytest.fixture
def admin(cluster: LocalCluster) -> Iterator[Admin]:
    with Admin(cluster.bootstrap) as made:
        yield made


@pytest.fixture
def make(cluster: LocalCluster) -> Iterator[Make]:
    made: list[ShareConsumer] = []

    def consumer(place: TopicPartition = P0, **settings: object) -> ShareConsumer:
        fixed = FixedAssignment(place)
        made.append(ShareConsumer(cluster.bootstrap, assignment=fixed, group_id=GROUP, **settings))
        return made[-1]

    yield consumer
    for each in made:
        each.close()


def polled(consumer: ShareConsumer, timeout_ms: int = 5000) -> list[tuple[int, bytes]]:
    return [
        (record.offset, record.value)
        for records in consumer.poll(timeout_ms).values()
        for record in records
    ]


def start(admin: Admin) -> int:
    (offset,) = admin.list_share_group_offsets(GROUP)
    assert offset.start_offset is not None
    return offset.start_offset


def test_committed_readers_pass_over_aborted_records_and_markers(
    cluster: LocalCluster, admin: Admin, make: Make
) -> None:
    admin.alter_share_group_configs(GROUP, {"share.isolation.level": "read_committed"})
    with Producer(cluster.bootstrap, transactional_id="x") as producer:
        producer.init_transactions()
        for name in (b"aborted", b"committed"):
            producer.begin_transaction()
            for number in range(3):
                producer.send("t", b"%s %d" % (name, number))
            if name == b"aborted":
                producer.flush(20)
                producer.abort_transaction()
            else:
                producer.commit_transaction()
        producer.begin_transaction()
        producer.send("t", b"open")
        producer.flush(20)
        consumer = make()
        assert polled(consumer) == [(4, b"committed 0"), (5, b"committed 1"), (6, b"committed 2")]
        consumer.commit()
        assert polled(consumer, 200) == []
        assert start(admin) in (7, 8)  # behind the marker, once somebody has looked there
        producer.commit_transaction()
        assert polled(consumer) == [(8, b"open")]
        assert consumer.commit() == {P0: None}
    assert start(admin) == 10  # behind the last marker


def test_uncommitted_readers_pass_over_markers_only(
    cluster: LocalCluster, admin: Admin, make: Make
) -> None:
    with Producer(cluster.bootstrap, transactional_id="x") as producer:
        producer.init_transactions()
        for number in range(3):
            producer.begin_transaction()
            producer.send("t", b"%d" % number)
            producer.flush(20)
            producer.abort_transaction()
    consumer = make()
    found: list[tuple[int, bytes]] = []
    while len(found) < 3:
        found += polled(consumer)
    assert found == [(0, b"0"), (2, b"1"), (4, b"2")]
    consumer.commit()
    assert polled(consumer, 100) == []
    with Producer(cluster.bootstrap) as producer:
        producer.send("t", b"3").get(10)
    assert polled(consumer) == [(6, b"3")]


def test_records_that_were_deleted_are_nobodys(
    cluster: LocalCluster, admin: Admin, make: Make
) -> None:
    with Producer(cluster.bootstrap, acks="all") as producer:
        for number in range(20):
            producer.send("t", b"%d" % number)
        producer.flush(20)
    consumer = make(share_acknowledgement_mode="explicit", max_poll_records=10)
    (records,) = consumer.poll(5000).values()
    assert len(records) == 10
    admin.delete_records({P0: 15})
    for record in records:
        consumer.acknowledge(record)
    consumer.commit()
    assert [offset for offset, _ in polled(consumer)] == [15, 16, 17, 18, 19]


def test_large_batches_are_mapped_and_taken_in_portions(
    cluster: LocalCluster, admin: Admin, make: Make
) -> None:
    schema = pa.schema([("id", pa.int64()), ("text", pa.string())])
    admin.create_topics([NewTopic("wide", schema=schema)])
    table = pa.table({"id": list(range(20_000)), "text": ["x" * 50] * 20_000}, schema=schema)
    with Producer(cluster.bootstrap, acks="all") as producer:
        producer.send_table("wide", table)
        producer.flush(20)
    place = TopicPartition("wide", 0)
    readers = [make(place, max_poll_records=700), make(place, columns=["id"], mapped_reads=False)]
    ids: list[int] = []
    while len(ids) < 20_000:
        for reader in readers:
            for batch in reader.poll_batches(2000):
                column = batch.batch.column("id").to_pylist()
                assert column[0] == batch.base_offset
                ids += column
    assert readers[1].poll_batches(0) == []
    assert sorted(ids) == list(range(20_000))


def test_dead_letters_wait_for_their_topic_and_rows_are_streams(
    cluster: LocalCluster, admin: Admin, make: Make
) -> None:
    admin.create_topics([NewTopic("typed", schema=pa.schema([("id", pa.int64())]))])
    admin.alter_share_group_configs(GROUP, {"errors.deadletterqueue.topic.name": "late"})
    with Producer(cluster.bootstrap, acks="all") as producer:
        producer.send_table("typed", pa.table({"id": [7, 8]}))
        producer.flush(20)
    consumer = make(TopicPartition("typed", 0), share_acknowledgement_mode="explicit")
    (batch,) = consumer.poll_batches(5000)
    consumer.acknowledge(batch, AcknowledgeType.REJECT)
    assert set(consumer.commit().values()) == {None}
    assert start(admin) == 0
    admin.create_topics([NewTopic("late")])
    wait_until(lambda: start(admin) == 2, "the dead letters to be written")
    with Consumer(cluster.bootstrap, auto_offset_reset="earliest") as reader:
        reader.assign([TopicPartition("late", 0)])
        (letters,) = reader.poll(5000).values()
        rows = [pa.ipc.open_stream(io.BytesIO(each.value)).read_all() for each in letters]
    assert [row.column("id").to_pylist() for row in rows] == [[7], [8]]


def test_what_could_not_be_written_is_not_confirmed(
    cluster: LocalCluster, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Producer(cluster.bootstrap) as producer:
        producer.send("t", b"x")
    a = make()
    assert polled(a) == [(0, b"x")]

    def broken(*_: object) -> None:
        raise ValueError("a mistake in the code")

    with monkeypatch.context() as patched:
        patched.setattr("raykafka.actors.sharing.states.ShareStates._call", broken)
        outcomes = a.commit()
    assert isinstance(outcomes[P0], RaykafkaError)
    assert polled(a) == [(0, b"x")]
    assert a.commit() == {P0: None}
