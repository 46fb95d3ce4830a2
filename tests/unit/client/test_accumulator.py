"""Chunks: when they are full or due, what they hold, and the memory they take."""

from __future__ import annotations

import gc
import signal
import sys
import threading
from collections.abc import Callable

import pytest

from raykafka.client.producing.accumulator import (
    EARLY_BYTES,
    FIRST_RESERVE_BYTES,
    NEVER_MS,
    Accumulator,
)
from raykafka.client.producing.delivery import Group
from raykafka.client.producing.futures import Callbacks, RecordFuture
from raykafka.client.producing.groups import Chunk
from raykafka.errors import BufferExhaustedError, ClientClosedError, MessageTooLargeError
from raykafka.testing.manual_clock import ManualClock


class Driver:
    """Counts what it is asked; ``on_wait`` may make room."""

    def __init__(self, clock: ManualClock) -> None:
        self.callbacks = Callbacks()
        self.clock = clock
        self.assisted = 0
        self.noticed = 0
        self.on_wait: Callable[[], None] = lambda: None

    def assist(self) -> None:
        self.assisted += 1

    def notice(self) -> None:
        self.noticed += 1

    def wait_for(
        self, settled: Callable[[], bool], timeout_s: float | None, group: Group | None
    ) -> bool:
        self.on_wait()
        if not settled():
            self.clock.advance(int((timeout_s or 0) * 1000) + 1)
        return settled()


class World:
    """An accumulator with everything around it."""

    def __init__(self, **settings: int) -> None:
        self.clock = ManualClock()
        self.driver = Driver(self.clock)
        given = {
            "batch_size": 1000,
            "linger_ms": 5,
            "buffer_memory": 10_000,
            "max_block_ms": 100,
            **settings,
        }
        self.accumulator = Accumulator(self.driver, clock=self.clock, **given)

    def take(self, *congested: str) -> list[Group]:
        return self.accumulator.take_ready(self.clock.monotonic_ms(), congested)


def test_a_chunk_is_ready_when_the_next_record_does_not_fit() -> None:
    world = World()
    buffer = world.accumulator.new_buffer("t", 1 << 20)
    for _ in range(10):
        world.accumulator.append_plain(buffer, b"v", None, 100)
    assert world.take() == []
    world.accumulator.append_plain(buffer, b"w", None, 100)
    (chunk,) = world.take()
    assert isinstance(chunk, Chunk)
    assert chunk.values == [b"v"] * 10
    assert world.driver.assisted == 1
    assert world.driver.noticed == 2


def test_the_first_chunk_of_a_transaction_is_sent_early_and_only_that_one() -> None:
    world = World(batch_size=1 << 20, buffer_memory=1 << 20)
    buffer = world.accumulator.new_buffer("t", 1 << 20)
    buffer.hurry()
    per_record = 100
    for _ in range(EARLY_BYTES // per_record + 1):
        world.accumulator.append_plain(buffer, b"v", None, per_record)
    assert world.driver.assisted == 1
    assert len(world.take()) == 1
    for _ in range(2 * EARLY_BYTES // per_record):
        world.accumulator.append_plain(buffer, b"v", None, per_record)
    assert world.driver.assisted == 1
    assert world.take() == []


def test_a_chunk_is_due_after_linger_and_the_sender_of_records_helps() -> None:
    world = World()
    accumulator = world.accumulator
    buffer = accumulator.new_buffer("t", 1 << 20)
    accumulator.append_plain(buffer, b"v", None, 10)
    assert accumulator.next_due_ms(()) == 5
    world.clock.advance(4)
    accumulator.append_plain(buffer, b"v", None, 10)
    assert (world.take(), world.driver.assisted) == ([], 0)
    world.clock.advance(1)
    accumulator.append_plain(buffer, b"v", None, 10)
    assert world.driver.assisted == 1
    assert len(world.take()) == 1
    assert accumulator.next_due_ms(()) == NEVER_MS


def test_chunks_of_congested_topics_go_on_growing() -> None:
    world = World()
    buffers = [world.accumulator.new_buffer(name, 1 << 20) for name in ("a", "b")]
    for buffer in buffers:
        world.accumulator.append_plain(buffer, b"v", None, 10)
    world.clock.advance(5)
    assert [group.topic for group in world.take("a")] == ["b"]
    assert world.accumulator.next_due_ms(("a",)) == NEVER_MS
    assert [group.topic for group in world.take()] == ["a"]


def test_columns_appear_with_the_first_record_that_needs_them() -> None:
    world = World()
    buffer = world.accumulator.new_buffer("t", 1 << 20)
    add, plain = world.accumulator.append, world.accumulator.append_plain
    plain(buffer, b"0", None, 10)
    plain(buffer, b"1", b"k", 10)
    add(buffer, b"2", None, [("h", b"x")], None, 77, 10)
    plain(buffer, b"3", b"l", 10)
    add(buffer, b"4", b"m", None, 3, None, 10)
    plain(buffer, b"5", None, 10)
    chunk = buffer.chunk
    assert chunk is not None
    assert chunk.values == [b"0", b"1", b"2", b"3", b"4", b"5"]
    assert chunk.keys == [None, b"k", None, b"l", b"m", None]
    assert chunk.headers == [None, None, [("h", b"x")], None, None, None]
    assert chunk.partitions == [-1, -1, -1, -1, 3, -1]
    now = world.clock.now_ms()
    assert chunk.timestamp_list() == [now, now, 77, now, now, now]
    assert chunk.timestamps().tolist() == chunk.timestamp_list()


def test_another_schema_begins_another_chunk() -> None:
    world = World()
    buffer = world.accumulator.new_buffer("t", 1 << 20)
    for schema_id in (0, 1, 1, 0):
        world.accumulator.append(buffer, (1,), None, None, None, None, 10, schema_id)
    world.accumulator.close_all()
    found = [group for group in world.take() if isinstance(group, Chunk)]
    assert [(chunk.schema_id, len(chunk.values)) for chunk in found] == [(0, 1), (1, 2), (0, 1)]


def test_quiet_topics_take_little_memory_and_busy_ones_more() -> None:
    world = World(batch_size=1 << 20, buffer_memory=1 << 30)
    accumulator = world.accumulator
    buffer = accumulator.new_buffer("t", 1 << 20)
    accumulator.append_plain(buffer, b"v", None, 1000)
    assert accumulator.used_bytes == FIRST_RESERVE_BYTES
    accumulator.append_plain(buffer, b"v", None, FIRST_RESERVE_BYTES)
    assert accumulator.used_bytes == 2 * FIRST_RESERVE_BYTES
    (chunk,) = accumulator.close_all()
    assert accumulator.used_bytes == 1000 + FIRST_RESERVE_BYTES == chunk.size
    assert not accumulator.idle
    accumulator.forget(chunk)
    accumulator.forget(chunk)
    assert accumulator.used_bytes == 0
    assert accumulator.idle


def test_full_memory_makes_everything_due_and_then_refuses() -> None:
    world = World(buffer_memory=2000, linger_ms=60_000)
    accumulator = world.accumulator
    first, second = (accumulator.new_buffer(name, 1 << 20) for name in ("a", "b"))
    accumulator.append_plain(first, b"v", None, 900)
    accumulator.append_plain(second, b"v", None, 900)
    taken: list[Group] = []
    world.driver.on_wait = lambda: taken.extend(world.take())
    with pytest.raises(BufferExhaustedError, match="2000 bytes stayed full for 100 ms"):
        accumulator.append_plain(accumulator.new_buffer("c", 1 << 20), b"v", None, 900)
    assert [group.topic for group in taken] == ["a", "b"]
    world.driver.on_wait = lambda: accumulator.forget(taken[0])
    accumulator.append_plain(first, b"v", None, 900)
    assert accumulator.used_bytes <= 2000


def test_a_record_larger_than_the_memory_is_refused_at_once() -> None:
    world = World(buffer_memory=2000)
    buffer = world.accumulator.new_buffer("t", 1 << 20)
    with pytest.raises(MessageTooLargeError, match="buffer_memory"):
        world.accumulator.append_plain(buffer, b"v", None, 2001)
    assert world.accumulator.used_bytes == 0


def test_a_large_record_gets_a_chunk_of_its_own() -> None:
    world = World()
    buffer = world.accumulator.new_buffer("t", 1 << 20)
    for size in (10, 5000, 10):
        world.accumulator.append_plain(buffer, b"v", None, size)
    world.accumulator.close_all()
    assert [group.size for group in world.take()] == [10, 5000, 10]


def test_nothing_is_taken_after_the_end() -> None:
    world = World()
    buffer = world.accumulator.new_buffer("t", 1 << 20)
    world.accumulator.shut()
    with pytest.raises(ClientClosedError):
        world.accumulator.append_plain(buffer, b"v", None, 10)


def test_many_threads_append_while_others_close() -> None:
    world = World(batch_size=400, buffer_memory=1 << 20)
    accumulator, clock = world.accumulator, world.clock
    buffer = accumulator.new_buffer("t", 1 << 20)
    taken: dict[Chunk, list[tuple[bytes, bytes | None]]] = {}

    def take() -> None:
        for chunk in world.take():
            assert isinstance(chunk, Chunk)
            keys = chunk.keys or [None] * len(chunk.values)
            taken[chunk] = list(zip(chunk.values, keys, strict=True))
            assert chunk.size == 10 * len(chunk.values) <= 400
            accumulator.forget(chunk)

    sent: list[list[tuple[bytes, RecordFuture]]] = [[] for _ in range(4)]

    def send(number: int) -> None:
        for count in range(3000):
            value = b"%d %d" % (number, count)
            key = value if number == 1 else None
            if number == 2 and not count % 7:
                future = accumulator.append(buffer, value, key, None, 5, None, 10)
            else:
                future = accumulator.append_plain(buffer, value, key, 10)
            sent[number].append((value, future))

    threads = [threading.Thread(target=send, args=(number,)) for number in range(4)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            clock.advance(1)
            accumulator.close_all()
            take()
    finally:
        sys.setswitchinterval(interval)
    accumulator.close_all()
    take()
    position = {chunk: number for number, chunk in enumerate(taken)}
    for number, records in enumerate(sent):
        places = []
        for value, future in records:
            chunk = future._group
            assert isinstance(chunk, Chunk)
            assert taken[chunk][future._index] == (value, value if number == 1 else None)
            places.append((position[chunk], future._index))
        assert places == sorted(places)
    assert sum(len(records) for records in taken.values()) == 4 * 3000
    assert accumulator.used_bytes == 0


@pytest.mark.parametrize("key", [None, b"k"])
def test_an_interrupted_thread_leaves_a_chunk_that_can_be_closed(key: bytes | None) -> None:
    class Interrupted(Exception):
        pass

    def interrupt(*_: object) -> None:
        raise Interrupted

    def append_until_interrupted(after_s: float) -> None:
        signal.setitimer(signal.ITIMER_REAL, after_s)
        while True:
            accumulator.append_plain(buffer, b"v", key, 10)

    world = World(batch_size=1 << 20, buffer_memory=1 << 30, linger_ms=60_000)
    accumulator = world.accumulator
    buffer = accumulator.new_buffer("t", 1 << 20)
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for number in range(100):
            with pytest.raises(Interrupted):
                append_until_interrupted(2e-4 + 1e-5 * (number % 17))
            closer = threading.Thread(target=accumulator.close_all, daemon=True)
            closer.start()
            closer.join(10)
            assert not closer.is_alive()
            for chunk in world.take():
                assert isinstance(chunk, Chunk)
                assert chunk.size == 10 * len(chunk.values)
                assert chunk.keys is None or len(chunk.keys) == len(chunk.values)
                accumulator.forget(chunk)
        assert accumulator.used_bytes == 0
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_finalizer_may_send_while_a_send_is_under_way() -> None:
    world = World(batch_size=1 << 20, buffer_memory=1 << 30, linger_ms=60_000)
    accumulator = world.accumulator
    buffer = accumulator.new_buffer("t", 1 << 20)

    class Farewell:
        def __init__(self) -> None:
            self.itself = self  # so that only the garbage collector can free it

        def __del__(self) -> None:
            accumulator.append_plain(buffer, b"bye", None, 10)

    def send() -> None:
        for _ in range(300):
            Farewell()
            accumulator.append_plain(buffer, b"v", None, 10)

    before = gc.get_threshold()
    gc.set_threshold(1)
    try:
        thread = threading.Thread(target=send, daemon=True)
        thread.start()
        thread.join(5)
        assert not thread.is_alive()
    finally:
        gc.set_threshold(*before)
    gc.collect()
    accumulator.close_all()
    values = [value for chunk in world.take() for value in chunk.values]
    assert values.count(b"v") == values.count(b"bye") == 300


def test_an_append_that_was_interrupted_leaves_a_chunk_that_takes_more() -> None:
    world = World(batch_size=1 << 20, buffer_memory=1 << 30, linger_ms=60_000)
    buffer = world.accumulator.new_buffer("t", 1 << 20)
    world.accumulator.append(buffer, b"first", None, None, None, None, 10)
    chunk = buffer.chunk
    assert chunk is not None
    chunk.mark_index.clear()  # what an exception behind the value's own append leaves
    chunk.mark_ms.clear()
    chunk.append(b"second", None, None, None, 7, 10)
    assert chunk.mark_ms == [7]
