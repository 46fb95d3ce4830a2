"""From asking for 1,000 partitions to an acknowledged record on every one of them."""

from __future__ import annotations

import time

import raykafka as rk
from bench.peers.api import Address
from bench.peers.confluent import admin_client, idempotent_producer

COUNT = 1000
_VALUE = bytes(100)
_TIMEOUT_S = 60.0


def raykafka(address: Address, name: str) -> tuple[float, float]:
    """Seconds until the topic was answered, and until all partitions had taken a record."""
    cluster = rk.connect(address)
    with cluster.admin() as admin, cluster.producer() as producer:
        start = time.perf_counter()
        admin.create_topics([rk.NewTopic(name, num_partitions=COUNT)])
        answered = time.perf_counter() - start
        for partition in range(COUNT):
            producer.send(name, _VALUE, partition=partition)
        producer.flush(_TIMEOUT_S)
        writable = time.perf_counter() - start
        if producer.metrics()["records_sent"] != COUNT:
            raise RuntimeError("not every partition took its record")
    return answered, writable


def kafka(address: Address, name: str) -> tuple[float, float]:
    """The same with confluent-kafka."""
    from confluent_kafka.admin import NewTopic

    admin, producer = admin_client(address), idempotent_producer(address)
    acknowledged: list[int] = []

    def told(error: object, message: object) -> None:
        if error is None:
            acknowledged.append(1)

    start = time.perf_counter()
    admin.create_topics([NewTopic(name, COUNT, 1)])[name].result(_TIMEOUT_S)
    answered = time.perf_counter() - start
    for partition in range(COUNT):
        producer.produce(name, _VALUE, partition=partition, on_delivery=told)
    producer.flush(_TIMEOUT_S)
    writable = time.perf_counter() - start
    if len(acknowledged) != COUNT:
        raise RuntimeError(f"{len(acknowledged)} of {COUNT} partitions took their record")
    return answered, writable
