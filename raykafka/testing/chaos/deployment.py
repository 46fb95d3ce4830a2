"""The cluster under test: three Ray nodes, a broker on each, and where everything of it is."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from raykafka.actors.endpoint_file import endpoint_file
from raykafka.client.admin import Admin, NewTopic
from raykafka.client.cluster.file_bootstrap import FileBootstrap
from raykafka.clock import SystemClock
from raykafka.errors import ClusterUnreachableError, RaykafkaError, TopicAlreadyExistsError
from raykafka.protocol.messages import ActorInfo
from raykafka.testing.chaos.namespaces import Namespaces, are_possible
from raykafka.testing.chaos.ray_nodes import RayNodes

NODES: Final = 3
NAME: Final = "chaos"
TOPIC: Final = "chaos"
DISK_BYTES: Final = 4 << 30
"""Size of each broker's disk, where it gets one of its own; memory is taken as it fills."""
START_S: Final = 90.0
_POLL_S: Final = 0.05
_UP: Final = "from raykafka.cli.main import main; main()"


class Deployment:
    """A running cluster; ``close`` ends it and removes everything."""

    def __init__(
        self,
        directory: Path,
        *,
        partitions: int,
        replication_factor: int,
        min_insync: int,
        configs: Mapping[str, str] | None = None,
    ) -> None:
        """``directory`` is empty, and its path short; ``configs`` are settings of brokers."""
        self.partitions = partitions
        self.replication_factor = replication_factor
        self.data_dir = directory / "data"
        self.namespaces = Namespaces(NODES) if are_possible() else None
        self.has_disks = False
        self._directory = directory
        self._configs = configs or {}
        self._mounted: list[Path] = []
        self._clock = SystemClock()
        self._waiting = threading.Event()
        self._admin: Admin | None = None
        self.nodes: RayNodes
        self.bootstrap = FileBootstrap(endpoint_file(str(self.data_dir)))
        try:
            self._start(min_insync)
        except BaseException:
            self.close()
            raise

    def _start(self, min_insync: int) -> None:
        self._mount_disks()
        self.nodes = RayNodes(NODES, self._directory, self.namespaces)
        self._up()
        self._admin = Admin(self.bootstrap, request_timeout_ms=10_000)
        self._create_topic(min_insync)
        if not self.wait_healthy(START_S):
            raise ClusterUnreachableError(f"the cluster is not whole after {START_S:g} s")

    def _mount_disks(self) -> None:
        if self.namespaces is None:
            return
        for number in range(NODES):
            path = self.log_dir(number)
            path.mkdir(parents=True)
            size = f"size={DISK_BYTES}"
            subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(path)], check=True)
            self._mounted.append(path)
        self.has_disks = True

    def _up(self) -> None:
        environment = {
            **os.environ,
            "RAY_ADDRESS": self.nodes.address,
            "RAYKAFKA_HOME": str(self._directory / "home"),
        }
        settings = {
            "disk.reserve.bytes": "1000000",
            "replica.fetch.max.bytes": "65536",  # who was away for a moment is far behind
            **self._configs,
        }
        words = [sys.executable, "-c", _UP, "up", "--name", NAME, "-d", str(self.data_dir)]
        for key, value in settings.items():
            words += ["-c", f"{key}={value}"]

        def run() -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                words, env=environment, capture_output=True, text=True, timeout=START_S, check=False
            )

        done: subprocess.CompletedProcess[str] = self.nodes.run_in(0, run)
        if done.returncode != 0:  # on a busy machine it may take longer than it waits
            done = self.nodes.run_in(0, run)
        if done.returncode != 0:
            raise ClusterUnreachableError(f"raykafka up failed: {done.stderr.strip()}")

    def _create_topic(self, min_insync: int) -> None:
        configs = {"min.insync.replicas": str(min_insync), "fsync": "batch"}
        topic = NewTopic(
            TOPIC,
            num_partitions=self.partitions,
            replication_factor=self.replication_factor,
            topic_configs=configs,
        )

        def created() -> bool:
            with contextlib.suppress(TopicAlreadyExistsError):
                self.admin.create_topics([topic])
            return True

        self.wait_until(created, START_S)

    def close(self) -> None:
        """End every process and remove every file, namespace and mount of the run."""
        if self._admin is not None:
            self._admin.close()
        if hasattr(self, "nodes"):
            for number in range(NODES):
                if self.nodes.is_up(number):
                    self.signal(self.nodes.workers(number), signal.SIGKILL)
            self.nodes.shutdown()
        for path in self._mounted:
            subprocess.run(["umount", "--lazy", str(path)], check=False)
        if self.namespaces is not None:
            self.namespaces.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    # --- what is where ----------------------------------------------------------------------------

    @property
    def admin(self) -> Admin:
        """A client for everybody."""
        assert self._admin is not None
        return self._admin

    def log_dir(self, broker_id: int) -> Path:
        """Where a broker keeps its partitions."""
        return self.data_dir / f"broker-{broker_id}"

    def actors(self, role: str) -> list[ActorInfo]:
        """The living actors of a role; empty while nobody can tell."""
        try:
            found = self.admin.describe_cluster().actors
        except RaykafkaError:
            return []
        return [actor for actor in found if actor.role == role and actor.state == "alive"]

    def leaders(self) -> list[int]:
        """Broker that leads each partition, -1 where nobody does; empty while nobody can tell."""
        try:
            [topic] = self.admin.describe_topics([TOPIC])
        except RaykafkaError:
            return []
        return [partition.leader_id for partition in topic.partitions]

    def actors_on(self, number: int) -> list[int]:
        """Process ids of the cluster's actors on a node."""
        if not self.nodes.is_up(number):
            return []
        roles = ("controller", "broker", "partition")
        pids = {actor.pid for role in roles for actor in self.actors(role)}
        return sorted(pids.intersection(self.nodes.workers(number)))

    def signal(self, pids: list[int], number: signal.Signals) -> int:
        """Send a signal; returns how many processes got it."""
        sent = 0
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
                sent += 1
        return sent

    # --- health -----------------------------------------------------------------------------------

    def wait_healthy(self, timeout_s: float) -> bool:
        """Wait until every actor lives and every partition has all of its copies in sync."""
        return self.wait_until(self.is_healthy, timeout_s)

    def unhealthy(self) -> list[str]:
        """What is not as it should be, a line each."""
        try:
            [topic] = self.admin.describe_topics([TOPIC])
            cluster = self.admin.describe_cluster()
        except RaykafkaError as error:
            return [f"nobody answers: {error}"]
        copies = min(self.replication_factor, NODES)
        return [
            *(
                f"partition {p.partition}: leader {p.leader_id}, in sync {list(p.isr)}: {p.problem}"
                for p in topic.partitions
                if p.leader_id < 0 or len(p.isr) < copies
            ),
            *(
                f"broker {broker.broker_id} is dead"
                for broker in cluster.brokers
                if not broker.alive
            ),
            *(f"{a.name} is {a.state}" for a in cluster.actors if a.state != "alive"),
        ]

    def is_healthy(self) -> bool:
        """Whether every actor lives and every partition has all of its copies in sync."""
        self.nodes.revive()
        [topic] = self.admin.describe_topics([TOPIC])
        cluster = self.admin.describe_cluster()
        copies = min(self.replication_factor, NODES)
        return (
            len(topic.partitions) == self.partitions
            and all(p.leader_id >= 0 and len(p.isr) >= copies for p in topic.partitions)
            and sum(broker.alive for broker in cluster.brokers) >= NODES
            and all(actor.state == "alive" for actor in cluster.actors)
        )

    def wait_until(self, holds: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until ``holds`` is true without an error; False when it took too long."""
        deadline_ms = self._clock.monotonic_ms() + int(timeout_s * 1000)
        while True:
            with contextlib.suppress(RaykafkaError):
                if holds():
                    return True
            if self._clock.monotonic_ms() > deadline_ms:
                return False
            self._waiting.wait(_POLL_S)
