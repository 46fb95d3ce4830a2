"""Transaction coordinators in a partition actor that reaches no leader of a data partition."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from partition_kit import TOPIC_ID, ActorHarness, run, turns, until

from raykafka.actors.coordinating.markers import MarkerWriter
from raykafka.actors.coordinating.service import HostedService
from raykafka.actors.metadata_cache import MetadataCache
from raykafka.errors import CoordinatorNotAvailableError, InvalidTopicError
from raykafka.internal_topics import TRANSACTION_STATE
from raykafka.protocol.messages import ApiKey, DeleteRecordsPartition, DeleteRecordsRequest
from raykafka.txn.commands import (
    AddPartitions,
    DescribeTransactions,
    EndTransaction,
    InitTransaction,
    Markers,
)
from raykafka.txn.records import ProducerIdentity, TransactionPartition

OWNER = ProducerIdentity(7, 0)
PLACE = TransactionPartition("t", "t" * 32, 0)
MIN_2 = {"min.insync.replicas": "2"}


class Writer:
    """In the place of ``MarkerWriter.write``: what was asked for, and when it is done."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.asked: list[Markers] = []
        self.may_end = asyncio.Event()
        patch.setattr(MarkerWriter, "write", lambda _, markers: self.write(markers))
        patch.setattr(MetadataCache, "watch", lambda view: None)

    async def write(self, markers: Markers) -> None:
        self.asked.append(markers)
        await self.may_end.wait()


async def leads(actor: ActorHarness, epoch: int, **changes: object) -> HostedService:
    fields = {"topic": TRANSACTION_STATE, "leader_epoch": epoch, "opened_before": epoch > 1}
    await actor.assign(0, **{**fields, **changes})
    parts = actor.actor._parts
    assert parts is not None
    service = parts.coordinators.find(TRANSACTION_STATE, 0)
    await until(lambda: service.is_active)
    return service


async def decide(service: HostedService) -> None:
    await service.submit(InitTransaction("bank", 60_000, new_producer_id=7))
    await service.submit(AddPartitions("bank", OWNER, [PLACE]))
    await service.submit(EndTransaction("bank", OWNER, commit=True))


def test_a_coordinator_that_may_change_nothing_still_ends_what_was_decided(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def check() -> None:
        writer = Writer(monkeypatch)
        async with ActorHarness(tmp_path) as actor:
            await decide(await leads(actor, 1))
            assert not writer.asked
            few = {"replicas": (0, 1), "isr": (0,), "configs": MIN_2}
            service = await leads(actor, 2, **few)
            with pytest.raises(CoordinatorNotAvailableError):
                await service.submit(DescribeTransactions(["bank"]))
            await turns()
            assert [(each.transaction, each.commit) for each in writer.asked] == [(OWNER, True)]

    run(check())


def test_a_completion_is_noted_while_nothing_may_be_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def check() -> None:
        writer = Writer(monkeypatch)
        async with ActorHarness(tmp_path) as actor:
            await decide(await leads(actor, 1))
            service = await leads(actor, 2)
            await until(lambda: bool(writer.asked))
            few = {"replicas": (0, 1), "isr": (0,), "configs": MIN_2}
            assert await leads(actor, 2, **few) is service
            writer.may_end.set()
            await turns(5)
            assert await leads(actor, 2) is service
            [found] = await service.submit(DescribeTransactions(["bank"]))
            assert found.status == "CompleteCommit"

    run(check())


def test_nobody_deletes_what_coordinators_have_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def check() -> None:
        Writer(monkeypatch)
        async with ActorHarness(tmp_path) as actor:
            await decide(await leads(actor, 1))
            request = DeleteRecordsRequest([DeleteRecordsPartition(TOPIC_ID, 0, -1)])
            reply = actor.request(ApiKey.DELETE_RECORDS, request)
            await until(lambda: bool(reply.answers))
            assert reply.answer.partitions[0].error_code == InvalidTopicError.code
        async with ActorHarness(tmp_path) as actor:
            [found] = await (await leads(actor, 2)).submit(DescribeTransactions(["bank"]))
            assert found.status == "PrepareCommit"

    run(check())
