"""Turns shells into Ray actors: naming, placement, options.

Every actor is detached and named ``<cluster>/<role>`` in one namespace. Brokers and partition
actors carry their incarnation in the name and are never restarted by Ray: the controller makes a
new one, so that no constructor runs again with an old leader epoch. Only the controller is
restarted by Ray. Actors take no CPU from Ray's account, so a cluster never starves the jobs beside
it, and no memory: their buffers are bounded by configuration, and a reservation could keep them
from being placed.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raykafka.actors.broker import BrokerActor
from raykafka.actors.controller import ControllerActor
from raykafka.actors.endpoint_file import remove_endpoint_file, write_endpoint_file
from raykafka.actors.handles import (
    NAMESPACE,
    Identity,
    RayBrokerPort,
    RayControllerPort,
    RayPartitionActorPort,
    find,
)
from raykafka.actors.partition import PartitionActor
from raykafka.actors.ports import (
    ActorStarted,
    AssignmentResult,
    BrokerSpec,
    ClusterAccess,
    ControllerPort,
    ControllerSpec,
    NodeInfo,
    PartitionActorSpec,
    PartitionAssignment,
    PartitionRemoval,
    SpawnerFactory,
)
from raykafka.errors import NetworkError

logger = logging.getLogger(__name__)

LOOPBACK_RESOURCE = "raykafka-loopback"
"""Marks the only node of a Ray that lives on one machine: listeners bind loopback there, although
Ray itself takes the address of a network card."""

_MAX_CONCURRENCY = 10_000
_RETRY_S = 0.5
_IDENTITY_TIMEOUT_S = 5.0


class ShellMakers(NamedTuple):
    """How shells are put together; functions of a module, since they travel by reference."""

    controller: Callable[[ControllerSpec, SpawnerFactory], ControllerActor]
    broker: Callable[[BrokerSpec, ControllerPort], BrokerActor]
    partition_actor: Callable[[PartitionActorSpec], PartitionActor]


class _Host:
    """What Ray runs: one shell, and the process around it."""

    _name: str
    _incarnation: int

    async def identity(self) -> Identity:
        """Name, incarnation and process id."""
        loop = type(asyncio.get_running_loop()).__module__
        return Identity(self._name, self._incarnation, os.getpid(), loop)

    async def live(self) -> None:
        """Never answers: the call fails when the process dies."""
        await asyncio.get_running_loop().create_future()


class PartitionActorHost(_Host):
    """A partition actor's process."""

    def __init__(self, makers: ShellMakers, spec: PartitionActorSpec) -> None:
        self._name, self._incarnation = spec.name, spec.incarnation
        self._shell = makers.partition_actor(spec)

    async def start(self) -> ActorStarted:
        return await self._shell.start()

    async def assign(
        self, assignments: Sequence[PartitionAssignment], removals: Sequence[PartitionRemoval]
    ) -> list[AssignmentResult]:
        return await self._shell.assign(assignments, removals)

    async def stop(self) -> None:
        await self._shell.stop()


class BrokerHost(_Host):
    """A broker's process; it ends when the controller says that the broker was replaced."""

    def __init__(self, makers: ShellMakers, spec: BrokerSpec) -> None:
        self._name, self._incarnation = spec.name, spec.incarnation
        self._shell = makers.broker(spec, RayControllerPort(controller_name(spec.cluster_name)))
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> ActorStarted:
        started = await self._shell.start()
        if self._watch is None:
            self._watch = asyncio.ensure_future(self._exit_when_fenced())
        return started

    async def _exit_when_fenced(self) -> None:
        await self._shell.wait_fenced()
        os._exit(1)

    async def stop(self) -> None:
        await self._shell.stop()


class ControllerHost(_Host):
    """The controller's process. A life that Ray restarted starts its shell without being asked."""

    async def __init__(  # type: ignore[misc]  # Ray awaits it, and so there is a loop
        self, makers: ShellMakers, spec: ControllerSpec, home: str
    ) -> None:
        self._name, self._incarnation = spec.name, 0
        self._spec = spec
        self._directories = {spec.data_dir, home}
        self._access: ClusterAccess | None = None
        # Brokers are in processes of their own and find the controller by its name.
        self._shell = makers.controller(spec, lambda _: RaySpawner(makers))
        self._watch = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        started = await self._has_started()
        while not started:
            await asyncio.sleep(_RETRY_S)
            started = await self._has_started()
        await self._shell.wait_failed()
        os._exit(1)  # the metadata log is in doubt: the next life recovers it

    async def _has_started(self) -> bool:
        try:
            await self.bootstrap()
        except Exception:
            logger.exception("%s cannot start", self._name)
            return False
        return True

    async def spec(self) -> ControllerSpec:
        return self._spec

    async def bootstrap(self) -> ClusterAccess:
        access = await self._shell.bootstrap()
        if access != self._access:
            self._access = access
            for directory in self._directories:
                os.makedirs(directory, mode=0o700, exist_ok=True)
                write_endpoint_file(directory, access)
        return access

    async def heartbeat(self, broker_id: int, incarnation: int, usable_bytes: int) -> bool:
        return await self._shell.heartbeat(broker_id, incarnation, usable_bytes)

    async def stop(self) -> None:
        self._watch.cancel()
        await self._shell.stop()
        for directory in self._directories:
            remove_endpoint_file(directory)


def _options(name: str, node_id: str, max_restarts: int = 0) -> dict[str, Any]:
    return {
        "name": name,
        "namespace": NAMESPACE,
        "lifetime": "detached",
        "num_cpus": 0,
        "max_restarts": max_restarts,
        "max_task_retries": 0,
        "max_concurrency": _MAX_CONCURRENCY,
        "scheduling_strategy": NodeAffinitySchedulingStrategy(node_id, soft=False),
    }


def controller_name(cluster: str) -> str:
    """Ray name of a cluster's controller."""
    return f"{cluster}/controller"


def spawn_controller(makers: ShellMakers, spec: ControllerSpec, home: str, node_id: str) -> Any:
    """Create the controller's actor on a node; returns its handle.

    Beside the data directory, ``home`` gets an endpoint file, too.

    Raises ``ValueError`` while an actor of that name exists.
    """
    actor = ray.remote(ControllerHost).options(**_options(spec.name, node_id, max_restarts=-1))
    return actor.remote(makers, spec, home)


class RaySpawner:
    """``ActorSpawner`` on the Ray cluster that this process belongs to."""

    def __init__(self, makers: ShellMakers) -> None:
        self._makers = makers

    def nodes(self) -> list[NodeInfo]:
        """Every living node of the Ray cluster."""
        return alive_nodes()

    async def spawn_broker(self, spec: BrokerSpec) -> RayBrokerPort:
        """Create a broker on its node."""
        actor = ray.remote(BrokerHost).options(**_options(spec.name, spec.node.node_id))
        return RayBrokerPort(actor.remote(self._makers, spec))

    async def spawn_partition_actor(self, spec: PartitionActorSpec) -> RayPartitionActorPort:
        """Create a partition actor on its node."""
        actor = ray.remote(PartitionActorHost).options(**_options(spec.name, spec.node.node_id))
        return RayPartitionActorPort(actor.remote(self._makers, spec))

    async def find_broker(self, name: str) -> RayBrokerPort | None:
        """The broker of that name if its process answers."""
        handle = find(name)
        if handle is None:
            return None
        port = RayBrokerPort(handle)
        return port if await _answers(port, name) else None

    async def find_partition_actor(self, name: str) -> RayPartitionActorPort | None:
        """The partition actor of that name if its process answers."""
        handle = find(name)
        if handle is None:
            return None
        port = RayPartitionActorPort(handle)
        return port if await _answers(port, name) else None


async def _answers(port: RayBrokerPort | RayPartitionActorPort, name: str) -> bool:
    """Names outlive actors for a moment, so a name alone proves nothing."""
    try:
        identity = await asyncio.wait_for(port.identity(), _IDENTITY_TIMEOUT_S)
    except NetworkError:
        return False
    except asyncio.TimeoutError:
        port.kill()  # stopped or stuck: its successor needs the directory that it has locked
        return False
    return identity.name == name


def alive_nodes() -> list[NodeInfo]:
    """Nodes of the Ray cluster, the head first, then by id."""
    found = []
    for node in ray.nodes():
        if node["Alive"]:
            resources = node["Resources"]
            rack = node.get("Labels", {}).get("raykafka-rack", "")
            host = "127.0.0.1" if LOOPBACK_RESOURCE in resources else node["NodeManagerAddress"]
            info = NodeInfo(node["NodeID"], host, rack, int(resources.get("CPU", 0)))
            found.append(("node:__internal_head__" not in resources, info.node_id, info))
    return [info for _, _, info in sorted(found)]
