"""Turns shells into Ray actors: naming, placement, options.

Every actor is detached and named ``<cluster>/<role>`` in one namespace. A broker has its
incarnation in its name; a partition actor began as a spare process (see ``spares``) and says itself
which one it has become. Neither is restarted by Ray: the controller makes a new one, so that no
constructor runs again with an old leader epoch. Only the controllers are restarted by Ray. Actors
take no CPU from Ray's account, so a cluster never starves the jobs beside it, and no memory: their
buffers are bounded by configuration, and a reservation could keep them from being placed.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raykafka.actors.handles import (
    NAMESPACE,
    RayBrokerPort,
    RayController,
    RayPartitionActorPort,
    RayVoterPort,
    find,
)
from raykafka.actors.hosts import BrokerHost, ControllerHost, PartitionActorHost, ShellMakers
from raykafka.actors.ports import BrokerSpec, ControllerSpec, NodeInfo, PartitionActorSpec
from raykafka.actors.spares import SparePool, new_process_name
from raykafka.config import BrokerConfig
from raykafka.errors import NetworkError

LOOPBACK_RESOURCE = "raykafka-loopback"
"""Marks the only node of a Ray that lives on one machine: listeners bind loopback there, although
Ray itself takes the address of a network card."""

_MAX_CONCURRENCY = 10_000


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


def spawn_controller(
    makers: ShellMakers, spec: ControllerSpec, home: str, node: NodeInfo
) -> RayController:
    """Create the controller's actor on a node, and the processes of the node's partition actors.

    They load what they need while the controller does. Beside the data directory, ``home`` gets an
    endpoint file, too.

    Raises ``ValueError`` while an actor of that name exists.
    """
    cluster = spec.cluster_name
    count = BrokerConfig.parse(spec.configs).partition_actors or node.cores or 1
    names = [new_process_name(cluster) for _ in range(count)]
    handle = _create_voter(makers, spec, home, node.node_id, {node.node_id: names})
    return RayController(handle, [_create_process(makers, name, node.node_id) for name in names])


def _create_voter(
    makers: ShellMakers,
    spec: ControllerSpec,
    home: str,
    node_id: str,
    prepared: Mapping[str, Sequence[str]],
) -> Any:
    options = _options(spec.name, node_id, max_restarts=-1)
    controller = ray.remote(ControllerHost).options(**options)
    make_spawner = functools.partial(_make_spawner, makers, spec.cluster_name, prepared)
    return controller.remote(makers, spec, home, make_spawner)


def _make_spawner(
    makers: ShellMakers, cluster: str, prepared: Mapping[str, Sequence[str]], is_first: bool
) -> RaySpawner:
    return RaySpawner(makers, cluster, prepared if is_first else {})


def _create_process(makers: ShellMakers, name: str, node_id: str) -> Any:
    return ray.remote(PartitionActorHost).options(**_options(name, node_id)).remote(makers)


class RaySpawner:
    """``ActorSpawner`` on the Ray cluster that this process belongs to.

    It keeps ``partition.actor.spares`` processes ready on every node with a broker.
    """

    def __init__(
        self, makers: ShellMakers, cluster: str, prepared: Mapping[str, Sequence[str]]
    ) -> None:
        """``prepared`` are the names of the processes created with a new controller, by node.

        Without them each process is asked who it has become.
        """
        self._makers = makers
        create = functools.partial(_create_process, makers)
        self._spares = SparePool(cluster, create, prepared)

    def nodes(self) -> list[NodeInfo]:
        """Every living node of the Ray cluster."""
        return alive_nodes()

    async def spawn_broker(self, spec: BrokerSpec) -> RayBrokerPort:
        """Create a broker on its node, and meanwhile the processes of its partition actors."""
        actor = ray.remote(BrokerHost).options(**_options(spec.name, spec.node.node_id))
        port = RayBrokerPort(actor.remote(self._makers, spec))
        await self._spares.expect(spec)
        return port

    async def spawn_partition_actor(self, spec: PartitionActorSpec) -> RayPartitionActorPort:
        """Create a partition actor on its node, out of a spare process if there is one."""
        return RayPartitionActorPort(await self._spares.take(spec))

    async def spawn_controller(self, spec: ControllerSpec, node: NodeInfo) -> RayVoterPort:
        """Create another voter on its node; raises ``NetworkError`` while one has its name."""
        try:
            handle = _create_voter(self._makers, spec, "", node.node_id, {})
        except ValueError as error:
            raise NetworkError(f"{spec.name} exists already: {error}") from error
        return RayVoterPort(handle)

    async def find_controller(self, name: str) -> RayVoterPort | None:
        """The voter of that name, if one is registered."""
        handle = find(name)
        return None if handle is None else RayVoterPort(handle)

    async def find_broker(self, name: str) -> RayBrokerPort | None:
        """The broker of that name if its process answers."""
        handle = find(name)
        if handle is None:
            return None
        port = RayBrokerPort(handle)
        identity = await port.prove_identity()
        return port if identity is not None and identity.name == name else None

    async def find_partition_actor(self, name: str) -> RayPartitionActorPort | None:
        """The partition actor of that name if its process answers."""
        handle = await self._spares.find(name)
        return None if handle is None else RayPartitionActorPort(handle)

    async def close(self) -> None:
        """End the spares."""
        await self._spares.close()


def alive_nodes() -> list[NodeInfo]:
    """Nodes of the Ray cluster, the head first, then by id."""
    found = []
    for node in ray.nodes():
        if node["Alive"]:
            resources = node["Resources"]
            labels = node.get("Labels", {})
            rack = labels.get("raykafka-rack") or labels.get("ray.io/availability-zone", "")
            host = "127.0.0.1" if LOOPBACK_RESOURCE in resources else node["NodeManagerAddress"]
            info = NodeInfo(node["NodeID"], host, rack, int(resources.get("CPU", 0)))
            found.append(("node:__internal_head__" not in resources, info.node_id, info))
    return [info for _, _, info in sorted(found)]
