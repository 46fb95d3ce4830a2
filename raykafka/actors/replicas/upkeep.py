"""What a partition actor does by the clock: late produces, rolls by age, checkpoints, retention.

It takes the replicas one after the other and gives the loop back after a few milliseconds, so that
a thousand partitions never make a producer wait.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from raykafka.actors.replicas.flushing import Flusher
from raykafka.actors.replicas.replica import Replica
from raykafka.actors.replicas.replica_set import ReplicaSet
from raykafka.clock import Clock
from raykafka.errors import RaykafkaError
from raykafka.replication.events import Tick

logger = logging.getLogger(__name__)

_PAUSE_S = 1.0
_TICK_MS = 30_000
"""Longest time between two checkpoints of a log that is written to."""
_SLICE_MS = 5


class Upkeep:
    """A task of one partition actor."""

    def __init__(
        self,
        replicas: ReplicaSet,
        flusher: Flusher,
        clock: Clock,
        turn: Callable[[], AbstractAsyncContextManager[None]],
        check_interval_ms: int,
    ) -> None:
        """``turn`` is held while a thread changes a log. ``check_interval_ms`` passes between two
        looks for what retention no longer keeps.
        """
        self._replicas = replicas
        self._flusher = flusher
        self._clock = clock
        self._turn = turn
        self._check_interval_ms = check_interval_ms
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; call it on the actor's loop."""
        self._task = asyncio.ensure_future(self._run())

    def stop(self) -> None:
        """End; a replica that is being looked at is finished first, since that never waits."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        pause_s = min(_PAUSE_S, self._check_interval_ms / 1000)
        tick_ms = min(_TICK_MS, self._check_interval_ms)
        now_ms = self._clock.monotonic_ms()
        next_tick, next_check = now_ms + tick_ms, now_ms + self._check_interval_ms
        while True:
            await asyncio.sleep(pause_s)
            self.look_after_roles()
            now_ms = self._clock.monotonic_ms()
            if now_ms >= next_check:
                await self.look_after_logs(retain=True)
                next_tick, next_check = now_ms + tick_ms, now_ms + self._check_interval_ms
            elif now_ms >= next_tick:
                await self.look_after_logs(retain=False)
                next_tick = now_ms + tick_ms

    def look_after_roles(self) -> None:
        """Answer produces whose ``timeout_ms`` has passed, see who has fallen behind."""
        tick = Tick()
        now_ms = self._clock.monotonic_ms()
        for replica in self._replicas:
            machine = replica.machine
            if machine.pending_produces or len(machine.in_sync.replicas) > 1:
                try:
                    replica.apply(machine.on_event(tick, now_ms=now_ms))
                except Exception:
                    logger.exception("upkeep of %s failed", replica.topic)

    async def look_after_logs(self, *, retain: bool) -> None:
        """Roll what is old, write checkpoints; with ``retain`` delete what is not kept any more."""
        slice_end = self._clock.monotonic_ms() + _SLICE_MS
        for replica in self._replicas:
            if replica.rebuilding:
                async with self._turn():
                    self._look_after(replica, retain)
            else:
                self._look_after(replica, retain)
            if self._clock.monotonic_ms() >= slice_end:
                await asyncio.sleep(0)
                slice_end = self._clock.monotonic_ms() + _SLICE_MS

    def _look_after(self, replica: Replica, retain: bool) -> None:
        if self._replicas.get(replica.partition) is not replica:
            return
        now_ms = self._clock.now_ms()
        try:
            replica.log.high_watermark = replica.high_watermark
            if replica.leader_log_start > replica.log.log_start_offset:
                replica.log.advance_log_start(replica.leader_log_start)
            replica.log.tick(now_ms)
            if retain:
                replica.log.apply_retention(now_ms, replica.high_watermark)
            if replica.log.needs_flush:
                self._flusher.request(replica)
        except RaykafkaError as error:
            # The log stays in service: what failed here is tried again next time.
            logger.warning("upkeep of %s-%d: %s", replica.topic, replica.partition.partition, error)
        except Exception:
            # Nor must it end the task: without it nobody who falls behind would leave an ISR.
            logger.exception("upkeep of %s-%d failed", replica.topic, replica.partition.partition)
