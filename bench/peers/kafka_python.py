"""kafka-python, which is Python throughout.

Batches of 1 MB instead of 16 KB make it half as fast again; its metrics are off, as nobody reads
them. Failures are found by
looking at the future of every record, which kafka-python makes and completes anyway.
"""

from __future__ import annotations

import importlib
import importlib.util
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.measuring.records import Records
from bench.measuring.verification import Taken, join_parts
from bench.peers.api import (
    Address,
    Client,
    ConsumerDriver,
    Options,
    ProducerDriver,
    Topic,
    check_time,
)
from bench.peers.confluent import ACK_S, RECORDS_PER_CALL

BATCH_BYTES = 1_000_000


class RecordProducer(ProducerDriver):
    """``send`` for every record; the futures are looked at after the ``flush``."""

    def __init__(self, address: Address, topic: Topic, options: Options) -> None:
        self._address = address
        self._topic = topic.name
        self._options = options
        self._producer = self._connect(options.linger_ms)
        self._prompt: Any = None
        self._failed: list[Exception] = []

    def _connect(self, linger_ms: int) -> Any:
        settings = {
            "bootstrap_servers": self._address.split(","),
            "acks": "all" if self._options.acks == "all" else int(self._options.acks),
            "enable_idempotence": self._options.acks == "all",
            "linger_ms": linger_ms,
            "batch_size": BATCH_BYTES,
            "metrics_enabled": False,
            **self._options.extra,
        }
        producer = importlib.import_module("kafka").KafkaProducer(**settings)
        producer.partitions_for(self._topic)
        return producer

    def prepare(self, records: Records, keyed: bool = False) -> Any:
        return records.values(), records.keys() if keyed else None

    def send_all(self, prepared: Any) -> None:
        values, keys = prepared
        send, topic = self._producer.send, self._topic
        if keys is None:
            futures = [send(topic, value) for value in values]
        else:
            futures = [send(topic, value, key) for value, key in zip(values, keys, strict=True)]
        self._producer.flush(ACK_S)
        for future in futures:
            if not future.succeeded():
                raise RuntimeError(f"a record failed: {future.exception}")

    def send_one(self, value: bytes) -> None:
        if self._prompt is None:
            lingers = self._options.linger_ms > 0
            self._prompt = self._connect(0) if lingers else self._producer
        self._prompt.send(self._topic, value).get(ACK_S)

    def send(self, value: bytes, acked: Callable[[Exception | None], None]) -> None:
        future = self._producer.send(self._topic, value)
        future.add_callback(lambda _: acked(None))
        future.add_errback(acked)

    def flush(self) -> None:
        self._producer.flush(ACK_S)

    def close(self) -> None:
        self._producer.close()
        if self._prompt is not None:
            self._prompt.close()


class RecordConsumer(ConsumerDriver):
    """``poll``; it returns with the first records that come, so it follows a live topic as well."""

    def __init__(self, address: Address, topic: Topic, options: Options) -> None:
        kafka = importlib.import_module("kafka")
        settings = {
            "bootstrap_servers": address.split(","),
            "group_id": None,
            "enable_auto_commit": False,
            "auto_offset_reset": "earliest",
            "max_poll_records": RECORDS_PER_CALL,
            "metrics_enabled": False,
            **options.extra,
        }
        self._consumer = kafka.KafkaConsumer(**settings)
        numbers = options.partitions or range(topic.partitions)
        places = [kafka.TopicPartition(topic.name, number) for number in numbers]
        self._consumer.assign(places)
        self._consumer.seek_to_beginning(*places)

    def read_all(self, count: int, timeout_s: float) -> Any:
        poll, seen = self._consumer.poll, 0
        deadline = time.monotonic() + timeout_s
        read: list[tuple[int, list[bytes]]] = []
        while seen < count:
            for place, records in poll(timeout_ms=1000).items():
                read.append((place.partition, [record.value for record in records]))
                seen += len(records)
            check_time(deadline, seen, count)
        return read

    def taken(self, read: Any) -> Sequence[Taken]:
        return join_parts(read)

    def poll_values(self, timeout_s: float) -> Mapping[int, Sequence[bytes]]:
        polled = self._consumer.poll(timeout_ms=int(timeout_s * 1000))
        return {place.partition: [r.value for r in found] for place, found in polled.items()}

    def close(self) -> None:
        self._consumer.close()


@dataclass(frozen=True)
class KafkaPythonClient(Client):
    """kafka-python."""

    name: str = "kafka-python"
    peer: str = "kafka"

    def missing(self) -> str | None:
        if importlib.util.find_spec("kafka") is None:
            return "kafka-python is not installed (pip install kafka-python)"
        return None

    def producer(self, address: Address, topic: Topic, options: Options) -> ProducerDriver:
        return RecordProducer(address, topic, options)

    def consumer(self, address: Address, topic: Topic, options: Options) -> ConsumerDriver:
        return RecordConsumer(address, topic, options)


CLIENT = KafkaPythonClient()
