"""Where voters are put: each on a node of its own, also while some do not answer yet."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from partition_kit import run, until

from raykafka.actors.controlling.keeper import Patience
from raykafka.actors.controlling.voter_keeper import VoterKeeper
from raykafka.actors.ports import ControllerSpec, NodeInfo
from raykafka.actors.voters import VoterStarted
from raykafka.clock import SystemClock
from raykafka.config import BrokerConfig
from raykafka.model import Endpoint
from raykafka.quorum.voters import Voter

NODES = [NodeInfo(f"node-{number}", f"10.0.0.{number}") for number in range(3)]


class SlowVoter:
    """Its process takes as long to start as a test wants."""

    def __init__(self, voter_id: int, node: NodeInfo) -> None:
        self.voter_id, self.node = voter_id, node
        self.ready = asyncio.Event()
        self.asked = 0

    async def start_voter(self) -> VoterStarted:
        self.asked += 1
        await self.ready.wait()
        endpoint = Endpoint(self.node.host, 9000)
        return VoterStarted(1, self.node.node_id, f"directory-{self.voter_id}", endpoint)


class World:
    """A quorum with nobody but the active voter 0, and the spawner that makes others."""

    def __init__(self) -> None:
        self.created: dict[str, SlowVoter] = {}
        self.voters = (Voter(0, "directory-0"),)
        self.keeper = VoterKeeper(
            ControllerSpec("test/controller", "test", "/data", "10.0.0.0"), self._context()
        )

    def _context(self) -> Any:
        return SimpleNamespace(
            cluster_name="test",
            cluster_id="c",
            secret=b"s",
            node_id="node-0",
            clock=SystemClock(),
            patience=Patience(find_s=0.02, check_s=0.01),
            spawner=self,
            settings=SimpleNamespace(broker=lambda image, _=-1: BrokerConfig.parse({})),
            image=SimpleNamespace(cluster_id="c"),
            shell=SimpleNamespace(
                node=SimpleNamespace(
                    machine=SimpleNamespace(voters=self), add_voter=self._add_voter
                )
            ),
            controllers=(),
        )

    def _add_voter(self, voter: Voter) -> None:
        self.voters = (*self.voters, voter)

    def find(self, voter_id: int) -> Voter | None:
        return next((voter for voter in self.voters if voter.id == voter_id), None)

    def nodes(self) -> list[NodeInfo]:
        return NODES

    async def find_controller(self, name: str) -> SlowVoter | None:
        return self.created.get(name)

    async def spawn_controller(self, spec: ControllerSpec, node: NodeInfo) -> SlowVoter:
        voter = self.created[spec.name] = SlowVoter(spec.voter_id, node)
        return voter


def test_a_voter_that_does_not_answer_yet_keeps_its_node_to_itself() -> None:
    async def scenario() -> None:
        world = World()
        world.keeper.start()
        await until(lambda: len(world.created) == 2)
        places = [voter.node.node_id for voter in world.created.values()]
        assert sorted(places) == ["node-1", "node-2"], "the first one has not answered yet"
        await world.keeper.halt()

    run(scenario())


def test_one_voter_becomes_three_and_never_stays_two() -> None:
    async def scenario() -> None:
        world = World()
        world.keeper.start()
        await until(lambda: len(world.created) == 2)
        first, second = (world.created[f"test/controller-{number}"] for number in (1, 2))
        first.ready.set()
        await until(lambda: 1 in world.keeper.started)
        looks = first.asked
        await until(lambda: first.asked > looks + 2)
        assert len(world.voters) == 1, "with two, either could stop the other"
        second.ready.set()
        await until(lambda: len(world.voters) == 3)
        await world.keeper.halt()

    run(scenario())
