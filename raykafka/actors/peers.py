"""Requests to other actors of the cluster, as a broker: listeners, leaders, the controller.

Connections are opened when they are needed and kept. What can be tried again is tried again, with
what the metadata say by then, until the caller's time is up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final

from raykafka.actors.metadata_cache import MetadataCache
from raykafka.actors.ports import Buffer, Connector, PeerConnection
from raykafka.actors.timeouts import cancel_all
from raykafka.clock import Clock
from raykafka.errors import (
    LeaderNotAvailableError,
    NotControllerError,
    NotLeaderOrFollowerError,
    RaykafkaError,
)
from raykafka.model import Endpoint
from raykafka.protocol.messages import ApiKey, Message
from raykafka.protocol.quorum_messages import DescribeQuorumRequest, DescribeQuorumResponse

_CONNECT_TIMEOUT_S: Final = 2.0
_LOOK_AGAIN_S: Final = 1.0
"""A leader that has not answered for so long may have been replaced."""
_FIRST_PAUSE_S: Final = 0.02
_LONGEST_PAUSE_S: Final = 0.5


class Peers:
    """Everybody that one actor talks to; everything on its loop."""

    def __init__(
        self,
        connector: Connector,
        secret: bytes,
        client_id: str,
        clock: Clock,
        controllers: Callable[[], Sequence[Endpoint]],
    ) -> None:
        """``controllers`` are the voters known now, the one that is probably active first."""
        self._connector = connector
        self._secret = secret
        self._client_id = client_id
        self._clock = clock
        self._controllers = controllers
        self._active: Endpoint | None = None
        self._connections: dict[Endpoint, PeerConnection] = {}
        self._connecting: dict[Endpoint, asyncio.Task[PeerConnection]] = {}
        self.view = MetadataCache(self.call_controller)
        """Topics and their leaders; ask it to ``refresh`` or to ``watch``."""

    async def close(self) -> None:
        """End every connection; callers that still wait get ``ConnectionLostError``."""
        await self.view.close()
        await cancel_all(self._connecting.values())
        while self._connections:
            self._connections.popitem()[1].close()

    async def call(
        self,
        endpoint: Endpoint,
        api_key: ApiKey,
        request: Message,
        payload: Sequence[Buffer] = (),
        *,
        timeout_s: float,
    ) -> Message:
        """One request to one listener; raises its error, or ``ConnectionLostError``."""
        connection = self._connections.get(endpoint)
        if connection is None or connection.closed:
            connection = await self._connect(endpoint)
        return await connection.call(api_key, request, payload, timeout_s=timeout_s)

    async def call_leader(
        self, topic: str, partition: int, api_key: ApiKey, request: Message, *, timeout_s: float
    ) -> Message:
        """One request to whoever leads the partition, with retries.

        Raises an error that another try does not help, or the last one after ``timeout_s``.
        """

        async def attempt(left_s: float) -> Message:
            endpoint = self.view.leader(topic, partition)
            if endpoint is None:
                raise LeaderNotAvailableError(f"nobody is known to lead {topic}-{partition}")
            calling = self.call(endpoint, api_key, request, timeout_s=left_s)
            return await self._unless_replaced(
                calling, lambda: self.view.leader(topic, partition) in (None, endpoint)
            )

        return await self._retried(attempt, self._refresh_quietly, timeout_s)

    async def call_controller(
        self, api_key: ApiKey, request: Message, *, timeout_s: float
    ) -> Message:
        """One request to the active controller, with retries; raises as ``call_leader`` does."""

        async def attempt(left_s: float) -> Message:
            failure: RaykafkaError = NotControllerError("no controller is known")
            for endpoint in self._voters():
                try:
                    answer = await self.call(endpoint, api_key, request, timeout_s=left_s)
                except RaykafkaError as error:
                    if not error.retriable:
                        raise
                    failure = error
                    if isinstance(error, NotControllerError):
                        await self._ask_who_leads(endpoint, left_s)
                    continue
                self._active = endpoint
                return answer
            raise failure

        return await self._retried(attempt, self._forget_active, timeout_s)

    # --- inside -----------------------------------------------------------------------------------

    async def _retried(
        self,
        attempt: Callable[[float], Awaitable[Message]],
        recover: Callable[[], Awaitable[None]],
        timeout_s: float,
    ) -> Message:
        deadline_ms = self._clock.monotonic_ms() + int(timeout_s * 1000)
        pause_s = _FIRST_PAUSE_S
        while True:
            left_s = (deadline_ms - self._clock.monotonic_ms()) / 1000
            try:
                return await attempt(max(0.001, left_s))
            except RaykafkaError as error:
                left_s = (deadline_ms - self._clock.monotonic_ms()) / 1000
                if not error.retriable or left_s <= pause_s:
                    raise
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            await recover()

    async def _unless_replaced(
        self, calling: Coroutine[Any, Any, Message], leads: Callable[[], bool]
    ) -> Message:
        """The answer of a leader, as long as it is one: a process that is stopped, or cut off, ends
        no connection. Raises ``NotLeaderOrFollowerError`` when somebody else leads before it comes.
        """
        task = asyncio.ensure_future(calling)
        try:
            while not (await asyncio.wait([task], timeout=_LOOK_AGAIN_S))[0]:
                await self._refresh_quietly()
                if not leads() and not task.done():
                    raise NotLeaderOrFollowerError(
                        "another one leads by now, and was not asked yet"
                    )
            return task.result()
        finally:
            task.cancel()

    async def _forget_active(self) -> None:
        self._active = None

    async def _refresh_quietly(self) -> None:
        try:
            await self.view.refresh()
        except RaykafkaError:
            return  # the next attempt says what is wrong

    def _voters(self) -> list[Endpoint]:
        known = list(self._controllers())
        if self._active is not None:
            return [self._active, *(each for each in known if each != self._active)]
        return known

    async def _ask_who_leads(self, endpoint: Endpoint, timeout_s: float) -> None:
        try:
            answer = await self.call(
                endpoint, ApiKey.DESCRIBE_QUORUM, DescribeQuorumRequest(), timeout_s=timeout_s
            )
        except RaykafkaError:
            return
        assert isinstance(answer, DescribeQuorumResponse)
        for replica in answer.replicas:
            if replica.replica_id == answer.leader_id and replica.port:
                self._active = Endpoint(replica.host, replica.port)

    async def _connect(self, endpoint: Endpoint) -> PeerConnection:
        """One connection per listener, however many wait for it."""
        task = self._connecting.get(endpoint)
        if task is None:
            task = asyncio.ensure_future(
                self._connector(
                    endpoint, self._secret, client_id=self._client_id, timeout_s=_CONNECT_TIMEOUT_S
                )
            )
            self._connecting[endpoint] = task
            task.add_done_callback(lambda done: self._connected(endpoint, done))
        return await asyncio.shield(task)

    def _connected(self, endpoint: Endpoint, task: asyncio.Task[PeerConnection]) -> None:
        self._connecting.pop(endpoint, None)
        if not task.cancelled() and task.exception() is None:
            self._connections[endpoint] = task.result()
