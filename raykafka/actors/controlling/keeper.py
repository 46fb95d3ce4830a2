"""Keeps one actor running: finds the one a former controller left, or creates it; again and again.

Rules:
- One task per actor, so an actor that hangs holds up nobody but itself; every call has a timeout.
- An incarnation is durable before the actor of that name is created.
- What is replaced is killed first. Should it live on all the same, it holds its directory lock, and
  the successor waits for that; should it still be reached by clients, its leader epochs are old.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar

from raykafka.actors.environment import Environment
from raykafka.actors.ports import ActorSpawner, ActorStarted, NodeInfo
from raykafka.actors.shell import StateMachineShell
from raykafka.actors.timeouts import within
from raykafka.clock import Clock
from raykafka.controller.image import MetadataImage
from raykafka.controller.settings import Settings
from raykafka.errors import (
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    LogDirLockedError,
    NotControllerError,
    RaykafkaError,
)
from raykafka.model import Endpoint

logger = logging.getLogger(__name__)

_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 2.0
_LOCK_PAUSE_S: Final = 0.05
_SHORT_LIFE_MS: Final = 3000
"""An actor that dies sooner is replaced after a pause, so that a broken one does not spin."""


_NOT_ACTIVE: Final = (
    NotControllerError,
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
)
"""What ``submit`` says where this controller may not judge over any actor."""


class ActorPort(Protocol):
    """What the ports of brokers and partition actors have in common."""

    async def start(self) -> ActorStarted:
        """See ``BrokerPort``."""

    async def stop(self) -> None:
        """See ``BrokerPort``."""

    async def wait_dead(self) -> None:
        """See ``BrokerPort``."""

    def kill(self) -> None:
        """See ``BrokerPort``."""


P = TypeVar("P", bound=ActorPort)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the controller waits for others, in seconds."""

    find_s: float = 10.0
    spawn_s: float = 60.0
    start_s: float = 60.0
    stop_s: float = 30.0
    dead_s: float = 5.0
    """For a killed actor to be gone."""
    check_s: float = 0.5
    """Between two looks at what should run and what does."""
    replace_voter_ms: int = 60_000
    """For a voter that cannot be found, before it is made anew on another node."""


@dataclass(frozen=True, slots=True)
class ClusterContext:
    """What every keeper of a cluster works with."""

    cluster_name: str
    data_dir: str
    secret: bytes
    shell: StateMachineShell[MetadataImage]
    settings: Settings
    spawner: ActorSpawner
    environment: Environment
    patience: Patience
    node_id: str = ""
    """Where the active controller runs; empty when that is not known."""
    cluster_id: str = ""

    @property
    def clock(self) -> Clock:
        """The controller's clock."""
        return self.environment.clock

    @property
    def image(self) -> MetadataImage:
        """The durable metadata."""
        return self.shell.view

    @property
    def controllers(self) -> tuple[Endpoint, ...]:
        """Where actors find whoever is the active controller, this one first."""
        return voter_endpoints(self.shell)

    def broker_name(self, broker_id: int, incarnation: int) -> str:
        """Name of a broker's actor."""
        return f"{self.cluster_name}/broker-{broker_id}-i{incarnation}"

    def partition_actor_name(self, broker_id: int, slot: int, incarnation: int) -> str:
        """Name of a partition actor."""
        return f"{self.cluster_name}/partitions-{broker_id}-{slot}-i{incarnation}"

    def log_dir(self, broker_id: int) -> str:
        """The broker's directory on its node."""
        given = self.settings.broker(self.image, broker_id).log_dirs
        return given[0] if given else f"{self.data_dir}/broker-{broker_id}"


def voter_endpoints(shell: StateMachineShell[MetadataImage]) -> tuple[Endpoint, ...]:
    """Where the voters listen, the leader first, as far as this one knows."""
    node = shell.node
    machine = node.machine
    found = {voter.id: Endpoint(voter.host, voter.port) for voter in machine.voters.voters}
    found.update({id_: heard for id_ in found if (heard := node.links.endpoint(id_)) is not None})
    if machine.local.id in found or not found:
        found[machine.local.id] = node.endpoint
    leader = machine.leader_id
    return tuple(found[id_] for id_ in sorted(found, key=lambda id_: (id_ != leader, id_)))


class Keeper(ABC, Generic[P]):
    """Life of one actor after the other in one place. ``run`` goes on until it is cancelled."""

    def __init__(self, context: ClusterContext, label: str) -> None:
        self._context = context
        self._label = label
        self._node: NodeInfo | None = None
        self._wake = asyncio.Event()
        self._searched = False
        self.port: P | None = None
        """The actor from its creation to its end, None while there is none."""

    @property
    def node(self) -> NodeInfo | None:
        """Where the actor shall run; None while its node is gone."""
        return self._node

    def place(self, node: NodeInfo | None) -> None:
        """Tell where the actor shall run."""
        if node != self._node:
            self._node = node
            self.wake()

    def wake(self) -> None:
        """Something has changed that may concern the actor."""
        self._wake.set()

    async def run(self) -> None:
        """Keep the actor running."""
        short_lives = 0
        while True:
            while self._node is None:
                await self._woken()
            born_ms = self._context.clock.monotonic_ms()
            try:
                await self._live(self._node)
            except Exception as error:  # noqa: BLE001  # whatever it was, the actor must run
                logger.warning("%s: %s: %s", self._label, type(error).__name__, error)
            if self._context.clock.monotonic_ms() - born_ms < _SHORT_LIFE_MS:
                short_lives += 1
            else:
                short_lives = 0
            if short_lives > 1:
                pause_s = min(_FIRST_PAUSE_S * 2 ** (short_lives - 2), _LONGEST_PAUSE_S)
                await asyncio.sleep(pause_s)

    async def stop_actor(self) -> None:
        """Let the actor end cleanly, then see to it that it is gone; never raises."""
        port, self.port = self.port, None
        if port is None:
            return
        try:
            await within(port.stop(), self._context.patience.stop_s, f"stopping {self._label}")
        except Exception as error:  # noqa: BLE001  # it is killed next, and recovers at its start
            logger.warning("%s was not stopped cleanly: %s", self._label, error)
        await self._end(port)
        try:
            await self._lost()
        except RaykafkaError as error:
            logger.warning("the end of %s was not recorded: %s", self._label, error)

    async def _live(self, node: NodeInfo) -> None:
        try:
            if not self._searched:
                # Once while active: later there is nobody else who could have created one.
                self.port = await self._adopt()
                self._searched = True
            if self.port is None:
                self.port = await self._create(node)
            await self._attend(self.port)
        except asyncio.CancelledError:
            raise  # this controller ends: the actors live on
        except _NOT_ACTIVE:
            # Whoever is active next, this one again or another, adopts what lives: what was created
            # here may not stand in the metadata yet.
            self.port, self._searched = None, False
            raise
        except Exception:
            await self._bury()
            raise
        await self._bury()

    async def _bury(self) -> None:
        """Only an active controller judges; one that was asleep may think it still is."""
        if self.port is not None:
            await self._context.shell.node.confirm()
        port, self.port = self.port, None
        if port is None:  # there was none, or it was stopped meanwhile
            return
        port.kill()
        await self._lost()
        await self._end(port)

    async def _end(self, port: P) -> None:
        port.kill()
        try:
            await within(port.wait_dead(), self._context.patience.dead_s, f"end of {self._label}")
        except Exception as error:  # noqa: BLE001  # its successor waits for the directory lock
            logger.warning("%s may still run: %s", self._label, error)

    async def _found(self, finding: Awaitable[P | None]) -> tuple[P, ActorStarted] | None:
        """The actor that ``finding`` finds, started; one that does not answer is killed."""
        patience = self._context.patience
        try:
            port = await within(finding, patience.find_s, f"search for {self._label}")
        except Exception as error:  # noqa: BLE001  # then there is none that could be used
            logger.info("%s was not found: %s", self._label, error)
            return None
        if port is None:
            return None
        try:
            return port, await within(port.start(), patience.find_s, f"{self._label}'s answer")
        except Exception as error:  # noqa: BLE001
            logger.warning("%s does not answer and is replaced: %s", self._label, error)
            await self._end(port)
            return None

    async def _started(self, port: P) -> ActorStarted:
        """``port.start()``, repeated while a predecessor holds the directory."""
        patience = self._context.patience
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience.start_s
        while True:
            try:
                return await within(port.start(), patience.start_s, f"start of {self._label}")
            except LogDirLockedError:
                if loop.time() > deadline:
                    raise
                await asyncio.sleep(_LOCK_PAUSE_S)

    async def _woken(self, timeout_s: float | None = None) -> None:
        """Return after ``wake`` (also one before the call), or ``timeout_s``."""
        if not self._wake.is_set():
            waiter = asyncio.ensure_future(self._wake.wait())
            try:
                await asyncio.wait({waiter}, timeout=timeout_s)
            finally:
                waiter.cancel()
        self._wake.clear()

    async def _submit(self, command: Any) -> Any:
        return await self._context.shell.submit(command)

    @abstractmethod
    async def _adopt(self) -> P | None:
        """The actor that a former controller created, started and registered; None for none."""

    @abstractmethod
    async def _create(self, node: NodeInfo) -> P:
        """A new incarnation, started and registered; in ``port`` as soon as it is created."""

    @abstractmethod
    async def _attend(self, port: P) -> None:
        """Serve the actor; return when it has to be replaced."""

    @abstractmethod
    async def _lost(self) -> None:
        """Record that the actor is gone."""
