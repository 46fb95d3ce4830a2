"""Run by ``test_controller_quorum``: three Ray nodes, three controllers, kills and pauses.

Prints how long each took until another one was active.
"""

from __future__ import annotations

import contextlib
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
from raykafka.errors import TopicAlreadyExistsError

KILLS = 5
PAUSES = 3
LONGEST_S = 30.0
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
            create(admin, f"topic-{number}")
            times.append(time.monotonic() - began)
            assert admin.describe_quorum().leader_epoch > epoch
        pauses = [pause_active(cluster, number) for number in range(PAUSES)]
        load.stop()
        assert not load.failures, load.failures
        assert max(pauses) < LONGEST_S, pauses
        assert max(times) < LONGEST_S, times
        assert len(admin.list_topics()) == KILLS + PAUSES + 1
        shown = ", ".join(f"{each * 1000:.0f}" for each in times)
        print(f"kill to topic created, ms: {shown}; median {statistics.median(times) * 1000:.0f}")
        shown = ", ".join(f"{each * 1000:.0f}" for each in pauses)
        print(f"pause to topic created, ms: {shown}; median {statistics.median(pauses) * 1000:.0f}")
        print(f"produce: {len(load.latencies)} records, longest {max(load.latencies):.3f} s")


def pause_active(cluster: raykafka.Cluster, number: int) -> float:
    """Seconds until another one is active; the paused one goes on and has done no harm."""
    with raykafka.Admin(cluster.bootstrap, request_timeout_ms=400, api_timeout_ms=60_000) as admin:
        until(lambda: len(controllers(admin)) == 3, "three controllers")
        until(
            lambda: all(each.lag == 0 for each in admin.describe_quorum().replicas),
            "all voters have caught up",
        )
        others = {actor.pid for actor in admin.describe_cluster().actors} - {
            actor.pid for actor in controllers(admin)
        }
        active = controllers(admin)[0]
        began = time.monotonic()
        os.kill(active.pid, signal.SIGSTOP)
        try:
            create(admin, f"paused-{number}")
            took = time.monotonic() - began
        finally:
            os.kill(active.pid, signal.SIGCONT)
        until(
            lambda: all(each.lag == 0 for each in admin.describe_quorum().replicas),
            "the paused one follows",
        )
        now = {actor.pid for actor in admin.describe_cluster().actors}
        assert others <= now, "an actor was killed by a controller that was not active any more"
        return took


def create(admin: Any, name: str) -> None:
    """The first attempt may be committed, and its answer die with the controller."""
    with contextlib.suppress(TopicAlreadyExistsError):
        admin.create_topics([NewTopic(name)])


def controllers(admin: Any) -> list[Any]:
    return [actor for actor in admin.describe_cluster().actors if actor.role == "controller"]


if __name__ == "__main__":
    main(sys.argv[1])
