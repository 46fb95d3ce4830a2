"""An actor's connection to another actor: the handshake as a broker, answers, streams, ends."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest

from raykafka.errors import (
    ClusterAuthorizationFailedError,
    ConnectionLostError,
    RaykafkaError,
    RequestTimedOutError,
    UnknownTopicOrPartitionError,
)
from raykafka.model import Endpoint
from raykafka.network.peer import connect
from raykafka.protocol.messages import (
    ApiKey,
    FetchedPartition,
    FetchRequest,
    FetchResponse,
    Message,
    MetadataRequest,
    MetadataResponse,
    ProduceRequest,
    ProduceResponse,
)
from tests.kits.wire_kit import SECRET, Echo, Running

TIMEOUT_S = 5.0


def run(running: Running, scenario: Callable[[Endpoint], Any]) -> Any:
    """Run a coroutine on the listener's own loop, as an actor does that talks to itself."""
    return asyncio.run_coroutine_threadsafe(scenario(running.endpoint), running.loop).result(30)


def test_a_peer_proves_to_be_a_broker_and_gets_answers(running: Running) -> None:
    async def scenario(endpoint: Endpoint) -> Message:
        peer = await connect(endpoint, SECRET, client_id="peer", timeout_s=TIMEOUT_S)
        answer = await peer.call(ApiKey.METADATA, MetadataRequest(), timeout_s=TIMEOUT_S)
        peer.close()
        assert peer.closed
        return answer

    answer = run(running, scenario)
    assert isinstance(answer, MetadataResponse)
    assert answer.cluster_id == "role broker"


@pytest.mark.parametrize("size", [0, 10, 30_000, 300_000, 3_000_000])
def test_payloads_go_both_ways(running: Running, size: int) -> None:
    async def scenario(endpoint: Endpoint) -> tuple[int, int]:
        peer = await connect(endpoint, SECRET, client_id="peer", timeout_s=TIMEOUT_S)
        produced = asyncio.get_running_loop().create_future()
        request = ProduceRequest("t", 0, 0)
        parts = [b"x" * (size // 2), b"y" * (size - size // 2)]
        peer.send(ApiKey.PRODUCE, request, parts, lambda answer, _: produced.set_result(answer))
        fetched = asyncio.get_running_loop().create_future()
        fetch = FetchRequest([], max_bytes=max(size, 1), min_bytes=max(size, 1))
        peer.send(ApiKey.FETCH, fetch, (), lambda _, payload: fetched.set_result(payload))
        answer = await produced
        payload = await fetched
        peer.close()
        assert isinstance(answer, ProduceResponse)
        return answer.base_offset, len(payload)

    assert run(running, scenario) == (size, max(size, 1))


def test_a_stream_goes_on_until_it_is_forgotten(running: Running, echo: Echo) -> None:
    async def scenario(endpoint: Endpoint) -> list[int]:
        peer = await connect(endpoint, SECRET, client_id="peer", timeout_s=TIMEOUT_S)
        got: asyncio.Queue[Message | RaykafkaError] = asyncio.Queue()
        request = FetchRequest([], max_wait_ms=99)
        session = peer.send(
            ApiKey.FETCH, request, (), lambda answer, _: got.put_nowait(answer), stream=True
        )
        await peer.call(ApiKey.METADATA, MetadataRequest(), timeout_s=TIMEOUT_S)
        reply = echo.parked[0]
        seen = []
        for number in range(3):
            reply(FetchResponse([FetchedPartition("t", number)]))
            answer = await got.get()
            assert isinstance(answer, FetchResponse)
            seen.append(answer.partitions[0].partition)
        peer.forget(session)
        reply(FetchResponse([FetchedPartition("t", 9)]))
        await peer.call(ApiKey.METADATA, MetadataRequest(), timeout_s=TIMEOUT_S)
        assert got.empty()
        peer.close()
        return seen

    assert run(running, scenario) == [0, 1, 2]


def test_errors_and_timeouts_of_a_call(running: Running) -> None:
    async def scenario(endpoint: Endpoint) -> None:
        peer = await connect(endpoint, SECRET, client_id="peer", timeout_s=TIMEOUT_S)
        with pytest.raises(UnknownTopicOrPartitionError):
            await peer.call(ApiKey.PRODUCE, ProduceRequest("t", 0, 404), timeout_s=TIMEOUT_S)
        with pytest.raises(RequestTimedOutError):
            await peer.call(ApiKey.FETCH, FetchRequest([], max_wait_ms=99), timeout_s=0.01)
        peer.close()
        with pytest.raises(ConnectionLostError):
            peer.send(ApiKey.METADATA, MetadataRequest())

    run(running, scenario)


def test_who_waits_hears_of_the_end_once(running: Running) -> None:
    async def scenario(endpoint: Endpoint) -> list[Any]:
        peer = await connect(endpoint, SECRET, client_id="peer", timeout_s=TIMEOUT_S)
        heard: list[Any] = []
        ended = asyncio.Event()
        peer.on_close(ended.set)
        request = FetchRequest([], max_wait_ms=99)
        peer.send(ApiKey.FETCH, request, (), lambda answer, _: heard.append(answer), stream=True)
        await peer.call(ApiKey.METADATA, MetadataRequest(), timeout_s=TIMEOUT_S)
        running.state.close()
        await ended.wait()
        peer.close()
        return heard

    heard = run(running, scenario)
    assert [type(error) for error in heard] == [ConnectionLostError]


def test_a_wrong_secret_and_a_closed_port_are_refused(running: Running) -> None:
    async def scenario(endpoint: Endpoint) -> None:
        with pytest.raises(ClusterAuthorizationFailedError):
            await connect(endpoint, b"z" * 32, client_id="peer", timeout_s=TIMEOUT_S)
        with pytest.raises(ConnectionLostError):
            await connect(Endpoint("127.0.0.1", 1), SECRET, client_id="peer", timeout_s=TIMEOUT_S)

    run(running, scenario)


def test_a_listener_that_says_nothing_is_given_up(running: Running) -> None:
    async def scenario(_: Endpoint) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            port = silent.getsockname()[1]
            with pytest.raises(ConnectionLostError):
                await connect(Endpoint("127.0.0.1", port), SECRET, client_id="peer", timeout_s=0.05)

    run(running, scenario)
