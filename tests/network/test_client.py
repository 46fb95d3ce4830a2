"""The blocking client: time limits, lost connections, callbacks and answers that cannot be."""

from __future__ import annotations

import random
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import wire_samples
from wire_kit import PARK, SECRET, Echo, Running, produce, wait_until

from raykafka.actors.ports import ListenerSpec
from raykafka.errors import (
    ConnectionLostError,
    MessageTooLargeError,
    ProtocolError,
    RaykafkaError,
    RequestTimedOutError,
)
from raykafka.model import Endpoint
from raykafka.network.client import MAX_CORRELATION_ID, Connection
from raykafka.network.handshake import ServerHandshake
from raykafka.protocol import apis
from raykafka.protocol.framing import RESPONSE_PREFIX, response_head, split_request
from raykafka.protocol.messages import (
    ApiKey,
    FetchRequest,
    Message,
    MetadataRequest,
    ProduceRequest,
)

PRODUCE = ProduceRequest("t", 0, 1)


def send_until_it_fails(connection: Connection, on_response: Callable[..., None]) -> None:
    """Send more than any socket buffer holds."""
    for _ in range(100):
        connection.send(ApiKey.PRODUCE, PRODUCE, [bytes(1 << 20)], on_response)


def test_a_call_that_is_not_answered_in_time(running: Running, echo: Echo) -> None:
    connection = running.connect()
    started = time.monotonic()
    with pytest.raises(RequestTimedOutError, match="did not answer FETCH in 150 ms"):
        connection.call(ApiKey.FETCH, PARK, timeout_ms=150)
    assert 0.14 < time.monotonic() - started < 5
    assert connection.pending == 0
    assert not connection.closed
    late = echo.parked[0]
    running.run(lambda: late(apis.APIS[ApiKey.FETCH].response()))  # type: ignore[misc]
    assert produce(connection, [b"abc"]).base_offset == 3


@pytest.mark.parametrize("timeout_ms", [0, 1, 30])
def test_pump_returns_when_nothing_comes(running: Running, timeout_ms: int) -> None:
    connection = running.connect()
    started = time.monotonic()
    assert not connection.pump(timeout_ms)
    assert timeout_ms / 1000 * 0.9 <= time.monotonic() - started < 2


def test_pump_without_a_limit_waits_for_an_answer(running: Running, echo: Echo) -> None:
    connection = running.connect()
    got: list[object] = []
    connection.send(ApiKey.FETCH, PARK, (), lambda answer, _: got.append(answer))
    wait_until(lambda: echo.parked, "the parked fetch")
    waiter = threading.Thread(target=lambda: connection.pump(None), daemon=True)
    waiter.start()
    reply = echo.parked[0]
    running.run(lambda: reply(apis.APIS[ApiKey.FETCH].response()))  # type: ignore[misc]
    waiter.join(10)
    assert len(got) == 1


def test_descriptor_is_readable_when_an_answer_is_there(running: Running) -> None:
    connection = running.connect()
    assert select.select([connection], [], [], 0)[0] == []
    connection.send(ApiKey.PRODUCE, PRODUCE, (), lambda *_: None)
    assert select.select([connection], [], [], 10)[0] == [connection]
    assert connection.pump(0)


def test_interrupt_wakes_a_waiting_thread(running: Running) -> None:
    connection = running.connect()
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            connection.pump(None)
        except ConnectionLostError as error:
            errors.append(error)

    waiter = threading.Thread(target=wait, daemon=True)
    waiter.start()
    connection.interrupt()
    waiter.join(10)
    assert len(errors) == 1
    connection.interrupt()


def test_a_lost_connection_fails_every_callback_first(running: Running, echo: Echo) -> None:
    connection = running.connect()
    got: list[object] = []
    for _ in range(3):
        connection.send(ApiKey.FETCH, PARK, (), lambda answer, _: got.append(answer))
    wait_until(lambda: len(echo.parked) == 3, "the parked fetches")
    running.run(lambda: [each.abort() for each in running.state.connections])
    with pytest.raises(ConnectionLostError, match=str(running.endpoint)):
        connection.pump(10_000)
    assert len(got) == 3
    assert all(isinstance(each, ConnectionLostError) for each in got)
    assert connection.closed
    assert connection.pending == 0
    for use in (lambda: connection.pump(0), lambda: connection.send(ApiKey.PRODUCE, PRODUCE)):
        with pytest.raises(ConnectionLostError):
            use()


def test_close_fails_what_is_pending(running: Running) -> None:
    connection = running.connect()
    got: list[object] = []
    connection.send(ApiKey.FETCH, PARK, (), lambda answer, _: got.append(answer))
    connection.close()
    connection.close()
    assert isinstance(got[0], ConnectionLostError)
    with pytest.raises(ConnectionLostError, match="closed by this side"):
        connection.call(ApiKey.PRODUCE, PRODUCE, timeout_ms=10)


def test_a_failed_send_does_not_call_its_own_callback(running: Running) -> None:
    connection = running.connect()
    earlier: list[object] = []
    own: list[object] = []
    connection.send(ApiKey.FETCH, PARK, (), lambda answer, _: earlier.append(answer))
    running.run(lambda: [each.abort() for each in running.state.connections])
    wait_until(lambda: select.select([connection], [], [], 0)[0], "the end of the connection")
    huge = [bytes(64 << 20)]
    with pytest.raises(ConnectionLostError):
        connection.send(ApiKey.PRODUCE, PRODUCE, huge, lambda *_: own.append(1))
    assert len(earlier) == 1
    assert own == []


def test_callbacks_may_send(running: Running) -> None:
    connection = running.connect()
    sizes: list[int] = []

    def again(answer: Message | RaykafkaError, _: memoryview) -> None:
        sizes.append(answer.base_offset)  # type: ignore[union-attr]
        if len(sizes) < 5:
            body = [bytes(len(sizes) * 100_000)]
            connection.send(ApiKey.PRODUCE, PRODUCE, body, again)

    connection.send(ApiKey.PRODUCE, PRODUCE, [], again)
    while connection.pending:
        assert connection.pump(10_000)
    assert sizes == [0, 100_000, 200_000, 300_000, 400_000]


def test_a_failing_callback_loses_no_other_answer(running: Running) -> None:
    connection = running.connect()
    got: list[int] = []

    def fail(*_: object) -> None:
        raise ValueError("a bug of the owner")

    connection.send(ApiKey.PRODUCE, PRODUCE, [b"a"], fail)
    connection.send(
        ApiKey.PRODUCE,
        PRODUCE,
        [b"ab"],
        lambda answer, _: got.append(answer.base_offset),  # type: ignore[union-attr]
    )
    with pytest.raises(ValueError, match="a bug"):
        connection.pump(10_000)
    while connection.pending:
        assert connection.pump(10_000)
    assert got == [2]


def test_correlation_ids_start_over_and_skip_those_in_use(running: Running, echo: Echo) -> None:
    connection = running.connect()
    parked = connection.send(ApiKey.FETCH, PARK, (), lambda *_: None)
    connection._last_id = MAX_CORRELATION_ID - 1
    assert connection.send(ApiKey.PRODUCE, PRODUCE) == MAX_CORRELATION_ID
    used = [connection.send(ApiKey.PRODUCE, PRODUCE) for _ in range(5)]
    assert used == [number for number in range(1, 7) if number != parked]


@contextmanager
def server(serve: Callable[[socket.socket], None]) -> Iterator[Endpoint]:
    """A server that authenticates its one peer and then does what ``serve`` does."""
    spec = ListenerSpec("127.0.0.1", 0, "c-1", "node-1", 1, SECRET)

    def run() -> None:
        peer, _ = listener.accept()
        with peer:
            handshake = ServerHandshake(spec, [])
            while not handshake.role:
                size = peer.recv(4, socket.MSG_WAITALL)
                body = peer.recv(int.from_bytes(size, "big"), socket.MSG_WAITALL)
                request = split_request(size + body)
                answer = handshake.step(request.api_key, 0, request.header)
                peer.sendall(response_head(request.correlation_id, apis.encode(answer), 0))
            serve(peer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield Endpoint(*listener.getsockname())
        thread.join(10)
        assert not thread.is_alive()


@pytest.mark.parametrize(
    ("answer", "expected", "match"),
    [
        (response_head(3, b"\xc1", 0), ProtocolError, "answer to METADATA cannot be decoded"),
        (response_head(3, b"\x80", 0), ProtocolError, "answer to METADATA cannot be decoded"),
        (response_head(99, b"\x80", 0), ProtocolError, "answered request 99, never sent"),
        (response_head(-7, b"\x80", 0), ProtocolError, "answered request -7, never sent"),
        (response_head(-1, b"\x80", 0), ProtocolError, "answered request -1, never sent"),
        (RESPONSE_PREFIX.pack(-5, 3, 0), ProtocolError, "cannot be taken"),
        (RESPONSE_PREFIX.pack(100, 3, 99), ProtocolError, "does not fit"),
        (RESPONSE_PREFIX.pack(2000, 3, 4), ProtocolError, "the bound is 1000"),
        (RESPONSE_PREFIX.pack(2**31 - 1, 3, 4), ProtocolError, "the bound is 1000"),
        (b"\x00\x00", ConnectionLostError, "broke"),
    ],
)
def test_answers_that_cannot_be(answer: bytes, expected: type[RaykafkaError], match: str) -> None:
    def serve(peer: socket.socket) -> None:
        peer.recv(1 << 16)
        peer.sendall(answer)
        peer.shutdown(socket.SHUT_WR)
        peer.recv(1)

    with server(serve) as endpoint:
        connection = Connection(endpoint, SECRET, client_id="test", max_response_bytes=1000)
        got: list[object] = []
        connection.send(ApiKey.FETCH, PARK, (), lambda each, _: got.append(each))
        connection._pending.clear()  # so that the next request's id, 4, is not the one answered
        connection._last_id = 2
        with pytest.raises(expected, match=match):
            connection.call(ApiKey.METADATA, MetadataRequest(), timeout_ms=10_000)
        assert connection.closed


def test_fuzz_of_the_client() -> None:
    """Whatever an authenticated server sends: a value or a typed error, and in bounded time."""
    rng = random.Random(20_000)
    golden = [wire_samples.response_frame(key) for key in ApiKey]
    for _ in range(150):
        stream = bytearray(rng.choice([rng.randbytes(rng.randint(1, 300)), *golden]))
        stream[4:8] = rng.choice([3, 3, 3, 4, 2**31]).to_bytes(4, "big")
        for _ in range(rng.randint(0, 4)):
            at = rng.randrange(len(stream))
            stream[at : at + rng.randint(0, 3)] = rng.randbytes(rng.randint(0, 3)) or b"x"
        if rng.random() < 0.5:
            stream[:4] = max(0, len(stream) - 4).to_bytes(4, "big")

        def serve(peer: socket.socket, stream: bytes = bytes(stream)) -> None:
            peer.recv(1 << 16)
            peer.sendall(stream)

        with server(serve) as endpoint:
            connection = Connection(endpoint, SECRET, client_id="test", max_response_bytes=4096)
            key = rng.choice([ApiKey.METADATA, ApiKey.FETCH, ApiKey.PRODUCE])
            request = wire_samples.REQUESTS[key][0]
            try:
                answer, _ = connection.call(key, request, timeout_ms=10_000)
            except RaykafkaError:
                pass
            else:
                assert isinstance(answer, Message)
            connection.close()


def test_responses_are_bounded(running: Running) -> None:
    connection = running.connect(max_response_bytes=100_000)
    request = FetchRequest([], min_bytes=1 << 20, max_bytes=1 << 20)
    with pytest.raises(ProtocolError, match="the bound is 100000"):
        connection.call(ApiKey.FETCH, request, timeout_ms=10_000)
    assert connection.closed


def test_a_server_that_stops_reading_and_answering_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("raykafka.network.socket_io.SEND_STALL_MS", 200)
    done = threading.Event()
    with server(lambda peer: done.wait(10) and None) as endpoint:
        connection = Connection(endpoint, SECRET, client_id="test")
        with pytest.raises(ConnectionLostError, match="took no byte"):
            send_until_it_fails(connection, lambda *_: None)
        done.set()


def test_a_frame_too_large_for_its_size_field(running: Running) -> None:
    connection = running.connect()
    with pytest.raises(MessageTooLargeError):
        connection.send(ApiKey.PRODUCE, PRODUCE, [memoryview(bytes(1 << 20))] * 2048)
    assert connection.pending == 0
    assert produce(connection, [b"abc"]).base_offset == 3
