"""Keeps the broker of one node running, and judges its lease."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from typing import Final

from raykafka.actors.controlling.keeper import ClusterContext, Keeper
from raykafka.actors.controlling.session import Session
from raykafka.actors.ports import ActorStarted, BrokerPort, BrokerSpec, NodeInfo
from raykafka.actors.timeouts import cancel_all, within
from raykafka.controller.commands import (
    FenceBroker,
    RegisterBroker,
    ResumeBroker,
    UnfenceBroker,
)
from raykafka.controller.image import BrokerState

logger = logging.getLogger(__name__)

_ANSWER_PAUSE_S: Final = 0.02
"""Between two questions to a broker that does not answer."""


class BrokerKeeper(Keeper[BrokerPort]):
    """The broker's death does not touch its partition actors, which serve on meanwhile."""

    def __init__(
        self, context: ClusterContext, broker_id: int, on_ready: Callable[[BrokerState], None]
    ) -> None:
        """``on_ready`` is told when the broker owns its log directory."""
        super().__init__(context, f"{context.cluster_name}/broker-{broker_id}")
        self.broker_id = broker_id
        self.usable_bytes = -1
        """Disk space that the broker reported last; -1 before."""
        self._on_ready = on_ready
        self._incarnation = 0
        self._given_up = -1
        self._session = Session(context.clock)

    @property
    def heard_ms(self) -> int:
        """Monotonic time of the broker's last sign of life; 0 before the first."""
        return self._session.renewed_ms

    def renew(self, incarnation: int, usable_bytes: int) -> bool:
        """A heartbeat came; False when it is not from the broker that should run."""
        broker = self._context.image.brokers[self.broker_id]
        if incarnation != broker.incarnation or incarnation == self._given_up:
            return False
        self.usable_bytes = usable_bytes
        self._session.renew()
        return True

    async def wait_answering(self) -> None:
        """Return when the broker answers, or after a bounded time.

        Where it died together with its partition actors, their successors wait for its own: it
        judges the log directory before they use it, which may be another one.
        """
        patience, loop = self._context.patience, asyncio.get_running_loop()
        deadline = loop.time() + patience.find_s
        while (left_s := deadline - loop.time()) > 0:
            port, broker = self.port, self._context.image.brokers[self.broker_id]
            if port is not None and not broker.fenced:
                try:
                    await within(port.start(), left_s, f"{self._label}'s answer")
                except Exception as error:  # noqa: BLE001  # then it is being replaced
                    logger.info("%s does not answer: %s", self._label, error)
                else:
                    return
            await asyncio.sleep(_ANSWER_PAUSE_S)

    async def _adopt(self) -> BrokerPort | None:
        broker = self._context.image.brokers[self.broker_id]
        name = self._context.broker_name(self.broker_id, broker.incarnation)
        found = await self._found(self._context.spawner.find_broker(name))
        if found is None:
            return None
        port, started = found
        await self._enlist(broker, started)
        return port

    async def _create(self, node: NodeInfo) -> BrokerPort:
        context = self._context
        command = RegisterBroker(
            self.broker_id, node.node_id, node.host, node.rack, pool_size(context, node)
        )
        broker: BrokerState = await self._submit(command)
        spec = BrokerSpec(
            name=context.broker_name(self.broker_id, broker.incarnation),
            cluster_id=context.image.cluster_id,
            cluster_name=context.cluster_name,
            broker_id=self.broker_id,
            incarnation=broker.incarnation,
            node=node,
            log_dir=context.log_dir(self.broker_id),
            configs=context.settings.given(context.image, self.broker_id),
        )
        self._incarnation = broker.incarnation
        spawning = context.spawner.spawn_broker(spec)
        port = await within(spawning, context.patience.spawn_s, f"creating {self._label}")
        self.port = port
        await self._enlist(broker, await self._started(port))
        return port

    async def _enlist(self, broker: BrokerState, started: ActorStarted) -> None:
        self._incarnation = broker.incarnation
        self._session.renew()
        await self._submit(
            UnfenceBroker(
                self.broker_id,
                broker.incarnation,
                started.pid,
                started.directory_id,
                started.intact,
                started.last_incarnation,
            )
        )
        # A controller that was about to stop it did not live to do so.
        await self._submit(ResumeBroker(self.broker_id))
        self._on_ready(self._context.image.brokers[self.broker_id])

    async def _attend(self, port: BrokerPort) -> None:
        """Until the broker dies, or its lease ends by the monotonic clock."""
        config = self._context.settings.broker(self._context.image, self.broker_id)
        session_ms = config.broker_session_timeout_ms
        check_s = self._context.patience.check_s
        silent = asyncio.ensure_future(self._session.wait_silent(session_ms, check_s))
        tasks = {silent, asyncio.ensure_future(port.wait_dead())}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancel_all(tasks)

    async def _lost(self) -> None:
        self._given_up = self._incarnation
        await self._submit(FenceBroker(self.broker_id, self._incarnation))


def pool_size(context: ClusterContext, node: NodeInfo) -> int:
    """How many partition actors a broker on ``node`` shall have."""
    wanted = context.settings.broker(context.image).partition_actors
    return wanted or node.cores or os.cpu_count() or 1
