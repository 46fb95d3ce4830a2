"""The server's side of one connection: handshake, dispatch, answers and flow control.

A request costs one decode, one call of its handler and one write; nothing is scheduled, no future
is made. Everything runs on the loop's thread.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, cast

from raykafka.actors.lines import FileRange
from raykafka.actors.ports import Buffer
from raykafka.errors import (
    ClusterAuthorizationFailedError,
    InvalidRequestError,
    RaykafkaError,
    UnknownServerError,
)
from raykafka.network.connection import Fields, FrameReceiver, takes_lines, write_frame
from raykafka.network.file_sending import OutgoingFile
from raykafka.network.handshake import ServerHandshake
from raykafka.network.listening import ListenerState
from raykafka.network.reply import ServerReply
from raykafka.network.socket_io import keep_alive
from raykafka.protocol import apis, auth
from raykafka.protocol.framing import (
    CONNECTION_ERROR_ID,
    MAX_UNAUTHENTICATED_BYTES,
    REQUEST_PREFIX,
    response_head,
)
from raykafka.protocol.messages import ApiKey, ErrorResponse, Message

logger = logging.getLogger(__name__)

HIGH_WATER_BYTES: Final = 1 << 20
"""Over this many unsent bytes a connection is not writable, and its requests wait."""
LOW_WATER_BYTES: Final = 256 << 10
LINGER_S: Final = 1.0
"""How long a refused peer may take to read why, before the connection is torn down."""
REFUSAL_DELAY_S: Final = 0.1
"""Pause before a failed proof is answered, so that trying secrets is slow."""


class ServerConnection(FrameReceiver, asyncio.BufferedProtocol):
    """One peer, from its first byte to its last."""

    __slots__ = (
        "_behind_file",
        "_close_callbacks",
        "_discarding",
        "_file",
        "_handshake",
        "_queued_bytes",
        "_reserved_bytes",
        "_state",
        "_transport",
        "_waiting",
        "_watched",
        "_writable_callbacks",
        "_writes_lines",
        "closed",
        "role",
        "writable",
    )

    def __init__(self, state: ListenerState) -> None:
        bound = min(MAX_UNAUTHENTICATED_BYTES, state.spec.limits.max_request_bytes)
        self._start_receiving(REQUEST_PREFIX, state.chunk, state.pool, bound)
        self._state = state
        self._handshake: ServerHandshake | None = ServerHandshake(state.spec, state.ranges)
        self._transport: asyncio.Transport
        self._file: OutgoingFile | None = None
        """What a thread sends on this connection."""
        self._behind_file: list[Callable[[], None]] = []
        self._discarding = False
        """Whether what comes in is thrown away: the peer has been refused."""
        self._waiting = False
        """Whether the next payload waits for room among those being received."""
        self._watched = False
        """Whether the connection has a deadline because it is within a frame."""
        self._writes_lines = False
        self._reserved_bytes = 0
        self._queued_bytes = 0
        self._close_callbacks: list[Callable[[], None]] = []
        self._writable_callbacks: list[Callable[[], None]] = []
        self.role = ""
        self.closed = False
        self.writable = True

    # --- begin and end ----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection; until it proves the secret it may be dropped for another one."""
        # uvloop's transports have all of asyncio.Transport's methods but are not instances of it.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(HIGH_WATER_BYTES, LOW_WATER_BYTES)
        self._writes_lines = takes_lines(transport)
        keep_alive(transport.get_extra_info("socket"))
        self._state.welcome(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Give back what the connection held and tell those who wait for it."""
        state = self._state
        self.closed = True
        self.writable = False
        state.forget(self)
        state.queued_bytes -= self._queued_bytes
        self._queued_bytes = 0
        self._discard()
        if self._file is not None:
            self._file.cancel()
        callbacks, self._close_callbacks = self._close_callbacks, []
        self._writable_callbacks = []
        for callback in callbacks:
            self._call(callback)

    def abort(self) -> None:
        """End the connection now, without sending what is queued."""
        self.closed = True
        if self._file is not None:
            self._file.cancel()
        self._transport.abort()

    def on_close(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` when the connection ends."""
        if self.closed:
            callback()
        else:
            self._close_callbacks.append(callback)

    def _refuse_peer(self, correlation_id: int, error: RaykafkaError) -> None:
        """Say why, then end the connection; what still comes in is thrown away.

        Closing at once would reset the connection and could take the answer with it.
        """
        self.send(correlation_id, ErrorResponse(error.code, error.message))
        self.closed = True
        self._discard()
        if not self._transport.is_closing():
            self._transport.write_eof()
            self._state.loop.call_later(LINGER_S, self._transport.abort)

    def _discard(self) -> None:
        """Drop what has been received of a frame, and whatever follows."""
        self._discarding = True
        self._stopped = True
        self._carry = b""
        if self._target is not None:
            # Who announces much and goes leaves no memory taken for what never came.
            self._target = None
            self._state.pool.trim()
        self._release_reserved()

    def _call(self, callback: Callable[[], None]) -> None:
        try:
            callback()
        except Exception:
            logger.exception("a callback of a connection to %s failed", self._state.spec.node)

    # --- requests ---------------------------------------------------------------------------------

    def buffer_updated(self, nbytes: int) -> None:
        """Handle what came in, and watch a peer that stops within a frame."""
        if self._discarding:
            return
        if self._target is None and not self._carry:
            self._cut(nbytes)
        else:
            FrameReceiver.buffer_updated(self, nbytes)
        if self._target is not None or self._carry:
            self._watch()
        elif self._watched:
            self._watched = False
            self._state.deadlines.pop(self, None)

    def on_frame(self, fields: Fields, header: memoryview, payload: memoryview) -> None:
        """Decode one request and hand it to its handler."""
        if self._reserved_bytes:
            self._release_reserved()
        _, api_key, api_version, correlation_id, _ = fields
        if self._handshake is not None:
            self._step(self._handshake, api_key, api_version, correlation_id, header)
            return
        route = self._state.routes.get(api_key)
        if route is None or not route.min_version <= api_version <= route.max_version:
            self._fail(correlation_id, self._state.unsupported(api_key, api_version))
            return
        if route.broker_only and self.role != auth.BROKER:
            self._fail(correlation_id, _not_a_broker(route.key))
            return
        if payload and not route.takes_payload:
            self._fail(correlation_id, _no_payload(route.key))
            return
        try:
            request = route.decode(header)
        except apis.DECODE_ERRORS as error:
            self._fail(correlation_id, apis.undecodable_request(route.key, error))
            return
        try:
            route.handler(request, payload, ServerReply(self, correlation_id, self.role))
        except RaykafkaError as error:
            self._fail(correlation_id, error)
        except Exception:
            logger.exception("%s: the handler of %s failed", self._state.spec.node, route.key.name)
            self._fail(
                correlation_id,
                UnknownServerError(
                    f"{route.key.name} failed unexpectedly; the server's log says why"
                ),
            )

    def on_broken_frame(self, fields: Fields, error: RaykafkaError) -> None:
        """Nothing can be understood any more; a peer that is known is told why."""
        if self._handshake is not None:
            self._discard()
            self.abort()
            return
        self._refuse_peer(CONNECTION_ERROR_ID, error)

    def _step(
        self,
        handshake: ServerHandshake,
        api_key: int,
        api_version: int,
        correlation_id: int,
        header: memoryview,
    ) -> None:
        state = self._state
        try:
            answer = handshake.step(api_key, api_version, header)
            if handshake.role:
                state.admit(self)
        except RaykafkaError as error:
            state.note_refused(error)
            self._discard()
            state.loop.call_later(REFUSAL_DELAY_S, self._refuse_peer, correlation_id, error)
            return
        if handshake.role:
            self.role = handshake.role
            self._handshake = None
            self._max_bytes = state.spec.limits.max_request_bytes
        self.send(correlation_id, answer)

    def _fail(self, correlation_id: int, error: RaykafkaError) -> None:
        self.send(correlation_id, ErrorResponse(error.code, error.message))

    def _watch(self) -> None:
        """The peer is within a frame: it must go on, unless it is this side that waits."""
        state = self._state
        if self._discarding:
            self._carry = b""
            return
        if self._handshake is not None:
            return
        if self._stopped:
            state.deadlines.pop(self, None)
            return
        self._watched = True
        state.deadlines[self] = state.loop.time() + state.stall_timeout_s

    # --- large payloads ---------------------------------------------------------------------------

    def reserve(self, fields: Fields, payload_size: int) -> bool:
        """Take a payload when its api allows one and not too much is being received already."""
        state = self._state
        route = state.routes.get(fields[1])
        if route is None or not route.takes_payload:
            error = _no_payload(route.key) if route else state.unsupported(fields[1], fields[2])
            self._refuse_peer(fields[3], error)
            return False
        total = state.receiving_bytes + payload_size
        if state.receiving_bytes and total > state.spec.limits.max_queued_bytes:
            self._waiting = True
            state.waiting.append(self)
            self._hold()
            return False
        state.receiving_bytes = total
        self._reserved_bytes = payload_size
        return True

    def _release_reserved(self) -> None:
        state = self._state
        state.receiving_bytes -= self._reserved_bytes
        self._reserved_bytes = 0
        if state.waiting:
            # Later: the chunk may hold frames that are being handled right now.
            state.loop.call_soon(state.wake_waiting)

    def on_room(self) -> None:
        """Payloads that were being received are done; try again."""
        self._waiting = False
        self._release()

    # --- answers and flow control -----------------------------------------------------------------

    def send(self, correlation_id: int, response: Message, payload: Sequence[Buffer] = ()) -> None:
        """Write one response frame; large buffers are handed to the transport as they are."""
        if self.closed:
            return
        if self._file is not None:
            self._behind_file.append(partial(self.send, correlation_id, response, payload))
            return
        header = apis.encode(response)
        transport = self._transport
        if not payload:
            transport.write(response_head(correlation_id, header, 0))
        else:
            size = 0
            for buffer in payload:
                size += memoryview(buffer).nbytes
            head = response_head(correlation_id, header, size)
            write_frame(transport, head, payload, size, lines=self._writes_lines)
        if not self.writable:
            self._state.account(self)

    def send_file(self, correlation_id: int, response: Message, file: FileRange) -> None:
        """Write one response frame whose payload is in a file, in a thread."""
        if self.closed:
            return
        if self._file is not None:
            self._behind_file.append(partial(self.send_file, correlation_id, response, file))
            return
        head = response_head(correlation_id, apis.encode(response), file.size)
        self._hold()  # nothing is asked for meanwhile, so that little waits behind it
        self._file = OutgoingFile(
            self._state.file_sender, self._transport, head, file, self._on_file_sent
        )

    def _on_file_sent(self, failure: BaseException | None) -> None:
        self._file = None
        if failure is not None:
            logger.warning("%s could not send a file: %r", self._state.spec.node, failure)
            self.abort()
            return
        waiting, self._behind_file = self._behind_file, []
        for send in waiting:
            send()
        self._release()

    def on_writable(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once there is room for more to send, at once if there is now."""
        if self.writable:
            callback()
        elif not self.closed:
            self._writable_callbacks.append(callback)

    def pause_writing(self) -> None:
        """The peer does not keep up: take no more requests of it until it does."""
        self.writable = False
        self._hold()

    def resume_writing(self) -> None:
        """The peer has read enough."""
        self.writable = not self.closed
        self._state.account(self)
        callbacks, self._writable_callbacks = self._writable_callbacks, []
        for callback in callbacks:
            self._call(callback)
        self._release()

    @property
    def queued_bytes(self) -> int:
        """Unsent bytes when last accounted for; 0 while the connection is writable."""
        return self._queued_bytes

    def account_queued(self) -> int:
        """Measure the unsent bytes; returns by how much they have changed."""
        queued = 0 if self.writable else self._transport.get_write_buffer_size()
        change = queued - self._queued_bytes
        self._queued_bytes = queued
        return change

    def _hold(self) -> None:
        self._stopped = True
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def _release(self) -> None:
        if self.closed or self._discarding or self._waiting or not self.writable or self._file:
            return
        self._go_on()
        if self._carry or self._target is not None:
            self._watch()
        if not self._stopped and not self._transport.is_closing():
            self._transport.resume_reading()


def _not_a_broker(key: ApiKey) -> ClusterAuthorizationFailedError:
    return ClusterAuthorizationFailedError(
        f"{key.name} is spoken between brokers; this connection has proven to be a client's only"
    )


def _no_payload(key: ApiKey) -> InvalidRequestError:
    return InvalidRequestError(f"{key.name} takes no payload")
