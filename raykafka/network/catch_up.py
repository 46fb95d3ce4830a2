"""A follower's line to a leader that sends it what it lacks: a blocking socket and its thread.

As fast as a socket can be read and a file be written: the event loop, which producers wait for, has
no part in it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from raykafka.actors.lines import CatchUpCourse
from raykafka.errors import ConnectionLostError, ProtocolError, RaykafkaError, RequestTimedOutError
from raykafka.model import Endpoint
from raykafka.network.client import Connection
from raykafka.network.connection import Fields
from raykafka.priority import give_way
from raykafka.protocol import apis, auth
from raykafka.protocol.messages import ApiKey, Message
from raykafka.protocol.replication_messages import CatchUpRequest, CatchUpResponse

SILENCE_MS: Final = 10_000
"""After this long without a byte the line is given up."""


class _CatchUpConnection(Connection):
    """What is lacking behind an answer is asked for while that answer still comes in: the leader
    sends on while this side receives and writes.
    """

    __slots__ = ("_answers", "_course", "_heard")

    def follow(self, course: CatchUpCourse) -> None:
        """See ``CatchUpLine.run``."""
        self._course = course
        self._answers = deque[tuple[Message | RaykafkaError, memoryview]]()
        self._heard = 0
        """Answers of which the course has heard before they were taken."""
        self._ask(course.first())
        while self.pending or self._answers:
            answer, payload = self._take()
            if self._heard:
                self._heard -= 1
            else:
                self._ask(course.next(answer, len(payload)))
            course.write(answer, payload)

    def on_payload_begins(
        self, fields: Fields, header: bytes | memoryview, payload_size: int
    ) -> None:
        """See ``FrameReceiver``."""
        pending = self._pending.get(fields[1])
        if pending is None or pending[2] is not ApiKey.CATCH_UP:
            return
        answer = apis.decode_response(ApiKey.CATCH_UP, header)
        if isinstance(answer, CatchUpResponse):
            self._heard += 1
            self._ask(self._course.next(answer, payload_size))

    def _ask(self, request: CatchUpRequest | None) -> None:
        if request is not None:
            self.send(ApiKey.CATCH_UP, request, (), lambda *each: self._answers.append(each))

    def _take(self) -> tuple[CatchUpResponse, memoryview]:
        """Wait for the next answer."""
        while not self._answers:
            before = self.progress
            if not self.pump(SILENCE_MS) and self.progress == before:
                raise RequestTimedOutError(f"nothing came of a leader in {SILENCE_MS} ms")
        answer, payload = self._answers.popleft()
        if isinstance(answer, RaykafkaError):
            raise answer
        if not isinstance(answer, CatchUpResponse):
            raise ProtocolError(f"CATCH_UP was answered with {type(answer).__name__}")
        return answer, payload


class TcpCatchUpLine:
    """``actors.lines.CatchUpLine`` over TCP; made by ``connect_catch_up``."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "catch-up-line", initializer=give_way)
        self._connection: _CatchUpConnection | None = None
        self._closed = False

    async def run(self, course: CatchUpCourse) -> None:
        """See the port."""
        if self._closed:
            raise ConnectionLostError("the line was closed by this side")
        await asyncio.get_running_loop().run_in_executor(self._thread, self._run, course)

    def close(self) -> None:
        """See the port."""
        if self._closed:
            return
        self._closed = True
        if self._connection is not None:
            self._connection.interrupt()  # the thread may wait for an answer
        with contextlib.suppress(RuntimeError):  # no thread can be started: none has to be ended
            self._thread.submit(self._close)
        self._thread.shutdown(wait=False)

    def progress(self) -> object:
        """See the port."""
        return None if self._connection is None else self._connection.progress

    async def open(
        self, endpoint: Endpoint, secret: bytes, client_id: str, timeout_s: float
    ) -> None:
        """Connect; raises as the connector does."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(
            self._thread, self._open, endpoint, secret, client_id, int(timeout_s * 1000)
        )

    # --- in the thread ----------------------------------------------------------------------------

    def _open(self, endpoint: Endpoint, secret: bytes, client_id: str, timeout_ms: int) -> None:
        self._connection = _CatchUpConnection(
            endpoint,
            secret,
            client_id=client_id,
            connect_timeout_ms=timeout_ms,
            role=auth.BROKER,
        )

    def _run(self, course: CatchUpCourse) -> None:
        if self._connection is None or self._closed:
            raise ConnectionLostError("the line is not open")
        self._connection.follow(course)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()


async def connect_catch_up(
    endpoint: Endpoint, secret: bytes, *, client_id: str, timeout_s: float
) -> TcpCatchUpLine:
    """``actors.lines.CatchUpConnector`` over TCP."""
    line = TcpCatchUpLine()
    try:
        await line.open(endpoint, secret, client_id, timeout_s)
    except BaseException:
        line.close()
        raise
    return line
