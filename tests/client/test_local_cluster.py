"""The test kit's cluster: the real shells without Ray, killed and restarted under load."""

from __future__ import annotations

import pickle
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from raykafka.cli.main import app
from raykafka.client.admin import Admin, NewTopic
from raykafka.client.consumer import Consumer
from raykafka.client.producer import Producer
from raykafka.errors import (
    DeliveryTimeoutError,
    IllegalStateError,
    LogDirLockedError,
    RaykafkaError,
)
from raykafka.model import RecordMetadata, TopicPartition
from raykafka.testing.local_cluster import LocalCluster

PARTITIONS = 4


def wait_until(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.005)


def create(cluster: LocalCluster, topic: str = "t", partitions: int = PARTITIONS) -> None:
    with Admin(cluster.bootstrap) as admin:
        admin.create_topics([NewTopic(topic, num_partitions=partitions)])


def read_all(cluster: LocalCluster, topic: str = "t") -> dict[int, list[int]]:
    places = [TopicPartition(topic, number) for number in range(PARTITIONS)]
    values: dict[int, list[int]] = {number: [] for number in range(PARTITIONS)}
    with Consumer(cluster.bootstrap, auto_offset_reset="earliest") as consumer:
        consumer.assign(places)
        ends = consumer.end_offsets(places)
        consumer.seek_to_beginning(*places)
        while any(consumer.position(place) < ends[place] for place in places):
            for place, records in consumer.poll(timeout_ms=30_000).items():
                values[place.partition] += [int(record.value) for record in records]
    return values


class Load:
    """Sends numbers until it is told to stop; remembers where each was acknowledged."""

    def __init__(self, cluster: LocalCluster) -> None:
        self._producer = Producer(cluster.bootstrap, linger_ms=1)
        self._stop = threading.Event()
        self.acknowledged: dict[tuple[int, int], int] = {}
        self.failures: list[BaseException] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        number = 0
        while not self._stop.is_set():
            place = number % PARTITIONS
            future = self._producer.send("t", b"%d" % number, partition=place)
            future.add_callback(self._note, number)
            future.add_errback(self.failures.append)
            number += 1
            if number % 100 == 0:
                self._stop.wait(0.005)

    def _note(self, number: int, metadata: RecordMetadata) -> None:
        self.acknowledged[metadata.partition, metadata.offset] = number

    def wait_for_more(self, count: int = 300) -> None:
        target = len(self.acknowledged) + count
        wait_until(lambda: len(self.acknowledged) >= target or bool(self.failures))

    def finish(self) -> None:
        self._stop.set()
        self._thread.join()
        self._producer.flush()
        self._producer.close()

    def check(self, values: dict[int, list[int]]) -> None:
        assert not self.failures, self.failures[:3]
        for (place, offset), number in self.acknowledged.items():
            assert values[place][offset] == number
        for numbers in values.values():
            assert numbers == sorted(set(numbers))


def test_nothing_acknowledged_is_lost_whatever_is_killed(tmp_path: Path) -> None:
    with LocalCluster(tmp_path) as cluster:
        create(cluster)
        load = Load(cluster)
        try:
            for step in range(3):
                load.wait_for_more()
                wait_until(lambda: len(cluster.partition_actor_slots()) == 2)
                cluster.kill_partition_actor(step % 2)
                load.wait_for_more()
                cluster.kill_controller()
                load.wait_for_more()
                cluster.kill_broker()
            load.wait_for_more()
            cluster.kill_all()
            load.wait_for_more()
        finally:
            load.finish()
        load.check(read_all(cluster))


def test_a_crash_and_a_restart_keep_everything(tmp_path: Path) -> None:
    cluster = LocalCluster(tmp_path)
    cluster.start()
    create(cluster)
    with Producer(cluster.bootstrap) as producer:
        for number in range(100):
            producer.send("t", b"%d" % number, partition=number % PARTITIONS).get(30)
    cluster.crash()
    with pytest.raises(IllegalStateError):
        cluster.kill_broker()
    cluster.start()
    cluster.restart()
    values = read_all(cluster)
    assert values == {p: list(range(p, 100, PARTITIONS)) for p in range(PARTITIONS)}
    cluster.stop()
    cluster.stop()


def test_a_partition_whose_directory_is_gone_says_so(tmp_path: Path) -> None:
    with LocalCluster(tmp_path) as cluster:
        create(cluster, partitions=1)
        create(cluster, "u", partitions=1)
        with Producer(cluster.bootstrap) as producer:
            producer.send("t", b"1").get(30)
            producer.send("u", b"1").get(30)
        cluster.stop()
        (directory,) = tmp_path.glob("*/t-0")
        shutil.rmtree(directory)
        cluster.start()
        with Producer(
            cluster.bootstrap, delivery_timeout_ms=2000, request_timeout_ms=1000
        ) as producer:
            assert producer.send("u", b"2").get(30).offset == 1
            with pytest.raises(DeliveryTimeoutError, match="Restore it, or delete the topic"):
                producer.send("t", b"2").get(30)
        told = CliRunner().invoke(app, ["topic", "describe", "t", "--name", str(tmp_path)])
        assert "Restore it, or delete the topic" in told.stdout
        with Admin(cluster.bootstrap) as admin:
            admin.delete_topics(["t"])
        create(cluster, partitions=1)
        with Producer(cluster.bootstrap) as producer:
            assert producer.send("t", b"1").get(30).offset == 0


def test_its_bootstrap_pickles_and_follows_the_controller(tmp_path: Path) -> None:
    with LocalCluster(tmp_path) as cluster:
        bootstrap = pickle.loads(pickle.dumps(cluster.bootstrap))
        before = bootstrap()
        cluster.kill_controller()
        assert bootstrap().cluster_id == before.cluster_id
        with Admin(bootstrap) as admin:
            assert admin.describe_cluster().controller_epoch == 2


def test_bad_settings_and_a_directory_in_use_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RaykafkaError, match="nonsense"):
        LocalCluster(tmp_path, configs={"nonsense": "1"}).start()
    with LocalCluster(tmp_path), pytest.raises(LogDirLockedError):
        LocalCluster(tmp_path, lock_timeout_s=0.1).start()
