"""Transactions on one partition actor whose coordinator is the test."""

from __future__ import annotations

import asyncio
from typing import Any

from partition_kit import TOPIC, TOPIC_ID, ActorHarness, RecordedReply, turns

from raykafka.errors import RaykafkaError
from raykafka.protocol.messages import ApiKey, ProduceResponse
from raykafka.protocol.txn_messages import (
    AbortTransactionRequest,
    DescribedProducers,
    DescribeProducersPartition,
    DescribeProducersRequest,
    MarkerOutcome,
    TxnMarker,
    TxnPartition,
    WriteTxnMarkersRequest,
)


class ScriptedCoordinator:
    """Lets every transaction begin; while ``holds``, only once ``let_go`` is called."""

    def __init__(self, actor: ActorHarness) -> None:
        self.asked: list[tuple[str, tuple[int, int], TxnPartition]] = []
        self.holds = False
        self.refusal: RaykafkaError | None = None
        self.refused: dict[tuple[int, int], RaykafkaError] = {}
        """Producers that get another answer than the rest."""
        self._released = asyncio.Event()
        actor.gate._verify = self

    def let_go(self) -> None:
        """Answer all who wait."""
        self._released.set()
        self._released = asyncio.Event()

    async def __call__(
        self,
        transactional_id: str,
        producer: tuple[int, int],
        place: TxnPartition,
        timeout_s: float,
    ) -> None:
        self.asked.append((transactional_id, producer, place))
        if self.holds:
            await self._released.wait()
        refusal = self.refused.get(producer, self.refusal)
        if refusal is not None:
            raise refusal


class TransactionalProducer:
    """Writes transactions to an actor; ``end`` is what its coordinator would do."""

    def __init__(self, actor: ActorHarness, producer_id: int = 7) -> None:
        self.actor = actor
        self.producer_id = producer_id
        self.epoch = 0
        self.sequences: dict[int, int] = {}

    def send(self, *values: bytes, partition: int = 0, **changes: Any) -> RecordedReply:
        """One batch; not answered before the transaction is known to be open."""
        sequence = self.sequences.get(partition, 0)
        self.sequences[partition] = sequence + len(values)
        fields: dict[str, Any] = {
            "transactional_id": f"id-{self.producer_id}",
            "producer_id": self.producer_id,
            "producer_epoch": self.epoch,
            "base_sequence": sequence,
            "transactional": True,
        }
        return self.actor.produce(partition, *values, **{**fields, **changes})

    async def sent(self, *values: bytes, partition: int = 0) -> int:
        """One batch that is appended; its base offset."""
        reply = self.send(*values, partition=partition)
        await turns()
        assert isinstance(reply.answer, ProduceResponse)
        return reply.answer.base_offset

    async def end(self, *partitions: int, commit: bool) -> list[MarkerOutcome]:
        """Write markers."""
        self.epoch += 1
        self.sequences.clear()
        return await self.marked(*partitions, commit=commit)

    async def marked(self, *partitions: int, commit: bool) -> list[MarkerOutcome]:
        """Write markers of the producer's present epoch."""
        reply = self.ask_for_markers(*partitions, commit=commit)
        await turns(8)
        outcomes: list[MarkerOutcome] = reply.answer.partitions
        return outcomes

    def ask_for_markers(self, *partitions: int, commit: bool) -> RecordedReply:
        """Ask for markers without waiting for them."""
        places = [TxnPartition(TOPIC, TOPIC_ID, number) for number in partitions or (0,)]
        marker = TxnMarker(self.producer_id, self.epoch, commit, places)
        return self.actor.request(ApiKey.WRITE_TXN_MARKERS, WriteTxnMarkersRequest([marker]))


def described(actor: ActorHarness, partition: int = 0) -> DescribedProducers:
    """What the leader tells of its producers."""
    request = DescribeProducersRequest([DescribeProducersPartition(TOPIC_ID, partition)])
    answer: DescribedProducers = actor.request(
        ApiKey.DESCRIBE_PRODUCERS, request
    ).answer.partitions[0]
    return answer


async def abort(actor: ActorHarness, *fields: int) -> Any:
    """ABORT_TRANSACTION of (partition, producer id, epoch, start offset)."""
    reply = actor.request(ApiKey.ABORT_TRANSACTION, AbortTransactionRequest(TOPIC_ID, *fields))
    await turns(8)
    return reply.answer
