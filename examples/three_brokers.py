"""Three brokers on one machine, and a leader that is killed with SIGKILL while records are written.

    python examples/three_brokers.py

Starts three Ray nodes (processes that take themselves for machines), writes to a topic with three
copies, kills whoever leads it, and reads everything back. Any difference ends with exit code 1.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time

import ray
from ray.cluster_utils import Cluster

import raykafka
from raykafka import NewTopic, TopicPartition

NODES = 3
RECORDS = 6000
NODE = {
    "num_cpus": 1,
    "object_store_memory": 100 << 20,
    "resources": {"raykafka-loopback": 1},  # listeners stay on 127.0.0.1
}


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="rk") as folder:
        os.environ["RAY_TMPDIR"] = folder  # so that no other Ray of this machine is disturbed
        nodes = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
        try:
            for _ in range(NODES - 1):
                nodes.add_node(**NODE)
            ray.init(address=nodes.address, log_to_driver=False)
            with raykafka.start("three", data_dir=os.path.join(folder, "data")) as cluster:
                return run(cluster)
        finally:
            ray.shutdown()
            nodes.shutdown()


def run(cluster: raykafka.Cluster) -> int:
    settings = {"min.insync.replicas": "2"}
    with cluster.admin() as admin, cluster.producer(linger_ms=0) as producer:
        while [broker.state for broker in admin.describe_brokers()] != ["alive"] * NODES:
            time.sleep(0.1)
        admin.create_topics([NewTopic("ledger", 1, NODES, topic_configs=settings)])
        futures = []
        for number in range(RECORDS):
            if number == RECORDS // 2:
                kill_leader(cluster, admin)
            futures.append(producer.send("ledger", b"%d" % number))
            if number % 20 == 0:
                futures[-1].get(30)
        producer.flush(30)
        acknowledged = sum(future.succeeded() for future in futures)
        (part,) = admin.describe_topics(["ledger"])[0].partitions
        print(f"{acknowledged} acknowledged; broker {part.leader_id} leads, in sync {part.isr}")
    values = read_back(cluster)
    print(f"{len(values)} read back")
    return 0 if values == [b"%d" % number for number in range(RECORDS)] else 1


def kill_leader(cluster: raykafka.Cluster, admin: raykafka.Admin) -> None:
    (part,) = admin.describe_topics(["ledger"])[0].partitions
    for actor in cluster.status().actors:
        if actor.role == "partition" and actor.broker_id == part.leader_id:
            os.kill(actor.pid, signal.SIGKILL)
    print(f"SIGKILL to broker {part.leader_id}, which leads in epoch {part.leader_epoch}")


def read_back(cluster: raykafka.Cluster) -> list[bytes]:
    values: list[bytes] = []
    with cluster.consumer(auto_offset_reset="earliest") as consumer:
        consumer.assign([TopicPartition("ledger", 0)])
        while len(values) < RECORDS:
            polled = consumer.poll(timeout_ms=5000)
            if not polled:
                break
            for records in polled.values():
                values += [record.value for record in records]
    return values


if __name__ == "__main__":
    sys.exit(main())
