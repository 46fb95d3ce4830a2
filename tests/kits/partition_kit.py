"""A partition actor without a network: requests go to its handlers, answers are recorded."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from types import MethodType
from typing import Any

import pyarrow as pa

from raykafka.actors.environment import Environment
from raykafka.actors.partition import PartitionActor
from raykafka.actors.ports import (
    AssignmentResult,
    Handler,
    ListenerSpec,
    NodeInfo,
    PartitionActorSpec,
    PartitionAssignment,
    PartitionRemoval,
)
from raykafka.actors.replicas.fetch import FetchHandler
from raykafka.actors.replicas.transactional import TransactionGate
from raykafka.actors.replicas.upkeep import Upkeep
from raykafka.clock import Clock, SystemClock
from raykafka.errors import RaykafkaError, error_for
from raykafka.log.batch import encode_batch
from raykafka.log.schema import UNTYPED_SCHEMA
from raykafka.model import Endpoint, PartitionId, TopicId
from raykafka.protocol.messages import (
    ApiKey,
    FetchPartition,
    FetchRequest,
    FetchResponse,
    ProduceRequest,
    ProduceResponse,
)
from raykafka.storage.api import SegmentStore
from raykafka.storage.local_store import LocalStore

TOPIC = "t"
TOPIC_ID = TopicId("0123456789abcdef0123456789abcdef")
EPOCH = 3


class RecordedConnection:
    """One client's connection; ``close`` ends it, ``writable`` can be taken away."""

    def __init__(self) -> None:
        self.closed = False
        self._writable = True
        self._on_close: list[Callable[[], None]] = []
        self._on_writable: list[Callable[[], None]] = []

    @property
    def writable(self) -> bool:
        return self._writable and not self.closed

    def block(self) -> None:
        self._writable = False

    def unblock(self) -> None:
        self._writable = True
        callbacks, self._on_writable = self._on_writable, []
        for callback in callbacks:
            callback()

    def close(self) -> None:
        self.closed = True
        callbacks, self._on_close = self._on_close, []
        for callback in callbacks:
            callback()

    @property
    def close_callbacks(self) -> int:
        return len(self._on_close)

    def on_close(self, callback: Callable[[], None]) -> None:
        self._on_close.append(callback)

    def on_writable(self, callback: Callable[[], None]) -> None:
        if self._writable:
            callback()
        else:
            self._on_writable.append(callback)


class RecordedReply:
    """Keeps every answer to one request."""

    def __init__(self, connection: RecordedConnection, correlation_id: int) -> None:
        self.role = "client"
        self.connection: Any = connection
        self.correlation_id = correlation_id
        self.answers: list[Any] = []
        self.payloads: list[bytes] = []
        self.error: RaykafkaError | None = None

    def __call__(self, response: Any, payload: Sequence[Any] = ()) -> None:
        if not self.closed:
            self.answers.append(response)
            self.payloads.append(b"".join(bytes(chunk) for chunk in payload))

    @property
    def closed(self) -> bool:
        return bool(self.connection.closed)

    @property
    def writable(self) -> bool:
        return bool(self.connection.writable)

    def on_close(self, callback: Callable[[], None]) -> None:
        self.connection.on_close(callback)

    def on_writable(self, callback: Callable[[], None]) -> None:
        self.connection.on_writable(callback)

    @property
    def answer(self) -> Any:
        """The only answer; fails when there is none or more than one."""
        if self.error is not None:
            raise self.error
        assert len(self.answers) == 1, f"{len(self.answers)} answers"
        return self.answers[0]


class RecordedListener:
    """Accepts nobody and remembers what it would serve."""

    def __init__(self, spec: ListenerSpec, handlers: Mapping[ApiKey, Handler]) -> None:
        self.spec = spec
        self.handlers = handlers
        self.closed = False

    async def start(self) -> Endpoint:
        return Endpoint(self.spec.host, self.spec.port or 9)

    async def close(self) -> None:
        self.closed = True


def value_batch(*values: bytes | None, timestamp: int = 1_600_000_000_000) -> pa.RecordBatch:
    """Untyped records without keys and headers."""
    count = len(values)
    return pa.record_batch(
        [
            pa.array([timestamp + i for i in range(count)], pa.timestamp("ms")),
            pa.nulls(count, pa.binary()),
            pa.nulls(count, UNTYPED_SCHEMA.field("__headers").type),
            pa.array(values, pa.binary()),
        ],
        schema=UNTYPED_SCHEMA,
    )


def message(partition: PartitionId, batch: pa.RecordBatch, **fields: Any) -> bytearray:
    """A batch as a producer sends it."""
    return bytearray(b"".join(bytes(c) for c in encode_batch(batch, partition, **fields).chunks))


class ActorHarness:
    """A started partition actor and the requests a test wants to make of it."""

    def __init__(
        self,
        log_dir: Path,
        *,
        clock: Clock | None = None,
        slot: int = 0,
        host_id: str = "",
        configs: Mapping[str, str] | None = None,
        store: Callable[[str], SegmentStore] = LocalStore,
    ) -> None:
        self.listeners: list[RecordedListener] = []
        self.connection = RecordedConnection()
        self._ids = itertools.count(1)
        spec = PartitionActorSpec(
            name=f"test/partitions-0-{slot}-i1",
            cluster_id="c",
            cluster_name="test",
            broker_id=0,
            slot=slot,
            incarnation=1,
            node=NodeInfo("n", "127.0.0.1"),
            log_dir=str(log_dir),
            configs={"disk.reserve.bytes": "0", **(configs or {})},
            secret=b"s" * 32,
        )
        environment = Environment(
            clock or SystemClock(), self._listen, store_factory=store, host_id=host_id
        )
        self.actor = PartitionActor(spec, environment)

    def _listen(self, spec: ListenerSpec, handlers: Mapping[ApiKey, Handler]) -> RecordedListener:
        self.listeners.append(RecordedListener(spec, handlers))
        return self.listeners[-1]

    async def __aenter__(self) -> ActorHarness:
        await self.actor.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.actor.stop()

    def request(
        self,
        key: ApiKey,
        request: Any,
        payload: Any = b"",
        connection: RecordedConnection | None = None,
    ) -> RecordedReply:
        """Hand one request to its handler; a raised error is kept in the reply."""
        reply = RecordedReply(connection or self.connection, next(self._ids))
        try:
            self.listeners[-1].handlers[key](request, memoryview(payload), reply)
        except RaykafkaError as error:
            reply.error = error
        return reply

    def replica(self, partition: int) -> Any:
        """The actor's replica of one partition of the test's topic."""
        return self.actor._replicas.find(TOPIC_ID, partition)

    @property
    def fetch_handler(self) -> FetchHandler:
        """Owner of the parked fetches."""
        handler = self.listeners[-1].handlers[ApiKey.FETCH]
        assert isinstance(handler, MethodType)
        assert isinstance(handler.__self__, FetchHandler)
        return handler.__self__

    @property
    def upkeep(self) -> Upkeep:
        """The actor's clockwork."""
        parts = self.actor._parts
        assert parts is not None
        return parts.upkeep

    @property
    def gate(self) -> TransactionGate:
        """Where the actor's transactional batches wait for coordinators."""
        parts = self.actor._parts
        assert parts is not None
        return parts.transactions

    async def remove(self, partition: int) -> None:
        """Delete a partition of the test's topic."""
        removal = PartitionRemoval(TOPIC, PartitionId(TOPIC_ID, partition))
        [result] = await self.actor.assign([], [removal])
        assert result.error_code == 0, result.error_message

    async def assign(self, *partitions: int, **changes: Any) -> list[AssignmentResult]:
        """Assign partitions of the test's topic; fails unless all of them open."""
        results = await self.actor.assign([assignment(p, **changes) for p in partitions], [])
        for result in results:
            if result.error_code:
                raise error_for(result.error_code, result.error_message)
        return results

    def produce(
        self,
        partition: int,
        *values: bytes,
        acks: int = -1,
        epoch: int = EPOCH,
        transactional_id: str = "",
        **fields: Any,
    ) -> RecordedReply:
        """Send one untyped batch."""
        payload = message(PartitionId(TOPIC_ID, partition), value_batch(*values), **fields)
        request = ProduceRequest(
            TOPIC_ID, partition, epoch, acks, transactional_id=transactional_id
        )
        return self.request(ApiKey.PRODUCE, request, payload)

    def produced(self, partition: int, *values: bytes, **fields: Any) -> ProduceResponse:
        """Send one untyped batch that is answered at once."""
        response = self.produce(partition, *values, **fields).answer
        assert isinstance(response, ProduceResponse)
        return response

    def fetch(
        self,
        *offsets: tuple[int, int],
        connection: RecordedConnection | None = None,
        max_bytes: int = 1 << 20,
        epoch: int = EPOCH,
        **fields: Any,
    ) -> RecordedReply:
        """Fetch (partition, offset) pairs."""
        parts = [FetchPartition(TOPIC_ID, p, offset, epoch, max_bytes) for p, offset in offsets]
        return self.request(ApiKey.FETCH, FetchRequest(parts, **fields), connection=connection)


def assignment(number: int, **changes: Any) -> PartitionAssignment:
    """An assignment of the test's topic."""
    fields: dict[str, Any] = {
        "topic": TOPIC,
        "partition": PartitionId(TOPIC_ID, number),
        "leader_epoch": EPOCH,
        "configs": {},
        "schemas": [],
        "opened_before": False,
    }
    fields.update(leader_id=0, replicas=(0,), isr=(0,))
    return PartitionAssignment(**{**fields, **changes})


def batches_in(reply: RecordedReply, answer: int = 0, partition: int = 0) -> list[bytes]:
    """The batches of one partition of a fetch's answer."""
    response: FetchResponse = reply.answers[answer]
    payload, start, found = reply.payloads[answer], 0, []
    for number, fetched in enumerate(response.partitions):
        for size in fetched.sizes:
            if number == partition:
                found.append(payload[start : start + size])
            start += size
    return found


async def turns(count: int = 3) -> None:
    """Let the loop go round, so that what was scheduled runs."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition: Callable[[], bool], timeout_s: float = 5.0) -> None:
    """Wait for a condition that another thread or timer brings about."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while not condition():
        assert loop.time() < deadline, "the condition did not come true"
        await asyncio.sleep(0.001)


def run(coroutine: Awaitable[None]) -> None:
    """Run a test's coroutine on a fresh loop."""

    async def main() -> None:
        await coroutine

    asyncio.run(main())
