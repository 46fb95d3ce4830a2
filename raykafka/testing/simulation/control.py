"""The control plane of the simulation: what Ray is in production.

Actors are found by name, called, watched and killed. Calls and their answers travel on the
simulated network, so they are late, or wait behind a cut; a death is noticed after a while.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

from raykafka.actors.environment import Environment, OwnedDirectory
from raykafka.actors.ports import (
    ActorStarted,
    AssignmentResult,
    NodeInfo,
    PartitionAssignment,
    PartitionRemoval,
)
from raykafka.errors import NetworkError
from raykafka.testing.simulation.catch_up import SimulatedCatchUpConnector
from raykafka.testing.simulation.disk import SimulatedDirectory
from raykafka.testing.simulation.flushing import VirtualFlusher
from raykafka.testing.simulation.hosts import Host, Process
from raykafka.testing.simulation.loop import settle
from raykafka.testing.simulation.network import (
    Network,
    Pipe,
    SimulatedConnector,
    SimulatedListener,
)
from raykafka.testing.simulation.world import World

T = TypeVar("T")
logger = logging.getLogger(__name__)

SPAWN_S: Final = (0.02, 0.6)
"""A new process with everything loaded takes this long."""
DEATH_S: Final = (0.005, 1.5)
"""How long the death of a process goes unnoticed by who waits for it."""
NODE_DEATH_S: Final = (1.0, 6.0)
"""The same for the death of a machine."""


class ControlPlane:
    """Every actor of the cluster by its name, and the machines they may run on."""

    def __init__(self, world: World, network: Network) -> None:
        self.world = world
        self.network = network
        self.hosts: list[Host] = []
        self.nodes: dict[str, NodeInfo] = {}
        """What is believed to be up; a dead machine is noticed late."""
        self.actors: dict[str, Process] = {}
        self.on_partition_actor: Callable[[Process], None] = _nothing
        """Told of every new partition actor, for the checks."""

    # --- machines ---------------------------------------------------------------------------------

    def add_host(self, address: str) -> Host:
        """A machine that may store data."""
        host = Host(self.world, len(self.network.hosts), address)
        self.network.add(host)
        self.hosts.append(host)
        self._enlist(host)
        return host

    def crash(self, host: Host, *, power: bool) -> None:
        """The machine goes down; the cluster learns of it after a while."""
        node_id = host.node_id
        host.crash(power=power)
        self.world.after(self.world.delay(*NODE_DEATH_S), self._delist, node_id)

    def boot(self, host: Host) -> None:
        """The machine joins again, as a new node."""
        host.boot()
        self._enlist(host)
        self.network.wake()

    def _enlist(self, host: Host) -> None:
        self.nodes[host.node_id] = NodeInfo(host.node_id, host.address, "", 1)

    def _delist(self, node_id: str) -> None:
        self.nodes.pop(node_id, None)

    # --- processes --------------------------------------------------------------------------------

    def process(self, host: Host, name: str) -> Process:
        """A new process on a machine that is up."""
        return Process(self.world, host, name)

    def environment(self, process: Process) -> Environment:
        """What an actor in ``process`` is handed."""
        disk = process.host.disk

        def directory(path: str, *, slot: int | None = None) -> OwnedDirectory:
            return SimulatedDirectory(process, path, slot=slot)

        return Environment(
            clock=process.host.clock,
            listener_factory=lambda spec, handlers: SimulatedListener(
                self.network, process, spec, handlers
            ),
            connector=SimulatedConnector(self.network, process),
            catch_up_connector=SimulatedCatchUpConnector(self.network, process),
            store_factory=disk.store,
            directory_factory=directory,
            disk_usage=disk.usage,
            group_commit=lambda on_flushed: VirtualFlusher(process, on_flushed),
            random_bytes=self.world.random.randbytes,
            pid=process.pid,
        )

    def register(self, name: str, process: Process) -> None:
        """Make the actor known under its name, until it dies."""
        self.actors[name] = process

        def forget() -> None:
            if self.actors.get(name) is process:
                del self.actors[name]

        process.on_death.append(forget)

    async def call(
        self, caller: Process, callee: Process, function: Callable[[], Awaitable[T]]
    ) -> T:
        """Run ``function`` in ``callee`` and wait in ``caller``; ``NetworkError`` when it dies."""
        answer: asyncio.Future[T] = caller.loop.create_future()
        _Call(self, caller, callee, function, answer).begin()
        return await answer

    async def death(self, watcher: Process, watched: Process) -> None:
        """Return when ``watcher`` has learnt that the process is dead."""
        learnt: asyncio.Future[None] = watcher.loop.create_future()

        def learn() -> None:
            watcher.loop.call_soon(settle, learnt, None, None)

        def die() -> None:
            low_s, high_s = DEATH_S if watched.host.up else NODE_DEATH_S
            back = Pipe(self.network, watcher.host, watcher.host)
            self.world.after(self.world.delay(low_s, high_s), back.send, learn)

        if watched.alive:
            watched.on_death.append(die)
        else:
            die()
        await learnt


class _Call:
    def __init__(
        self,
        plane: ControlPlane,
        caller: Process,
        callee: Process,
        function: Callable[[], Awaitable[Any]],
        answer: asyncio.Future[Any],
    ) -> None:
        self._plane = plane
        self._caller = caller
        self._callee = callee
        self._function = function
        self._answer = answer
        self._back = Pipe(plane.network, callee.host, caller.host)
        self._begun = False

    def begin(self) -> None:
        Pipe(self._plane.network, self._caller.host, self._callee.host).send(self._arrive)

    def _arrive(self) -> None:
        if not self._callee.alive:
            self._fail_later()
            return
        self._callee.on_death.append(self._fail_later)
        self._callee.loop.call_soon(self._run)

    def _run(self) -> None:
        task = self._callee.loop.create_task(_awaited(self._function()))
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        if self._fail_later in self._callee.on_death:
            self._callee.on_death.remove(self._fail_later)
        if task.cancelled():
            self._back.send(self._settle, None, NetworkError("the call was cancelled"))
        elif task.exception() is not None:
            self._back.send(self._settle, None, task.exception())
        else:
            self._back.send(self._settle, task.result(), None)

    def _fail_later(self) -> None:
        world = self._plane.world
        error = NetworkError(f"{self._callee.name} is dead")
        world.after(world.delay(*DEATH_S), self._settle, None, error)

    def _settle(self, result: Any, error: BaseException | None) -> None:
        self._caller.loop.call_soon(settle, self._answer, result, error)


async def _awaited(awaitable: Awaitable[T]) -> T:
    return await awaitable


def _nothing(_process: Process) -> None:
    """Nobody wants to know."""


class SimulatedPort:
    """``BrokerPort`` and ``PartitionActorPort`` of one actor, for one controller."""

    def __init__(self, plane: ControlPlane, caller: Process, process: Process) -> None:
        self._plane = plane
        self._caller = caller
        self._process = process

    async def start(self) -> ActorStarted:
        """See the port."""
        started: ActorStarted = await self._call(lambda: self._process.shell.start())
        return started

    async def assign(
        self, assignments: Sequence[PartitionAssignment], removals: Sequence[PartitionRemoval]
    ) -> list[AssignmentResult]:
        """See the port."""
        shell = self._process.shell
        results: list[AssignmentResult] = await self._call(
            lambda: shell.assign(assignments, removals)
        )
        return results

    async def stop(self) -> None:
        """See the port."""
        await self._call(lambda: self._process.shell.stop())

    async def wait_dead(self) -> None:
        """See the port."""
        await self._plane.death(self._caller, self._process)

    def kill(self) -> None:
        """See the port."""
        pipe = Pipe(self._plane.network, self._caller.host, self._process.host)
        pipe.send(self._process.kill)

    async def _call(self, function: Callable[[], Awaitable[Any]]) -> Any:
        return await self._plane.call(self._caller, self._process, function)
