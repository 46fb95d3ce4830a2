"""The part of ``AsyncConsumer`` that has to do with its group."""

from __future__ import annotations

import asyncio
import inspect
import queue
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping
from contextvars import ContextVar
from typing import Any, TypeVar

from raykafka.client.consumer import Consumer
from raykafka.client.consuming.group_consumer import Committable
from raykafka.client.consuming.rebalance_listener import ConsumerRebalanceListener
from raykafka.client.grouping.offsets import OnCommit
from raykafka.model import ConsumerGroupMetadata, OffsetAndMetadata, TopicPartition

T = TypeVar("T")

_Callback = Callable[[Collection[TopicPartition]], Any]

_inside: ContextVar[object] = ContextVar("raykafka_rebalance_listener", default=None)
"""The call of a listener that the caller is in, or was started by."""


class LoopCallbacks:
    """Runs a listener's methods on the event loop while the consumer's thread waits.

    What a method asks of the consumer meanwhile is done by that thread, which does nothing else.
    """

    def __init__(self) -> None:
        self._asked: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._calls: set[object] = set()
        """Calls that the consumer's thread waits for; for the event loop alone."""

    @property
    def inside(self) -> bool:
        """Whether the caller is, or was started by, a listener's method that has not ended.

        What such a method has started and left to itself calls like anybody else afterwards.
        """
        return _inside.get() in self._calls

    def submit(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Have the waiting thread do something; for callers that are ``inside``."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def settle(result: T | None, error: BaseException | None) -> None:
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)  # type: ignore[arg-type]

        def run() -> None:
            try:
                result = work()
            except Exception as error:  # noqa: BLE001 - the caller is told, whatever it is
                loop.call_soon_threadsafe(settle, None, error)
            else:
                loop.call_soon_threadsafe(settle, result, None)

        self._asked.put(run)
        return future

    def call(
        self,
        loop: asyncio.AbstractEventLoop,
        callback: _Callback,
        places: Collection[TopicPartition],
    ) -> None:
        """Call a listener's method on ``loop``; in the consumer's thread."""

        async def invoke() -> None:
            call = object()
            _inside.set(call)
            self._calls.add(call)
            try:
                result = callback(places)
                if inspect.isawaitable(result):
                    await result
            finally:
                self._calls.discard(call)

        called = asyncio.run_coroutine_threadsafe(invoke(), loop)
        called.add_done_callback(lambda _: self._asked.put(None))
        while (work := self._asked.get()) is not None:
            work()
        called.result()


class _LoopListener(ConsumerRebalanceListener):
    """Hands a listener's calls over to the event loop."""

    def __init__(
        self,
        listener: ConsumerRebalanceListener,
        callbacks: LoopCallbacks,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._listener = listener
        self._callbacks = callbacks
        self._loop = loop

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        self._callbacks.call(self._loop, self._listener.on_partitions_assigned, assigned)

    def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        self._callbacks.call(self._loop, self._listener.on_partitions_revoked, revoked)

    def on_partitions_lost(self, lost: Collection[TopicPartition]) -> None:
        callback: _Callback = self._listener.on_partitions_lost
        if type(self._listener).on_partitions_lost is ConsumerRebalanceListener.on_partitions_lost:
            callback = self._listener.on_partitions_revoked  # which may be a coroutine
        self._callbacks.call(self._loop, callback, lost)


class AsyncGroupConsumer(ABC):
    """The methods of ``GroupConsumer``, awaited."""

    _consumer: Consumer
    _callbacks: LoopCallbacks

    async def assign(self, partitions: Iterable[TopicPartition]) -> None:
        """See ``Consumer.assign``."""
        wanted = list(partitions)
        await self._call(lambda: self._consumer.assign(wanted))

    async def subscribe(
        self,
        topics: Iterable[str] = (),
        pattern: str | re.Pattern[str] | None = None,
        listener: ConsumerRebalanceListener | None = None,
    ) -> None:
        """See ``Consumer.subscribe``; the listener's methods may be coroutines."""
        wanted = topics if isinstance(topics, str) else list(topics)
        told = None
        if listener is not None:
            told = _LoopListener(listener, self._callbacks, asyncio.get_running_loop())
        await self._call(lambda: self._consumer.subscribe(wanted, pattern, told))

    async def unsubscribe(self) -> None:
        """See ``Consumer.unsubscribe``."""
        await self._call(self._consumer.unsubscribe)

    async def subscription(self) -> set[str]:
        """See ``Consumer.subscription``."""
        return await self._call(self._consumer.subscription)

    async def enforce_rebalance(self, reason: str = "") -> None:
        """See ``Consumer.enforce_rebalance``."""
        await self._call(lambda: self._consumer.enforce_rebalance(reason))

    async def group_metadata(self) -> ConsumerGroupMetadata:
        """See ``Consumer.group_metadata``."""
        return await self._call(self._consumer.group_metadata)

    async def commit(
        self,
        offsets: Mapping[TopicPartition, Committable] | None = None,
        timeout_ms: int | None = None,
    ) -> None:
        """See ``Consumer.commit``."""
        await self._call(lambda: self._consumer.commit(offsets, timeout_ms))

    async def commit_async(
        self,
        offsets: Mapping[TopicPartition, Committable] | None = None,
        callback: OnCommit | None = None,
    ) -> None:
        """See ``Consumer.commit_async``; the callback is called in the consumer's thread."""
        await self._call(lambda: self._consumer.commit_async(offsets, callback))

    async def committed(
        self, partition: TopicPartition, metadata: bool = False, timeout_ms: int | None = None
    ) -> int | OffsetAndMetadata | None:
        """See ``Consumer.committed``."""
        return await self._call(lambda: self._consumer.committed(partition, metadata, timeout_ms))

    @abstractmethod
    async def _call(self, call: Callable[[], T]) -> T:
        """Run something in the consumer's thread, with positions as they look from here."""
