"""Writes what copies that catch up receive, in a thread: what is in sync must not wait for it.

One write at a time for all partitions of an actor, in the order in which they came. The thread has
less of the processor than the loop: producers wait for the loop, and nobody for the thread.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, ParamSpec, TypeAlias

logger = logging.getLogger(__name__)

P = ParamSpec("P")
Write: TypeAlias = Callable[[], Awaitable[None]]

_NICE: Final = 5
"""A third of the processor time of a thread that is no nicer."""


class CatchUpWriter:
    """A queue of writes, and the task that does them while there are some."""

    def __init__(self, turn: asyncio.Lock) -> None:
        """``turn`` is held during each write: nobody opens, cuts or closes logs meanwhile."""
        self._turn = turn
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
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, lambda: function(*args, **kwargs))

    async def close(self) -> None:
        """Return when nothing is left to do; writes of copies that have ended do nothing."""
        if self._task is not None:
            await self._task
        self._thread.shutdown(wait=False)

    async def _run(self) -> None:
        while self._queue:
            async with self._turn:
                try:
                    await self._queue.popleft()()
                except Exception:
                    logger.exception("a copy that catches up could not be written")
        self._task = None


def _give_way() -> None:
    if sys.platform == "linux":  # elsewhere the whole process would
        os.nice(_NICE)
