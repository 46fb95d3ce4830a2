"""What a replica answers to the others, and how it gets a snapshot from them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Final

from raykafka.actors.ports import Handler, Reply
from raykafka.actors.quorum import wire
from raykafka.actors.quorum.files import Snapshot, decode_file, encode_file
from raykafka.actors.quorum.node import QuorumNode
from raykafka.actors.quorum.options import RequestToken
from raykafka.actors.timeouts import cancel_all, within
from raykafka.errors import RaykafkaError, SnapshotNotFoundError
from raykafka.model import Endpoint
from raykafka.protocol.messages import ApiKey, ErrorResponse
from raykafka.protocol.quorum_messages import (
    DescribeQuorumResponse,
    FetchSnapshotRequest,
    FetchSnapshotResponse,
    QuorumAppendRequest,
    QuorumReplicaInfo,
    QuorumVoteRequest,
)
from raykafka.quorum import events
from raykafka.quorum.messages import AppendRequest, OffsetAndEpoch

logger = logging.getLogger(__name__)

_FETCH_TIMEOUT_S: Final = 5.0
_MAX_SNAPSHOT_BYTES: Final = 1 << 31


class QuorumServer:
    """The handlers of one node's listener."""

    def __init__(self, node: QuorumNode) -> None:
        self._node = node
        self._watched: set[int] = set()
        self._encoded: tuple[OffsetAndEpoch, bytes] | None = None
        self._fetching: set[asyncio.Task[None]] = set()
        node.on_fetch_snapshot = self._on_fetch_snapshot

    def handlers(self) -> Mapping[ApiKey, Handler]:
        """For the listener; the caller sees to it that only brokers get through."""
        return {
            ApiKey.QUORUM_VOTE: self._on_request,
            ApiKey.QUORUM_APPEND: self._on_request,
            ApiKey.END_QUORUM_EPOCH: self._on_request,
            ApiKey.FETCH_SNAPSHOT: self._on_snapshot_wanted,
            ApiKey.DESCRIBE_QUORUM: lambda _request, _payload, reply: reply(self.describe()),
        }

    async def close(self) -> None:
        """Fetch nothing any more."""
        await cancel_all(self._fetching)

    # --- requests ---------------------------------------------------------------------------------

    def _on_request(self, message: Any, payload: Any, reply: Reply) -> None:
        request, data = wire.parse_request(message), bytes(payload)
        if isinstance(request, AppendRequest):
            self._node.log.check(data, request.previous.offset, request.end_offset)
            self._watch(request.leader.id, reply)
        self._learn(message)
        self._node.feed(events.Received(request, RequestToken(reply, data)))

    def _learn(self, message: Any) -> None:
        if isinstance(message, QuorumVoteRequest):
            self._node.links.learn(message.candidate.id, Endpoint(message.host, message.port))
        elif isinstance(message, QuorumAppendRequest):
            self._node.links.learn(message.leader.id, Endpoint(message.host, message.port))

    def _watch(self, leader_id: int, reply: Reply) -> None:
        """The end of a leader's connection is the first sign of its death."""
        name = id(reply.connection)
        if name in self._watched:
            return
        self._watched.add(name)

        def closed() -> None:
            self._watched.discard(name)
            self._node.peer_lost(leader_id)

        reply.on_close(closed)

    # --- snapshots --------------------------------------------------------------------------------

    def _on_snapshot_wanted(self, request: FetchSnapshotRequest, _: Any, reply: Reply) -> None:
        def read() -> bytes:
            snapshot = self._node.log.snapshot
            if snapshot is None or snapshot.last != request.snapshot:
                raise SnapshotNotFoundError(f"no snapshot ends at {request.snapshot} here")
            if self._encoded is None or self._encoded[0] != snapshot.last:
                self._encoded = (snapshot.last, encode_file(snapshot))
            return self._encoded[1]

        def answer(data: bytes) -> None:
            piece = data[request.position : request.position + max(1, request.max_bytes)]
            reply(FetchSnapshotResponse(len(data)), [piece] if piece else ())

        def refuse(error: Exception) -> None:
            known = error if isinstance(error, RaykafkaError) else SnapshotNotFoundError()
            reply(ErrorResponse(known.code, known.message))

        self._node.queue.put(read, answer, refuse)

    def _on_fetch_snapshot(self, leader_id: int, last: OffsetAndEpoch) -> None:
        if not self._fetching:
            task = asyncio.ensure_future(self._fetch(leader_id, last))
            self._fetching.add(task)
            task.add_done_callback(self._fetching.discard)

    async def _fetch(self, leader_id: int, last: OffsetAndEpoch) -> None:
        """The leader asks again and again, so that whatever fails here is tried again."""
        try:
            data = bytearray()
            size = 1
            while len(data) < size:
                size, piece = await self._piece(leader_id, last, len(data))
                data += piece
                if not piece or size > _MAX_SNAPSHOT_BYTES:
                    raise SnapshotNotFoundError(f"a piece of {len(piece)} of {size} bytes came")
            snapshot = decode_file(data, Snapshot, "the leader's snapshot")
        except RaykafkaError as error:
            logger.info("%s: the leader's snapshot did not come: %s", self._node.name, error)
            return
        self._node.snapshot_fetched(snapshot)

    async def _piece(
        self, leader_id: int, last: OffsetAndEpoch, position: int
    ) -> tuple[int, bytes]:
        answered: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()

        def on_response(response: Any, payload: memoryview) -> None:
            if answered.done():
                return
            if isinstance(response, FetchSnapshotResponse) and not response.error_code:
                answered.set_result((response.size, bytes(payload)))
            else:
                answered.set_exception(SnapshotNotFoundError(f"the leader answered {response}"))

        request = FetchSnapshotRequest(last, position)
        self._node.links.send(leader_id, ApiKey.FETCH_SNAPSHOT, request, (), on_response)
        return await within(answered, _FETCH_TIMEOUT_S, "a piece of the leader's snapshot")

    # --- looking ----------------------------------------------------------------------------------

    def describe(self) -> DescribeQuorumResponse:
        """The quorum as this replica knows it (KIP-595's ``DescribeQuorum``)."""
        machine = self._node.machine
        return DescribeQuorumResponse(
            replica_id=machine.local.id,
            leader_id=machine.leader_id,
            leader_epoch=machine.epoch,
            high_watermark=machine.high_watermark,
            log_start_offset=machine.log.start.offset,
            replicas=[
                *(self._replica(voter, voter=True) for voter in machine.voters.voters),
                *self._observers(),
            ],
        )

    def _observers(self) -> list[QuorumReplicaInfo]:
        machine = self._node.machine
        leading = machine.leading
        if leading is not None and leading.adding is not None:
            return [self._replica(leading.adding, voter=False)]
        return []

    def _replica(self, known: Any, *, voter: bool) -> QuorumReplicaInfo:
        machine = self._node.machine
        end, lag, heard_ms = -1, -1, -1
        if machine.leading is not None:
            newest = machine.log.end_offset
            progress = machine.leading.progress.get(known.key)
            if known.key == machine.local:
                end, heard_ms = newest, 0
            elif progress is not None:
                end, heard_ms = progress.position, self._node.age_ms(progress.heard_ms)
            lag = newest - end
        return QuorumReplicaInfo(
            known.id, known.directory_id, known.host, known.port, voter, end, lag, heard_ms
        )
