"""A follower's connection to one leader's partition actor, shared by all partitions that it leads.

It is made again for as long as there is something to copy. That it broke is no proof of anything:
the controller decides who leads.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from raykafka.actors.ports import PeerConnection
from raykafka.errors import RaykafkaError
from raykafka.model import Endpoint

logger = logging.getLogger(__name__)

_FIRST_PAUSE_S: Final = 0.02
_LONGEST_PAUSE_S: Final = 0.5

Connect = Callable[[Endpoint], Awaitable[PeerConnection]]


class LinkUser(Protocol):
    """A partition that is copied over the link."""

    def on_connected(self, connection: PeerConnection) -> None:
        """A new connection is there: open the stream."""


class LeaderLink:
    """See the module's docstring."""

    def __init__(self, endpoint: Endpoint, connect: Connect) -> None:
        self.endpoint = endpoint
        self._connect = connect
        self._users: dict[LinkUser, None] = {}
        self._connection: PeerConnection | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def connection(self) -> PeerConnection | None:
        """The connection while it lives."""
        found = self._connection
        return None if found is None or found.closed else found

    def add(self, user: LinkUser) -> None:
        """Copy over this link; ``on_connected`` is called at once if it is connected."""
        self._users[user] = None
        connection = self.connection
        if connection is not None:
            user.on_connected(connection)
        elif self._task is None:
            self._task = asyncio.ensure_future(self._run())

    def remove(self, user: LinkUser) -> bool:
        """Copy no more; True when nobody is left and the link has ended."""
        self._users.pop(user, None)
        if self._users:
            return False
        self.close()
        return True

    def close(self) -> None:
        """End the connection."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        if self._connection is not None:
            self._connection.close()

    async def _run(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                connection = await self._connect(self.endpoint)
            except RaykafkaError as error:
                logger.debug("no connection to leader %s: %s", self.endpoint, error)
            else:
                pause_s = _FIRST_PAUSE_S
                await self._use(connection)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _use(self, connection: PeerConnection) -> None:
        self._connection = connection
        ended = asyncio.Event()
        try:
            for user in list(self._users):
                user.on_connected(connection)
            connection.on_close(ended.set)
            await ended.wait()
        finally:
            connection.close()
