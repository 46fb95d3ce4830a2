"""The controllers of a simulated cluster: found by name, restarted on their node when they die."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from raykafka.actors.controller import ControllerActor
from raykafka.actors.controlling.keeper import Patience
from raykafka.actors.ports import ActorSpawner, ClusterAccess, ControllerSpec
from raykafka.actors.voters import VoterStarted
from raykafka.errors import NetworkError, RaykafkaError
from raykafka.testing.simulation.control import ControlPlane
from raykafka.testing.simulation.hosts import Host, Process
from raykafka.testing.simulation.network import Pipe

RESTART_S: Final = (0.3, 1.5)
"""How long it takes until a dead controller has a successor."""
PATIENCE: Final = Patience(
    find_s=2.0,
    spawn_s=5.0,
    start_s=10.0,
    stop_s=5.0,
    dead_s=2.0,
    check_s=0.5,
    replace_voter_ms=5000,
)

MakeSpawner = Callable[[Process], ActorSpawner]


class Voters:
    """Makes controllers, and makes them anew on the same node for as long as that is there."""

    def __init__(
        self,
        plane: ControlPlane,
        make_spawner: MakeSpawner,
        on_access: Callable[[ClusterAccess], None],
        on_made: Callable[[Process], None],
    ) -> None:
        self._plane = plane
        self._make_spawner = make_spawner
        self._on_access = on_access
        self._on_made = on_made
        self._restarts: set[str] = set()
        """Names of those that are restarted when they die."""

    def processes(self) -> list[Process]:
        """The living controllers, in the order of their names."""
        return [
            process
            for name, process in sorted(self._plane.actors.items())
            if "/controller" in name and process.shell is not None
        ]

    def active(self) -> Process | None:
        """The active controller, as the newest that thinks so."""
        active = [process for process in self.processes() if process.shell.is_active]
        return max(
            active, key=lambda each: each.shell._parts.shell.node.machine.epoch, default=None
        )

    def count(self) -> int:
        """How many have a vote, as those know who have started."""
        started = [each.shell._parts for each in self.processes() if each.shell._parts is not None]
        return max((len(each.shell.node.machine.voters.voters) for each in started), default=0)

    def is_known(self, name: str) -> bool:
        """Whether it lives or will be restarted."""
        return name in self._restarts or name in self._plane.actors

    def forget(self, name: str) -> None:
        """Do not restart it any more."""
        self._restarts.discard(name)

    def start(self, spec: ControllerSpec, host: Host) -> Process:
        """Make a controller on a machine that is up."""
        plane, node_id = self._plane, host.node_id
        process = plane.process(host, spec.name)
        plane.register(spec.name, process)
        self._restarts.add(spec.name)

        def restart() -> None:
            if spec.name not in self._restarts:
                return
            if host.up and host.node_id == node_id:
                self.start(spec, host)
            else:
                self._restarts.discard(spec.name)

        def on_death() -> None:
            plane.world.after(plane.world.delay(*RESTART_S), restart)

        process.on_death.append(on_death)
        shell = ControllerActor(
            spec,
            lambda _: self._make_spawner(process),
            plane.environment(process),
            patience=PATIENCE,
            lock_timeout_s=1.0,
            node_id=node_id,
        )
        shell.on_access = self._on_access
        process.shell = shell
        self._on_made(process)

        async def live() -> None:
            started = await _has_started(shell)
            while not started:
                await asyncio.sleep(0.5)
                started = await _has_started(shell)
            await shell.wait_failed()
            process.kill()

        process.start(live)
        return process


async def _has_started(shell: ControllerActor) -> bool:
    try:
        await shell.start_voter()
    except RaykafkaError:
        return False
    return True


def _epoch(process: Process) -> int:
    epoch: int = process.shell._parts.shell.node.machine.epoch
    return epoch


class SimulatedVoterPort:
    """``VoterPort`` of one controller, for another one."""

    def __init__(
        self, plane: ControlPlane, caller: Process, voter: Process, voters: Voters
    ) -> None:
        self._plane = plane
        self._caller = caller
        self._voter = voter
        self._voters = voters

    async def start_voter(self) -> VoterStarted:
        """See the port."""
        process = self._current()
        started: VoterStarted = await self._plane.call(
            self._caller, process, lambda: process.shell.start_voter()
        )
        return started

    async def leave(self) -> None:
        """See the port."""
        process = self._current()
        await self._plane.call(self._caller, process, lambda: process.shell.leave())

    async def wait_dead(self) -> None:
        """See the port."""
        await self._plane.death(self._caller, self._voter)

    def kill(self) -> None:
        """See the port."""
        self._voters.forget(self._voter.name)
        Pipe(self._plane.network, self._caller.host, self._voter.host).send(self._voter.kill)

    def _current(self) -> Process:
        """The actor under that name: the same port reaches its next life."""
        process = self._plane.actors.get(self._voter.name)
        if process is None:
            raise NetworkError(f"{self._voter.name} is dead")
        return process
