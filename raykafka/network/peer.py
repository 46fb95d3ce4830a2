"""An actor's connection to another actor: asynchronous, on the loop that everything else runs on.

Proves the broker's role, so that replication and controller requests are taken. Answers are handed
to their callbacks where they are received; nothing is scheduled in between.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final, cast

from raykafka.actors.ports import Buffer, OnResponse
from raykafka.errors import (
    ClusterAuthorizationFailedError,
    ConnectionLostError,
    ProtocolError,
    RaykafkaError,
    RequestTimedOutError,
    error_for,
)
from raykafka.model import Endpoint
from raykafka.network.buffers import BufferPool
from raykafka.network.connection import (
    CHUNK_BYTES,
    NOTHING,
    Fields,
    FrameReceiver,
    takes_lines,
    write_frame,
)
from raykafka.network.handshake import ClientHandshake
from raykafka.network.socket_io import keep_alive
from raykafka.protocol import apis, auth
from raykafka.protocol.framing import CONNECTION_ERROR_ID, RESPONSE_PREFIX, request_head
from raykafka.protocol.messages import (
    ApiKey,
    AuthenticateResponse,
    HelloRequest,
    HelloResponse,
    Message,
)

logger = logging.getLogger(__name__)

MAX_RESPONSE_BYTES: Final = 128 << 20
"""Largest frame that this side takes from an actor of its own cluster."""
_MAX_CORRELATION_ID: Final = (1 << 31) - 1
_SOFTWARE: Final = "raykafka-broker"

_Pending = tuple[apis.Decode, OnResponse, ApiKey, bool]
"""Decoder, callback, api and whether it is a stream."""


class TcpPeerConnection(FrameReceiver, asyncio.BufferedProtocol):
    """``actors.ports.PeerConnection`` over TCP; made by ``connect``."""

    __slots__ = (
        "_close_callbacks",
        "_failure",
        "_last_id",
        "_pending",
        "_transport",
        "_writes_lines",
        "endpoint",
        "hello",
    )

    def __init__(self, endpoint: Endpoint) -> None:
        chunk = memoryview(bytearray(CHUNK_BYTES))
        self._start_receiving(RESPONSE_PREFIX, chunk, BufferPool(), MAX_RESPONSE_BYTES)
        self.endpoint = endpoint
        self.hello: HelloResponse
        self._transport: asyncio.Transport
        self._pending: dict[int, _Pending] = {}
        self._failure: RaykafkaError | None = None
        """Why the connection has ended."""
        self._last_id = 0
        self._close_callbacks: list[Callable[[], None]] = []
        self._writes_lines = False

    # --- state ------------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether the connection has ended, by either side."""
        return self._failure is not None

    def on_close(self, callback: Callable[[], None]) -> None:
        """Call once when the connection ends, at once if it has."""
        if self._failure is not None:
            callback()
        else:
            self._close_callbacks.append(callback)

    def close(self) -> None:
        """End the connection; callbacks that still wait get a ``ConnectionLostError``."""
        self._end(ConnectionLostError(f"the connection to {self.endpoint} was closed by this side"))

    # --- requests ---------------------------------------------------------------------------------

    def send(
        self,
        api_key: ApiKey,
        request: Message,
        payload: Sequence[Buffer] = (),
        on_response: OnResponse | None = None,
        *,
        stream: bool = False,
    ) -> int:
        """Send one request; see the port."""
        if self._failure is not None:
            raise ConnectionLostError(self._failure.message)
        header = apis.encode(request)
        correlation_id = self._next_id()
        if on_response is not None:
            decode = apis.RESPONSE_DECODERS[api_key]
            self._pending[correlation_id] = (decode, on_response, api_key, stream)
        transport = self._transport
        if not payload:
            transport.write(request_head(api_key, 0, correlation_id, header, 0))
            return correlation_id
        size = 0
        for buffer in payload:
            size += memoryview(buffer).nbytes
        head = request_head(api_key, 0, correlation_id, header, size)
        write_frame(transport, head, payload, size, lines=self._writes_lines)
        return correlation_id

    async def call(
        self,
        api_key: ApiKey,
        request: Message,
        payload: Sequence[Buffer] = (),
        *,
        timeout_s: float,
    ) -> Message:
        """Send one request and wait for its answer; see the port."""
        answered: asyncio.Future[Message | RaykafkaError]
        answered = asyncio.get_running_loop().create_future()

        def on_response(answer: Message | RaykafkaError, _payload: memoryview) -> None:
            if not answered.done():
                answered.set_result(answer)

        correlation_id = self.send(api_key, request, payload, on_response)
        try:
            await asyncio.wait({answered}, timeout=timeout_s)
        finally:
            self.forget(correlation_id)
        if not answered.done():
            answered.cancel()
            raise RequestTimedOutError(
                f"{self.endpoint} did not answer {api_key.name} in {timeout_s:g} s"
            )
        answer = answered.result()
        if isinstance(answer, RaykafkaError):
            raise answer
        return answer

    def forget(self, correlation_id: int) -> None:
        """Throw away whatever still comes for that request."""
        self._pending.pop(correlation_id, None)

    def _next_id(self) -> int:
        correlation_id = self._last_id
        while True:
            correlation_id = correlation_id + 1 if correlation_id < _MAX_CORRELATION_ID else 1
            if correlation_id not in self._pending:
                self._last_id = correlation_id
                return correlation_id

    # --- receiving --------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is connected; the handshake follows."""
        # uvloop's transports have all of asyncio.Transport's methods but are not instances of it.
        self._transport = cast(asyncio.Transport, transport)
        self._writes_lines = takes_lines(transport)
        keep_alive(transport.get_extra_info("socket"))

    def connection_lost(self, exc: Exception | None) -> None:
        """The peer has gone, or the connection broke."""
        reason = "was closed by the other side" if exc is None else f"broke: {exc}"
        self._end(ConnectionLostError(f"the connection to {self.endpoint} {reason}"))

    def buffer_updated(self, nbytes: int) -> None:
        """Handle what came in; bytes that cannot be understood end the connection."""
        if self._failure is not None:
            return
        try:
            FrameReceiver.buffer_updated(self, nbytes)
        except RaykafkaError as error:
            self._end(error)

    def on_frame(self, fields: Fields, header: memoryview, payload: memoryview) -> None:
        """Decode one response and hand it over."""
        correlation_id = fields[1]
        pending = self._pending.get(correlation_id)
        if pending is None:
            self._on_unexpected(correlation_id, header)
            return
        decode, on_response, api_key, stream = pending
        answer: Message | RaykafkaError
        try:
            answer = decode(header)
        except apis.DECODE_ERRORS:
            answer = apis.decode_response(api_key, header)
        code = answer.error_code  # type: ignore[attr-defined]  # every response has one
        if code:
            answer = error_for(code, answer.error_message)  # type: ignore[attr-defined]
        if not stream or code:
            self._pending.pop(correlation_id, None)
        self._hand_over(on_response, answer, payload)

    def on_broken_frame(self, fields: Fields, error: RaykafkaError) -> None:
        """The peer sent sizes that cannot be, or more than this side takes."""
        raise ProtocolError(f"{self.endpoint} sent a frame that cannot be taken: {error}")

    def _on_unexpected(self, correlation_id: int, header: memoryview) -> None:
        failed = apis.decode_error(header)
        if correlation_id == CONNECTION_ERROR_ID and failed is not None:
            raise error_for(failed.error_code, failed.error_message)
        # Else nobody waits for it any more.

    def _hand_over(
        self, on_response: OnResponse, answer: Message | RaykafkaError, payload: memoryview
    ) -> None:
        try:
            on_response(answer, payload)
        except Exception:
            # What a callback stumbles over must not take the other streams' connection down.
            logger.exception("handling an answer of %s failed", self.endpoint)

    def _end(self, failure: RaykafkaError) -> None:
        if self._failure is not None:
            return
        self._failure = failure
        self._carry = b""
        self._target = None
        self._transport.abort()
        pending, self._pending = self._pending, {}
        for _, on_response, _, _ in pending.values():
            self._hand_over(on_response, failure, NOTHING)
        callbacks, self._close_callbacks = self._close_callbacks, []
        for callback in callbacks:
            callback()


async def connect(
    endpoint: Endpoint, secret: bytes, *, client_id: str, timeout_s: float
) -> TcpPeerConnection:
    """``actors.ports.Connector`` over TCP."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    connection = TcpPeerConnection(endpoint)
    connecting = asyncio.ensure_future(
        loop.create_connection(lambda: connection, endpoint.host, endpoint.port)
    )
    try:
        await asyncio.wait({connecting}, timeout=timeout_s)
        if not connecting.done():
            raise ConnectionLostError(f"cannot connect to {endpoint} in {timeout_s:g} s")
        connecting.result()
    except OSError as error:
        raise ConnectionLostError(f"cannot connect to {endpoint}: {error}") from error
    finally:
        connecting.cancel()
    try:
        await _prove(connection, secret, client_id, deadline)
    except RequestTimedOutError as error:
        connection.close()
        raise ConnectionLostError(error.message) from error
    except BaseException:
        connection.close()
        raise
    return connection


async def _prove(
    connection: TcpPeerConnection, secret: bytes, client_id: str, deadline: float
) -> None:
    loop = asyncio.get_running_loop()
    request = HelloRequest(client_id=client_id, software=_SOFTWARE)
    hello = await connection.call(ApiKey.HELLO, request, timeout_s=max(0.0, deadline - loop.time()))
    if not isinstance(hello, HelloResponse):
        raise ProtocolError(f"{connection.endpoint} answered HELLO with {type(hello).__name__}")
    handshake = ClientHandshake.answer(hello, secret, auth.BROKER)
    proof = await connection.call(
        ApiKey.AUTHENTICATE, handshake.request, timeout_s=max(0.0, deadline - loop.time())
    )
    if not isinstance(proof, AuthenticateResponse):
        raise ClusterAuthorizationFailedError(f"{connection.endpoint} did not prove the secret")
    handshake.check(proof)
    connection.hello = hello
