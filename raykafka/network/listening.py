"""What the connections of one listener share: routes, receive memory and bounds."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from raykafka.actors.ports import Handler, ListenerSpec
from raykafka.errors import RaykafkaError, ServerBusyError, UnsupportedVersionError
from raykafka.network.buffers import BufferPool
from raykafka.network.connection import CHUNK_BYTES
from raykafka.network.file_sending import FileSender
from raykafka.protocol import apis
from raykafka.protocol.messages import ApiKey

if TYPE_CHECKING:
    from raykafka.network.serving import ServerConnection

logger = logging.getLogger(__name__)

AUTHENTICATION_TIMEOUT_S: Final = 5.0
"""A peer that has not proven the secret by then is dropped."""
STALL_TIMEOUT_S: Final = 30.0
"""A frame that was begun and gets no further byte for this long ends its connection."""
MAX_STRANGERS: Final = 1024
"""Connections that may be in the middle of their handshake."""
IDLE_SWEEPS: Final = 30
"""After this many sweeps without a large payload the receive buffers are given back."""


class Route(NamedTuple):
    """How one api is served here."""

    key: ApiKey
    min_version: int
    max_version: int
    takes_payload: bool
    broker_only: bool
    decode: apis.Decode
    handler: Handler


class ListenerState:
    """Owned by the listener, used by its connections; everything runs on the loop's thread."""

    def __init__(
        self,
        spec: ListenerSpec,
        handlers: Mapping[ApiKey, Handler],
        loop: asyncio.AbstractEventLoop,
        *,
        authentication_timeout_s: float = AUTHENTICATION_TIMEOUT_S,
        stall_timeout_s: float = STALL_TIMEOUT_S,
    ) -> None:
        self.spec = spec
        self.loop = loop
        self.authentication_timeout_s = authentication_timeout_s
        self.stall_timeout_s = stall_timeout_s
        self.routes: dict[int, Route] = {}
        for key, handler in handlers.items():
            api = apis.APIS[key]
            self.routes[int(key)] = Route(
                key,
                api.min_version,
                api.max_version,
                api.payload,
                api.broker_only,
                apis.REQUEST_DECODERS[key],
                handler,
            )
        self.ranges = apis.version_ranges({ApiKey.HELLO, ApiKey.AUTHENTICATE, *handlers})
        self.chunk = memoryview(bytearray(CHUNK_BYTES))
        """Every connection receives here; nothing of it is used after a read has been handled."""
        self.pool = BufferPool()
        self.connections: set[ServerConnection] = set()
        self.strangers: dict[ServerConnection, None] = {}
        """Those of them that have not proven the secret yet, the oldest first."""
        self.admitted: set[ServerConnection] = set()
        """Those of them that have."""
        self.closed = False
        self.deadlines: dict[ServerConnection, float] = {}
        """Peers that must get on: not authenticated yet, or within a frame; loop time."""
        self.waiting: list[ServerConnection] = []
        """Peers whose next payload waits until others have been received."""
        self.receiving_bytes = 0
        """Announced sizes of the large payloads that are being received."""
        self.queued_bytes = 0
        """Unsent bytes of the connections that are over their high-water mark."""
        self.file_sender = FileSender()
        self._idle_sweeps = 0
        self._last_takes = 0
        self._refused = 0
        self._last_refusal = ""

    def unsupported(self, api_key: int, api_version: int) -> UnsupportedVersionError:
        """The answer to a request that has no route here."""
        route = self.routes.get(api_key)
        if route is not None:
            return UnsupportedVersionError(
                f"{self.spec.node} speaks {route.key.name} in version {route.min_version} to "
                f"{route.max_version}, not {api_version}"
            )
        return UnsupportedVersionError(
            f"{self.spec.node} does not serve api key {api_key}; refresh the metadata"
        )

    def welcome(self, connection: ServerConnection) -> None:
        """A peer has connected. Strangers do not count as connections, and cannot shut others out:
        beyond ``MAX_STRANGERS`` the one that has taken longest makes room.
        """
        if self.closed:
            connection.abort()
            return
        self.connections.add(connection)
        self.strangers[connection] = None
        self.deadlines[connection] = self.loop.time() + self.authentication_timeout_s
        if len(self.strangers) > MAX_STRANGERS:
            oldest = next(iter(self.strangers))
            del self.strangers[oldest]
            oldest.abort()

    def admit(self, connection: ServerConnection) -> None:
        """A peer has proven the secret; ``ServerBusyError`` when ``max.connections`` have."""
        limit = self.spec.limits.max_connections
        if len(self.admitted) >= limit:
            raise ServerBusyError(
                f"{limit} connections are open already (max.connections); close some or try again "
                "later"
            )
        self.strangers.pop(connection, None)
        self.deadlines.pop(connection, None)
        self.admitted.add(connection)

    def forget(self, connection: ServerConnection) -> None:
        """A connection has ended."""
        self.connections.discard(connection)
        self.strangers.pop(connection, None)
        self.admitted.discard(connection)
        self.deadlines.pop(connection, None)

    def note_refused(self, error: RaykafkaError) -> None:
        """A peer has failed its handshake; logged by ``sweep``, so that a flood fills no disk."""
        self._refused += 1
        self._last_refusal = error.message

    def close(self) -> None:
        """End every connection, and those that are just being accepted."""
        self.closed = True
        for connection in list(self.connections):
            connection.abort()
        self.file_sender.close()

    def account(self, connection: ServerConnection) -> None:
        """Note how much waits to be sent; over the bound the slowest reader is dropped."""
        self.queued_bytes += connection.account_queued()
        if self.queued_bytes > self.spec.limits.max_queued_bytes:
            slowest = max(self.connections, key=lambda each: each.queued_bytes, default=None)
            if slowest is not None and not slowest.closed:
                logger.warning(
                    "%s drops a reader that left %d bytes unread",
                    self.spec.node,
                    slowest.queued_bytes,
                )
                slowest.abort()

    def wake_waiting(self) -> None:
        """Payloads have been received: let those go on that waited for it."""
        waiting, self.waiting = self.waiting, []
        for connection in waiting:
            connection.on_room()

    def sweep(self) -> None:
        """Drop peers whose time is up, and memory that is not needed."""
        now = self.loop.time()
        for connection, deadline in list(self.deadlines.items()):
            if deadline <= now:
                del self.deadlines[connection]
                logger.info("%s drops a peer that does not go on", self.spec.node)
                connection.abort()
        self._idle_sweeps = 0 if self.pool.takes != self._last_takes else self._idle_sweeps + 1
        self._last_takes = self.pool.takes
        if self._idle_sweeps == IDLE_SWEEPS:
            self.pool.trim()
        if self._refused:
            logger.warning(
                "%s refused %d peers; the last one: %s",
                self.spec.node,
                self._refused,
                self._last_refusal,
            )
            self._refused = 0
