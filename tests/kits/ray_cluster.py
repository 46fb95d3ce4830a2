"""What tests on a real Ray ask of a cluster."""

from __future__ import annotations

import ray

from raykafka import TopicPartition
from raykafka.actors.handles import NAMESPACE
from raykafka.runtime import Cluster


def actor_names(cluster: str) -> list[str]:
    """Ray's names of the cluster's actors."""
    listed = ray.util.list_named_actors(all_namespaces=True)
    names = [actor["name"] for actor in listed if actor["namespace"] == NAMESPACE]
    return sorted(name for name in names if name.startswith(f"{cluster}/"))


def read_all(cluster: Cluster, topic: str, partitions: int) -> dict[int, list[bytes]]:
    """Values of every partition, from its first offset to its present end."""
    places = [TopicPartition(topic, number) for number in range(partitions)]
    values: dict[int, list[bytes]] = {number: [] for number in range(partitions)}
    with cluster.consumer(auto_offset_reset="earliest") as consumer:
        consumer.assign(places)
        ends = consumer.end_offsets(places)
        consumer.seek_to_beginning(*places)
        while any(consumer.position(place) < ends[place] for place in places):
            for place, records in consumer.poll(timeout_ms=30_000).items():
                for record in records:
                    assert record.offset == len(values[place.partition])
                    values[place.partition].append(record.value)
    return values
