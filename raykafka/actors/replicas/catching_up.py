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
"""After this long others may have the turn: other leaders' copies, the upkeep of the log."""
_SHARE_BYTES: Final = 512 << 20
"""What one partition gets before others of its leader: who is through is in sync sooner than if all
were copied side by side."""
_HURRY_S: Final = 0.1
"""How long who is in a hurry waits for an answer that may never come."""


class FarBehind(Protocol):
    """A copy that catches up."""

    endpoint: Endpoint
    """Of its leader."""

    def catch_up_request(self, offset: int = -1) -> CatchUpRequest | None:
        """What to ask for from ``offset`` on, by default the log's end; None when it is over."""

    def pause_for(self, size: int) -> float:
        """Seconds to wait when ``size`` bytes have come, before more may."""

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


class Turn(CatchUpCourse):
    """What one copy does in its turn."""

    def __init__(self, copy: FarBehind, clock: Clock, share: int) -> None:
        """It ends when ``share`` bytes were asked for."""
        self.copy = copy
        self.size = 0
        """Bytes that came."""
        self.appended = 0
        self.pause_s = 0.0
        self.last: CatchUpResponse | None = None
        """The last answer that was appended."""
        self.failure: RaykafkaError | None = None
        """Why the last answer was not appended."""
        self.is_through = False
        self.must_end = False
        self._clock = clock
        self._share = share
        self._end_ms = clock.monotonic_ms() + _TURN_MS

    def first(self) -> CatchUpRequest | None:
        """See ``CatchUpCourse``."""
        request = self.copy.catch_up_request()
        self.is_through = request is None
        return request

    def next(self, answer: CatchUpResponse, size: int) -> CatchUpRequest | None:
        """See ``CatchUpCourse``."""
        self.size += size
        self.pause_s = max(self.copy.pause_for(size), answer.throttle_ms / 1000)
        is_end = not size or answer.next_offset >= answer.high_watermark
        self.is_through = is_end and not answer.throttle_ms
        is_over = self.must_end or self._clock.monotonic_ms() >= self._end_ms
        if self.is_through or self.pause_s or is_over or self.size >= self._share:
            return None
        request = self.copy.catch_up_request(answer.next_offset)
        self.is_through = request is None
        return request

    def write(self, answer: CatchUpResponse, payload: memoryview) -> None:
        """See ``CatchUpCourse``."""
        if not payload:
            return
        try:
            self.copy.append(answer, payload)
        except RaykafkaError as error:
            self.failure = error
            raise
        self.appended += len(payload)
        self.last = answer


class CatchUp:
    """All copies of one actor that are far behind."""

    def __init__(self, turn: asyncio.Lock, open_line: OpenLine, clock: Clock) -> None:
        """``turn`` is held while a log is written, as by everybody who changes logs in threads."""
        self._lock = turn
        self._open_line = open_line
        self._clock = clock
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
        """The turn, for somebody who is in a hurry."""
        self._hurried += 1
        self._end_soon()
        try:
            await self._lock.acquire()
        finally:
            self._hurried -= 1
        try:
            yield
        finally:
            self._lock.release()

    def _end_soon(self) -> None:
        """Let the turn end with the answer that is on its way, or without it."""
        if self._running is not None:
            line, turn = self._running
            turn.must_end = True
            asyncio.get_running_loop().call_later(_HURRY_S, self._break_off, line, turn)

    def _break_off(self, line: CatchUpLine, turn: Turn) -> None:
        if self._running == (line, turn):
            line.close()

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
        queue = self._queues[endpoint]
        try:
            while queue:
                try:
                    line = await self._open_line(endpoint)
                except RaykafkaError as error:
                    while queue:
                        queue.popleft().on_caught_up(error)
                    return
                try:
                    await self._use(line, queue)
                finally:
                    line.close()
        finally:
            del self._queues[endpoint], self._tasks[endpoint]

    async def _use(self, line: CatchUpLine, queue: deque[FarBehind]) -> None:
        """Until the queue is empty, or an answer may still be on its way that nobody wants."""
        while queue:
            copy = queue.popleft()
            try:
                await self._copy(line, copy)
            except RaykafkaError as error:
                copy.on_caught_up(error)
                return
            except Exception as error:
                logger.exception("a copy could not catch up")
                copy.on_caught_up(UnknownServerError(f"it could not catch up: {error!r}"))
                return

    async def _copy(self, line: CatchUpLine, copy: FarBehind) -> None:
        """Copy until the leader has no more, or others of its copies shall go on."""
        share = _SHARE_BYTES
        while share > 0:
            turn = await self._take_turn(line, copy, share)
            share -= turn.size
            if turn.is_through:
                copy.on_caught_up(None)
                return
            if turn.pause_s:
                asyncio.get_running_loop().call_later(turn.pause_s, self.add, copy)
                return
        self.add(copy)

    async def _take_turn(self, line: CatchUpLine, copy: FarBehind, share: int) -> Turn:
        async with self._lock:
            turn = Turn(copy, self._clock, share)
            if self._hurried:
                return turn  # the others go first
            self._running = line, turn
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
        return turn
