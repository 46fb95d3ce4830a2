"""A share group of processes of which half are killed: nothing is lost, nothing accepted twice."""

from __future__ import annotations

import gc
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from share_kit import GROUP, ShareGroupAdmin
from wire_kit import wait_until

from raykafka.client.admin import Admin, NewTopic
from raykafka.client.consumer import Consumer
from raykafka.client.producer import Producer
from raykafka.client.share_consumer import ShareConsumer
from raykafka.model import TopicPartition
from raykafka.testing.local_cluster import LocalCluster

ROOT = Path(__file__).parents[2]
WORKER = ROOT / "tests" / "kits" / "share_worker.py"
PARTITIONS = 2
RECORDS = 4000
POISON = 6


class Worker:
    """One process and what it has written down."""

    def __init__(self, cluster: LocalCluster, journal: Path) -> None:
        self.journal = journal
        self.killed = False
        journal.touch()
        self.process = subprocess.Popen(
            [sys.executable, str(WORKER), cluster.bootstrap.path, str(journal)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    def kill(self) -> None:
        self.killed = True
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def words(self, kind: str) -> list[str]:
        lines = self.journal.read_text().splitlines(keepends=True)
        return [
            name
            for line in lines
            if line.startswith(kind) and line.endswith("\n")
            for name in line.split()[1:]
        ]

    @property
    def ready(self) -> bool:
        return self.journal.read_text().startswith("ready")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    # All members that read a partition may be killed at once.
    session = {"group.share.session.timeout.ms": "2000", "group.share.heartbeat.interval.ms": "300"}
    with LocalCluster(tmp_path / "data", partition_actors=2, configs=session) as running:
        with Admin(running.bootstrap) as admin:
            admin.create_topics([NewTopic("t", num_partitions=PARTITIONS), NewTopic("dead")])
        share = ShareGroupAdmin(running)
        share.configure(
            **{
                "share.auto.offset.reset": "earliest",
                "errors.deadletterqueue.topic.name": "dead",
                "share.delivery.count.limit": "8",
            }
        )
        share.close()
        yield running


@pytest.fixture
def start(cluster: LocalCluster, tmp_path: Path) -> Iterator[Callable[[int], list[Worker]]]:
    workers: list[Worker] = []

    def more(count: int) -> list[Worker]:
        for _ in range(count):
            workers.append(Worker(cluster, tmp_path / f"worker-{len(workers)}"))
        return workers

    yield more
    for worker in workers:
        worker.kill()


def produce(cluster: LocalCluster) -> set[bytes]:
    poison = set()
    with Producer(cluster.bootstrap, acks="all", linger_ms=1) as producer:
        for number in range(RECORDS):
            value = b"%d" % number
            if number % (RECORDS // POISON) == 100:
                value = b"poison-%d" % number
                poison.add(value)
            producer.send("t", value, partition=number % PARTITIONS)
        producer.flush(30)
    return poison


def done(share: ShareGroupAdmin) -> int:
    return sum(each.start_offset for each in share.offsets())


def test_half_of_the_workers_are_killed(
    cluster: LocalCluster, start: Callable[[int], list[Worker]]
) -> None:
    workers = start(6)  # three times as many as there are partitions
    wait_until(lambda: all(worker.ready for worker in workers), "six workers", timeout_s=40)
    poison = produce(cluster)
    share = ShareGroupAdmin(cluster)
    wait_until(lambda: done(share) > RECORDS // 10, "the work to be under way")
    for worker in random.Random(7).sample(workers, 3):
        worker.kill()
    wait_until(lambda: done(share) == RECORDS, "everything to be done", timeout_s=20)
    share.close()

    letters = dead_letters(cluster, len(poison))
    assert {value for _, value in letters} == poison
    every = {f"{number % 2}:{number // 2}" for number in range(RECORDS)}
    every -= {place for place, _ in letters}
    unsure = {name for worker in workers if worker.killed for name in worker.words("begin")}
    # Those that live may have yet to hear that the last ones are done.
    wait_until(lambda: every <= set(accepted(workers)) | unsure, "every record to be accepted")
    assert set(accepted(workers).values()) == {1}, "a record was accepted twice"


def accepted(workers: list[Worker]) -> Counter[str]:
    return Counter(name for worker in workers for name in worker.words("done"))


def dead_letters(cluster: LocalCluster, expected: int) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    with Consumer(cluster.bootstrap, auto_offset_reset="earliest") as consumer:
        consumer.assign([TopicPartition("dead", 0)])
        while len(found) < expected:
            for records in consumer.poll(2000).values():
                for record in records:
                    headers = {key: value.decode() for key, value in record.headers}
                    assert headers["__dlq.errors.delivery.count"] == "8"
                    assert headers["__dlq.errors.group"] == GROUP
                    place = (headers["__dlq.errors.partition"], headers["__dlq.errors.offset"])
                    found.append((":".join(place), record.value))
    return found


def test_members_of_one_group_outnumber_the_partitions(cluster: LocalCluster) -> None:
    members = [
        ShareConsumer(cluster.bootstrap, group_id=GROUP, max_poll_records=10) for _ in range(5)
    ]
    try:
        for member in members:
            member.subscribe(["t"])
            wait_until(lambda member=member: bool(member.assignment()), "an assignment")
        produce(cluster)
        busy = [member for member in members if member.poll(5000)]
        assert len(busy) == len(members)
        with Admin(cluster.bootstrap) as admin:
            (listed,) = admin.list_groups()
        assert (listed.group_id, listed.type, listed.members) == (GROUP, "share", 5)
    finally:
        for member in members:
            member.close()


def values(consumer: ShareConsumer, count: int) -> list[bytes]:
    """What comes until there are so many."""
    found: list[bytes] = []

    def enough() -> bool:
        for records in consumer.poll(100).values():
            found.extend(record.value for record in records)
        return len(found) >= count

    wait_until(enough, f"{count} records")
    return found


def test_a_topic_that_is_deleted_and_made_again(cluster: LocalCluster) -> None:
    with (
        ShareConsumer(cluster.bootstrap, group_id=GROUP) as consumer,
        Admin(cluster.bootstrap) as admin,
        Producer(cluster.bootstrap) as producer,
    ):
        consumer.subscribe(["t", "dead"])
        producer.send("t", b"old", partition=0)
        assert values(consumer, 1) == [b"old"]
        admin.delete_topics(["t"])

        def is_away() -> bool:
            consumer.poll(10)
            return all(place.topic != "t" for place in consumer.assignment())

        wait_until(is_away, "the topic to be given up")
        producer.send("dead", b"other", partition=0)
        assert values(consumer, 1) == [b"other"]
        admin.create_topics([NewTopic("t", num_partitions=1)])
        producer.send("t", b"new", partition=0)
        assert values(consumer, 1) == [b"new"]


def test_a_share_consumer_that_is_dropped_is_no_member_for_ever(cluster: LocalCluster) -> None:
    dropped = ShareConsumer(cluster.bootstrap, group_id=GROUP)
    dropped.subscribe(["t"])
    parts = dropped._parts
    with Admin(cluster.bootstrap) as admin:

        def members() -> int:
            groups = [group for group in admin.list_groups() if group.group_id == GROUP]
            return groups[0].members if groups else 0

        wait_until(lambda: members() == 1, "a member")
        del dropped
        gc.collect()
        wait_until(lambda: members() == 0, "its session to end")
    parts.assignment.close(0)
    parts.close()
