"""A small machine, a log in memory that can be held up and broken, and a loop-back reply."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from raykafka.errors import InvalidRequestError
from raykafka.model import Endpoint


class Add(NamedTuple):
    """Answered by the sum so far; negative amounts are refused, zero changes nothing."""

    amount: int


class Sum(NamedTuple):
    records: list[int]
    answer: int


class SumMachine:
    """Adds numbers; the state is their sum and how many there were."""

    def __init__(self) -> None:
        self.total = self.count = 0

    def handle(self, command: Add, *, now_ms: int) -> Sum:
        if command.amount < 0:
            raise InvalidRequestError("only positive amounts")
        records = [command.amount] if command.amount else []
        return Sum(records, self.total + command.amount)

    def replay(self, records: Iterable[int]) -> None:
        for record in records:
            self.total += record
            self.count += 1

    def view(self) -> int:
        return self.total

    def encode(self, record: int) -> bytes:
        return str(record).encode()

    def decode(self, data: bytes) -> int:
        return int(data)


class MemoryLog:
    """A ``MachineLog`` whose disk is a list; ``hold`` keeps flushes waiting until ``release``."""

    def __init__(self, disk: list[list[bytes]]) -> None:
        self.disk = disk
        self.flushes = 0
        self.closed = False
        self.append_error: Exception | None = None
        self.flush_error: Exception | None = None
        self.flushing = threading.Event()
        self._open = threading.Event()
        self._open.set()

    @property
    def end_offset(self) -> int:
        return sum(map(len, self.disk))

    def replay(self) -> Iterator[list[bytes]]:
        yield from [list(group) for group in self.disk]

    def append(self, records: Sequence[bytes], now_ms: int) -> None:
        error, self.append_error = self.append_error, None
        if error is not None:
            raise error
        self.disk.append(list(records))

    def flush(self) -> None:
        self.flushing.set()
        assert self._open.wait(10)
        error, self.flush_error = self.flush_error, None
        if error is not None:
            raise error
        self.flushes += 1

    def close(self) -> None:
        self.closed = True

    def hold(self) -> None:
        self.flushing.clear()
        self._open.clear()

    def release(self) -> None:
        self._open.set()


class RecordedReply:
    """A ``Reply`` that keeps what it was called with."""

    role = "client"
    correlation_id = 1

    def __init__(self) -> None:
        self.connection: object = self
        self.closed = False
        self.writable = True
        self.answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def __call__(self, response: Any, payload: Sequence[Any] = ()) -> None:
        self.answered.set_result(response)

    def on_close(self, callback: Callable[[], None]) -> None:
        return

    def on_writable(self, callback: Callable[[], None]) -> None:
        callback()


class LoopbackListener:
    """A ``Listener`` without a network: requests are handed to its handlers by ``ask``."""

    def __init__(self, spec: Any, handlers: Any) -> None:
        self.spec = spec
        self.handlers = handlers
        self.listening = False

    async def start(self) -> Endpoint:
        self.listening = True
        return Endpoint(self.spec.host, self.spec.port or 40_000)

    async def close(self) -> None:
        self.listening = False

    async def ask(self, api_key: Any, request: Any, *, timeout_s: float = 20) -> Any:
        assert self.listening, "connection refused"
        reply = RecordedReply()
        self.handlers[api_key](request, b"", reply)
        return await asyncio.wait_for(reply.answered, timeout_s)


async def until(condition: Callable[[], Any], timeout_s: float = 20) -> None:
    """Let the loop run until ``condition`` holds; fails the test when it takes too long."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "the condition did not come to hold"
        await asyncio.sleep(0.001)
