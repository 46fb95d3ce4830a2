"""The client's side of a connection: one blocking socket, used by the thread that waits.

The thread that wants an answer sends and reads by itself, because a hand-over to another thread
costs more than the whole request. One request is one ``sendmsg``, its answer one ``recv``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from raykafka.actors.ports import Buffer
from raykafka.clock import Clock, SystemClock
from raykafka.errors import (
    ClusterAuthorizationFailedError,
    ConnectionLostError,
    IllegalStateError,
    InvalidRequestError,
    ProtocolError,
    RaykafkaError,
    RequestTimedOutError,
    error_for,
)
from raykafka.model import Endpoint
from raykafka.network.buffers import BufferPool
from raykafka.network.connection import (
    CHUNK_BYTES,
    JOIN_BYTES,
    JOIN_EACH_BYTES,
    NOTHING,
    Fields,
    FrameReceiver,
)
from raykafka.network.handshake import ClientHandshake
from raykafka.network.socket_io import BlockingSocket
from raykafka.protocol import apis, auth
from raykafka.protocol.framing import (
    CONNECTION_ERROR_ID,
    RESPONSE_PREFIX,
    frame_too_large,
    request_head,
)
from raykafka.protocol.messages import (
    ApiKey,
    AuthenticateResponse,
    HelloRequest,
    HelloResponse,
    Message,
)

MAX_CORRELATION_ID: Final = (1 << 31) - 1
SOFTWARE: Final = "raykafka-python"

OnResponse = Callable[["Message | RaykafkaError", memoryview], None]


Pending = tuple[apis.Decode, OnResponse, ApiKey, bool]
"""Decoder, callback, api and whether it is a stream; a plain tuple, made for every request."""


class Connection(FrameReceiver):
    """A connection to one listener. Not thread-safe: whoever uses it holds its owner's lock.

    Connects and authenticates at once, within ``connect_timeout_ms``. ``max_response_bytes`` bounds
    the memory that one response may ask for. Payloads handed out stay valid for as long as they are
    referred to; their memory is used again afterwards.

    Raises ``ConnectionLostError`` when the listener cannot be reached or does not answer in time,
    ``ClusterAuthorizationFailedError`` when either side does not prove the cluster's secret, and
    what the listener refuses with, such as ``ServerBusyError``.
    """

    __slots__ = (
        "_clock",
        "_failure",
        "_last_id",
        "_max_request_bytes",
        "_pending",
        "_ready",
        "_socket",
        "endpoint",
        "hello",
    )

    def __init__(
        self,
        endpoint: Endpoint,
        secret: bytes,
        *,
        client_id: str,
        connect_timeout_ms: int = 5000,
        max_response_bytes: int = 128 << 20,
        role: str = auth.CLIENT,
        clock: Clock | None = None,
    ) -> None:
        chunk = memoryview(bytearray(CHUNK_BYTES))
        self._start_receiving(RESPONSE_PREFIX, chunk, BufferPool(), max_response_bytes)
        self.endpoint = endpoint
        self._clock = clock or SystemClock()
        self._pending: dict[int, Pending] = {}
        self._ready: deque[tuple[OnResponse, Message | RaykafkaError, memoryview]] = deque()
        """Decoded answers whose callbacks have not been called yet."""
        self._failure: RaykafkaError | None = None
        """Why the connection has ended."""
        self._last_id = 0
        self._max_request_bytes = 0
        deadline = self._clock.monotonic_ms() + connect_timeout_ms
        try:
            self._socket = BlockingSocket.connect(endpoint, connect_timeout_ms)
        except OSError as error:
            raise ConnectionLostError(f"cannot connect to {endpoint}: {error}") from error
        try:
            self.hello = self._handshake(client_id, secret, role, deadline)
        except RequestTimedOutError:
            self.close()
            raise ConnectionLostError(
                f"{endpoint} accepted the connection but did not answer in {connect_timeout_ms} ms"
            ) from None
        except BaseException:
            self.close()
            raise
        self._max_request_bytes = self.hello.max_request_bytes

    def _handshake(self, client_id: str, secret: bytes, role: str, deadline: int) -> HelloResponse:
        request = HelloRequest(client_id=client_id, software=SOFTWARE)
        hello = self._call_until(ApiKey.HELLO, request, deadline)
        if not isinstance(hello, HelloResponse):
            raise ProtocolError(f"{self.endpoint} answered HELLO with {type(hello).__name__}")
        handshake = ClientHandshake.answer(hello, secret, role)
        proof = self._call_until(ApiKey.AUTHENTICATE, handshake.request, deadline)
        if not isinstance(proof, AuthenticateResponse):
            raise ClusterAuthorizationFailedError(f"{self.endpoint} did not prove the secret")
        handshake.check(proof)
        return hello

    def _call_until(self, api_key: ApiKey, request: Message, deadline: int) -> Message:
        timeout_ms = max(0, deadline - self._clock.monotonic_ms())
        return self.call(api_key, request, timeout_ms=timeout_ms)[0]

    # --- state ------------------------------------------------------------------------------------

    @property
    def pending(self) -> int:
        """Requests and streams that wait for an answer."""
        return len(self._pending) + len(self._ready)

    @property
    def closed(self) -> bool:
        """Whether the connection has ended, by either side."""
        return self._failure is not None

    @property
    def progress(self) -> tuple[int, int]:
        """Another value whenever something of a large answer has come in. Thread-safe."""
        return self._last_id, self._filled

    def fileno(self) -> int:
        """The socket's descriptor, to wait for it beside others; readable means: call ``pump``."""
        return self._socket.fileno()

    def close(self) -> None:
        """End the connection; callbacks that still wait get a ``ConnectionLostError``."""
        self._end(ConnectionLostError(f"the connection to {self.endpoint} was closed by this side"))

    def interrupt(self) -> None:
        """Make a thread that waits in ``pump`` return with ``ConnectionLostError``. Thread-safe."""
        self._socket.shutdown()

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
        """Send one request; returns its correlation id.

        ``on_response(message or error, payload)`` is called by ``pump``, or before ``send`` returns
        if the answer to an earlier request came in while this one could not be sent. With
        ``stream`` it is called for every response, up to one without partitions or an error.
        Without ``on_response`` an answer is thrown away.

        Raises ``MessageTooLargeError`` when the listener would not take the frame, and
        ``ConnectionLostError`` when the connection has ended or ends now; ``on_response`` is not
        called then. Only FETCH can be a stream (``IllegalStateError``).
        """
        if self._failure is not None:
            raise self._failure
        if stream and api_key is not ApiKey.FETCH:
            raise IllegalStateError(f"{api_key.name} is answered once, it is no stream")
        try:
            header = apis.encode(request)
        except UnicodeEncodeError as error:
            raise InvalidRequestError(f"a name is not text that UTF-8 has: {error}") from error
        correlation_id = self._last_id + 1
        if correlation_id > MAX_CORRELATION_ID or correlation_id in self._pending:
            correlation_id = self._free_id(correlation_id)
        self._last_id = correlation_id
        payload_size = 0
        for buffer in payload:
            payload_size += len(buffer) if type(buffer) is bytes else memoryview(buffer).nbytes
        head = request_head(api_key, 0, correlation_id, header, payload_size)
        size = len(head) + payload_size
        if 0 < self._max_request_bytes < size:
            raise frame_too_large(size, self._max_request_bytes)
        frame: Sequence[Buffer]
        if payload_size <= JOIN_BYTES or payload_size <= len(payload) * JOIN_EACH_BYTES:
            frame = (b"".join((head, *payload)) if payload else head,)
        else:
            frame = (head, *payload)
        if on_response is not None:
            self._pending[correlation_id] = (
                apis.RESPONSE_DECODERS[api_key],
                on_response,
                api_key,
                stream,
            )
        try:
            self._socket.send(frame, size, self._receive_meanwhile)
        except (OSError, RaykafkaError) as error:
            self._pending.pop(correlation_id, None)
            raise self._lost(error) from error
        if self._ready:
            self._dispatch()
        return correlation_id

    def call(
        self,
        api_key: ApiKey,
        request: Message,
        payload: Sequence[Buffer] = (),
        *,
        timeout_ms: int,
    ) -> tuple[Message, memoryview]:
        """Send one request and wait for its answer; other answers are dispatched meanwhile.

        Raises the error that the answer reports, ``RequestTimedOutError`` after ``timeout_ms`` (the
        request may have taken effect), and what ``send`` raises.
        """
        answers: list[tuple[Message | RaykafkaError, memoryview]] = []
        deadline = self._clock.monotonic_ms() + timeout_ms
        correlation_id = self.send(
            api_key, request, payload, lambda answer, data: answers.append((answer, data))
        )
        remaining = timeout_ms
        while not answers:
            if not self.pump(remaining) and not answers:
                self._abandon(correlation_id)
                raise RequestTimedOutError(
                    f"{self.endpoint} did not answer {api_key.name} in {timeout_ms} ms"
                )
            if not answers:
                remaining = max(0, deadline - self._clock.monotonic_ms())
        answer, data = answers[0]
        if isinstance(answer, RaykafkaError):
            raise answer
        return answer, data

    def pump(self, timeout_ms: int | None) -> bool:
        """Wait for answers and call their callbacks; True if at least one was dispatched.

        ``timeout_ms`` 0 takes only what is there, None waits without end; it counts once more from
        the first part of an answer that comes in several. When the connection is lost, every
        pending callback gets the ``ConnectionLostError`` before it is raised here.
        """
        if self._failure is not None:
            raise self._failure
        if self._ready:
            self._dispatch()
            return True
        deadline: int | None = None
        while True:
            try:
                if self._target is None and not self._carry:
                    received = self._socket.receive(self._chunk, timeout_ms)
                    if received:
                        self._cut(received)
                else:
                    received = self._socket.receive(self.get_buffer(-1), timeout_ms)
                    if received:
                        self.buffer_updated(received)
            except (OSError, RaykafkaError) as error:
                raise self._lost(error) from error
            if self._ready:
                self._dispatch()
                return True
            if self._failure is not None:
                raise self._failure
            if not received:
                return False
            if timeout_ms:
                now_ms = self._clock.monotonic_ms()
                if deadline is None:
                    deadline = now_ms + timeout_ms
                timeout_ms = max(0, deadline - now_ms)

    # --- responses --------------------------------------------------------------------------------

    def on_frame(self, fields: Fields, header: memoryview, payload: memoryview) -> None:
        """Decode one response; its callback is called once the chunk has been handled."""
        correlation_id = fields[1]
        pending = self._pending.get(correlation_id)
        if pending is None:
            self._on_unexpected(correlation_id, header)
            return
        decode, on_response, api_key, stream = pending
        answer: Any
        try:
            answer = decode(header)
        except apis.DECODE_ERRORS:
            answer = apis.decode_response(api_key, header)
        if answer.error_code:
            answer = error_for(answer.error_code, answer.error_message)
            stream = False
        if not (stream and answer.partitions):
            del self._pending[correlation_id]
        self._ready.append((on_response, answer, payload))

    def on_broken_frame(self, fields: Fields, error: RaykafkaError) -> None:
        """The server sent sizes that cannot be, or more than this side takes."""
        raise ProtocolError(f"{self.endpoint} sent a frame that cannot be taken: {error}")

    def _on_unexpected(self, correlation_id: int, header: memoryview) -> None:
        if correlation_id == CONNECTION_ERROR_ID:
            failed = apis.decode_error(header)
            if failed is not None:
                raise error_for(failed.error_code, failed.error_message)
        if not 0 < correlation_id <= self._last_id:
            raise ProtocolError(f"{self.endpoint} answered request {correlation_id}, never sent")
        # An answer that nobody asked for (acks=0), or the late one of a call that was given up.

    def _dispatch(self) -> None:
        ready = self._ready
        while ready:
            on_response, answer, payload = ready.popleft()
            on_response(answer, payload)

    def _receive_meanwhile(self) -> None:
        """Take what comes in while a request cannot be sent: neither side may block the other."""
        received = self._socket.receive(self.get_buffer(-1), 0)
        if received:
            self.buffer_updated(received)

    def _abandon(self, correlation_id: int) -> None:
        """Throw the answer away if it still comes."""
        self._pending.pop(correlation_id, None)

    def _free_id(self, correlation_id: int) -> int:
        """The next correlation id, from the one given on, under which nothing is pending."""
        while correlation_id > MAX_CORRELATION_ID or correlation_id in self._pending:
            correlation_id = correlation_id + 1 if correlation_id < MAX_CORRELATION_ID else 1
        return correlation_id

    # --- end --------------------------------------------------------------------------------------

    def _lost(self, error: Exception) -> RaykafkaError:
        """End the connection because of ``error``; returns what is to be raised."""
        if isinstance(error, RaykafkaError):
            failure = error
        else:
            failure = ConnectionLostError(f"the connection to {self.endpoint} broke: {error}")
        self._end(failure)
        return self._failure or failure

    def _end(self, failure: RaykafkaError) -> None:
        if self._failure is not None:
            return
        self._failure = failure
        self._socket.close()
        self._carry = b""
        self._target = None
        self._dispatch()
        pending, self._pending = self._pending, {}
        for _, on_response, _, _ in pending.values():
            on_response(failure, NOTHING)
