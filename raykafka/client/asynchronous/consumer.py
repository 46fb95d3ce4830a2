"""``Consumer`` for asyncio."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pyarrow as pa

from raykafka.client.asynchronous.group_consumer import AsyncGroupConsumer, LoopCallbacks
from raykafka.client.cluster.bootstrap import Bootstrap
from raykafka.client.consumer import Consumer
from raykafka.client.consuming.group_consumer import CLOSE_TIMEOUT_MS
from raykafka.client.consuming.polled_tables import PartitionBatch, as_table
from raykafka.client.consuming.records import ConsumerRecord, ConsumerRecords
from raykafka.config import ConsumerConfig
from raykafka.errors import ClientClosedError, IllegalStateError
from raykafka.model import OffsetAndTimestamp, TopicPartition

T = TypeVar("T")

_STEP_MS = 60_000
_RECORDS_AHEAD = 500


class AsyncConsumer(AsyncGroupConsumer):
    """The methods of ``Consumer``, awaited; they run one after the other in a thread of their own.

    A call that is cancelled moves no position: what it had read is read again. Methods of a
    rebalance listener are called on the event loop, and may be coroutines that await the consumer.
    """

    def __init__(
        self, bootstrap: Bootstrap, config: ConsumerConfig | None = None, **settings: Any
    ) -> None:
        """As for ``Consumer``; nobody is contacted."""
        parsed = config if config is not None else ConsumerConfig.parse(settings)
        self._consumer = Consumer(bootstrap, parsed)
        self._timeout_ms = parsed.consumer_timeout_ms
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="raykafka-async-consumer")
        self._ahead: deque[ConsumerRecord] = deque()
        """Records that iteration has taken and not returned yet."""
        self._closed = False
        self._callbacks = LoopCallbacks()

    async def __aenter__(self) -> AsyncConsumer:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        await self.close(autocommit=kind is None)

    def __aiter__(self) -> AsyncConsumer:
        return self

    async def __anext__(self) -> ConsumerRecord:
        """The next record; ends after ``consumer_timeout_ms`` without one (by default never)."""
        if not self._ahead or self._consumer.interrupted():
            await self._look_ahead()
        return self._ahead.popleft()

    async def _look_ahead(self) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout_ms / 1000
        while True:
            timeout_ms = _STEP_MS if self._timeout_ms < 0 else self._timeout_ms
            for records in (await self.poll(timeout_ms, _RECORDS_AHEAD)).values():
                self._ahead.extend(records)
            if self._ahead:
                return
            if self._timeout_ms >= 0 and loop.time() >= deadline:
                raise StopAsyncIteration

    async def poll(
        self, timeout_ms: int = 0, max_records: int | None = None
    ) -> dict[TopicPartition, ConsumerRecords]:
        """See ``Consumer.poll``."""
        return await self._read(
            lambda: self._consumer.poll(timeout_ms, max_records),
            lambda polled: {p: records[0].offset for p, records in polled.items()},
        )

    async def poll_table(
        self,
        timeout_ms: int = 0,
        max_records: int | None = None,
        max_bytes: int | None = None,
        metadata: Iterable[str] = (),
    ) -> pa.Table | None:
        """See ``Consumer.poll_table``."""
        batches = await self.poll_batches(timeout_ms, max_records, max_bytes, metadata)
        try:
            return as_table([each.batch for each in batches]) if batches else None
        except IllegalStateError:
            read = _first_offsets(batches)
            await self._submit(lambda: self._rewind(read))
            raise

    async def poll_batches(
        self,
        timeout_ms: int = 0,
        max_records: int | None = None,
        max_bytes: int | None = None,
        metadata: Iterable[str] = (),
    ) -> list[PartitionBatch]:
        """See ``Consumer.poll_batches``."""
        wanted = tuple(metadata) if not isinstance(metadata, str) else metadata
        return await self._read(
            lambda: self._consumer.poll_batches(timeout_ms, max_records, max_bytes, wanted),
            _first_offsets,
        )

    async def assignment(self) -> set[TopicPartition]:
        """See ``Consumer.assignment``."""
        return await self._call(self._consumer.assignment)

    async def seek(self, partition: TopicPartition, offset: int) -> None:
        """See ``Consumer.seek``."""
        await self._call(lambda: self._consumer.seek(partition, offset))

    async def seek_to_beginning(self, *partitions: TopicPartition) -> None:
        """See ``Consumer.seek_to_beginning``."""
        await self._call(lambda: self._consumer.seek_to_beginning(*partitions))

    async def seek_to_end(self, *partitions: TopicPartition) -> None:
        """See ``Consumer.seek_to_end``."""
        await self._call(lambda: self._consumer.seek_to_end(*partitions))

    async def position(self, partition: TopicPartition, timeout_ms: int | None = None) -> int:
        """See ``Consumer.position``."""
        return await self._call(lambda: self._consumer.position(partition, timeout_ms))

    async def pause(self, *partitions: TopicPartition) -> None:
        """See ``Consumer.pause``."""
        await self._call(lambda: self._consumer.pause(*partitions))

    async def resume(self, *partitions: TopicPartition) -> None:
        """See ``Consumer.resume``."""
        await self._call(lambda: self._consumer.resume(*partitions))

    async def paused(self) -> set[TopicPartition]:
        """See ``Consumer.paused``."""
        return await self._call(self._consumer.paused)

    async def beginning_offsets(
        self, partitions: Iterable[TopicPartition], timeout_ms: int | None = None
    ) -> dict[TopicPartition, int]:
        """See ``Consumer.beginning_offsets``."""
        wanted = list(partitions)
        return await self._call(lambda: self._consumer.beginning_offsets(wanted, timeout_ms))

    async def end_offsets(
        self, partitions: Iterable[TopicPartition], timeout_ms: int | None = None
    ) -> dict[TopicPartition, int]:
        """See ``Consumer.end_offsets``."""
        wanted = list(partitions)
        return await self._call(lambda: self._consumer.end_offsets(wanted, timeout_ms))

    async def offsets_for_times(
        self, timestamps: Mapping[TopicPartition, int], timeout_ms: int | None = None
    ) -> dict[TopicPartition, OffsetAndTimestamp | None]:
        """See ``Consumer.offsets_for_times``."""
        return await self._call(lambda: self._consumer.offsets_for_times(timestamps, timeout_ms))

    async def partitions_for_topic(self, topic: str) -> set[int] | None:
        """See ``Consumer.partitions_for_topic``."""
        return await self._call(lambda: self._consumer.partitions_for_topic(topic))

    async def topics(self) -> set[str]:
        """See ``Consumer.topics``."""
        return await self._call(self._consumer.topics)

    async def metrics(self) -> dict[str, Any]:
        """See ``Consumer.metrics``."""
        return await self._call(self._consumer.metrics)

    async def close(
        self,
        leave_group: bool = True,
        timeout_ms: int = CLOSE_TIMEOUT_MS,
        autocommit: bool = True,
    ) -> None:
        """See ``Consumer.close``. Calls under way end first, at once. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._consumer.wakeup()
        offsets = self._take_back()

        def work() -> None:
            self._rewind(offsets)  # what was not returned is not committed
            self._consumer.close(leave_group, timeout_ms, autocommit)

        try:
            if self._callbacks.inside:
                await self._callbacks.submit(work)
            else:
                await asyncio.get_running_loop().run_in_executor(self._thread, work)
        finally:
            self._thread.shutdown(wait=False)

    # --- inside -----------------------------------------------------------------------------------

    async def _call(self, call: Callable[[], T]) -> T:
        """Run something in the thread, with positions as they look from here."""
        offsets = self._take_back()

        def work() -> T:
            self._rewind(offsets)
            return call()

        return await self._submit(work)

    async def _read(
        self, poll: Callable[[], T], first_offsets: Callable[[T], dict[TopicPartition, int]]
    ) -> T:
        """Run a poll in the thread; when this is cancelled, undo it."""
        offsets = self._take_back()

        def work() -> T:
            self._rewind(offsets)
            return poll()

        reading = self._submit(work)
        try:
            return await asyncio.shield(reading)
        except asyncio.CancelledError:
            if not reading.done():
                self._consumer.wakeup()
            await _finished(reading)
            if not reading.cancelled() and reading.exception() is None:
                read = first_offsets(reading.result())
                await _finished(self._submit(lambda: self._rewind(read)))
            raise

    def _submit(self, work: Callable[[], T]) -> asyncio.Future[T]:
        if self._callbacks.inside:
            return self._callbacks.submit(work)
        if self._closed:
            raise ClientClosedError("the consumer is closed; make a new one")
        return asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _take_back(self) -> dict[TopicPartition, int]:
        """Where to go on after records that iteration has taken but not returned."""
        offsets: dict[TopicPartition, int] = {}
        for record in self._ahead:
            offsets.setdefault(record.topic_partition, record.offset)
        self._ahead.clear()
        return offsets

    def _rewind(self, offsets: Mapping[TopicPartition, int]) -> None:
        """In the thread."""
        assigned = self._consumer.assignment()
        for partition, offset in offsets.items():
            if partition in assigned:
                self._consumer.seek(partition, offset)


def _first_offsets(batches: Iterable[PartitionBatch]) -> dict[TopicPartition, int]:
    offsets: dict[TopicPartition, int] = {}
    for batch in batches:
        offsets.setdefault(batch.partition, batch.base_offset)
    return offsets


async def _finished(future: asyncio.Future[Any]) -> None:
    """Wait for what is in the thread, even when cancelled again: it has been told to end."""
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError:
            continue
