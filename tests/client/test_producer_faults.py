"""Broken connections, moved leaders, refusals, silence: nothing acknowledged is lost or doubled."""

from __future__ import annotations

import gc
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pytest

from raykafka.client.cluster.bootstrap import BootstrapInfo, StaticBootstrap
from raykafka.client.producer import Producer
from raykafka.errors import (
    BufferExhaustedError,
    ClusterAuthorizationFailedError,
    ClusterUnreachableError,
    DeliveryTimeoutError,
    DiskFullError,
    IllegalStateError,
    InvalidRecordError,
    MessageTooLargeError,
    NotEnoughReplicasAfterAppendError,
    NotLeaderOrFollowerError,
    OutOfOrderSequenceNumberError,
    ServerBusyError,
    UnknownTopicOrPartitionError,
)
from raykafka.model import Endpoint
from raykafka.protocol.messages import ProduceRequest
from tests.kits.produce_cluster import (
    Fault,
    ProduceCluster,
    answer,
    append_and_answer,
    append_and_cut,
    append_silently,
    cut,
    ignore,
)
from tests.kits.scripted_cluster import Topic

FLIGHTS = pa.schema([("carrier", pa.string()), ("delay", pa.int32())])


@pytest.fixture
def cluster() -> Iterator[ProduceCluster]:
    with ProduceCluster(leaders=2) as running:
        yield running


@pytest.fixture
def topic(cluster: ProduceCluster) -> Topic:
    return cluster.create("t")


@pytest.fixture
def producer(cluster: ProduceCluster, topic: Topic) -> Iterator[Producer]:
    with Producer(cluster.bootstrap, retry_backoff_ms=1) as running:
        yield running


def wait_until(condition: Callable[[], bool], timeout_s: float = 10) -> None:
    """Until a condition of another thread holds, which nothing announces."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def send_batches(producer: Producer, count: int, first: int = 0) -> list[Any]:
    """One batch per record, all of them on their way before any is waited for."""
    return [
        producer.send_table("t", {"value": [b"%d" % i]}, partition=0)
        for i in range(first, first + count)
    ]


def expected(count: int) -> list[bytes]:
    return [b"%d" % i for i in range(count)]


@pytest.mark.parametrize(
    "fault",
    [
        cut,
        append_and_cut,
        answer(NotLeaderOrFollowerError()),
        answer(ServerBusyError()),
        answer(DiskFullError()),
        append_and_answer(NotEnoughReplicasAfterAppendError()),
    ],
    ids=["cut", "append and cut", "not leader", "busy", "disk full", "appended, too few replicas"],
)
@pytest.mark.parametrize("position", [0, 1, 3])
def test_one_fault_in_a_pipeline_changes_nothing(
    cluster: ProduceCluster, topic: Topic, producer: Producer, fault: Fault, position: int
) -> None:
    send_batches(producer, 1)[0].get(10)
    cluster.faults.extend([*[None] * position, fault])
    futures = send_batches(producer, 12, 1)
    producer.flush(10)
    assert [future.get()[0].offset for future in futures] == list(range(1, 13))
    assert cluster.records(topic) == expected(13)


def test_an_acknowledgement_that_was_lost_is_given_again(
    cluster: ProduceCluster, topic: Topic, producer: Producer
) -> None:
    cluster.faults.append(append_and_cut)
    future = producer.send("t", b"once")
    assert future.get(10).offset == 0
    assert cluster.records(topic) == [b"once"]
    assert len(cluster.produces) == 2
    first, second = (header for _, header in cluster.produces)
    assert first == second


@pytest.mark.parametrize("seed", range(4))
def test_random_faults_under_load(cluster: ProduceCluster, topic: Topic, seed: int) -> None:
    """Three threads, partitions that move between leaders, a fault in every third request."""
    cluster.create("t", partitions=2)
    topic = cluster.topics["t"]
    rng = random.Random(seed)
    faults = [
        cut,
        append_and_cut,
        answer(NotLeaderOrFollowerError()),
        answer(ServerBusyError()),
        append_and_answer(NotEnoughReplicasAfterAppendError()),
    ]
    cluster.rule = lambda request, header: rng.choice(faults) if rng.random() < 0.3 else None
    futures: dict[bytes, Any] = {}

    def work(number: int) -> None:
        for i in range(150):
            value = b"%d:%d" % (number, i)
            futures[value] = producer.send("t", value, partition=i % 2)
            if i % 10 == 0:
                futures[value].get(20)

    with Producer(cluster.bootstrap, retry_backoff_ms=1, linger_ms=1) as producer:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(10):
            log = topic.logs[rng.randrange(2)]
            cluster.move(log, 1 - log.leader)
        for thread in threads:
            thread.join(60)
        cluster.rule = None
        producer.flush(30)
    for partition in range(2):
        stored = cluster.records(topic, partition)
        for number in range(3):
            mine = [value for value in stored if value.startswith(b"%d:" % number)]
            assert mine == [b"%d:%d" % (number, i) for i in range(partition, 150, 2)]
    for value, future in futures.items():
        found = future.get(0)
        rows = cluster.rows(topic.logs[found.partition])
        assert rows[found.offset]["value"] == value


def test_a_moved_leader_is_found(cluster: ProduceCluster, topic: Topic, producer: Producer) -> None:
    producer.send("t", b"0").get(10)
    cluster.move(topic.logs[0], 1)
    producer.send("t", b"1").get(10)
    cluster.restart_leader(1)
    producer.send("t", b"2").get(10)
    assert cluster.records(topic) == expected(3)


def test_records_wait_for_a_leader(
    cluster: ProduceCluster, topic: Topic, producer: Producer
) -> None:
    cluster.move(topic.logs[0], -1)
    futures = [producer.send("t", b"%d" % i) for i in range(3)]
    with pytest.raises(TimeoutError):
        futures[0].get(0.05)
    cluster.move(topic.logs[0], 1)
    assert [future.get(10).offset for future in futures] == [0, 1, 2]


def test_a_batch_that_is_too_large_fails_alone(
    cluster: ProduceCluster, topic: Topic, producer: Producer
) -> None:
    send_batches(producer, 1)[0].get(10)
    cluster.faults.extend([None, answer(MessageTooLargeError("too large, says the leader"))])
    futures = send_batches(producer, 5, 1)
    producer.flush(10)
    with pytest.raises(MessageTooLargeError, match="says the leader"):
        futures[1].get()
    assert futures[1].failed()
    assert [futures[i].get()[0].offset for i in (0, 2, 3, 4)] == [1, 2, 3, 4]
    assert cluster.records(topic) == [b"0", b"1", b"3", b"4", b"5"]
    assert len(cluster.id_requests) == 1


def test_limits_of_the_topic_bound_batches_before_they_are_sent(
    cluster: ProduceCluster, topic: Topic
) -> None:
    cluster.max_message_bytes = 20_000
    cluster.change_topics()
    with Producer(cluster.bootstrap) as producer:
        futures = [producer.send("t", bytes(1000)) for _ in range(100)]
        table = producer.send_table("t", {"value": [bytes(1000)] * 100})
        producer.flush(10)
        assert all(future.succeeded() for future in futures)
        assert len(table.get()) > 1
        with pytest.raises(MessageTooLargeError, match="max.message.bytes"):
            producer.send("t", bytes(20_000))
        with pytest.raises(MessageTooLargeError, match="one row"):
            producer.send_table("t", {"value": [bytes(20_000)]})
    assert len(cluster.records(topic)) == 200


def test_a_batch_that_outgrows_the_limit_when_encoded_fails_alone(
    cluster: ProduceCluster, topic: Topic
) -> None:
    with Producer(cluster.bootstrap, max_request_size=1000) as producer:
        producer.send("t", b"0").get(10)
        refused = producer.send("t", bytes(430))
        with pytest.raises(MessageTooLargeError, match="max_request_size is 1000"):
            refused.get(10)
        assert producer.send("t", b"1").get(10).offset == 1


def test_a_leader_that_forgot_the_producer_gets_a_new_epoch(
    cluster: ProduceCluster, topic: Topic, producer: Producer
) -> None:
    send_batches(producer, 3)
    producer.flush(10)
    cluster.faults.append(answer(OutOfOrderSequenceNumberError()))
    futures = send_batches(producer, 3, 3)
    producer.flush(10)
    assert [future.get()[0].offset for future in futures] == [3, 4, 5]
    assert [(r.producer_id, r.producer_epoch) for r in cluster.id_requests] == [(-1, -1), (1000, 0)]
    assert [(h.producer_epoch, h.base_sequence) for h in cluster.headers(topic)] == [
        *[(0, 0), (0, 1), (0, 2)],
        *[(1, 0), (1, 1), (1, 2)],
    ]


def test_a_producer_id_that_the_controller_forgot_is_replaced(
    cluster: ProduceCluster, topic: Topic, producer: Producer
) -> None:
    send_batches(producer, 1)
    producer.flush(10)
    cluster.epochs.clear()
    cluster.faults.append(answer(OutOfOrderSequenceNumberError()))
    assert producer.send("t", b"1").get(10).offset == 1
    assert [header.producer_id for header in cluster.headers(topic)] == [1000, 1001]


def test_a_delivery_that_takes_too_long_fails_and_the_next_ones_go_on(
    cluster: ProduceCluster, topic: Topic
) -> None:
    settings = {"delivery_timeout_ms": 1500, "request_timeout_ms": 400, "linger_ms": 0}
    with Producer(cluster.bootstrap, retry_backoff_ms=1, **settings) as producer:
        producer.send("t", b"0").get(10)
        cluster.rule = lambda request, header: ignore
        late = producer.send("t", b"lost", partition=0)
        with pytest.raises(DeliveryTimeoutError, match="delivery.timeout.ms"):
            late.get(10)
        assert len(cluster.produces) > 2
        cluster.rule = None
        assert producer.send("t", b"1").get(10).offset == 1
        assert producer.send("t", b"2").get(10).offset == 2
    assert cluster.records(topic) == expected(3)
    assert [header.producer_epoch for header in cluster.headers(topic)] == [0, 1, 1]


def test_a_delivery_that_takes_too_long_says_what_the_problem_was(
    cluster: ProduceCluster, topic: Topic
) -> None:
    settings = {"delivery_timeout_ms": 600, "request_timeout_ms": 400, "linger_ms": 0}
    with Producer(cluster.bootstrap, retry_backoff_ms=1, **settings) as producer:
        cluster.rule = lambda request, header: answer(DiskFullError("no room"))
        full = producer.send("t", b"0")
        with pytest.raises(DeliveryTimeoutError, match="may or .* was DiskFullError: no room"):
            full.get(10)
        cluster.rule = None
        assert producer.send("t", b"0").get(10).offset == 0
    assert cluster.records(topic) == expected(1)


def test_a_delivery_that_arrived_unheard_is_not_doubled_by_the_next(
    cluster: ProduceCluster, topic: Topic
) -> None:
    settings = {"delivery_timeout_ms": 1500, "request_timeout_ms": 400, "linger_ms": 0}
    with Producer(cluster.bootstrap, retry_backoff_ms=1, **settings) as producer:
        producer.send("t", b"0").get(10)
        cluster.rule = lambda request, header: append_silently
        futures = [producer.send("t", b"1"), producer.send("t", b"2")]
        for future in futures:
            with pytest.raises(DeliveryTimeoutError):
                future.get(10)
        cluster.rule = None
        assert producer.send("t", b"3").get(10).offset == cluster.headers(topic)[-1].base_offset
    assert cluster.records(topic) == expected(4)
    assert {header.producer_epoch for header in cluster.headers(topic)} == {0}


def test_a_silent_leader_is_given_up_after_request_timeout(
    cluster: ProduceCluster, topic: Topic
) -> None:
    with Producer(cluster.bootstrap, request_timeout_ms=50, retry_backoff_ms=1) as producer:
        cluster.faults.append(append_silently)
        assert producer.send("t", b"0").get(10).offset == 0
        assert producer.metrics()["retries"] == 1
    assert cluster.records(topic) == [b"0"]


def test_a_leader_that_was_replaced_without_a_word_is_left(
    cluster: ProduceCluster, topic: Topic
) -> None:
    """Its machine was cut off: nothing closes, and the request could wait for 30 s."""
    with Producer(cluster.bootstrap, retry_backoff_ms=1, linger_ms=0) as producer:
        producer.send("t", b"0").get(10)
        cluster.faults.append(ignore)
        future = producer.send("t", b"1")
        log = topic.logs[0]
        producer.send("t", b"2")
        wait_until(lambda: not cluster.faults)
        cluster.move(log, 1 - log.leader)
        assert future.get(10).offset == 1
        producer.flush(10)
    assert cluster.records(topic) == expected(3)


def test_retries_run_out(cluster: ProduceCluster, topic: Topic) -> None:
    with Producer(cluster.bootstrap, retries=2, retry_backoff_ms=1) as producer:
        cluster.faults.extend([answer(ServerBusyError("busy"))] * 3)
        with pytest.raises(ServerBusyError, match="busy"):
            producer.send("t", b"0").get(10)
        assert producer.send("t", b"1").get(10).offset == 0


def test_full_memory_blocks_and_then_refuses(cluster: ProduceCluster, topic: Topic) -> None:
    with Producer(
        cluster.bootstrap, buffer_memory=50_000, batch_size=10_000, max_block_ms=50
    ) as producer:
        producer.send("t", b"first").get(10)
        cluster.silent = True
        with pytest.raises(BufferExhaustedError, match="50000 bytes"):
            [producer.send("t", bytes(1000)) for _ in range(100)]
        with pytest.raises(BufferExhaustedError):
            producer.send_table("t", {"value": [bytes(1000)] * 30})
        with pytest.raises(MessageTooLargeError, match="buffer_memory"):
            producer.send("t", bytes(60_000))
        assert producer.metrics()["buffer_used_bytes"] <= 50_000
        cluster.release()
        producer.flush(10)
        assert producer.metrics()["buffer_used_bytes"] == 0
        producer.send_table("t", {"value": [bytes(1000)] * 300}).get(10)  # larger than the memory


def test_a_sender_that_waits_for_memory_goes_on_when_there_is_some(
    cluster: ProduceCluster, topic: Topic
) -> None:
    with Producer(cluster.bootstrap, buffer_memory=50_000, batch_size=10_000) as producer:
        futures = [producer.send("t", bytes(1000)) for _ in range(1000)]
        producer.flush(20)
        assert [future.get().offset for future in futures] == list(range(1000))


def test_an_unreachable_cluster_is_named(cluster: ProduceCluster) -> None:
    nobody = StaticBootstrap(BootstrapInfo("", "x", Endpoint("127.0.0.1", 1), b"s" * 32))
    with (
        Producer(nobody, max_block_ms=50) as producer,
        pytest.raises(ClusterUnreachableError, match="50 ms"),
    ):
        producer.send("t", b"v")


def test_a_stranger_is_refused(cluster: ProduceCluster, topic: Topic) -> None:
    info = cluster.bootstrap()
    stranger = StaticBootstrap(BootstrapInfo("", "x", info.controller, b"?" * 32))
    with Producer(stranger) as producer, pytest.raises(ClusterAuthorizationFailedError):
        producer.send("t", b"v")


def test_a_deleted_topic_fails_its_records(
    cluster: ProduceCluster, topic: Topic, producer: Producer
) -> None:
    producer.send("t", b"v").get(10)
    cluster.call(lambda: cluster.topics.pop("t"))
    cluster.change_topics()
    with pytest.raises(UnknownTopicOrPartitionError, match="does not exist any more"):
        producer.send("t", b"v").get(10)
    with pytest.raises(UnknownTopicOrPartitionError):
        producer.send("t", b"v")


def test_a_topic_created_anew_is_written_from_its_start(
    cluster: ProduceCluster, topic: Topic, producer: Producer
) -> None:
    send_batches(producer, 3)
    producer.flush(10)
    anew = cluster.create("t")
    futures = send_batches(producer, 3)
    producer.flush(10)
    assert [future.get()[0].offset for future in futures] == [0, 1, 2]
    assert cluster.records(anew) == expected(3)


def test_records_for_a_partition_that_is_gone_fail_alone(
    cluster: ProduceCluster, producer: Producer
) -> None:
    cluster.create("p", partitions=4)
    futures = [producer.send("p", b"%d" % i, partition=i % 4) for i in range(8)]
    many = [producer.send("p", b"%d" % i, partition=i % 4, headers={"a": "b"}) for i in range(8)]
    cluster.create("p", partitions=2)
    producer._metadata.refresh(["p"])
    producer.flush(10)
    for each in (futures, many):
        for i, future in enumerate(each):
            if i % 4 < 2:
                assert future.get().partition == i % 4
            else:
                with pytest.raises(UnknownTopicOrPartitionError):
                    future.get()


def test_a_newer_schema_is_taken_up_and_the_batch_encoded_again(cluster: ProduceCluster) -> None:
    topic = cluster.create("flights", schema=FLIGHTS)
    with Producer(cluster.bootstrap, retry_backoff_ms=1) as producer:
        producer.send("flights", {"carrier": "AA", "delay": 1}).get(10)
        topic.schemas.append(FLIGHTS.append(pa.field("origin", pa.string())))
        cluster.change_topics()
        producer.send("flights", {"carrier": "BB", "delay": 2}).get(10)
        producer.send_table("flights", {"carrier": ["CC"], "delay": [3]}).get(10)
    assert [header.schema_id for header in cluster.headers(topic)] == [0, 1, 1]
    assert [row["carrier"] for row in cluster.records(topic)] == ["AA", "BB", "CC"]


def test_a_topic_created_anew_with_another_schema_refuses_old_rows(
    cluster: ProduceCluster,
) -> None:
    cluster.create("flights", schema=FLIGHTS)
    with Producer(cluster.bootstrap, linger_ms=60_000, delivery_timeout_ms=120_000) as producer:
        row = producer.send("flights", {"carrier": "AA", "delay": 1})
        cluster.create("flights")
        producer._metadata.refresh(["flights"])
        with pytest.raises(InvalidRecordError, match="created anew"):
            row.get(10)


def test_an_interrupt_in_the_middle_does_not_harm_the_stream(
    cluster: ProduceCluster, topic: Topic, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    producer.send("t", b"0").get(10)
    transmitter = producer._sender._transmitter
    serve = transmitter.serve

    def interrupted(now_ms: int) -> None:
        serve(now_ms)
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(type(transmitter), "serve", lambda self, now_ms: interrupted(now_ms))
    future = producer.send("t", b"1")
    with pytest.raises(KeyboardInterrupt):
        future.get(10)
    assert future.get(10).offset == 1
    assert cluster.records(topic) == expected(2)


def test_a_bug_in_the_background_is_reported_to_every_future(
    cluster: ProduceCluster,
    topic: Topic,
    producer: Producer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    producer.send("t", b"0").get(10)
    transmitter = producer._sender._transmitter

    def broken(self: Any, now_ms: int) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(type(transmitter), "serve", broken)
    future = producer.send("t", b"1")
    wait_until(future.done)
    assert "a bug" in str(future.exception)
    assert "background thread failed" in caplog.text
    monkeypatch.undo()


def test_a_forked_child_gets_a_clear_error(producer: Producer) -> None:
    producer.send("t", b"v").get(10)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            producer.send("t", b"v")
        except IllegalStateError as error:
            os.write(write, str(error).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    assert b"forked" in os.read(read, 1000)
    os.close(read)
    assert producer.send("t", b"w").get(10).offset == 1


def test_done_futures_hold_no_records(cluster: ProduceCluster, producer: Producer) -> None:
    class Big(bytes):
        pass

    kept = producer.send("t", Big(1000))
    producer.flush(10)
    gc.collect()
    assert not [found for found in gc.get_objects() if isinstance(found, Big)]
    assert kept.get().offset == 0


def test_requests_carry_what_the_leader_checks(
    cluster: ProduceCluster, topic: Topic, producer: Producer
) -> None:
    cluster.move(topic.logs[0], 1)
    producer.send("t", b"v").get(10)
    request = cluster.produces[-1][0]
    assert request == ProduceRequest(topic.topic_id, 0, 1, acks=-1, timeout_ms=30_000)
