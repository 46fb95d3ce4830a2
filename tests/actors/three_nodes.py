"""Run by ``test_controller_quorum``: three Ray nodes, three controllers, kills of the active one.

Prints how long each took until another one was active.
"""

from __future__ import annotations

import itertools
import os
import signal
import statistics
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import ray
from ray.cluster_utils import Cluster as RayCluster

import raykafka
from raykafka.client.admin import NewTopic

KILLS = 5
LONGEST_S = 10.0
"""Generous: a loaded machine may take its time. The figure that is meant is printed."""


def until(condition: Callable[[], Any], what: str, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, what
        threading.Event().wait(0.01)


class Load:
    """A producer that never stops."""

    def __init__(self, cluster: raykafka.Cluster) -> None:
        self._producer = cluster.producer(linger_ms=1)
        self._stop = threading.Event()
        self.latencies: list[float] = []
        self.failures: list[BaseException] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        for number in itertools.count():
            if self._stop.wait(0.005):
                return
            began = time.monotonic()
            try:
                self._producer.send("load", b"%d" % number).get(timeout=30)
            except raykafka.RaykafkaError as error:
                self.failures.append(error)
            self.latencies.append(time.monotonic() - began)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        self._producer.close()


def main(data_dir: str) -> None:
    nodes = RayCluster(initialize_head=True, head_node_args={"num_cpus": 1})
    for _ in range(2):
        nodes.add_node(num_cpus=1)
    nodes.connect()
    try:
        with raykafka.start("quorum", data_dir=data_dir, configs={"partition.actors": "1"}) as c:
            run(c)
    finally:
        ray.shutdown()
        nodes.shutdown()


def run(cluster: raykafka.Cluster) -> None:
    with cluster.admin() as admin:
        admin.create_topics([NewTopic("load")])
        until(
            lambda: sum(each.voter for each in admin.describe_quorum().replicas) == 3,
            "three voters",
        )
        load = Load(cluster)
        times = []
        for number in range(KILLS):
            until(lambda: len(controllers(admin)) == 3, "three controllers")
            until(lambda: all(each.pid for each in controllers(admin)), "their processes")
            until(
                lambda: all(each.lag == 0 for each in admin.describe_quorum().replicas),
                "all voters have caught up",
            )
            active = controllers(admin)[0]
            epoch = admin.describe_quorum().leader_epoch
            began = time.monotonic()
            os.kill(active.pid, signal.SIGKILL)
            admin.create_topics([NewTopic(f"topic-{number}")])
            times.append(time.monotonic() - began)
            assert admin.describe_quorum().leader_epoch > epoch
        load.stop()
        assert not load.failures, load.failures
        assert max(times) < LONGEST_S, times
        assert len(admin.list_topics()) == KILLS + 1
        shown = ", ".join(f"{each * 1000:.0f}" for each in times)
        print(f"kill to topic created, ms: {shown}; median {statistics.median(times) * 1000:.0f}")
        print(f"produce: {len(load.latencies)} records, longest {max(load.latencies):.3f} s")


def controllers(admin: Any) -> list[Any]:
    return [actor for actor in admin.describe_cluster().actors if actor.role == "controller"]


if __name__ == "__main__":
    main(sys.argv[1])
