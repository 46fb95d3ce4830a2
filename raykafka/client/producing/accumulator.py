"""Where records wait until they are worth a batch: one growing chunk per topic.

The chunk is per topic and not per partition because ``send`` has no time to hash keys: partitions
are chosen for a whole chunk at once when it is sent.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol

from raykafka.client.cluster.deadline import Deadline
from raykafka.client.producing.delivery import Driver, Group
from raykafka.client.producing.futures import RecordFuture
from raykafka.client.producing.groups import Chunk
from raykafka.clock import Clock
from raykafka.errors import (
    BufferExhaustedError,
    ClientClosedError,
    IllegalStateError,
    MessageTooLargeError,
)

FIRST_RESERVE_BYTES = 64 << 10
"""What a new chunk takes of ``buffer_memory``; it takes more as it grows, so that a producer of
many quiet topics is not held up by memory that nobody uses."""

EARLY_BYTES = 4 << 10
"""At which the first chunk of a transaction is sent: its leaders ask the coordinator while the rest
is still being handed over. Smaller transactions are in one batch."""

MOMENT_S = 50e-6
"""How long to let other threads run when one was interrupted while it changed a chunk."""
PATIENCE_MS = 10_000
"""After which that thread must be the one that waits, called by a signal or a finalizer."""

NEVER_MS = 1 << 62


class Sending(Driver, Protocol):
    """What the accumulator asks of the sender."""

    def assist(self) -> None:
        """Send what is ready from this thread, unless another one is at it."""

    def notice(self) -> None:
        """A chunk has been opened: something will have to be sent soon. Must not block."""


class TopicBuffer:
    """The open chunk of one topic, if there is one."""

    __slots__ = ("chunk", "largest", "limit", "name")

    def __init__(self, name: str, largest: int) -> None:
        self.name = name
        self.largest = largest
        self.limit = largest
        """Bytes at which a chunk is full."""
        self.chunk: Chunk | None = None
        """Set and cleared only under the accumulator's lock."""

    def hurry(self) -> None:
        """Have the next chunk, and only that one, sent early."""
        self.limit = min(self.largest, EARLY_BYTES)


class Accumulator:
    """Open chunks, the queue of those ready to be sent, and the memory they take. Thread-safe."""

    def __init__(
        self,
        driver: Sending,
        *,
        batch_size: int,
        linger_ms: int,
        buffer_memory: int,
        max_block_ms: int,
        clock: Clock,
    ) -> None:
        self._driver = driver
        self._batch_size = min(batch_size, buffer_memory)
        self._linger_ms = linger_ms
        self._buffer_memory = buffer_memory
        self._max_block_ms = max_block_ms
        self._clock = clock
        self._now_s = clock.now_s
        self._moment = threading.Lock()
        self._moment.acquire()
        self._lock = threading.Lock()
        """Held to open and close chunks and to count memory; a chunk's ``free`` comes after it."""
        self._open: dict[Group, TopicBuffer] = {}
        self.ready: deque[Group] = deque()
        self._incomplete: dict[Group, None] = {}
        self._closed = False
        self.used_bytes = 0
        """Taken of ``buffer_memory``: open chunks count with what they may grow to."""
        self._short_of_memory = 0

    def new_buffer(self, name: str, largest_batch: int) -> TopicBuffer:
        """The place for a topic's records; ``largest_batch`` bounds its chunks."""
        return TopicBuffer(name, max(1, min(self._batch_size, largest_batch)))

    def append_plain(
        self, buffer: TopicBuffer, value: bytes, key: bytes | None, size: int
    ) -> RecordFuture:
        """``append`` for what most records are: no headers, no wishes, an untyped topic."""
        chunk = buffer.chunk
        if chunk is None:
            return self.append(buffer, value, key, None, None, None, size)
        now_s = self._now_s()
        # Made before the chunk is taken: it may set off the garbage collector, and with it a
        # finalizer that sends, which would wait for the chunk that this thread has.
        future = RecordFuture()
        try:
            del chunk.free
        except AttributeError:  # it was closed, or another thread was interrupted in what follows
            return self.append(buffer, value, key, None, None, None, size)
        try:
            filled = chunk.size + size
            keys = chunk.keys
            if (
                filled <= chunk.limit
                and chunk.since_s <= now_s < chunk.until_s
                and (key is None or keys is not None)
            ):
                values = chunk.values
                future._group, future._index = chunk, len(values)
                values.append(value)
                if keys is not None:
                    keys.append(key)
                chunk.size = filled
                return future
        finally:
            chunk.free = True
        return self.append(buffer, value, key, None, None, None, size)

    def append(
        self,
        buffer: TopicBuffer,
        value: Any,
        key: bytes | None,
        headers: Sequence[tuple[str, bytes | None]] | None,
        partition: int | None,
        timestamp_ms: int | None,
        size: int,
        schema_id: int = 0,
    ) -> RecordFuture:
        """Add one record of ``size`` bytes.

        Waits up to ``max_block_ms`` for memory, then raises ``BufferExhaustedError``.
        """
        now = self._clock.now_ms()
        with self._lock:
            chunk = self._chunk_with_room(buffer, size, schema_id, now)
            try:
                timestamp = now if timestamp_ms is None else timestamp_ms
                index = chunk.append(value, key, headers, partition, timestamp, size)
            finally:
                chunk.free = True
        if not index:
            self._driver.notice()
        if now >= chunk.due_wall_ms or self.ready:
            self._driver.assist()
        future = RecordFuture()
        future._group, future._index = chunk, index
        return future

    def add(self, group: Group, size: int, before: TopicBuffer) -> None:
        """Queue a group that is complete as it is, behind what its topic has open.

        Takes ``size`` bytes, at most all of ``buffer_memory``; waits like ``append``.
        """
        size = min(size, self._buffer_memory)
        with self._lock:
            self._close_chunk(before)
            self._wait_for_memory(size)
            self._close_chunk(before)
            self.used_bytes += size
            group.size = size
            self._incomplete[group] = None
            self.ready.append(group)

    def close_chunk(self, group: Group) -> None:
        """Make a chunk ready now, full or not; nothing happens if it is already."""
        if group in self._open:
            with self._lock:
                buffer = self._open.get(group)
                if buffer is not None:
                    self._close_chunk(buffer)

    def close_all(self) -> list[Group]:
        """Make every chunk ready now; returns all groups that are not complete yet."""
        with self._lock:
            for buffer in list(self._open.values()):
                self._close_chunk(buffer)
            return list(self._incomplete)

    def take_ready(self, now_ms: int, congested: Collection[str]) -> list[Group]:
        """Groups to send now: full chunks, and those that have lingered long enough.

        Chunks of ``congested`` topics go on growing: their batches could not be sent yet anyway.
        """
        if self._open:
            with self._lock:
                due = []
                for buffer in self._open.values():  # in the order in which they will be due
                    chunk = buffer.chunk
                    if chunk is not None and chunk.due_ms > now_ms and not self._short_of_memory:
                        break
                    if buffer.name not in congested:
                        due.append(buffer)
                for buffer in due:
                    self._close_chunk(buffer)
        ready, taken = self.ready, []
        while ready:
            taken.append(ready.popleft())
        return taken

    def next_due_ms(self, congested: Collection[str]) -> int:
        """Monotonic time at which the next open chunk is due; ``NEVER_MS`` if none is open."""
        with self._lock:
            for buffer in self._open.values():
                if buffer.chunk is not None and buffer.name not in congested:
                    return buffer.chunk.due_ms
        return NEVER_MS

    def forget(self, group: Group) -> None:
        """The group is complete: give its memory back."""
        with self._lock:
            if group in self._incomplete:
                del self._incomplete[group]
                self.used_bytes -= group.size

    @property
    def idle(self) -> bool:
        """Whether every record that was ever added is settled."""
        return not self._incomplete

    def shut(self) -> None:
        """Take no more records: ``append`` and ``add`` raise ``ClientClosedError`` from now on."""
        with self._lock:
            self._closed = True

    def _chunk_with_room(
        self, buffer: TopicBuffer, size: int, schema_id: int, now_ms: int
    ) -> Chunk:
        """An open chunk that takes ``size`` more bytes, not ``free`` until the caller says so.

        The lock is held, but not all the time.
        """
        need = max(size, min(FIRST_RESERVE_BYTES, buffer.limit))
        while True:
            chunk = self._take_chunk(buffer)
            if chunk is not None:
                fits = False
                try:
                    fits = chunk.schema_id == schema_id and self._grow(chunk, buffer, size)
                finally:
                    if not fits:
                        chunk.free = True
                if fits:
                    return chunk
                self._close_chunk(buffer)
            if self.used_bytes + need <= self._buffer_memory:
                return self._open_chunk(buffer, need, schema_id, now_ms)
            self._wait_for_memory(need)
            now_ms = self._clock.now_ms()

    def _grow(self, chunk: Chunk, buffer: TopicBuffer, size: int) -> bool:
        while chunk.size + size > chunk.limit:
            limit = min(chunk.limit * 2, buffer.limit)
            if limit <= chunk.limit or not self._room(limit - chunk.limit):
                return False
            self.used_bytes += limit - chunk.limit
            chunk.limit = limit
        return True

    def _open_chunk(self, buffer: TopicBuffer, limit: int, schema_id: int, now_ms: int) -> Chunk:
        if self._closed:
            raise ClientClosedError()
        chunk = Chunk(
            self._driver,
            buffer.name,
            created_ms=self._clock.monotonic_ms(),
            limit=limit,
            schema_id=schema_id,
        )
        chunk.due_ms += self._linger_ms
        # Without linger a background thread sends: this one would make a batch of every record.
        chunk.due_wall_ms = now_ms + self._linger_ms if self._linger_ms else NEVER_MS
        self.used_bytes += chunk.limit
        buffer.chunk = chunk
        self._open[chunk] = buffer
        self._incomplete[chunk] = None
        return chunk

    def _take_chunk(self, buffer: TopicBuffer) -> Chunk | None:
        """The open chunk, which nobody else changes until it is set ``free``; None if none is."""
        chunk = buffer.chunk
        if chunk is None or _took(chunk):
            return chunk
        # Only until the interpreter goes on with the thread that has it.
        deadline = Deadline(self._clock, PATIENCE_MS)
        while not _took(chunk):
            self._moment.acquire(timeout=MOMENT_S)
            if deadline.expired:
                raise IllegalStateError(
                    "the producer was used by a signal handler or a finalizer that interrupted it "
                    "in the middle of a send; hand the work to another thread there"
                )
        return chunk

    def _close_chunk(self, buffer: TopicBuffer) -> None:
        chunk = self._take_chunk(buffer)
        if chunk is None:
            return
        self.used_bytes -= chunk.limit - chunk.size
        buffer.chunk = None
        buffer.limit = buffer.largest
        del self._open[chunk]
        self.ready.append(chunk)

    def _room(self, size: int) -> bool:
        return self.used_bytes + size <= self._buffer_memory

    def _wait_for_memory(self, size: int) -> None:
        """Wait with the lock released; it is held again at the end, however that comes about."""
        if size > self._buffer_memory:
            raise MessageTooLargeError(
                f"the record has {size} bytes, more than buffer_memory ({self._buffer_memory}); "
                "raise buffer_memory"
            )
        deadline = Deadline(self._clock, self._max_block_ms)
        settled: Callable[[], bool] = lambda: self._closed or self._room(size)  # noqa: E731
        self._short_of_memory += 1
        try:
            while not self._room(size):
                if self._closed:
                    raise ClientClosedError()
                if deadline.expired:
                    raise BufferExhaustedError(
                        f"buffer_memory of {self._buffer_memory} bytes stayed full for "
                        f"{self._max_block_ms} ms; send more slowly or raise buffer_memory"
                    )
                self._lock.release()
                try:
                    self._driver.wait_for(settled, deadline.remaining_ms(NEVER_MS) / 1000, None)
                finally:
                    self._lock.acquire()
        finally:
            self._short_of_memory -= 1


def _took(chunk: Chunk) -> bool:
    """Take a chunk if nobody has it."""
    try:
        del chunk.free
    except AttributeError:
        return False
    return True
