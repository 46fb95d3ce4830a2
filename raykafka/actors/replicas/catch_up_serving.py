"""The leader's side of catching up: serves CATCH_UP.

Only what is committed: later leaders have it, too, so that it may be sent from the file while the
log goes on. It is not verified here, the follower does that with every batch; it also refuses what
an unclean election has put in its place.
"""

from __future__ import annotations

import math
from typing import Any

from raykafka.actors.lines import FileRange, FileReply
from raykafka.actors.ports import Reply
from raykafka.actors.replicas.reading import PartitionReader
from raykafka.actors.replicas.replica import Replica
from raykafka.actors.replicas.replica_set import ReplicaSet
from raykafka.actors.replicas.throttle import Throttle
from raykafka.clock import Clock
from raykafka.errors import LogDamagedError, RaykafkaError, StaleBrokerEpochError
from raykafka.protocol.messages import ErrorResponse
from raykafka.protocol.replication_messages import CatchUpRequest, CatchUpResponse
from raykafka.storage.log_types import Stretch


class CatchUpHandler:
    """Sends followers that are far behind what they lack."""

    def __init__(
        self, replicas: ReplicaSet, reader: PartitionReader, throttle: Throttle, clock: Clock
    ) -> None:
        self._replicas = replicas
        self._reader = reader
        self._throttle = throttle
        self._clock = clock

    def handle(self, request: CatchUpRequest, payload: Any, reply: Reply) -> None:
        """CATCH_UP. Nothing is sent where nothing is committed behind ``offset``, or is kept there
        any more.

        Raises ``StaleBrokerEpochError`` for a process that has a successor, ``LogDamagedError``,
        and what ``ReplicaSet.leader`` raises.
        """
        now_ms = self._clock.monotonic_ms()
        replica = self._replicas.leader(
            request.topic_id, request.partition, request.leader_epoch, now_ms
        )
        if request.incarnation != replica.machine.in_sync.incarnation(request.replica_id):
            raise StaleBrokerEpochError(
                f"the replica on broker {request.replica_id} has opened no stream, or another"
                " process of it has since"
            )
        stretch = self._find(replica, request)
        if stretch is None:
            reply(_answer(replica))
            return
        wait_s = self._throttle.wait(now_ms)
        if wait_s > 0:
            reply(_answer(replica, throttle_ms=math.ceil(wait_s * 1000)))
            return
        size = sum(stretch.sizes)
        self._throttle.take(size, now_ms)
        if stretch.file is not None and isinstance(reply, FileReply):
            file = stretch.file
            piece = FileRange(file.path, file.inode, stretch.position, size)
            reply.send_file(_answer(replica, stretch), piece)
        else:
            self._send_read(replica, request, stretch, reply)

    def _find(self, replica: Replica, request: CatchUpRequest) -> Stretch | None:
        try:
            return replica.log.stretch(
                request.offset, max_bytes=request.max_bytes, up_to=replica.high_watermark
            )
        except LogDamagedError as error:
            raise replica.on_damaged(error) from error

    def _send_read(
        self, replica: Replica, request: CatchUpRequest, stretch: Stretch, reply: Reply
    ) -> None:
        """Where it cannot be sent from a file: read it, in a thread first if it is not at hand."""
        bounds = {"max_bytes": request.max_bytes, "up_to": stretch.next_offset}

        def send() -> None:
            try:
                batches = replica.log.read(request.offset, **bounds)
            except RaykafkaError as error:
                reply(ErrorResponse(error.code, error.message))
            else:
                reply(_answer(replica, stretch), batches)

        load = replica.log.cold(request.offset, **bounds)
        if load is None:
            send()
        else:
            self._reader.load(load, send)


def _answer(
    replica: Replica, stretch: Stretch | None = None, throttle_ms: int = 0
) -> CatchUpResponse:
    next_offset, sizes = (-1, []) if stretch is None else (stretch.next_offset, stretch.sizes)
    return CatchUpResponse(
        replica.high_watermark, replica.log.log_start_offset, next_offset, sizes, throttle_ms
    )
