"""Requests and answers of every size over a real connection."""

from __future__ import annotations

import asyncio
import os

import pyarrow as pa
import pytest
from wire_kit import Echo, RawPeer, Running, frame, produce, running_listener, wait_until

from raykafka.actors.ports import ListenerLimits, ListenerSpec
from raykafka.errors import (
    IllegalStateError,
    InvalidConfigError,
    InvalidRequestError,
    MessageTooLargeError,
    NetworkError,
    UnknownServerError,
    UnknownTopicOrPartitionError,
    UnsupportedVersionError,
)
from raykafka.network.listening import IDLE_SWEEPS
from raykafka.network.server import TcpListener
from raykafka.protocol.messages import (
    ApiKey,
    DeleteTopicsRequest,
    FetchRequest,
    FetchResponse,
    MetadataRequest,
    MetadataResponse,
    ProduceRequest,
    ProduceResponse,
)

SIZES = [1, 700, 32 << 10, (32 << 10) + 1, 65_000, 65_536, 70_000, 1 << 20, (3 << 20) + 7]


def test_hello_says_who_answers(running: Running) -> None:
    hello = running.connect().hello
    assert (hello.cluster_id, hello.node, hello.incarnation) == ("c-1", "node-1", 1)
    assert hello.max_request_bytes == 100 << 20
    served = {each.api_key for each in hello.apis}
    assert served == {20000, 20001, *running.state.routes}


def test_payloads_of_every_size(running: Running) -> None:
    connection = running.connect()
    for size in SIZES:
        payload = os.urandom(size)
        answer = produce(connection, [payload])
        assert (answer.base_offset, answer.log_start_offset) == (size, payload[-1])


def test_scattered_payloads_arrive_in_order(running: Running, echo: Echo) -> None:
    echo.keep = True
    connection = running.connect()
    parts = [os.urandom(size) for size in (10, 0, 5000, 1 << 20, 3)]
    produce(connection, [bytearray(parts[0]), *parts[1:3], memoryview(parts[3]), parts[4]])
    many = [os.urandom(100) for _ in range(3000)]
    produce(connection, many)
    assert bytes(echo.kept[0]) == b"".join(parts)
    assert bytes(echo.kept[1]) == b"".join(many)


def test_buffers_of_other_item_sizes_are_counted_in_bytes(running: Running, echo: Echo) -> None:
    echo.keep = True
    payload = memoryview(os.urandom(80)).cast("Q")
    assert produce(running.connect(), [payload]).base_offset == 80
    assert bytes(echo.kept[0]) == payload.tobytes()


def test_arrow_buffers_are_sent_as_they_are(running: Running, echo: Echo) -> None:
    echo.keep = True
    parts = [os.urandom(size) for size in (300, 2_000_000)]
    produce(running.connect(), [pa.py_buffer(part) for part in parts])
    produce(running.connect(), [pa.py_buffer(parts[0])])
    assert [bytes(kept) for kept in echo.kept] == [b"".join(parts), parts[0]]


def test_a_kept_payload_is_never_written_over(running: Running, echo: Echo) -> None:
    """Receive buffers are used again, but not while a handler still looks at one."""
    echo.keep = True
    connection = running.connect()
    sent = [os.urandom(200_000) for _ in range(12)]
    for payload in sent:
        produce(connection, [payload])
    assert [bytes(kept) for kept in echo.kept] == sent
    assert not any(kept.readonly for kept in echo.kept)


def test_receive_memory_is_used_again_and_given_back(running: Running) -> None:
    connection = running.connect()
    for _ in range(20):
        produce(connection, [bytes(1 << 20)])
    assert 0 < running.state.pool.held_bytes <= 2 << 20
    for _ in range(IDLE_SWEEPS):
        running.run(running.state.sweep)
        produce(connection, [bytes(1 << 20)])
    assert running.state.pool.held_bytes
    for _ in range(IDLE_SWEEPS + 1):
        running.run(running.state.sweep)
    assert running.state.pool.held_bytes == 0


@pytest.mark.parametrize("chunk", [100, 3000, 1 << 20])
def test_responses_with_payloads(running: Running, chunk: int) -> None:
    connection = running.connect()
    for total in (chunk, 10 * chunk, 4 * chunk * ((1 << 20) // chunk)):
        request = FetchRequest([], min_bytes=chunk, max_bytes=total)
        answer, payload = connection.call(ApiKey.FETCH, request, timeout_ms=10_000)
        assert isinstance(answer, FetchResponse)
        assert answer.partitions[0].sizes == [total]
        assert payload == bytes(total)


def test_response_payloads_stay_valid(running: Running) -> None:
    connection = running.connect()
    request = FetchRequest([], min_bytes=1 << 20, max_bytes=1 << 20)
    payloads = []
    for value in range(6):
        _, payload = connection.call(ApiKey.FETCH, request, timeout_ms=10_000)
        payload[:] = bytes([value]) * len(payload)
        payloads.append(payload)
    assert [set(payload) for payload in payloads] == [{value} for value in range(6)]


def test_pipelined_requests_are_answered_in_order(running: Running) -> None:
    connection = running.connect()
    answers: list[int] = []
    for size in range(300):
        connection.send(
            ApiKey.PRODUCE,
            ProduceRequest("t", 0, 1),
            [bytes(size * 10)],
            lambda answer, _: answers.append(answer.base_offset),  # type: ignore[union-attr]
        )
    while connection.pending:
        assert connection.pump(10_000)
    assert answers == [size * 10 for size in range(300)]


def test_header_larger_than_the_receive_chunk(running: Running, echo: Echo) -> None:
    connection = running.connect()
    topics = ["t" * 200] * 2000
    answer, _ = connection.call(ApiKey.METADATA, MetadataRequest(topics), timeout_ms=10_000)
    assert isinstance(answer, MetadataResponse)
    request = ProduceRequest("t" * 100_000, 0, 1)
    answer, _ = connection.call(ApiKey.PRODUCE, request, [bytes(100_000)], timeout_ms=10_000)
    assert isinstance(answer, ProduceResponse)
    assert answer.base_offset == 100_000


def test_errors_of_handlers_reach_the_caller(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    connection = running.connect()
    with pytest.raises(UnknownTopicOrPartitionError, match="no such topic here"):
        produce(connection, leader_epoch=404)
    with pytest.raises(UnknownServerError, match="the server's log says why"):
        produce(connection, leader_epoch=500)
    wait_until(lambda: "ZeroDivisionError: a bug" in caplog.text, "the log line")
    assert produce(connection, [b"abc"]).base_offset == 3


def test_apis_that_are_not_served_here(running: Running) -> None:
    connection = running.connect()
    with pytest.raises(UnsupportedVersionError, match="node-1 does not serve api key 20009"):
        connection.call(ApiKey.DELETE_TOPICS, DeleteTopicsRequest(["t"]), timeout_ms=10_000)
    assert produce(connection, [b"abc"]).base_offset == 3


@pytest.mark.parametrize(
    ("key", "version"),
    [(20003, 1), (20003, -1), (20003, 32767), (0, 0), (18, 3), (-5, 0), (32767, 0)],
)
def test_unknown_keys_and_versions_are_answered_and_the_connection_goes_on(
    running: Running, key: int, version: int
) -> None:
    with RawPeer(running.endpoint).authenticate() as peer:
        peer.request(key, ProduceRequest("t", 0, 1), number=7, version=version, payload=b"x" * 99)
        number, error = peer.error()
        assert (number, error.error_code) == (7, UnsupportedVersionError.code)
        peer.request(ApiKey.PRODUCE, ProduceRequest("t", 0, 1), number=8)
        assert peer.response()[0] == 8


def test_payload_where_none_is_allowed(running: Running) -> None:
    with RawPeer(running.endpoint).authenticate() as peer:
        peer.request(ApiKey.METADATA, MetadataRequest(), number=7, payload=b"x")
        number, error = peer.error()
        assert (number, error.error_code) == (7, InvalidRequestError.code)
        assert "METADATA takes no payload" in error.error_message
        peer.request(ApiKey.METADATA, MetadataRequest(), number=8)
        assert peer.response()[0] == 8


def test_large_payload_where_none_is_allowed_is_not_received(running: Running) -> None:
    with RawPeer(running.endpoint).authenticate() as peer:
        whole = frame(ApiKey.METADATA, MetadataRequest(), number=7, payload=bytes(50 << 20))
        peer.send(whole[:100_000])
        number, error = peer.error()
        assert (number, error.error_code) == (7, InvalidRequestError.code)
        assert peer.is_closed()
    assert running.state.pool.held_bytes == 0


def test_a_header_that_cannot_be_decoded_does_not_end_the_connection(running: Running) -> None:
    with RawPeer(running.endpoint).authenticate() as peer:
        for number, header in enumerate([b"", b"\xc1", b"\x81\xa1x" + b"\x91" * 30_000]):
            size = 12 + len(header)
            peer.send(
                size.to_bytes(4, "big")
                + (20003).to_bytes(2, "big")
                + bytes(2)
                + number.to_bytes(4, "big")
                + len(header).to_bytes(4, "big")
                + header
            )
            answered, error = peer.error()
            assert (answered, error.error_code) == (number, InvalidRequestError.code)


def test_requests_that_the_listener_would_not_take_are_not_sent(echo: Echo) -> None:
    limits = ListenerLimits(max_request_bytes=100_000)
    with running_listener(echo.handlers(), limits=limits) as running:
        connection = running.connect()
        with pytest.raises(MessageTooLargeError, match="the bound is 100000"):
            produce(connection, [bytes(100_000)])
        assert connection.pending == 0
        assert produce(connection, [bytes(90_000)]).base_offset == 90_000


def test_acks_0_needs_no_answer(running: Running, echo: Echo) -> None:
    connection = running.connect()
    for _ in range(10):
        connection.send(ApiKey.PRODUCE, ProduceRequest("t", 0, 1, acks=0), [b"x"])
    assert connection.pending == 0
    assert produce(connection, [b"abc"]).base_offset == 3
    assert echo.requests == 11


def test_answers_that_nobody_asked_for_are_thrown_away(running: Running) -> None:
    connection = running.connect()
    connection.send(ApiKey.PRODUCE, ProduceRequest("t", 0, 1), [b"x"])
    assert produce(connection, [b"abc"]).base_offset == 3


def test_a_listener_needs_a_secret_and_an_address(running: Running) -> None:
    with pytest.raises(InvalidConfigError, match="secret"):
        TcpListener(ListenerSpec("127.0.0.1", 0, "c", "n", 1, b""), {})
    with pytest.raises(InvalidConfigError, match="address"):
        TcpListener(ListenerSpec("", 0, "c", "n", 1, b"s"), {})
    taken = ListenerSpec("127.0.0.1", running.endpoint.port, "c", "n", 1, b"s")
    with pytest.raises(NetworkError, match="cannot listen on"):
        _start(running, TcpListener(taken, {}))
    with pytest.raises(IllegalStateError):
        _start(running, running.listener)


def _start(running: Running, listener: TcpListener) -> None:
    asyncio.run_coroutine_threadsafe(listener.start(), running.loop).result(10)


def test_no_secret_in_texts(running: Running) -> None:
    spec = ListenerSpec("h", 0, "c", "n", 1, b"very-secret")
    connection = running.connect()
    texts = [repr(spec), str(spec), repr(connection), repr(TcpListener(spec, {}))]
    slots = [name for cls in type(connection).__mro__ for name in getattr(cls, "__slots__", ())]
    texts += [repr(getattr(connection, name, None)) for name in slots]
    assert not [text for text in texts if "secret" in text or repr(bytes(range(32)))[2:40] in text]
