"""Brokers and partition actors as plain objects: they lock, hang, fail and die when told to."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from raykafka.actors.ports import (
    ActorStarted,
    AssignmentResult,
    BrokerSpec,
    NodeInfo,
    PartitionActorSpec,
    PartitionAssignment,
    PartitionRemoval,
)
from raykafka.errors import KafkaStorageError, LogDirLockedError, NetworkError
from raykafka.model import Endpoint, PartitionId


class FakeActor:
    """What brokers and partition actors have in common."""

    def __init__(self, world: World, name: str, lock: str) -> None:
        self.world = world
        self.name = name
        self.lock = lock
        self.dead = asyncio.Event()
        self.responsive = asyncio.Event()
        self.responsive.set()
        self.survives_kill = False
        self.stopped = False
        self.killed = False

    async def wait_dead(self) -> None:
        await self.dead.wait()

    def kill(self) -> None:
        self.killed = True
        if not self.survives_kill:
            self.die()

    def die(self) -> None:
        self.dead.set()
        if self.world.locks.get(self.lock) is self:
            del self.world.locks[self.lock]
        if self.world.actors.get(self.name) is self:
            del self.world.actors[self.name]

    def hang(self) -> None:
        self.responsive.clear()

    async def stop(self) -> None:
        await self._answer()
        self.stopped = True

    async def _answer(self) -> None:
        await self.responsive.wait()
        if self.dead.is_set():
            raise NetworkError(f"{self.name} is dead")

    def _take_lock(self) -> None:
        owner = self.world.locks.setdefault(self.lock, self)
        if owner is not self:
            raise LogDirLockedError(f"{self.lock} is owned by {owner.name}")


class FakeBroker(FakeActor):
    def __init__(self, world: World, spec: BrokerSpec) -> None:
        super().__init__(world, spec.name, spec.log_dir)
        self.spec = spec

    async def start(self) -> ActorStarted:
        await self._answer()
        self._take_lock()
        return ActorStarted(self.world.pid(self), None)


class FakePartitionActor(FakeActor):
    def __init__(self, world: World, spec: PartitionActorSpec) -> None:
        super().__init__(world, spec.name, f"{spec.log_dir}/.lock-{spec.slot}")
        self.spec = spec
        self.replicas: dict[PartitionId, PartitionAssignment] = {}
        self.calls: list[tuple[int, int]] = []
        """Numbers of assignments and removals, call by call."""

    async def start(self) -> ActorStarted:
        await self._answer()
        self._take_lock()
        pid = self.world.pid(self)
        return ActorStarted(pid, Endpoint(self.spec.node.host, 10_000 + pid))

    async def assign(
        self, assignments: Sequence[PartitionAssignment], removals: Sequence[PartitionRemoval]
    ) -> list[AssignmentResult]:
        await self._answer()
        self.calls.append((len(assignments), len(removals)))
        results = []
        for removal in removals:
            self.replicas.pop(removal.partition, None)
            self.world.disk.pop((removal.topic, removal.partition), None)
            results.append(AssignmentResult(removal.partition, -1))
        results.extend(map(self._open, assignments))
        await asyncio.sleep(0)
        return results

    def _open(self, assignment: PartitionAssignment) -> AssignmentResult:
        partition = assignment.partition
        key = (assignment.topic, partition)
        before = self.replicas.get(partition)
        assert before is None or before.leader_epoch <= assignment.leader_epoch
        if assignment.topic in self.world.broken_topics:
            error = KafkaStorageError(f"{assignment.topic} is on a broken disk")
            return AssignmentResult(partition, assignment.leader_epoch, -1, error.code, str(error))
        if assignment.opened_before:
            assert key in self.world.disk, "never made anew"
        last_epoch = self.world.disk.get(key, -1)
        assert before is not None or assignment.leader_epoch > last_epoch, "two owners in one epoch"
        self.world.disk[key] = assignment.leader_epoch
        self.replicas[partition] = assignment
        return AssignmentResult(partition, assignment.leader_epoch, 0)


class World:
    """Everything outside the controller, which it outlives: nodes, processes, locks and disks."""

    def __init__(self, *nodes: NodeInfo) -> None:
        self.node_list = list(nodes)
        self.actors: dict[str, FakeBroker | FakePartitionActor] = {}
        self.locks: dict[str, FakeActor] = {}
        self.disk: dict[tuple[str, PartitionId], int] = {}
        """Leader epochs in which replicas were opened last."""
        self.broken_topics: set[str] = set()
        self.spawned: list[str] = []
        self.refusals = 0
        """How many of the next actors cannot be created."""
        self.new_actors_hang = False
        self.unreachable: set[str] = set()
        """Nodes that are listed and gone."""
        self.looks = 0
        """How often the nodes were asked for."""
        self._pids: dict[int, int] = {}

    def pid(self, actor: FakeActor) -> int:
        return self._pids.setdefault(id(actor), len(self._pids) + 1)

    def brokers(self) -> list[FakeBroker]:
        return [actor for actor in self.actors.values() if isinstance(actor, FakeBroker)]

    def partition_actors(self) -> list[FakePartitionActor]:
        found = [a for a in self.actors.values() if isinstance(a, FakePartitionActor)]
        return sorted(found, key=lambda actor: (actor.spec.broker_id, actor.spec.slot))

    # --- ActorSpawner -----------------------------------------------------------------------------

    def nodes(self) -> list[NodeInfo]:
        self.looks += 1
        return list(self.node_list)

    async def spawn_broker(self, spec: BrokerSpec) -> FakeBroker:
        actor = FakeBroker(self, spec)
        self._add(actor)
        return actor

    async def spawn_partition_actor(self, spec: PartitionActorSpec) -> FakePartitionActor:
        actor = FakePartitionActor(self, spec)
        self._add(actor)
        return actor

    async def spawn_controller(self, spec: Any, node: NodeInfo) -> Any:
        raise NetworkError("no resources for a controller")

    async def find_controller(self, name: str) -> Any:
        return None

    async def find_broker(self, name: str) -> FakeBroker | None:
        actor = self.actors.get(name)
        return actor if isinstance(actor, FakeBroker) else None

    async def find_partition_actor(self, name: str) -> FakePartitionActor | None:
        actor = self.actors.get(name)
        return actor if isinstance(actor, FakePartitionActor) else None

    def _add(self, actor: FakeBroker | FakePartitionActor) -> None:
        if self.refusals:
            self.refusals -= 1
            raise NetworkError("no resources for another actor")
        if actor.spec.node.node_id in self.unreachable:
            raise NetworkError("the node is gone")
        assert actor.name not in self.actors, "names carry the incarnation"
        self._pids[id(actor)] = len(self._pids) + 1
        self.actors[actor.name] = actor
        self.spawned.append(actor.name)
        if self.new_actors_hang:
            actor.hang()
