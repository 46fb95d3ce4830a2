"""Three Ray actors read a topic as one consumer group; one of them is killed with SIGKILL.

    python examples/consumer_group.py

The others take over its partitions when its session ends and go on at the offsets it has committed.
Every record is read at least once; any that is missing ends the program with exit code 1.
"""

from __future__ import annotations

import sys
import tempfile
from typing import Any

import ray

import raykafka
from raykafka import NewTopic

RECORDS = 6000
PARTITIONS = 6
SESSION_MS = 2000


@ray.remote
class Reader:
    """One member of the group."""

    def __init__(self, bootstrap: Any) -> None:
        self.consumer = raykafka.Consumer(
            bootstrap, group_id="readers", auto_offset_reset="earliest", max_poll_records=100
        )
        self.consumer.subscribe(["numbers"])

    def read(self) -> list[int]:
        """What has come in a tenth of a second; committed once it has been handed over before."""
        self.consumer.commit()
        polled = self.consumer.poll(timeout_ms=100).values()
        return [int(record.value) for records in polled for record in records]

    def partitions(self) -> int:
        return len(self.consumer.assignment())


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="rk") as folder:
        settings = {"group.consumer.session.timeout.ms": str(SESSION_MS)}
        with raykafka.start("group", data_dir=folder, configs=settings) as cluster:
            return run(cluster)


def run(cluster: raykafka.Cluster) -> int:
    with cluster.admin() as admin, cluster.producer() as producer:
        admin.create_topics([NewTopic("numbers", PARTITIONS)])
        for number in range(RECORDS):
            producer.send("numbers", b"%d" % number, partition=number % PARTITIONS)

    readers = [Reader.remote(cluster.bootstrap) for _ in range(3)]
    seen: set[int] = set()
    while len(seen) < RECORDS // 3:
        seen.update(*ray.get([reader.read.remote() for reader in readers]))
    print("partitions of each:", ray.get([reader.partitions.remote() for reader in readers]))

    ray.kill(readers.pop())  # SIGKILL: it says nothing to anybody
    while len(seen) < RECORDS:
        seen.update(*ray.get([reader.read.remote() for reader in readers]))
    while sum(owned := ray.get([r.partitions.remote() for r in readers])) < PARTITIONS:
        ray.get([reader.read.remote() for reader in readers])
    print("after one was killed:", owned)
    print(f"all {len(seen)} records were read")
    return 0 if seen == set(range(RECORDS)) else 1


if __name__ == "__main__":
    sys.exit(main())
