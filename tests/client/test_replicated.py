"""Clients of several brokers: nothing is lost when leaders die, readers read near."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from wire_kit import wait_until

from raykafka.client.admin import Admin, ConfigResource, NewTopic
from raykafka.client.consumer import Consumer
from raykafka.client.consuming import topic_view
from raykafka.client.producer import Producer
from raykafka.errors import InvalidReplicationFactorError, NotEnoughReplicasError
from raykafka.model import TopicPartition
from raykafka.testing.local_cluster import LocalCluster

P0 = TopicPartition("t", 0)


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
        yield running


def create(cluster: LocalCluster, **fields: int) -> None:
    configs = {"min.insync.replicas": "2"}
    with Admin(cluster.bootstrap) as admin:
        admin.create_topics([NewTopic("t", topic_configs=configs, **fields)])


def read_all(cluster: LocalCluster, partitions: int) -> list[list[bytes]]:
    places = [TopicPartition("t", number) for number in range(partitions)]
    values: list[list[bytes]] = [[] for _ in places]
    with Consumer(cluster.bootstrap, auto_offset_reset="earliest") as consumer:
        consumer.assign(places)
        ends = consumer.end_offsets(places)
        while any(len(values[place.partition]) < ends[place] for place in places):
            for place, records in consumer.poll(timeout_ms=5000).items():
                values[place.partition].extend(record.value for record in records)
    return values


@pytest.mark.parametrize("seed", range(3))
def test_nothing_acknowledged_is_lost_while_leaders_are_killed(
    cluster: LocalCluster, seed: int
) -> None:
    chance = random.Random(seed)
    create(cluster, num_partitions=3, replication_factor=3)
    sent: list[list[bytes]] = [[], [], []]
    with (
        Producer(cluster.bootstrap, acks="all", linger_ms=1) as producer,
        Admin(cluster.bootstrap) as admin,
    ):
        for step in range(8):
            for number in range(200):
                partition = chance.randrange(3)
                value = b"%d-%d" % (step, number)
                producer.send("t", value, partition=partition)
                sent[partition].append(value)
            victim = chance.randrange(3)
            if cluster.partition_actor_slots(victim):
                cluster.kill_partition_actor(0, victim)
            producer.flush(30)
            wait_until(lambda: living(admin) == 3, "three brokers")
    assert read_all(cluster, 3) == sent


def test_a_node_that_is_gone_for_a_while_catches_up(cluster: LocalCluster) -> None:
    create(cluster, num_partitions=1, replication_factor=3)
    with Admin(cluster.bootstrap) as admin, Producer(cluster.bootstrap, acks="all") as producer:
        producer.send("t", b"0").get(10)
        cluster.stop_node(2)
        for number in range(1, 50):
            producer.send("t", b"%d" % number).get(10)

        def in_sync() -> set[int]:
            return set(admin.describe_topics(["t"])[0].partitions[0].isr)

        assert in_sync() == {0, 1}
        cluster.start_node(2)
        wait_until(lambda: in_sync() == {0, 1, 2}, "three in sync")
        producer.send("t", b"50").get(10)
    assert read_all(cluster, 1) == [[b"%d" % number for number in range(51)]]


def test_below_the_minimum_producers_are_refused_and_go_on_when_it_is_met(
    cluster: LocalCluster,
) -> None:
    create(cluster, num_partitions=1, replication_factor=3)
    with Producer(cluster.bootstrap, acks="all", retries=0) as producer:
        producer.send("t", b"0").get(10)
        cluster.stop_node(1)
        cluster.stop_node(2)
        with Admin(cluster.bootstrap) as admin:
            wait_until(
                lambda: len(admin.describe_topics(["t"])[0].partitions[0].isr) == 1, "one in sync"
            )
            # The controller knows first. A change of settings returns once the leader knows, too;
            # what it appends before that waits for the two others, as in Kafka (KIP-966).
            admin.incremental_alter_configs({ConfigResource("topic", "t"): {"retention.ms": "-1"}})
        with pytest.raises(NotEnoughReplicasError):
            producer.send("t", b"refused").get(10)
    cluster.start_node(1)
    with Producer(cluster.bootstrap, acks="all") as producer:
        producer.send("t", b"1").get(20)
    assert read_all(cluster, 1) == [[b"0", b"1"]]


def test_everything_is_killed_at_once_and_comes_back(cluster: LocalCluster) -> None:
    create(cluster, num_partitions=3, replication_factor=3)
    with Producer(cluster.bootstrap, acks="all") as producer:
        for number in range(300):
            producer.send("t", b"%d" % number, partition=number % 3)
        producer.flush(20)
    cluster.kill_all()
    assert sum(map(len, read_all(cluster, 3))) == 300
    with Producer(cluster.bootstrap, acks="all") as producer:
        producer.send("t", b"after", partition=0).get(20)


def test_more_copies_than_brokers_are_refused(cluster: LocalCluster) -> None:
    with pytest.raises(InvalidReplicationFactorError, match="4"):
        create(cluster, num_partitions=1, replication_factor=4)


def test_a_reader_in_a_followers_rack_reads_there_and_turns_to_the_leader_when_it_dies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topic_view, "is_local", lambda host: False)
    with LocalCluster(tmp_path, partition_actors=1) as cluster:
        cluster.add_node(rack="far")
        with Admin(cluster.bootstrap) as admin:
            wait_until(lambda: living(admin) == 2, "two brokers")
            admin.create_topics([NewTopic("t", num_partitions=1, replication_factor=2)])
            place = admin.describe_topics(["t"])[0].partitions[0]
        (near,) = [endpoint for _, endpoint in place.followers]
        rack = {0: "", 1: "far"}[place.followers[0][0]] or "nowhere"
        settings = {"auto_offset_reset": "earliest", "client_rack": rack}
        with (
            Producer(cluster.bootstrap, acks="all") as producer,
            Consumer(cluster.bootstrap, **settings) as consumer,
        ):
            consumer.assign([P0])
            expected = near if rack == "far" else place.endpoint
            producer.send("t", b"0").get(10)
            assert [r.value for r in consumer.poll(timeout_ms=5000)[P0]] == [b"0"]
            assert list(consumer._fetcher._accounts) == [expected]
            cluster.stop_node(1)
            producer.send("t", b"1").get(10)
            assert [r.value for r in consumer.poll(timeout_ms=10_000)[P0]] == [b"1"]


def test_a_bit_that_flips_in_what_the_leader_wrote_itself_is_read_from_another_copy(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    create(cluster, num_partitions=1, replication_factor=3)
    with Producer(cluster.bootstrap, acks="all", linger_ms=0) as producer:
        for number in range(20):
            producer.send("t", b"%d" % number * 50).get(10)
    with Admin(cluster.bootstrap) as admin:
        leader = admin.describe_topics(["t"])[0].partitions[0].leader_id
    (segment,) = (tmp_path / f"broker-{leader}" / "t-0").glob("*.arrow")
    content = segment.read_bytes()
    with segment.open("r+b") as file:
        file.seek(content.index(b"7" * 50) + 10)
        file.write(b"8")
    assert read_all(cluster, 1) == [[b"%d" % number * 50 for number in range(20)]]
