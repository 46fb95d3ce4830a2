"""A simulated idempotent producer: up to five batches in flight, sent again until they are in."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from raykafka.errors import OutOfOrderSequenceNumberError, RaykafkaError, RequestTimedOutError
from raykafka.log.small_batch import SmallRecords, encode_records
from raykafka.model import PartitionId, TopicId
from raykafka.protocol.messages import (
    ApiKey,
    InitProducerIdRequest,
    InitProducerIdResponse,
    Message,
    ProduceRequest,
    ProduceResponse,
)
from raykafka.testing.simulation.checks import Checks, ProducedBatch
from raykafka.testing.simulation.link import Leader, Link

MAX_IN_FLIGHT: Final = 5
REQUEST_S: Final = 2.0
PAUSE_S: Final = (0.01, 0.6)
"""Between two batches of one partition."""
_PRODUCE_MS: Final = 1500
_MAX_RECORDS: Final = 3


class SimulatedProducer:
    """Writes numbered records to every partition of a topic until it is told to stop."""

    def __init__(self, link: Link, checks: Checks, number: int, partitions: int) -> None:
        self.number = number
        self.stopping = False
        self._link = link
        self._checks = checks
        self._partitions = partitions
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def done(self) -> bool:
        """Whether everything that was sent has been acknowledged, after the stop."""
        return bool(self._tasks) and all(task.done() for task in self._tasks)

    async def run(self) -> None:
        """Get a producer id and write."""
        identity = await self._identity()
        for partition in range(self._partitions):
            writer = _PartitionWriter(self, self._link, self._checks, partition, identity)
            self._tasks.append(asyncio.ensure_future(writer.run()))

    async def _identity(self) -> InitProducerIdResponse:
        while True:
            try:
                answer = await self._link.ask_controller(
                    ApiKey.INIT_PRODUCER_ID, InitProducerIdRequest()
                )
            except RaykafkaError:
                await self._link.pause()
            else:
                assert isinstance(answer, InitProducerIdResponse)
                return answer


class _PartitionWriter:
    """The records of one producer for one partition."""

    def __init__(
        self,
        producer: SimulatedProducer,
        link: Link,
        checks: Checks,
        partition: int,
        identity: InitProducerIdResponse,
    ) -> None:
        self._producer = producer
        self._link = link
        self._checks = checks
        self._partition = partition
        self._identity = identity
        self._world = link.process.world
        self._window = self._world.random.randint(1, MAX_IN_FLIGHT)
        self._unacknowledged: deque[ProducedBatch] = deque()
        """In the order of their sequences."""
        self._in_flight = 0
        """How many of them, from the first on, have been sent in this attempt."""
        self._attempt = 0
        self._failure: RaykafkaError | None = None
        self._sequence = 0
        self._known = False
        """Whether something was acknowledged."""
        self._next_at = 0.0
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Write until the producer stops, then until everything is acknowledged."""
        while not self._is_done():
            self._attempt += 1
            self._in_flight = 0
            self._failure = None
            try:
                await self._write(await self._link.leader(self._partition))
            except RaykafkaError:
                self._link.forget()
                await self._link.pause()

    def _is_done(self) -> bool:
        return self._producer.stopping and not self._unacknowledged

    async def _write(self, leader: Leader) -> None:
        """Send on one connection until something fails."""
        try:
            while not self._is_done():
                if self._failure is not None:
                    raise self._failure
                if self._in_flight < len(self._unacknowledged):
                    self._send(leader)
                elif self._may_make() and self._world.now >= self._next_at:
                    self._make(leader.topic_id)
                else:
                    await self._wait()
        except RaykafkaError:
            leader.connection.close()
            raise

    def _may_make(self) -> bool:
        # A leader that does not know a producer takes whatever sequence comes first.
        window = self._window if self._known else 1
        return not self._producer.stopping and len(self._unacknowledged) < window

    async def _wait(self) -> None:
        """Until an answer comes or the next batch is due; raises when the leader is silent."""
        makes = self._may_make()
        timeout_s = self._next_at - self._world.now if makes else REQUEST_S
        self._changed.clear()
        waiter = asyncio.ensure_future(self._changed.wait())
        await asyncio.wait({waiter}, timeout=timeout_s)
        waiter.cancel()
        if not makes and not self._changed.is_set():
            raise RequestTimedOutError("the leader does not answer")

    def _make(self, topic_id: str) -> None:
        random = self._world.random
        count = random.randint(1, _MAX_RECORDS)
        self._next_at = self._world.now + self._world.delay(*PAUSE_S)
        first = self._sequence
        values = [
            b"%d:%d:%d" % (self._producer.number, self._partition, first + number)
            for number in range(count)
        ]
        now_ms = self._link.process.host.clock.now_ms()
        encoded = encode_records(
            SmallRecords([now_ms] * count, None, values),
            PartitionId(TopicId(topic_id), self._partition),
            producer_id=self._identity.producer_id,
            producer_epoch=self._identity.producer_epoch,
            base_sequence=first,
        )
        self._sequence += count
        batch = ProducedBatch(
            self._producer.number,
            self._partition,
            first,
            count,
            encoded.header.crc,
            b"".join(encoded.chunks),
        )
        self._checks.on_send(batch)
        self._unacknowledged.append(batch)

    def _send(self, leader: Leader) -> None:
        batch = self._unacknowledged[self._in_flight]
        self._in_flight += 1
        attempt = self._attempt
        request = ProduceRequest(
            leader.topic_id, self._partition, leader.epoch, acks=-1, timeout_ms=_PRODUCE_MS
        )

        def on_response(answer: Message | RaykafkaError, _payload: memoryview) -> None:
            if attempt == self._attempt:
                self._on_response(batch, answer)

        leader.connection.send(ApiKey.PRODUCE, request, [batch.message], on_response)

    def _on_response(self, batch: ProducedBatch, answer: Message | RaykafkaError) -> None:
        self._changed.set()
        if isinstance(answer, ProduceResponse):
            self._checks.on_acknowledged(batch, answer.base_offset)
            self._known = True
            self._unacknowledged.remove(batch)
            self._in_flight -= 1
        elif isinstance(answer, RaykafkaError) and self._failure is None:
            # One that follows a failed one is out of order by that alone.
            is_first = batch is self._unacknowledged[0]
            if not answer.retriable and (
                is_first or not isinstance(answer, OutOfOrderSequenceNumberError)
            ):
                self._checks.on_refused(batch, answer)
            self._failure = answer
