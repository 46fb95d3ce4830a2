"""confluent-kafka as most programs use it: what the choices in ``confluent`` are worth."""

from __future__ import annotations

import time
from typing import Any

from bench.peers.api import (
    Address,
    Options,
    check_time,
)
from bench.peers.confluent import (
    CallbackProducer,
    ConfluentClient,
    RecordConsumer,
    quiet,
    raise_error,
)


class DefaultProducer(CallbackProducer):
    """The documentation's example: settings as they come, a callback and a ``poll`` per record."""

    def bulk_settings(self) -> dict[str, Any]:
        return {**quiet(self._address), "acks": self._options.acks}

    def send_all(self, prepared: Any) -> None:
        values, keys = prepared
        produce, poll, topic = self._producer.produce, self._producer.poll, self._topic.name
        told = self._failures.told
        for index, value in enumerate(values):
            key = keys[index] if keys else None
            try:
                produce(topic, value, key, on_delivery=told)
            except BufferError:
                self.insist(topic, value, key, -1, told)
            poll(0)
        self.finish()


class DefaultConsumer(RecordConsumer):
    """The documentation's example: settings as they come, ``poll`` for every record."""

    def settings(self, address: Address, options: Options) -> dict[str, Any]:
        given = {"group.id": "bench", "enable.auto.commit": False, "auto.offset.reset": "earliest"}
        return {**quiet(address), **given}

    def read_all(self, count: int, timeout_s: float) -> Any:
        self.assign()
        poll = self._consumer.poll
        deadline = time.monotonic() + timeout_s
        partitions: list[int | None] = []
        values: list[bytes | None] = []
        while len(values) < count:
            message = poll(1.0)
            if message is None:
                check_time(deadline, len(values), count)
                continue
            if message.error() is not None:
                raise_error(message)
            partitions.append(message.partition())
            values.append(message.value())
        return partitions, values


CLIENT = ConfluentClient("confluent-kafka, its defaults", DefaultProducer, DefaultConsumer)
