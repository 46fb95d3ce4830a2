"""Push sessions: one fetch request, answered again and again as records commit.

Rules: the client's credit counts payload bytes and a frame is sent while any credit is left, so
credit goes below zero by at most one frame; nothing is read while the connection's write buffer is
full; partitions take turns, one frame each; a partition that fails is reported in a frame of its
own and leaves the session; the last frame of a session names no partition.
"""

from __future__ import annotations

import asyncio
from collections import deque

from raykafka.actors.ports import Reply
from raykafka.actors.replicas.reading import PartitionReader, failed_partition
from raykafka.actors.replicas.replica import Replica
from raykafka.actors.replicas.replica_set import ReplicaSet
from raykafka.actors.replicas.waiting import ConnectionScope
from raykafka.errors import FencedLeaderEpochError, InvalidRequestError, RaykafkaError
from raykafka.protocol.messages import (
    FetchCreditRequest,
    FetchedPartition,
    FetchPartition,
    FetchRequest,
    FetchResponse,
)


class Cursor:
    """Where one partition of a session stands; it waits on its replica by itself."""

    __slots__ = ("committed", "leader_epoch", "loaded", "offset", "replica", "request", "session")

    def __init__(
        self, session: FetchSession, replica: Replica, request: FetchPartition, isolation: int
    ) -> None:
        self.session = session
        self.committed = isolation != 0
        self.replica = replica
        self.request = request
        self.leader_epoch = replica.leader_epoch
        self.offset = request.offset
        self.loaded = -1
        """Offset from which the disk was read last."""

    def on_committed(self, replica: Replica) -> None:
        """Take a turn in the session."""
        del replica.waiters[self]
        self.session.on_ready(self)

    def on_gone(self, replica: Replica, error: RaykafkaError) -> None:
        """Leave the session, which tells the client why."""
        self.session.on_gone(self, error)


class FetchSession:
    """One open push session; everything happens on the actor's loop."""

    def __init__(
        self, request: FetchRequest, reply: Reply, reader: PartitionReader, scope: ConnectionScope
    ) -> None:
        self._request = request
        self._reply = reply
        self._reader = reader
        self._scope = scope
        self._credit = request.credit_bytes
        self._cursors: set[Cursor] = set()
        self._ready: deque[Cursor] = deque()
        self._blocked = False
        self._pumping = False
        self.closed = False

    def start(self, replicas: ReplicaSet, now_ms: int) -> None:
        """Send what is there already and wait for more.

        ``now_ms`` is monotonic. Raises ``ServerBusyError`` when too much is parked already.
        """
        self._scope.add(self._reply, self)
        refused = []
        for part in self._request.partitions:
            try:
                replica = replicas.leader(
                    part.topic_id,
                    part.partition,
                    part.leader_epoch,
                    now_ms,
                    or_follower=self._request.follower_reads,
                )
            except RaykafkaError as error:
                refused.append(failed_partition(part.topic_id, part.partition, error))
                continue
            if part.doubtful:
                self._reader.doubt(replica, part.offset)
            cursor = Cursor(self, replica, part, self._request.isolation)
            self._cursors.add(cursor)
            self._ready.append(cursor)
        for fetched in refused:
            self._reply(FetchResponse([fetched]))
        self._pump()

    def on_credit(self, request: FetchCreditRequest) -> None:
        """Go on with more credit, or end the session.

        Raises ``InvalidRequestError`` when credit is negative.
        """
        if request.close:
            self._end()
            return
        if request.credit_bytes < 0:
            raise InvalidRequestError("credit_bytes must not be negative")
        self._credit += request.credit_bytes
        self._pump()

    def on_ready(self, cursor: Cursor) -> None:
        """A partition has something to send: new records, or old ones that were loaded."""
        if self.closed:
            return
        self._ready.append(cursor)
        self._pump()

    def on_gone(self, cursor: Cursor, error: RaykafkaError) -> None:
        """The partition is no longer served by this actor."""
        self._forget(cursor)
        part = cursor.request
        self._reply(FetchResponse([failed_partition(part.topic_id, part.partition, error)]))
        self._end_when_empty()

    def drop(self) -> None:
        """Forget everything; nobody listens any more."""
        self.closed = True
        for cursor in self._cursors:
            cursor.replica.waiters.pop(cursor, None)
        self._cursors.clear()
        self._ready.clear()

    def _end(self) -> None:
        if self.closed:
            return
        self._scope.remove(self._reply)
        self.drop()
        self._reply(FetchResponse())

    def _end_when_empty(self) -> None:
        if not self._cursors:
            self._end()

    def _forget(self, cursor: Cursor) -> None:
        self._cursors.discard(cursor)
        cursor.replica.waiters.pop(cursor, None)
        if cursor in self._ready:
            self._ready.remove(cursor)

    def _on_writable(self) -> None:
        self._blocked = False
        self._pump()

    def _pump(self) -> None:
        if self._pumping or self._blocked:
            return
        self._pumping = True
        try:
            self._send_turns()
        finally:
            self._pumping = False
        self._end_when_empty()

    def _send_turns(self) -> None:
        ready, reply = self._ready, self._reply
        while ready and self._credit > 0 and not self.closed:
            if not reply.writable:
                self._blocked = True
                reply.on_writable(self._on_writable)
                return
            cursor = ready.popleft()
            if cursor not in self._cursors:
                continue
            self._send_turn(cursor)

    def _send_turn(self, cursor: Cursor) -> None:
        replica = cursor.replica
        gone = replica.being_cut() if replica.rebuilding else replica.gone
        if gone is not None:
            self.on_gone(cursor, gone)
            return
        if replica.leader_epoch != cursor.leader_epoch:
            over = f"leader epoch {cursor.leader_epoch} is over; refresh the metadata"
            self.on_gone(cursor, FencedLeaderEpochError(over))
            return
        read = self._reader.read(
            replica,
            cursor.offset,
            cursor.request.max_bytes,
            self._request,
            may_load=cursor.loaded != cursor.offset,
        )
        fetched: FetchedPartition = read.fetched
        if read.load is not None:
            cursor.loaded = cursor.offset
            self._reader.load(read.load, lambda: self.on_ready(cursor))
        elif fetched.error_code:
            self._cursors.discard(cursor)
            self._reply(FetchResponse([fetched]))
        elif read.size == 0 and read.next_offset == cursor.offset:
            replica.waiters[cursor] = cursor.offset
        else:
            self._reply(FetchResponse([fetched]), read.chunks)
            self._credit -= read.payload_bytes
            cursor.offset = offset = read.next_offset
            end = replica.readable_end(self._request.isolation)
            if offset == end and replica.gone is None:
                replica.waiters[cursor] = offset  # that was all there is
            elif read.size:
                self._ready.append(cursor)
            else:
                # What is left out costs no credit: much of it must not hold up the loop.
                asyncio.get_running_loop().call_soon(self.on_ready, cursor)
