"""Topics filled before a case reads them; filling is not what these cases measure."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import pyarrow as pa

import raykafka
from bench.peers.api import Address, Options, Topic
from bench.peers.confluent import admin_client, producer_settings, wait_for_leaders
from raykafka import NewTopic, Producer, TopicHandle

BATCH = 10_000
"""Rows per append."""
_TIMEOUT_S = 60.0
_numbers = itertools.count()


def fresh_name(case: str) -> str:
    """A topic's name that no other run uses."""
    return f"{case}-{os.getpid()}-{next(_numbers)}"


@contextmanager
def raykafka_topic(
    address: Address, name: str, schema: pa.Schema, partitions: int = 1
) -> Iterator[TopicHandle]:
    """A typed topic, deleted in the end."""
    with raykafka.connect(address).admin() as admin:
        admin.create_topics([NewTopic(name, num_partitions=partitions, schema=schema)])
        try:
            yield raykafka.connect(address).topic(name)
        finally:
            admin.delete_topics([name])


def append_slices(address: Address, topic: str, tables: Mapping[int, pa.Table]) -> None:
    """Append a table to each partition, ``BATCH`` rows at a time; returns when acknowledged."""
    with raykafka.connect(address).producer() as producer:
        send_slices(producer, topic, tables)


def send_slices(producer: Producer, topic: str, tables: Mapping[int, pa.Table]) -> None:
    """The same with a producer that is there already. Raises what befell the first that failed."""
    sent = [
        producer.send_table(topic, table.slice(start, BATCH), partition=number)
        for number, table in tables.items()
        for start in range(0, table.num_rows, BATCH)
    ]
    for future in sent:
        future.get(_TIMEOUT_S)


@contextmanager
def kafka_topic(address: Address, name: str, partitions: int = 1) -> Iterator[None]:
    """A topic of Kafka, deleted in the end."""
    from confluent_kafka.admin import NewTopic as KafkaTopic

    admin = admin_client(address)
    admin.create_topics([KafkaTopic(name, partitions, 1)])[name].result(_TIMEOUT_S)
    try:
        yield
    finally:
        admin.delete_topics([name])[name].result(_TIMEOUT_S)


def produce_values(address: Address, topic: Topic, values: Mapping[int, Sequence[bytes]]) -> None:
    """Send records to each partition of Kafka; returns when all are acknowledged."""
    from confluent_kafka import KafkaException
    from confluent_kafka import Producer as KafkaProducer

    failed: list[object] = []

    def told(error: object, _: object) -> None:
        if error is not None:
            failed.append(error)

    producer = KafkaProducer(
        {
            **producer_settings(address, Options()),
            "delivery.report.only.error": True,
            "on_delivery": told,
        }
    )
    wait_for_leaders(producer, topic)
    for number, records in values.items():
        for record in records:
            while True:
                try:
                    producer.produce(topic.name, record, partition=number)
                    break
                except BufferError:
                    producer.poll(0.01)
    left = producer.flush(_TIMEOUT_S)
    producer.close()
    if failed:
        raise KafkaException(failed[0])
    if left:
        raise TimeoutError(f"{left} records were not acknowledged in {_TIMEOUT_S:g} s")
