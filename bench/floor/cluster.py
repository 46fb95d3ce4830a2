"""A throw-away cluster under Ray for one benchmark run."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import raykafka
from raykafka.client.admin import NewTopic
from raykafka.runtime import Cluster

_names = itertools.count()


@contextmanager
def bench_cluster(**configs: str) -> Iterator[Cluster]:
    """Start a cluster on an empty directory; everything is removed afterwards."""
    folder = tempfile.mkdtemp(prefix="raykafka-bench-")
    cluster = raykafka.start(
        f"bench-{os.getpid()}-{next(_names)}", data_dir=folder, configs=configs
    )
    try:
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


def new_topic(cluster: Cluster, partitions: int = 1, **configs: str) -> str:
    """Create an untyped topic with a fresh name."""
    name = f"bench-{next(_names)}"
    settings = {key.replace("_", "."): value for key, value in configs.items()}
    with cluster.admin() as admin:
        admin.create_topics([NewTopic(name, num_partitions=partitions, topic_configs=settings)])
    return name


def resident_bytes(pid: int) -> int:
    """Resident set of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(pid)


def actor_pids(cluster: Cluster, role: str) -> list[int]:
    """Process ids of the living actors of one role: controller, broker or partition."""
    with cluster.admin() as admin:
        actors = admin.describe_cluster().actors
    return [a.pid for a in actors if a.role == role and a.state == "alive"]


def sealed_segments(cluster: Cluster, topic: str) -> list[Path]:
    """The files of partition 0 of a topic, oldest first, without the one being written."""
    with cluster.admin() as admin:
        folder = Path(admin.describe_log_dirs()[0].path)
    return sorted((folder / f"{topic}-0").glob("*.arrow"))[:-1]
