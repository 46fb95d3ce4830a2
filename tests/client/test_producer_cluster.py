"""The producer against a real cluster in this process, whose actors are killed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from raykafka.client.admin import Admin, NewTopic
from raykafka.client.consumer import Consumer
from raykafka.client.producer import Producer
from raykafka.model import TopicPartition
from raykafka.testing.local_cluster import LocalCluster


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    with LocalCluster(tmp_path / "data") as running:
        yield running


def create(cluster: LocalCluster, name: str, partitions: int, **options: Any) -> None:
    with Admin(cluster.bootstrap) as admin:
        admin.create_topics([NewTopic(name, partitions, **options)])


def read_all(cluster: LocalCluster, name: str, partitions: int, count: int) -> list[list[bytes]]:
    """Values of each partition in order; waits until there are ``count`` in all."""
    found: list[list[bytes]] = [[] for _ in range(partitions)]
    with Consumer(cluster.bootstrap, auto_offset_reset="earliest") as consumer:
        consumer.assign([TopicPartition(name, number) for number in range(partitions)])
        deadline = time.monotonic() + 30
        while sum(map(len, found)) < count:
            assert time.monotonic() < deadline
            for place, records in consumer.poll(timeout_ms=500).items():
                found[place.partition].extend(record.value for record in records)
    return found


def check(found: list[list[bytes]], futures: dict[bytes, Any], writers: int, each: int) -> None:
    """Every acknowledged record once, where its future says, in the order of its writer."""
    every = [value for values in found for value in values]
    assert len(every) == len(set(every)) == writers * each
    for value, future in futures.items():
        place = future.get(0)
        assert found[place.partition][place.offset] == value
    for values in found:
        for writer in range(writers):
            mine = [int(v.partition(b":")[2]) for v in values if v.startswith(b"%d:" % writer)]
            assert mine == sorted(mine)


@pytest.mark.parametrize("victim", ["partition actors", "controller", "everything"])
def test_nothing_is_lost_or_doubled_when_actors_are_killed(
    cluster: LocalCluster, victim: str
) -> None:
    partitions, writers, each = 3, 2, 3000
    create(cluster, "t", partitions)
    futures: dict[bytes, Any] = {}

    with Producer(cluster.bootstrap, linger_ms=1) as producer:
        producer.partitions_for("t")

        def write(writer: int) -> None:
            for i in range(each):
                value = b"%d:%d" % (writer, i)
                futures[value] = producer.send("t", value, b"%d" % (i % 10))
                if i % 20 == 0:
                    futures[value].get(30)

        threads = [threading.Thread(target=write, args=(number,)) for number in range(writers)]
        for thread in threads:
            thread.start()
        for _ in range(3):
            goal = len(futures) + 300
            while len(futures) < goal and any(thread.is_alive() for thread in threads):
                time.sleep(0.005)
            if victim == "partition actors":
                for slot in cluster.partition_actor_slots():
                    cluster.kill_partition_actor(slot)
            elif victim == "controller":
                cluster.kill_controller()
            else:
                cluster.kill_all()
        for thread in threads:
            thread.join(60)
        producer.flush(30)
        if victim != "controller":
            assert producer.metrics()["retries"]
    check(read_all(cluster, "t", partitions, writers * each), futures, writers, each)


def test_tables_survive_kills_too(cluster: LocalCluster) -> None:
    schema = pa.schema([("key", pa.string()), ("number", pa.int64())])
    create(cluster, "t", 4, schema=schema, topic_configs={"key.column": "key"})
    with Producer(cluster.bootstrap) as producer:
        futures = []
        for first in range(0, 20_000, 500):
            table = pa.table(
                {"key": [f"k{i % 7}" for i in range(500)], "number": range(first, first + 500)}
            )
            futures.append(producer.send_table("t", table))
            if first % 5000 == 0:
                for slot in cluster.partition_actor_slots()[:1]:
                    cluster.kill_partition_actor(slot)
        producer.flush(60)
        assert all(future.succeeded() for future in futures)
    numbers: dict[int, list[int]] = {}
    with Consumer(cluster.bootstrap, auto_offset_reset="earliest") as consumer:
        consumer.assign([TopicPartition("t", number) for number in range(4)])
        while sum(map(len, numbers.values())) < 20_000:
            for place, records in consumer.poll(timeout_ms=1000, max_records=10_000).items():
                numbers.setdefault(place.partition, []).extend(r.value["number"] for r in records)
    assert sorted(n for each in numbers.values() for n in each) == list(range(20_000))
    assert all(each == sorted(each) for each in numbers.values())


def test_stop_and_start_in_the_middle(cluster: LocalCluster) -> None:
    create(cluster, "t", 2)
    with Producer(cluster.bootstrap) as producer:
        first = [producer.send("t", b"a%d" % i, partition=0) for i in range(100)]
        producer.flush(10)
        cluster.restart()
        second = [producer.send("t", b"b%d" % i, partition=0) for i in range(100)]
        producer.flush(30)
    assert [future.get().offset for future in first + second] == list(range(200))
    found = read_all(cluster, "t", 2, 200)
    assert found[0] == [b"a%d" % i for i in range(100)] + [b"b%d" % i for i in range(100)]


def test_synchronous_writers_in_several_threads(cluster: LocalCluster) -> None:
    create(cluster, "t", 1)
    offsets: list[int] = []
    with Producer(cluster.bootstrap) as producer:

        def write(number: int) -> None:
            offsets.extend(
                producer.send("t", b"%d:%d" % (number, i)).get(10).offset for i in range(200)
            )

        threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert sorted(offsets) == list(range(800))


@pytest.mark.parametrize("acks", [0, 1])
def test_weaker_acknowledgements(cluster: LocalCluster, acks: int) -> None:
    create(cluster, "t", 1)
    with Producer(cluster.bootstrap, acks=acks) as producer:
        for i in range(500):
            producer.send("t", b"%d" % i)
    assert read_all(cluster, "t", 1, 500) == [[b"%d" % i for i in range(500)]]


def test_log_append_time_and_fsync(cluster: LocalCluster) -> None:
    configs = {"message.timestamp.type": "LogAppendTime", "fsync": "batch"}
    create(cluster, "t", 1, topic_configs=configs)
    with Producer(cluster.bootstrap) as producer:
        futures = [producer.send("t", b"v", timestamp_ms=1) for _ in range(100)]
        producer.flush(10)
    assert min(future.get().timestamp for future in futures) > 1_000_000


def test_many_partitions_at_once(cluster: LocalCluster) -> None:
    create(cluster, "many", 300)
    with Producer(cluster.bootstrap) as producer:
        futures = [producer.send("many", b"v", partition=number) for number in range(300)]
        producer.flush(60)
        assert {future.get().partition for future in futures} == set(range(300))
        assert all(future.get().offset == 0 for future in futures)


def test_a_callback_hears_of_an_acknowledgement_when_it_comes(cluster: LocalCluster) -> None:
    """Not when the records behind it have lingered: nobody else does any I/O here."""
    create(cluster, "prompt", 1)
    with Producer(cluster.bootstrap, linger_ms=60_000, batch_size=100) as producer:
        heard = threading.Event()
        first = producer.send("prompt", bytes(70)).add_callback(lambda _: heard.set())
        producer.send("prompt", bytes(70))  # for which there is no room beside it: it is sent
        assert heard.wait(10)
        assert first.get(0).offset == 0
