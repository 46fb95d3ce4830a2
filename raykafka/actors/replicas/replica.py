"""One replica in a partition actor's house: its log, its role, and everyone who waits for it.

Only the actor's loop touches a replica, but for ``flush`` and for whoever sets ``rebuilding``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from raykafka.actors.ports import Buffer, PartitionAssignment, Reply
from raykafka.actors.replicas.outlets import Outlets
from raykafka.actors.replicas.waiting import Waiter
from raykafka.config import TopicConfig
from raykafka.errors import LogDamagedError, NotLeaderOrFollowerError, RaykafkaError
from raykafka.internal_topics import INTERNAL_TOPICS
from raykafka.model import FsyncPolicy, PartitionId, TimestampType
from raykafka.protocol.messages import ProduceResponse
from raykafka.replication.effects import AdvanceHighWatermark, ReplicaEffect, ReplyProduce
from raykafka.replication.events import BecomeFollower, BecomeLeader, Configured, Replicated, Resign
from raykafka.replication.leader import ReplicaMachine
from raykafka.replication.role import Role
from raykafka.storage.partition_log import PartitionLog

if TYPE_CHECKING:
    from raykafka.actors.replicas.copying import ReplicaStream

ParkedProduce = tuple[Reply, ProduceResponse]
"""A produce that waits for the high watermark, with the answer it gets then; a plain tuple, made
for every produce."""


class FreshBatch(NamedTuple):
    """A batch that has just been appended, for the readers that wait for it."""

    base_offset: int
    next_offset: int
    message: Buffer


class Replica:
    """A log, the machine of its role, and the settings every request needs at hand."""

    __slots__ = (
        "appended_bytes",
        "assignment",
        "config",
        "flushes",
        "fresh",
        "gone",
        "leader_log_start",
        "log",
        "log_append_time",
        "machine",
        "max_message_bytes",
        "outlets",
        "partition",
        "rebuilding",
        "schemas",
        "streams",
        "topic",
        "waiters",
        "wake_pending",
    )

    def __init__(
        self,
        assignment: PartitionAssignment,
        config: TopicConfig,
        schemas: Sequence[pa.Schema],
        log: PartitionLog,
        machine: ReplicaMachine,
        outlets: Outlets,
    ) -> None:
        self.partition: PartitionId = assignment.partition
        self.topic = assignment.topic
        self.log = log
        self.machine = machine
        self.outlets = outlets
        self.appended_bytes = 0
        """Bytes appended by this process; only ever grows."""
        self.waiters: dict[Waiter, int] = {}
        """Parked readers and the offset each of them waits for."""
        self.leader_log_start = -1
        """Where the log begins at the leader, as a follower heard last."""
        self.streams: dict[int, ReplicaStream] = {}
        """What followers copy through, by broker id."""
        self.wake_pending = False
        self.rebuilding = False
        """Whether a thread is cutting or filling the log: nobody else may change it."""
        self.gone: RaykafkaError | None = None
        """Why the replica is no longer served here; None while it is."""
        self.fresh: FreshBatch | None = None
        """The batch that readers are being woken for; kept no longer than that."""
        self.configure(assignment, config, schemas)

    def configure(
        self, assignment: PartitionAssignment, config: TopicConfig, schemas: Sequence[pa.Schema]
    ) -> None:
        """Take over the topic's settings; the log has them already."""
        self.assignment = assignment
        self.config = config
        self.schemas = schemas
        internal = assignment.topic in INTERNAL_TOPICS
        self.max_message_bytes = -1 if internal else config.max_message_bytes
        """Largest batch that a client may write; -1 where only coordinators do."""
        self.flushes = config.fsync is not FsyncPolicy.NONE
        """Whether the flusher has to hear of appends."""
        self.log_append_time = config.message_timestamp_type is TimestampType.LOG_APPEND_TIME

    @property
    def high_watermark(self) -> int:
        """End of what readers may see."""
        return self.machine.high_watermark

    def readable_end(self, isolation: int) -> int:
        """End of what readers of an isolation level may see."""
        high_watermark = self.machine.high_watermark
        return self.log.last_stable_offset(high_watermark) if isolation else high_watermark

    @property
    def leader_epoch(self) -> int:
        """The epoch this replica leads or follows in."""
        return self.machine.leader_epoch

    def flush(self) -> int:
        """Make what was appended durable; blocks, and may run in a thread beside appends."""
        flushed: int = self.log.flush()
        return flushed

    def lead(self, assignment: PartitionAssignment, *, now_ms: int) -> None:
        """Lead as ``assignment`` says; the same epoch again takes settings and the ISR over.

        Raises ``FencedLeaderEpochError`` when a newer epoch is known.
        """
        log, machine = self.log, self.machine
        durable = self.config.fsync is FsyncPolicy.BATCH
        minimum = self.config.min_insync_replicas
        again = machine.role is Role.LEADER and assignment.leader_epoch == machine.leader_epoch
        if again:
            self.apply(machine.on_event(Configured(minimum, durable), now_ms=now_ms))
        event = BecomeLeader(
            leader_epoch=assignment.leader_epoch,
            isr=frozenset(assignment.isr),
            log_end_offset=log.log_end_offset,
            flushed_offset=log.flushed_offset,
            high_watermark=log.high_watermark,
            min_insync_replicas=minimum,
            replicas=frozenset(assignment.replicas),
            partition_epoch=assignment.partition_epoch,
            durable=durable,
        )
        self.apply(machine.on_event(event, now_ms=now_ms))
        self.gone = None
        if not again:
            self._forget_former_leader()
            self._end_streams()
            self.outlets.leadership.led(self)

    def follow(self, assignment: PartitionAssignment, *, now_ms: int) -> None:
        """Follow the leader of ``assignment``; with none known, wait for one.

        Raises ``FencedLeaderEpochError`` when a newer epoch is known.
        """
        event = BecomeFollower(assignment.leader_epoch, assignment.leader_id)
        effects = self.machine.on_event(event, now_ms=now_ms)
        self.gone = None
        self.outlets.leadership.unled(self)
        self._forget_former_leader()
        self._send_away(
            NotLeaderOrFollowerError(
                f"{self.topic}-{self.partition.partition} is led by another broker now; refresh"
                " the metadata"
            )
        )
        self.apply(effects)

    def apply(self, effects: Sequence[ReplicaEffect]) -> None:
        """Do what the machine asks for: answer producers first, then wake readers."""
        for effect in effects:
            if isinstance(effect, ReplyProduce):
                answer_produce(effect.token, effect.error)
            elif isinstance(effect, AdvanceHighWatermark):
                if self.waiters:
                    self.outlets.wake.add(self)
                if self.streams:
                    self.outlets.high_watermarks.moved(self)
            else:
                self.outlets.proposals.propose(self, effect.isr, effect.partition_epoch)

    def being_cut(self) -> RaykafkaError:
        """What readers are told while a thread changes the log: nobody else may look at it then."""
        return NotLeaderOrFollowerError(
            f"this copy of {self.topic}-{self.partition.partition} is being brought in line with"
            " its leader's; refresh the metadata"
        )

    def on_damaged(self, error: LogDamagedError) -> RaykafkaError:
        """A reader has met damage; what it is told.

        Where others are in sync one of them shall lead, and this copy is made again from it. It
        serves nothing more: the other one may lead before this one hears of it.
        """
        if len(self.machine.isr) < 2:
            return error
        self.outlets.proposals.report_failed(self)
        gone = NotLeaderOrFollowerError(
            f"this copy is damaged and another one is going to lead: {error.message}"
        )
        self.resign(gone, now_ms=0)
        return gone

    def on_cut(self, *, now_ms: int) -> None:
        """The follower's log has been cut, or begun anew."""
        event = Replicated(self.log.log_end_offset, self.log.log_start_offset)
        self.apply(self.machine.on_event(event, now_ms=now_ms))

    def resign(self, error: RaykafkaError, *, now_ms: int) -> None:
        """Stop serving: everyone who waits is told ``error``."""
        for effect in self.machine.on_event(Resign(), now_ms=now_ms):
            if isinstance(effect, ReplyProduce):
                answer_produce(effect.token, error)
        self.gone = error
        self.outlets.leadership.unled(self)
        self._send_away(error)

    def _send_away(self, error: RaykafkaError) -> None:
        """Tell everyone who waits, and end what followers copy through."""
        waiters, self.waiters = list(self.waiters), {}
        for waiter in waiters:
            waiter.on_gone(self, error)
        self._end_streams()

    def _forget_former_leader(self) -> None:
        """What was true under it need not be any more: its last batch may be cut off the log."""
        self.fresh = None
        self.leader_log_start = -1

    def _end_streams(self) -> None:
        streams, self.streams = self.streams, {}
        for stream in streams.values():
            stream.end()


def answer_produce(parked: ParkedProduce, error: RaykafkaError | None) -> None:
    """Send the answer of a parked produce."""
    reply, response = parked
    if error is None:
        reply(response)
    else:
        reply(ProduceResponse(error_code=error.code, error_message=error.message))
