"""``Producer`` for asyncio."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from raykafka.client.cluster.bootstrap import Bootstrap
from raykafka.client.producer import Producer
from raykafka.client.producing.futures import BatchMetadata, DeliveryFuture
from raykafka.client.transacting.offsets import Offsets
from raykafka.client.transacting.prepared import PreparedTransaction
from raykafka.config.producer import ProducerConfig
from raykafka.model import ConsumerGroupMetadata, RecordMetadata

T = TypeVar("T")

_NEARLY_FULL = 0.75
"""Above this share of ``buffer_memory`` a ``send`` may have to wait, so it goes to the thread."""


class AsyncProducer:
    """The methods of ``Producer`` for one event loop.

    ``send`` queues the record on the loop's thread as long as that cannot block, which costs no
    hand-over; what may block (metadata of a new topic, a full buffer, large tables) is done by one
    thread of its own, in the order of the calls.
    """

    def __init__(self, bootstrap: Bootstrap, **settings: Any) -> None:
        """``settings`` as for ``Producer``."""
        config = ProducerConfig.parse(settings)
        self._enough_bytes = int(config.buffer_memory * _NEARLY_FULL)
        self._producer = Producer(bootstrap, **settings)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="raykafka-async-producer")
        self._known: set[str] = set()
        self._queued = 0
        """Calls that are with the thread: later ones have to follow them."""
        self._awaited = 0

    async def __aenter__(self) -> AsyncProducer:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def send(
        self,
        topic: str,
        value: Any = None,
        key: Any = None,
        headers: Any = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> asyncio.Future[RecordMetadata]:
        """Queue one record; the future that this returns is done when it is acknowledged.

        Cancelling the future does not take the record back. See ``Producer.send`` for the rest.
        """
        sent = await self._hand_over(
            topic,
            lambda: self._producer.send(topic, value, key, headers, partition, timestamp_ms),
        )
        return self._bridged(sent)

    async def send_and_wait(
        self,
        topic: str,
        value: Any = None,
        key: Any = None,
        headers: Any = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> RecordMetadata:
        """Send one record and wait for its acknowledgement; without waiting for ``linger_ms`` if
        nobody else waits for one.
        """
        sent = await self._hand_over(
            topic,
            lambda: self._producer.send(topic, value, key, headers, partition, timestamp_ms),
        )
        self._awaited += 1
        try:
            if self._awaited == 1:
                return await asyncio.get_running_loop().run_in_executor(None, sent.get)
            return await self._bridged(sent)
        finally:
            self._awaited -= 1

    async def send_table(
        self,
        topic: str,
        data: Any,
        *,
        key: str | None = None,
        partition: int | None = None,
        timestamps: Any = None,
    ) -> asyncio.Future[list[BatchMetadata]]:
        """Queue a table; the future that this returns is done when all of it is acknowledged."""
        sent = await self._in_thread(
            lambda: self._producer.send_table(
                topic, data, key=key, partition=partition, timestamps=timestamps
            )
        )
        return self._bridged(sent)

    async def init_transactions(self, *, keep_prepared: bool = False) -> PreparedTransaction | None:
        """See ``Producer.init_transactions``."""
        return await self._in_thread(
            lambda: self._producer.init_transactions(keep_prepared=keep_prepared)
        )

    async def begin_transaction(self) -> None:
        """See ``Producer.begin_transaction``."""
        await self._in_thread(self._producer.begin_transaction)

    async def send_offsets_to_transaction(
        self, offsets: Offsets, group_metadata: ConsumerGroupMetadata
    ) -> None:
        """See ``Producer.send_offsets_to_transaction``."""
        await self._in_thread(
            lambda: self._producer.send_offsets_to_transaction(offsets, group_metadata)
        )

    async def prepare_transaction(self) -> PreparedTransaction:
        """See ``Producer.prepare_transaction``."""
        return await self._in_thread(self._producer.prepare_transaction)

    async def commit_transaction(self) -> None:
        """See ``Producer.commit_transaction``; it goes on when nobody waits for it any more."""
        await self._in_thread(self._producer.commit_transaction)

    async def abort_transaction(self) -> None:
        """See ``Producer.abort_transaction``."""
        await self._in_thread(self._producer.abort_transaction)

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """``async with producer.transaction():``, see ``Producer.transaction``."""
        await self.begin_transaction()
        try:
            yield
            await self.commit_transaction()
        except BaseException:
            await self._in_thread(self._producer.abort_after_error)
            raise

    async def flush(self, timeout: float | None = None) -> None:
        """See ``Producer.flush``; ``timeout`` is in seconds."""
        await self._in_thread(lambda: self._producer.flush(timeout))

    async def partitions_for(self, topic: str) -> set[int]:
        """See ``Producer.partitions_for``."""
        return await self._in_thread(lambda: self._producer.partitions_for(topic))

    def metrics(self) -> dict[str, int]:
        """See ``Producer.metrics``."""
        return dict(self._producer.metrics())

    async def close(self, timeout: float | None = None) -> None:
        """See ``Producer.close``. Idempotent."""
        loop = asyncio.get_running_loop()
        # Not in our own thread: it may be busy with a send that waits for memory.
        await loop.run_in_executor(None, lambda: self._producer.close(timeout))
        self._thread.shutdown(wait=False)

    async def _hand_over(self, topic: str, send: Callable[[], T]) -> T:
        if topic in self._known and not self._queued and not self._nearly_full():
            return send()
        sent = await self._in_thread(send)
        self._known.add(topic)
        return sent

    def _nearly_full(self) -> bool:
        return self._producer.metrics()["buffer_used_bytes"] > self._enough_bytes

    async def _in_thread(self, call: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        self._queued += 1
        try:
            # Shielded: what has been queued is sent, whoever stops waiting for it.
            return await asyncio.shield(loop.run_in_executor(self._thread, call))
        finally:
            self._queued -= 1

    def _bridged(self, sent: DeliveryFuture[T]) -> asyncio.Future[T]:
        """The loop's view of a delivery."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def settle() -> None:
            if future.done():
                return
            error = sent.exception
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(sent.get(0))

        def on_settled(_: object) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(settle)

        sent.add_both(on_settled)
        return future
