"""Serves PRODUCE: checks one batch from outside, appends it, answers when its condition holds.

The checks come in the order of their cost, and nothing is written before all of them have passed.
A request costs no task, no future and no copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pyarrow as pa

from raykafka.actors.ports import Buffer, Reply
from raykafka.actors.replicas.flushing import Flusher
from raykafka.actors.replicas.replica import FreshBatch, ParkedProduce, Replica
from raykafka.actors.replicas.replica_set import ReplicaSet
from raykafka.actors.replicas.transactional import TransactionGate, check_special
from raykafka.actors.replicas.waiting import WakeQueue
from raykafka.clock import Clock
from raykafka.errors import (
    InvalidRecordError,
    InvalidTopicError,
    MessageTooLargeError,
    RaykafkaError,
    ServerBusyError,
    UnknownSchemaVersionError,
)
from raykafka.log.batch import validate_batch
from raykafka.log.batch_header import SPECIAL, BatchHeader, verify
from raykafka.log.schema import UNTYPED_SCHEMA
from raykafka.log.small_batch import is_one_record
from raykafka.model import Acks
from raykafka.protocol.messages import ProduceRequest, ProduceResponse
from raykafka.storage.disk_guard import DiskGuard
from raykafka.storage.log_types import AppendResult

ALL = int(Acks.ALL)
MAX_PENDING_PRODUCES = 10_000
"""Batches of one partition that may wait to be committed."""


MAX_FRESH_BYTES = 64 << 10
"""A batch up to this size is handed to waiting readers as it came; a larger one is not kept."""


class ProduceHandler:
    """Appends batches to the replicas of one partition actor."""

    def __init__(
        self,
        replicas: ReplicaSet,
        wake: WakeQueue,
        flusher: Flusher,
        disk_guard: DiskGuard,
        clock: Clock,
        transactions: TransactionGate,
    ) -> None:
        self._find = replicas.find
        self._lease = replicas.lease
        self._wake = wake
        self._flusher = flusher
        self._disk_guard = disk_guard
        self._clock = clock
        self._transactions = transactions

    def handle(self, request: ProduceRequest, payload: Buffer, reply: Reply) -> None:
        """PRODUCE. The listener answers with the error when one is raised.

        Raises ``NotLeaderOrFollowerError``, ``UnknownTopicIdError``, ``FencedLeaderEpochError``,
        ``UnknownLeaderEpochError``, ``NotEnoughReplicasError``, ``InvalidRequiredAcksError``,
        ``MessageTooLargeError``, ``InvalidTopicError``, ``ServerBusyError``, ``DiskFullError``,
        ``CorruptMessageError``, ``InvalidRecordError``, ``UnknownSchemaVersionError``,
        the errors of a producer's sequence or transaction, or ``KafkaStorageError``.
        """
        replica = self._find(request.topic_id, request.partition)
        machine = replica.machine
        acks = request.acks
        clock, log = self._clock, replica.log
        monotonic_ms = clock.monotonic_ms()
        machine.check_produce(acks, request.leader_epoch)
        if monotonic_ms >= self._lease.until_ms and acks != ALL:
            self._check_lease(replica, monotonic_ms)
        size = len(payload)
        if size > replica.max_message_bytes:
            raise _too_large(replica, size)
        if machine.pending_produces >= MAX_PENDING_PRODUCES:
            raise ServerBusyError(
                f"{MAX_PENDING_PRODUCES} batches of {replica.topic} wait for the disk; send again"
            )
        self._disk_guard.check(size, monotonic_ms)
        header = verify(payload, replica.partition)
        special = header.flags & SPECIAL
        if header.size != size:
            raise _unwelcome(header, size)
        if special:
            check_special(request, header)
            # Before the rest is looked at: that is done when the coordinator has answered.
            if not self._transactions.admits(replica, header, request, payload, reply, self.handle):
                return
        schema = _schema_of(header.schema_id, replica.schemas)
        if schema is not UNTYPED_SCHEMA or not is_one_record(payload, header):
            validate_batch(payload, schema, header=header)

        seen = machine.high_watermark
        count = header.record_count
        deadline_ms = monotonic_ms + request.timeout_ms
        answer = partial(_answer, replica, acks, count, deadline_ms, payload, reply)
        result = log.append(
            payload,
            header,
            leader_epoch=machine.leader_epoch,
            now_ms=clock.now_ms(),
            written=answer,
        )
        if result.duplicate:
            answer(result)
            return
        replica.appended_bytes += size
        if replica.flushes or log.needs_flush:
            self._flusher.on_appended(replica)
        # The answer is on its way before any reader is woken.
        if replica.waiters:
            # What a transaction's end may take back again is read from the log.
            if size <= MAX_FRESH_BYTES and not special:
                base_offset = result.base_offset
                replica.fresh = FreshBatch(base_offset, base_offset + count, payload)
            if machine.high_watermark != seen:
                self._wake.add(replica)

    def _check_lease(self, replica: Replica, now_ms: int) -> None:
        if len(replica.machine.in_sync.replicas) > 1:
            self._lease.check(now_ms)


def _answer(
    replica: Replica,
    acks: int,
    count: int,
    deadline_ms: int,
    payload: Buffer,
    reply: Reply,
    result: AppendResult,
) -> None:
    """Send the batch on to followers; answer now or once the high watermark has come so far."""
    base_offset, append_time_ms, duplicate = result
    if replica.streams and not duplicate:
        for stream in list(replica.streams.values()):
            stream.on_appended(base_offset, base_offset + count, payload)
    response = ProduceResponse(
        base_offset,
        append_time_ms if replica.log_append_time else -1,
        replica.log.log_start_offset,
        duplicate,
    )
    parked: ParkedProduce = (reply, response)
    if (
        replica.machine.on_appended(base_offset + count, acks, parked, deadline_ms=deadline_ms)
        and acks
    ):
        reply(response)


def _too_large(replica: Replica, size: int) -> RaykafkaError:
    if replica.max_message_bytes < 0:
        return InvalidTopicError(f"topic {replica.topic} is written by coordinators only")
    return MessageTooLargeError(
        f"the batch has {size} bytes, topic {replica.topic} takes "
        f"{replica.max_message_bytes} (max.message.bytes); send smaller batches"
    )


def _unwelcome(header: BatchHeader, size: int) -> InvalidRecordError:
    return InvalidRecordError(
        f"the payload has {size} bytes, but its batch ends after {header.size}; "
        "a produce request carries exactly one batch"
    )


def _schema_of(schema_id: int, schemas: Sequence[pa.Schema]) -> pa.Schema:
    if not 0 <= schema_id < len(schemas):
        raise UnknownSchemaVersionError(
            f"the batch has schema {schema_id}, the topic's newest one is {len(schemas) - 1}; "
            "refresh the metadata"
        )
    return schemas[schema_id]
