"""Three controllers over real sockets: any of them may go, and clients do not care which."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from raykafka.actors.controlling.keeper import Patience
from raykafka.client.admin import Admin, NewTopic
from raykafka.client.consumer import Consumer
from raykafka.client.producer import Producer
from raykafka.model import TopicPartition
from raykafka.testing.local_cluster import LocalCluster

QUICK = {
    "controller.quorum.fetch.timeout.ms": "400",
    "controller.quorum.election.timeout.ms": "400",
}


def until(condition: Callable[[], Any], timeout_s: float = 20) -> None:
    waiting = threading.Event()
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come to hold"
        waiting.wait(0.02)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    with LocalCluster(tmp_path, nodes=3, partition_actors=1, configs=QUICK) as cluster:
        until(lambda: cluster.voters() == [0, 1, 2])
        yield cluster


def test_the_voters_are_on_three_nodes_and_come_back_together(cluster: LocalCluster) -> None:
    with Admin(cluster.bootstrap) as admin:
        admin.create_topics([NewTopic("before", num_partitions=2)])
        described = admin.describe_cluster()
        controllers = [actor for actor in described.actors if actor.role == "controller"]
        assert sorted(actor.name for actor in controllers) == [
            "local/controller",
            "local/controller-1",
            "local/controller-2",
        ]
    until(lambda: len(cluster.bootstrap().controllers) == 3)
    cluster.restart()
    with Admin(cluster.bootstrap) as admin:
        assert admin.list_topics() == ["before"]
    cluster.crash()
    cluster.start()
    with Admin(cluster.bootstrap) as admin:
        assert admin.list_topics() == ["before"]


def test_the_active_controller_may_be_killed_again_and_again(cluster: LocalCluster) -> None:
    created = []
    with Admin(cluster.bootstrap) as admin:
        for number in range(4):
            cluster.kill_controller()
            admin.create_topics([NewTopic(f"topic-{number}")])
            created.append(f"topic-{number}")
            assert sorted(admin.list_topics()) == created


def test_produce_and_fetch_do_not_notice(cluster: LocalCluster) -> None:
    with Admin(cluster.bootstrap) as admin:
        admin.create_topics([NewTopic("events")])
    with Producer(cluster.bootstrap) as producer:
        producer.send("events", b"first").get(timeout=10)
        killed = cluster.active_voter()
        cluster.kill_voter(killed)
        for number in range(100):
            producer.send("events", str(number).encode()).get(timeout=10)
        until(lambda: _is_active(cluster))
        cluster.start_voter(killed)
    with Consumer(cluster.bootstrap, auto_offset_reset="earliest") as consumer:
        consumer.assign([TopicPartition("events", 0)])
        seen = 0
        while seen < 101:
            seen += sum(map(len, consumer.poll(timeout_ms=1000).values()))


@pytest.mark.parametrize("voter_id", [0, 2])
def test_a_voter_may_lose_its_disk(cluster: LocalCluster, voter_id: int) -> None:
    with Admin(cluster.bootstrap) as admin:
        admin.create_topics([NewTopic("kept")])
        lost = _directories(admin)[voter_id]
        cluster.kill_voter(voter_id, lose_disk=True)
        admin.create_topics([NewTopic("meanwhile")])
        cluster.start_voter(voter_id)
        until(lambda: _directories(admin).get(voter_id, lost) != lost)
        until(lambda: all(each.lag == 0 for each in admin.describe_quorum().replicas))
        # Now the other two may go one after the other: the new disk has everything.
        for other in {0, 1, 2} - {voter_id}:
            until(lambda: _is_active(cluster))
            cluster.kill_voter(other)
            until(lambda: _is_active(cluster))
            assert sorted(admin.list_topics()) == ["kept", "meanwhile"]
            cluster.start_voter(other)


def test_a_voter_whose_node_is_gone_is_made_anew_elsewhere(tmp_path: Path) -> None:
    patience = Patience(check_s=0.1, replace_voter_ms=300)
    with LocalCluster(
        tmp_path, nodes=3, partition_actors=1, configs=QUICK, patience=patience
    ) as cluster:
        until(lambda: cluster.voters() == [0, 1, 2])
        gone = cluster.voter_node(2)
        cluster.stop_node(int(gone.rpartition("-")[2]))
        cluster.add_node()
        until(lambda: cluster.voter_node(2) == "local-3")
        with Admin(cluster.bootstrap) as admin:
            until(lambda: all(each.lag == 0 for each in admin.describe_quorum().replicas))
            cluster.kill_voter(1)
            until(lambda: _is_active(cluster))
            admin.create_topics([NewTopic("two-of-three")])


def test_the_node_of_the_active_controller_is_gone(cluster: LocalCluster) -> None:
    with Admin(cluster.bootstrap) as admin:
        until(lambda: sum(broker.alive for broker in admin.describe_cluster().brokers) == 3)
        admin.create_topics([NewTopic("before", num_partitions=3, replication_factor=3)])
        active = cluster.active_voter()
        cluster.stop_node(int(cluster.voter_node(active).rpartition("-")[2]))
        admin.create_topics([NewTopic("after", replication_factor=2)])
        alive = sum(broker.alive for broker in admin.describe_cluster().brokers)
        assert alive == 2, "the brokers of the other nodes live on"
        actors = [actor for actor in admin.describe_cluster().actors if actor.role == "broker"]
        assert all(actor.incarnation == 1 for actor in actors), "none was replaced"


def _directories(admin: Admin) -> dict[int, str]:
    found = admin.describe_quorum().replicas
    return {each.replica_id: each.directory_id for each in found if each.voter}


def _is_active(cluster: LocalCluster) -> bool:
    return bool(cluster.voters())
