"""When a partition actor's logs are forced to the disk: the topic's ``fsync`` setting at work.

``batch``: every append asks for a flush, and one fsync serves all who wait by then. ``interval``:
the first append after a flush starts a timer. ``none``: never, but for sealing and closing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from raykafka.actors.environment import GroupCommitFactory, LogFlusher
from raykafka.actors.replicas.replica import Replica
from raykafka.errors import RaykafkaError
from raykafka.model import FsyncPolicy

OnFlushFailed = Callable[[Replica, RaykafkaError], None]


class Flusher:
    """Hands logs to the flushing threads and their results back to the loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        group_commit: GroupCommitFactory,
        on_failed: OnFlushFailed,
        on_durable: Callable[[Replica], None],
    ) -> None:
        """Both are called on the loop; what was not flushed must be held to be lost.

        ``on_durable`` hears of every flush once the replica's machine has.
        """
        self._loop = loop
        self._group_commit = group_commit
        self._on_failed = on_failed
        self._on_durable = on_durable
        self._commit: LogFlusher | None = None
        self._timers: dict[Replica, asyncio.TimerHandle] = {}
        self._abandoned = False

    def on_appended(self, replica: Replica) -> None:
        """Something was appended to a replica: flush it as its topic asks."""
        if self._abandoned:
            return
        if replica.config.fsync is FsyncPolicy.BATCH:
            self.request(replica)
        elif replica.config.fsync is FsyncPolicy.INTERVAL and replica not in self._timers:
            delay = replica.config.fsync_interval_ms / 1000
            self._timers[replica] = self._loop.call_later(delay, self._on_timer, replica)
        elif replica.log.needs_flush:
            self.request(replica)  # a sealed segment is durable whatever the policy

    def request(self, replica: Replica) -> None:
        """Flush ``replica`` soon."""
        if self._commit is None:
            # Most actors never flush: they need no threads.
            self._commit = self._group_commit(self._on_flushed)
        self._commit.request(replica)

    def forget(self, replica: Replica) -> None:
        """The replica is leaving: its timer must not come back for it."""
        timer = self._timers.pop(replica, None)
        if timer is not None:
            timer.cancel()

    async def close(self) -> None:
        """Finish what was asked for and end the threads."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        if self._commit is not None:
            await self._loop.run_in_executor(None, self._commit.close)

    def abandon(self) -> None:
        """Let go without waiting, as a process that is killed does; nothing is flushed any more."""
        self._abandoned = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _on_timer(self, replica: Replica) -> None:
        del self._timers[replica]
        self.request(replica)

    def _on_flushed(self, replica: Replica, result: int | RaykafkaError) -> None:
        try:
            self._loop.call_soon_threadsafe(self._done, replica, result)
        except RuntimeError:
            return  # the loop has ended, and everybody who waited with it

    def _done(self, replica: Replica, result: int | RaykafkaError) -> None:
        if isinstance(result, RaykafkaError):
            self._on_failed(replica, result)
        else:
            replica.apply(replica.machine.on_flushed(result))
            self._on_durable(replica)
