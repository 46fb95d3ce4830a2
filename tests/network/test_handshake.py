"""Strangers stay outside: every way to get past the secret is refused, and nothing leaks."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from wire_kit import SECRET, Echo, RawPeer, Running, frame, produce, running_listener, wait_until

from raykafka.actors.ports import ListenerLimits
from raykafka.errors import (
    ClusterAuthorizationFailedError,
    ConnectionLostError,
    InvalidRequestError,
    ProtocolError,
    RaykafkaError,
    ServerBusyError,
    UnsupportedVersionError,
)
from raykafka.model import Endpoint
from raykafka.network.client import Connection
from raykafka.network.handshake import ClientHandshake
from raykafka.protocol import apis, auth
from raykafka.protocol.framing import response_head
from raykafka.protocol.messages import (
    ApiKey,
    AuthenticateRequest,
    AuthenticateResponse,
    ErrorResponse,
    HelloRequest,
    HelloResponse,
    MetadataRequest,
    MetadataResponse,
    ProduceRequest,
)

REFUSED = ClusterAuthorizationFailedError.code


@pytest.mark.parametrize("role", ["client", "broker"])
def test_the_proven_role_reaches_the_handler(running: Running, role: str) -> None:
    connection = running.connect(role=role)
    answer, _ = connection.call(ApiKey.METADATA, MetadataRequest(), timeout_ms=10_000)
    assert isinstance(answer, MetadataResponse)
    assert answer.cluster_id == f"role {role}"


def test_wrong_secret(running: Running) -> None:
    with pytest.raises(ClusterAuthorizationFailedError, match="another secret") as caught:
        running.connect(secret=b"x" * 32)
    assert "xxxx" not in str(caught.value)


def test_the_answer_to_a_wrong_proof_takes_a_while(running: Running) -> None:
    started = time.monotonic()
    with pytest.raises(ClusterAuthorizationFailedError):
        running.connect(secret=b"x" * 32)
    assert time.monotonic() - started > 0.09


def test_a_flood_of_wrong_proofs_is_one_line_in_the_log(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        with pytest.raises(ClusterAuthorizationFailedError):
            running.connect(secret=b"x" * 32)
    running.run(running.state.sweep)
    lines = [line for line in caplog.messages if "refused" in line]
    assert len(lines) <= 2  # the listener sweeps by itself, too
    assert "the proof as client does not hold" in lines[-1]


def test_a_replayed_proof_is_worth_nothing(running: Running) -> None:
    with RawPeer(running.endpoint) as first, RawPeer(running.endpoint) as second:
        handshake = ClientHandshake.answer(first.hello(), SECRET, "client")
        first.request(ApiKey.AUTHENTICATE, handshake.request)
        first.response()
        second.hello()
        second.request(ApiKey.AUTHENTICATE, handshake.request)
        assert second.error()[1].error_code == REFUSED
        assert second.is_closed()


def test_a_clients_proof_is_not_a_brokers(running: Running) -> None:
    with RawPeer(running.endpoint) as peer:
        request = ClientHandshake.answer(peer.hello(), SECRET, "client").request
        forged = AuthenticateRequest(request.nonce, request.proof, "broker")
        peer.request(ApiKey.AUTHENTICATE, forged)
        assert peer.error()[1].error_code == REFUSED


def test_the_servers_own_key_opens_nothing(running: Running) -> None:
    with RawPeer(running.endpoint) as peer:
        hello = peer.hello()
        nonce = bytes(32)
        words = auth.Words("client", "c-1", "node-1", 1, hello.challenge, nonce)
        request = AuthenticateRequest(nonce, auth.server_proof(SECRET, words), "client")
        peer.request(ApiKey.AUTHENTICATE, request)
        assert peer.error()[1].error_code == REFUSED


@pytest.mark.parametrize(
    "request_",
    [
        AuthenticateRequest(bytes(32), bytes(32), "server"),
        AuthenticateRequest(bytes(32), bytes(32), ""),
        AuthenticateRequest(b"", bytes(32)),
        AuthenticateRequest(bytes(33), bytes(32)),
    ],
)
def test_malformed_proofs(running: Running, request_: AuthenticateRequest) -> None:
    with RawPeer(running.endpoint) as peer:
        peer.hello()
        peer.request(ApiKey.AUTHENTICATE, request_)
        assert peer.error()[1].error_code == InvalidRequestError.code
        assert peer.is_closed()


def test_there_is_one_try_per_connection(running: Running) -> None:
    with RawPeer(running.endpoint) as peer:
        hello = peer.hello()
        wrong = ClientHandshake.answer(hello, b"wrong", "client").request
        right = ClientHandshake.answer(hello, SECRET, "client").request
        both = frame(ApiKey.AUTHENTICATE, wrong) + frame(ApiKey.AUTHENTICATE, right, number=2)
        peer.send(both + frame(ApiKey.PRODUCE, ProduceRequest("t", 0, 1), number=3))
        assert peer.error()[1].error_code == REFUSED
        with pytest.raises(ConnectionError):
            peer.response()


def test_nothing_is_served_before_the_proof(running: Running, echo: Echo) -> None:
    for first in (b"", frame(ApiKey.HELLO, HelloRequest())):
        with RawPeer(running.endpoint) as peer:
            peer.send(first + frame(ApiKey.PRODUCE, ProduceRequest("t", 0, 1), number=9))
            if first:
                peer.response()
            number, error = peer.error()
            assert (number, error.error_code) == (9, REFUSED)
            assert peer.is_closed()
    assert echo.requests == 0


def test_steps_out_of_turn(running: Running) -> None:
    handshake = AuthenticateRequest(bytes(32), bytes(32))
    for frames in (
        [frame(ApiKey.AUTHENTICATE, handshake)],
        [frame(ApiKey.HELLO, HelloRequest()), frame(ApiKey.HELLO, HelloRequest())],
    ):
        with RawPeer(running.endpoint) as peer:
            peer.send(b"".join(frames))
            for _ in frames[1:]:
                peer.response()
            assert peer.error()[1].error_code == REFUSED


def test_a_second_handshake_on_a_connection_is_not_served(running: Running) -> None:
    with RawPeer(running.endpoint).authenticate() as peer:
        peer.request(ApiKey.HELLO, HelloRequest(), number=5)
        assert peer.error() == (
            5,
            ErrorResponse(
                UnsupportedVersionError.code,
                "node-1 does not serve api key 20000; refresh the metadata",
            ),
        )


def test_unknown_version_of_hello(running: Running) -> None:
    with RawPeer(running.endpoint) as peer:
        peer.request(ApiKey.HELLO, HelloRequest(), version=3)
        assert peer.error()[1].error_code == UnsupportedVersionError.code
        assert peer.is_closed()


def test_frames_are_small_until_the_proof(running: Running) -> None:
    with RawPeer(running.endpoint) as peer:
        peer.request(ApiKey.HELLO, HelloRequest("n" * 4000))
        peer.response()
    with RawPeer(running.endpoint) as peer:
        peer.request(ApiKey.HELLO, HelloRequest("n" * 4096))
        assert peer.is_closed()


def test_half_open_connections_are_dropped(echo: Echo) -> None:
    with running_listener(echo.handlers(), authentication_timeout_s=0.2) as running:
        done = running.connect()
        hello = frame(ApiKey.HELLO, HelloRequest())
        for begin in (b"", hello[:1], hello[:-1], hello):
            with RawPeer(running.endpoint) as peer:
                peer.send(begin)
                assert peer.is_closed()
        assert produce(done, [b"abc"]).base_offset == 3
        assert running.listener.connection_count == 1


def test_dripping_bytes_does_not_buy_time(echo: Echo) -> None:
    with (
        running_listener(echo.handlers(), authentication_timeout_s=0.3) as running,
        RawPeer(running.endpoint, timeout_s=0.01) as peer,
    ):
        started = time.monotonic()
        for byte in frame(ApiKey.HELLO, HelloRequest("n" * 4000)):
            peer.send(bytes([byte]))
            if peer.is_closed():
                break
        assert time.monotonic() - started < 5


def test_too_many_connections(echo: Echo) -> None:
    limits = ListenerLimits(max_connections=3)
    with running_listener(echo.handlers(), limits=limits) as running:
        connections = [running.connect() for _ in range(3)]
        for _ in range(5):
            with pytest.raises(ServerBusyError, match=r"3 connections are open already"):
                running.connect()
        assert produce(connections[0], [b"abc"]).base_offset == 3
        connections.pop().close()
        wait_until(lambda: running.listener.connection_count == 2, "the close")
        running.connect()


def test_strangers_do_not_shut_others_out(echo: Echo, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever says nothing makes room for the next one; who knows the secret gets in meanwhile."""
    monkeypatch.setattr("raykafka.network.listening.MAX_STRANGERS", 20)
    limits = ListenerLimits(max_connections=2)
    with running_listener(echo.handlers(), limits=limits) as running:
        strangers = [RawPeer(running.endpoint) for _ in range(100)]
        inside = running.connect()
        assert produce(inside, [b"abc"]).base_offset == 3
        assert len(running.state.strangers) <= 20
        assert strangers[0].is_closed()
        assert len(running.state.connections) <= 22
        for peer in strangers:
            peer.socket.close()
        wait_until(lambda: not running.state.strangers, "the end of the strangers")


@contextmanager
def impostor(*answers: bytes) -> Iterator[Endpoint]:
    """A server that answers each frame it gets with the next of ``answers``."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            peer, _ = server.accept()
            with peer:
                for answer in answers:
                    size = int.from_bytes(peer.recv(4, socket.MSG_WAITALL), "big")
                    peer.recv(size, socket.MSG_WAITALL)
                    peer.sendall(answer)
                peer.recv(1)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        host, port = server.getsockname()
        yield Endpoint(host, port)
        thread.join(10)


HELLO = HelloResponse("c-1", "node-1", 1, bytes(32), [])


def _frames(*messages: HelloResponse | AuthenticateResponse) -> list[bytes]:
    frames = []
    for number, message in enumerate(messages, 1):
        header = apis.encode(message)
        frames.append(response_head(number, header, 0))
    return frames


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (_frames(HELLO, AuthenticateResponse(bytes(32))), ClusterAuthorizationFailedError),
        (_frames(HELLO, AuthenticateResponse()), ClusterAuthorizationFailedError),
        (_frames(HelloResponse("c", "n", 1, b"short", [])), ProtocolError),
        ([response_head(2, b"\x80", 0)], ProtocolError),
        ([response_head(1, b"\xc1", 0)], ProtocolError),
        ([b"HTTP/1.1 400 Bad Request\r\n\r\n"], ProtocolError),
        ([b"\xff\xff\xff\xff" * 4], ProtocolError),
        ([b""], ConnectionLostError),
    ],
)
def test_servers_that_are_not_of_the_cluster(
    answers: list[bytes], expected: type[RaykafkaError]
) -> None:
    with impostor(*answers) as endpoint, pytest.raises(expected):
        Connection(endpoint, SECRET, client_id="test", connect_timeout_ms=300)


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        host, port = server.getsockname()
    with pytest.raises(ConnectionLostError, match=f"cannot connect to {host}:{port}"):
        Connection(Endpoint(host, port), SECRET, client_id="test")


def test_a_listener_that_does_not_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        host, port = server.getsockname()
        started = time.monotonic()
        with pytest.raises(ConnectionLostError, match="did not answer in 200 ms"):
            Connection(Endpoint(host, port), SECRET, client_id="test", connect_timeout_ms=200)
        assert 0.15 < time.monotonic() - started < 5
