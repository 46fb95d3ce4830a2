"""raykafka on several Ray nodes of this machine, each with a broker and a disk of its own.

``python -m bench.peers.raykafka_nodes NAME FOLDER NODES [KEY=VALUE]...`` runs it until its standard
input ends. The nodes are those of ``ray.cluster_utils.Cluster``: processes that believe to be
machines, as Ray's own tests use them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

import raykafka
from bench.peers.api import Topic

READY = "ready"
START_S = 120.0
STOP_S = 60.0
IN_SYNC_S = 120.0
_OBJECT_STORE_BYTES = 100 << 20


class Nodes:
    """The process that runs the cluster, and what can be done to it from outside."""

    def __init__(self, name: str, folder: Path, count: int, configs: Mapping[str, str]) -> None:
        """Returns when every broker is there."""
        self.folder = folder
        self._count = count
        self._temporary = tempfile.mkdtemp(prefix="rk")  # Ray's sockets need short paths
        settings = [f"{key}={value}" for key, value in configs.items()]
        environment = {
            **os.environ,
            "RAY_TMPDIR": self._temporary,  # or it would take the place of the user's own Ray
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAYKAFKA_HOME": str(folder.parent / "home"),
        }
        environment.pop("RAY_ADDRESS", None)
        self._log = (folder.parent / f"{folder.name}.log").open("wb")
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, name, str(folder), str(count), *settings],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.decode().strip() == READY:
                return
        self.stop()
        raise RuntimeError(f"raykafka did not start on {count} nodes; see {self._log.name}")

    def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            _kill_tree(self._process.pid)
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._log.close()
        shutil.rmtree(self._temporary, ignore_errors=True)

    def leader(self, topic: Topic) -> int:
        """The broker that leads partition 0."""
        with self._connect().admin() as admin:
            leader: int = admin.describe_topics([topic.name])[0].partitions[0].leader_id
            return leader

    def follower(self, topic: Topic) -> int:
        """A broker that keeps a copy of partition 0 and does not lead it."""
        with self._connect().admin() as admin:
            partition = admin.describe_topics([topic.name])[0].partitions[0]
            return next(each for each in partition.replicas if each != partition.leader_id)

    def pids_of(self, broker: int, *, whole_node: bool) -> list[int]:
        """The processes that serve a broker's partitions, or all that run on its node.

        A controller that is the only one is none of them: it cannot be replaced by another node's.
        """
        every = self._connect().status().actors
        actors = [each for each in every if each.broker_id == broker]
        controllers = [each.pid for each in every if each.role == "controller"]
        if not whole_node:
            return [each.pid for each in actors if each.role == "partition"]
        found = [psutil.Process(each.pid) for each in actors]
        raylets = {parent.pid: parent for each in found if (parent := each.parent()) is not None}
        pids = [child.pid for raylet in raylets.values() for child in raylet.children()]
        if len(controllers) == 1:
            pids = [pid for pid in pids if pid not in controllers]
        return [*raylets, *pids]

    def wait_in_sync(self, topic: Topic) -> None:
        """Every broker is there, and every partition has the copies in sync it asks for."""
        cluster = self._connect()
        _until(lambda: _alive(cluster) == self._count, "all brokers are alive")
        with cluster.admin() as admin:
            _until(lambda: _all_in_sync(admin, topic), f"all copies of {topic.name} are in sync")

    def disk(self, broker: int) -> Path:
        """A broker's log directory."""
        return self.folder / f"broker-{broker}"

    def segments(self, broker: int, topic: Topic | None = None) -> list[Path]:
        """The segments on a broker's disk, of one topic or of all."""
        directories = "*" if topic is None else f"{topic.name}-*"
        return sorted(self.disk(broker).glob(f"{directories}/*.arrow"))

    def disk_bytes(self, broker: int, topic: Topic | None = None) -> int:
        """Bytes of these segments."""
        total = 0
        for path in self.segments(broker, topic):
            with contextlib.suppress(FileNotFoundError):
                total += path.stat().st_size
        return total

    def replace_disk(self, broker: int) -> None:
        """Take a broker's disk away at once, and kill it: it comes back with an empty one.

        The old one stays aside: to delete gigabytes would keep the file system busy.
        """
        old = self.folder.parent / f"disk-{time.monotonic_ns()}"
        actors = [each for each in self._connect().status().actors if each.broker_id == broker]
        self.disk(broker).rename(old)
        for actor in actors:
            os.kill(actor.pid, signal.SIGKILL)

    def _connect(self) -> raykafka.Cluster:
        return raykafka.connect(f"{self.folder}{os.sep}")


def _all_in_sync(admin: raykafka.Admin, topic: Topic) -> bool:
    (found,) = admin.describe_topics([topic.name])
    return all(len(each.isr) == topic.copies for each in found.partitions)


def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + IN_SYNC_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not in {IN_SYNC_S:g} s: {what}")
        time.sleep(0.02)


def _kill_tree(pid: int) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for each in (*process.children(recursive=True), process):
            each.kill()


def main() -> None:
    """Run the cluster."""
    import ray
    from ray.cluster_utils import Cluster

    name, folder, count, *settings = sys.argv[1:]
    configs = dict(setting.split("=", 1) for setting in settings)
    node = {
        "num_cpus": 1,
        "object_store_memory": _OBJECT_STORE_BYTES,
        "resources": {"raykafka-loopback": 1},
    }
    nodes = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    try:
        for _ in range(int(count) - 1):
            nodes.add_node(**node)
        ray.init(address=nodes.address, log_to_driver=False)
        with raykafka.start(name, data_dir=folder, configs=configs) as cluster:
            _until(lambda: _alive(cluster) == int(count), f"{count} brokers are alive")
            print(READY, flush=True)
            sys.stdin.read()
    finally:
        ray.shutdown()
        nodes.shutdown()


def _alive(cluster: raykafka.Cluster) -> int:
    return sum(broker.alive for broker in cluster.status().brokers)


if __name__ == "__main__":
    main()
