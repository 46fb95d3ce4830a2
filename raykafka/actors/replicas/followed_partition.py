"""The follower's side of replication: copies partitions from their leaders.

A stream begins with what the follower has: its end, and the epoch of its last batch. Where the two
logs part the leader says so, and the follower cuts what the leader never had (KIP-101, KIP-279):
by leader epoch, never by high watermark. Every batch is verified before it is written.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from raykafka.actors.ports import PeerConnection
from raykafka.actors.replicas.replica import Replica
from raykafka.errors import (
    ConnectionLostError,
    CorruptMessageError,
    DiskFullError,
    FencedLeaderEpochError,
    KafkaStorageError,
    RaykafkaError,
)
from raykafka.log.batch_header import BatchHeader, verify
from raykafka.log.epochs import EpochEnd, truncation_offset
from raykafka.model import Endpoint, FsyncPolicy
from raykafka.protocol.messages import ApiKey, Message
from raykafka.protocol.replication_messages import (
    CatchUpRequest,
    CatchUpResponse,
    ReplicaPositionRequest,
    ReplicateRequest,
    ReplicateResponse,
)
from raykafka.replication.events import Replicated

if TYPE_CHECKING:
    from raykafka.actors.replicas.following import Following

logger = logging.getLogger(__name__)

_FIRST_PAUSE_S: Final = 0.02
_LONGEST_PAUSE_S: Final = 1.0


class FollowedPartition:
    """One partition that is copied from the leader of one epoch."""

    def __init__(self, following: Following, replica: Replica, endpoint: Endpoint) -> None:
        self.replica = replica
        self.endpoint = endpoint
        self.leader_epoch = replica.leader_epoch
        self._following = following
        self._connection: PeerConnection | None = None
        self._session = 0
        """Correlation id of the open stream; 0 while there is none."""
        self._received_bytes = 0
        self._pause_s = _FIRST_PAUSE_S
        self._timer: asyncio.TimerHandle | None = None
        self._mending = False
        """Whether threads change the log, now or when it is its turn: no stream may be opened."""
        self._has_gained = False
        """Whether the log has grown since it was found to be far behind."""
        self._end_before = 0
        """Where it ended when its turn to catch up began."""
        self.ended = False

    def on_connected(self, connection: PeerConnection) -> None:
        """Open the stream from the end of the log."""
        self._connection = connection
        self._session = 0
        self._open()

    def end(self) -> None:
        """Copy no more; what still comes is thrown away."""
        self._leave_stream()
        self._cancel_timer()
        self.ended = True

    @property
    def _durable(self) -> bool:
        """Whether only what is flushed counts as copied."""
        return self.replica.config.fsync is FsyncPolicy.BATCH

    def acknowledge(self) -> None:
        """Tell the leader how far this log is."""
        connection, log = self._connection, self.replica.log
        if connection is None or connection.closed or not self._session or self.ended:
            return
        offset = log.flushed_offset if self._durable else log.log_end_offset
        position = ReplicaPositionRequest(self._session, offset, self._received_bytes)
        connection.send(ApiKey.REPLICA_POSITION, position)

    def _acknowledge_in(self, pause_s: float) -> None:
        """At once, or later so that the leader sends no faster than it may."""
        if pause_s > 0:
            asyncio.get_running_loop().call_later(pause_s, self.acknowledge)
        else:
            self.acknowledge()

    def _open(self) -> None:
        connection, replica = self._connection, self.replica
        if self.ended or self._mending or connection is None or connection.closed:
            return
        # Frames of two streams at a time would not follow each other.
        self._leave_stream()
        self._cancel_timer()
        self._received_bytes = 0
        log, partition, local = replica.log, replica.partition, self._following.identity
        request = ReplicateRequest(
            topic_id=partition.topic_id,
            partition=partition.partition,
            leader_epoch=self.leader_epoch,
            replica_id=local[0],
            incarnation=local[1],
            offset=log.log_end_offset,
            last_epoch=log.epochs.latest_epoch,
            credit_bytes=self._following.credit_bytes,
        )
        self._session = connection.send(ApiKey.REPLICATE, request, (), self._on_answer, stream=True)
        self.acknowledge()  # where the log is durable may be before where it ends

    def _leave_stream(self) -> None:
        """Throw away what still comes on the present stream, and let the leader send no more."""
        connection, session = self._connection, self._session
        if connection is None or not session:
            return
        self._session = 0
        connection.forget(session)
        if not connection.closed:
            connection.send(ApiKey.REPLICA_POSITION, ReplicaPositionRequest(session, -1, 0, True))

    def _cancel_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _open_later(self) -> None:
        if not self.ended and self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._pause_s, self._on_timer)
            self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)

    def _on_timer(self) -> None:
        self._timer = None
        self._open()

    def _on_answer(self, answer: Message | RaykafkaError, payload: memoryview) -> None:
        if self.ended or isinstance(answer, ConnectionLostError):
            return  # the link connects again
        if isinstance(answer, RaykafkaError):
            logger.debug("%s cannot be copied now: %s", self.replica.topic, answer)
            self._session = 0
            self._open_later()
            return
        assert isinstance(answer, ReplicateResponse)
        if answer.restart_at >= 0 or answer.diverging_end >= 0:
            self._leave_stream()
            self._mending = True
            self._following.mend(self, answer)
            return
        if answer.far_behind:
            self._leave_stream()
            self._mending, self._has_gained = True, False
            self._following.catch_up.add(self)
            return
        end = self.replica.log.log_end_offset
        try:
            self._append(answer.sizes, payload)
        except RaykafkaError as error:
            self._on_not_taken(error)
        else:
            self._on_taken(answer, len(payload))
        finally:
            self._flush_beyond(end)

    # --- far behind: see ``catching_up.FarBehind`` ------------------------------------------------

    def catch_up_request(self, offset: int, max_bytes: int) -> CatchUpRequest | None:
        """See the protocol."""
        if self.ended:
            return None
        partition, local = self.replica.partition, self._following.identity
        return CatchUpRequest(
            topic_id=partition.topic_id,
            partition=partition.partition,
            leader_epoch=self.leader_epoch,
            replica_id=local[0],
            incarnation=local[1],
            offset=self.replica.log.log_end_offset if offset < 0 else offset,
            max_bytes=min(max_bytes, self._following.credit_bytes // 2),
        )

    def pause_for(self, size: int) -> float:
        """See the protocol."""
        return self._following.pause_for(self.replica, size)

    def append(self, answer: CatchUpResponse, payload: memoryview) -> None:
        """See the protocol."""
        self._append(answer.sizes, payload)

    def on_turn(self, *, begins: bool) -> None:
        """See the protocol."""
        log = self.replica.log
        self.replica.rebuilding = begins
        if begins:
            self._end_before = log.log_end_offset
        else:
            self._flush_beyond(self._end_before)

    def on_appended(self, answer: CatchUpResponse, size: int) -> None:
        """See the protocol."""
        if not self.ended:
            self._has_gained = True
            self._on_appended(answer, size)

    def on_append_failed(self, error: RaykafkaError) -> None:
        """See the protocol."""
        self._on_not_taken(error)

    def on_caught_up(self, error: RaykafkaError | None) -> None:
        """See the protocol."""
        self._mending = False
        if error is not None:
            logger.debug("%s does not catch up now: %s", self.replica.topic, error)
        if self._has_gained and error is None:
            self._open()
        else:
            self._open_later()

    def _flush_beyond(self, end: int) -> None:
        """See to it that what was appended behind ``end`` is flushed, whatever came of the rest."""
        replica = self.replica
        if replica.log.log_end_offset != end and (replica.flushes or replica.log.needs_flush):
            self._following.on_appended(replica)

    def _on_not_taken(self, error: RaykafkaError) -> None:
        """Most often the log is well: the disk is full, or the topic's new schema is not known
        here yet.
        """
        self._give_up(error)
        if isinstance(error, KafkaStorageError) and not isinstance(error, DiskFullError):
            self._following.on_log_failed(self.replica, error)

    def _give_up(self, error: RaykafkaError) -> None:
        """Begin the stream anew after a while, from what is in the log then."""
        logger.warning("%s: a batch was not taken: %s", self.replica.topic, error)
        self._leave_stream()
        self._open_later()

    def _append(self, sizes: Sequence[int], payload: memoryview) -> None:
        """May run in a thread while nobody else uses the log."""
        replica = self.replica
        headers: list[BatchHeader] = []
        position, damaged = 0, None
        for size in sizes:
            try:
                header = verify(payload[position : position + size], replica.partition)
            except CorruptMessageError as error:
                damaged = error
                break
            if header.leader_epoch > self.leader_epoch:
                raise FencedLeaderEpochError(
                    f"{replica.topic}: a batch of epoch {header.leader_epoch} was sent by the"
                    f" leader of {self.leader_epoch}: it leads no more"
                )
            headers.append(header)
            position += size
        if headers:
            now_ms = self._following.clock.now_ms()
            replica.log.append_replicated(payload[:position], headers, now_ms=now_ms)
        if damaged is not None:
            raise damaged  # it is asked for once more, and its leader looks at it where it begins

    def _on_taken(self, answer: ReplicateResponse, size: int) -> None:
        if answer.sizes:
            self._received_bytes += size
            if not self._durable:
                self._acknowledge_in(self._following.pause_for(self.replica, size))
        self._on_appended(answer, size)

    def _on_appended(self, answer: ReplicateResponse | CatchUpResponse, size: int) -> None:
        replica, log = self.replica, self.replica.log
        if size:
            replica.appended_bytes += size
            self._pause_s = _FIRST_PAUSE_S
        replica.leader_log_start = answer.log_start_offset
        replica.apply(
            replica.machine.on_event(
                Replicated(log.log_end_offset, answer.high_watermark),
                now_ms=self._following.clock.monotonic_ms(),
            )
        )

    async def mend(self, answer: ReplicateResponse) -> None:
        """Cut what the leader never had, or begin anew where it begins; then go on."""
        replica = self.replica
        try:
            async with self._following.catch_up.first_turn():
                if self.ended:
                    return
                replica.rebuilding = True
                try:
                    await asyncio.get_running_loop().run_in_executor(None, self._rebuild, answer)
                finally:
                    replica.rebuilding = False
                replica.on_cut(now_ms=self._following.clock.monotonic_ms())
        except DiskFullError as error:
            self._give_up(error)  # nothing was changed
            return
        except RaykafkaError as error:
            self._following.on_log_failed(replica, error)
            return
        finally:
            self._mending = False
        self._open()

    def _rebuild(self, answer: ReplicateResponse) -> None:
        """Runs in a thread; nobody else uses the log."""
        topic, log = self.replica.topic, self.replica.log
        if answer.restart_at >= 0:
            logger.warning("%s begins anew at %d", topic, answer.restart_at)
            log.restart_at(answer.restart_at)
            return
        diverging = EpochEnd(answer.diverging_epoch, answer.diverging_end)
        end = truncation_offset(log.epochs, log.log_end_offset, diverging)
        logger.info("%s is cut from %d to %d", topic, log.log_end_offset, end)
        if end == log.log_start_offset:
            log.restart_at(end)  # even an empty log may know an epoch that the leader does not
        else:
            log.truncate_to(end)
