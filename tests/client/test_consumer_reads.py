"""What a consumer returns, against leaders that do as they are told."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.kits.scripted_cluster import ScriptedCluster

from raykafka.client.consumer import Consumer
from raykafka.model import TopicPartition


@pytest.fixture
def cluster() -> Iterator[ScriptedCluster]:
    with ScriptedCluster() as running:
        yield running


def drain(consumer: Consumer, count: int) -> list[object]:
    found: list[object] = []
    while len(found) < count:
        polled = consumer.poll(timeout_ms=5000)
        assert polled, f"only {len(found)} of {count} came"
        for records in polled.values():
            found += [(r.topic, r.partition, r.offset, r.value) for r in records]
    return found


def test_reads_from_the_beginning_and_goes_on(cluster: ScriptedCluster) -> None:
    topic = cluster.create("t")
    cluster.append(topic, [b"a", b"b"])
    with Consumer(cluster.bootstrap, auto_offset_reset="earliest") as consumer:
        consumer.assign([TopicPartition("t", 0)])
        assert drain(consumer, 2) == [("t", 0, 0, b"a"), ("t", 0, 1, b"b")]
        assert consumer.position(TopicPartition("t", 0)) == 2
        assert consumer.poll() == {}
        cluster.append(topic, [b"c"])
        assert drain(consumer, 1) == [("t", 0, 2, b"c")]
    assert len(cluster.leaders[0].fetches) == 1
