"""``ShareConsumer`` for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pyarrow as pa

from raykafka.client.cluster.bootstrap import Bootstrap
from raykafka.client.consuming.polled_tables import as_table
from raykafka.client.share_consumer import CLOSE_TIMEOUT_MS, ShareConsumer
from raykafka.client.sharing.share_fetcher import Outcomes
from raykafka.client.sharing.share_records import ShareBatch, ShareRecord, ShareRecords
from raykafka.client.sharing.share_session import Assignment
from raykafka.config.share_consumer import ShareConsumerConfig
from raykafka.errors import ClientClosedError, IllegalStateError
from raykafka.model import AcknowledgeType, TopicPartition

T = TypeVar("T")

_STEP_MS = 60_000


class AsyncShareConsumer:
    """The methods of ``ShareConsumer``; those that wait are awaited, and run in a thread.

    A poll that is cancelled gives its records to the next one.
    """

    def __init__(
        self,
        bootstrap: Bootstrap,
        config: ShareConsumerConfig | None = None,
        *,
        assignment: Assignment | None = None,
        **settings: Any,
    ) -> None:
        """As for ``ShareConsumer``; nobody is contacted."""
        parsed = config if config is not None else ShareConsumerConfig.parse(settings)
        self._consumer = ShareConsumer(bootstrap, parsed, assignment=assignment)
        self._timeout_ms = parsed.consumer.consumer_timeout_ms
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="raykafka-async-share")
        self._closed = False

    async def __aenter__(self) -> AsyncShareConsumer:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def __aiter__(self) -> AsyncIterator[ShareRecord]:
        """Record after record; ends after ``consumer_timeout_ms`` without one, if that is set."""
        while True:
            polled = await self.poll(_STEP_MS if self._timeout_ms < 0 else self._timeout_ms)
            for record in self._consumer.iterate_polled():
                yield record
            if not polled and self._timeout_ms >= 0:
                return

    async def subscribe(self, topics: Iterable[str] = (), pattern: str = "") -> None:
        """See ``ShareConsumer.subscribe``."""
        await self._submit(lambda: self._consumer.subscribe(topics, pattern))

    async def assignment(self) -> set[TopicPartition]:
        """See ``ShareConsumer.assignment``."""
        return await self._submit(self._consumer.assignment)

    async def poll(
        self, timeout_ms: int = 0, max_records: int | None = None
    ) -> dict[TopicPartition, ShareRecords]:
        """See ``ShareConsumer.poll``."""
        return await self._read(lambda: self._consumer.poll(timeout_ms, max_records))

    async def poll_batches(
        self, timeout_ms: int = 0, max_records: int | None = None, metadata: Iterable[str] = ()
    ) -> list[ShareBatch]:
        """See ``ShareConsumer.poll_batches``."""
        return await self._read(
            lambda: self._consumer.poll_batches(timeout_ms, max_records, metadata)
        )

    async def poll_table(
        self, timeout_ms: int = 0, max_records: int | None = None, metadata: Iterable[str] = ()
    ) -> pa.Table | None:
        """See ``ShareConsumer.poll_table``."""
        batches = await self.poll_batches(timeout_ms, max_records, metadata)
        try:
            return as_table([each.batch for each in batches]) if batches else None
        except IllegalStateError:
            await self._submit(self._consumer.put_back)
            raise

    async def acknowledge(
        self, what: ShareRecord | ShareBatch, type: AcknowledgeType = AcknowledgeType.ACCEPT
    ) -> None:
        """See ``ShareConsumer.acknowledge``."""
        await self._submit(lambda: self._consumer.acknowledge(what, type))

    async def acknowledge_mask(
        self,
        batch: ShareBatch,
        accepted: Any,
        otherwise: AcknowledgeType = AcknowledgeType.RELEASE,
    ) -> None:
        """See ``ShareConsumer.acknowledge_mask``."""
        await self._submit(lambda: self._consumer.acknowledge_mask(batch, accepted, otherwise))

    async def acknowledge_rows(
        self, accepted: Any = None, otherwise: AcknowledgeType = AcknowledgeType.RELEASE
    ) -> None:
        """See ``ShareConsumer.acknowledge_rows``."""
        await self._submit(lambda: self._consumer.acknowledge_rows(accepted, otherwise))

    async def renew(
        self, *records: ShareRecord | ShareBatch, timeout_ms: int | None = None
    ) -> Outcomes:
        """See ``ShareConsumer.renew``."""
        return await self._submit(lambda: self._consumer.renew(*records, timeout_ms=timeout_ms))

    async def commit(self, timeout_ms: int | None = None) -> Outcomes:
        """See ``ShareConsumer.commit``."""
        return await self._submit(lambda: self._consumer.commit(timeout_ms))

    def metrics(self) -> dict[str, Any]:
        """See ``ShareConsumer.metrics``."""
        return self._consumer.metrics()

    def wakeup(self) -> None:
        """See ``ShareConsumer.wakeup``."""
        self._consumer.wakeup()

    async def close(self, timeout_ms: int = CLOSE_TIMEOUT_MS) -> None:
        """See ``ShareConsumer.close``. Calls under way end first, at once. Idempotent."""
        if self._closed:
            return
        self._consumer.wakeup()
        closing = self._submit(lambda: self._consumer.close(timeout_ms))
        self._closed = True
        try:
            await asyncio.shield(closing)
        finally:
            self._thread.shutdown(wait=False)

    async def _read(self, poll: Callable[[], T]) -> T:
        """Run a poll in the thread; when this is cancelled, undo it."""
        reading = self._submit(poll)
        try:
            return await asyncio.shield(reading)
        except asyncio.CancelledError:
            if not reading.done():
                self._consumer.wakeup()
            await _finished(reading)
            if not reading.cancelled() and reading.exception() is None:
                await _finished(self._submit(self._consumer.put_back))
            raise

    def _submit(self, work: Callable[[], T]) -> asyncio.Future[T]:
        if self._closed:
            raise ClientClosedError("the share consumer is closed; make a new one")
        return asyncio.get_running_loop().run_in_executor(self._thread, work)


async def _finished(future: asyncio.Future[Any]) -> None:
    """Wait for what is in the thread, even when cancelled again: it has been told to end."""
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError:
            continue
