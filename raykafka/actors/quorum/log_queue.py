"""The one queue of everything that blocks: a replica's log, its vote, its snapshots.

Work is done in the order in which it was asked for, in a thread, as much at a time as has gathered;
what was appended is then flushed once (group commit). While the disk is busy, more gathers.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple


class _Job(NamedTuple):
    work: Callable[[], Any]
    done: Callable[[Any], None]
    failed: Callable[[Exception], None]


class LogQueue:
    """Runs jobs beside the loop; answers on it. A job that fails does not stop the others."""

    def __init__(
        self,
        name: str,
        gather: Callable[[], None],
        flush: Callable[[], Callable[[], None]],
        failed: Callable[[Exception], None],
    ) -> None:
        """``gather`` may add jobs before a round begins. ``flush`` runs in the thread after jobs
        that wrote, and returns what to call on the loop; ``failed`` is told when it raises.
        """
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"{name} log")
        self._gather = gather
        self._flush = flush
        self._failed = failed
        self._jobs: deque[_Job] = deque()
        self._wake = asyncio.Event()
        self._dirty = False
        self._closing = False
        self.is_busy = False
        """Whether a round is under way: what is asked for now waits for the next one."""
        self.answers_early = False
        """Whether answers of jobs come before the flush, so that others may write meanwhile."""
        self._runner: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to work; before, only ``call`` may be used."""
        self._runner = asyncio.ensure_future(self._run())

    async def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run ``function`` in the thread before ``start``."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *args)

    def put(
        self,
        work: Callable[[], Any],
        done: Callable[[Any], None],
        failed: Callable[[Exception], None] | None = None,
    ) -> None:
        """Do ``work`` in its turn, then call ``done`` with what it returned, or ``failed``."""
        self._jobs.append(_Job(work, done, failed or self._failed))
        self._wake.set()

    def wake(self) -> None:
        """``gather`` has something to add."""
        self._wake.set()

    def mark_dirty(self) -> None:
        """Called by jobs that wrote: a flush is due."""
        self._dirty = True

    async def close(self, last: Callable[[], None]) -> None:
        """Do what is queued, then ``last`` in the thread, then end."""
        self._closing = True
        self._wake.set()
        if self._runner is not None:
            await self._runner
        try:
            await self.call(last)
        finally:
            self._thread.shutdown(wait=False)

    def shut(self) -> None:
        """End before ``start``."""
        self._thread.shutdown(wait=False)

    async def abandon(self) -> None:
        """Stop where it is; returns when the thread has ended."""
        if self._runner is not None:
            self._runner.cancel()
        await asyncio.get_running_loop().run_in_executor(None, self._thread.shutdown)

    async def _run(self) -> None:
        try:
            await self._work()
        except Exception as error:  # noqa: BLE001  # without the queue nothing goes on
            self._failed(error)

    async def _work(self) -> None:
        while True:
            self._wake.clear()
            self._gather()
            if not self._jobs and not self._dirty:
                if self._closing:
                    return
                await self._wake.wait()
                continue
            self.is_busy = True
            jobs = list(self._jobs)
            self._jobs.clear()
            await self._round(jobs)
            self.is_busy = False

    async def _round(self, jobs: list[_Job]) -> None:
        if self.answers_early:
            answers = await self.call(_attempt_all, jobs)
            flushing = asyncio.ensure_future(self.call(self._flush_if_dirty))
            for answer in answers:
                answer()
            flushed = await flushing
        else:
            answers, flushed = await self.call(self._attempt_all_and_flush, jobs)
            for answer in answers:
                answer()
        flushed()

    def _attempt_all_and_flush(
        self, jobs: list[_Job]
    ) -> tuple[list[Callable[[], None]], Callable[[], None]]:
        return _attempt_all(jobs), self._flush_if_dirty()

    def _flush_if_dirty(self) -> Callable[[], None]:
        if not self._dirty:
            return _nothing
        self._dirty = False
        try:
            return self._flush()
        except Exception as error:  # noqa: BLE001  # whoever waits is told, whatever it is
            failure = error
            return lambda: self._failed(failure)


def _attempt_all(jobs: list[_Job]) -> list[Callable[[], None]]:
    """Runs in the thread; returns what to call on the loop."""
    return [_attempt(job) for job in jobs]


def _attempt(job: _Job) -> Callable[[], None]:
    try:
        result = job.work()
    except Exception as error:  # noqa: BLE001  # whoever waits is told, whatever it is
        failure = error
        return lambda: job.failed(failure)
    return lambda: job.done(result)


def _nothing() -> None:
    return
