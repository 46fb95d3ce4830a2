"""Keeps the partition actor of one pool slot running, and tells it which replicas it owns."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from raykafka.actors.controlling.keeper import ClusterContext, Keeper
from raykafka.actors.controlling.session import Session
from raykafka.actors.controlling.slot_plan import Plan, SlotPlanner, Throttle
from raykafka.actors.ports import (
    ActorStarted,
    AssignmentResult,
    NodeInfo,
    PartitionActorPort,
    PartitionActorSpec,
)
from raykafka.actors.timeouts import cancel_all, within
from raykafka.controller.commands import (
    AllocatePartitionActor,
    FailReplicas,
    LosePartitionActor,
    ReportReplicas,
    StartPartitionActor,
)
from raykafka.controller.image import SlotKey, TopicState
from raykafka.errors import KafkaStorageError, RaykafkaError
from raykafka.model import PartitionId

logger = logging.getLogger(__name__)

_PING_S: Final = 2.0
"""Between two checks that the actor's loop still turns."""


class SlotKeeper(Keeper[PartitionActorPort]):
    """One partition actor after the other. What it shall own comes from the durable image."""

    def __init__(
        self,
        context: ClusterContext,
        slot: SlotKey,
        on_progress: Callable[[], None],
        is_led: Callable[[SlotKey, PartitionId, int], bool],
        broker_answers: Callable[[], Awaitable[None]],
    ) -> None:
        """``on_progress`` is told whenever replicas were opened, changed or removed; ``is_led``
        says whether an actor of another slot has still to be told that it leads no more;
        ``broker_answers`` returns when the broker lives, or has been waited for.
        """
        label = f"{context.cluster_name}/partitions-{slot.broker_id}-{slot.slot}"
        super().__init__(context, label)
        self.slot = slot
        self.planner = SlotPlanner(slot)
        self.is_held = False
        """Whether it waits for another actor to be told first."""
        self._on_progress = on_progress
        self._broker_answers = broker_answers
        self._is_led = functools.partial(is_led, slot)
        self._incarnation = 0
        self._given_up = -1
        self._session = Session(context.clock)

    def renew(self, incarnation: int) -> bool:
        """The actor has asked for its lease; False when it is not the one that should run."""
        actor = self._context.image.actors.get(self.slot)
        if actor is None or actor.incarnation != incarnation or incarnation == self._given_up:
            return False
        self._session.renew()
        return True

    def counts_on(self, incarnation: int) -> bool:
        """Whether that actor is being started here, or runs as far as the metadata know."""
        return incarnation == self._incarnation or self._context.image.actor_runs(self.slot)

    def is_settled(self, topic: TopicState) -> bool:
        """Whether the actor, if it runs, knows the newest settings of its replicas of ``topic``."""
        if not self._context.image.actor_runs(self.slot):
            return True
        return self.planner.is_settled(topic, self._overrides())

    async def _adopt(self) -> PartitionActorPort | None:
        actor = self._context.image.actors.get(self.slot)
        if actor is None:
            return None
        name = self._context.partition_actor_name(*self.slot, actor.incarnation)
        found = await self._found(self._context.spawner.find_partition_actor(name))
        if found is None:
            return None
        port, started = found
        await self._register(actor.incarnation, started)
        return port

    async def _create(self, node: NodeInfo) -> PartitionActorPort:
        context = self._context
        await self._broker_answers()
        incarnation: int = await self._submit(AllocatePartitionActor(*self.slot))
        self._incarnation = incarnation
        spec = PartitionActorSpec(
            name=context.partition_actor_name(*self.slot, incarnation),
            cluster_id=context.image.cluster_id,
            cluster_name=context.cluster_name,
            broker_id=self.slot.broker_id,
            slot=self.slot.slot,
            incarnation=incarnation,
            node=node,
            log_dir=context.log_dir(self.slot.broker_id),
            configs=context.settings.given(context.image, self.slot.broker_id),
            secret=context.secret,
            controllers=context.controllers,
        )
        spawning = context.spawner.spawn_partition_actor(spec)
        port = await within(spawning, context.patience.spawn_s, f"creating {self._label}")
        self.port = port
        await self._register(incarnation, await self._started(port))
        return port

    async def _register(self, incarnation: int, started: ActorStarted) -> None:
        endpoint = started.endpoint
        if endpoint is None:
            raise KafkaStorageError(f"{self._label} has started without a listener")
        self._incarnation = incarnation
        self._session.renew()
        # Nothing is taken for granted: an adopted actor is told everything once more.
        self.planner.forget()
        await self._submit(
            StartPartitionActor(*self.slot, incarnation, endpoint.host, endpoint.port, started.pid)
        )

    async def _attend(self, port: PartitionActorPort) -> None:
        """Bring the actor to what the image says until it dies or no longer answers."""
        serving = asyncio.ensure_future(self._serve(port))
        pinging = asyncio.ensure_future(self._ping(port))
        silent = asyncio.ensure_future(self._wait_silent())
        dead = asyncio.ensure_future(port.wait_dead())
        tasks = {serving, pinging, silent, dead}
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if dead not in done:
                for task in done:
                    task.result()
        finally:
            await cancel_all(tasks)

    async def _serve(self, port: PartitionActorPort) -> None:
        """Returns when the metadata hold this incarnation to be dead: then it has to be."""
        while self._is_current():
            plan = self._plan()
            self.is_held = plan.held
            if plan.calls:
                # No timeout of its own: a recovery may take long, and ``_ping`` tells a busy
                # actor from one that hangs.
                results = await port.assign(plan.assignments, plan.removals)
                self._note(plan, results)
                self._on_progress()
            elif plan.reports:
                before = self._context.image
                await self._report(plan)
                self._on_progress()
                if self._context.image is before:  # it is no news: wait for some
                    await self._woken(self._context.patience.check_s)
            else:
                await self._woken(self._context.patience.check_s)

    def _is_current(self) -> bool:
        actor = self._context.image.actors.get(self.slot)
        return actor is not None and actor.alive and actor.incarnation == self._incarnation

    async def _ping(self, port: PartitionActorPort) -> None:
        """Raises when the actor cannot be told anything any more, although it renews its lease."""
        timeout_s = self._context.patience.find_s
        while True:
            await asyncio.sleep(min(_PING_S, timeout_s / 2))
            await within(port.start(), timeout_s, f"{self._label}'s answer")

    async def _wait_silent(self) -> None:
        """Return when the actor's lease has ended, by this controller's monotonic clock.

        The actor counts from when it asked, which was earlier: it serves nothing by then.
        """
        context = self._context
        config = context.settings.broker(context.image, self.slot.broker_id)
        session_ms = config.broker_session_timeout_ms
        await self._session.wait_silent(session_ms, context.patience.check_s)
        logger.warning("%s has not been heard of for %d ms", self._label, session_ms)

    async def _lost(self) -> None:
        self.planner.forget()
        self._given_up = self._incarnation
        await self._submit(LosePartitionActor(*self.slot, self._incarnation))

    def _plan(self) -> Plan:
        now_ms = self._context.clock.monotonic_ms()
        return self.planner.plan(
            self._context.image, self._overrides(), now_ms, self._throttle(), self._is_led
        )

    def _throttle(self) -> Throttle:
        image, broker_id = self._context.image, self.slot.broker_id
        config = self._context.settings.broker(image, broker_id)
        actors = image.brokers[broker_id].slots
        return Throttle(
            _share(config.leader_replication_throttled_rate, actors),
            _share(config.follower_replication_throttled_rate, actors),
        )

    def _overrides(self) -> dict[str, str]:
        settings, image = self._context.settings, self._context.image
        return dict(settings.topic_overrides(image, self.slot.broker_id))

    def _note(self, plan: Plan, results: list[AssignmentResult]) -> None:
        for partition, error in self.planner.note(
            plan, results, self._context.clock.monotonic_ms()
        ):
            logger.error("%s: partition %s: %s", self._label, partition, error)

    async def _report(self, plan: Plan) -> None:
        here = (*self.slot, self._incarnation)
        try:
            if plan.opened or plan.removed:
                await self._submit(ReportReplicas(*here, plan.opened, plan.removed))
            if plan.failed:
                await self._submit(FailReplicas(*here, plan.failed))
        except RaykafkaError as error:
            # The next plan reports it again.
            logger.warning("%s: could not record its replicas: %s", self._label, error)
            await asyncio.sleep(self._context.patience.check_s)


def _share(rate: int, actors: int) -> int:
    return rate if rate == -1 else max(1, rate // actors)
