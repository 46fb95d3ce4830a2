"""The leader's side of replication: serves REPLICATE and REPLICA_POSITION.

A stream pushes one partition to one follower. A batch that has just been appended is sent as it
came, while the log still takes note of it; whatever a follower missed is read from the log. The
follower's position is its acknowledgement and gives credit back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

from raykafka.actors.ports import Buffer, Reply
from raykafka.actors.replicas.catch_up import CatchUpWindow
from raykafka.actors.replicas.reading import PartitionReader
from raykafka.actors.replicas.replica import Replica
from raykafka.actors.replicas.replica_set import ReplicaSet
from raykafka.actors.replicas.throttle import Throttle
from raykafka.clock import Clock
from raykafka.errors import (
    CorruptMessageError,
    LogDamagedError,
    RaykafkaError,
    StaleBrokerEpochError,
    UnknownLeaderEpochError,
)
from raykafka.log.batch_header import read_header, verify
from raykafka.log.epochs import find_divergence
from raykafka.protocol.messages import ErrorResponse
from raykafka.protocol.replication_messages import (
    ReplicaPositionRequest,
    ReplicateRequest,
    ReplicateResponse,
)
from raykafka.replication.events import FollowerAttached

FRAME_BYTES: Final = 256 << 10
"""What one frame carries to a follower that catches up, or one batch if that is larger."""


class ReplicaStream:
    """One partition on its way to one follower; everything happens on the actor's loop."""

    __slots__ = (
        "_acked_bytes",
        "_blocked",
        "_catch_up",
        "_credit",
        "_forget",
        "_handler",
        "_loaded",
        "_looked_at",
        "_next_offset",
        "_reply",
        "_sent_bytes",
        "_told",
        "_unpaid_bytes",
        "ended",
        "replica",
        "replica_id",
    )

    def __init__(
        self,
        replica: Replica,
        request: ReplicateRequest,
        reply: Reply,
        handler: CopyHandler,
        catch_up: CatchUpWindow,
        forget: Callable[[], None],
    ) -> None:
        """``forget`` is called once, when the stream has ended."""
        self.replica = replica
        self.replica_id = request.replica_id
        self.ended = False
        self._reply = reply
        self._handler = handler
        self._catch_up = catch_up
        self._forget = forget
        self._credit = request.credit_bytes
        self._next_offset = request.offset
        self._sent_bytes = 0
        self._looked_at = 0
        """Bytes sent when it is looked next whether the follower is far behind."""
        self._acked_bytes = 0
        self._unpaid_bytes = 0
        """What of the window of its connection this stream has taken."""
        self._told = -1
        """The high watermark that the follower knows."""
        self._loaded = -1
        """Offset from which the disk was read last."""
        self._blocked = False
        """Whether somebody else calls ``pump`` later."""

    def on_appended(self, base_offset: int, next_offset: int, message: Buffer) -> None:
        """A batch is in the leader's file: send it on if the follower has all before it."""
        if (
            base_offset != self._next_offset
            or self._blocked
            or self._sent_bytes - self._acked_bytes >= self._credit
        ):
            return  # it goes on from the log when the follower has taken what is on its way
        if self._reply.writable:
            self._send((message,), [len(message)], len(message), next_offset)
        else:
            self._wait_until_writable()

    def on_position(self, received_bytes: int) -> None:
        """The follower has taken that much: go on if there is more."""
        paid = min(received_bytes - self._acked_bytes, self._unpaid_bytes)
        self._acked_bytes = received_bytes
        self._unpaid_bytes -= paid
        self._catch_up.give_back(paid)
        if self._next_offset < self.replica.log.log_end_offset:
            self.pump()

    def tell_high_watermark(self) -> None:
        """Let the follower know how far the partition is committed, unless it does."""
        if self._told < self.replica.high_watermark and not self.ended:
            self._send((), [], 0, self._next_offset)

    def pump(self) -> None:
        """Send what the follower lacks, as far as credit and its connection allow."""
        log, reply = self.replica.log, self._reply
        try:
            while (
                not self.ended
                and not self._blocked
                and self._next_offset < log.log_end_offset
                and self._sent_bytes - self._acked_bytes < self._credit
            ):
                if not reply.writable:
                    self._wait_until_writable()
                elif self._is_behind and self._catch_up.full:
                    self._blocked = True
                    self._catch_up.wait(self._go_on)
                elif self._is_loading():
                    return
                elif self._is_far_behind():
                    self._hand_over()
                else:
                    self._send_from_log()
        except LogDamagedError as error:
            self.fail(self.replica.on_damaged(error))
        except RaykafkaError as error:
            self.fail(error)

    def fail(self, error: RaykafkaError) -> None:
        """Tell the follower that it cannot copy now; it tries again."""
        if not self.ended:
            self.drop()
            self._reply(ErrorResponse(error.code, error.message))

    def end(self) -> None:
        """The partition is led by another one from now on, or by this one in another epoch."""
        self.fail(UnknownLeaderEpochError("this leader's epoch is over; ask the next one"))

    def drop(self) -> None:
        """Send nothing more: the follower has gone or opened another stream."""
        if not self.ended:
            self.ended = True
            if self.replica.streams.get(self.replica_id) is self:
                del self.replica.streams[self.replica_id]
            self._forget()
            unpaid, self._unpaid_bytes = self._unpaid_bytes, 0
            self._catch_up.give_back(unpaid)

    @property
    def _is_behind(self) -> bool:
        """Whether the follower is not in sync, so that nobody waits for it."""
        return self.replica_id not in self.replica.machine.isr

    def _wait_until_writable(self) -> None:
        self._blocked = True
        self._reply.on_writable(self._go_on)

    def _go_on(self) -> None:
        self._blocked = False
        self.pump()

    def _is_loading(self) -> bool:
        """Whether the next batches have to come from the disk first, in a thread."""
        offset, log = self._next_offset, self.replica.log
        if self._loaded == offset:
            return False
        load = log.cold(offset, max_bytes=FRAME_BYTES, up_to=log.log_end_offset)
        if load is None:
            return False
        self._loaded = offset
        self._blocked = True
        self._handler.reader.load(load, self._go_on)
        return True

    def _is_far_behind(self) -> bool:
        """Whether the follower lacks more committed batches than are to wait behind each other.

        Looked at where the stream begins and once for each credit.
        """
        if not self._is_behind or self._sent_bytes < self._looked_at:
            return False
        self._looked_at = self._sent_bytes + self._credit
        log, committed = self.replica.log, self.replica.high_watermark
        offset, room = self._next_offset, self._credit
        while offset < committed:
            try:
                stretch = log.stretch(offset, max_bytes=max(room, 1), up_to=committed)
            except LogDamagedError:
                break  # what stands before it comes on the stream, which says so then
            if stretch is None:
                break
            room -= sum(stretch.sizes)
            if room < 0:
                return True
            offset = stretch.next_offset
        return False

    def _hand_over(self) -> None:
        """Let the follower catch up from the log's files; it opens another stream afterwards."""
        if not self._sent_bytes:
            self._read()  # verified where a stream begins: the follower may have refused it
        self.drop()
        self._reply(ReplicateResponse(far_behind=True))

    def _send_from_log(self) -> None:
        batches: Sequence[Buffer] = self._read()
        next_offset = read_header(batches[-1]).next_offset
        if next_offset > self.replica.high_watermark:
            # A later leader may have this cut off the file, and no mapping of what is cut may live.
            batches = [bytes(batch) for batch in batches]
        sizes = [len(batch) for batch in batches]
        size = sum(sizes)
        self._send(batches, sizes, size, next_offset)
        if self._is_behind:
            self._unpaid_bytes += size
            self._catch_up.take(size)
            pause_s = self._handler.throttle.take(size, self._handler.clock.monotonic_ms())
            if pause_s > 0:
                self._blocked = True
                asyncio.get_running_loop().call_later(pause_s, self._go_on)

    def _read(self) -> list[memoryview]:
        """The next batches, verified where a stream begins.

        A follower refuses what the disk has damaged and asks for it again, on another stream: there
        it is found, or it would be asked for again for ever.
        """
        log, partition = self.replica.log, self.replica.partition
        for _ in range(2):
            batches: list[memoryview] = log.read(
                self._next_offset, max_bytes=FRAME_BYTES, up_to=log.log_end_offset
            )
            try:
                if self._sent_bytes:
                    read_header(batches[-1])  # says where the next ones begin
                    return batches
                for batch in batches:
                    verify(batch, partition)
            except CorruptMessageError:
                log.doubt(self._next_offset)
            else:
                return batches
        raise LogDamagedError(f"{self.replica.topic} cannot be read at {self._next_offset}")

    def _send(
        self,
        batches: Sequence[Buffer],
        sizes: list[int],
        size: int,
        next_offset: int,
    ) -> None:
        replica = self.replica
        self._told = replica.high_watermark
        self._sent_bytes += size
        self._next_offset = next_offset
        start = replica.log.log_start_offset
        self._reply(ReplicateResponse(self._told, start, sizes), batches)


class CopyHandler:
    """Owns the streams of one partition actor's followers."""

    def __init__(
        self, replicas: ReplicaSet, reader: PartitionReader, throttle: Throttle, clock: Clock
    ) -> None:
        self.reader = reader
        self.clock = clock
        self.throttle = throttle
        self._replicas = replicas
        self._streams: dict[object, dict[int, ReplicaStream]] = {}
        """By connection and correlation id."""
        self._windows: dict[object, CatchUpWindow] = {}

    def handle_replicate(self, request: ReplicateRequest, payload: Any, reply: Reply) -> None:
        """REPLICATE. Answered at once where the logs part, else by the stream.

        Raises ``StaleBrokerEpochError`` for what a dead process has sent, which comes late where a
        network was cut; ``NotLeaderOrFollowerError``, ``FencedLeaderEpochError``,
        ``UnknownTopicIdError``, or ``UnknownLeaderEpochError`` where the follower knows more than
        this leader yet.
        """
        replica = self._replicas.leader(
            request.topic_id, request.partition, request.leader_epoch, self.clock.monotonic_ms()
        )
        machine, log = replica.machine, replica.log
        if request.replica_id not in machine.in_sync.replicas:
            raise UnknownLeaderEpochError(
                f"this leader does not know of a replica on broker {request.replica_id} yet"
            )
        if request.offset < log.log_start_offset:
            reply(ReplicateResponse(restart_at=log.log_start_offset))
            return
        parting = find_divergence(
            log.epochs, log.log_end_offset, request.last_epoch, request.offset
        )
        if parting is not None:
            reply(
                ReplicateResponse(diverging_epoch=parting.epoch, diverging_end=parting.end_offset)
            )
            return
        if request.incarnation < machine.in_sync.incarnation(request.replica_id):
            raise StaleBrokerEpochError(
                f"the replica on broker {request.replica_id} has had another process since"
            )
        before = replica.streams.get(request.replica_id)
        if before is not None:
            # A follower that has left it does not listen; one whose older request was late does,
            # and must not wait for ever.
            before.fail(UnknownLeaderEpochError("another stream was opened in the place of this"))
        streams, session = self._streams_of(reply), reply.correlation_id

        def forget() -> None:
            streams.pop(session, None)

        window = self._windows[reply.connection]
        stream = ReplicaStream(replica, request, reply, self, window, forget)
        streams[session] = stream
        replica.streams[request.replica_id] = stream
        event = FollowerAttached(request.replica_id, request.incarnation, request.offset)
        replica.apply(machine.on_event(event, now_ms=self.clock.monotonic_ms()))
        stream.pump()
        stream.tell_high_watermark()

    def handle_position(self, request: ReplicaPositionRequest, payload: Any, reply: Reply) -> None:
        """REPLICA_POSITION. A stream that has ended meanwhile is no error."""
        streams = self._streams.get(reply.connection)
        stream = None if streams is None else streams.get(request.session)
        if stream is None:
            return
        if request.close:
            stream.drop()
            return
        replica = stream.replica
        replica.apply(
            replica.machine.on_follower_advanced(
                stream.replica_id, request.offset, self.clock.monotonic_ms()
            )
        )
        stream.on_position(request.received_bytes)

    def _streams_of(self, reply: Reply) -> dict[int, ReplicaStream]:
        """Streams of the connection that a request came on."""
        connection = reply.connection
        streams = self._streams.get(connection)
        if streams is None:
            streams = self._streams[connection] = {}
            self._windows[connection] = CatchUpWindow()
            # One callback per connection, not per stream: a partition opens many in its life.
            reply.on_close(lambda: self._drop_all(connection))
        return streams

    def _drop_all(self, connection: object) -> None:
        for stream in list(self._streams.pop(connection, {}).values()):
            stream.drop()
        self._windows.pop(connection, None)
