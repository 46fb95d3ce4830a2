"""What simulated clients share: where the controller is, who leads, and their connections."""

from __future__ import annotations

import asyncio
from typing import Final, NamedTuple

from raykafka.actors.ports import ClusterAccess, PeerConnection
from raykafka.errors import (
    ConnectionLostError,
    LeaderNotAvailableError,
    NetworkError,
    NotControllerError,
    RaykafkaError,
    RequestTimedOutError,
    error_for,
)
from raykafka.model import Endpoint
from raykafka.protocol.messages import (
    ApiKey,
    Message,
    MetadataRequest,
    MetadataResponse,
    TopicInfo,
)
from raykafka.testing.simulation.hosts import Process
from raykafka.testing.simulation.network import Network, SimulatedConnector

CONNECT_S: Final = 1.0
CALL_S: Final = 2.0


class Bootstrap:
    """Where the controller was last said to be; the endpoint file, in production."""

    def __init__(self) -> None:
        self.access: ClusterAccess | None = None

    def learn(self, access: ClusterAccess) -> None:
        """A controller says where it and the others are."""
        self.access = access


class Leader(NamedTuple):
    """A connection to the leader of a partition, and the epoch it is believed to lead in."""

    connection: PeerConnection
    topic_id: str
    epoch: int


class Link:
    """Metadata and connections of one client."""

    def __init__(
        self, network: Network, process: Process, bootstrap: Bootstrap, topic: str
    ) -> None:
        self.process = process
        self.topic = topic
        self._bootstrap = bootstrap
        self._connector = SimulatedConnector(network, process, role="client")
        self._connections: dict[Endpoint, PeerConnection] = {}
        self._metadata: TopicInfo | None = None
        self._refreshing = asyncio.Lock()
        self._active: Endpoint | None = None
        """The controller that answered last."""

    async def leader(self, partition: int) -> Leader:
        """Connect to who leads; raises ``RaykafkaError`` while nobody can be reached."""
        async with self._refreshing:
            if self._metadata is None:
                self._metadata = await self._fetch_metadata()
        topic = self._metadata
        if topic is None:
            raise LeaderNotAvailableError("the metadata have just been found to be old")
        found = topic.partitions[partition]
        if found.leader_id < 0 or not found.port:
            self._metadata = None
            raise LeaderNotAvailableError(f"partition {partition} has no leader now")
        connection = await self._connection(Endpoint(found.host, found.port))
        return Leader(connection, topic.topic_id, found.leader_epoch)

    async def ask_controller(self, api_key: ApiKey, request: Message) -> Message:
        """One request to the controller; raises what it answers, or that it cannot be reached."""
        access = self._bootstrap.access
        if access is None:
            raise NetworkError("no controller is known")
        endpoints = list(access.controllers or (access.controller,))
        if self._active in endpoints:
            endpoints.remove(self._active)
            endpoints.insert(0, self._active)
        problem: RaykafkaError = NetworkError("no controller can be reached")
        for endpoint in endpoints:
            try:
                answer = await self._ask(endpoint, api_key, request)
            except (NotControllerError, ConnectionLostError, RequestTimedOutError) as error:
                problem = error
            else:
                self._active = endpoint
                return answer
        raise problem

    async def _ask(self, endpoint: Endpoint, api_key: ApiKey, request: Message) -> Message:
        connection = await self._connection(endpoint)
        try:
            return await connection.call(api_key, request, timeout_s=CALL_S)
        except RequestTimedOutError:
            connection.close()
            raise

    def forget(self) -> None:
        """Look for the leaders anew."""
        self._metadata = None

    async def pause(self) -> None:
        """Wait a little before the next attempt."""
        await asyncio.sleep(self.process.world.delay(0.02, 0.3))

    async def _fetch_metadata(self) -> TopicInfo:
        response = await self.ask_controller(ApiKey.METADATA, MetadataRequest([self.topic]))
        assert isinstance(response, MetadataResponse)
        [topic] = response.topics
        if topic.error_code:
            raise error_for(topic.error_code, topic.error_message)
        return topic

    async def _connection(self, endpoint: Endpoint) -> PeerConnection:
        access = self._bootstrap.access
        assert access is not None
        connection = self._connections.get(endpoint)
        if connection is None or connection.closed:
            connection = await self._connector(
                endpoint, access.secret, client_id=self.process.name, timeout_s=CONNECT_S
            )
            self._connections[endpoint] = connection
        return connection
