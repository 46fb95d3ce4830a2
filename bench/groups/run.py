"""Three figures of consumer groups: how they settle, commit, get over a killed coordinator."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import raykafka
from bench.measuring.statistics import percentile
from raykafka import Consumer, NewTopic, OffsetAndMetadata, RaykafkaError, TopicPartition

MEMBERS = 20
PARTITIONS = 60
COMMITS = 3000
GROUPS = 10_000
OFFSETS_EACH = 10
PATIENCE_S = 60.0
_TOPIC = "read"


class _Member:
    """One consumer, polling in a thread of its own."""

    def __init__(self, cluster: raykafka.Cluster, group_id: str) -> None:
        self._consumer: Consumer = cluster.consumer(
            group_id=group_id, auto_offset_reset="earliest", enable_auto_commit=False
        )
        self._consumer.subscribe([_TOPIC])
        self._stopping = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping:
            self._consumer.poll(1000)
        self._consumer.close()

    @property
    def owned(self) -> int:
        """Partitions it has now."""
        return len(self._consumer.assignment())

    def stop(self) -> None:
        """Leave, and wait for that."""
        self._stopping = True
        self._consumer.wakeup()
        self._thread.join()


def _until(condition: Callable[[], bool]) -> float:
    """Seconds until something is true."""
    begun = time.perf_counter()
    while not condition():
        if time.perf_counter() - begun > PATIENCE_S:
            raise TimeoutError("it did not come true")
        time.sleep(0.002)
    return time.perf_counter() - begun


def settling(cluster: raykafka.Cluster, rounds: int) -> dict[str, float]:
    """How long a group of ``MEMBERS`` takes to be level again after one joins or leaves."""
    members: list[_Member] = []

    def level() -> bool:
        owned = [member.owned for member in members]
        return sum(owned) == PARTITIONS and max(owned) - min(owned) <= 1

    def join() -> None:
        members.append(_Member(cluster, "settling"))

    figures: dict[str, list[float]] = {"joins": [], "leaves": []}
    try:
        begun = time.perf_counter()
        for _ in range(MEMBERS):
            join()
        _until(level)
        together = time.perf_counter() - begun
        for _ in range(rounds):
            leaving = members.pop(0)
            left = time.perf_counter()
            leaving.stop()
            _until(level)
            figures["leaves"].append(time.perf_counter() - left)
            begun = time.perf_counter()
            join()
            _until(level)
            figures["joins"].append(time.perf_counter() - begun)
    finally:
        for member in members:
            member.stop()
    return {
        "all join, s": together,
        "one joins, worst, s": max(figures["joins"]),
        "one leaves, worst, s": max(figures["leaves"]),
    }


def commits(cluster: raykafka.Cluster, count: int) -> dict[str, float]:
    """What one commit of one partition takes, waited for."""
    place = TopicPartition(_TOPIC, 0)
    times = []
    with cluster.consumer(group_id="commits", enable_auto_commit=False) as consumer:
        consumer.commit({place: 0})
        for offset in range(count):
            begun = time.perf_counter()
            consumer.commit({place: offset})
            times.append(time.perf_counter() - begun)
    return {
        "commit p50, ms": percentile(times, 0.5) * 1000,
        "commit p99, ms": percentile(times, 0.99) * 1000,
    }


def killed_coordinator(cluster: raykafka.Cluster, groups: int) -> dict[str, float]:
    """From SIGKILL of the coordinator of many groups until each of them can commit again."""
    place = TopicPartition(_TOPIC, 0)
    with cluster.admin() as admin:
        offsets: dict[TopicPartition | tuple[str, int], OffsetAndMetadata | int] = {
            TopicPartition(_TOPIC, number): 1 for number in range(OFFSETS_EACH)
        }
        for number in range(groups):
            admin.alter_consumer_group_offsets(f"many-{number}", offsets)
        with cluster.consumer(group_id="many-0", enable_auto_commit=False) as consumer:
            consumer.commit({place: 2})
            [described] = admin.describe_topics(["__consumer_offsets"])
            victims = [actor for actor in cluster.status().actors if actor.role == "partition"]
            leader = described.partitions[0].endpoint
            [pid] = [a.pid for a in victims if leader is not None and a.port == leader.port]
            begun = time.perf_counter()
            os.kill(pid, signal.SIGKILL)
            consumer.commit({place: 3}, timeout_ms=60_000)
            back = time.perf_counter() - begun
            if consumer.committed(place) != 3:
                raise RaykafkaError("the commit after the kill is not there")
        found = admin.list_groups()
        if len(found) < groups:
            raise RaykafkaError(f"{groups - len(found)} groups are gone")
    return {f"coordinator of {groups:,} groups killed, s": back}


@contextmanager
def _cluster() -> Iterator[raykafka.Cluster]:
    settings = {
        "partition.actors": "2",
        "offsets.topic.num.partitions": "1",
        "group.consumer.max.size": str(2 * MEMBERS),
    }
    with (
        tempfile.TemporaryDirectory(prefix="rk") as folder,
        raykafka.start("bench-groups", data_dir=folder, configs=settings) as cluster,
        cluster.admin() as admin,
    ):
        admin.create_topics([NewTopic(_TOPIC, PARTITIONS)])
        yield cluster


def run(*, rounds: int, scale: float) -> dict[str, float]:
    """All three, one after the other."""
    with _cluster() as cluster:
        found = settling(cluster, rounds)
        found |= commits(cluster, max(10, int(COMMITS * scale)))
        found |= killed_coordinator(cluster, max(10, int(GROUPS * scale)))
    return found
