"""Group coordinators in a partition actor: requests, heartbeats that are held, topics, endings."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from partition_kit import TOPIC_ID, ActorHarness, RecordedReply, run, turns, until

from raykafka.actors.coordinating.group_parts.settings import load_assignors
from raykafka.actors.coordinating.service import HostedService
from raykafka.actors.metadata_cache import MetadataCache
from raykafka.actors.replicas.verifying import TransactionVerifier
from raykafka.errors import (
    ConnectionLostError,
    InvalidConfigError,
    NotCoordinatorError,
    UnknownMemberIdError,
    UnstableOffsetCommitError,
    raise_for,
)
from raykafka.group.assignors.range import RangeAssignor
from raykafka.group.assignors.uniform import UniformAssignor
from raykafka.internal_topics import CONSUMER_OFFSETS
from raykafka.protocol.group_messages import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
    DeleteGroupsRequest,
    DescribeGroupsRequest,
    ListGroupsRequest,
    OffsetCommitRequest,
    OffsetDeleteRequest,
    OffsetFetchRequest,
    OffsetToCommit,
    RemoveMembersRequest,
    TopicPartitions,
    TxnOffsetCommitRequest,
)
from raykafka.protocol.messages import ApiKey, BrokerInfo, PartitionInfo, TopicInfo
from raykafka.protocol.txn_messages import TxnMarker, TxnPartition, WriteTxnMarkersRequest

CLICKS = "c" * 32


class Cluster:
    """What the controller would say of the topics."""

    def __init__(self) -> None:
        self.topics = {"clicks": 4}
        self.answers = True
        self.refreshed = 0

    async def refresh(self, view: MetadataCache) -> None:
        self.refreshed += 1
        if not self.answers:
            raise ConnectionLostError()
        view.brokers = {0: BrokerInfo(0, "10.0.0.1", "r0")}
        view.topics = {
            name: TopicInfo(
                name,
                CLICKS if name == "clicks" else name[0] * 32,
                [PartitionInfo(number, 0, 1, "10.0.0.1", 9) for number in range(count)],
            )
            for name, count in self.topics.items()
        }
        view.offset += 1
        for listener in view._listeners:
            listener()


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    cluster = Cluster()
    monkeypatch.setattr(MetadataCache, "refresh", lambda view: cluster.refresh(view))
    monkeypatch.setattr(MetadataCache, "watch", lambda view: None)
    return cluster


class Coordinated(ActorHarness):
    """Leads ``__consumer_offsets-0``."""

    async def lead(self, **changes: Any) -> HostedService:
        await self.assign(0, topic=CONSUMER_OFFSETS, **changes)
        parts = self.actor._parts
        assert parts is not None
        service = parts.coordinators.find(CONSUMER_OFFSETS, 0)
        await until(lambda: service.is_active)
        return service

    async def ask(self, key: ApiKey, request: Any) -> Any:
        return await answer_of(self.request(key, request))

    def beat(self, member: str, epoch: int, group: str = "g", **said: Any) -> RecordedReply:
        request = ConsumerGroupHeartbeatRequest(group, 0, member, epoch, **said)
        return self.request(ApiKey.CONSUMER_GROUP_HEARTBEAT, request)

    async def join(self, member: str, *topics: str) -> ConsumerGroupHeartbeatResponse:
        reply = self.beat(member, 0, subscribed_topics=list(topics or ("clicks",)))
        answer = await answer_of(reply)
        assert isinstance(answer, ConsumerGroupHeartbeatResponse)
        return answer


async def answer_of(reply: RecordedReply) -> Any:
    await until(lambda: bool(reply.answers) or reply.error is not None)
    answer = reply.answer
    raise_for(answer.error_code, answer.error_message)
    return answer


def offsets(*numbers: int) -> list[OffsetToCommit]:
    return [
        OffsetToCommit("clicks", CLICKS, number, 10 + number, 5, "by hand") for number in numbers
    ]


def given(answer: ConsumerGroupHeartbeatResponse) -> list[int] | None:
    if answer.assignment is None:
        return None
    assert all((one.topic, one.topic_id) == ("clicks", CLICKS) for one in answer.assignment)
    return [number for one in answer.assignment for number in one.partitions]


def test_a_member_joins_commits_and_is_described(tmp_path: Path, cluster: Cluster) -> None:
    async def check() -> None:
        async with Coordinated(tmp_path) as actor:
            await actor.lead()
            joined = await actor.join("a")
            assert (joined.member_id, joined.member_epoch) == ("a", 1)
            assert joined.heartbeat_interval_ms == 5000
            assert given(joined) == [0, 1, 2, 3]
            commit = OffsetCommitRequest("g", 0, [*offsets(0), *offsets(9)], "a", 1)
            done = await actor.ask(ApiKey.OFFSET_COMMIT, commit)
            assert [one.error_code for one in done.partitions] == [0, 3]
            fetch = OffsetFetchRequest("g", 0, [TopicPartitions("clicks", CLICKS, [0, 1])])
            (first, second) = (await actor.ask(ApiKey.OFFSET_FETCH, fetch)).offsets
            assert (first.offset, first.leader_epoch, first.metadata) == (10, 5, "by hand")
            assert first.topic_id == CLICKS
            assert second.offset == -1
            (listed,) = (await actor.ask(ApiKey.LIST_GROUPS, ListGroupsRequest(0))).groups
            assert (listed.group_id, listed.state, listed.members) == ("g", "Stable", 1)
            request = DescribeGroupsRequest(0, ["g", "nobody"])
            known, unknown = (await actor.ask(ApiKey.DESCRIBE_GROUPS, request)).groups
            assert known.members[0].assignment == [TopicPartitions("clicks", CLICKS, [0, 1, 2, 3])]
            assert (unknown.state, unknown.error_code) == ("Dead", 69)

    run(check())


def test_what_operators_do(tmp_path: Path, cluster: Cluster) -> None:
    async def check() -> None:
        async with Coordinated(tmp_path) as actor:
            await actor.lead()
            await actor.join("a")
            places = [TopicPartitions("clicks", CLICKS, [0])]
            await actor.ask(ApiKey.OFFSET_COMMIT, OffsetCommitRequest("g", 0, offsets(0), "a", 1))
            deleted = await actor.ask(ApiKey.OFFSET_DELETE, OffsetDeleteRequest("g", 0, places))
            assert [one.error_code for one in deleted.partitions] == [86]
            refused = await actor.ask(ApiKey.DELETE_GROUPS, DeleteGroupsRequest(0, ["g"]))
            assert [(one.group_id, one.error_code) for one in refused.groups] == [("g", 68)]
            request = RemoveMembersRequest("g", 0, ["a", "b"])
            removed = await actor.ask(ApiKey.REMOVE_MEMBERS, request)
            assert [(one.member_id, one.error_code) for one in removed.members] == [
                ("a", 0),
                ("b", 25),
            ]
            await actor.ask(ApiKey.DELETE_GROUPS, DeleteGroupsRequest(0, ["g"]))
            assert (await actor.ask(ApiKey.LIST_GROUPS, ListGroupsRequest(0))).groups == []

    run(check())


def test_a_held_heartbeat_is_answered_when_there_is_news(tmp_path: Path, cluster: Cluster) -> None:
    async def check() -> None:
        async with Coordinated(tmp_path) as actor:
            service = await actor.lead()
            await actor.join("a")
            held = actor.beat("a", 1, max_wait_ms=60_000)
            await turns(20)
            assert not held.answers
            await actor.join("b")
            assert given(await answer_of(held)) == [0, 1]
            waiting = actor.beat("b", 2, max_wait_ms=60_000)
            owned = [TopicPartitions("clicks", CLICKS, [0, 1])]
            assert (await answer_of(actor.beat("a", 1, owned=owned))).member_epoch == 2
            assert given(await answer_of(waiting)) == [2, 3]
            assert service.machine.groups.by_id["g"].epoch == 2

    run(check())


def test_a_held_heartbeat_ends_by_time_by_another_and_by_removal(
    tmp_path: Path, cluster: Cluster
) -> None:
    async def check() -> None:
        async with Coordinated(tmp_path) as actor:
            await actor.lead()
            await actor.join("a")
            short = await answer_of(actor.beat("a", 1, max_wait_ms=30))
            assert (short.member_epoch, short.assignment) == (1, None)
            first = actor.beat("a", 1, max_wait_ms=60_000)
            await turns(20)
            second = actor.beat("a", 1, max_wait_ms=60_000)
            assert (await answer_of(first)).assignment is None
            assert not second.answers
            await actor.ask(ApiKey.REMOVE_MEMBERS, RemoveMembersRequest("g", 0))
            with pytest.raises(UnknownMemberIdError):
                await answer_of(second)

    run(check())


def test_who_is_held_hears_that_another_one_leads(tmp_path: Path, cluster: Cluster) -> None:
    async def check() -> None:
        async with Coordinated(tmp_path) as actor:
            await actor.lead()
            await actor.join("a")
            held = actor.beat("a", 1, max_wait_ms=60_000)
            await turns(20)
            await actor.assign(
                0, topic=CONSUMER_OFFSETS, leader_epoch=4, leader_id=1, replicas=(0, 1), isr=(0, 1)
            )
            with pytest.raises(NotCoordinatorError):
                await answer_of(held)

    run(check())


def test_groups_survive_their_coordinator(tmp_path: Path, cluster: Cluster) -> None:
    async def check() -> None:
        async with Coordinated(tmp_path) as actor:
            await actor.lead()
            await actor.join("a")
            await actor.ask(ApiKey.OFFSET_COMMIT, OffsetCommitRequest("g", 0, offsets(2), "a", 1))
        async with Coordinated(tmp_path) as actor:
            await actor.lead(opened_before=True)
            assert given(await answer_of(actor.beat("a", 1))) is None
            (found,) = (await actor.ask(ApiKey.OFFSET_FETCH, OffsetFetchRequest("g", 0))).offsets
            assert (found.partition, found.offset) == (2, 12)

    run(check())


def test_topics_are_told_and_looked_for(tmp_path: Path, cluster: Cluster) -> None:
    async def check() -> None:
        async with Coordinated(tmp_path) as actor:
            service = await actor.lead()
            await actor.join("a")
            held = actor.beat("a", 1, max_wait_ms=60_000)
            cluster.topics["clicks"] = 6
            parts = actor.actor._parts
            assert parts is not None
            await cluster.refresh(parts.peers.view)
            assert given(await answer_of(held)) == [0, 1, 2, 3, 4, 5]
            cluster.topics["views"] = 1
            joined = await actor.join("b", "views")
            assert joined.assignment == [TopicPartitions("views", "v" * 32, [0])]
            refreshed = cluster.refreshed
            await actor.join("c", "clicks")
            assert cluster.refreshed == refreshed, "known topics are not looked for"
            assert service.machine.groups.by_id["g"].members["a"].metadata.host == ""

    run(check())


def test_a_machine_that_is_told_late_is_told(tmp_path: Path, cluster: Cluster) -> None:
    async def check() -> None:
        cluster.answers = False
        async with Coordinated(tmp_path) as actor:
            await actor.lead()
            reply = actor.beat("a", 0, subscribed_topics=["clicks"])
            await until(lambda: bool(reply.answers))
            assert reply.answer.error_code == 14
            cluster.answers = True
            assert given(await actor.join("a")) == [0, 1, 2, 3]

    run(check())


def test_offsets_of_a_transaction(
    tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    async def verify(
        _: TransactionVerifier, transactional_id: str, producer: Any, place: Any, timeout_s: float
    ) -> None:
        asked.append((transactional_id, producer, place))

    monkeypatch.setattr(TransactionVerifier, "__call__", verify)

    async def check() -> None:
        async with Coordinated(tmp_path) as actor:
            await actor.lead()
            request = TxnOffsetCommitRequest("g", 0, "orders", 7, 4, offsets(1))
            done = await actor.ask(ApiKey.TXN_OFFSET_COMMIT, request)
            assert [one.error_code for one in done.partitions] == [0]
            place = TxnPartition(CONSUMER_OFFSETS, TOPIC_ID, 0)
            assert asked == [("orders", (7, 4), place)]
            fetch = OffsetFetchRequest("g", 0, require_stable=True)
            (found,) = (await actor.ask(ApiKey.OFFSET_FETCH, fetch)).offsets
            assert found.error_code == UnstableOffsetCommitError.code
            marker = WriteTxnMarkersRequest([TxnMarker(7, 5, True, [place])])
            reply = actor.request(ApiKey.WRITE_TXN_MARKERS, marker)
            await until(lambda: bool(reply.answers))
            (ended,) = reply.answer.partitions
            assert ended.error_code == 0, ended.error_message
            (found,) = (await actor.ask(ApiKey.OFFSET_FETCH, fetch)).offsets
            assert (found.partition, found.offset) == (1, 11)

    run(check())


class OwnAssignor:
    """Named by the test below."""

    name = "own"

    def assign(self, members: Any, topics: Any) -> Mapping[str, Any]:
        return {}


class WithoutName:
    """No assignor."""


def test_assignors_are_loaded_by_name() -> None:
    built_in = [UniformAssignor(), RangeAssignor()]
    assert list(load_assignors(["range", "uniform"], built_in)) == ["range", "uniform"]
    own = load_assignors([f"{__name__}:OwnAssignor", "uniform"], built_in)
    assert list(own) == ["own", "uniform"]
    for names, problem in [
        ([], "must name"),
        (["sticky"], "known are uniform, range"),
        (["uniform", "uniform"], "two assignors"),
        (["nowhere.at.all:X"], "cannot be loaded"),
        ([f"{__name__}:Missing"], "cannot be loaded"),
        ([f"{__name__}:WithoutName"], "cannot be loaded"),
    ]:
        with pytest.raises(InvalidConfigError, match=problem):
            load_assignors(names, built_in)


def test_a_member_that_is_silent_is_removed(tmp_path: Path, cluster: Cluster) -> None:
    async def check() -> None:
        configs = {"group.consumer.session.timeout.ms": "300"}
        async with Coordinated(tmp_path, configs=configs) as actor:
            await actor.lead()
            assert (await actor.join("a")).heartbeat_interval_ms == 100
            await actor.join("b")
            begin = asyncio.get_running_loop().time()
            while given(await answer_of(actor.beat("b", 0, subscribed_topics=["clicks"]))) != [
                0,
                1,
                2,
                3,
            ]:
                await asyncio.sleep(0.05)
                assert asyncio.get_running_loop().time() - begin < 5

    run(check())
