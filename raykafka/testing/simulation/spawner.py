"""What a simulated controller creates and finds actors with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from raykafka.actors.broker import BrokerActor
from raykafka.actors.partition import PartitionActor
from raykafka.actors.ports import BrokerSpec, ControllerSpec, NodeInfo, PartitionActorSpec
from raykafka.actors.voters import VoterPort
from raykafka.errors import NetworkError, RaykafkaError
from raykafka.testing.simulation.control import SPAWN_S, ControlPlane, SimulatedPort
from raykafka.testing.simulation.hosts import Host, Process
from raykafka.testing.simulation.loop import settle
from raykafka.testing.simulation.network import Pipe
from raykafka.testing.simulation.voters import SimulatedVoterPort, Voters


class ControllerCalls:
    """``ControllerPort`` of a broker: asks one controller after the other."""

    def __init__(self, plane: ControlPlane, process: Process, voters: Voters) -> None:
        self._plane = plane
        self._process = process
        self._voters = voters

    async def heartbeat(self, broker_id: int, incarnation: int, usable_bytes: int) -> bool:
        """See the port."""
        problem: RaykafkaError = NetworkError("no controller is registered")
        for controller in self._voters.processes():
            try:
                return await self._ask(controller, broker_id, incarnation, usable_bytes)
            except RaykafkaError as error:
                problem = error
        raise problem

    async def _ask(
        self, controller: Process, broker_id: int, incarnation: int, usable_bytes: int
    ) -> bool:
        alive: bool = await self._plane.call(
            self._process,
            controller,
            lambda: controller.shell.heartbeat(broker_id, incarnation, usable_bytes),
        )
        return alive


class SimulatedSpawner:
    """``ActorSpawner`` of one controller."""

    def __init__(self, plane: ControlPlane, process: Process, voters: Voters) -> None:
        self._plane = plane
        self._process = process
        self._voters = voters

    def nodes(self) -> list[NodeInfo]:
        """See ``ActorSpawner``."""
        return list(self._plane.nodes.values())

    async def spawn_broker(self, spec: BrokerSpec) -> SimulatedPort:
        """See ``ActorSpawner``."""
        plane = self._plane

        def begin(process: Process) -> None:
            calls = ControllerCalls(plane, process, self._voters)
            shell = BrokerActor(spec, calls, plane.environment(process))
            process.shell = shell

            async def live() -> None:
                await shell.wait_fenced()
                process.kill()

            process.start(live)

        return await self._spawn(spec.node, spec.name, begin)

    async def spawn_partition_actor(self, spec: PartitionActorSpec) -> SimulatedPort:
        """See ``ActorSpawner``."""
        plane = self._plane

        def begin(process: Process) -> None:
            shell = PartitionActor(spec, plane.environment(process))
            process.shell = shell
            plane.on_partition_actor(process)

            async def live() -> None:
                await shell.wait_replaced()
                process.kill()

            process.start(live)

        return await self._spawn(spec.node, spec.name, begin)

    async def spawn_controller(self, spec: ControllerSpec, node: NodeInfo) -> VoterPort:
        """See ``ActorSpawner``; raises ``NetworkError`` while one has its name."""
        if self._voters.is_known(spec.name):
            raise NetworkError(f"{spec.name} exists already")
        process = await self._bear(node, lambda host: self._voters.start(spec, host))
        return SimulatedVoterPort(self._plane, self._process, process, self._voters)

    async def find_controller(self, name: str) -> VoterPort | None:
        """See ``ActorSpawner``."""
        await asyncio.sleep(self._plane.world.delay(1e-3, 20e-3))
        process = self._plane.actors.get(name)
        if process is None:
            return None
        return SimulatedVoterPort(self._plane, self._process, process, self._voters)

    async def find_broker(self, name: str) -> SimulatedPort | None:
        """See ``ActorSpawner``."""
        return await self._find(name)

    async def find_partition_actor(self, name: str) -> SimulatedPort | None:
        """See ``ActorSpawner``."""
        return await self._find(name)

    async def _find(self, name: str) -> SimulatedPort | None:
        await asyncio.sleep(self._plane.world.delay(1e-3, 20e-3))
        process = self._plane.actors.get(name)
        return None if process is None else SimulatedPort(self._plane, self._process, process)

    async def _spawn(
        self, node: NodeInfo, name: str, begin: Callable[[Process], None]
    ) -> SimulatedPort:
        plane = self._plane

        def make(host: Host) -> Process:
            process = plane.process(host, name)
            begin(process)
            plane.register(name, process)
            return process

        return SimulatedPort(plane, self._process, await self._bear(node, make))

    async def _bear(self, node: NodeInfo, make: Callable[[Host], Process]) -> Process:
        """A new process on a node, after a while; never where the node is gone."""
        plane = self._plane
        born: asyncio.Future[Process] = self._process.loop.create_future()
        host = plane.network.hosts[node.host]

        def bear() -> None:
            if host.node_id == node.node_id and host.up:
                # The process exists even when the one that asked for it has given up.
                self._process.loop.call_soon(settle, born, make(host), None)

        way = Pipe(plane.network, self._process.host, host)
        way.send(lambda: plane.world.after(plane.world.delay(*SPAWN_S), bear))
        return await born
