"""aiokafka: asyncio, with record batches written and read by compiled code.

It runs on uvloop with batches of 1 MB. ``send`` is awaited only until the record is in a batch; the
futures it returns are looked at after the ``flush``, so no failure is missed and no record waits
for the acknowledgement of another. aiokafka can also be given whole batches that the caller fills
record by record (``create_batch``), which saves a future per record and is several times as fast;
since the caller then chooses the partition, that is a client of its own. Reading takes 500 records
per call, which was faster than taking all that have come.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import itertools
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import uvloop

from bench.measuring.records import Records
from bench.measuring.verification import Taken, join_parts
from bench.peers.api import (
    Address,
    Client,
    ConsumerDriver,
    NotOfferedError,
    Options,
    ProducerDriver,
    Topic,
    check_time,
)
from bench.peers.confluent import ACK_S, RECORDS_PER_CALL

BATCH_BYTES = 1_000_000
T = TypeVar("T")


class Loop:
    """An event loop that turns in the caller's thread or, for paced loads, in one of its own."""

    def __init__(self) -> None:
        self._loop = uvloop.new_event_loop()
        self._thread: threading.Thread | None = None

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Its result, whoever turns the loop."""
        if self._thread is None:
            return self._loop.run_until_complete(work)
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def submit(self, work: Coroutine[Any, Any, Any]) -> None:
        """Start something; from the first time on the loop turns by itself."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
            self._thread.start()
        asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self) -> None:
        if self._thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._loop.close()


class RecordProducer(ProducerDriver):
    """``send`` for every record."""

    def __init__(self, address: Address, topic: Topic, options: Options) -> None:
        self._address = address
        self._topic = topic.name
        self._options = options
        self._loop = Loop()
        self._producer = self._loop.run(self._connect(options.linger_ms))
        self._prompt: Any = None
        self._sending: set[asyncio.Future[Any]] = set()

    async def _connect(self, linger_ms: int) -> Any:
        settings = {
            "bootstrap_servers": self._address.split(","),
            "acks": "all" if self._options.acks == "all" else int(self._options.acks),
            "enable_idempotence": self._options.acks == "all",
            "linger_ms": linger_ms,
            "max_batch_size": BATCH_BYTES,
            **self._options.extra,
        }
        producer = importlib.import_module("aiokafka").AIOKafkaProducer(**settings)
        await producer.start()
        await producer.partitions_for(self._topic)
        return producer

    def prepare(self, records: Records, keyed: bool = False) -> Any:
        return records.values(), records.keys() if keyed else None

    def send_all(self, prepared: Any) -> None:
        self._loop.run(self._send_all(*prepared))

    async def _send_all(self, values: list[bytes], keys: list[bytes] | None) -> None:
        send, topic = self._producer.send, self._topic
        if keys is None:
            futures = [await send(topic, value) for value in values]
        else:
            futures = [
                await send(topic, value, key) for value, key in zip(values, keys, strict=True)
            ]
        await self._producer.flush()
        for future in futures:
            future.result()

    def send_one(self, value: bytes) -> None:
        if self._prompt is None:
            lingers = self._options.linger_ms > 0
            self._prompt = self._loop.run(self._connect(0)) if lingers else self._producer
        self._loop.run(self._prompt.send_and_wait(self._topic, value))

    def send(self, value: bytes, acked: Callable[[Exception | None], None]) -> None:
        self._loop.submit(self._send(value, acked))

    async def _send(self, value: bytes, acked: Callable[[Exception | None], None]) -> None:
        def told(future: asyncio.Future[Any]) -> None:
            self._sending.discard(future)
            error = future.exception()
            acked(error if isinstance(error, Exception) else None)

        try:
            future = await self._producer.send(self._topic, value)
        except Exception as error:  # noqa: BLE001 - the sender is told whatever went wrong
            acked(error)
            return
        self._sending.add(future)
        future.add_done_callback(told)

    def flush(self) -> None:
        self._loop.run(self._flush())

    async def _flush(self) -> None:
        await self._producer.flush()
        if self._sending:
            await asyncio.wait(list(self._sending), timeout=ACK_S)
        await asyncio.sleep(0)  # the callbacks of the last futures run

    def close(self) -> None:
        self._loop.run(self._producer.stop())
        if self._prompt is not None:
            self._loop.run(self._prompt.stop())
        self._loop.close()


class BatchProducer(RecordProducer):
    """``append`` to a batch for every record; full batches go to the partitions in turn."""

    def __init__(self, address: Address, topic: Topic, options: Options) -> None:
        super().__init__(address, topic, options)
        self._turns = itertools.cycle(range(topic.partitions))

    def prepare(self, records: Records, keyed: bool = False) -> Any:
        if keyed:
            raise NotOfferedError("a batch goes to one partition, whatever the keys in it")
        return records.values(), None

    async def _send_all(self, values: list[bytes], keys: list[bytes] | None) -> None:
        producer, futures = self._producer, []
        batch = producer.create_batch()
        append = batch.append
        for value in values:
            if append(key=None, value=value, timestamp=None) is None:
                futures.append(await self._send_batch(batch))
                batch = producer.create_batch()
                append = batch.append
                append(key=None, value=value, timestamp=None)
        if batch.record_count():
            futures.append(await self._send_batch(batch))
        await producer.flush()
        for future in futures:
            future.result()

    async def _send_batch(self, batch: Any) -> Any:
        batch.close()
        return await self._producer.send_batch(batch, self._topic, partition=next(self._turns))


class RecordConsumer(ConsumerDriver):
    """``getmany``; it returns with the first records that come, so it follows a live topic too."""

    def __init__(self, address: Address, topic: Topic, options: Options) -> None:
        self._loop = Loop()
        self._consumer = self._loop.run(self._connect(address, topic, options))

    async def _connect(self, address: Address, topic: Topic, options: Options) -> Any:
        aiokafka = importlib.import_module("aiokafka")
        settings = {
            "bootstrap_servers": address.split(","),
            "group_id": None,
            "enable_auto_commit": False,
            "auto_offset_reset": "earliest",
            "max_poll_records": RECORDS_PER_CALL,
            **options.extra,
        }
        consumer = aiokafka.AIOKafkaConsumer(**settings)
        await consumer.start()
        numbers = options.partitions or range(topic.partitions)
        places = [aiokafka.TopicPartition(topic.name, number) for number in numbers]
        consumer.assign(places)
        await consumer.seek_to_beginning(*places)
        return consumer

    def read_all(self, count: int, timeout_s: float) -> Any:
        return self._loop.run(self._read_all(count, timeout_s))

    async def _read_all(self, count: int, timeout_s: float) -> list[tuple[int, list[bytes]]]:
        getmany, seen = self._consumer.getmany, 0
        deadline = time.monotonic() + timeout_s
        read: list[tuple[int, list[bytes]]] = []
        while seen < count:
            for place, records in (await getmany(timeout_ms=1000)).items():
                read.append((place.partition, [record.value for record in records]))
                seen += len(records)
            check_time(deadline, seen, count)
        return read

    def taken(self, read: Any) -> Sequence[Taken]:
        return join_parts(read)

    def poll_values(self, timeout_s: float) -> Mapping[int, Sequence[bytes]]:
        polled = self._loop.run(self._consumer.getmany(timeout_ms=int(timeout_s * 1000)))
        return {place.partition: [r.value for r in found] for place, found in polled.items()}

    def close(self) -> None:
        self._loop.run(self._consumer.stop())
        self._loop.close()


@dataclass(frozen=True)
class AiokafkaClient(Client):
    """One way to use aiokafka."""

    name: str
    batches: bool = False
    peer: str = "kafka"

    def missing(self) -> str | None:
        if importlib.util.find_spec("aiokafka") is None:
            return "aiokafka is not installed (pip install aiokafka)"
        return None

    def producer(self, address: Address, topic: Topic, options: Options) -> ProducerDriver:
        return (BatchProducer if self.batches else RecordProducer)(address, topic, options)

    def consumer(self, address: Address, topic: Topic, options: Options) -> ConsumerDriver:
        return RecordConsumer(address, topic, options)


CLIENT = AiokafkaClient("aiokafka")
BATCHES = AiokafkaClient("aiokafka batches", batches=True)
CLIENTS = (CLIENT, BATCHES)
