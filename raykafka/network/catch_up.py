"""A follower's line to a leader that sends it what it lacks: a blocking socket and its thread.

As fast as a socket can be read and a file be written: the event loop, which producers wait for, has
no part in it.
"""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from raykafka.actors.lines import CatchUpCourse
from raykafka.errors import ConnectionLostError, ProtocolError, RaykafkaError, RequestTimedOutError
from raykafka.model import Endpoint
from raykafka.network.client import Connection
from raykafka.priority import give_way
from raykafka.protocol import auth
from raykafka.protocol.messages import ApiKey, Message
from raykafka.protocol.replication_messages import CatchUpRequest, CatchUpResponse

SILENCE_MS: Final = 10_000
"""After this long without a byte the line is given up."""


class TcpCatchUpLine:
    """``actors.lines.CatchUpLine`` over TCP; made by ``connect_catch_up``."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "catch-up-line", initializer=give_way)
        self._connection: Connection | None = None
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
        self._connection = Connection(
            endpoint,
            secret,
            client_id=client_id,
            connect_timeout_ms=timeout_ms,
            role=auth.BROKER,
        )

    def _run(self, course: CatchUpCourse) -> None:
        connection, answers = self._connection, list[tuple[Message | RaykafkaError, memoryview]]()
        if connection is None or self._closed:
            raise ConnectionLostError("the line is not open")

        def ask(request: CatchUpRequest) -> None:
            connection.send(ApiKey.CATCH_UP, request, (), lambda *each: answers.append(each))

        request = course.first()
        if request is not None:
            ask(request)
        while request is not None:
            while not answers:
                before = connection.progress
                if not connection.pump(SILENCE_MS) and connection.progress == before:
                    raise RequestTimedOutError(f"nothing came of a leader in {SILENCE_MS} ms")
            answer, payload = answers.pop()
            if isinstance(answer, RaykafkaError):
                raise answer
            if not isinstance(answer, CatchUpResponse):
                raise ProtocolError(f"CATCH_UP was answered with {type(answer).__name__}")
            request = course.next(answer, len(payload))
            if request is not None:
                ask(request)  # the leader fills the connection while this is written
            course.write(answer, payload)

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
