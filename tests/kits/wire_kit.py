"""A real listener on loopback for tests, and a peer that sends whatever bytes a test wants."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import uvloop

from raykafka.actors.ports import Handler, ListenerLimits, ListenerSpec, Reply
from raykafka.errors import UnknownTopicOrPartitionError
from raykafka.model import Endpoint
from raykafka.network.client import Connection
from raykafka.network.handshake import ClientHandshake
from raykafka.network.listening import ListenerState
from raykafka.network.server import TcpListener
from raykafka.protocol import apis
from raykafka.protocol.framing import RESPONSE_PREFIX, request_head
from raykafka.protocol.messages import (
    ApiKey,
    ErrorResponse,
    FetchCreditRequest,
    FetchedPartition,
    FetchRequest,
    FetchResponse,
    HelloRequest,
    HelloResponse,
    Message,
    MetadataRequest,
    MetadataResponse,
    ProduceRequest,
    ProduceResponse,
)

SECRET = bytes(range(32))
PARK = FetchRequest([], max_wait_ms=99)
"""What ``Echo`` parks."""
PUSHED = FetchResponse([FetchedPartition("t", 0)])
"""An answer after which a stream goes on."""
T = TypeVar("T")


def wait_until(condition: Callable[[], object], what: str, timeout_s: float = 10.0) -> None:
    """Poll until ``condition`` holds; fails the test after ``timeout_s``."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen in {timeout_s} s"
        time.sleep(0.002)


class Echo:
    """Handlers that answer from the request alone, and park what a test wants parked.

    PRODUCE answers with the payload's size; ``leader_epoch`` 404 raises, 500 fails unexpectedly.
    FETCH answers with ``max_bytes`` bytes in chunks of ``min_bytes``; ``max_wait_ms`` 99 parks it.
    """

    def __init__(self) -> None:
        self.parked: list[Reply] = []
        self.ended: list[int] = []
        self.credits: list[FetchCreditRequest] = []
        self.kept: list[memoryview] = []
        self.keep = False
        self.requests = 0

    def handlers(self) -> dict[ApiKey, Handler]:
        """What the listener is given."""
        return {
            ApiKey.PRODUCE: self.produce,
            ApiKey.FETCH: self.fetch,
            ApiKey.FETCH_CREDIT: self.credit,
            ApiKey.METADATA: self.metadata,
        }

    def produce(self, request: ProduceRequest, payload: memoryview, reply: Reply) -> None:
        self.requests += 1
        if request.leader_epoch == 404:
            raise UnknownTopicOrPartitionError("no such topic here")
        if request.leader_epoch == 500:
            raise ZeroDivisionError("a bug")
        if self.keep:
            self.kept.append(payload)
        if request.acks != 0:
            last = payload[-1] if payload else -1
            reply(ProduceResponse(base_offset=len(payload), log_start_offset=last))

    def fetch(self, request: FetchRequest, payload: memoryview, reply: Reply) -> None:
        self.requests += 1
        if request.max_wait_ms == 99:
            self.parked.append(reply)
            number = reply.correlation_id
            reply.on_close(lambda: self.ended.append(number))
            return
        chunk = bytes(request.min_bytes)
        chunks = [chunk] * (request.max_bytes // request.min_bytes)
        reply(FetchResponse([FetchedPartition("t", 0, sizes=[request.max_bytes])]), chunks)

    def credit(self, request: FetchCreditRequest, payload: memoryview, reply: Reply) -> None:
        self.credits.append(request)

    def metadata(self, request: MetadataRequest, payload: memoryview, reply: Reply) -> None:
        reply(MetadataResponse(f"role {reply.role}", "default", 1, [], []))


class Running:
    """A started listener and the loop it lives on, in a thread of its own."""

    def __init__(self, loop: asyncio.AbstractEventLoop, listener: TcpListener) -> None:
        self.loop = loop
        self.listener = listener
        self.endpoint = Endpoint("", 0)
        self.connections: list[Connection] = []

    @property
    def state(self) -> ListenerState:
        """What the listener's connections share."""
        state = self.listener._state
        assert state is not None
        return state

    def run(self, function: Callable[[], T]) -> T:
        """Call ``function`` on the loop's thread and wait for what it returns."""

        async def call() -> T:
            return function()

        return asyncio.run_coroutine_threadsafe(call(), self.loop).result(10)

    def connect(self, **options: Any) -> Connection:
        """An authenticated client connection; closed with the listener."""
        options.setdefault("client_id", "test")
        connection = Connection(self.endpoint, options.pop("secret", SECRET), **options)
        self.connections.append(connection)
        return connection


@contextmanager
def running_listener(
    handlers: Mapping[ApiKey, Handler],
    *,
    loop_kind: str = "uvloop",
    limits: ListenerLimits | None = None,
    secret: bytes = SECRET,
    **timeouts: float,
) -> Iterator[Running]:
    """Run a listener in a thread; everything is closed at the end."""
    loop = uvloop.new_event_loop() if loop_kind == "uvloop" else asyncio.new_event_loop()
    spec = ListenerSpec("127.0.0.1", 0, "c-1", "node-1", 1, secret, limits or ListenerLimits())
    running = Running(loop, TcpListener(spec, handlers, **timeouts))
    failures: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: failures.append(context))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        start = asyncio.run_coroutine_threadsafe(running.listener.start(), loop)
        running.endpoint = start.result(10)
        yield running
    finally:
        for connection in running.connections:
            connection.close()
        asyncio.run_coroutine_threadsafe(running.listener.close(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
    assert not failures, failures


class RawPeer:
    """A socket without any manners."""

    def __init__(self, endpoint: Endpoint, timeout_s: float = 10.0) -> None:
        self.socket = socket.create_connection((endpoint.host, endpoint.port), timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> RawPeer:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send bytes; a connection that the listener has closed already is fine."""
        with suppress(ConnectionError):
            self.socket.sendall(data)

    def request(
        self,
        key: int,
        request: Message,
        *,
        number: int = 1,
        version: int = 0,
        payload: bytes = b"",
    ) -> None:
        """Send a whole, sane request."""
        self.send(frame(key, request, number=number, version=version, payload=payload))

    def read(self, size: int) -> bytes:
        """Exactly ``size`` bytes; ``ConnectionError`` when the listener ends the connection."""
        data = bytearray()
        while len(data) < size:
            chunk = self.socket.recv(size - len(data))
            if not chunk:
                raise ConnectionResetError("closed")
            data += chunk
        return bytes(data)

    def response(self) -> tuple[int, bytes, bytes]:
        """Correlation id, header and payload of the next response."""
        size, number, header_size = RESPONSE_PREFIX.unpack(self.read(RESPONSE_PREFIX.size))
        header = self.read(header_size)
        return number, header, self.read(size - 8 - header_size)

    def error(self) -> tuple[int, ErrorResponse]:
        """The next response, which has to be an error."""
        number, header, _ = self.response()
        error = apis.decode_error(header)
        assert error is not None, header
        return number, error

    def is_closed(self) -> bool:
        """Wait for the listener to end the connection; what it still sends is thrown away."""
        try:
            while self.socket.recv(1 << 16):
                pass
        except TimeoutError:
            return False
        except ConnectionError:
            return True
        return True

    def hello(self) -> HelloResponse:
        """Take the first step of the handshake."""
        self.request(ApiKey.HELLO, HelloRequest("raw"))
        _, header, _ = self.response()
        hello = apis.decode_response(ApiKey.HELLO, header)
        assert isinstance(hello, HelloResponse)
        return hello

    def authenticate(self, secret: bytes = SECRET, role: str = "client") -> RawPeer:
        """Take the whole handshake."""
        handshake = ClientHandshake.answer(self.hello(), secret, role)
        self.request(ApiKey.AUTHENTICATE, handshake.request, number=2)
        number, header, _ = self.response()
        assert number == 2
        handshake.check(apis.decode_response(ApiKey.AUTHENTICATE, header))  # type: ignore[arg-type]
        return self


def frame(
    key: int, request: Message, *, number: int = 1, version: int = 0, payload: bytes = b""
) -> bytes:
    """The bytes of a request."""
    header = apis.encode(request)
    return request_head(key, version, number, header, len(payload)) + payload


def open_stream(running: Running, echo: Echo, got: list[Any]) -> tuple[Any, int, Reply]:
    """A connection with a push session; returns the server's reply, too."""
    connection = running.connect()
    number = connection.send(ApiKey.FETCH, PARK, (), lambda *each: got.append(each), stream=True)
    wait_until(lambda: echo.parked, "the session")
    return connection, number, echo.parked.pop()


def produce(connection: Connection, payload: Sequence[Any] = (), **fields: Any) -> ProduceResponse:
    """One PRODUCE round trip."""
    fields.setdefault("leader_epoch", 1)
    request = ProduceRequest("t", 0, **fields)
    answer, _ = connection.call(ApiKey.PRODUCE, request, payload, timeout_ms=10_000)
    assert isinstance(answer, ProduceResponse)
    return answer
