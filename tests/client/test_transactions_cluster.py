"""Transactions on a whole cluster: what readers see, and what survives kills."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raykafka import Admin, Consumer, NewTopic, PreparedTransaction, Producer, TopicPartition
from raykafka.errors import (
    InvalidTxnStateError,
    ProducerFencedError,
    TransactionalIdNotFoundError,
)
from raykafka.internal_topics import TRANSACTION_STATE
from raykafka.testing.local_cluster import LocalCluster

TOPIC = "t"
PLACE = TopicPartition(TOPIC, 0)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    with LocalCluster(tmp_path) as running:
        yield running


@pytest.fixture
def admin(cluster: LocalCluster) -> Iterator[Admin]:
    with Admin(cluster.bootstrap) as made:
        made.create_topics([NewTopic(TOPIC, 2)])
        yield made


def begun(cluster: LocalCluster, name: str = "bank", **settings: Any) -> Producer:
    producer = Producer(cluster.bootstrap, transactional_id=name, **settings)
    producer.init_transactions()
    return producer


@pytest.fixture
def producer(cluster: LocalCluster, admin: Admin) -> Iterator[Producer]:
    with begun(cluster, transaction_two_phase_commit_enable=True) as made:
        yield made


def read(cluster: LocalCluster, isolation_level: str = "read_committed") -> list[bytes]:
    """Everything in the first partition up to what such a reader may see now."""
    settings: dict[str, Any] = {"isolation_level": isolation_level}
    with Consumer(cluster.bootstrap, auto_offset_reset="earliest", **settings) as consumer:
        consumer.assign([PLACE])
        consumer.seek_to_end(PLACE)
        end = consumer.position(PLACE)
        consumer.seek_to_beginning(PLACE)
        found: list[bytes] = []
        while consumer.position(PLACE) < end:
            for records in consumer.poll(timeout_ms=1000).values():
                found += [record.value for record in records]
        return found


def test_readers_see_what_is_committed_and_nothing_else(
    cluster: LocalCluster, producer: Producer
) -> None:
    with producer.transaction():
        producer.send(TOPIC, b"1", partition=0)
        producer.send_table(TOPIC, {"value": [b"2", b"3"]}, partition=0)
    producer.begin_transaction()
    producer.send(TOPIC, b"aborted", partition=0).get()
    assert read(cluster) == [b"1", b"2", b"3"]
    assert read(cluster, "read_uncommitted") == [b"1", b"2", b"3", b"aborted"]
    producer.abort_transaction()
    with producer.transaction():
        producer.send(TOPIC, b"4", partition=0)
    assert read(cluster) == [b"1", b"2", b"3", b"4"]


def test_what_is_open_holds_readers_up_and_what_is_ended_lets_them_go(
    cluster: LocalCluster, producer: Producer
) -> None:
    producer.begin_transaction()
    producer.send(TOPIC, b"slow", partition=0).get()
    with begun(cluster, "other") as other, other.transaction():
        other.send(TOPIC, b"quick", partition=0)
    assert read(cluster) == []
    producer.commit_transaction()
    assert read(cluster) == [b"slow", b"quick"]


def test_a_consumer_that_waits_gets_the_records_with_the_commit(
    cluster: LocalCluster, producer: Producer
) -> None:
    settings: dict[str, Any] = {"isolation_level": "read_committed"}
    with Consumer(cluster.bootstrap, auto_offset_reset="earliest", **settings) as consumer:
        consumer.assign([PLACE])
        found: list[bytes] = []

        def take() -> None:
            while len(found) < 2:
                for records in consumer.poll(timeout_ms=10_000).values():
                    found.extend(record.value for record in records)

        thread = threading.Thread(target=take)
        thread.start()
        producer.begin_transaction()
        producer.send(TOPIC, b"1", partition=0).get()
        producer.send(TOPIC, b"2", partition=0).get()
        assert found == []
        producer.commit_transaction()
        thread.join(10)
        assert found == [b"1", b"2"]


def test_the_newer_producer_of_a_name_fences_the_older_one(
    cluster: LocalCluster, producer: Producer
) -> None:
    producer.begin_transaction()
    producer.send(TOPIC, b"old", partition=0).get()
    with begun(cluster) as newer:
        with pytest.raises(ProducerFencedError):
            producer.send(TOPIC, b"late", partition=0).get()
        with pytest.raises(ProducerFencedError):
            producer.commit_transaction()
        with newer.transaction():
            newer.send(TOPIC, b"new", partition=0)
    assert read(cluster) == [b"new"]


def test_a_transaction_that_takes_too_long_is_aborted_and_its_producer_goes_on(
    cluster: LocalCluster, admin: Admin
) -> None:
    with begun(cluster, transaction_timeout_ms=300) as producer:
        producer.begin_transaction()
        producer.send(TOPIC, b"slow", partition=0).get()
        while admin.describe_transactions(["bank"])["bank"].state != "CompleteAbort":
            pass
        with pytest.raises(ProducerFencedError):
            producer.send(TOPIC, b"late", partition=0).get()
        producer.abort_transaction()
        with producer.transaction():
            producer.send(TOPIC, b"again", partition=0)
    assert read(cluster) == [b"again"]


def test_commits_go_on_while_every_actor_is_killed(
    cluster: LocalCluster, admin: Admin, producer: Producer
) -> None:
    expected = []
    for number in range(30):
        producer.begin_transaction()
        value = b"%d" % number
        producer.send(TOPIC, value, partition=0)
        producer.send(TOPIC, value, partition=1)
        if number % 5 == 2:
            cluster.kill_partition_actor(number % 2)
        if number % 3:
            producer.commit_transaction()
            expected.append(value)
        else:
            producer.abort_transaction()
    assert read(cluster) == expected


def test_transactions_survive_the_restart_of_everything(
    cluster: LocalCluster, admin: Admin, producer: Producer
) -> None:
    with producer.transaction():
        producer.send(TOPIC, b"1", partition=0)
    producer.begin_transaction()
    producer.send(TOPIC, b"open", partition=0).get()
    cluster.crash()
    cluster.start()
    assert read(cluster) == [b"1"]
    producer.commit_transaction()
    assert read(cluster) == [b"1", b"open"]


# --- two phases -----------------------------------------------------------------------------------


def prepared(producer: Producer, value: bytes) -> PreparedTransaction:
    producer.begin_transaction()
    producer.send(TOPIC, value, partition=0)
    return producer.prepare_transaction()


def test_a_prepared_transaction_outlives_its_producer_and_the_cluster(
    cluster: LocalCluster, admin: Admin, producer: Producer
) -> None:
    handle = prepared(producer, b"v")
    producer.close()
    cluster.crash()
    cluster.start()
    assert admin.list_prepared() == [handle]
    assert read(cluster) == []
    for _ in range(2):
        admin.commit_prepared(PreparedTransaction.from_json(handle.to_json()))
    assert read(cluster) == [b"v"]
    assert admin.list_prepared() == []
    with pytest.raises(InvalidTxnStateError):
        admin.abort_prepared(handle)


def test_a_prepared_transaction_can_be_aborted_by_anybody(
    cluster: LocalCluster, admin: Admin, producer: Producer
) -> None:
    handle = prepared(producer, b"v")
    for _ in range(2):
        admin.abort_prepared(handle)
    with pytest.raises(InvalidTxnStateError):
        admin.commit_prepared(handle)
    assert read(cluster) == []
    with pytest.raises(InvalidTxnStateError):
        admin.commit_prepared(PreparedTransaction("nobody", 1, 1))


def test_the_next_producer_decides_over_what_was_kept(
    cluster: LocalCluster, admin: Admin, producer: Producer
) -> None:
    handle = prepared(producer, b"1")
    producer.close()
    with Producer(
        cluster.bootstrap, transactional_id="bank", transaction_two_phase_commit_enable=True
    ) as successor:
        assert successor.init_transactions(keep_prepared=True) == handle
        successor.commit_transaction()
        with successor.transaction():
            successor.send(TOPIC, b"2", partition=0)
        handle = prepared(successor, b"3")
    with begun(cluster, transaction_two_phase_commit_enable=True) as last, last.transaction():
        last.send(TOPIC, b"4", partition=0)
    assert read(cluster) == [b"1", b"2", b"4"]


def test_a_replaced_producer_ends_what_it_prepared_and_nothing_more(
    cluster: LocalCluster, admin: Admin, producer: Producer
) -> None:
    handle = prepared(producer, b"1")
    with Producer(
        cluster.bootstrap, transactional_id="bank", transaction_two_phase_commit_enable=True
    ) as successor:
        assert successor.init_transactions(keep_prepared=True) == handle
        producer.commit_transaction()
        assert read(cluster) == [b"1"]
        with pytest.raises(ProducerFencedError):
            producer.begin_transaction()
        successor.commit_transaction()
        with successor.transaction():
            successor.send(TOPIC, b"2", partition=0)
    assert read(cluster) == [b"1", b"2"]


# --- operators ------------------------------------------------------------------------------------


def test_operators_see_transactions_and_fence_their_producers(
    cluster: LocalCluster, admin: Admin, producer: Producer
) -> None:
    producer.begin_transaction()
    producer.send(TOPIC, b"v", partition=1).get()
    [listed] = admin.list_transactions(states=["Ongoing"])
    assert listed.transactional_id == "bank"
    assert admin.list_transactions(states=["Prepared"]) == []
    assert admin.list_transactions(min_duration_ms=60_000) == []
    described = admin.describe_transactions(["bank"])["bank"]
    assert (described.state, described.timeout_ms) == ("Ongoing", 60_000)
    assert [(each.topic, each.partition) for each in described.partitions] == [(TOPIC, 1)]
    found = admin.describe_producers([(TOPIC, 1)])
    [known] = found[TopicPartition(TOPIC, 1)]
    assert (known.producer_id, known.transaction_start_offset) == (listed.producer_id, 0)
    with pytest.raises(TransactionalIdNotFoundError):
        admin.fence_producers(["nobody"])
    admin.fence_producers(["bank"])
    with pytest.raises(ProducerFencedError):
        producer.commit_transaction()
    assert admin.describe_producers([(TOPIC, 1)])[TopicPartition(TOPIC, 1)][
        0
    ].transaction_start_offset == (-1)


def test_fencing_keeps_what_is_prepared(
    cluster: LocalCluster, admin: Admin, producer: Producer
) -> None:
    handle = prepared(producer, b"v")
    admin.fence_producers(["bank"])
    assert admin.list_prepared() == [handle]
    admin.commit_prepared(handle)
    assert read(cluster) == [b"v"]


def test_a_transaction_that_hangs_is_found_and_ended(
    cluster: LocalCluster, admin: Admin, producer: Producer
) -> None:
    producer.begin_transaction()
    producer.send(TOPIC, b"open", partition=0).get()
    assert admin.find_hanging_transactions([TOPIC], max_timeout_ms=0) == []
    [known] = admin.describe_producers([PLACE])[PLACE]
    with pytest.raises(InvalidTxnStateError):
        admin.abort_transaction(
            PLACE,
            producer_id=known.producer_id,
            producer_epoch=known.producer_epoch,
            start_offset=known.transaction_start_offset + 1,
        )
    admin.abort_transaction(
        PLACE,
        producer_id=known.producer_id,
        producer_epoch=known.producer_epoch,
        start_offset=known.transaction_start_offset,
    )
    assert read(cluster) == []
    [after] = admin.describe_producers([PLACE])[PLACE]
    assert after.transaction_start_offset == -1


def test_the_topic_of_coordinators_is_made_when_it_is_needed(
    cluster: LocalCluster, admin: Admin
) -> None:
    assert admin.list_transactions() == []
    assert TRANSACTION_STATE not in admin.list_topics()
    begun(cluster).close()
    assert [each.transactional_id for each in admin.list_transactions()] == ["bank"]
