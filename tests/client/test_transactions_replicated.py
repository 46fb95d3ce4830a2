"""Transactions on three brokers whose partition actors are killed: all of one or nothing."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from wire_kit import wait_until

from raykafka.client.admin import Admin, NewTopic
from raykafka.client.consumer import Consumer
from raykafka.client.producer import Producer
from raykafka.errors import TransactionAbortableError
from raykafka.model import TopicPartition
from raykafka.testing.local_cluster import LocalCluster

PARTITIONS = [TopicPartition("t", number) for number in range(3)]


def living(admin: Admin) -> int:
    """Brokers with all of their partition actors."""
    cluster = admin.describe_cluster()
    dead = {actor.broker_id for actor in cluster.actors if actor.state != "alive"}
    manned = {actor.broker_id for actor in cluster.actors if actor.role == "partition"}
    return len({broker.broker_id for broker in cluster.brokers if broker.alive} & manned - dead)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    with LocalCluster(tmp_path, nodes=3, partition_actors=1) as running:
        with Admin(running.bootstrap) as admin:
            wait_until(lambda: living(admin) == 3, "three brokers")
            configs = {"min.insync.replicas": "2"}
            admin.create_topics([NewTopic("t", 3, 3, topic_configs=configs)])
        yield running


def read_committed(cluster: LocalCluster) -> list[list[bytes]]:
    values: list[list[bytes]] = [[] for _ in PARTITIONS]
    with Consumer(
        cluster.bootstrap, auto_offset_reset="earliest", isolation_level="read_committed"
    ) as consumer:
        consumer.assign(PARTITIONS)
        ends = consumer.end_offsets(PARTITIONS)
        while any(consumer.position(place) < end for place, end in ends.items()):
            for place, records in consumer.poll(timeout_ms=1000).items():
                values[place.partition].extend(record.value for record in records)
    return values


@pytest.mark.parametrize("seed", range(2))
def test_transactions_are_whole_while_leaders_are_killed(cluster: LocalCluster, seed: int) -> None:
    chance = random.Random(seed)
    committed: list[list[bytes]] = [[], [], []]
    with (
        Producer(cluster.bootstrap, transactional_id="w") as producer,
        Admin(cluster.bootstrap) as admin,
    ):
        producer.init_transactions()
        for step in range(6):
            for number in range(4):
                written: list[list[bytes]] = [[], [], []]
                producer.begin_transaction()
                for record in range(20):
                    partition = chance.randrange(3)
                    value = b"%d-%d-%d" % (step, number, record)
                    producer.send("t", value, partition=partition)
                    written[partition].append(value)
                if number == 2:
                    producer.flush(30)
                    victim = chance.randrange(3)
                    if cluster.partition_actor_slots(victim):
                        cluster.kill_partition_actor(0, victim)
                try:
                    if chance.random() < 0.3:
                        producer.abort_transaction()
                        continue
                    producer.commit_transaction()
                except TransactionAbortableError:
                    producer.abort_transaction()
                    continue
                for known, more in zip(committed, written, strict=True):
                    known += more
            wait_until(lambda: living(admin) == 3, "three brokers")
    assert sum(map(len, committed)) >= 6 * 20
    assert read_committed(cluster) == committed
