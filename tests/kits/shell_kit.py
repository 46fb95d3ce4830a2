"""A small machine, a log in memory that can be held up and broken, and a loop-back reply."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from raykafka.actors.quorum.files import QuorumState, Snapshot
from raykafka.actors.quorum.log import LogBatch, encode_voters
from raykafka.errors import InvalidRequestError
from raykafka.model import Endpoint
from raykafka.quorum.messages import OffsetAndEpoch
from raykafka.quorum.voters import VoterSet


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

    def encode_view(self, view: int) -> bytes:
        return str(view).encode()

    def restore(self, data: bytes) -> None:
        self.total = int(data)


class MemoryDisk:
    """What a ``MemoryLog`` leaves behind."""

    def __init__(self) -> None:
        self.batches: list[LogBatch] = []
        self.state: QuorumState | None = None
        self.snapshot: Snapshot | None = None

    @property
    def groups(self) -> list[list[bytes]]:
        """Records of the service, as they were written together."""
        return [batch.records for batch in self.batches if not batch.is_control]


class MemoryLog:
    """A ``MachineLog`` whose disk is a list; ``hold`` keeps flushes waiting until ``release``."""

    def __init__(self, disk: MemoryDisk) -> None:
        self.disk = disk
        self.flushes = 0
        self.closed = False
        self.append_error: Exception | None = None
        self.flush_error: Exception | None = None
        self.flushing = threading.Event()
        self._open = threading.Event()
        self._open.set()

    @property
    def state(self) -> QuorumState | None:
        return self.disk.state

    @property
    def snapshot(self) -> Snapshot | None:
        return self.disk.snapshot

    @property
    def start(self) -> OffsetAndEpoch:
        return OffsetAndEpoch(0, -1) if self.snapshot is None else self.snapshot.last

    @property
    def end_offset(self) -> int:
        return self.disk.batches[-1].end_offset if self.disk.batches else self.start.offset

    @property
    def epochs(self) -> list[tuple[int, int]]:
        entries: list[tuple[int, int]] = []
        for batch in self.disk.batches:
            if not entries or entries[-1][0] != batch.epoch:
                entries.append((batch.epoch, batch.offset))
        return entries

    def replay(self, start: int, end: int) -> Iterator[LogBatch]:
        assert start >= self.start.offset
        yield from [batch for batch in self.disk.batches if start <= batch.offset < end]

    def append(self, records: Sequence[bytes], epoch: int, now_ms: int) -> None:
        error, self.append_error = self.append_error, None
        if error is not None:
            raise error
        self.disk.batches.append(LogBatch(self.end_offset, epoch, list(records)))

    def append_voters(self, voters: VoterSet, epoch: int, now_ms: int) -> None:
        batch = LogBatch(self.end_offset, epoch, [encode_voters(voters)], is_control=True)
        self.disk.batches.append(batch)

    def read(self, start: int, max_bytes: int, end: int) -> tuple[bytes, int]:
        found = list(self.replay(start, end))[: 1 + max_bytes // 100]
        return msgspec.msgpack.encode(found), found[-1].end_offset

    def check(self, data: bytes, start: int, end: int) -> None:
        batches = self._decoded(data)
        assert not batches or (batches[0].offset, batches[-1].end_offset) == (start, end)

    def append_fetched(self, data: bytes, start: int, now_ms: int) -> None:
        new = [batch for batch in self._decoded(data) if batch.offset >= start]
        assert new[0].offset == self.end_offset
        self.disk.batches += new

    def truncate_to(self, end: int) -> None:
        self.disk.batches = [batch for batch in self.disk.batches if batch.offset < end]
        assert self.end_offset == end

    def save_state(self, state: QuorumState) -> None:
        self.disk.state = state

    def save_snapshot(self, snapshot: Snapshot, now_ms: int) -> None:
        kept = [batch for batch in self.disk.batches if batch.offset >= snapshot.last.offset]
        self.disk.snapshot, self.disk.batches = snapshot, kept

    def install_snapshot(self, snapshot: Snapshot) -> None:
        self.disk.snapshot, self.disk.batches = snapshot, []

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

    @staticmethod
    def _decoded(data: bytes) -> list[LogBatch]:
        return msgspec.msgpack.decode(data, type=list[LogBatch]) if data else []


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
