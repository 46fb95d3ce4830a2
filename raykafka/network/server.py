"""The listener of an actor: accepts connections and serves the actor's handlers on its own loop."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from raykafka.actors.ports import Handler, ListenerSpec
from raykafka.errors import IllegalStateError, InvalidConfigError, NetworkError
from raykafka.model import Endpoint
from raykafka.network.listening import AUTHENTICATION_TIMEOUT_S, STALL_TIMEOUT_S, ListenerState
from raykafka.network.serving import ServerConnection
from raykafka.protocol.messages import ApiKey

BACKLOG: Final = 1024
SWEEP_S: Final = 1.0


class TcpListener:
    """``actors.ports.Listener`` over TCP, on uvloop or plain asyncio.

    ``authentication_timeout_s`` and ``stall_timeout_s`` bound how long a peer may take to prove the
    secret, and how long it may stop in the middle of a frame.
    """

    def __init__(
        self,
        spec: ListenerSpec,
        handlers: Mapping[ApiKey, Handler],
        *,
        authentication_timeout_s: float = AUTHENTICATION_TIMEOUT_S,
        stall_timeout_s: float = STALL_TIMEOUT_S,
    ) -> None:
        if not spec.secret:
            raise InvalidConfigError("a listener needs the cluster's secret, and it was empty")
        if not spec.host:
            raise InvalidConfigError("a listener needs an address; an empty one would mean all")
        self._spec = spec
        self._handlers = handlers
        self._authentication_timeout_s = authentication_timeout_s
        self._stall_timeout_s = stall_timeout_s
        self._state: ListenerState | None = None
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.TimerHandle | None = None

    @property
    def connection_count(self) -> int:
        """Peers that are connected and have proven the secret."""
        return 0 if self._state is None else len(self._state.admitted)

    async def start(self) -> Endpoint:
        """Bind and accept; returns the bound address.

        Raises ``NetworkError`` when the address cannot be bound and ``IllegalStateError`` when the
        listener was started before.
        """
        if self._state is not None:
            raise IllegalStateError("the listener was started before")
        loop = asyncio.get_running_loop()
        state = ListenerState(
            self._spec,
            self._handlers,
            loop,
            authentication_timeout_s=self._authentication_timeout_s,
            stall_timeout_s=self._stall_timeout_s,
        )
        host, port = self._spec.host, self._spec.port
        try:
            self._server = await loop.create_server(
                lambda: ServerConnection(state), host, port, backlog=BACKLOG
            )
        except OSError as error:
            raise NetworkError(f"cannot listen on {host}:{port}: {error}") from error
        self._state = state
        self._sweep()
        return Endpoint(host, self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Close the listener and every connection; what is still queued is not sent."""
        if self._server is None or self._state is None:
            return
        server, self._server = self._server, None
        if self._sweeper is not None:
            self._sweeper.cancel()
        server.close()
        self._state.close()
        await server.wait_closed()

    def _sweep(self) -> None:
        state = self._state
        if state is None or self._server is None:
            return
        state.sweep()
        interval = min(SWEEP_S, state.authentication_timeout_s / 4, state.stall_timeout_s / 4)
        self._sweeper = state.loop.call_later(interval, self._sweep)
