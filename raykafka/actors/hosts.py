"""What Ray runs: one shell each, and the process around it."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import logging
import os
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from raykafka.actors.broker import BrokerActor
from raykafka.actors.controller import LOCK_TIMEOUT_S, ControllerActor
from raykafka.actors.controlling.controller_home import controller_directory
from raykafka.actors.endpoint_file import remove_endpoint_file, write_endpoint_file
from raykafka.actors.handles import (
    Identity,
    RayControllerPort,
    RayVoterPort,
    controller_names,
    find,
    is_restarted,
    this_node_id,
)
from raykafka.actors.partition import PartitionActor
from raykafka.actors.ports import (
    ActorSpawner,
    ActorStarted,
    AssignmentResult,
    BrokerSpec,
    ClusterAccess,
    ControllerPort,
    ControllerSpec,
    PartitionActorSpec,
    PartitionAssignment,
    PartitionRemoval,
)
from raykafka.actors.voters import VoterStarted
from raykafka.errors import IllegalStateError
from raykafka.places import cluster_home
from raykafka.priority import serve_first

logger = logging.getLogger(__name__)

_RETRY_S = 0.5
_FIRST_LOCK_TIMEOUT_S = 1.0


class ShellMakers(NamedTuple):
    """How shells are put together; functions of a module, since they travel by reference."""

    controller: Callable[..., ControllerActor]
    """(spec, spawner factory, lock_timeout_s, node_id)"""
    broker: Callable[[BrokerSpec, ControllerPort], BrokerActor]
    partition_actor: Callable[[PartitionActorSpec], PartitionActor]


class HostSpawner(ActorSpawner, Protocol):
    """A spawner that keeps processes of its own."""

    async def close(self) -> None:
        """End the spares."""


class _Host:
    """What Ray runs: one shell, and the process around it."""

    _name: str
    _incarnation: int

    async def identity(self) -> Identity:
        """Name, incarnation, node and process id."""
        loop = type(asyncio.get_running_loop()).__module__
        return Identity(self._name, self._incarnation, this_node_id(), os.getpid(), loop)

    async def live(self) -> None:
        """Never answers: the call fails when the process dies."""
        await asyncio.get_running_loop().create_future()


class PartitionActorHost(_Host):
    """A partition actor's process. It begins as a spare that is nobody yet.

    A process takes most of a second to start; one that waits with everything loaded takes a dead
    actor's place at once.
    """

    def __init__(self, makers: ShellMakers) -> None:
        self._name, self._incarnation = "", 0
        self._makers = makers
        self._shell: PartitionActor | None = None
        self._watch: asyncio.Task[None] | None = None

    async def become(self, spec: PartitionActorSpec) -> None:
        """Take the place of a partition actor; happens once."""
        if self._shell is not None:
            raise IllegalStateError(f"this process is {self._name} already")
        self._name, self._incarnation = spec.name, spec.incarnation
        serve_first()  # not before: nobody waits for a spare
        self._shell = self._makers.partition_actor(spec)
        self._watch = asyncio.ensure_future(self._exit_when_replaced(self._shell))
        # What is loaded stays: a full collection would look at all of it and hold up every client.
        gc.collect()
        gc.freeze()

    async def start(self) -> ActorStarted:
        return await self._living().start()

    async def assign(
        self, assignments: Sequence[PartitionAssignment], removals: Sequence[PartitionRemoval]
    ) -> list[AssignmentResult]:
        return await self._living().assign(assignments, removals)

    async def stop(self) -> None:
        await self._living().stop()

    async def _exit_when_replaced(self, shell: PartitionActor) -> None:
        await shell.wait_replaced()
        os._exit(1)

    def _living(self) -> PartitionActor:
        if self._shell is None:
            raise IllegalStateError("this process is a spare")
        return self._shell


class BrokerHost(_Host):
    """A broker's process; it ends when the controller says that the broker was replaced."""

    def __init__(self, makers: ShellMakers, spec: BrokerSpec) -> None:
        self._name, self._incarnation = spec.name, spec.incarnation
        serve_first()
        self._shell = makers.broker(spec, RayControllerPort(spec.cluster_name))
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
    """A voter's process. A life that Ray restarted starts its shell without being asked."""

    async def __init__(  # type: ignore[misc]  # Ray awaits it, and so there is a loop
        self,
        makers: ShellMakers,
        spec: ControllerSpec,
        home: str,
        make_spawner: Callable[[bool], HostSpawner],
    ) -> None:
        """``make_spawner`` is told whether it is the first one of a life that Ray did not restart.

        ``home`` empty is this node's directory of the cluster.
        """
        self._name, self._incarnation = spec.name, 0
        self._makers = makers
        self._spec = spec
        self._directories = {spec.data_dir, home or cluster_home(spec.cluster_name)}
        self._make_spawner = make_spawner
        self._spawners: list[HostSpawner] = []
        self._shell: ControllerActor | None = None
        serve_first()
        self._starting = asyncio.Lock()
        self._watch = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        started = await self._has_started()
        while not started:
            await asyncio.sleep(_RETRY_S)
            started = await self._has_started()
        assert self._shell is not None
        await self._shell.wait_failed()
        os._exit(1)  # the metadata log is in doubt: the next life recovers it

    async def _has_started(self) -> bool:
        try:
            await (await self._voter()).start_voter()
        except Exception:
            logger.exception("%s cannot start", self._name)
            return False
        return True

    async def _voter(self) -> ControllerActor:
        """The shell, made when it is known whose cluster it joins."""
        async with self._starting:
            if self._shell is None:
                spec = await self._joining(self._spec)
                shell = self._makers.controller(
                    spec,
                    # Brokers are in processes of their own and find the controllers by their names.
                    self._new_spawner,
                    # A killed predecessor lets go in a moment; of others the user is told soon.
                    lock_timeout_s=LOCK_TIMEOUT_S if is_restarted() else _FIRST_LOCK_TIMEOUT_S,
                    node_id=this_node_id(),
                )
                shell.on_access = self._write_endpoint_files
                self._shell = shell
        return self._shell

    async def _joining(self, spec: ControllerSpec) -> ControllerSpec:
        """A first voter that has lost its disk does not found another cluster: it joins its own."""
        if not spec.may_found or not is_restarted() or _has_directory(spec):
            return spec
        others = [name for name in controller_names(spec.cluster_name) if name != spec.name]
        for name in others:
            access = await RayVoterPort(find(name)).access()
            return dataclasses.replace(
                spec, may_found=False, cluster_id=access.cluster_id, secret=access.secret
            )
        return spec

    def _new_spawner(self, _: ControllerPort) -> HostSpawner:
        spawner = self._make_spawner(not self._spawners and not is_restarted())
        self._spawners.append(spawner)
        return spawner

    def _write_endpoint_files(self, access: ClusterAccess) -> None:
        for directory in self._directories:
            os.makedirs(directory, mode=0o700, exist_ok=True)
            write_endpoint_file(directory, access)

    async def spec(self) -> ControllerSpec:
        return self._spec

    async def bootstrap(self) -> ClusterAccess:
        starting = asyncio.ensure_future(self._bootstrap())
        # One that gives up does not end it for the others.
        return await asyncio.shield(starting)

    async def _bootstrap(self) -> ClusterAccess:
        access = await (await self._voter()).bootstrap()
        self._write_endpoint_files(access)
        return access

    async def start_voter(self) -> VoterStarted:
        return await (await self._voter()).start_voter()

    async def heartbeat(self, broker_id: int, incarnation: int, usable_bytes: int) -> bool:
        return await (await self._voter()).heartbeat(broker_id, incarnation, usable_bytes)

    async def stop(self) -> None:
        await (await self._voter()).stop()
        self._watch.cancel()
        for spawner in self._spawners:
            await spawner.close()
        self._remove_endpoint_files()

    async def leave(self) -> None:
        self._watch.cancel()
        await (await self._voter()).leave()
        self._remove_endpoint_files()

    def _remove_endpoint_files(self) -> None:
        for directory in self._directories:
            remove_endpoint_file(directory)


def _has_directory(spec: ControllerSpec) -> bool:
    return os.path.exists(controller_directory(spec.data_dir, spec.voter_id))
