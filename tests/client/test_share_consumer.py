"""``ShareConsumer`` against real leaders: modes, records and columns, what is given back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from share_assignment import FixedAssignment
from share_kit import GROUP, ShareGroupAdmin
from wire_kit import wait_until

from raykafka.client.admin import Admin, NewTopic
from raykafka.client.producer import Producer
from raykafka.client.share_consumer import ShareConsumer
from raykafka.errors import (
    ClientClosedError,
    IllegalStateError,
    InvalidConfigError,
    InvalidRecordStateError,
    InvalidRequestError,
)
from raykafka.model import AcknowledgeType, TopicPartition
from raykafka.testing.local_cluster import LocalCluster

PLACES = [TopicPartition("t", 0), TopicPartition("t", 1)]
Make = Callable[..., ShareConsumer]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    path: Path = tmp_path_factory.mktemp("share")
    with LocalCluster(path, partition_actors=2) as cluster:
        yield cluster


@pytest.fixture
def cluster(running: LocalCluster) -> Iterator[LocalCluster]:
    schema = pa.schema([("id", pa.int64())])
    with Admin(running.bootstrap) as admin:
        admin.create_topics([NewTopic("t", num_partitions=2), NewTopic("typed", schema=schema)])
        share = ShareGroupAdmin(running)
        share.configure(**{"share.auto.offset.reset": "earliest"})
        yield running
        share.close()
        admin.delete_topics(["t", "typed"])


@pytest.fixture
def make(cluster: LocalCluster) -> Iterator[Make]:
    made: list[ShareConsumer] = []

    def consumer(*places: TopicPartition, **settings: object) -> ShareConsumer:
        assignment = FixedAssignment(*(places or PLACES))
        settings.setdefault("group_id", GROUP)
        made.append(ShareConsumer(cluster.bootstrap, assignment=assignment, **settings))
        return made[-1]

    yield consumer
    for each in made:
        each.close()


def produce(cluster: LocalCluster, count: int, partitions: int = 2) -> None:
    with Producer(cluster.bootstrap, acks="all") as producer:
        for number in range(count):
            producer.send("t", b"%d" % number, key=b"k", partition=number % partitions)
        producer.flush(20)


def values(consumer: ShareConsumer, count: int) -> list[bytes]:
    found: list[bytes] = []

    def polled() -> bool:
        for records in consumer.poll(500).values():
            found.extend(record.value for record in records)
        return len(found) >= count

    wait_until(polled, f"{count} records")
    return sorted(found)


def test_implicit_mode_accepts_what_the_next_poll_or_commit_follows(
    cluster: LocalCluster, make: Make
) -> None:
    produce(cluster, 10)
    a = make(max_poll_records=4)
    first = {record.value for records in a.poll(5000).values() for record in records}
    assert len(first) == 4
    rest = values(a, 6)
    assert first | set(rest) == {b"%d" % number for number in range(10)}
    assert set(a.commit().values()) <= {None}
    with pytest.raises(IllegalStateError, match="implicit"):
        a.acknowledge_rows()
    a.close()
    assert make().poll(100) == {}


def test_close_gives_back_what_was_not_accepted(cluster: LocalCluster, make: Make) -> None:
    produce(cluster, 6, partitions=1)
    a = make(max_poll_records=3)
    (records,) = a.poll(5000).values()
    assert [record.offset for record in records] == [0, 1, 2]
    assert (records[0].delivery_count, records[-1].key) == (1, b"k")
    a.close()
    a.close()
    with pytest.raises(ClientClosedError):
        a.poll()
    b = make()
    found = {r.offset: r.delivery_count for records in b.poll(5000).values() for r in records}
    found |= {r.offset: r.delivery_count for records in b.poll(300).values() for r in records}
    assert found == {0: 2, 1: 2, 2: 2, 3: 1, 4: 1, 5: 1}


def test_explicit_mode_wants_an_answer_for_every_record(cluster: LocalCluster, make: Make) -> None:
    produce(cluster, 5, partitions=1)
    a = make(share_acknowledgement_mode="explicit")
    (records,) = a.poll(5000).values()
    with pytest.raises(IllegalStateError, match="5 records of the last poll"):
        a.poll()
    for record, kind in zip(records, (1, 2, 3, 1, 2), strict=True):
        a.acknowledge(record, AcknowledgeType(kind))
    with pytest.raises(IllegalStateError, match="acknowledged already"):
        a.acknowledge(records[0])
    heard: list[object] = []
    a.commit_async(heard.append)
    (again,) = a.poll(5000).values()
    assert [(record.offset, record.delivery_count) for record in again] == [(1, 2), (4, 2)]
    assert a.renew(again[0]) == {PLACES[0]: None}
    assert a.renew() == {PLACES[0]: None}
    a.acknowledge(again[0])
    a.acknowledge(again[1])
    assert a.commit() == {PLACES[0]: None}
    assert a.acquisition_lock_timeout_ms == 30_000
    assert heard
    assert all(each == {PLACES[0]: None} for each in heard)


def test_columns_are_acknowledged_by_a_bitmap(cluster: LocalCluster, make: Make) -> None:
    with Producer(cluster.bootstrap, acks="all") as producer:
        producer.send_table("typed", pa.table({"id": list(range(100))}))
        producer.flush(20)
    a = make(TopicPartition("typed", 0), share_acknowledgement_mode="explicit")
    (batch,) = a.poll_batches(5000, max_records=60)
    assert (batch.base_offset, batch.num_rows, batch.delivery_count) == (0, 60, 1)
    ids = batch.batch.column("id")
    with pytest.raises(InvalidRequestError):
        a.acknowledge_mask(batch, [True])
    a.acknowledge_mask(batch, np.arange(60) % 2 == 0)
    table = a.poll_table(5000, metadata=["__offset"])
    assert ids.to_pylist() == list(range(60))
    assert table is not None
    odd = [number for number in range(60) if number % 2]
    assert sorted(table.column("id").to_pylist()) == odd + list(range(60, 100))
    assert table.column("__offset").equals(table.column("id"))
    a.acknowledge_rows(pa.compute.less(table.column("id"), 90), AcknowledgeType.REJECT)
    assert a.commit() == {TopicPartition("typed", 0): None}
    assert a.poll(200) == {}


def test_a_lease_that_has_ended_is_told_and_the_record_goes_to_another(
    cluster: LocalCluster, make: Make
) -> None:
    share = ShareGroupAdmin(cluster)
    share.configure(**{"share.record.lock.duration.ms": "300"})
    produce(cluster, 1)
    a, b = make(PLACES[0]), make(PLACES[0])
    assert values(a, 1) == values(b, 1) == [b"0"]
    assert b.commit() == {PLACES[0]: None}
    outcome = a.commit()[PLACES[0]]
    assert isinstance(outcome, InvalidRecordStateError)
    share.configure(**{"share.record.lock.duration.ms": "30000"})
    share.close()


def test_iterating_and_waking(cluster: LocalCluster, make: Make) -> None:
    produce(cluster, 6)
    a = make(consumer_timeout_ms=300, value_deserializer=int)
    assert sorted(record.value for record in a) == list(range(6))
    a.wakeup()
    assert a.poll(60_000) == {}
    assert a.metrics()["records_consumed_total"] == 6


def test_settings_of_the_group_are_not_those_of_a_member(make: Make) -> None:
    for wrong in ({"auto_offset_reset": "earliest"}, {"group_id": ""}, {"isolation_level": "x"}):
        with pytest.raises(InvalidConfigError):
            make(**wrong)
    with pytest.raises(InvalidRequestError):
        make().subscribe()


def test_a_callback_that_raises_loses_no_records(cluster: LocalCluster, make: Make) -> None:
    def broken(outcomes: object) -> None:
        raise KeyError("broken")

    def read(max_records: int) -> None:
        for records in a.poll(2000, max_records).values():
            found.extend(record.value for record in records)

    def read_on() -> None:
        while len(found) < 4:
            read(1)

    produce(cluster, 4, partitions=1)
    a = make()
    found: list[bytes] = []
    read(2)
    a.commit_async(broken)
    with pytest.raises(KeyError, match="broken"):
        read_on()
    a._callback = None
    read_on()
    assert found == [b"0", b"1", b"2", b"3"]


def test_what_does_not_fit_in_a_table_is_polled_again(cluster: LocalCluster, make: Make) -> None:
    other = pa.schema([("value", pa.int64())])
    with Admin(cluster.bootstrap) as admin, Producer(cluster.bootstrap, acks="all") as producer:
        admin.create_topics([NewTopic("clash", schema=other)])
        a = make(PLACES[0], TopicPartition("clash", 0))
        producer.send("t", b"1", partition=0)
        producer.send_table("clash", pa.table({"value": [1]}))
        producer.flush(20)
        polled: list[pa.RecordBatch] = []
        try:
            while (table := a.poll_table(1000)) is not None:
                polled += table.to_batches()
        except IllegalStateError:
            polled += [each.batch for each in a.poll_batches(1000)]
        assert sum(batch.num_rows for batch in polled) == 2
        a.close()
        admin.delete_topics(["clash"])


@pytest.mark.parametrize("mode", ["implicit", "explicit"])
def test_what_iteration_has_not_returned_is_not_accepted(
    cluster: LocalCluster, make: Make, mode: str
) -> None:
    produce(cluster, 10, partitions=1)
    a = make(share_acknowledgement_mode=mode)
    found: list[bytes] = []
    for record in a:
        found.append(record.value)
        if mode == "explicit":
            a.acknowledge(record)
        if len(found) == 3:
            a.commit()  # and goes on
        if len(found) == 5:
            break
    a.commit()
    (records,) = a.poll(5000, max_records=2).values()
    found += [record.value for record in records]
    for record in records if mode == "explicit" else ():
        a.acknowledge(record)
    a.commit()
    a.close()
    b = make()
    found += [record.value for records in b.poll(5000).values() for record in records]
    assert found == [b"%d" % number for number in range(10)]
