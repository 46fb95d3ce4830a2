"""Share groups while leaders and share coordinators are killed: nothing lost, nothing twice."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from wire_kit import wait_until

from raykafka.client.admin import Admin, NewTopic
from raykafka.client.producer import Producer
from raykafka.client.share_consumer import ShareConsumer
from raykafka.errors import RaykafkaError
from raykafka.testing.local_cluster import LocalCluster

GROUP = "workers"
PARTITIONS = 3
RECORDS = 6000


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    with LocalCluster(tmp_path, nodes=3, partition_actors=1) as running:
        with Admin(running.bootstrap) as admin:
            wait_until(lambda: living(admin) == 3, "three brokers")
            topic = NewTopic("t", PARTITIONS, 3, topic_configs={"min.insync.replicas": "2"})
            admin.create_topics([topic])
            admin.alter_share_group_configs(
                GROUP, {"share.auto.offset.reset": "earliest", "share.delivery.count.limit": "1000"}
            )
        yield running


def living(admin: Admin) -> int:
    """Brokers with all of their partition actors."""
    found = admin.describe_cluster()
    dead = {actor.broker_id for actor in found.actors if actor.state != "alive"}
    manned = {actor.broker_id for actor in found.actors if actor.role == "partition"}
    return len({broker.broker_id for broker in found.brokers if broker.alive} & manned - dead)


class Member(threading.Thread):
    """Accepts records until it is told to stop; knows what was confirmed, and what may be."""

    def __init__(self, cluster: LocalCluster) -> None:
        super().__init__()
        self._cluster = cluster
        self.stopping = threading.Event()
        self.accepted: list[tuple[int, int]] = []
        self.unsure: set[tuple[int, int]] = set()
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            with ShareConsumer(
                self._cluster.bootstrap,
                group_id=GROUP,
                share_acknowledgement_mode="explicit",
                max_poll_records=100,
            ) as consumer:
                consumer.subscribe(["t"])
                while not self.stopping.is_set():
                    self.work(consumer)
        except BaseException as error:  # noqa: BLE001 - the test reports it
            self.failure = error

    def work(self, consumer: ShareConsumer) -> None:
        names: dict[int, list[tuple[int, int]]] = {}
        for place, records in consumer.poll(200).items():
            for record in records:
                consumer.acknowledge(record)
                names.setdefault(place.partition, []).append((place.partition, record.offset))
        try:
            outcomes = consumer.commit(20_000)
        except RaykafkaError:
            outcomes = {}
        told = {place.partition: error for place, error in outcomes.items()}
        for partition, found in names.items():
            if partition in told and told[partition] is None:
                self.accepted += found
            else:
                self.unsure.update(found)


@pytest.mark.parametrize("seed", range(2))
def test_leaders_and_coordinators_are_killed(cluster: LocalCluster, seed: int) -> None:
    chance = random.Random(seed)
    members = [Member(cluster) for _ in range(5)]
    for member in members:
        member.start()
    with (
        Producer(cluster.bootstrap, acks="all", linger_ms=1) as producer,
        Admin(cluster.bootstrap) as admin,
    ):
        for step in range(4):
            for number in range(RECORDS // 4):
                producer.send("t", b"%d-%d" % (step, number), partition=number % PARTITIONS)
            victim = chance.randrange(3)
            if cluster.partition_actor_slots(victim):
                cluster.kill_partition_actor(0, victim)
            producer.flush(30)
            wait_until(lambda: living(admin) == 3, "three brokers")

        def done() -> bool:
            offsets = admin.list_share_group_offsets(GROUP)
            return sum(each.start_offset or 0 for each in offsets) == RECORDS

        try:
            wait_until(done, "everything to be accepted")
        finally:
            for member in members:
                member.stopping.set()
            for member in members:
                member.join(30)
    assert [member.failure for member in members] == [None] * len(members)
    accepted = Counter(name for member in members for name in member.accepted)
    assert set(accepted.values()) == {1}, "a record was accepted twice"
    unsure = {name for member in members for name in member.unsure}
    every = {(p, o) for p in range(PARTITIONS) for o in range(RECORDS // PARTITIONS)}
    assert every - set(accepted) <= unsure, "a record is done that nobody accepted"
