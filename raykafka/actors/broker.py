"""``BrokerActor``: owns a node's log directory and keeps its lease with the controller.

Its loop does no data work, so its heartbeats never wait behind records.
"""

from __future__ import annotations

import asyncio
import logging

from raykafka.actors.environment import Environment
from raykafka.actors.ports import ActorStarted, BrokerSpec, ControllerPort
from raykafka.actors.timeouts import within
from raykafka.config import BrokerConfig
from raykafka.errors import RaykafkaError
from raykafka.storage.disk_usage import disk_reserve

logger = logging.getLogger(__name__)


class BrokerActor:
    """The broker of one node; see ``BrokerPort``. The constructor only remembers."""

    def __init__(
        self, spec: BrokerSpec, controller: ControllerPort, environment: Environment
    ) -> None:
        self.spec = spec
        self.pid = environment.pid
        self._controller = controller
        self._disk_usage = environment.disk_usage
        self._random_bytes = environment.random_bytes
        self._directory = environment.directory_factory(spec.log_dir)
        self._fenced = asyncio.Event()
        self._heartbeats: asyncio.Task[None] | None = None
        self._started = ActorStarted(self.pid, None)

    async def start(self) -> ActorStarted:
        """Lock the log directory, check whose it is, begin to send heartbeats. Idempotent.

        Raises ``LogDirLockedError`` while another process owns the directory,
        ``InconsistentClusterIdError`` when it holds another cluster's or broker's data, and
        ``InvalidConfigError``.
        """
        if self._heartbeats is None:
            config = BrokerConfig.parse(self.spec.configs)
            self._directory.lock()
            try:
                # In this order: a directory is judged as it was found.
                intact = self._directory.is_intact()
                found = self._directory.claim(
                    self.spec.cluster_id,
                    self.spec.broker_id,
                    self.spec.incarnation,
                    self._random_bytes(16).hex(),
                )
                reserve = disk_reserve(
                    self._directory.path, config.disk_reserve_bytes, self._disk_usage
                )
            except BaseException:
                self._directory.unlock()
                raise
            self._started = ActorStarted(
                self.pid, None, found.directory_id, intact, found.incarnation
            )
            self._heartbeats = asyncio.ensure_future(self._send_heartbeats(config, reserve))
        return self._started

    async def wait_fenced(self) -> None:
        """Return when the controller says that another broker has taken this one's place."""
        await self._fenced.wait()

    async def stop(self) -> None:
        """Release the log directory."""
        self._end(clean=True)

    async def crash(self) -> None:
        """Let go of everything at once, as a process that is killed does. For test kits."""
        self._end(clean=False)

    def _end(self, *, clean: bool) -> None:
        if self._heartbeats is not None:
            self._heartbeats.cancel()
            self._heartbeats = None
            self._directory.unlock(clean=clean)

    async def _send_heartbeats(self, config: BrokerConfig, reserve: int) -> None:
        pause_s = config.broker_heartbeat_interval_ms / 1000
        while not self._fenced.is_set():
            if await self._send_heartbeat(config, reserve):
                await asyncio.sleep(pause_s)
            else:
                logger.warning("%s has been replaced", self.spec.name)
                self._fenced.set()

    async def _send_heartbeat(self, config: BrokerConfig, reserve: int) -> bool:
        """False when the controller answered that this broker must go."""
        spec = self.spec
        try:
            usable = max(0, self._disk_usage(self._directory.path).free_bytes - reserve)
            return await within(
                self._controller.heartbeat(spec.broker_id, spec.incarnation, usable),
                config.broker_session_timeout_ms / 1000,
                "the heartbeat",
            )
        except RaykafkaError as error:
            # The controller may be on its way back; it decides what a late heartbeat means.
            logger.info("%s: no heartbeat: %s", spec.name, error)
            return True
