"""A simulated consumer: reads every partition from its beginning, whoever leads it."""

from __future__ import annotations

import asyncio
from typing import Final

from raykafka.errors import (
    CorruptMessageError,
    OffsetOutOfRangeError,
    RaykafkaError,
    RequestTimedOutError,
)
from raykafka.log.batch_header import verify
from raykafka.model import PartitionId, TopicId
from raykafka.protocol.messages import (
    ApiKey,
    FetchPartition,
    FetchRequest,
    FetchResponse,
    Message,
)
from raykafka.testing.simulation.checks import Checks
from raykafka.testing.simulation.link import Leader, Link

FETCH_S: Final = 2.0
MAX_WAIT_MS: Final = 300
_BYTES: Final = 16 << 10


class SimulatedConsumer:
    """Hands every batch it reads to the checks."""

    def __init__(self, link: Link, checks: Checks, number: int, partitions: int) -> None:
        self.number = number
        self.positions = [0] * partitions
        """Offset of the next record, by partition."""
        self._doubted = [-1] * partitions
        """Where a batch failed its checksum last: the next leader is asked to look."""
        self._link = link
        self._checks = checks

    async def run(self) -> None:
        """Read for ever."""
        await asyncio.gather(*(self._read(number) for number in range(len(self.positions))))

    async def _read(self, partition: int) -> None:
        while True:
            try:
                leader = await self._link.leader(partition)
                await self._follow(leader, partition)
            except RaykafkaError as error:
                if isinstance(error, OffsetOutOfRangeError):
                    self._checks.on_unreadable(partition, self.positions[partition], error)
                if isinstance(error, CorruptMessageError):
                    self._doubted[partition] = self.positions[partition]
                self._link.forget()
                await self._link.pause()

    async def _follow(self, leader: Leader, partition: int) -> None:
        try:
            while True:
                await self._fetch(leader, partition)
        except RaykafkaError:
            leader.connection.close()
            raise

    async def _fetch(self, leader: Leader, partition: int) -> None:
        position = self.positions[partition]
        doubtful = self._doubted[partition] == position
        wanted = FetchPartition(
            leader.topic_id, partition, position, leader.epoch, _BYTES, doubtful
        )
        answered: asyncio.Future[tuple[Message | RaykafkaError, memoryview]]
        answered = asyncio.get_running_loop().create_future()

        def on_response(answer: Message | RaykafkaError, payload: memoryview) -> None:
            if not answered.done():
                answered.set_result((answer, payload))

        committing = self._checks.committing_epoch(partition)
        request = FetchRequest([wanted], max_wait_ms=MAX_WAIT_MS)
        connection = leader.connection
        correlation_id = connection.send(ApiKey.FETCH, request, (), on_response)
        await asyncio.wait({answered}, timeout=FETCH_S)
        connection.forget(correlation_id)
        if not answered.done():
            raise RequestTimedOutError("the leader does not answer")
        answer, payload = answered.result()
        if isinstance(answer, RaykafkaError):
            raise answer
        assert isinstance(answer, FetchResponse)
        [fetched] = answer.partitions
        self._checks.on_fetched(partition, fetched, leader.epoch, committing)
        start = 0
        identity = PartitionId(TopicId(leader.topic_id), partition)
        for size in fetched.sizes:
            header = verify(payload[start : start + size], identity)
            start += size
            if header.next_offset > position:
                self._checks.on_read(self.number, partition, position, header)
                position = header.next_offset
        self.positions[partition] = position
