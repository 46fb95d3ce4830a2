"""Moved leaders, broken connections, damage and misuse: nothing skipped, nothing twice."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from raykafka.client.cluster.bootstrap import BootstrapInfo, StaticBootstrap
from raykafka.client.consumer import Consumer
from raykafka.config import ConsumerConfig
from raykafka.errors import (
    ClientClosedError,
    ClusterUnreachableError,
    CorruptMessageError,
    IllegalStateError,
    InvalidConfigError,
    InvalidRequestError,
    KafkaStorageError,
    LeaderNotAvailableError,
    LogDamagedError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    RequestTimedOutError,
    ServerBusyError,
    UnknownServerError,
    UnknownTopicOrPartitionError,
)
from raykafka.model import Endpoint, TopicPartition
from raykafka.testing.manual_clock import ManualClock
from tests.kits.scripted_cluster import ScriptedCluster, Topic

P0, P1 = TopicPartition("t", 0), TopicPartition("t", 1)


@pytest.fixture
def cluster() -> Iterator[ScriptedCluster]:
    with ScriptedCluster(leaders=2) as running:
        yield running


@pytest.fixture
def topic(cluster: ScriptedCluster) -> Topic:
    """Both partitions hold 0..9, one record a batch."""
    made = cluster.create("t", partitions=2)
    for partition in (0, 1):
        for number in range(10):
            cluster.append(made, [b"%d" % number], partition=partition)
    return made


def reader(cluster: ScriptedCluster, *partitions: TopicPartition, **settings: object) -> Consumer:
    consumer = Consumer(
        cluster.bootstrap,
        **{"auto_offset_reset": "earliest", "retry_backoff_ms": 1, **settings},
    )
    consumer.assign(partitions or [P0])
    return consumer


def offsets(consumer: Consumer, end: int, **poll: int) -> list[int]:
    """Offsets up to ``end`` of partition 0, in the order they come."""
    found: list[int] = []
    for _ in range(1000):
        if found and found[-1] >= end - 1:
            return found
        for records in consumer.poll(timeout_ms=100, **poll).values():
            found += [record.offset for record in records]
    raise AssertionError(f"only {found} came")


def test_a_moved_leader_is_followed(cluster: ScriptedCluster, topic: Topic) -> None:
    with reader(cluster) as consumer:
        assert offsets(consumer, 10) == list(range(10))
        cluster.move(topic.logs[0], 1)
        cluster.append(topic, [b"10"])
        assert offsets(consumer, 11) == [10]
        assert cluster.leaders[1].fetches[-1].partitions[0].leader_epoch == 1


def test_a_leader_that_moves_in_the_middle(cluster: ScriptedCluster, topic: Topic) -> None:
    with reader(cluster) as consumer:
        assert offsets(consumer, 3, max_records=1) == [0, 1, 2]
        cluster.move(topic.logs[0], 1)
        assert offsets(consumer, 10, max_records=1) == list(range(3, 10))


def test_a_fenced_epoch_on_the_same_leader(cluster: ScriptedCluster, topic: Topic) -> None:
    with reader(cluster) as consumer:
        assert offsets(consumer, 10) == list(range(10))
        cluster.move(topic.logs[0], 0)
        cluster.append(topic, [b"10"])
        assert offsets(consumer, 11) == [10]


def test_stale_metadata_are_refreshed(cluster: ScriptedCluster, topic: Topic) -> None:
    with reader(cluster) as consumer:
        assert consumer.partitions_for_topic("t") == {0, 1}
        cluster.move(topic.logs[0], 1)
        assert offsets(consumer, 10) == list(range(10))
        assert consumer.end_offsets([P0]) == {P0: 10}


@pytest.mark.parametrize("at", [0, 4, 10])
def test_a_restarted_leader(cluster: ScriptedCluster, topic: Topic, at: int) -> None:
    with reader(cluster) as consumer:
        before = offsets(consumer, at, max_records=1) if at else []
        cluster.restart_leader(0)
        cluster.append(topic, [b"10"])
        assert before + offsets(consumer, 11, max_records=1) == list(range(11))


def test_again_and_again(cluster: ScriptedCluster, topic: Topic) -> None:
    with reader(cluster, P0, P1) as consumer:
        seen: dict[TopicPartition, list[int]] = {P0: [], P1: []}
        for round_number in range(8):
            cluster.restart_leader(round_number % 2)
            if round_number % 3 == 0:
                cluster.move(topic.logs[0], (round_number + 1) % 2)
            for _ in range(3):
                for partition, records in consumer.poll(timeout_ms=20, max_records=1).items():
                    seen[partition] += [record.offset for record in records]
        while any(len(found) < 10 for found in seen.values()):
            for partition, records in consumer.poll(timeout_ms=1000).items():
                seen[partition] += [record.offset for record in records]
        assert seen == {P0: list(range(10)), P1: list(range(10))}


def test_one_leader_down_does_not_stop_the_other(cluster: ScriptedCluster, topic: Topic) -> None:
    cluster.stop_leader(0)
    with reader(cluster, P0, P1) as consumer:
        seen = []
        while len(seen) < 10:
            for records in consumer.poll(timeout_ms=1000).values():
                seen += [(record.partition, record.offset) for record in records]
        assert seen == [(1, i) for i in range(10)]
        with pytest.raises(LeaderNotAvailableError):
            consumer.end_offsets([P0], timeout_ms=30)
        with pytest.raises(RequestTimedOutError, match="t-0"):
            consumer.position(P0, timeout_ms=30)
        cluster.restart_leader(0)
        assert offsets(consumer, 10) == list(range(10))


@pytest.mark.parametrize(
    "error", [ServerBusyError("busy"), KafkaStorageError("disk"), UnknownServerError("a mistake")]
)
def test_passing_errors_are_waited_out(
    cluster: ScriptedCluster, topic: Topic, error: Exception
) -> None:
    log = topic.logs[0]
    with reader(cluster) as consumer:
        assert offsets(consumer, 3, max_records=1) == [0, 1, 2]
        consumer.seek(P0, 3)
        cluster.call(lambda: setattr(log, "error", error))
        assert consumer.poll(timeout_ms=50) == {}
        cluster.call(lambda: setattr(log, "error", None))
        assert offsets(consumer, 10) == list(range(3, 10))


def test_the_cluster_away_from_the_start(cluster: ScriptedCluster) -> None:
    nobody = StaticBootstrap(BootstrapInfo("", "", Endpoint("127.0.0.1", 1), b"s" * 32))
    with Consumer(nobody, request_timeout_ms=600, fetch_max_wait_ms=100) as consumer:
        consumer.assign([P0])
        for call in (consumer.poll, consumer.topics, lambda: consumer.end_offsets([P0])):
            with pytest.raises(ClusterUnreachableError):
                call()
    with Consumer(nobody, request_timeout_ms=60_000) as consumer:
        consumer.assign([P0])
        started = time.monotonic()
        for timed in (
            lambda: consumer.position(P0, timeout_ms=200),
            lambda: consumer.end_offsets([P0], timeout_ms=200),
            lambda: consumer.offsets_for_times({P0: 1}, timeout_ms=200),
        ):
            with pytest.raises(ClusterUnreachableError):
                timed()
        assert time.monotonic() - started < 10


def test_a_wrong_secret_is_not_tried_for_ever(cluster: ScriptedCluster, topic: Topic) -> None:
    info = cluster.bootstrap.info
    stranger = BootstrapInfo(info.cluster_id, "", info.controller, b"x" * 32)
    with Consumer(StaticBootstrap(stranger)) as consumer:
        consumer.assign([P0])
        with pytest.raises(Exception, match="secret"):
            consumer.poll(timeout_ms=1000)


# --- positions that do not hold ---------------------------------------------------------------


def test_out_of_range_follows_the_policy(cluster: ScriptedCluster, topic: Topic) -> None:
    def trim() -> None:
        topic.logs[0].start = 4
        del topic.logs[0].batches[:4]

    cluster.call(trim)
    with reader(cluster) as consumer:
        consumer.seek(P0, 1)
        assert offsets(consumer, 10) == list(range(4, 10))
    with reader(cluster, auto_offset_reset="latest") as consumer:
        consumer.seek(P0, 99)
        assert consumer.poll(timeout_ms=100) == {}
        assert consumer.position(P0) == 10
    with reader(cluster, auto_offset_reset="none") as consumer:
        with pytest.raises(NoOffsetForPartitionError, match="t-0"):
            consumer.poll(timeout_ms=1000)
        consumer.seek(P0, 1)
        for _ in range(2):
            with pytest.raises(OffsetOutOfRangeError, match="t-0 at offset 1"):
                consumer.poll(timeout_ms=1000)
        assert consumer.position(P0) == 1
        consumer.seek_to_beginning(P0)
        assert offsets(consumer, 10) == list(range(4, 10))


def test_a_topic_made_anew_is_another_topic(cluster: ScriptedCluster, topic: Topic) -> None:
    with reader(cluster) as consumer:
        assert offsets(consumer, 10) == list(range(10))
        again = cluster.create("t")
        for value in (b"x", b"y"):
            cluster.append(again, [value])
        cluster.restart_leader(0)
        assert offsets(consumer, 2) == [0, 1]


def test_unknown_topics_and_partitions(cluster: ScriptedCluster, topic: Topic) -> None:
    with reader(cluster, TopicPartition("nosuch", 0)) as consumer:
        for _ in range(2):
            with pytest.raises(UnknownTopicOrPartitionError, match="nosuch"):
                consumer.poll(timeout_ms=1000)
        consumer.assign([TopicPartition("t", 2)])
        with pytest.raises(UnknownTopicOrPartitionError, match="0 to 1, not 2"):
            consumer.poll(timeout_ms=1000)
        with pytest.raises(UnknownTopicOrPartitionError):
            consumer.end_offsets([TopicPartition("nosuch", 0)])
        consumer.assign([P0])
        assert offsets(consumer, 10) == list(range(10))


# --- damage -----------------------------------------------------------------------------------


def flip(at: int) -> Callable[[Sequence[Any]], Sequence[Any]]:
    def tamper(chunks: Sequence[Any]) -> Sequence[Any]:
        damaged = bytearray(b"".join(bytes(chunk) for chunk in chunks))
        if b"7" in bytes(damaged[-16:]):  # the batch with offset 7 only
            damaged[at] ^= 1
        return [damaged]

    return tamper


@pytest.mark.parametrize("at", [0, 120, 300, -1])
def test_a_flipped_bit_stops_at_its_batch(cluster: ScriptedCluster, topic: Topic, at: int) -> None:
    cluster.tamper = flip(at)
    with reader(cluster) as consumer:
        assert offsets(consumer, 7) == list(range(7))
        for _ in range(2):
            with pytest.raises(CorruptMessageError, match="t-0 at offset 7.*seek past it"):
                consumer.poll(timeout_ms=1000)
            assert consumer.position(P0) == 7
        consumer.seek(P0, 8)
        assert offsets(consumer, 10) == [8, 9]


def test_damage_in_one_partition_leaves_the_other(cluster: ScriptedCluster, topic: Topic) -> None:
    def tamper(chunks: Sequence[Any]) -> Sequence[Any]:
        return [b"\0" * len(chunks[0])] if bytes(chunks[0]) == damaged else chunks

    damaged = bytes(topic.logs[0].batches[0])
    cluster.tamper = tamper
    with reader(cluster, P0, P1) as consumer:
        seen = []
        failures = 0
        while len(seen) < 10:
            try:
                polled = consumer.poll(timeout_ms=1000, max_records=3)
            except CorruptMessageError:
                failures += 1
            else:
                seen += [r.offset for r in polled.get(P1, [])]
        assert seen == list(range(10))
        assert failures or consumer.position(P0) == 0


def test_crcs_are_checked_unless_told_otherwise(cluster: ScriptedCluster, topic: Topic) -> None:
    cluster.tamper = flip(-1)
    with reader(cluster, check_crcs=False) as consumer:
        assert offsets(consumer, 10) == list(range(10))


def test_another_partitions_batch_does_not_pass(cluster: ScriptedCluster, topic: Topic) -> None:
    other = bytes(topic.logs[1].batches[0])
    cluster.tamper = lambda chunks: [other]
    with reader(cluster) as consumer, pytest.raises(CorruptMessageError, match="t-0 at offset 0"):
        consumer.poll(timeout_ms=1000)


def test_an_answer_for_another_offset_does_not_pass(cluster: ScriptedCluster, topic: Topic) -> None:
    third = bytes(topic.logs[0].batches[3])
    cluster.tamper = lambda chunks: [third]
    with reader(cluster) as consumer, pytest.raises(CorruptMessageError, match="asked for offset"):
        consumer.poll(timeout_ms=1000)


def test_a_damaged_range_can_be_passed(cluster: ScriptedCluster, topic: Topic) -> None:
    log = topic.logs[0]
    with reader(cluster) as consumer:
        assert offsets(consumer, 4, max_records=1) == [0, 1, 2, 3]
        consumer.seek(P0, 4)
        error = LogDamagedError("offsets 4 to 6 are damaged; seek to 7")
        cluster.call(lambda: setattr(log, "error", error))
        with pytest.raises(LogDamagedError, match="t-0 at offset 4: .*seek to 7"):
            consumer.poll(timeout_ms=1000)
        assert consumer.position(P0) == 4
        cluster.call(lambda: setattr(log, "error", None))
        consumer.seek(P0, 7)
        assert offsets(consumer, 10) == [7, 8, 9]


def test_an_error_waits_until_everything_before_it_is_read(
    cluster: ScriptedCluster, topic: Topic
) -> None:
    cluster.tamper = flip(-1)
    with reader(cluster) as consumer:
        assert consumer.position(P0) == 0
        assert offsets(consumer, 7, max_records=2) == list(range(7))
        with pytest.raises(CorruptMessageError):
            consumer.poll(timeout_ms=1000, max_records=2)


def test_iteration_raises_at_the_same_place(cluster: ScriptedCluster, topic: Topic) -> None:
    cluster.tamper = flip(-1)
    with reader(cluster) as consumer:
        assert [next(consumer).offset for _ in range(7)] == list(range(7))
        with pytest.raises(CorruptMessageError, match="offset 7"):
            list(consumer)
        assert consumer.position(P0) == 7


# --- silence ----------------------------------------------------------------------------------


def test_a_silent_leader_is_given_up(cluster: ScriptedCluster, topic: Topic) -> None:
    clock = ManualClock()
    settings = {"auto_offset_reset": "earliest", "request_timeout_ms": 3000}
    with Consumer(cluster.bootstrap, clock=clock, **settings) as consumer:
        consumer.assign([P0])
        assert offsets(consumer, 10) == list(range(10))
        cluster.leaders[0].silent = True
        clock.advance(1000)
        consumer.poll()  # asks whether it is still there
        clock.advance(3000)
        consumer.poll()  # gives it up
        cluster.leaders[0].silent = False
        cluster.append(topic, [b"10"])
        clock.advance(1000)
        assert [record.offset for record in _next(consumer, clock)] == [10]
        assert consumer.metrics()["fetch_sessions_total"] == 2


def test_a_leader_that_was_replaced_without_a_word_is_left(
    cluster: ScriptedCluster, topic: Topic
) -> None:
    clock = ManualClock()
    with Consumer(cluster.bootstrap, clock=clock, auto_offset_reset="earliest") as consumer:
        consumer.assign([P0])
        assert offsets(consumer, 10) == list(range(10))
        cluster.leaders[0].silent = True
        cluster.move(topic.logs[0], 1)
        cluster.append(topic, [b"10"])
        clock.advance(1100)
        consumer.poll()  # asks whether it is still there
        clock.advance(600)
        consumer.poll()  # asks the controller
        assert [record.offset for record in _next(consumer, clock)] == [10]


def test_a_quiet_leader_is_kept(cluster: ScriptedCluster, topic: Topic) -> None:
    clock = ManualClock()
    settings = {"auto_offset_reset": "earliest", "request_timeout_ms": 3000}
    with Consumer(cluster.bootstrap, clock=clock, **settings) as consumer:
        consumer.assign([P0])
        assert offsets(consumer, 10) == list(range(10))
        for _ in range(10):
            clock.advance(1100)
            consumer.poll()
            consumer.end_offsets([P0])  # its answer stands behind the probe's
        assert consumer.metrics()["fetch_sessions_total"] == 1


def _next(consumer: Consumer, clock: ManualClock) -> Any:
    for _ in range(100_000):
        for records in consumer.poll().values():
            return records
        clock.advance(1)
    raise AssertionError("nothing came")


def test_metadata_are_refreshed_when_they_are_old(cluster: ScriptedCluster, topic: Topic) -> None:
    clock = ManualClock()
    with Consumer(cluster.bootstrap, clock=clock, auto_offset_reset="earliest") as consumer:
        consumer.assign([P0])
        assert offsets(consumer, 10) == list(range(10))
        before = cluster.metadata_requests
        clock.advance(300_001)
        for _ in range(100_000):
            consumer.poll()
            if cluster.metadata_requests > before:
                return
        raise AssertionError("nobody asked the controller")


# --- misuse -----------------------------------------------------------------------------------


def test_wakeup_ends_a_wait(cluster: ScriptedCluster, topic: Topic) -> None:
    with reader(cluster, auto_offset_reset="latest") as consumer:
        consumer.position(P0)
        timer = threading.Timer(0.05, consumer.wakeup)
        timer.start()
        assert consumer.poll(timeout_ms=20_000) == {}
        timer.join()
        consumer.wakeup()
        assert list(consumer) == []
        cluster.append(topic, [b"10"])
        assert offsets(consumer, 11) == [10]


def test_a_second_thread_is_refused(cluster: ScriptedCluster, topic: Topic) -> None:
    with reader(cluster, auto_offset_reset="latest") as consumer:
        consumer.position(P0)
        polling = threading.Thread(target=consumer.poll, args=(20_000,))
        polling.start()
        refused = None
        while refused is None and polling.is_alive():
            try:
                consumer.seek_to_end()
            except IllegalStateError as error:
                refused = error
        consumer.wakeup()
        polling.join()
        assert "another thread" in str(refused)
        consumer.seek_to_end()


def test_a_closed_consumer_says_so(cluster: ScriptedCluster, topic: Topic) -> None:
    consumer = reader(cluster)
    assert offsets(consumer, 10) == list(range(10))
    consumer.close()
    consumer.close()
    consumer.wakeup()
    for call in (
        consumer.poll,
        consumer.poll_table,
        consumer.topics,
        lambda: next(consumer),
        lambda: consumer.assign([P0]),
        lambda: consumer.seek(P0, 0),
        lambda: consumer.position(P0),
        lambda: consumer.end_offsets([P0]),
    ):
        with pytest.raises(ClientClosedError):
            call()


def test_closing_inside_of_iteration(cluster: ScriptedCluster, topic: Topic) -> None:
    consumer = reader(cluster)
    records = iter(consumer)
    assert next(records).offset == 0
    consumer.close()
    with pytest.raises(ClientClosedError):
        next(records)


def test_settings_are_checked(cluster: ScriptedCluster) -> None:
    with pytest.raises(InvalidConfigError, match="max_poll_records"):
        Consumer(cluster.bootstrap, max_pol_records=1)
    with pytest.raises(InvalidConfigError, match="earliest"):
        Consumer(cluster.bootstrap, auto_offset_reset="first")
    with pytest.raises(InvalidRequestError, match="not both"):
        Consumer(cluster.bootstrap, ConsumerConfig.parse(), client_id="x")
    with Consumer(cluster.bootstrap, ConsumerConfig.parse({"client.id": "x"})) as consumer:
        assert consumer.assignment() == set()
        assert consumer.poll(timeout_ms=1) == {}
