"""What a producer lets go of is freed at once, not by the garbage collector."""

from __future__ import annotations

import gc
from pathlib import Path

from raykafka.client.admin import Admin, NewTopic
from raykafka.client.producer import Producer
from raykafka.client.producing.delivery import Delivery, Group
from raykafka.testing.local_cluster import LocalCluster


def test_settled_batches_leave_no_cycles(tmp_path: Path) -> None:
    with LocalCluster(tmp_path) as cluster, Producer(cluster.bootstrap) as producer:
        with Admin(cluster.bootstrap) as admin:
            admin.create_topics([NewTopic("t", num_partitions=2)])
        producer.send("t", b"first").get(30)
        gc.collect()
        gc.disable()
        try:
            for number in range(20):
                producer.send("t", b"value", b"key %d" % number).get(30)
                producer.send_table("t", {"value": [b"a", b"b"]}).get(30)
            kept = [item for item in gc.get_objects() if isinstance(item, (Group, Delivery))]
        finally:
            gc.enable()
    assert not kept
