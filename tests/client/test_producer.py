"""What a producer does when nothing goes wrong: where records go, and what futures tell."""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pytest

from raykafka.client.partitioner import partition_for_key
from raykafka.client.producer import Producer
from raykafka.errors import (
    ClientClosedError,
    IllegalStateError,
    InvalidConfigError,
    InvalidRecordError,
    InvalidRequestError,
    InvalidTimestampError,
    MessageTooLargeError,
    SerializationError,
    UnknownTopicOrPartitionError,
)
from raykafka.model import RecordMetadata
from tests.kits.produce_cluster import ProduceCluster
from tests.kits.scripted_cluster import Log, Topic

FLIGHTS = pa.schema([pa.field("carrier", pa.string(), nullable=False), ("delay", pa.int32())])


def wait_until(condition: Callable[[], bool], timeout_s: float = 10) -> None:
    """Until a condition of another thread holds, which nothing announces."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.fixture
def cluster() -> Iterator[ProduceCluster]:
    with ProduceCluster(leaders=2) as running:
        yield running


@pytest.fixture
def topic(cluster: ProduceCluster) -> Topic:
    return cluster.create("t", partitions=4)


@pytest.fixture
def producer(cluster: ProduceCluster, topic: Topic) -> Iterator[Producer]:
    with Producer(cluster.bootstrap) as running:
        yield running


def test_one_record_and_where_it_went(
    cluster: ProduceCluster, topic: Topic, producer: Producer
) -> None:
    future = producer.send(
        "t", b"value", b"key", [("trace", b"1"), ("none", None)], partition=2, timestamp_ms=77
    )
    assert future.get(10) == RecordMetadata("t", 2, 0, 77)
    assert cluster.rows(topic.logs[2]) == [
        {
            "__timestamp": pa.scalar(77, pa.timestamp("ms")).as_py(),
            "__key": b"key",
            "__headers": [{"key": "trace", "value": b"1"}, {"key": "none", "value": None}],
            "value": b"value",
        }
    ]
    assert future.succeeded()
    assert future.is_done
    assert not future.failed()
    assert future.value == future.get()
    assert future.exception is None
    assert "RecordMetadata" in repr(future)


def test_the_time_of_send_is_the_timestamp(cluster: ProduceCluster, producer: Producer) -> None:
    before = producer._clock.now_ms()
    found = producer.send("t", b"v").get(10)
    assert before <= found.timestamp <= producer._clock.now_ms()


def test_log_append_time_is_reported(cluster: ProduceCluster, producer: Producer) -> None:
    cluster.append_time_ms = 123_456
    assert producer.send("t", b"v", timestamp_ms=5).get(10).timestamp == 123_456
    assert producer.send_table("t", {"value": [b"v"]}).get(10)[0].timestamp == 123_456


@pytest.mark.parametrize("count", [10, 500], ids=["few", "many"])
def test_keyed_records_go_where_kafka_sends_them(
    cluster: ProduceCluster, topic: Topic, producer: Producer, count: int
) -> None:
    futures = [producer.send("t", b"%d" % i, b"key-%d" % (i % 37)) for i in range(count)]
    producer.flush(10)
    for i, future in enumerate(futures):
        found = future.get()
        assert found.partition == partition_for_key(b"key-%d" % (i % 37), 4)
        row = cluster.rows(topic.logs[found.partition])[found.offset]
        assert (row["__key"], row["value"]) == (b"key-%d" % (i % 37), b"%d" % i)


@pytest.mark.parametrize("count", [9, 300], ids=["few", "many"])
def test_mixed_records_keep_their_own_offsets(
    cluster: ProduceCluster, topic: Topic, producer: Producer, count: int
) -> None:
    futures = []
    for i in range(count):
        value = None if i % 5 == 0 else b"%d" % i
        partition = 3 if i % 3 == 0 else None
        key = b"k%d" % i if i % 2 else None
        headers = {"n": str(i)} if count > 100 and i % 7 == 0 else None
        futures.append(producer.send("t", value, key, headers, partition, 1000 + i // 4))
    producer.flush(10)
    for i, future in enumerate(futures):
        found = future.get()
        row = cluster.rows(topic.logs[found.partition])[found.offset]
        assert row["value"] == (None if i % 5 == 0 else b"%d" % i)
        assert found.timestamp == 1000 + i // 4
        if i % 3 == 0:
            assert found.partition == 3


def test_keyless_records_stay_together_and_spread_over_time(
    cluster: ProduceCluster, topic: Topic, producer: Producer
) -> None:
    seen = set()
    for _ in range(40):
        chunk = [producer.send("t", bytes(1000)) for _ in range(20)]
        producer.flush(10)
        assert len({future.get().partition for future in chunk}) == 1
        seen.add(chunk[0].get().partition)
    assert seen == {0, 1, 2, 3}


def test_keyless_records_avoid_a_partition_without_leader(
    cluster: ProduceCluster, topic: Topic, producer: Producer
) -> None:
    cluster.move(topic.logs[0], -1)
    for _ in range(30):
        assert producer.send("t", bytes(20_000)).get(10).partition != 0


def test_batches_are_numbered_per_partition(
    cluster: ProduceCluster, topic: Topic, producer: Producer
) -> None:
    for size in (3, 1, 70):
        for i in range(size):
            producer.send("t", b"%d" % i, partition=1)
        producer.flush(10)
    headers = cluster.headers(topic, 1)
    assert [h.base_sequence for h in headers] == [0, 3, 4]
    assert {(h.producer_id, h.producer_epoch) for h in headers} == {(1000, 0)}


def test_acks_none_and_one(cluster: ProduceCluster, topic: Topic) -> None:
    with Producer(cluster.bootstrap, acks=0) as quick:
        first = quick.send("t", b"a", partition=0, timestamp_ms=5)
        assert first.get(10) == RecordMetadata("t", 0, -1, 5)
        quick.send("t", b"b", partition=0)
        quick.flush(10)
    with Producer(cluster.bootstrap, acks=1) as careless:
        assert careless.send("t", b"c", partition=0).get(10).offset == 2
    assert cluster.records(topic, 0) == [b"a", b"b", b"c"]
    assert {header.producer_id for header in cluster.headers(topic)} == {-1}
    assert {request.acks for request, _ in cluster.produces} == {0, 1}


def test_serializers_and_text(cluster: ProduceCluster, topic: Topic) -> None:
    class Upper:
        def serialize(self, topic: str, value: str) -> bytes:
            return f"{topic}:{value.upper()}".encode()

    with Producer(
        cluster.bootstrap, value_serializer=Upper(), key_serializer=lambda key: b"%d" % key
    ) as producer:
        producer.send("t", "v", 7, partition=0).get(10)
    with Producer(cluster.bootstrap) as producer:
        producer.send("t", "größe", "k", partition=0)
        producer.send("t", bytearray(b"array"), memoryview(b"view"), partition=0)
    rows = cluster.rows(topic.logs[0])
    assert [(row["__key"], row["value"]) for row in rows] == [
        (b"7", b"t:V"),
        (b"k", "größe".encode()),
        (b"view", b"array"),
    ]


def test_a_partitioner_of_ones_own(cluster: ProduceCluster, topic: Topic) -> None:
    def last(topic: str, key: bytes | None, count: int) -> int:
        return count - 1 if key is None else len(key)

    with Producer(cluster.bootstrap, partitioner=last) as producer:
        assert producer.send("t", b"v").get(10).partition == 3
        assert producer.send("t", b"v", b"k").get(10).partition == 1
        found = producer.send_table("t", {"value": [b"1", b"2"], "k": ["", "aa"]}, key="k").get(10)
        assert [place.partition for place in found] == [0, 2]
        with pytest.raises(UnknownTopicOrPartitionError, match="0 to 3"):
            producer.send("t", b"v", b"too long")


def test_callbacks_run_in_order_with_results_and_errors(
    cluster: ProduceCluster, producer: Producer
) -> None:
    seen: list[Any] = []
    for i in range(200):
        future = producer.send("t", b"%d" % i, partition=0)
        future.add_callback(
            lambda prefix, found, end: seen.append((prefix, found.offset, end)), i, end="x"
        )
        future.add_errback(seen.append)
    producer.flush(10)
    assert seen == [(i, i, "x") for i in range(200)]
    late: list[Any] = []
    future.add_callback(late.append).add_both(late.append)
    assert late == [future.value, future.value]


def test_a_callback_that_fails_or_waits_does_no_harm(
    cluster: ProduceCluster, producer: Producer, caplog: pytest.LogCaptureFixture
) -> None:
    nested: list[int] = []

    def send_more(_: Any) -> None:
        nested.append(producer.send("t", b"inner", partition=1).get(10).offset)

    def fail(_: Any) -> None:
        raise ValueError("my own fault")

    producer.send("t", b"1", partition=0).add_callback(fail)
    producer.send("t", b"2", partition=0).add_callback(send_more)
    producer.send("t", b"3", partition=0).add_callback(send_more)
    producer.flush(10)
    assert nested == [0, 1]
    assert "my own fault" in caplog.text


def test_records_that_nobody_waits_for_arrive_by_themselves(
    cluster: ProduceCluster, topic: Topic, producer: Producer
) -> None:
    done = threading.Event()
    producer.send("t", b"v", partition=0).add_callback(lambda _: done.set())
    assert done.wait(10)
    done.clear()
    wait_until(lambda: producer._sender._asleep)  # until it is called, then
    producer.send("t", b"w", partition=0).add_callback(lambda _: done.set())
    assert done.wait(10)
    assert cluster.records(topic, 0) == [b"v", b"w"]


def test_linger_gathers_and_zero_linger_does_not_wait(
    cluster: ProduceCluster, topic: Topic
) -> None:
    with Producer(cluster.bootstrap, linger_ms=60_000, delivery_timeout_ms=120_000) as patient:
        futures = [patient.send("t", b"v", partition=0) for _ in range(50)]
        assert not any(future.done() for future in futures)
        futures[0].get(10)
        assert all(future.done() for future in futures)
    assert len(cluster.headers(topic)) == 1
    done = threading.Event()
    with Producer(cluster.bootstrap, linger_ms=0) as hasty:
        hasty.send("t", b"v", partition=0).add_callback(lambda _: done.set())
        assert done.wait(10)


def test_get_gives_up_when_told_to(cluster: ProduceCluster, producer: Producer) -> None:
    cluster.silent = True
    future = producer.send("t", b"v")
    with pytest.raises(TimeoutError, match="0.05 s"):
        future.get(0.05)
    with pytest.raises(TimeoutError):
        producer.flush(0.05)
    assert future.value is None
    assert not future.succeeded()
    assert "pending" in repr(future)
    cluster.release()
    assert future.get(10).offset == 0


def test_many_threads_share_a_producer(
    cluster: ProduceCluster, topic: Topic, producer: Producer
) -> None:
    def work(number: int) -> None:
        for i in range(100):
            future = producer.send("t", b"%d:%d" % (number, i), b"%d" % number)
            if i % 3 == 0:
                future.get(10)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    producer.flush(10)
    for number in range(6):
        mine = [v for v in cluster.records(topic) if v.startswith(b"%d:" % number)]
        assert mine == [b"%d:%d" % (number, i) for i in range(100)]


def test_typed_topic_takes_mappings_dataclasses_and_named_tuples(cluster: ProduceCluster) -> None:
    @dataclass
    class Flight:
        carrier: str
        delay: int

    topic = cluster.create("flights", schema=FLIGHTS, key_column="carrier", partitions=3)
    with Producer(cluster.bootstrap) as producer:
        row = {"carrier": "AA", "delay": 5}
        futures = [producer.send("flights", row)]
        row["delay"] = 6
        futures.append(producer.send("flights", row))
        futures.append(producer.send("flights", Flight("BB", 7)))
        futures.append(producer.send("flights", {"carrier": "CC"}))
        producer.flush(10)
    for future, expected in zip(
        futures, [("AA", 5), ("AA", 6), ("BB", 7), ("CC", None)], strict=True
    ):
        found = future.get()
        assert found.partition == partition_for_key(expected[0].encode(), 3)
        stored = cluster.rows(topic.logs[found.partition])[found.offset]
        assert (stored["carrier"], stored["delay"]) == expected
        assert stored["__key"] is None


def test_typed_rows_that_do_not_fit_fail_alone(cluster: ProduceCluster) -> None:
    topic = cluster.create("flights", schema=FLIGHTS)
    with Producer(cluster.bootstrap) as producer:
        good = producer.send("flights", {"carrier": "AA", "delay": 1})
        bad = producer.send("flights", {"carrier": "AA", "delay": "late"})
        null = producer.send("flights", {"carrier": None, "delay": 1})
        after = producer.send("flights", {"carrier": "BB", "delay": 2})
        with pytest.raises(InvalidRecordError, match=r"'delay' has type int32.*'late' of type str"):
            bad.get(10)
        with pytest.raises(InvalidRecordError, match="'carrier'.*does not accept nulls"):
            null.get(10)
        assert (good.get(10).offset, after.get(10).offset) == (0, 1)
        with pytest.raises(InvalidRecordError, match="'dealy' is not in the schema"):
            producer.send("flights", {"carrier": "AA", "dealy": 1})
        with pytest.raises(InvalidRecordError, match="'carrier'.*is missing"):
            producer.send("flights", {"delay": 1})
        with pytest.raises(InvalidRecordError, match="has a schema"):
            producer.send("flights", b"bytes")
        only_bad = producer.send("flights", {"carrier": "AA", "delay": 1.5})
        with pytest.raises(InvalidRecordError):
            only_bad.get(10)
    assert [row["carrier"] for row in cluster.records(topic)] == ["AA", "BB"]


def test_a_column_added_meanwhile_is_found(cluster: ProduceCluster) -> None:
    topic = cluster.create("flights", schema=FLIGHTS)
    with Producer(cluster.bootstrap) as producer:
        producer.send("flights", {"carrier": "AA", "delay": 1}).get(10)
        topic.schemas.append(FLIGHTS.append(pa.field("origin", pa.string())))
        cluster.change_topics()
        producer.send("flights", {"carrier": "BB", "delay": 2, "origin": "JFK"}).get(10)
    assert [row.get("origin") for row in cluster.records(topic)] == [None, "JFK"]


def test_bad_records_are_refused_by_send(cluster: ProduceCluster, producer: Producer) -> None:
    with pytest.raises(UnknownTopicOrPartitionError, match="'nowhere' does not exist"):
        producer.send("nowhere", b"v")
    with pytest.raises(UnknownTopicOrPartitionError, match="0 to 3, not 4"):
        producer.send("t", b"v", partition=4)
    with pytest.raises(UnknownTopicOrPartitionError):
        producer.send("t", b"v", partition=-1)
    with pytest.raises(SerializationError, match="value_serializer"):
        producer.send("t", {"a": 1})
    with pytest.raises(SerializationError, match="key_serializer"):
        producer.send("t", b"v", key=1.5)
    with pytest.raises(SerializationError, match="headers"):
        producer.send("t", b"v", headers=[b"x"])
    for stamp in (-1, 1 << 63, 1.5):
        with pytest.raises(InvalidTimestampError, match="milliseconds"):
            producer.send("t", b"v", timestamp_ms=stamp)  # type: ignore[arg-type]
    for text in ({"value": "\ud800"}, {"key": "\ud800"}, {"headers": {"h": "\ud800"}}):
        with pytest.raises(SerializationError, match="UTF-8"):
            producer.send("t", **text)
    with pytest.raises(InvalidRequestError, match="UTF-8"):
        producer.send("\ud800", b"v")
    with pytest.raises(MessageTooLargeError, match="max_request_size"):
        producer.send("t", bytes(9 << 20))
    assert producer.send("t", b"v", timestamp_ms=(1 << 63) - 1).get(10).offset == 0
    assert producer.metrics()["buffer_used_bytes"] == 0


def test_a_serializer_that_fails_is_named(cluster: ProduceCluster, topic: Topic) -> None:
    with (
        Producer(cluster.bootstrap, value_serializer=lambda value: value + 1) as producer,
        pytest.raises(SerializationError, match="value_serializer failed"),
    ):
        producer.send("t", "text")


def test_settings_are_checked(cluster: ProduceCluster) -> None:
    with pytest.raises(InvalidConfigError, match="linger"):
        Producer(cluster.bootstrap, linger_mss=1)


def test_a_closed_producer_says_so(cluster: ProduceCluster, topic: Topic) -> None:
    producer = Producer(cluster.bootstrap)
    future = producer.send("t", b"v")
    producer.close()
    producer.close()
    assert future.get(0).offset == 0
    for call in (
        lambda: producer.send("t", b"v"),
        lambda: producer.send_table("t", {"value": [b"v"]}),
        producer.flush,
        lambda: producer.partitions_for("t"),
    ):
        with pytest.raises(ClientClosedError):
            call()


def test_close_fails_what_cannot_be_delivered(cluster: ProduceCluster, topic: Topic) -> None:
    producer = Producer(cluster.bootstrap)
    cluster.silent = True
    futures = [producer.send("t", b"v") for _ in range(3)]
    errors: list[Exception] = []
    futures[0].add_errback(errors.append)
    producer.close(0.05)
    for future in futures:
        with pytest.raises(ClientClosedError):
            future.get(0)
    assert len(errors) == 1


def test_a_producer_is_not_pickled(producer: Producer) -> None:
    with pytest.raises(IllegalStateError, match="TopicHandle"):
        pickle.dumps(producer)


def test_metrics_and_partitions(cluster: ProduceCluster, producer: Producer) -> None:
    assert producer.partitions_for("t") == {0, 1, 2, 3}
    for _ in range(10):
        producer.send("t", b"v", partition=1)
    producer.flush(10)
    found = producer.metrics()
    assert found["records_sent"] == 10
    assert found["batches_sent"] == 1
    assert found["bytes_sent"] == cluster.headers(cluster.topics["t"], 1)[0].size
    assert found["records_failed"] == found["batches_in_flight"] == found["buffer_used_bytes"] == 0


def test_compression_is_the_topics_or_the_producers(cluster: ProduceCluster, topic: Topic) -> None:
    for of_topic in ("producer", "lz4", "none"):
        cluster.compression = of_topic
        cluster.change_topics()
        with Producer(cluster.bootstrap, compression_type="zstd") as producer:
            producer.send("t", bytes(1000), partition=0).get(10)
    used = [header.compression.value for header in cluster.headers(topic)]
    assert used == ["zstd", "lz4", "none"]
    assert cluster.records(topic, 0) == [bytes(1000)] * 3


def test_old_metadata_are_asked_for_again_in_the_background(
    cluster: ProduceCluster, topic: Topic
) -> None:
    with Producer(cluster.bootstrap, metadata_max_age_ms=1) as producer:
        producer.send("t", b"v").get(10)
        asked = cluster.metadata_requests

        def asked_again() -> bool:
            producer.send("t", b"v").get(10)
            return cluster.metadata_requests > asked

        wait_until(asked_again)


def test_partitions_added_later_are_found(
    cluster: ProduceCluster, topic: Topic, producer: Producer
) -> None:
    producer.send("t", b"v", partition=3).get(10)
    topic.logs.append(Log(topic.logs[0].identity._replace(partition=4), 0))
    cluster.change_topics()
    assert producer.send("t", b"v", partition=4).get(10).partition == 4
