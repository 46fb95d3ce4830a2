"""SIGKILL of any process at any moment: nothing acknowledged is lost, doubled or out of order."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ray
from ray_cluster import actor_names, read_all

import raykafka
from raykafka.actors.handles import find
from raykafka.errors import LogDirLockedError, RaykafkaError
from raykafka.protocol.messages import ActorInfo
from raykafka.runtime import Cluster

PARTITIONS = 4
TOPIC = "load"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    configs = {
        "partition.actors": "2",
        "broker.heartbeat.interval.ms": "200",
        "broker.session.timeout.ms": "3000",
    }
    with raykafka.start("kills", data_dir=tmp_path, configs=configs) as started:
        started.topic(TOPIC, create=True, num_partitions=PARTITIONS)
        yield started


class Load:
    """A producer that never stops, and what it was told is in the log."""

    def __init__(self, cluster: Cluster) -> None:
        self._producer = cluster.producer(linger_ms=1, delivery_timeout_ms=90_000)
        self._stop = threading.Event()
        self.acknowledged: dict[int, dict[int, int]] = {n: {} for n in range(PARTITIONS)}
        self.failures: list[BaseException] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    @property
    def count(self) -> int:
        return sum(map(len, self.acknowledged.values()))

    def _run(self) -> None:
        for number in itertools.count():
            if self._stop.is_set():
                return
            place = number % PARTITIONS
            future = self._producer.send(TOPIC, b"%d" % number, partition=place)
            future.add_callback(self._note, place, number)
            future.add_errback(self.failures.append)
            if number % 200 == 199:
                self._stop.wait(0.01)

    def _note(self, place: int, number: int, metadata: raykafka.RecordMetadata) -> None:
        self.acknowledged[place][metadata.offset] = number

    def wait_for_more(self, records: int = 200) -> None:
        """Return when that many more have been acknowledged."""
        target = self.count + records
        wait_until(lambda: self.count >= target or bool(self.failures))

    def finish(self) -> None:
        self._stop.set()
        self._thread.join()
        self._producer.flush(90)
        self._producer.close()


def wait_until(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the cluster did not come back"
        time.sleep(0.01)


def actors(cluster: Cluster, role: str) -> list[ActorInfo]:
    found = [actor for actor in cluster.status().actors if actor.role == role]
    return [actor for actor in found if actor.state == "alive"]


def kill(actor: ActorInfo) -> None:
    try:
        os.kill(actor.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def is_whole(cluster: Cluster) -> bool:
    try:
        status = cluster.status()
    except RaykafkaError:
        return False
    living = all(actor.state == "alive" for actor in status.actors)
    return living and len(status.actors) == 4 and status.offline_partitions == 0


def check_log(cluster: Cluster, load: Load) -> None:
    assert not load.failures, load.failures[:3]
    assert load.count > 1000
    values = read_all(cluster, TOPIC, PARTITIONS)
    for place, acknowledged in load.acknowledged.items():
        numbers = [int(value) for value in values[place]]
        lost = [n for offset, n in acknowledged.items() if numbers[offset : offset + 1] != [n]]
        assert not lost, f"{len(lost)} acknowledged records of partition {place} are not there"
        assert numbers == sorted(set(numbers)), f"partition {place} has doubles or changed order"


def epochs(cluster: Cluster) -> list[int]:
    with cluster.admin() as admin:
        topic = admin.describe_topics([TOPIC])[0]
    return [partition.leader_epoch for partition in topic.partitions]


@pytest.mark.parametrize("seed", [1])
def test_random_kills_under_load(cluster: Cluster, seed: int) -> None:
    chance = random.Random(seed)
    before = epochs(cluster)
    load = Load(cluster)
    try:
        for role in ("partition", "controller", "partition", "broker", "partition", "controller"):
            load.wait_for_more(chance.randrange(1, 400))
            wait_until(lambda role=role: bool(actors(cluster, role)))  # type: ignore[misc]
            kill(chance.choice(actors(cluster, role)))
        load.wait_for_more()
        wait_until(lambda: is_whole(cluster))
        load.wait_for_more()
    finally:
        load.finish()
    check_log(cluster, load)
    after = epochs(cluster)
    assert all(new >= old for new, old in zip(after, before, strict=True))
    assert sum(after) > sum(before), "a killed leader was not succeeded by a new epoch"


def test_everything_killed_at_once(cluster: Cluster) -> None:
    load = Load(cluster)
    try:
        load.wait_for_more(500)
        for actor in cluster.status().actors:
            kill(actor)
        load.wait_for_more(500)
        wait_until(lambda: is_whole(cluster))
    finally:
        load.finish()
    check_log(cluster, load)


def test_a_killed_leader_is_replaced_in_well_under_a_second(cluster: Cluster) -> None:
    with cluster.producer() as producer:
        producer.send(TOPIC, b"0", partition=0).get(30)
        with cluster.admin() as admin:
            endpoint = admin.describe_topics([TOPIC])[0].partitions[0].endpoint
        assert endpoint is not None
        wait_until(lambda: spare_is_ready("kills"))
        [leader] = [a for a in actors(cluster, "partition") if a.port == endpoint.port]
        started = time.monotonic()
        kill(leader)
        assert producer.send(TOPIC, b"1", partition=0).get(30).offset == 1
        assert time.monotonic() - started < 3.0


def processes(name: str) -> list[str]:
    return [each for each in actor_names(name) if "/partition-process-" in each]


def spare_is_ready(name: str) -> bool:
    """Whether a process that is nobody yet has loaded all it needs: it answers."""
    handles = [handle for each in processes(name) if (handle := find(each)) is not None]
    return any(not ray.get(handle.identity.remote()).name for handle in handles)


def test_spares_are_taken_over_by_the_next_controller_and_end_with_the_cluster(
    tmp_path: Path,
) -> None:
    configs = {"partition.actors": "1", "partition.actor.spares": "1"}
    with raykafka.start("spared", data_dir=tmp_path, configs=configs) as cluster:
        wait_until(lambda: len(processes("spared")) == 2)
        before = processes("spared")
        kill(actors(cluster, "controller")[0])
        wait_until(lambda: cluster.status().controller_epoch == 2)
        cluster.topic("t", create=True)
        assert processes("spared") == before
        kill(actors(cluster, "partition")[0])
        with cluster.producer() as producer:
            assert producer.send("t", b"a").get(60).offset == 0
        wait_until(lambda: len(processes("spared")) == 2)
    wait_until(lambda: not actor_names("spared"))


DRIVER = """
import sys, raykafka
cluster = raykafka.start("victim", data_dir=sys.argv[1], configs={"partition.actors": "1"})
cluster.topic("t", create=True)
with cluster.producer() as producer:
    for number in range(100_000):
        print(producer.send("t", b"%d" % number).get(60).offset, flush=True)
"""


def test_the_death_of_ray_itself_loses_nothing(tmp_path: Path) -> None:
    """A program that started a Ray of its own is killed, and its Ray with it."""
    environment = {**os.environ, "PYTHONPATH": os.getcwd(), "RAY_ADDRESS": "local"}
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(tmp_path)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert driver.stdout is not None
    acknowledged = [int(driver.stdout.readline()) for _ in range(500)]
    driver.kill()
    acknowledged += [int(line) for line in driver.stdout.read().splitlines() if line]
    driver.wait()
    driver.stdout.close()

    def start() -> Cluster | None:
        try:
            return raykafka.start("survivor", data_dir=tmp_path)
        except LogDirLockedError:
            return None  # the last of the dead Ray's processes is still on its way

    survivor = start()
    while survivor is None:
        survivor = start()
    with survivor:
        [values] = read_all(survivor, "t", 1).values()
        assert [int(value) for value in values][: len(acknowledged)] == acknowledged
