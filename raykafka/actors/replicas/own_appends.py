"""Batches that a leader writes of its own accord: coordinators' state, markers of transactions."""

from __future__ import annotations

from raykafka.actors.replicas.flushing import Flusher
from raykafka.actors.replicas.replica import ParkedProduce, Replica, answer_produce
from raykafka.actors.replicas.waiting import WakeQueue
from raykafka.clock import Clock
from raykafka.log.batch import EncodedBatch
from raykafka.model import Acks
from raykafka.storage.log_types import AppendResult

_ALL = int(Acks.ALL)


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
