"""Three brokers on one machine, as the benchmarks start them."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest

import raykafka
from bench.peers.api import Topic
from bench.peers.raykafka_nodes import Nodes
from raykafka import NewTopic

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_brokers_on_nodes_of_their_own_are_killed_and_come_back(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    nodes = Nodes("test-nodes", folder, 3, {"partition.actors": "1"})
    try:
        cluster = raykafka.connect(f"{folder}{os.sep}")
        topic = Topic("t")
        with cluster.admin() as admin, cluster.producer(linger_ms=0) as producer:
            admin.create_topics([NewTopic("t", num_partitions=1)])
            producer.send("t", b"before").get(10)
            leader = nodes.leader(topic)
            assert (folder / f"broker-{leader}" / "t-0").is_dir()
            (pid,) = nodes.pids_of(leader, whole_node=False)
            on_node = nodes.pids_of(leader, whole_node=True)
            assert pid in on_node
            assert any("raylet" in psutil.Process(each).name() for each in on_node)
            os.kill(pid, signal.SIGKILL)
            assert producer.send("t", b"after").get(30).offset == 1
            nodes.wait_in_sync(topic)
    finally:
        nodes.stop()
    assert not psutil.pid_exists(pid)
