"""Writes what copies that catch up receive, in a thread: what is in sync must not wait for it.

One write at a time for all partitions of an actor, in the order in which they came. The thread has
less of the processor than the loop, and rests where the loop is late: producers wait for the loop,
and nobody for the thread. A copy that does not gain on its leader gives it no rest, or it would
never be in sync.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, ParamSpec, TypeAlias

from raykafka.actors.replicas.catch_up import WINDOW_BYTES
from raykafka.clock import Clock

logger = logging.getLogger(__name__)

P = ParamSpec("P")
Write: TypeAlias = Callable[[], Awaitable[bool]]
"""Returns whether there is time for a rest."""

_NICE: Final = 5
"""A third of the processor time of a thread that is no nicer."""
_LATE_MS: Final = 1
"""The loop took that long to hear of a write: there is more to do than processors for it."""
_REST_S: Final = 0.002
_JUDGED_BYTES: Final = 2 * WINDOW_BYTES
"""More than is on its way: all of it was sent with the same high watermark."""


class CatchUpWriter:
    """A queue of writes, and the task that does them while there are some."""

    def __init__(self, turn: asyncio.Lock, clock: Clock) -> None:
        """``turn`` is held during each write: nobody opens, cuts or closes logs meanwhile."""
        self._turn = turn
        self._clock = clock
        self._late_ms = 0
        """How much later than the thread the loop knew that the last write was done."""
        self._queue: deque[Write] = deque()
        self._task: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, "catch-up", initializer=_give_way)

    def add(self, write: Write) -> None:
        """Await ``write()`` when its turn has come."""
        self._queue.append(write)
        if self._task is None:
            self._task = asyncio.ensure_future(self._run())

    async def in_thread(
        self, function: Callable[P, None], *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """Call ``function`` in the thread; for writes."""
        clock = self._clock

        def call() -> int:
            function(*args, **kwargs)
            return clock.monotonic_ms()

        done_ms = await asyncio.get_running_loop().run_in_executor(self._thread, call)
        self._late_ms = clock.monotonic_ms() - done_ms

    async def close(self) -> None:
        """Return when nothing is left to do; writes of copies that have ended do nothing."""
        if self._task is not None:
            await self._task
        self._thread.shutdown(wait=False)

    async def _run(self) -> None:
        while self._queue:
            async with self._turn:
                self._late_ms, may_rest = 0, False
                try:
                    may_rest = await self._queue.popleft()()
                except Exception:
                    logger.exception("a copy that catches up could not be written")
            if may_rest and self._late_ms >= _LATE_MS:
                await asyncio.sleep(_REST_S)
        self._task = None


class Progress:
    """Whether one copy gains on its leader; judged every few megabytes."""

    __slots__ = ("_behind", "_size", "gains")

    def __init__(self) -> None:
        self.gains = True
        self._behind = -1
        """Records that it lacked when it was judged last."""
        self._size = 0

    def note(self, size: int, behind: int) -> None:
        """``size`` bytes have been written, ``behind`` records are still missing."""
        self._size += size
        if self._size >= _JUDGED_BYTES:
            self.gains = self._behind < 0 or behind < self._behind
            self._behind, self._size = behind, 0


def _give_way() -> None:
    if sys.platform == "linux":  # elsewhere the whole process would
        with contextlib.suppress(OSError):
            os.nice(_NICE)
