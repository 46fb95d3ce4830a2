"""One replica in a partition actor's house: its log, its role, and everyone who waits for it.

Only the actor's loop touches a replica, but for ``flush``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa

from raykafka.actors.ports import Buffer, PartitionAssignment, Reply
from raykafka.actors.replicas.waiting import Waiter, WakeQueue
from raykafka.config import TopicConfig
from raykafka.errors import RaykafkaError
from raykafka.model import FsyncPolicy, PartitionId, TimestampType
from raykafka.protocol.messages import ProduceResponse
from raykafka.replication.effects import ReplicaEffect, ReplyProduce
from raykafka.replication.events import BecomeLeader, Configured, Resign
from raykafka.replication.leader import ReplicaMachine
from raykafka.storage.partition_log import PartitionLog

ParkedProduce = tuple[Reply, ProduceResponse]
"""A produce that waits for the high watermark, with the answer it gets then; a plain tuple, made
for every produce."""


class FreshBatch(NamedTuple):
    """A batch that has just been appended, for the readers that wait for it."""

    base_offset: int
    next_offset: int
    message: Buffer


class Replica:
    """A log, the machine that leads it, and the settings every request needs at hand."""

    __slots__ = (
        "appended_bytes",
        "assignment",
        "config",
        "flushes",
        "fresh",
        "gone",
        "log",
        "log_append_time",
        "machine",
        "max_message_bytes",
        "partition",
        "schemas",
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
        local_id: int,
    ) -> None:
        self.partition: PartitionId = assignment.partition
        self.topic = assignment.topic
        self.log = log
        self.machine = ReplicaMachine(local_id)
        self.appended_bytes = 0
        """Bytes appended by this process; only ever grows."""
        self.waiters: dict[Waiter, int] = {}
        """Parked readers and the offset each of them waits for."""
        self.wake_pending = False
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
        self.max_message_bytes = config.max_message_bytes
        self.flushes = config.fsync is not FsyncPolicy.NONE
        """Whether the flusher has to hear of appends."""
        self.log_append_time = config.message_timestamp_type is TimestampType.LOG_APPEND_TIME

    @property
    def high_watermark(self) -> int:
        """End of what readers may see."""
        return self.machine.high_watermark

    @property
    def leader_epoch(self) -> int:
        """The epoch this replica leads in."""
        return self.machine.leader_epoch

    def flush(self) -> int:
        """Make what was appended durable; blocks, and may run in a thread beside appends."""
        flushed: int = self.log.flush()
        return flushed

    def become_leader(self, leader_epoch: int, wake: WakeQueue, *, now_ms: int) -> None:
        """Lead in ``leader_epoch``, alone in sync; the same epoch again only takes settings over.

        Raises ``FencedLeaderEpochError`` when a newer epoch is known.
        """
        log, machine = self.log, self.machine
        durable = self.config.fsync is FsyncPolicy.BATCH
        if leader_epoch == machine.leader_epoch:
            event: BecomeLeader | Configured = Configured(self.config.min_insync_replicas, durable)
        else:
            # The only copy there is: what was recovered from it is committed.
            event = BecomeLeader(
                leader_epoch=leader_epoch,
                isr=frozenset((machine.local_id,)),
                log_end_offset=log.log_end_offset,
                flushed_offset=log.flushed_offset,
                high_watermark=log.flushed_offset if durable else log.log_end_offset,
                min_insync_replicas=self.config.min_insync_replicas,
                durable=durable,
            )
        self.apply(machine.on_event(event, now_ms=now_ms), wake)

    def apply(self, effects: Sequence[ReplicaEffect], wake: WakeQueue) -> None:
        """Do what the machine asks for: answer producers first, then wake readers."""
        for effect in effects:
            if isinstance(effect, ReplyProduce):
                answer_produce(effect.token, effect.error)
            elif self.waiters:
                wake.add(self)

    def resign(self, error: RaykafkaError, *, now_ms: int) -> None:
        """Stop serving: everyone who waits is told ``error``."""
        self.gone = error
        for effect in self.machine.on_event(Resign(), now_ms=now_ms):
            if isinstance(effect, ReplyProduce):
                answer_produce(effect.token, error)
        waiters, self.waiters = list(self.waiters), {}
        for waiter in waiters:
            waiter.on_gone(self, error)


def answer_produce(parked: ParkedProduce, error: RaykafkaError | None) -> None:
    """Send the answer of a parked produce."""
    reply, response = parked
    if error is None:
        reply(response)
    else:
        reply(ProduceResponse(error_code=error.code, error_message=error.message))
