"""``ControllerActor``: one voter of the quorum that keeps the cluster's metadata.

Every voter has the metadata log. The active one, whom the others follow, answers requests about
metadata from the committed image, and keeps the cluster's brokers, partition actors and voters
running. Any of them may be killed at any moment: another voter becomes active with all that was
ever answered, finds the actors by their names and goes on where the log ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from raykafka.actors.controlling.controller_home import ControllerHome
from raykafka.actors.controlling.keeper import ClusterContext, Patience, voter_endpoints
from raykafka.actors.controlling.office import Office
from raykafka.actors.controlling.voter_setup import listen, listener_plan, quorum_options
from raykafka.actors.controlling.voter_starter import start_voters
from raykafka.actors.environment import Environment
from raykafka.actors.ports import (
    ClusterAccess,
    ControllerSpec,
    Handler,
    Listener,
    Reply,
    SpawnerFactory,
)
from raykafka.actors.requests import RequestTasks
from raykafka.actors.shell import ShellState, SnapshotPolicy, StateMachineShell
from raykafka.actors.timeouts import cancel_all
from raykafka.actors.voters import VoterStarted
from raykafka.controller.image import MetadataImage
from raykafka.controller.machine import ClusterMetadataMachine
from raykafka.controller.settings import Settings
from raykafka.errors import (
    CoordinatorLoadInProgressError,
    LogDirLockedError,
    NotControllerError,
    RaykafkaError,
)
from raykafka.model import Endpoint
from raykafka.protocol.api import CONTROLLER
from raykafka.protocol.apis import APIS
from raykafka.protocol.messages import ApiKey

logger = logging.getLogger(__name__)

LOCK_TIMEOUT_S: Final = 10.0
"""How long a new controller waits for a killed one to let go of the directory."""
_LOCK_PAUSE_S: Final = 0.05
_RETRY_S: Final = 0.2
_LOOK_S: Final = 0.1
"""Between two looks whether the voters have moved."""


class ControllerActor:
    """One voter. The constructor only remembers; ``start`` does the work."""

    def __init__(
        self,
        spec: ControllerSpec,
        spawner_factory: SpawnerFactory,
        environment: Environment,
        *,
        patience: Patience | None = None,
        lock_timeout_s: float = LOCK_TIMEOUT_S,
        node_id: str = "",
    ) -> None:
        """``node_id`` is where it runs, so that no other voter is put there."""
        self.spec = spec
        self._spawner_factory = spawner_factory
        self._environment = environment
        self._patience = patience or Patience()
        self._lock_timeout_s = lock_timeout_s
        self._node_id = node_id
        self._changing = asyncio.Lock()
        self._parts: _Parts | None = None
        self._office: Office | None = None
        self._first_context: ClusterContext | None = None
        self._refusal: RaykafkaError | None = None
        self._role = asyncio.Event()
        self._settled = asyncio.Event()
        self._failed = asyncio.Event()
        self.on_access: Callable[[ClusterAccess], None] | None = None
        """Told where the voters are, first and whenever that has changed."""

    async def start(self) -> ClusterAccess:
        """Become the active controller, or follow it; returns where the voters are.

        Called again, it just answers. Raises ``LogDirLockedError`` while another controller owns
        the directory (after waiting for it to end), ``InvalidConfigError``, ``LogDamagedError``,
        ``NetworkError`` when no port is free, and what else keeps the metadata log from being
        opened or replayed.
        """
        await self.start_voter()
        parts = self._parts
        while parts is not None and self._office is None and not parts.shell.follows_leader:
            if self._refusal is not None:
                refusal = self._refusal
                await self.crash()
                raise refusal
            self._settled.clear()
            await self._settled.wait()
            parts = self._parts
        return self.access()

    async def bootstrap(self) -> ClusterAccess:
        """What a client needs to talk to the cluster; starts the controller if need be."""
        return await self.start()

    async def start_voter(self) -> VoterStarted:
        """Open the log, listen, take part in the quorum; raises as ``start`` does."""
        async with self._changing:
            if self._parts is None:
                self._parts = await self._start()
            parts = self._parts
            directory_id = parts.shell.node.machine.local.directory_id
            pid = self._environment.pid
            return VoterStarted(pid, self._node_id, directory_id, parts.endpoint)

    @property
    def is_active(self) -> bool:
        """Whether this voter is the active controller."""
        return self._office is not None

    def voter_ids(self) -> list[int]:
        """The voters, as far as this one knows."""
        return [voter.id for voter in self._started_parts().shell.node.machine.voters.voters]

    def access(self) -> ClusterAccess:
        """Where the voters are, as far as this one knows.

        Raises ``CoordinatorLoadInProgressError`` (retriable) before it has started.
        """
        parts = self._started_parts()
        endpoints = voter_endpoints(parts.shell)
        home = parts.home
        return ClusterAccess(
            home.cluster_id, self.spec.cluster_name, endpoints[0], home.secret, endpoints
        )

    async def heartbeat(self, broker_id: int, incarnation: int, usable_bytes: int) -> bool:
        """Renew a broker's lease; False when that broker was replaced and must exit.

        Raises ``CoordinatorLoadInProgressError`` or ``NotControllerError`` (both retriable).
        """
        self._started_parts()
        if self._office is None:
            raise NotControllerError(f"{self.spec.name} is not the active controller")
        return self._office.reconciler.renew_lease(broker_id, incarnation, usable_bytes)

    async def wait_failed(self) -> None:
        """Return when the metadata log cannot be trusted any more: the process should exit then."""
        await self._failed.wait()

    async def stop(self) -> None:
        """End the whole cluster cleanly, the other voters, too; nothing happens when it is ended.

        Raises ``NotControllerError`` unless this voter is active.
        """
        async with self._changing:
            if self._parts is None:
                return
            if self._office is None and not self._failed.is_set():
                raise NotControllerError(f"{self.spec.name} is not the active controller")
            # The listener stays to the end: the others would take its end for this one's death.
            await cancel_all(self._parts.tasks)
            office, self._office = self._office, None
            await self._parts.requests.close()
            if office is not None:
                await office.close_down()
                await office.leave()
            await self._parts.listener.close()
            await self._end()

    async def leave(self) -> None:
        """End this voter cleanly; the others go on."""
        async with self._changing:
            if self._parts is not None:
                await self._parts.listener.close()
                await self._parts.requests.close()
                await self._end()

    async def crash(self) -> None:
        """Let go of everything without closing anything, as a process that is killed does.

        The other actors live on. For test kits that run several actors in one process.
        """
        parts, self._parts = self._parts, None
        if parts is None:
            return
        await cancel_all(parts.tasks)
        await self._leave_office()
        await parts.shell.abandon()
        await parts.listener.close()
        await parts.requests.close()
        parts.home.leave(clean=False)

    async def _end(self) -> None:
        parts, self._parts = self._parts, None
        assert parts is not None
        await cancel_all(parts.tasks)
        await self._leave_office()
        await parts.shell.close()
        parts.home.leave(clean=not self._failed.is_set())

    # --- start ------------------------------------------------------------------------------------

    async def _start(self) -> _Parts:
        self._refusal = None
        settings = Settings(self.spec.configs)
        config = settings.broker(MetadataImage())
        home = ControllerHome(self.spec, self._environment)
        async with contextlib.AsyncExitStack() as undo:
            await self._lock(home)
            undo.callback(home.leave, clean=False)
            await asyncio.get_running_loop().run_in_executor(None, home.enter)
            shell: StateMachineShell[MetadataImage] = StateMachineShell(
                self.spec.name,
                lambda: ClusterMetadataMachine(settings),
                home.open_log,
                self._environment.clock,
                quorum_options(self.spec, config, home.secret, self._environment),
                SnapshotPolicy(bytes=config.metadata_log_max_record_bytes_between_snapshots),
            )
            await shell.open()
            undo.push_async_callback(shell.abandon)
            requests = RequestTasks()
            handlers = {**self._switchboard(), **shell.server.handlers()}
            plan = listener_plan(self.spec, config, home, shell.node.machine)
            factory = self._environment.listener_factory
            listener, endpoint = await listen(lambda spec: factory(spec, handlers), plan)
            undo.pop_all()
        parts = _Parts(home, shell, settings, requests, listener, endpoint, [])
        shell.on_role_change(self._role.set)
        shell.start(endpoint)
        parts.tasks.append(asyncio.ensure_future(self._watch(shell)))
        parts.tasks.append(asyncio.ensure_future(self._follow_role(parts)))
        parts.tasks.append(asyncio.ensure_future(self._tell_access()))
        if self.spec.voter_id == 0:
            self._first_context = self._context(parts)
        starter = start_voters(
            self.spec, shell.node.machine, lambda: self._first_context or self._context(parts)
        )
        parts.tasks.append(asyncio.ensure_future(starter))
        return parts

    async def _lock(self, home: ControllerHome) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._lock_timeout_s
        while True:
            try:
                return home.lock()
            except LogDirLockedError:
                if loop.time() > deadline:
                    raise
                await asyncio.sleep(_LOCK_PAUSE_S)

    # --- being active -----------------------------------------------------------------------------

    def _switchboard(self) -> Mapping[ApiKey, Handler]:
        """Requests for the active controller; another voter refuses them."""
        return {
            key: self._connected(key) for key, api in APIS.items() if api.served_by == CONTROLLER
        }

    def _connected(self, key: ApiKey) -> Handler:
        def handle(request: Any, payload: Any, reply: Reply) -> None:
            if self._office is None:
                raise NotControllerError(
                    f"{self.spec.name} is not the active controller; DESCRIBE_QUORUM tells which is"
                )
            self._office.handlers[key](request, payload, reply)

        return handle

    async def _follow_role(self, parts: _Parts) -> None:
        while True:
            self._role.clear()
            is_active = parts.shell.state is ShellState.ACTIVE
            if is_active and self._office is None:
                await self._enter_office(parts)
            elif not is_active and self._office is not None:
                logger.warning("%s is not the active controller any more", self.spec.name)
                await self._leave_office()
            self._settled.set()
            await self._role.wait()

    async def _enter_office(self, parts: _Parts) -> None:
        context, self._first_context = self._first_context, None
        office = Office(self.spec, context or self._context(parts), parts.requests)
        try:
            await office.enter(parts.home.cluster_id, parts.endpoint)
        except Exception as error:  # noqa: BLE001  # whatever it was, it is tried again
            await office.leave()
            if isinstance(error, RaykafkaError) and not error.retriable:
                self._refusal = error
            else:
                logger.warning("%s could not become active: %r", self.spec.name, error)
                asyncio.get_running_loop().call_later(_RETRY_S, self._role.set)
            return
        logger.info("%s is the active controller", self.spec.name)
        self._office = office

    async def _leave_office(self) -> None:
        office, self._office = self._office, None
        if office is not None:
            await office.leave()

    def _context(self, parts: _Parts) -> ClusterContext:
        return ClusterContext(
            cluster_name=self.spec.cluster_name,
            data_dir=self.spec.data_dir,
            secret=parts.home.secret,
            shell=parts.shell,
            settings=parts.settings,
            spawner=self._spawner_factory(self),
            environment=self._environment,
            patience=self._patience,
            node_id=self._node_id,
            cluster_id=parts.home.cluster_id,
        )

    async def _watch(self, shell: StateMachineShell[MetadataImage]) -> None:
        deciding = asyncio.ensure_future(shell.wait_decided())
        try:
            await deciding
        except RaykafkaError as error:
            self._refusal = error
        self._settled.set()
        await shell.wait_failed()
        logger.critical("%s: the metadata log failed; a new controller is needed", self.spec.name)
        self._failed.set()
        self._settled.set()

    async def _tell_access(self) -> None:
        told: ClusterAccess | None = None
        while True:
            # One whose disk was lost knows nobody until the others find it: nor should clients.
            parts = self._parts
            knows = parts is not None and parts.shell.node.machine.voters.voters
            access = self.access() if knows else None
            if access is not None and access != told and self.on_access is not None:
                self.on_access(access)
                told = access
            await asyncio.sleep(_LOOK_S)

    def _started_parts(self) -> _Parts:
        if self._parts is None:
            raise CoordinatorLoadInProgressError(f"{self.spec.name} is starting; try again")
        return self._parts


class _Parts(NamedTuple):
    """What a started voter is made of."""

    home: ControllerHome
    shell: StateMachineShell[MetadataImage]
    settings: Settings
    requests: RequestTasks
    listener: Listener
    endpoint: Endpoint
    tasks: list[asyncio.Task[None]]
