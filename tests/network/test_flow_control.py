"""Readers that do not keep up are held back by themselves; parked requests end with their peer."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest
from wire_kit import (
    PARK,
    PUSHED,
    Echo,
    RawPeer,
    Running,
    open_stream,
    produce,
    running_listener,
    wait_until,
)

from raykafka.actors.ports import ListenerLimits
from raykafka.errors import ConnectionLostError, IllegalStateError, RaykafkaError
from raykafka.network.serving import HIGH_WATER_BYTES, ServerConnection
from raykafka.protocol.messages import (
    ApiKey,
    FetchCreditRequest,
    FetchRequest,
    FetchResponse,
    Message,
    ProduceRequest,
)


def test_a_stream_is_answered_again_and_again(running: Running, echo: Echo) -> None:
    got: list[tuple[Message, memoryview]] = []
    connection, number, reply = open_stream(running, echo, got)
    assert reply.correlation_id == number
    for value in range(5):
        running.run(lambda value=value: reply(PUSHED, [bytes([value]) * 100]))  # type: ignore[misc]
    while len(got) < 5:
        assert connection.pump(10_000)
    assert [payload[0] for _, payload in got] == [0, 1, 2, 3, 4]
    assert connection.pending == 1
    connection.send(ApiKey.FETCH_CREDIT, FetchCreditRequest(number, close=True))
    wait_until(lambda: echo.credits, "the credit")
    assert echo.credits == [FetchCreditRequest(number, close=True)]
    running.run(lambda: reply(FetchResponse()))
    assert connection.pump(10_000)
    assert connection.pending == 0
    assert got[-1][0] == FetchResponse()
    assert produce(connection, [b"abc"]).base_offset == 3


def test_only_fetch_can_be_a_stream(running: Running) -> None:
    connection = running.connect()
    with pytest.raises(IllegalStateError, match="PRODUCE is answered once"):
        connection.send(ApiKey.PRODUCE, ProduceRequest("t", 0, 1), stream=True)


def test_an_error_ends_a_stream(running: Running, echo: Echo) -> None:
    got: list[tuple[Any, memoryview]] = []
    connection, _, reply = open_stream(running, echo, got)
    running.run(lambda: reply(FetchResponse(error_code=6)))
    assert connection.pump(10_000)
    assert isinstance(got[0][0], RaykafkaError)
    assert got[0][0].code == 6
    assert connection.pending == 0


def test_streams_and_calls_share_a_connection(running: Running, echo: Echo) -> None:
    got: list[Any] = []
    connection, _, reply = open_stream(running, echo, got)
    running.run(lambda: [reply(PUSHED, [bytes(300_000)]) for _ in range(5)])
    assert produce(connection, [b"abc"]).base_offset == 3
    while len(got) < 5:
        assert connection.pump(10_000)
    assert all(len(payload) == 300_000 for _, payload in got)


def test_parked_requests_end_with_their_connection(running: Running, echo: Echo) -> None:
    connection = running.connect()
    numbers = [connection.send(ApiKey.FETCH, PARK, (), lambda *_: None) for _ in range(3)]
    wait_until(lambda: len(echo.parked) == 3, "the parked fetches")
    assert echo.parked[0].connection is echo.parked[1].connection
    assert not echo.parked[0].closed
    connection.close()
    wait_until(lambda: len(echo.ended) == 3, "the callbacks")
    assert echo.ended == numbers
    reply = echo.parked[0]
    assert reply.closed
    assert not reply.writable
    running.run(lambda: reply(PUSHED, [b"to nobody"]))
    late: list[int] = []
    running.run(lambda: reply.on_close(lambda: late.append(1)))
    assert late == [1]


def test_a_failing_callback_does_not_keep_the_others_waiting(
    running: Running, echo: Echo, caplog: pytest.LogCaptureFixture
) -> None:
    connection = running.connect()
    connection.send(ApiKey.FETCH, PARK, (), lambda *_: None)
    wait_until(lambda: echo.parked, "the parked fetch")
    ended: list[int] = []
    callbacks: list[Callable[[], object]] = [lambda: 1 // 0, lambda: ended.append(1)]
    for callback in callbacks:
        running.run(lambda callback=callback: echo.parked[0].on_close(callback))  # type: ignore[misc]
    connection.close()
    wait_until(lambda: ended, "the last callback")
    assert "ZeroDivisionError" in caplog.text


def small_buffers(peer: RawPeer) -> None:
    """Make the kernel keep little of what the peer does not read."""
    peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)


def test_a_slow_reader_is_not_writable_until_it_reads(running: Running, echo: Echo) -> None:
    with RawPeer(running.endpoint).authenticate() as peer:
        peer.request(ApiKey.FETCH, PARK, number=5)
        wait_until(lambda: echo.parked, "the parked fetch")
        reply = echo.parked[0]
        assert running.run(lambda: reply.writable)
        frames = 0
        while running.run(lambda: reply.writable):
            running.run(lambda: reply(PUSHED, [bytes(1 << 20)]))
            frames += 1
            assert frames < 100
        woken: list[int] = []
        running.run(lambda: reply.on_writable(lambda: woken.append(1)))
        assert woken == []
        for _ in range(frames):
            assert len(peer.response()[2]) == 1 << 20
        wait_until(lambda: woken, "the wake")
        assert running.run(lambda: reply.writable)
        assert running.state.queued_bytes == 0
        running.run(lambda: reply.on_writable(lambda: woken.append(2)))
        assert woken == [1, 2]


def test_requests_of_a_slow_reader_wait(running: Running, echo: Echo) -> None:
    """It is served again once it reads: nothing is lost, nothing piles up on the server."""
    inside = running.connect()
    with RawPeer(running.endpoint).authenticate() as peer:
        request = FetchRequest([], min_bytes=1 << 20, max_bytes=1 << 20)
        for number in range(60):
            peer.request(ApiKey.FETCH, request, number=number)
        wait_until(lambda: running.state.queued_bytes, "the back-pressure")
        assert produce(inside, [b"abc"]).base_offset == 3
        served = echo.requests
        assert served < 40
        assert running.state.queued_bytes <= HIGH_WATER_BYTES + (2 << 20)
        for number in range(60):
            answered, _, payload = peer.response()
            assert (answered, len(payload)) == (number, 1 << 20)
        assert running.run(lambda: running.state.queued_bytes) == 0


def test_the_slowest_reader_is_dropped_when_all_together_hold_too_much(echo: Echo) -> None:
    limits = ListenerLimits(max_queued_bytes=8 << 20)
    with running_listener(echo.handlers(), limits=limits) as running:
        inside = running.connect()
        with RawPeer(running.endpoint) as peer:
            small_buffers(peer)
            peer.authenticate()
            peer.request(ApiKey.FETCH, PARK)
            wait_until(lambda: echo.parked, "the parked fetch")
            reply = echo.parked[0]
            for _ in range(20):
                running.run(lambda: reply(PUSHED, [bytes(1 << 20)]))
            assert running.run(lambda: reply.closed)
            wait_until(lambda: echo.ended, "the callback")
            assert running.run(lambda: running.state.queued_bytes) == 0
            assert produce(inside, [b"abc"]).base_offset == 3


def test_both_sides_full(running: Running) -> None:
    """A client that sends more than fits while answers pile up has to read meanwhile."""
    connection = running.connect()
    got: list[int] = []
    request = FetchRequest([], min_bytes=1 << 20, max_bytes=1 << 20)
    for _ in range(12):
        connection.send(ApiKey.FETCH, request, (), lambda _, payload: got.append(len(payload)))
        connection.send(
            ApiKey.PRODUCE,
            ProduceRequest("t", 0, 1),
            [bytes(4 << 20)],
            lambda answer, _: got.append(answer.base_offset),  # type: ignore[union-attr]
        )
    while connection.pending:
        assert connection.pump(10_000)
    assert got == [1 << 20, 4 << 20] * 12


def test_closing_the_listener_ends_every_connection(echo: Echo) -> None:
    with running_listener(echo.handlers()) as running:
        connection = running.connect()
        got: list[Any] = []
        connection.send(ApiKey.FETCH, PARK, (), lambda answer, _: got.append(answer))
        wait_until(lambda: echo.parked, "the parked fetch")
    with pytest.raises(ConnectionLostError):
        connection.pump(10_000)
    assert isinstance(got[0], ConnectionLostError)
    assert len(echo.ended) == 1


def test_replies_know_their_connection(running: Running, echo: Echo) -> None:
    first, second = running.connect(), running.connect()
    for connection in (first, first, second):
        connection.send(ApiKey.FETCH, PARK, (), lambda *_: None)
    wait_until(lambda: len(echo.parked) == 3, "the parked fetches")
    identities = {reply.connection for reply in echo.parked}
    assert len(identities) == 2
    assert all(isinstance(each, ServerConnection) for each in identities)
