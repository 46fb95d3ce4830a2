"""The follower's side of catching up: what is far behind, one partition of a leader at a time.

Received and written by a thread of the line to the leader, which has less of the processor than the
loop: producers wait for the loop, and nobody for the thread. Only one line has its turn at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, Protocol, TypeAlias

from raykafka.actors.lines import CatchUpCourse, CatchUpLine
from raykafka.clock import Clock
from raykafka.errors import RaykafkaError, UnknownServerError
from raykafka.model import Endpoint
from raykafka.protocol.replication_messages import CatchUpRequest, CatchUpResponse

logger = logging.getLogger(__name__)

OpenLine: TypeAlias = Callable[[Endpoint], Awaitable[CatchUpLine]]

_TURN_MS: Final = 250
"""After this long another leader's copies may have the turn."""
_LOOK_S: Final = 0.1
"""Between two looks whether something comes in."""
_SILENT_LOOKS: Final = 10
"""A leader of whom nothing came in so many looks loses its turn when the time is up; at the next
look already where somebody is in a hurry."""
_ANSWER_S: Final = 0.1
"""What is asked for at once should come in about this time."""
_FIRST_BYTES: Final = 256 << 10
_FEWEST_BYTES: Final = 64 << 10
_SHARE_BYTES: Final = 512 << 20
"""What one partition gets before others of its leader: who is through is in sync sooner than if all
were copied side by side."""


class FarBehind(Protocol):
    """A copy that catches up."""

    endpoint: Endpoint
    """Of its leader."""

    def catch_up_request(self, offset: int, max_bytes: int) -> CatchUpRequest | None:
        """What to ask for from ``offset`` on, -1 for the log's end; None when it is over."""

    def pause_for(self, size: int) -> float:
        """Seconds to wait after ``size`` bytes that come in, before more may."""

    def append(self, answer: CatchUpResponse, payload: memoryview) -> None:
        """Append what came; called in a thread."""

    def on_turn(self, *, begins: bool) -> None:
        """From now on a thread may append, or no longer."""

    def on_appended(self, answer: CatchUpResponse, size: int) -> None:
        """``size`` bytes have been appended in this turn; ``answer`` was the last."""

    def on_append_failed(self, error: RaykafkaError) -> None:
        """The last answer could not be appended, or not all of it."""

    def on_caught_up(self, error: RaykafkaError | None) -> None:
        """There is nothing more to catch up with, or it failed."""


class Pace:
    """How much is asked of one leader at once: the time for it should be short, whatever it is."""

    def __init__(self) -> None:
        self.max_bytes = _FIRST_BYTES

    def note(self, size: int, elapsed_ms: int) -> None:
        """``size`` bytes have come in that time."""
        if size:
            fitting = int(size * 1000 * _ANSWER_S) // max(elapsed_ms, 1)
            self.max_bytes = max(_FEWEST_BYTES, fitting)


class Turn(CatchUpCourse):
    """What one copy does in its turn."""

    def __init__(self, copy: FarBehind, clock: Clock, pace: Pace, share: int) -> None:
        """It ends with the answer that makes it ``share`` bytes."""
        self.copy = copy
        self.size = 0
        """Bytes that came or are coming."""
        self.appended = 0
        self.pause_s = 0.0
        self.last: CatchUpResponse | None = None
        """The last answer that was appended."""
        self.failure: RaykafkaError | None = None
        """Why the last answer was not appended."""
        self.is_through = False
        self.is_writing = False
        self.must_end = False
        self._clock = clock
        self._pace = pace
        self._share = share
        self._came_ms = clock.monotonic_ms()
        self._end_ms = self._came_ms + _TURN_MS

    @property
    def is_overdue(self) -> bool:
        """Whether its time is up."""
        return self._clock.monotonic_ms() >= self._end_ms

    def first(self) -> CatchUpRequest | None:
        """See ``CatchUpCourse``."""
        return self._request(-1)

    def next(self, answer: CatchUpResponse, size: int) -> CatchUpRequest | None:
        """See ``CatchUpCourse``."""
        self.size += size
        self.pause_s = max(self.copy.pause_for(size), answer.throttle_ms / 1000)
        is_end = not size or answer.next_offset >= answer.high_watermark
        self.is_through = is_end and not answer.throttle_ms
        is_over = self.must_end or self.is_overdue or self.size >= self._share
        if self.is_through or self.pause_s or is_over:
            return None
        return self._request(answer.next_offset)

    def write(self, answer: CatchUpResponse, payload: memoryview) -> None:
        """See ``CatchUpCourse``."""
        if not payload:
            return
        now_ms = self._clock.monotonic_ms()
        self._pace.note(len(payload), now_ms - self._came_ms)
        self._came_ms = now_ms
        self.is_writing = True
        try:
            self.copy.append(answer, payload)
        except RaykafkaError as error:
            self.failure = error
            raise
        finally:
            self.is_writing = False
        self.appended += len(payload)
        self.last = answer

    def _request(self, offset: int) -> CatchUpRequest | None:
        request = self.copy.catch_up_request(offset, self._pace.max_bytes)
        self.is_through = request is None
        return request


class CatchUp:
    """All copies of one actor that are far behind."""

    def __init__(self, open_line: OpenLine, clock: Clock) -> None:
        self._open_line = open_line
        self._clock = clock
        self._lock = asyncio.Lock()
        """Held while a log is changed in a thread."""
        self._queues: dict[Endpoint, deque[FarBehind]] = {}
        self._tasks: dict[Endpoint, asyncio.Task[None]] = {}
        self._running: tuple[CatchUpLine, Turn] | None = None
        self._hurried = 0
        """How many who are in a hurry wait for their turn."""
        self._closed = False

    def add(self, copy: FarBehind) -> None:
        """Catch up with ``copy.endpoint``."""
        if self._closed:
            return
        endpoint = copy.endpoint
        self._queues.setdefault(endpoint, deque()).append(copy)
        if endpoint not in self._tasks:
            self._tasks[endpoint] = asyncio.ensure_future(self._run(endpoint))

    @contextlib.asynccontextmanager
    async def first_turn(self) -> AsyncIterator[None]:
        """The turn of somebody who changes a log and does not catch up: it comes next."""
        self._hurried += 1
        if self._running is not None:
            self._running[1].must_end = True
        try:
            await self._lock.acquire()
        finally:
            self._hurried -= 1
        try:
            yield
        finally:
            self._lock.release()

    async def close(self) -> None:
        """Return when nothing is written any more; every copy has ended before."""
        self._closed = True
        tasks = list(self._tasks.values())
        async with self.first_turn():  # nothing is written now, and nothing will be
            for task in tasks:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, endpoint: Endpoint) -> None:
        """Until nothing waits for this leader."""
        queue, pace = self._queues[endpoint], Pace()
        try:
            while queue:
                try:
                    line = await self._open_line(endpoint)
                except Exception as error:  # noqa: BLE001  # they must hear of it, whatever it is
                    while queue:
                        queue.popleft().on_caught_up(_expected(error))
                    return
                try:
                    await self._use(line, pace, queue)
                finally:
                    line.close()
        finally:
            del self._queues[endpoint], self._tasks[endpoint]

    async def _use(self, line: CatchUpLine, pace: Pace, queue: deque[FarBehind]) -> None:
        """Until the queue is empty, or an answer may still be on its way that nobody wants."""
        while queue:
            copy = queue.popleft()
            try:
                await self._copy(line, pace, copy)
            except Exception as error:  # noqa: BLE001  # the others go on
                copy.on_caught_up(_expected(error))
                return

    async def _copy(self, line: CatchUpLine, pace: Pace, copy: FarBehind) -> None:
        """Copy until the leader has no more, or others of its copies shall go on."""
        share = _SHARE_BYTES
        while share > 0:
            async with self._lock:
                turn = Turn(copy, self._clock, pace, share)
                if not self._hurried:
                    await self._take(line, turn)
            share -= turn.size
            if turn.is_through:
                copy.on_caught_up(None)
                return
            if turn.pause_s:
                asyncio.get_running_loop().call_later(turn.pause_s, self.add, copy)
                return
            await asyncio.sleep(0)  # who waits for the lock gets it
        self.add(copy)

    async def _take(self, line: CatchUpLine, turn: Turn) -> None:
        """Let threads write until the turn ends."""
        copy = turn.copy
        self._running = line, turn
        self._watch(line, turn)
        copy.on_turn(begins=True)
        try:
            await line.run(turn)
        finally:
            self._running = None
            copy.on_turn(begins=False)
            if turn.last is not None:
                copy.on_appended(turn.last, turn.appended)
            if turn.failure is not None:
                copy.on_append_failed(turn.failure)

    def _watch(
        self, line: CatchUpLine, turn: Turn, seen: object = None, silent_looks: int = 0
    ) -> None:
        """Break off a turn that others wait for, where nothing comes in."""
        if self._running != (line, turn):
            return
        progress = line.progress()
        silent_looks = 0 if progress != seen or turn.is_writing else silent_looks + 1
        if (silent_looks and turn.must_end) or (silent_looks >= _SILENT_LOOKS and turn.is_overdue):
            line.close()
        else:
            loop = asyncio.get_running_loop()
            loop.call_later(_LOOK_S, self._watch, line, turn, progress, silent_looks)


def _expected(error: Exception) -> RaykafkaError:
    if isinstance(error, RaykafkaError):
        return error
    logger.error("a copy could not catch up", exc_info=error)
    return UnknownServerError(f"it could not catch up: {error!r}")
