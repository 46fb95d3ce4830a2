"""Both ends of a simulated connection: the client's ``PeerConnection`` and the server's replies."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

from raykafka.actors.ports import Buffer, Handler, ListenerSpec, OnResponse
from raykafka.actors.timeouts import within
from raykafka.errors import (
    ConnectionLostError,
    InvalidRequestError,
    RaykafkaError,
    UnknownServerError,
    UnsupportedVersionError,
    error_for,
)
from raykafka.model import Endpoint
from raykafka.protocol import apis
from raykafka.protocol.messages import ApiKey, ErrorResponse, HelloResponse, Message
from raykafka.testing.simulation.hosts import Process

if TYPE_CHECKING:
    from raykafka.testing.simulation.network import Network, Pipe

logger = logging.getLogger(__name__)

MAX_WAITING: Final = 64
"""Frames on their way after which a connection is not writable."""
_NOTHING: Final = memoryview(b"")


class Side:
    """What both ends have in common."""

    def __init__(self, network: Network, process: Process) -> None:
        self.process = process
        self.closed = False
        self._network = network
        self._peer: Side | None = None
        self._pipe: Pipe | None = None
        self._on_close: list[Callable[[], None]] = []

    def join(self, peer: Side, pipe: Pipe) -> None:
        """Connect with the other end; ``pipe`` leads there."""
        self._peer = peer
        self._pipe = pipe
        pipe.lost = self._reset_by_peer
        self.process.on_death.append(self._die)
        self._network.opened(self)

    def close(self) -> None:
        """End the connection from this side."""
        self._end(ConnectionLostError("the connection was closed by this side"))
        self._say_goodbye()

    def on_close(self, callback: Callable[[], None]) -> None:
        """Call once when the connection ends, at once if it has."""
        if self.closed:
            callback()
        else:
            self._on_close.append(callback)

    def reset(self, why: str) -> None:
        """Both ends learn that the connection is broken."""
        for side in (self, self._peer):
            if side is not None and not side.closed:
                side._post(side._end, ConnectionLostError(why))

    def _transmit(self, *frame: Any) -> None:
        pipe, peer = self._pipe, self._peer
        if pipe is not None and peer is not None:
            pipe.send(self._arrive, peer, frame)

    def _arrive(self, peer: Side, frame: tuple[Any, ...]) -> None:
        """On the peer's machine: its kernel has the frame."""
        if not peer.process.alive or peer.closed:
            self._reset_by_peer()
            return
        number, header, payload = frame[0], frame[1], frame[2]
        world = self._network.world
        world.trace.note(world.now, peer.process.loop.number, number, header)
        if payload:
            world.trace.note(world.now, crc32(payload), len(payload))
        peer._post(peer._take, *frame)

    def _post(self, callback: Callable[..., None], *args: Any) -> None:
        self.process.loop.call_soon(callback, *args)

    def _take(self, *frame: Any) -> None:
        """A frame has come."""

    def _reset_by_peer(self) -> None:
        if not self.closed:
            error = ConnectionLostError("the connection was reset by the peer")
            self._post(self._end, error)

    def _die(self) -> None:
        """The process was killed: its kernel closes the connection, if the machine is still up."""
        self._network.closed(self)
        if not self.closed:
            self.closed = True
            if self.process.host.up:
                self._say_goodbye()

    def _say_goodbye(self) -> None:
        pipe, peer = self._pipe, self._peer
        if pipe is not None and peer is not None:
            error = ConnectionLostError("the connection was closed by the peer")
            pipe.send(lambda: peer._post(peer._end, error))

    def _end(self, error: RaykafkaError) -> None:
        if self.closed:
            return
        self.closed = True
        self._network.closed(self)
        callbacks, self._on_close = self._on_close, []
        for callback in callbacks:
            callback()

    @property
    def writable(self) -> bool:
        """False while much is on its way."""
        return not self.closed and self._pipe is not None and self._pipe.waiting < MAX_WAITING

    def on_writable(self, callback: Callable[[], None]) -> None:
        """Call once when ``writable`` is true again, at once if it is now."""
        if self.writable:
            callback()
        elif not self.closed:
            self.process.loop.call_later(0.005, self.on_writable, callback)


class ServerEnd(Side):
    """The listener's end: hands requests to the actor's handlers."""

    def __init__(
        self, network: Network, process: Process, handlers: Mapping[ApiKey, Handler], role: str
    ) -> None:
        super().__init__(network, process)
        self.role = role
        self._handlers = handlers

    def answer(
        self, correlation_id: int, response: Message, payload: Sequence[Buffer] = ()
    ) -> None:
        """Send one answer; nothing happens on a closed connection."""
        if not self.closed:
            self._transmit(correlation_id, apis.encode(response), b"".join(payload))

    def _take(self, *frame: Any) -> None:
        correlation_id, header, payload, key = frame
        if self.closed:
            return
        reply = SimulatedReply(self, correlation_id)
        try:
            self._handle(key, header, payload, reply)
        except RaykafkaError as error:
            self.answer(correlation_id, ErrorResponse(error.code, error.message))
        except Exception as error:
            trouble = f"{self.process.name}: the handler of {key.name} failed: {error!r}"
            self._network.world.troubles.append(trouble)
            logger.exception("%s", trouble)
            unknown = UnknownServerError(f"{key.name} failed unexpectedly")
            self.answer(correlation_id, ErrorResponse(unknown.code, unknown.message))

    def _handle(self, key: ApiKey, header: bytes, payload: bytes, reply: SimulatedReply) -> None:
        handler = self._handlers.get(key)
        if handler is None:
            raise UnsupportedVersionError(f"{self.process.name} does not serve {key.name}")
        if payload and not apis.APIS[key].payload:
            raise InvalidRequestError(f"{key.name} takes no payload")
        # Writable, as what comes from a socket: the leader fills in its part of the header.
        handler(apis.decode_request(key, header), memoryview(bytearray(payload)), reply)


class SimulatedReply:
    """``Reply`` to one request."""

    __slots__ = ("connection", "correlation_id", "role")

    def __init__(self, connection: ServerEnd, correlation_id: int) -> None:
        self.connection: Any = connection
        self.correlation_id = correlation_id
        self.role = connection.role

    def __call__(self, response: Message, payload: Sequence[Buffer] = ()) -> None:
        """See ``Reply``."""
        self.connection.answer(self.correlation_id, response, payload)

    @property
    def closed(self) -> bool:
        """See ``Reply``."""
        return bool(self.connection.closed)

    @property
    def writable(self) -> bool:
        """See ``Reply``."""
        return bool(self.connection.writable)

    def on_close(self, callback: Callable[[], None]) -> None:
        """See ``Reply``."""
        self.connection.on_close(callback)

    def on_writable(self, callback: Callable[[], None]) -> None:
        """See ``Reply``."""
        self.connection.on_writable(callback)


class ClientEnd(Side):
    """``PeerConnection``: the end that sends requests."""

    def __init__(
        self, network: Network, process: Process, spec: ListenerSpec, endpoint: Endpoint
    ) -> None:
        super().__init__(network, process)
        self.hello = HelloResponse(
            cluster_id=spec.cluster_id,
            node=spec.node,
            incarnation=spec.incarnation,
            challenge=b"",
            apis=[],
            max_request_bytes=spec.limits.max_request_bytes,
        )
        self._endpoint = endpoint
        self._last_id = 0
        self._pending: dict[int, tuple[ApiKey, OnResponse, bool]] = {}

    def send(
        self,
        api_key: ApiKey,
        request: Message,
        payload: Sequence[Buffer] = (),
        on_response: OnResponse | None = None,
        *,
        stream: bool = False,
    ) -> int:
        """See ``PeerConnection``."""
        if self.closed:
            raise ConnectionLostError(f"the connection to {self._endpoint} has ended")
        self._last_id += 1
        if on_response is not None:
            self._pending[self._last_id] = (api_key, on_response, stream)
        self._transmit(self._last_id, apis.encode(request), b"".join(payload), api_key)
        return self._last_id

    async def call(
        self,
        api_key: ApiKey,
        request: Message,
        payload: Sequence[Buffer] = (),
        *,
        timeout_s: float,
    ) -> Message:
        """See ``PeerConnection``."""
        future = self.process.loop.create_future()

        def settle(answer: Message | RaykafkaError, _payload: memoryview) -> None:
            if future.done():
                return
            if isinstance(answer, RaykafkaError):
                future.set_exception(answer)
            else:
                future.set_result(answer)

        correlation_id = self.send(api_key, request, payload, settle)
        try:
            answer: Message = await within(future, timeout_s, f"{api_key.name}")
        finally:
            self.forget(correlation_id)
        return answer

    def forget(self, correlation_id: int) -> None:
        """See ``PeerConnection``."""
        self._pending.pop(correlation_id, None)

    def _take(self, *frame: Any) -> None:
        correlation_id, header, payload = frame
        pending = self._pending.get(correlation_id)
        if pending is None:
            return
        key, on_response, stream = pending
        answer: Any = apis.decode_response(key, header)
        if answer.error_code:
            answer = error_for(answer.error_code, answer.error_message)
            stream = False
        if not stream:
            del self._pending[correlation_id]
        on_response(answer, memoryview(payload))

    def _end(self, error: RaykafkaError) -> None:
        if self.closed:
            return
        super()._end(error)
        pending, self._pending = self._pending, {}
        for _, on_response, _ in pending.values():
            on_response(error, _NOTHING)
