"""Actors of one process, in the place of Ray's: they can be found, watched and killed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence

from raykafka.actors.broker import BrokerActor
from raykafka.actors.controller import LOCK_TIMEOUT_S, ControllerActor
from raykafka.actors.controlling.keeper import Patience
from raykafka.actors.partition import PartitionActor
from raykafka.actors.ports import (
    ActorStarted,
    AssignmentResult,
    BrokerSpec,
    ClusterAccess,
    ControllerSpec,
    NodeInfo,
    PartitionActorSpec,
    PartitionAssignment,
    PartitionRemoval,
)
from raykafka.actors.voters import VoterStarted
from raykafka.assembly import make_broker, make_controller, make_partition_actor
from raykafka.errors import NetworkError, RaykafkaError


class _Life:
    """Whether an actor of this process lives, for its port to ask."""

    def __init__(
        self, name: str, crash: Callable[[], Awaitable[None]], actors: LocalActors
    ) -> None:
        self._name = name
        self._crash = crash
        self._actors = actors
        self._dead = asyncio.Event()
        self._dying: asyncio.Future[None] | None = None

    def check(self) -> None:
        """Raise ``NetworkError`` when the actor is dead, as a call to a dead process does."""
        if self._dying is not None:
            raise NetworkError(f"{self._name} is dead")

    def kill(self) -> None:
        """Let the actor drop its sockets and locks, then forget it."""
        if self._dying is None:
            self._dying = asyncio.ensure_future(self._die())

    async def wait_dead(self) -> None:
        """Return when the actor has been killed."""
        await self._dead.wait()

    async def _die(self) -> None:
        await self._crash()
        self._actors.forget(self._name)
        self._dead.set()


class LocalBroker:
    """``BrokerPort`` of a broker in this process."""

    def __init__(self, shell: BrokerActor, actors: LocalActors) -> None:
        self.name = shell.spec.name
        self.broker_id = shell.spec.broker_id
        self.node_id = shell.spec.node.node_id
        self._shell = shell
        self._life = _Life(self.name, shell.crash, actors)

    async def start(self) -> ActorStarted:
        """See the port."""
        self._life.check()
        return await asyncio.shield(asyncio.ensure_future(self._shell.start()))

    async def stop(self) -> None:
        """See the port; the actor stays until it is killed."""
        self._life.check()
        await self._shell.stop()

    async def wait_dead(self) -> None:
        """See the port."""
        await self._life.wait_dead()

    def kill(self) -> None:
        """See the port."""
        self._life.kill()


class LocalPartitionActor:
    """``PartitionActorPort`` of a partition actor in this process."""

    def __init__(self, shell: PartitionActor, actors: LocalActors) -> None:
        self.name = shell.spec.name
        self.broker_id = shell.spec.broker_id
        self.slot = shell.spec.slot
        self.node_id = shell.spec.node.node_id
        self._shell = shell
        self._life = _Life(self.name, shell.crash, actors)
        self._watch = asyncio.ensure_future(self._die_when_replaced())

    async def _die_when_replaced(self) -> None:
        replaced = asyncio.ensure_future(self._shell.wait_replaced())
        dead = asyncio.ensure_future(self._life.wait_dead())
        await asyncio.wait({replaced, dead}, return_when=asyncio.FIRST_COMPLETED)
        replaced.cancel()
        dead.cancel()
        self.kill()

    async def start(self) -> ActorStarted:
        """See the port."""
        self._life.check()
        return await asyncio.shield(asyncio.ensure_future(self._shell.start()))

    async def assign(
        self, assignments: Sequence[PartitionAssignment], removals: Sequence[PartitionRemoval]
    ) -> list[AssignmentResult]:
        """See the port."""
        self._life.check()
        # As under Ray: a caller that gives up does not stop what it asked for.
        assigning = asyncio.ensure_future(self._shell.assign(assignments, removals))
        return await asyncio.shield(assigning)

    async def stop(self) -> None:
        """See the port; the actor stays until it is killed."""
        self._life.check()
        await self._shell.stop()

    async def wait_dead(self) -> None:
        """See the port."""
        await self._life.wait_dead()

    def kill(self) -> None:
        """See the port."""
        self._life.kill()


class LocalController:
    """``VoterPort`` of a controller in this process."""

    def __init__(self, shell: ControllerActor, node_id: str, actors: LocalActors) -> None:
        self.name = shell.spec.name
        self.node_id = node_id
        self.shell = shell
        self._life = _Life(self.name, shell.crash, actors)

    async def start_voter(self) -> VoterStarted:
        """See the port."""
        self._life.check()
        return await asyncio.shield(asyncio.ensure_future(self.shell.start_voter()))

    async def leave(self) -> None:
        """See the port."""
        self._life.check()
        await self.shell.leave()

    async def wait_dead(self) -> None:
        """See the port."""
        await self._life.wait_dead()

    def kill(self) -> None:
        """See the port."""
        self._life.kill()


LocalActor = LocalBroker | LocalPartitionActor | LocalController


class LocalActors:
    """Every living actor; they outlive each other, as Ray's detached actors do."""

    def __init__(
        self,
        nodes: int = 1,
        lock_timeout_s: float = LOCK_TIMEOUT_S,
        patience: Patience | None = None,
    ) -> None:
        """They live on ``nodes`` pretended nodes of this machine."""
        self._patience = patience
        self._living: dict[str, LocalActor] = {}
        self._lock_timeout_s = lock_timeout_s
        self.on_access: Callable[[ClusterAccess], None] | None = None
        """Told by every voter where the voters are."""
        cores = os.cpu_count() or 1
        self._nodes = [
            NodeInfo(f"local-{number}", "127.0.0.1", "", cores) for number in range(nodes)
        ]
        self._down: set[str] = set()

    def nodes(self) -> list[NodeInfo]:
        """Nodes that are up."""
        return [node for node in self._nodes if node.node_id not in self._down]

    def add_node(self, rack: str = "") -> NodeInfo:
        """One more node."""
        node = NodeInfo(f"local-{len(self._nodes)}", "127.0.0.1", rack, os.cpu_count() or 1)
        self._nodes.append(node)
        return node

    def set_down(self, node_id: str, *, down: bool) -> None:
        """Whether the node is gone, for whoever asks which there are."""
        if down:
            self._down.add(node_id)
        else:
            self._down.discard(node_id)

    def check_up(self, node: NodeInfo) -> None:
        """Raise ``NetworkError`` where Ray could create no actor, as the node is gone."""
        if node.node_id in self._down:
            raise NetworkError(f"node {node.node_id} is down")

    def on_node(self, node_id: str) -> list[LocalActor]:
        """The living actors of one node."""
        return [port for port in self._living.values() if port.node_id == node_id]

    def add(self, port: LocalActor) -> None:
        """Register an actor under its name."""
        self._living[port.name] = port

    def forget(self, name: str) -> None:
        """The actor of that name is dead."""
        self._living.pop(name, None)

    def find(self, name: str) -> LocalActor | None:
        """The living actor of that name."""
        return self._living.get(name)

    def partition_actors(self) -> dict[tuple[int, int], LocalPartitionActor]:
        """The living partition actors by broker and slot."""
        return {
            (port.broker_id, port.slot): port
            for port in self._living.values()
            if isinstance(port, LocalPartitionActor)
        }

    def brokers(self) -> list[LocalBroker]:
        """The living brokers."""
        return [port for port in self._living.values() if isinstance(port, LocalBroker)]

    def controllers(self) -> list[LocalController]:
        """The living voters, by name."""
        found = [port for port in self._living.values() if isinstance(port, LocalController)]
        return sorted(found, key=lambda port: port.name)

    def create_controller(self, spec: ControllerSpec, node_id: str) -> LocalController:
        """Make a voter; it is started by the caller."""
        shell = make_controller(
            spec,
            lambda _: LocalSpawner(self),
            lock_timeout_s=self._lock_timeout_s,
            node_id=node_id,
            patience=self._patience,
        )
        shell.on_access = self.on_access
        port = LocalController(shell, node_id, self)
        self.add(port)
        return port

    async def heartbeat(self, broker_id: int, incarnation: int, usable_bytes: int) -> bool:
        """``ControllerPort`` of the brokers: asks whoever is active."""
        problem: RaykafkaError = NetworkError("no controller lives")
        for port in self.controllers():
            try:
                return await port.shell.heartbeat(broker_id, incarnation, usable_bytes)
            except RaykafkaError as error:
                problem = error
        raise problem


class LocalSpawner:
    """``ActorSpawner`` that makes actors of this process."""

    def __init__(self, actors: LocalActors) -> None:
        self._actors = actors

    def nodes(self) -> list[NodeInfo]:
        """The pretended nodes that are up."""
        return self._actors.nodes()

    async def spawn_broker(self, spec: BrokerSpec) -> LocalBroker:
        """Make a broker; it is started by the caller."""
        self._actors.check_up(spec.node)
        port = LocalBroker(make_broker(spec, self._actors), self._actors)
        self._actors.add(port)
        return port

    async def spawn_partition_actor(self, spec: PartitionActorSpec) -> LocalPartitionActor:
        """Make a partition actor; it is started by the caller."""
        self._actors.check_up(spec.node)
        port = LocalPartitionActor(make_partition_actor(spec), self._actors)
        self._actors.add(port)
        return port

    async def spawn_controller(self, spec: ControllerSpec, node: NodeInfo) -> LocalController:
        """Make a voter; it is started by the caller."""
        self._actors.check_up(node)
        if self._actors.find(spec.name) is not None:
            raise NetworkError(f"{spec.name} exists already")
        return self._actors.create_controller(spec, node.node_id)

    async def find_controller(self, name: str) -> LocalController | None:
        """The living voter of that name."""
        port = self._actors.find(name)
        return port if isinstance(port, LocalController) else None

    async def find_broker(self, name: str) -> LocalBroker | None:
        """The living broker of that name."""
        port = self._actors.find(name)
        return port if isinstance(port, LocalBroker) else None

    async def find_partition_actor(self, name: str) -> LocalPartitionActor | None:
        """The living partition actor of that name."""
        port = self._actors.find(name)
        return port if isinstance(port, LocalPartitionActor) else None
