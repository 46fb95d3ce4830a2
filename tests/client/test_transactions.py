"""What a transactional producer tells coordinators and leaders, and what it makes of refusals."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from raykafka import AsyncProducer
from raykafka.client.producer import Producer
from raykafka.errors import (
    CommitFailedError,
    ConcurrentTransactionsError,
    IllegalStateError,
    InvalidConfigError,
    InvalidTxnStateError,
    NotCoordinatorError,
    OutOfOrderSequenceNumberError,
    ProducerFencedError,
    RecordListTooLargeError,
    RequestTimedOutError,
    StaleMemberEpochError,
    TransactionAbortableError,
    TransactionAbortedError,
)
from raykafka.model import ConsumerGroupMetadata, OffsetAndMetadata, TopicPartition
from raykafka.protocol.group_messages import TxnOffsetCommitRequest
from raykafka.protocol.txn_messages import EndTxnRequest, InitTransactionRequest, PrepareTxnRequest
from tests.kits.produce_cluster import answer, ignore
from tests.kits.scripted_cluster import Topic
from tests.kits.txn_cluster import TxnCluster

GROUP = ConsumerGroupMetadata("readers", 4, "member")
MakeProducer = Callable[..., Producer]


@pytest.fixture
def cluster() -> Iterator[TxnCluster]:
    with TxnCluster() as running:
        yield running


@pytest.fixture
def topic(cluster: TxnCluster) -> Topic:
    return cluster.create("t", partitions=2)


@pytest.fixture
def make(cluster: TxnCluster, topic: Topic) -> Iterator[MakeProducer]:
    made: list[Producer] = []

    def producer(**settings: Any) -> Producer:
        found = Producer(cluster.bootstrap, **{"transactional_id": "bank", **settings})
        made.append(found)
        return found

    yield producer
    for each in made:
        each.close(0)


@pytest.fixture
def producer(make: MakeProducer) -> Producer:
    made = make(transaction_two_phase_commit_enable=True)
    made.init_transactions()
    return made


def ends(cluster: TxnCluster) -> list[EndTxnRequest]:
    return [call for call in cluster.calls if isinstance(call, EndTxnRequest)]


def test_each_transaction_has_a_newer_epoch_and_begins_at_sequence_0(
    cluster: TxnCluster, topic: Topic, producer: Producer
) -> None:
    for round_ in range(3):
        producer.begin_transaction()
        futures = [producer.send("t", b"%d" % i, partition=i % 2) for i in range(10)]
        producer.flush()
        producer.send_table("t", {"value": [b"a", b"b"]}, partition=0)
        producer.commit_transaction()
        assert all(future.succeeded() for future in futures)
        headers = cluster.headers(topic)[-2:]
        assert [header.base_sequence for header in headers] == [0, 5]
        assert {header.producer_epoch for header in headers} == {round_}
        assert all(header.is_transactional for header in headers)
    assert {request.transactional_id for request, _ in cluster.produces} == {"bank"}
    assert cluster.outcomes == [True] * 3
    assert not cluster.id_requests


def test_commit_delivers_what_was_sent_without_waiting_for_linger(
    cluster: TxnCluster, topic: Topic, make: MakeProducer
) -> None:
    producer = make(linger_ms=60_000, delivery_timeout_ms=200_000)
    producer.init_transactions()
    with producer.transaction():
        future = producer.send("t", b"v")
    assert future.succeeded()
    assert cluster.records(topic) == [b"v"]
    assert cluster.outcomes == [True]


def test_an_exception_in_the_block_aborts(
    cluster: TxnCluster, topic: Topic, producer: Producer
) -> None:
    def fail() -> None:
        with producer.transaction():
            producer.send("t", b"v").get(10)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert cluster.outcomes == [False]
    with producer.transaction():
        producer.send("t", b"w")
    assert cluster.outcomes == [False, True]


def test_nothing_is_sent_outside_of_a_transaction(cluster: TxnCluster, make: MakeProducer) -> None:
    producer = make()
    with pytest.raises(IllegalStateError, match="init_transactions"):
        producer.send("t", b"v")
    producer.init_transactions()
    for _ in range(2):
        with pytest.raises(IllegalStateError, match="begin_transaction"):
            producer.send("t", b"v")
        with pytest.raises(IllegalStateError, match="begin_transaction"):
            producer.send_table("t", {"value": [b"v"]})
        with pytest.raises(IllegalStateError, match="begin_transaction"):
            producer.commit_transaction()
        producer.begin_transaction()
        producer.send("t", b"v")
        producer.commit_transaction()


def test_a_producer_without_transactional_id_has_no_transactions(
    cluster: TxnCluster, topic: Topic
) -> None:
    with Producer(cluster.bootstrap) as producer:
        with pytest.raises(IllegalStateError, match="transactional_id"):
            producer.begin_transaction()
        producer.send("t", b"v", partition=0).get(10)
    assert not cluster.headers(topic)[0].is_transactional


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"acks": 1}, "acks"),
        ({"enable_idempotence": False}, "enable.idempotence"),
        ({"transaction_timeout_ms": 0}, "transaction"),
    ],
)
def test_settings_that_contradict_transactions(
    make: MakeProducer, settings: dict[str, Any], match: str
) -> None:
    with pytest.raises(InvalidConfigError, match=match):
        make(**settings)


def test_two_phases_need_a_name(cluster: TxnCluster) -> None:
    with pytest.raises(InvalidConfigError, match=r"transactional\.id"):
        Producer(cluster.bootstrap, transaction_two_phase_commit_enable=True)


def test_an_empty_transaction_costs_nothing(cluster: TxnCluster, producer: Producer) -> None:
    before = len(cluster.calls)
    with producer.transaction():
        pass
    producer.begin_transaction()
    producer.abort_transaction()
    assert len(cluster.calls) == before


def test_a_zombie_is_fenced_when_it_sends_and_when_it_commits(
    cluster: TxnCluster, topic: Topic, make: MakeProducer
) -> None:
    late_send, late_commit = make(transactional_id="a"), make(transactional_id="b")
    for each in (late_send, late_commit):
        each.init_transactions()
        each.begin_transaction()
        each.send("t", b"old").get(10)
    for name in ("a", "b"):
        newer = make(transactional_id=name)
        newer.init_transactions()
    with pytest.raises(ProducerFencedError, match="another producer"):
        late_send.send("t", b"late").get(10)
    with pytest.raises(ProducerFencedError):
        late_send.send("t", b"later")
    with pytest.raises(ProducerFencedError):
        late_send.abort_transaction()
    with pytest.raises(ProducerFencedError):
        late_commit.commit_transaction()
    with pytest.raises(ProducerFencedError):
        late_commit.begin_transaction()
    assert cluster.outcomes == [False, False]


def test_a_record_that_fails_makes_commit_raise_and_abort_possible(
    cluster: TxnCluster, topic: Topic, producer: Producer
) -> None:
    producer.begin_transaction()
    producer.send("t", b"good", partition=1).get(10)
    cluster.faults.append(answer(RecordListTooLargeError("no room")))
    failed = producer.send("t", b"bad", partition=0)
    with pytest.raises(TransactionAbortableError, match="no room"):
        producer.commit_transaction()
    assert isinstance(failed.exception, RecordListTooLargeError)
    with pytest.raises(TransactionAbortableError, match="abort the transaction"):
        producer.send("t", b"more")
    producer.abort_transaction()
    with producer.transaction():
        producer.send("t", b"again", partition=0)
    assert cluster.outcomes == [False, True]


def test_with_aborts_what_cannot_be_committed(
    cluster: TxnCluster, topic: Topic, producer: Producer
) -> None:
    cluster.faults.append(answer(RecordListTooLargeError("no room")))
    with pytest.raises(TransactionAbortableError), producer.transaction():
        producer.send("t", b"bad")
    with producer.transaction():
        producer.send("t", b"v")
    assert cluster.outcomes == [False, True]


def test_a_leader_that_cannot_follow_the_numbers_ends_the_transaction_and_asks_for_no_id(
    cluster: TxnCluster, topic: Topic, producer: Producer
) -> None:
    producer.begin_transaction()
    producer.send("t", b"1", partition=0).get(10)
    cluster.faults.append(answer(OutOfOrderSequenceNumberError()))
    with pytest.raises(TransactionAbortableError):
        producer.send("t", b"2", partition=0).get(10)
    producer.abort_transaction()
    with producer.transaction():
        producer.send("t", b"3", partition=0)
    assert cluster.headers(topic)[-1].base_sequence == 0
    assert not cluster.id_requests


def test_a_leader_that_waits_for_the_last_transaction_is_asked_again(
    cluster: TxnCluster, topic: Topic, producer: Producer
) -> None:
    cluster.faults.extend([answer(ConcurrentTransactionsError())] * 3)
    with producer.transaction():
        producer.send("t", b"v")
    assert cluster.records(topic) == [b"v"]


def test_abort_takes_back_what_is_not_acknowledged(
    cluster: TxnCluster, topic: Topic, producer: Producer
) -> None:
    cluster.faults.append(ignore)
    producer.begin_transaction()
    on_its_way = producer.send("t", b"1", partition=0)
    with pytest.raises(TimeoutError):
        on_its_way.get(0.05)
    behind = producer.send("t", b"2", partition=0)
    producer.abort_transaction()
    for future in (on_its_way, behind):
        assert isinstance(future.exception, TransactionAbortedError)
    with producer.transaction():
        producer.send("t", b"3", partition=0)
    assert cluster.records(topic) == [b"3"]
    assert cluster.headers(topic)[0].base_sequence == 0
    assert cluster.outcomes == [False, True]


def test_coordinators_that_move_or_lose_an_answer_are_asked_again(
    cluster: TxnCluster, topic: Topic, producer: Producer
) -> None:
    producer.begin_transaction()
    producer.send("t", b"v").get(10)
    cluster.refusals.append(NotCoordinatorError())
    cluster.lost_answers = 1
    producer.commit_transaction()
    assert len(ends(cluster)) == 3
    assert cluster.outcomes == [True]
    with producer.transaction():
        producer.send("t", b"w")


def test_a_commit_whose_answer_stays_out_may_be_made_again(
    cluster: TxnCluster, topic: Topic, make: MakeProducer
) -> None:
    producer = make(max_block_ms=300, request_timeout_ms=100)
    producer.init_transactions()
    producer.begin_transaction()
    producer.send("t", b"v").get(10)
    cluster.refusals.extend([NotCoordinatorError()] * 100)
    with pytest.raises(NotCoordinatorError):
        producer.commit_transaction()
    with pytest.raises(IllegalStateError, match="commit_transaction again"):
        producer.abort_transaction()
    cluster.refusals.clear()
    producer.commit_transaction()
    assert cluster.outcomes == [True]


def test_a_commit_that_cannot_deliver_in_time_leaves_the_transaction_open(
    cluster: TxnCluster, topic: Topic, make: MakeProducer
) -> None:
    producer = make(max_block_ms=200)
    producer.init_transactions()
    producer.begin_transaction()
    cluster.silent = True
    producer.send("t", b"1", partition=0)
    with pytest.raises(RequestTimedOutError, match=r"max\.block\.ms"):
        producer.commit_transaction()
    producer.send("t", b"2", partition=0)
    cluster.release()
    producer.commit_transaction()
    assert cluster.records(topic, 0) == [b"1", b"2"]


def test_a_commit_that_the_coordinator_does_not_know_of(
    cluster: TxnCluster, topic: Topic, producer: Producer
) -> None:
    producer.begin_transaction()
    producer.send("t", b"v").get(10)
    cluster.refusals.append(InvalidTxnStateError("nothing is open"))
    with pytest.raises(InvalidTxnStateError):
        producer.commit_transaction()
    producer.abort_transaction()
    with producer.transaction():
        producer.send("t", b"w")


def test_offsets_are_committed_with_the_transaction_or_not_at_all(
    cluster: TxnCluster, topic: Topic, producer: Producer
) -> None:
    producer.begin_transaction()
    producer.send_offsets_to_transaction({TopicPartition("t", 0): 5}, GROUP)
    producer.abort_transaction()
    assert cluster.committed_offsets == {}
    with producer.transaction():
        offsets = {("t", 0): OffsetAndMetadata(7, "note"), ("t", 1): 9}
        producer.send_offsets_to_transaction(offsets, GROUP)
        assert cluster.committed_offsets == {}
    assert cluster.committed_offsets == {("readers", "t", 0): 7, ("readers", "t", 1): 9}
    asked = [call for call in cluster.calls if isinstance(call, TxnOffsetCommitRequest)][-1]
    assert (asked.member_id, asked.member_epoch, asked.transactional_id) == ("member", 4, "bank")
    assert asked.offsets[0].metadata == "note"
    assert asked.offsets[0].topic_id == topic.topic_id


def test_a_member_that_lost_its_partitions_cannot_commit_their_offsets(
    cluster: TxnCluster, topic: Topic, producer: Producer
) -> None:
    producer.begin_transaction()
    producer.send("t", b"v")
    cluster.refusals.append(StaleMemberEpochError())
    with pytest.raises(CommitFailedError):
        producer.send_offsets_to_transaction({("t", 0): 1}, GROUP)
    with pytest.raises(TransactionAbortableError):
        producer.commit_transaction()
    producer.abort_transaction()
    producer.begin_transaction()


def test_a_prepared_transaction_is_committed_by_the_next_process(
    cluster: TxnCluster, topic: Topic, make: MakeProducer, producer: Producer
) -> None:
    producer.begin_transaction()
    future = producer.send("t", b"v")
    handle = producer.prepare_transaction()
    assert future.succeeded()
    with pytest.raises(IllegalStateError, match="prepared"):
        producer.send("t", b"late")
    producer.close()
    assert cluster.outcomes == []

    successor = make(transaction_two_phase_commit_enable=True)
    assert successor.init_transactions(keep_prepared=True) == handle
    with pytest.raises(IllegalStateError, match="prepared"):
        successor.begin_transaction()
    successor.commit_transaction()
    assert cluster.outcomes == [True]
    with successor.transaction():
        successor.send("t", b"w")
    assert cluster.outcomes == [True, True]


def test_a_prepared_transaction_can_be_ended_by_its_own_producer(
    cluster: TxnCluster, topic: Topic, producer: Producer
) -> None:
    for commit in (True, False):
        producer.begin_transaction()
        producer.send("t", b"v")
        producer.prepare_transaction()
        if commit:
            producer.commit_transaction()
        else:
            producer.abort_transaction()
    assert cluster.outcomes == [True, False]


def test_without_keep_prepared_what_waits_is_aborted(
    cluster: TxnCluster, topic: Topic, make: MakeProducer, producer: Producer
) -> None:
    producer.begin_transaction()
    producer.send("t", b"v")
    producer.prepare_transaction()
    assert make().init_transactions() is None
    assert cluster.outcomes == [False]


def test_preparing_needs_the_setting_and_nothing_else(
    cluster: TxnCluster, make: MakeProducer, producer: Producer
) -> None:
    plain = make(transactional_id="plain")
    plain.init_transactions()
    plain.begin_transaction()
    with pytest.raises(IllegalStateError, match="two_phase"):
        plain.prepare_transaction()
    producer.begin_transaction()
    producer.prepare_transaction()
    assert isinstance(cluster.calls[-1], PrepareTxnRequest)
    producer.commit_transaction()
    assert cluster.outcomes == [True]


def test_close_aborts_what_is_open(cluster: TxnCluster, topic: Topic, producer: Producer) -> None:
    producer.begin_transaction()
    producer.send("t", b"v").get(10)
    producer.close()
    assert cluster.outcomes == [False]


def test_the_coordinator_is_told_timeout_and_phases(
    cluster: TxnCluster, make: MakeProducer
) -> None:
    producer = make(transaction_timeout_ms=1234, transaction_two_phase_commit_enable=True)
    producer.init_transactions()
    asked = cluster.calls[-1]
    assert isinstance(asked, InitTransactionRequest)
    assert (asked.transaction_timeout_ms, asked.two_phase, asked.keep_prepared) == (
        1234,
        True,
        False,
    )
    with pytest.raises(IllegalStateError, match="once per producer"):
        producer.init_transactions()


def test_threads_that_send_while_another_commits_lose_nothing_silently(
    cluster: TxnCluster, topic: Topic, producer: Producer
) -> None:
    """What is taken is in a transaction, or its future or ``send`` says that it is not."""
    stop = threading.Event()
    taken: list[Any] = []

    def send() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            try:
                taken.append((b"%d" % number, producer.send("t", b"%d" % number, partition=0)))
            except IllegalStateError:
                continue

    thread = threading.Thread(target=send)
    thread.start()
    for _ in range(20):
        with producer.transaction():
            producer.send("t", b"mine", partition=1)
    stop.set()
    thread.join()
    producer.flush()
    there = set(cluster.records(topic, 0))
    for value, future in taken:
        assert future.done()
        assert (value in there) == future.succeeded()


def test_the_asyncio_face(cluster: TxnCluster, topic: Topic) -> None:
    async def fail(producer: AsyncProducer) -> None:
        async with producer.transaction():
            await producer.send_and_wait("t", b"2", partition=0)
            raise ZeroDivisionError

    async def run() -> None:
        async with AsyncProducer(
            cluster.bootstrap, transactional_id="async", transaction_two_phase_commit_enable=True
        ) as producer:
            await producer.init_transactions()
            async with producer.transaction():
                sent = await producer.send("t", b"1", partition=0)
                await producer.send_offsets_to_transaction({("t", 0): 3}, GROUP)
            assert (await sent).offset == 0
            with pytest.raises(ZeroDivisionError):
                await fail(producer)
            await producer.begin_transaction()
            await producer.send_table("t", {"value": [b"3"]}, partition=0)
            handle = await producer.prepare_transaction()
            assert handle.transactional_id == "async"
            await producer.abort_transaction()
            await producer.begin_transaction()
            await producer.send("t", b"4")
            await producer.commit_transaction()

    asyncio.run(run())
    assert cluster.outcomes == [True, False, False, True]
    assert cluster.committed_offsets == {("readers", "t", 0): 3}
