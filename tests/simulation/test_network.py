"""Connections between simulated machines, and what happens to them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from raykafka.actors.ports import ListenerSpec, PeerConnection, Reply
from raykafka.errors import (
    ClusterAuthorizationFailedError,
    ConnectionLostError,
    InvalidConfigError,
    RequestTimedOutError,
)
from raykafka.model import Endpoint
from raykafka.protocol.messages import (
    ApiKey,
    DescribeClusterRequest,
    DescribeClusterResponse,
    ProduceRequest,
    ProduceResponse,
)
from raykafka.testing.simulation.hosts import Host, Process
from raykafka.testing.simulation.network import Network, SimulatedConnector, SimulatedListener
from raykafka.testing.simulation.world import World

SECRET = b"s" * 32
ENDPOINT = Endpoint("10.0.0.1", 9000)


class Net:
    """A server and a client on two machines."""

    def __init__(self, seed: int = 1) -> None:
        self.world = World(seed)
        self.network = Network(self.world)
        self.hosts = [Host(self.world, n, f"10.0.0.{n + 1}") for n in range(2)]
        for host in self.hosts:
            self.network.add(host)
        self.server = self.serve()
        self.world.run(0.1)
        self.client = Process(self.world, self.hosts[1], "client")
        self.outcome: list[Any] = []
        self.requests: list[str] = []
        self.closed = 0

    def serve(self) -> Process:
        process = Process(self.world, self.hosts[0], "server")
        spec = ListenerSpec(ENDPOINT.host, ENDPOINT.port, "c", "server", 7, SECRET)
        handlers = {ApiKey.DESCRIBE_CLUSTER: self.describe, ApiKey.PRODUCE: self.produce}
        listener = SimulatedListener(self.network, process, spec, handlers)

        async def main() -> None:
            await listener.start()

        process.start(main)
        return process

    def describe(self, request: Any, payload: Any, reply: Reply) -> None:
        self.requests.append(reply.role)
        reply.on_close(self.count)
        reply(DescribeClusterResponse(cluster_name=f"answer {len(self.requests)}"))

    def produce(self, request: ProduceRequest, payload: Any, reply: Reply) -> None:
        if request.partition:
            raise InvalidConfigError("refused")
        payload[0] = 120  # a leader writes into what it has received
        reply(ProduceResponse(base_offset=len(bytes(payload))))

    def count(self) -> None:
        self.closed += 1

    async def connect(self, secret: bytes = SECRET) -> PeerConnection:
        connector = SimulatedConnector(self.network, self.client, "client")
        return await connector(ENDPOINT, secret, client_id="t", timeout_s=1.0)

    def run(self, body: Callable[[], Any], until: float = 60.0) -> list[Any]:
        """Run ``body`` in the client; its result, or what it raised, is the outcome."""

        async def main() -> None:
            try:
                self.outcome.append(await body())
            except Exception as error:  # noqa: BLE001
                self.outcome.append(error)

        self.client.start(main)
        self.world.run(self.world.now + until)
        assert not self.world.troubles
        return self.outcome


async def ask(connection: PeerConnection, timeout_s: float = 1.0) -> str:
    request = DescribeClusterRequest()
    answer = await connection.call(ApiKey.DESCRIBE_CLUSTER, request, timeout_s=timeout_s)
    assert isinstance(answer, DescribeClusterResponse)
    return answer.cluster_name


def test_a_request_is_answered() -> None:
    net = Net()

    async def body() -> Any:
        connection = await net.connect()
        return connection.hello.incarnation, await ask(connection)

    assert net.run(body) == [(7, "answer 1")]
    assert net.requests == ["client"]


def test_payloads_are_copies_that_the_server_may_write_into() -> None:
    net, mine = Net(), b"abc"

    async def body() -> Any:
        connection = await net.connect()
        answers: list[Any] = []
        for partition in (0, 1):
            request = ProduceRequest("t", partition, 1)
            connection.send(ApiKey.PRODUCE, request, [mine], lambda a, _: answers.append(a))
        await asyncio.sleep(0.1)
        return answers

    [[answer, refusal]] = net.run(body)
    assert answer == ProduceResponse(base_offset=3)
    assert isinstance(refusal, InvalidConfigError)
    assert mine == b"abc"


def test_a_wrong_secret_and_a_port_that_nobody_listens_on() -> None:
    net = Net()

    async def body() -> Any:
        with pytest.raises(ClusterAuthorizationFailedError):
            await net.connect(b"other")
        net.server.kill()
        with pytest.raises(ConnectionLostError, match="refused"):
            await net.connect()

    assert net.run(body) == [None]


def test_what_is_sent_into_a_cut_comes_after_it_has_healed_and_in_order() -> None:
    net = Net()
    a, b = net.hosts

    async def body() -> Any:
        connection = await net.connect()
        net.network.cut(b, a)
        answers: list[str] = []
        for _ in range(3):
            connection.send(
                ApiKey.DESCRIBE_CLUSTER,
                DescribeClusterRequest(),
                (),
                lambda answer, _: answers.append(getattr(answer, "cluster_name", "")),
            )
        with pytest.raises(RequestTimedOutError):
            await ask(connection)
        assert not net.requests
        net.network.heal()
        await asyncio.sleep(1)
        return answers

    assert net.run(body) == [["answer 1", "answer 2", "answer 3"]]


def test_a_cut_of_one_way_lets_the_other_one_through() -> None:
    net = Net()
    a, b = net.hosts

    async def body() -> Any:
        connection = await net.connect()
        net.network.cut(a, b)
        with pytest.raises(RequestTimedOutError):
            await ask(connection)
        return len(net.requests)

    assert net.run(body) == [1]


def test_a_killed_server_is_noticed_and_one_on_a_vanished_machine_is_not() -> None:
    net = Net()

    async def body() -> Any:
        connection = await net.connect()
        net.server.kill()
        await asyncio.sleep(0.1)
        assert connection.closed
        net.server = net.serve()
        await asyncio.sleep(0.1)
        connection = await net.connect()
        await ask(connection)
        net.hosts[0].crash(power=False)
        await asyncio.sleep(30)
        assert not connection.closed
        net.hosts[0].boot()
        net.network.wake()
        connection.send(ApiKey.DESCRIBE_CLUSTER, DescribeClusterRequest())
        await asyncio.sleep(1)
        return connection.closed

    assert net.run(body) == [True]


def test_a_paused_server_accepts_and_says_nothing() -> None:
    net = Net()

    async def body() -> Any:
        connection = await net.connect()
        net.server.pause()
        with pytest.raises(RequestTimedOutError):
            await ask(connection)
        with pytest.raises(ConnectionLostError, match="did not answer"):
            await net.connect()
        net.server.resume()
        return await ask(connection)

    assert net.run(body) == ["answer 2"]


def test_a_dropped_connection_is_lost_on_both_ends() -> None:
    net = Net()

    async def body() -> Any:
        connection = await net.connect()
        await ask(connection)
        assert net.network.drop_connections(1) == 1
        await asyncio.sleep(0.1)
        with pytest.raises(ConnectionLostError):
            await ask(connection)
        return net.closed

    assert net.run(body) == [1]
