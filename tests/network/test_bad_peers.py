"""Garbage, half frames, lying sizes and slow peers disturb nobody and cost nothing."""

from __future__ import annotations

import os
import random
import socket
import struct

import pytest
import wire_samples
from wire_kit import Echo, RawPeer, Running, frame, produce, running_listener, wait_until

from raykafka.actors.ports import ListenerLimits
from raykafka.errors import MessageTooLargeError, ProtocolError
from raykafka.protocol.framing import CONNECTION_ERROR_ID, REQUEST_PREFIX
from raykafka.protocol.messages import ApiKey, FetchRequest, HelloRequest, ProduceRequest

PRODUCE = ProduceRequest("t", 0, 1)

GARBAGE = {
    "http": b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: x\r\n\r\n",
    "tls": bytes.fromhex("16030100c8010000c40303") + bytes(200),
    "ssh": b"SSH-2.0-OpenSSH_9.2\r\n" + bytes(40),
    "zeros": bytes(64),
    "ones": b"\xff" * 64,
    "negative size": REQUEST_PREFIX.pack(-1, 20000, 0, 1, 0),
    "smallest size": REQUEST_PREFIX.pack(-(2**31), 20000, 0, 1, 0),
    "size below the fixed part": REQUEST_PREFIX.pack(11, 20000, 0, 1, 0),
    "2 GiB announced": REQUEST_PREFIX.pack(2**31 - 1, 20000, 0, 1, 4),
    "header larger than the frame": REQUEST_PREFIX.pack(20, 20000, 0, 1, 9) + bytes(20),
    "4 GiB of header": REQUEST_PREFIX.pack(100, 20000, 0, 1, 2**32 - 1) + bytes(100),
}


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_from_a_stranger_ends_its_connection(running: Running, name: str) -> None:
    inside = running.connect()
    with RawPeer(running.endpoint) as peer:
        peer.send(GARBAGE[name])
        assert peer.is_closed()
    assert produce(inside, [b"abc"]).base_offset == 3


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_from_a_known_peer_is_named_before_the_end(running: Running, name: str) -> None:
    inside = running.connect()
    with RawPeer(running.endpoint).authenticate() as peer:
        peer.send(GARBAGE[name] + os.urandom(100_000))
        number, error = peer.error()
        assert number == CONNECTION_ERROR_ID
        assert error.error_code in (MessageTooLargeError.code, ProtocolError.code)
        assert peer.is_closed()
    assert produce(inside, [b"abc"]).base_offset == 3


def test_a_connection_error_reaches_the_clients_callbacks(echo: Echo) -> None:
    limits = ListenerLimits(max_request_bytes=10_000)
    with running_listener(echo.handlers(), limits=limits) as running:
        connection = running.connect()
        connection._max_request_bytes = 0  # as if the client had not been told
        answers: list[object] = []
        connection.send(
            ApiKey.FETCH,
            FetchRequest([], max_wait_ms=99),
            (),
            lambda *each: answers.append(each[0]),
        )
        with pytest.raises(MessageTooLargeError, match="the bound is 10000"):
            produce(connection, [bytes(20_000)])
        assert connection.closed
        assert isinstance(answers[0], MessageTooLargeError)


def test_frames_byte_by_byte(running: Running) -> None:
    whole = frame(ApiKey.PRODUCE, PRODUCE, payload=b"payload")
    with RawPeer(running.endpoint).authenticate() as peer:
        for _ in range(2):
            for byte in whole:
                peer.send(bytes([byte]))
            assert peer.response()[0] == 1


@pytest.mark.parametrize("payload_size", [0, 7, 31_000, 33_000, 65_520, 200_000])
@pytest.mark.parametrize("cut", [1, 3, 4, 15, 16, 17, 40, -1])
def test_frames_in_two_parts(running: Running, payload_size: int, cut: int) -> None:
    """Whatever the place of the cut, and with the next frame behind it."""
    payload = os.urandom(payload_size)
    stream = frame(ApiKey.PRODUCE, PRODUCE, number=1, payload=payload)
    at = cut % len(stream)
    stream += frame(ApiKey.PRODUCE, PRODUCE, number=2, payload=b"abc")
    with RawPeer(running.endpoint).authenticate() as peer:
        peer.send(stream[:at])
        running.run(lambda: None)  # the loop has taken the first part, or will as a part of it
        peer.send(stream[at:])
        assert [peer.response()[0] for _ in range(2)] == [1, 2]


def test_half_a_frame_then_silence(echo: Echo) -> None:
    with running_listener(echo.handlers(), stall_timeout_s=0.2) as running:
        idle = running.connect()
        whole = frame(ApiKey.PRODUCE, PRODUCE, payload=bytes(500_000))
        for size in (1, 10, 50, 1000, 300_000, len(whole) - 1):
            with RawPeer(running.endpoint).authenticate() as peer:
                peer.send(whole[:size])
                assert peer.is_closed()
        assert running.run(lambda: running.state.receiving_bytes) == 0
        assert produce(idle, [b"abc"]).base_offset == 3
        assert running.listener.connection_count == 1


def test_whole_frames_need_no_haste(echo: Echo) -> None:
    """A peer that has answered for its frames may be silent for as long as it likes."""
    with running_listener(echo.handlers()) as running, RawPeer(running.endpoint) as peer:
        peer.authenticate()
        whole = frame(ApiKey.PRODUCE, PRODUCE, payload=bytes(500_000))
        peer.send(whole[:100])
        wait_until(lambda: running.state.deadlines, "the deadline of half a frame")
        peer.send(whole[100:])
        peer.response()
        assert not running.run(lambda: dict(running.state.deadlines))


def test_announced_payloads_wait_for_each_other(echo: Echo) -> None:
    """Ten peers that announce 1 MB each do not get 10 MB at once where 2 MB are allowed."""
    limits = ListenerLimits(max_queued_bytes=2 << 20)
    with running_listener(echo.handlers(), limits=limits) as running:
        whole = frame(ApiKey.PRODUCE, PRODUCE, payload=bytes(1 << 20))
        peers = [RawPeer(running.endpoint).authenticate() for _ in range(10)]
        for peer in peers:
            peer.send(whole[:100_000])
        wait_until(lambda: len(running.state.waiting) == 8, "the wait of eight peers")
        assert running.state.receiving_bytes == 2 << 20
        for peer in peers:
            peer.send(whole[100_000:])
        for peer in peers:
            assert peer.response()[0] == 1
            peer.socket.close()
        assert running.run(lambda: running.state.receiving_bytes) == 0


def test_a_waiting_payload_goes_on_when_another_peer_is_gone(echo: Echo) -> None:
    limits = ListenerLimits(max_queued_bytes=1 << 20)
    with running_listener(echo.handlers(), limits=limits) as running:
        whole = frame(ApiKey.PRODUCE, PRODUCE, payload=bytes(1 << 20))
        first = RawPeer(running.endpoint).authenticate()
        first.send(whole[:100_000])
        wait_until(lambda: running.state.receiving_bytes, "the first payload")
        with RawPeer(running.endpoint).authenticate() as second:
            second.send(whole[:100_000])
            wait_until(lambda: running.state.waiting, "the wait of the second")
            first.socket.close()
            second.send(whole[100_000:])
            assert second.response()[0] == 1


def test_a_payload_over_the_budget_is_taken_when_it_is_alone(echo: Echo) -> None:
    limits = ListenerLimits(max_queued_bytes=1 << 20)
    with running_listener(echo.handlers(), limits=limits) as running:
        assert produce(running.connect(), [bytes(3 << 20)]).base_offset == 3 << 20


def test_a_reset_in_the_middle_of_a_payload(running: Running) -> None:
    with RawPeer(running.endpoint).authenticate() as peer:
        peer.send(frame(ApiKey.PRODUCE, PRODUCE, payload=bytes(1 << 20))[:500_000])
        wait_until(lambda: running.state.receiving_bytes, "the payload")
        linger = struct.pack("ii", 1, 0)
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    wait_until(lambda: not running.state.connections, "the end of the connection")
    assert running.run(lambda: running.state.receiving_bytes) == 0
    assert produce(running.connect(), [b"abc"]).base_offset == 3


def test_fuzz_of_a_running_listener(running: Running, echo: Echo) -> None:
    """Random and mutated frames, from strangers and from peers that are known."""
    rng = random.Random(20_000)
    inside = running.connect()
    golden = [wire_samples.request_frame(key) for key in ApiKey if key in running.state.routes]
    for turn in range(300):
        stream = bytearray(rng.choice([rng.randbytes(rng.randint(1, 400)), *golden, *golden]))
        for _ in range(rng.randint(0, 5)):
            at = rng.randrange(len(stream))
            stream[at : at + rng.randint(0, 3)] = rng.randbytes(rng.randint(0, 3)) or b"x"
        if rng.random() < 0.5 and len(stream) >= 4:
            stream[:4] = (len(stream) - 4).to_bytes(4, "big")
        with RawPeer(running.endpoint) as peer:
            if turn % 3:
                peer.authenticate()
            peer.send(bytes(stream))
        if turn % 20 == 0:
            assert produce(inside, [b"abc"]).base_offset == 3
    assert produce(inside, [b"abc"]).base_offset == 3
    wait_until(lambda: running.listener.connection_count == 1, "the end of all others")
    assert running.run(lambda: running.state.receiving_bytes) == 0
    assert running.run(lambda: set(running.state.deadlines)) == set()
    assert running.state.pool.held_bytes <= 1 << 20


def test_hello_as_a_last_word(running: Running) -> None:
    """A peer that closes at once after a request leaves nothing behind."""
    for _ in range(50):
        with RawPeer(running.endpoint) as peer:
            peer.request(ApiKey.HELLO, HelloRequest())
    running.connect()  # accepted after all the others
    wait_until(lambda: len(running.state.connections) == 1, "the end of the others")
    assert running.run(lambda: dict(running.state.deadlines)) == {}
