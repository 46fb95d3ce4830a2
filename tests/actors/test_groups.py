"""Consumer groups under Ray: SIGKILL to the coordinator, and to a member."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

import raykafka
from raykafka import Consumer, ConsumerRebalanceListener, TopicPartition
from raykafka.internal_topics import CONSUMER_OFFSETS
from raykafka.runtime import Cluster

TOPIC = "read"
PARTITIONS = 4
READER = """
import sys
import raykafka

consumer = raykafka.connect(sys.argv[1]).consumer(group_id="g", auto_offset_reset="earliest")
consumer.subscribe(["read"])
while True:
    consumer.poll(100)
    print(len(consumer.assignment()), flush=True)
"""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    configs = {
        "partition.actors": "2",
        "group.consumer.session.timeout.ms": "1500",
        "offsets.topic.num.partitions": "1",
    }
    with raykafka.start("groups", data_dir=tmp_path, configs=configs) as started:
        started.topic(TOPIC, create=True, num_partitions=PARTITIONS)
        yield started


class Told(ConsumerRebalanceListener):
    def __init__(self) -> None:
        self.lost: list[TopicPartition] = []

    def on_partitions_lost(self, lost: Collection[TopicPartition]) -> None:
        self.lost += lost


def own(consumer: Consumer, count: int) -> None:
    """Poll until it has so many partitions."""
    while len(consumer.assignment()) != count:
        consumer.poll(50)


def kill_coordinator(cluster: Cluster) -> None:
    with cluster.admin() as admin:
        [partition] = admin.describe_topics([CONSUMER_OFFSETS])[0].partitions
    assert partition.endpoint is not None
    [pid] = [a.pid for a in cluster.status().actors if a.port == partition.endpoint.port]
    os.kill(pid, signal.SIGKILL)


def test_sigkill_of_the_coordinator(cluster: Cluster) -> None:
    told = Told()
    with cluster.consumer(group_id="g", auto_offset_reset="earliest") as consumer:
        consumer.subscribe([TOPIC], listener=told)
        own(consumer, PARTITIONS)
        before = consumer.group_metadata()
        place = TopicPartition(TOPIC, 0)
        for number in range(1, 4):
            kill_coordinator(cluster)
            consumer.commit({place: number})
            assert consumer.committed(place) == number
            consumer.poll(0)
            assert consumer.group_metadata() == before
        assert told.lost == []


def test_sigkill_of_a_member(cluster: Cluster, tmp_path: Path) -> None:
    with cluster.consumer(group_id="g", auto_offset_reset="earliest") as consumer:
        consumer.subscribe([TOPIC])
        own(consumer, PARTITIONS)
        with subprocess.Popen(
            [sys.executable, "-c", READER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        ) as other:
            own(consumer, PARTITIONS // 2)
            assert other.stdout is not None
            while next(other.stdout).strip() != str(PARTITIONS // 2):
                continue
            other.kill()
        own(consumer, PARTITIONS)
