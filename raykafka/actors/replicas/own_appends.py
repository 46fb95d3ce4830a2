"""Batches that a leader writes of its own accord: coordinators' state, markers of transactions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from raykafka.actors.replicas.flushing import Flusher
from raykafka.actors.replicas.replica import ParkedProduce, Replica, answer_produce
from raykafka.actors.replicas.waiting import WakeQueue
from raykafka.clock import Clock
from raykafka.errors import NotEnoughReplicasAfterAppendError, RaykafkaError, error_for
from raykafka.log.batch import EncodedBatch
from raykafka.model import Acks
from raykafka.protocol.messages import ErrorResponse, Message, ProduceResponse
from raykafka.storage.log_types import AppendResult

_ALL = int(Acks.ALL)


class OnCommitted(Protocol):
    """Hears what became of a batch."""

    def __call__(self, error: RaykafkaError | None) -> None:
        """None: it is committed. Else nobody knows whether it will be."""


class CommitReply:
    """A ``Reply`` without a connection: whoever appended the batch is told of its commit."""

    role = "broker"
    correlation_id = 0
    connection: object = None
    closed = False
    writable = True

    def __init__(self, on_committed: OnCommitted) -> None:
        self._on_committed = on_committed

    def __call__(self, response: Message, payload: Sequence[Any] = ()) -> None:
        """What ``answer_produce`` calls."""
        assert isinstance(response, (ProduceResponse, ErrorResponse))
        error: RaykafkaError | None = None
        if response.error_code:
            error = error_for(response.error_code, response.error_message)
        if isinstance(error, NotEnoughReplicasAfterAppendError):
            error = None  # all that are in sync have it, and no other one is elected
        self._on_committed(error)

    def on_close(self, callback: Callable[[], None]) -> None:
        """There is no connection that could end."""

    def on_writable(self, callback: Callable[[], None]) -> None:
        """Nor one that could be full."""

    @property
    def parked(self) -> ParkedProduce:
        """What ``OwnAppends.append`` takes."""
        return self, ProduceResponse()


class OwnAppends:
    """Appends with acks=all; what waits is answered as a parked produce is."""

    def __init__(self, wake: WakeQueue, flusher: Flusher, clock: Clock) -> None:
        self._wake = wake
        self._flusher = flusher
        self._clock = clock

    def append(self, replica: Replica, batch: EncodedBatch, parked: ParkedProduce) -> AppendResult:
        """Append ``batch`` and answer ``parked`` once it is committed, however long that takes.

        Raises, with nothing written, what ``ReplicaMachine.check_produce`` and
        ``PartitionLog.append`` raise.
        """
        machine, log = replica.machine, replica.log
        machine.check_produce(_ALL, machine.leader_epoch)
        seen = machine.high_watermark
        message = bytearray().join(batch.chunks)
        result = log.append(
            message, batch.header, leader_epoch=machine.leader_epoch, now_ms=self._clock.now_ms()
        )
        replica.appended_bytes += len(message)
        end = result.base_offset + batch.header.record_count
        if not result.duplicate:
            for stream in list(replica.streams.values()):
                stream.on_appended(result.base_offset, end, message)
        at_once = machine.on_appended(end, _ALL, parked)
        if replica.flushes or log.needs_flush:
            self._flusher.on_appended(replica)
        if replica.waiters and machine.high_watermark != seen:
            self._wake.add(replica)
        if at_once:
            answer_produce(parked, None)
        return result
