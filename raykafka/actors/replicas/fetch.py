"""Serves FETCH and FETCH_CREDIT: long polls that park until there is something, and push sessions.

A long poll is answered at once when ``min_bytes`` are there, when a partition fails, or when
``max_wait_ms`` is 0; otherwise it waits on its partitions and on one timer (Kafka's fetch
purgatory).
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from raykafka.actors.ports import Buffer, Reply
from raykafka.actors.replicas.fetch_session import FetchSession
from raykafka.actors.replicas.reading import PartitionReader, failed_partition
from raykafka.actors.replicas.replica import Replica
from raykafka.actors.replicas.replica_set import ReplicaSet
from raykafka.actors.replicas.waiting import ConnectionScope
from raykafka.clock import Clock
from raykafka.errors import FetchSessionIdNotFoundError, InvalidRequestError, RaykafkaError
from raykafka.protocol.messages import (
    FetchCreditRequest,
    FetchedPartition,
    FetchRequest,
    FetchResponse,
)

MAX_PARTITIONS_PER_FETCH = 4096
MAX_BYTES_PER_FETCH = 55 << 20
"""Most that one answer carries, as Kafka's ``fetch.max.bytes`` of brokers."""


class Collected(NamedTuple):
    """What is there for one fetch now."""

    partitions: list[FetchedPartition]
    chunks: list[Buffer]
    size: int
    moved: bool
    """Whether a reader gets on where there is nothing for it to see."""
    failed: bool
    replicas: list[tuple[Replica, int]]
    """Replicas asked, with the offset that would come next."""
    loads: list[Callable[[], None]]
    """What has to be loaded from the disk first; empty when everything is in memory."""


class PendingFetch:
    """A long poll that waits on its partitions; it is answered once."""

    __slots__ = (
        "_handler",
        "_missing",
        "_parked_bytes",
        "_replicas",
        "committed",
        "dropped",
        "loading",
        "reply",
        "request",
        "timer",
    )

    def __init__(self, handler: FetchHandler, request: FetchRequest, reply: Reply) -> None:
        self._handler = handler
        self._replicas: list[Replica] = []
        self.request = request
        self.committed = request.isolation != 0
        self.reply = reply
        self.timer: asyncio.TimerHandle | None = None
        self.loading = 0
        """Loads that are under way; until they are done nothing else resumes the fetch."""
        self.dropped = False

    def park(self, collected: Collected) -> None:
        """Wait on every partition, at the offset that follows what is there."""
        self._missing = self.request.min_bytes - collected.size
        self._parked_bytes = 0
        self._replicas = [replica for replica, _ in collected.replicas]
        for replica, offset in collected.replicas:
            replica.waiters[self] = offset
            self._parked_bytes += replica.appended_bytes

    def unpark(self) -> None:
        """Stop waiting on the partitions."""
        for replica in self._replicas:
            replica.waiters.pop(self, None)

    def drop(self) -> None:
        """Forget the request; nobody listens any more."""
        self.dropped = True
        self.unpark()
        if self.timer is not None:
            self.timer.cancel()

    def on_committed(self, replica: Replica) -> None:
        """Answer if enough has been appended meanwhile."""
        # What becomes stable was appended before, so its bytes tell a committed reader nothing.
        if self._missing > 1 and not self.committed:
            appended = sum(each.appended_bytes for each in self._replicas) - self._parked_bytes
            if appended < self._missing:
                return
        self._handler.resume(self)

    def on_gone(self, replica: Replica, error: RaykafkaError) -> None:
        """Answer now: the partition's error is part of the answer."""
        self._handler.answer(self)


class FetchHandler:
    """Owns every parked fetch and push session of one partition actor."""

    def __init__(
        self,
        replicas: ReplicaSet,
        reader: PartitionReader,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        max_parked: int,
    ) -> None:
        self._replicas = replicas
        self._reader = reader
        self._loop = loop
        self._clock = clock
        self._scope = ConnectionScope(max_parked)

    @property
    def parked(self) -> int:
        """How many fetches and sessions are waiting now."""
        return self._scope.count

    def handle_fetch(self, request: FetchRequest, payload: Any, reply: Reply) -> None:
        """FETCH. Raises ``InvalidRequestError``, or ``ServerBusyError`` when too many wait."""
        _check(request)
        if request.push:
            now_ms = self._clock.monotonic_ms()
            FetchSession(request, reply, self._reader, self._scope).start(self._replicas, now_ms)
            return
        collected = self._collect(request, may_load=True)
        if collected.loads:
            self._load(PendingFetch(self, request, reply), collected.loads)
        elif _is_enough(collected, request) or request.max_wait_ms <= 0:
            reply(FetchResponse(collected.partitions), collected.chunks)
        else:
            pending = PendingFetch(self, request, reply)
            self._scope.add(reply, pending)
            self._park(pending, collected)

    def _load(self, pending: PendingFetch, loads: Sequence[Callable[[], None]]) -> None:
        self._scope.add(pending.reply, pending)
        pending.loading = len(loads)
        for load in loads:
            self._reader.load(load, functools.partial(self._on_loaded, pending))

    def _on_loaded(self, pending: PendingFetch) -> None:
        pending.loading -= 1
        if pending.loading or pending.dropped:
            return
        request = pending.request
        collected = self._collect(request)
        if _is_enough(collected, request) or request.max_wait_ms <= 0:
            self._finish(pending, collected)
        else:
            self._park(pending, collected)

    def _park(self, pending: PendingFetch, collected: Collected) -> None:
        request = pending.request
        pending.timer = self._loop.call_later(request.max_wait_ms / 1000, self.answer, pending)
        pending.park(collected)

    def handle_credit(self, request: FetchCreditRequest, payload: Any, reply: Reply) -> None:
        """FETCH_CREDIT. A session that has ended meanwhile is no error: its last frame is on its
        way.
        """
        session = self._scope.find(reply.connection, request.session)
        if session is None:
            return
        if not isinstance(session, FetchSession):
            raise FetchSessionIdNotFoundError(f"{request.session} is a fetch, not a push session")
        session.on_credit(request)

    def resume(self, pending: PendingFetch) -> None:
        """Answer ``pending`` if it has its ``min_bytes``, else let it wait on."""
        pending.unpark()
        collected = self._collect(pending.request)
        if _is_enough(collected, pending.request):
            self._finish(pending, collected)
        else:
            pending.park(collected)

    def answer(self, pending: PendingFetch) -> None:
        """Answer ``pending`` with what is there."""
        pending.unpark()
        self._finish(pending, self._collect(pending.request))

    def _finish(self, pending: PendingFetch, collected: Collected) -> None:
        pending.drop()
        self._scope.remove(pending.reply)
        pending.reply(FetchResponse(collected.partitions), collected.chunks)

    def _collect(self, request: FetchRequest, *, may_load: bool = False) -> Collected:
        partitions: list[FetchedPartition] = []
        chunks: list[Buffer] = []
        replicas: list[tuple[Replica, int]] = []
        loads: list[Callable[[], None]] = []
        now_ms = self._clock.monotonic_ms()
        budget, size = min(request.max_bytes, MAX_BYTES_PER_FETCH), 0
        moved = failed = False
        for part in request.partitions:
            try:
                replica = self._replicas.leader(
                    part.topic_id,
                    part.partition,
                    part.leader_epoch,
                    now_ms,
                    or_follower=request.follower_reads,
                )
            except RaykafkaError as error:
                partitions.append(failed_partition(part.topic_id, part.partition, error))
                failed = True
                continue
            if part.doubtful:
                self._reader.doubt(replica, part.offset)
            limit = min(part.max_bytes, budget)
            read = self._reader.read(replica, part.offset, limit, request, may_load=may_load)
            if read.load is not None:
                loads.append(read.load)
            if size and read.payload_bytes > budget:
                # As in KIP-74 only the first batch of an answer may exceed the limit.
                read = self._reader.read(replica, part.offset, 0, request)
            partitions.append(read.fetched)
            chunks += read.chunks
            size += read.size
            budget -= read.payload_bytes
            moved = moved or (not read.size and read.next_offset != part.offset)
            failed = failed or read.fetched.error_code != 0
            replicas.append((replica, read.next_offset))
        return Collected(partitions, chunks, size, moved, failed, replicas, loads)


def _is_enough(collected: Collected, request: FetchRequest) -> bool:
    return collected.failed or collected.moved or collected.size >= request.min_bytes


def _check(request: FetchRequest) -> None:
    if not request.partitions:
        raise InvalidRequestError("a fetch needs at least one partition")
    if len(request.partitions) > MAX_PARTITIONS_PER_FETCH:
        raise InvalidRequestError(
            f"a fetch may name {MAX_PARTITIONS_PER_FETCH} partitions, not {len(request.partitions)}"
        )
