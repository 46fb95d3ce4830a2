"""A replica's connections to the others: opened when there is something to say, and again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Final

from raykafka.actors.ports import Buffer, Connector, OnResponse, PeerConnection
from raykafka.actors.timeouts import cancel_all
from raykafka.errors import RaykafkaError
from raykafka.model import Endpoint
from raykafka.protocol.messages import ApiKey, Message

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_S: Final = 1.0
SILENCE_S: Final = 3.0
"""Without any answer, before a connection is given up."""
_PAUSE_S: Final = 0.05
"""Between two attempts to reach somebody."""
_MAX_WAITING: Final = 16
"""Messages that wait for a connection; what is older is dropped, as a network would."""

_Frame = tuple[ApiKey, Message, Sequence[Buffer], "OnResponse | None"]


class PeerLinks:
    """One connection per replica. Messages may be lost; ``on_lost`` says when that is likely."""

    def __init__(
        self,
        connector: Connector,
        secret: bytes,
        client_id: str,
        on_lost: Callable[[int], None],
    ) -> None:
        self._connector = connector
        self._secret = secret
        self._client_id = client_id
        self._on_lost = on_lost
        self._endpoints: dict[int, Endpoint] = {}
        self._open: dict[int, PeerConnection] = {}
        self._waiting: dict[int, list[_Frame]] = {}
        self._connecting: dict[int, asyncio.Task[None]] = {}
        self._unanswered: dict[int, float] = {}
        """Since when nothing has come back from whom something was asked."""
        self._closed = False

    def learn(self, replica_id: int, endpoint: Endpoint) -> None:
        """The replica listens there now; nothing happens for an address that says nothing."""
        if endpoint.port and self._endpoints.get(replica_id) != endpoint:
            self._endpoints[replica_id] = endpoint
            connection = self._open.pop(replica_id, None)
            if connection is not None:
                connection.close()

    def endpoint(self, replica_id: int) -> Endpoint | None:
        """Where the replica listened last."""
        return self._endpoints.get(replica_id)

    def send(
        self,
        replica_id: int,
        api_key: ApiKey,
        request: Message,
        payload: Sequence[Buffer] = (),
        on_response: OnResponse | None = None,
    ) -> None:
        """Send a request, at once or when a connection stands."""
        if self._closed:
            return
        connection = self._open.get(replica_id)
        if connection is not None and not connection.closed:
            self._send(replica_id, connection, (api_key, request, payload, on_response))
            return
        waiting = self._waiting.setdefault(replica_id, [])
        waiting.append((api_key, request, payload, on_response))
        del waiting[:-_MAX_WAITING]
        if replica_id not in self._connecting:
            task = asyncio.ensure_future(self._connect(replica_id))
            self._connecting[replica_id] = task

    async def close(self) -> None:
        """End all connections."""
        self._closed = True
        for connection in list(self._open.values()):
            connection.close()
        await cancel_all(self._connecting.values())

    async def _connect(self, replica_id: int) -> None:
        endpoint = self._endpoints.get(replica_id)
        try:
            if endpoint is None:
                await asyncio.sleep(_PAUSE_S)
                self._give_up(replica_id)
                return
            connection = await self._connector(
                endpoint, self._secret, client_id=self._client_id, timeout_s=CONNECT_TIMEOUT_S
            )
        except RaykafkaError as error:
            logger.debug("%s cannot reach controller %d: %s", self._client_id, replica_id, error)
            await asyncio.sleep(_PAUSE_S)
            self._give_up(replica_id)
            return
        finally:
            self._connecting.pop(replica_id, None)
        if self._closed or self._endpoints.get(replica_id) != endpoint:
            connection.close()
            self._give_up(replica_id)
            return
        self._open[replica_id] = connection
        connection.on_close(lambda: self._on_close(replica_id, connection))
        for frame in self._waiting.pop(replica_id, []):
            self._send(replica_id, connection, frame)

    def _send(self, replica_id: int, connection: PeerConnection, frame: _Frame) -> None:
        api_key, request, payload, on_response = frame
        now = asyncio.get_running_loop().time()
        if now - self._unanswered.get(replica_id, now) > SILENCE_S:
            connection.close()  # what is sent to one that does not read only piles up here
            return

        def answered(response: Message | RaykafkaError, data: memoryview) -> None:
            self._unanswered.pop(replica_id, None)
            if on_response is not None:
                on_response(response, data)

        with contextlib.suppress(RaykafkaError):  # it has ended, and says so by itself
            connection.send(api_key, request, payload, answered if on_response else None)
            if on_response is not None:
                self._unanswered.setdefault(replica_id, now)

    def _give_up(self, replica_id: int) -> None:
        self._waiting.pop(replica_id, None)
        if not self._closed:
            self._on_lost(replica_id)

    def _on_close(self, replica_id: int, connection: PeerConnection) -> None:
        if self._open.get(replica_id) is connection:
            del self._open[replica_id]
            self._unanswered.pop(replica_id, None)
            if not self._closed:
                self._on_lost(replica_id)
