"""Processes that wait to become partition actors.

A Ray actor's process needs most of a second to start and to load what it needs; one that has done
so already takes a dead partition actor's place in a few milliseconds. A process is named when it
begins and becomes somebody later, so a partition actor is found by asking the cluster's processes
who they are.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from raykafka.actors.handles import RayPartitionActorPort, call, find, list_names
from raykafka.actors.ports import BrokerSpec, PartitionActorSpec
from raykafka.config import BrokerConfig
from raykafka.errors import RaykafkaError

logger = logging.getLogger(__name__)

CreateProcess = Callable[[str, str], Any]
"""Makes the actor of a process: (name, Ray node id) -> handle."""

_REFILL_S = 3.0
"""Pause before a spare that was used is replaced: first the successor needs the processor."""


class SparePool:
    """The processes of one cluster's partition actors, on all of its nodes."""

    def __init__(
        self, cluster: str, create: CreateProcess, prepared: Mapping[str, Sequence[str]]
    ) -> None:
        """``prepared`` are the names of processes that are being created, by node."""
        self._cluster = cluster
        self._create = create
        self._prepared = dict(prepared)
        self._spares: dict[str, deque[Any]] = {}
        self._taken: set[Any] = set()
        """Ids of those that were told to become somebody, and may not have done so yet."""
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._closed = False

    async def expect(self, spec: BrokerSpec) -> None:
        """A broker starts: create the processes that it will need, unless its node has some."""
        config = BrokerConfig.parse(spec.configs)
        node_id = spec.node.node_id
        # They are taken as they are: asking who they are would wait until they have loaded all.
        prepared = [find(name) for name in self._prepared.pop(node_id, ())]
        if prepared:
            self._spares[node_id] = deque(handle for handle in prepared if handle is not None)
        await self._adopt()
        if prepared or node_id not in self._spares:
            self._fill(node_id, config.partition_actors or spec.node.cores or 1)

    async def take(self, spec: PartitionActorSpec) -> Any:
        """Handle of a process that has become the partition actor of ``spec``.

        Raises ``NetworkError`` when not even a new process can.
        """
        node_id = spec.node.node_id
        spares = self._spares.setdefault(node_id, deque())
        handle = None
        while spares and handle is None:
            handle = await self._become(spares.popleft(), spec)
        if handle is None:
            handle = self._create(new_process_name(self._cluster), node_id)
            await call(handle, "become", spec)
        if node_id not in self._timers:
            wanted = BrokerConfig.parse(spec.configs).partition_actor_spares
            self._timers[node_id] = asyncio.get_running_loop().call_later(
                _REFILL_S, self._refill, node_id, wanted
            )
        return handle

    async def find(self, name: str) -> Any | None:
        """Handle of the process that is the partition actor ``name``, or None."""
        return (await self._adopt()).get(name)

    async def close(self) -> None:
        """End every spare; nothing more is created."""
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        await self._adopt()
        for spares in self._spares.values():
            for handle in spares:
                RayPartitionActorPort(handle).kill()
        self._spares.clear()

    async def _become(self, handle: Any, spec: PartitionActorSpec) -> Any | None:
        self._taken.add(handle._actor_id)
        try:
            await call(handle, "become", spec)
        except RaykafkaError as error:
            logger.info("a spare process could not be used: %s", error)
            RayPartitionActorPort(handle).kill()
            return None
        return handle

    def _refill(self, node_id: str, wanted: int) -> None:
        del self._timers[node_id]
        self._fill(node_id, wanted)

    def _fill(self, node_id: str, wanted: int) -> None:
        spares = self._spares.setdefault(node_id, deque())
        while len(spares) < wanted and not self._closed:
            spares.append(self._create(new_process_name(self._cluster), node_id))

    async def _adopt(self) -> dict[str, Any]:
        """Look at all processes of the cluster; returns the partition actors among them by name.

        Spares that a former controller left become this one's.
        """
        actors: dict[str, Any] = {}
        for process in list_names(_prefix(self._cluster)):
            handle = find(process)
            if handle is None or handle._actor_id in self._known():
                continue
            identity = await RayPartitionActorPort(handle).prove_identity()
            if identity is None:
                continue
            if identity.name:
                actors[identity.name] = handle
            elif handle._actor_id not in self._known() | self._taken:
                self._spares.setdefault(identity.node_id, deque()).append(handle)
        return actors

    def _known(self) -> set[Any]:
        return {handle._actor_id for spares in self._spares.values() for handle in spares}


def new_process_name(cluster: str) -> str:
    """A name for another process of the cluster."""
    return _prefix(cluster) + secrets.token_hex(4)


def _prefix(cluster: str) -> str:
    return f"{cluster}/partition-process-"
