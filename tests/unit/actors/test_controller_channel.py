"""What a leader's proposals come to: accepted, refused, overtaken, or nobody knows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from partition_kit import ActorHarness, run, until

from raykafka.actors.ports import NodeInfo, PartitionActorSpec
from raykafka.actors.replicas.controller_channel import ControllerChannel
from raykafka.actors.replicas.lease import Lease
from raykafka.actors.replicas.replica import Replica
from raykafka.clock import SystemClock
from raykafka.config import BrokerConfig
from raykafka.errors import (
    ConnectionLostError,
    FencedLeaderEpochError,
    IneligibleReplicaError,
    InvalidUpdateVersionError,
    NewLeaderElectedError,
    RaykafkaError,
)
from raykafka.model import Endpoint
from raykafka.protocol.messages import ApiKey
from raykafka.protocol.replication_messages import (
    ActorHeartbeatResponse,
    AlteredPartition,
    AlteredPartitionResult,
    AlterPartitionsRequest,
    AlterPartitionsResponse,
)
from raykafka.replication.effects import ProposeIsr
from raykafka.replication.events import FollowerAttached, IsrChanged, Tick

Answer = AlteredPartitionResult | RaykafkaError


class Controller:
    """Answers proposals as the test says; also its own connection."""

    def __init__(self) -> None:
        self.closed = False
        self.asked: list[AlteredPartition] = []
        self.answers: asyncio.Queue[Callable[[AlteredPartition], Answer]] = asyncio.Queue()

    async def connect(self, *_: Any, **__: Any) -> Controller:
        self.closed = False
        return self

    def on_close(self, callback: Callable[[], None]) -> None:
        pass

    def close(self) -> None:
        self.closed = True

    async def call(self, _key: ApiKey, request: Any, *, timeout_s: float) -> Any:
        if not isinstance(request, AlterPartitionsRequest):
            return ActorHeartbeatResponse(60_000)
        [proposal] = request.partitions
        self.asked.append(proposal)
        answer = (await self.answers.get())(proposal)
        if isinstance(answer, RaykafkaError):
            raise answer
        return AlterPartitionsResponse([answer])


def accepted(proposal: AlteredPartition) -> Answer:
    isr = [member.broker_id for member in proposal.isr]
    version = proposal.partition_epoch + 1
    return AlteredPartitionResult(
        proposal.topic_id, proposal.partition, proposal.leader_epoch, version, isr
    )


def refused(error: type[RaykafkaError]) -> Callable[[AlteredPartition], Answer]:
    def answer(proposal: AlteredPartition) -> Answer:
        place = proposal.topic_id, proposal.partition
        return AlteredPartitionResult(*place, -1, -1, [], error.code, "because")

    return answer


def lost(_: AlteredPartition) -> Answer:
    return ConnectionLostError("the answer got lost")


class Case:
    """A leader on broker 0 with followers 1, in sync, and 2, and its line to a controller."""

    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        self.controller = Controller()
        spec = PartitionActorSpec(
            name="a",
            cluster_id="c",
            cluster_name="test",
            broker_id=0,
            slot=0,
            incarnation=1,
            node=NodeInfo("n", "127.0.0.1"),
            log_dir="",
            configs={},
            secret=b"s" * 32,
            controllers=(Endpoint("127.0.0.1", 1),),
        )
        self.channel = ControllerChannel(
            spec,
            BrokerConfig.parse({}),
            self.controller.connect,
            SystemClock(),
            Lease(needed=True),
            lambda: None,
        )

    def handle(self, event: Any, now_ms: int = 0) -> None:
        for effect in self.replica.machine.on_event(event, now_ms=now_ms):
            if isinstance(effect, ProposeIsr):
                self.channel.propose(self.replica, effect.isr, effect.partition_epoch)

    def join(self) -> None:
        self.handle(FollowerAttached(2, 1, 0))

    @property
    def counted(self) -> frozenset[int]:
        """Followers that must have a batch before it is acknowledged."""
        return self.replica.machine.in_sync.counted

    async def answer(self, *answers: Callable[[AlteredPartition], Answer]) -> None:
        """Give these, and wait until each has been taken in."""
        for answer in answers:
            self.controller.answers.put_nowait(answer)
            await until(self.controller.answers.empty)
            await asyncio.sleep(0.01)


def play(root: Path, scenario: Callable[[Case], Any]) -> None:
    async def main() -> None:
        async with ActorHarness(root) as actor:
            await actor.assign(0, replicas=(0, 1, 2), isr=(0, 1))
            case = Case(actor.replica(0))
            case.channel.start()
            await scenario(case)
            await case.channel.close()

    run(main())


def test_a_refused_member_does_not_count(tmp_path: Path) -> None:
    async def scenario(case: Case) -> None:
        case.join()
        assert case.counted == {1, 2}
        await case.answer(refused(IneligibleReplicaError))
        assert case.counted == {1}

    play(tmp_path, scenario)


@pytest.mark.parametrize(
    "error", [InvalidUpdateVersionError, FencedLeaderEpochError, NewLeaderElectedError]
)
def test_what_an_earlier_try_may_have_brought_about_counts(
    tmp_path: Path, error: type[RaykafkaError]
) -> None:
    """The first answer got lost, and what the second try meets is what the first one did."""

    async def scenario(case: Case) -> None:
        case.join()
        await case.answer(lost, refused(error))
        assert len(case.controller.asked) == 2
        assert case.counted == {1, 2}, "the controller may elect broker 2"
        case.handle(IsrChanged(frozenset({0, 1, 2}), 1))
        assert case.replica.machine.in_sync.proposed is None

    play(tmp_path, scenario)


def test_a_proposal_that_nobody_knows_of_is_made_again(tmp_path: Path) -> None:
    async def scenario(case: Case) -> None:
        case.join()
        await case.answer(refused(InvalidUpdateVersionError))
        for now_ms in (0, 500, 1000):
            case.handle(Tick(), now_ms)
        await case.answer(accepted)
        assert len(case.controller.asked) == 2
        assert case.replica.machine.isr == {0, 1, 2}

    play(tmp_path, scenario)


def test_the_refusal_of_one_proposal_says_nothing_of_the_next(tmp_path: Path) -> None:
    async def scenario(case: Case) -> None:
        case.join()
        await until(lambda: bool(case.controller.asked))
        case.handle(IsrChanged(frozenset({0, 1}), 7))
        case.join()
        await case.answer(refused(IneligibleReplicaError))
        assert case.counted == {1, 2}, "the second one is on its way"
        await case.answer(accepted)
        assert case.replica.machine.isr == {0, 1, 2}

    play(tmp_path, scenario)
