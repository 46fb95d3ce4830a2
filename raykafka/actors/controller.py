"""``ControllerActor``: the shell around the cluster-metadata machine.

It keeps the metadata log, answers requests about metadata from the durable image, and keeps the
cluster's brokers and partition actors running. It may be killed at any moment: its successor
replays the log, finds the actors by their names and goes on where the log ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from typing import Final, NamedTuple

from raykafka.actors.controlling.actor_handlers import ActorHandlers
from raykafka.actors.controlling.admin_handlers import AdminHandlers
from raykafka.actors.controlling.cluster_view import ClusterView
from raykafka.actors.controlling.controller_home import ControllerHome
from raykafka.actors.controlling.keeper import ClusterContext, Patience
from raykafka.actors.controlling.metadata_view import MetadataView
from raykafka.actors.controlling.operation_handlers import OperationHandlers
from raykafka.actors.controlling.reconcile import Reconciler
from raykafka.actors.environment import Environment
from raykafka.actors.ports import (
    ClusterAccess,
    ControllerSpec,
    Handler,
    Listener,
    ListenerLimits,
    ListenerSpec,
    SpawnerFactory,
)
from raykafka.actors.requests import RequestTasks, immediate
from raykafka.actors.shell import StateMachineShell
from raykafka.config import BrokerConfig
from raykafka.controller.commands import ElectController
from raykafka.controller.image import MetadataImage
from raykafka.controller.machine import ClusterMetadataMachine
from raykafka.controller.settings import Settings
from raykafka.errors import CoordinatorLoadInProgressError, LogDirLockedError, NetworkError
from raykafka.model import Endpoint
from raykafka.protocol.messages import ApiKey

logger = logging.getLogger(__name__)

LOCK_TIMEOUT_S: Final = 10.0
"""How long a new controller waits for a killed one to let go of the directory."""
_LOCK_PAUSE_S: Final = 0.05


class ControllerActor:
    """Keeps the cluster's metadata, and the cluster's actors running.

    The constructor only remembers; ``start`` does the work.
    """

    def __init__(
        self,
        spec: ControllerSpec,
        spawner_factory: SpawnerFactory,
        environment: Environment,
        *,
        patience: Patience | None = None,
        lock_timeout_s: float = LOCK_TIMEOUT_S,
    ) -> None:
        self.spec = spec
        self._spawner_factory = spawner_factory
        self._environment = environment
        self._patience = patience or Patience()
        self._lock_timeout_s = lock_timeout_s
        self._changing = asyncio.Lock()
        self._parts: _Parts | None = None
        self._failed = asyncio.Event()

    async def start(self) -> ClusterAccess:
        """Load the metadata, listen, begin to look after the actors. Called again, it just answers.

        Raises ``LogDirLockedError`` while another controller owns the directory (after waiting for
        it to end), ``InvalidConfigError``, ``LogDamagedError``, ``NetworkError`` when no port is
        free, and what else keeps the metadata log from being opened.
        """
        async with self._changing:
            if self._parts is None:
                self._parts = await self._start()
            return self._parts.access

    async def bootstrap(self) -> ClusterAccess:
        """What a client needs to talk to the cluster; starts the controller if need be."""
        return await self.start()

    async def heartbeat(self, broker_id: int, incarnation: int, usable_bytes: int) -> bool:
        """Renew a broker's lease; False when that broker was replaced and must exit.

        Raises ``CoordinatorLoadInProgressError`` (retriable) before ``start`` is done.
        """
        if self._parts is None:
            raise CoordinatorLoadInProgressError(f"{self.spec.name} is starting; try again")
        return self._parts.reconciler.renew_lease(broker_id, incarnation, usable_bytes)

    async def wait_failed(self) -> None:
        """Return when the metadata log cannot be trusted any more: the process should exit then."""
        await self._failed.wait()

    async def stop(self) -> None:
        """End the whole cluster cleanly; nothing happens when it does not run."""
        async with self._changing:
            parts, self._parts = self._parts, None
            if parts is None:
                return
            await parts.listener.close()
            await parts.requests.close()
            await parts.reconciler.stop_actors()
            await parts.shell.close()
            parts.watch.cancel()
            parts.home.leave(clean=not self._failed.is_set())

    async def crash(self) -> None:
        """Let go of everything without closing anything, as a process that is killed does.

        The other actors live on. For test kits that run several actors in one process.
        """
        parts, self._parts = self._parts, None
        if parts is None:
            return
        parts.watch.cancel()
        await parts.reconciler.halt()
        await parts.shell.abandon()
        await parts.listener.close()
        await parts.requests.close()
        parts.home.leave(clean=False)

    # --- start ------------------------------------------------------------------------------------

    async def _start(self) -> _Parts:
        settings = Settings(self.spec.configs)
        home = ControllerHome(self.spec.data_dir, self._environment)
        async with contextlib.AsyncExitStack() as undo:
            await self._lock(home)
            undo.callback(home.leave, clean=False)
            await asyncio.get_running_loop().run_in_executor(None, home.enter)
            shell: StateMachineShell[MetadataImage] = StateMachineShell(
                self.spec.name,
                lambda: ClusterMetadataMachine(settings),
                home.open_log,
                self._environment.clock,
            )
            await shell.load()
            undo.push_async_callback(shell.abandon)
            context = self._context(home, shell, settings)
            reconciler = Reconciler(context)
            requests = RequestTasks()
            handlers = self._handlers(context, reconciler, requests)
            listener, endpoint = await self._listen(home, settings, shell.view, handlers)
            undo.push_async_callback(listener.close)
            await shell.submit(
                ElectController(
                    home.cluster_id, self.spec.cluster_name, endpoint.host, endpoint.port
                )
            )
            undo.pop_all()
        reconciler.start()
        access = ClusterAccess(home.cluster_id, self.spec.cluster_name, endpoint, home.secret)
        watch = asyncio.ensure_future(self._watch(shell))
        return _Parts(home, shell, reconciler, requests, listener, access, watch)

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

    def _context(
        self, home: ControllerHome, shell: StateMachineShell[MetadataImage], settings: Settings
    ) -> ClusterContext:
        return ClusterContext(
            cluster_name=self.spec.cluster_name,
            data_dir=self.spec.data_dir,
            secret=home.secret,
            shell=shell,
            settings=settings,
            spawner=self._spawner_factory(self),
            environment=self._environment,
            patience=self._patience,
        )

    def _handlers(
        self, context: ClusterContext, reconciler: Reconciler, requests: RequestTasks
    ) -> Mapping[ApiKey, Handler]:
        view = MetadataView(context.settings, reconciler.failure)
        cluster = ClusterView(self.spec.name, context, reconciler)
        admin = AdminHandlers(context, reconciler, view)

        describe_cluster = immediate(lambda _request: cluster.describe())
        operations = OperationHandlers(context.shell, reconciler)
        return {
            **admin.table(requests),
            **ActorHandlers(context, reconciler).table(requests),
            **operations.table(requests),
            ApiKey.DESCRIBE_CLUSTER: describe_cluster,
        }

    async def _listen(
        self,
        home: ControllerHome,
        settings: Settings,
        image: MetadataImage,
        handlers: Mapping[ApiKey, Handler],
    ) -> tuple[Listener, Endpoint]:
        """On the last life's port if possible, so that clients find the controller where it was."""
        config = settings.broker(image)
        host = config.listener_host or self.spec.host
        problem: NetworkError | None = None
        for port in self._ports(config, image):
            spec = ListenerSpec(
                host=host,
                port=port,
                cluster_id=home.cluster_id,
                node=self.spec.name,
                incarnation=image.controller_epoch + 1,
                secret=home.secret,
                limits=ListenerLimits(
                    config.socket_request_max_bytes, config.max_connections, config.queued_max_bytes
                ),
            )
            listener = self._environment.listener_factory(spec, handlers)
            try:
                return listener, await listener.start()
            except NetworkError as error:
                problem = error
        raise NetworkError(f"the controller found no free port on {host}: {problem}")

    def _ports(self, config: BrokerConfig, image: MetadataImage) -> list[int]:
        if self.spec.port:
            return [self.spec.port]
        first, last = config.listener_port_range
        wanted = list(range(first, last + 1))
        before = image.controller_port
        if before and (first == 0 or before in wanted):
            return [before, *(port for port in wanted if port != before)]
        return wanted

    async def _watch(self, shell: StateMachineShell[MetadataImage]) -> None:
        await shell.wait_failed()
        logger.critical("%s: the metadata log failed; a new controller is needed", self.spec.name)
        self._failed.set()


class _Parts(NamedTuple):
    """What a started controller is made of."""

    home: ControllerHome
    shell: StateMachineShell[MetadataImage]
    reconciler: Reconciler
    requests: RequestTasks
    listener: Listener
    access: ClusterAccess
    watch: asyncio.Task[None]
