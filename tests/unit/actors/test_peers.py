"""Requests to leaders that fall silent, as a process does that is stopped or cut off."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from partition_kit import run, until

from raykafka.actors import peers
from raykafka.actors.peers import Peers
from raykafka.clock import SystemClock
from raykafka.errors import RequestTimedOutError
from raykafka.model import Endpoint
from raykafka.protocol.messages import (
    ApiKey,
    Message,
    MetadataRequest,
    MetadataResponse,
    PartitionInfo,
    TopicInfo,
)
from raykafka.protocol.txn_messages import AddPartitionsToTxnRequest, AddPartitionsToTxnResponse

CONTROLLER, OLD, NEW = (Endpoint("10.0.0.1", port) for port in (1, 2, 3))
ASK = AddPartitionsToTxnRequest("bank", 0, 7, 0, [])


class Cluster:
    """Listeners by endpoint, and what the controller says of the only partition's leader."""

    def __init__(self) -> None:
        self.leader = OLD
        self.version = 0
        self.silent = {OLD}
        self.asked: list[Endpoint] = []

    def lead(self, endpoint: Endpoint) -> None:
        self.leader = endpoint
        self.version += 1

    def metadata(self) -> MetadataResponse:
        partition = PartitionInfo(0, 0, 1, *self.leader)
        topic = TopicInfo("t", "t" * 32, [partition])
        return MetadataResponse("c", "test", self.version, [], [topic])

    async def connect(self, endpoint: Endpoint, *_: Any, **__: Any) -> Any:
        return Connection(self, endpoint)


class Connection:
    closed = False

    def __init__(self, cluster: Cluster, endpoint: Endpoint) -> None:
        self.cluster = cluster
        self.endpoint = endpoint

    async def call(
        self, api_key: ApiKey, request: Message, payload: Sequence[Any] = (), *, timeout_s: float
    ) -> Message:
        if isinstance(request, MetadataRequest):
            return self.cluster.metadata()
        self.cluster.asked.append(self.endpoint)
        if self.endpoint in self.cluster.silent:
            await asyncio.sleep(timeout_s)
            raise RequestTimedOutError("silence")
        return AddPartitionsToTxnResponse()

    def close(self) -> None:
        self.closed = True


@pytest.fixture(autouse=True)
def looks_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "_LOOK_AGAIN_S", 0.01, raising=False)


def asking(cluster: Cluster) -> tuple[Peers, asyncio.Future[Message]]:
    made = Peers(cluster.connect, b"", "test", SystemClock(), lambda: [CONTROLLER])

    async def ask() -> Message:
        await made.view.refresh()
        return await made.call_leader("t", 0, ApiKey.ADD_PARTITIONS_TO_TXN, ASK, timeout_s=30)

    return made, asyncio.ensure_future(ask())


def test_a_leader_that_was_replaced_is_not_waited_for() -> None:
    async def check() -> None:
        cluster = Cluster()
        made, answer = asking(cluster)
        await until(lambda: cluster.asked == [OLD])
        cluster.lead(NEW)
        await asyncio.wait([answer], timeout=5)
        assert isinstance(answer.result(), AddPartitionsToTxnResponse)
        assert cluster.asked == [OLD, NEW]
        await made.close()

    run(check())


def test_a_leader_that_is_slow_is_asked_once() -> None:
    async def check() -> None:
        cluster = Cluster()
        made, answer = asking(cluster)
        await asyncio.wait([answer], timeout=0.1)
        assert not answer.done()
        assert cluster.asked == [OLD]
        answer.cancel()
        await asyncio.wait([answer])
        await made.close()

    run(check())
