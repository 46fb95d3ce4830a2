"""How nats-py is driven.

Publishing is asynchronous with many acknowledgements under way, which is several times as fast as
gathering ``publish`` calls; reading is an ordered push consumer with a callback, which is several
times as fast as ``fetch`` on a pull consumer.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import zlib
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import uvloop

from bench.measuring.records import KEYS, Records
from bench.measuring.verification import Taken
from bench.peers.api import Address, ConsumerDriver, Options, ProducerDriver, Topic

if TYPE_CHECKING:
    from nats.aio.client import Client as Connection
    from nats.aio.msg import Msg
    from nats.js import JetStreamContext

UNACKNOWLEDGED = 10_000
"""Records under way at a time."""
ACK_TIMEOUT_S = 60.0
BUFFER_BYTES = 1 << 30
BUFFER_RECORDS = 10_000_000
"""What may wait in the client; beyond it nats-py would drop records."""

Acked = Callable[[Exception | None], None]
Prepared = list[tuple[str, bytes, dict[str, str] | None]]
"""Subject, value and headers of each record."""

T = TypeVar("T")


def stream(topic: Topic, partition: int) -> str:
    """Name of the stream that holds a partition; dots are not allowed in it."""
    return f"{topic.name.replace('.', '_')}-{partition}"


def subject(topic: Topic, partition: int) -> str:
    """Where records of a partition are published."""
    return f"{topic.name}.{partition}"


class Connected:
    """A connection on a loop of its own, which turns in the caller's thread or in another one.

    In the caller's thread it costs nothing extra; a paced load needs it to turn by itself.
    """

    def __init__(self, address: Address) -> None:
        self.loop = uvloop.new_event_loop()
        self._thread: threading.Thread | None = None
        self._lost: asyncio.Future[Exception] = self.loop.create_future()
        self.connection: Connection = self.run(self._connect(address))
        self.stream: JetStreamContext = self.connection.jetstream(
            publish_async_max_pending=UNACKNOWLEDGED
        )

    async def _connect(self, address: Address) -> Connection:
        import nats

        async def noticed(error: Exception) -> None:
            if not self._lost.done():
                self._lost.set_result(error)

        async def closed() -> None:
            await noticed(ConnectionError("the connection to the server was closed"))

        return await nats.connect(
            address, error_cb=noticed, closed_cb=closed, allow_reconnect=False
        )

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Its result, whoever turns the loop."""
        if self._thread is None:
            return self.loop.run_until_complete(work)
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    async def unless_lost(self, work: Coroutine[Any, Any, T], timeout_s: float | None = None) -> T:
        """Its result. Raises what the library reported meanwhile, and ``TimeoutError``."""
        task = asyncio.ensure_future(work)
        await asyncio.wait(
            (task, self._lost), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
        )
        if task.done():
            return task.result()
        task.cancel()
        if self._lost.done():
            raise self._lost.result()
        raise TimeoutError(f"the server did not answer in {timeout_s:g} s")

    def turn_in_thread(self) -> None:
        """From now on the loop turns by itself."""
        if self._thread is None:
            self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
            self._thread.start()

    def close(self) -> None:
        if self._thread is not None:
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join()
        self.loop.run_until_complete(self._end())
        self.loop.close()

    async def _end(self) -> None:
        await self.connection.close()
        # Ordered consumers leave tasks behind.
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


def create_streams(address: Address, topic: Topic) -> None:
    """A stream for every partition: a log and an order of its own, as a partition is."""
    from nats.js.api import StorageType, StreamConfig

    async def create() -> None:
        for number in range(topic.partitions):
            await connected.stream.add_stream(
                StreamConfig(
                    name=stream(topic, number),
                    subjects=[subject(topic, number)],
                    storage=StorageType.FILE,
                )
            )

    connected = Connected(address)
    try:
        connected.run(create())
    finally:
        connected.close()


def delete_streams(address: Address, topic: Topic) -> None:
    """Remove the streams of a topic."""

    async def delete() -> None:
        for number in range(topic.partitions):
            await connected.stream.delete_stream(stream(topic, number))

    connected = Connected(address)
    try:
        connected.run(delete())
    finally:
        connected.close()


def prepared_records(topic: Topic, records: Records, keyed: bool) -> Prepared:
    """What is published for ``records``.

    Keyed records go where their key says, others in runs to one partition after another.
    """
    subjects = [subject(topic, number) for number in range(topic.partitions)]
    values = records.values()
    if not keyed:
        run = UNACKNOWLEDGED // 10
        return [(subjects[at // run % len(subjects)], v, None) for at, v in enumerate(values)]
    keys = [f"key-{number}" for number in range(KEYS)]
    places = [subjects[zlib.crc32(key.encode()) % len(subjects)] for key in keys]
    return [(places[at % KEYS], value, {"Key": keys[at % KEYS]}) for at, value in enumerate(values)]


class JetStreamProducer(ProducerDriver):
    """``publish_async``, every acknowledgement looked at."""

    def __init__(self, address: Address, topic: Topic, options: Options) -> None:
        self._topic = topic
        self._subjects = itertools.cycle(subject(topic, n) for n in range(topic.partitions))
        self._connected = Connected(address)
        self._queue: asyncio.Queue[tuple[bytes, Acked]] | None = None

    def prepare(self, records: Records, keyed: bool = False) -> Prepared:
        return prepared_records(self._topic, records, keyed)

    def send_all(self, prepared: Prepared) -> None:
        self._connected.run(self._connected.unless_lost(self._publish_all(prepared)))

    async def _publish_all(self, prepared: Prepared) -> None:
        publish = self._connected.stream.publish_async
        acks = [await publish(place, value, headers=headers) for place, value, headers in prepared]
        await self._connected.unless_lost(
            self._connected.stream.publish_async_completed(), ACK_TIMEOUT_S
        )
        for ack in acks:
            ack.result()

    def send_one(self, value: bytes) -> None:
        self._connected.run(self._connected.stream.publish(next(self._subjects), value))

    def send(self, value: bytes, acked: Acked) -> None:
        if self._queue is None:
            self._queue = asyncio.Queue()
            self._connected.turn_in_thread()
            asyncio.run_coroutine_threadsafe(self._publish_queued(), self._connected.loop)
        self._connected.loop.call_soon_threadsafe(self._queue.put_nowait, (value, acked))

    async def _publish_queued(self) -> None:
        """One after the other, so that they keep their order."""
        assert self._queue is not None
        done = self._queue.task_done
        while True:
            value, acked = await self._queue.get()

            def told(ack: asyncio.Future[Any], acked: Acked = acked) -> None:
                error = ack.exception()
                acked(error if isinstance(error, Exception) else None)
                done()

            try:
                ack = await self._connected.stream.publish_async(next(self._subjects), value)
            except Exception as error:  # noqa: BLE001 - the record has failed, whatever it is
                acked(error)
                done()
            else:
                ack.add_done_callback(told)

    def flush(self) -> None:
        if self._queue is not None:
            self._connected.run(self._connected.unless_lost(self._queue.join(), ACK_TIMEOUT_S))

    def close(self) -> None:
        self._connected.close()


class JetStreamConsumer(ConsumerDriver):
    """An ordered consumer on each partition, which the server pushes to."""

    def __init__(self, address: Address, topic: Topic, options: Options) -> None:
        self._topic = topic
        self._numbers = options.partitions or tuple(range(topic.partitions))
        self._connected = Connected(address)
        self._values: dict[int, list[bytes]] = {number: [] for number in self._numbers}
        self._wanted = 1
        self._came = asyncio.Event()
        self._subscribed = False

    async def _subscribe(self) -> None:
        self._subscribed = True
        for number in self._numbers:
            await self._connected.stream.subscribe(
                subject(self._topic, number),
                stream=stream(self._topic, number),
                cb=self._taker(number),
                ordered_consumer=True,
                pending_msgs_limit=BUFFER_RECORDS,
                pending_bytes_limit=BUFFER_BYTES,
            )

    def _taker(self, number: int) -> Callable[[Msg], Coroutine[Any, Any, None]]:
        keep = self._values[number].append

        async def take(message: Msg) -> None:
            keep(message.data)
            self._wanted -= 1
            if self._wanted == 0:
                self._came.set()

        return take

    def read_all(self, count: int, timeout_s: float) -> dict[int, list[bytes]]:
        self._connected.run(self._wait_for(count, timeout_s))
        if self._wanted > 0:
            raise TimeoutError(f"{count - self._wanted} of {count} records came in time")
        return self._values

    async def _wait_for(self, count: int, timeout_s: float) -> None:
        """Return when ``count`` records are there, or the time is up."""
        self._wanted = count - sum(map(len, self._values.values()))
        if self._wanted <= 0:
            return
        self._came.clear()
        if not self._subscribed:
            await self._subscribe()
        with contextlib.suppress(TimeoutError):
            await self._connected.unless_lost(self._came.wait(), timeout_s)

    def taken(self, read: dict[int, list[bytes]]) -> Sequence[Taken]:
        return [Taken(number, values) for number, values in read.items()]

    def poll_values(self, timeout_s: float) -> Mapping[int, Sequence[bytes]]:
        self._connected.run(self._wait_for(1, timeout_s))
        found = {number: values[:] for number, values in self._values.items() if values}
        for number in found:
            self._values[number].clear()
        return found

    def close(self) -> None:
        self._connected.close()
