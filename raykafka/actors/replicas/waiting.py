"""Who waits for a partition's records, and in which order everyone is told.

Rules: an answer leaves before any reader is woken, so readers never add to a producer's latency;
only readers that the new high watermark can serve are woken; a reader's connection that ends takes
all its waiting requests with it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

from raykafka.actors.ports import Reply
from raykafka.errors import InvalidRequestError, RaykafkaError, ServerBusyError

if TYPE_CHECKING:
    from raykafka.actors.replicas.replica import Replica

logger = logging.getLogger(__name__)


class Waiter(Protocol):
    """A parked fetch or a push session, as a replica sees it."""

    committed: bool
    """Whether it waits for the last stable offset, not for the high watermark."""

    def on_committed(self, replica: Replica) -> None:
        """Records at the offset waited for may be read now."""

    def on_gone(self, replica: Replica, error: RaykafkaError) -> None:
        """The replica no longer serves reads here."""


class WakeQueue:
    """Replicas whose high watermark has moved; their readers are told on the loop's next turn.

    The loop flushes its sockets between two turns, so acknowledgements written in this one are on
    their way by then, and several appends of one turn cost a single wake.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._replicas: list[Replica] = []

    def add(self, replica: Replica) -> None:
        """Wake those who wait on ``replica`` soon; call it only when somebody does."""
        if replica.wake_pending:
            return
        replica.wake_pending = True
        if not self._replicas:
            self._loop.call_soon(self._run)
        self._replicas.append(replica)

    def _run(self) -> None:
        replicas, self._replicas = self._replicas, []
        for replica in replicas:
            replica.wake_pending = False
            high_watermark = replica.high_watermark
            # Whoever waits for a log that a thread changes hears of that.
            stable = high_watermark
            if not replica.rebuilding:
                stable = replica.log.last_stable_offset(high_watermark)
            for waiter, offset in list(replica.waiters.items()):
                if offset >= (stable if waiter.committed else high_watermark):
                    continue
                if replica.waiters.get(waiter) == offset:
                    self._wake(waiter, replica)
            replica.fresh = None

    def _wake(self, waiter: Waiter, replica: Replica) -> None:
        try:
            waiter.on_committed(replica)
        except Exception:
            # One reader's trouble must not leave all others asleep.
            logger.exception("a reader of %s was not served", replica.topic)


class Parked(Protocol):
    """A request that is answered later."""

    def drop(self) -> None:
        """Forget the request: its connection has ended."""


class ConnectionScope:
    """What is parked for each connection: bounded in number, dropped when that ends."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.count = 0
        self._parked: dict[object, dict[int, Parked]] = {}

    def add(self, reply: Reply, parked: Parked) -> None:
        """Keep ``parked`` until it is removed or ``reply``'s connection ends.

        Raises ``ServerBusyError`` when ``max.parked.fetches`` are waiting already, and
        ``InvalidRequestError`` when the correlation id is that of a waiting request.
        """
        if self.count >= self.limit:
            raise ServerBusyError(
                f"{self.limit} fetches are waiting already (max.parked.fetches); "
                "wait a little, or ask with max_wait_ms=0"
            )
        connection = reply.connection
        mine = self._parked.get(connection)
        if mine is None:
            # One callback per connection, not per request: a consumer polls for days on one.
            mine = self._parked[connection] = {}
            reply.on_close(lambda: self._drop_all(connection))
        if reply.correlation_id in mine:
            raise InvalidRequestError(
                f"correlation id {reply.correlation_id} names a fetch that still waits"
            )
        mine[reply.correlation_id] = parked
        self.count += 1

    def find(self, connection: object, correlation_id: int) -> Parked | None:
        """What is parked under that name on that connection."""
        mine = self._parked.get(connection)
        return None if mine is None else mine.get(correlation_id)

    def remove(self, reply: Reply) -> None:
        """Forget what was added for ``reply``; nothing happens when it is gone already."""
        mine = self._parked.get(reply.connection)
        if mine is not None and mine.pop(reply.correlation_id, None) is not None:
            self.count -= 1

    def _drop_all(self, connection: object) -> None:
        mine = self._parked.pop(connection, {})
        self.count -= len(mine)
        for parked in mine.values():
            parked.drop()
