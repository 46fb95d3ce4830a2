"""Ends transactions in the partitions that are led here: WRITE_TXN_MARKERS, ABORT_TRANSACTION.

A marker is written with acks=all whatever the topic's producers do, and once: what is asked for
again succeeds as soon as the marker that stands in the log is committed. Partitions of
``__consumer_offsets`` have no markers: their coordinators hold the offsets of open transactions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Final, Protocol

from raykafka.actors.replicas.own_appends import CommitReply, OwnAppends
from raykafka.actors.replicas.replica import Replica
from raykafka.actors.replicas.replica_set import ReplicaSet
from raykafka.clock import Clock
from raykafka.errors import (
    InvalidTxnStateError,
    RaykafkaError,
)
from raykafka.internal_topics import CONSUMER_OFFSETS
from raykafka.log.markers import encode_marker
from raykafka.model import Acks
from raykafka.protocol.txn_messages import (
    AbortTransactionRequest,
    AbortTransactionResponse,
    MarkerOutcome,
    TxnMarker,
    TxnPartition,
    WriteTxnMarkersRequest,
    WriteTxnMarkersResponse,
)

_ALL: Final = int(Acks.ALL)
_MAX_EPOCH: Final = 2**15 - 1


class EndTransaction(Protocol):
    """Ends a transaction in a partition whose coordinator keeps its own account of it."""

    async def __call__(
        self, topic: str, partition: int, producer_id: int, producer_epoch: int, *, commit: bool
    ) -> None:
        """Return once that is committed; raises why not."""


class MarkerHandler:
    """Writes markers into the replicas that one partition actor leads."""

    def __init__(
        self,
        replicas: ReplicaSet,
        appends: OwnAppends,
        clock: Clock,
        end_transaction: EndTransaction,
    ) -> None:
        """``end_transaction`` is for partitions of ``__consumer_offsets``."""
        self._replicas = replicas
        self._appends = appends
        self._clock = clock
        self._end_transaction = end_transaction

    async def write_markers(self, request: WriteTxnMarkersRequest) -> WriteTxnMarkersResponse:
        """WRITE_TXN_MARKERS: one outcome per marker and partition, all waited for together."""
        outcomes = await asyncio.gather(
            *[
                self._outcome(marker, place)
                for marker in request.markers
                for place in marker.partitions
            ]
        )
        return WriteTxnMarkersResponse(outcomes)

    async def abort_transaction(self, request: AbortTransactionRequest) -> AbortTransactionResponse:
        """ABORT_TRANSACTION (KIP-664): for what no coordinator ends any more.

        Raises ``InvalidTxnStateError`` where the partition has another transaction, or none.
        """
        replica = self._leader(request.topic_id, request.partition)
        known = [
            producer
            for producer in replica.log.producers()
            if producer.producer_id == request.producer_id
        ]
        asked = request.producer_epoch, request.start_offset
        if not known or (known[0].producer_epoch, known[0].transaction_start_offset) != asked:
            raise InvalidTxnStateError(
                f"producer id {request.producer_id} has no transaction of epoch "
                f"{request.producer_epoch} in {replica.topic}-{request.partition} that begins at "
                f"{request.start_offset}; describe the producers again"
            )
        epoch = min(request.producer_epoch + 1, _MAX_EPOCH)
        await self._append(replica, request.producer_id, epoch, commit=False)
        return AbortTransactionResponse()

    # --- inside -----------------------------------------------------------------------------------

    async def _outcome(self, marker: TxnMarker, place: TxnPartition) -> MarkerOutcome:
        code, message = 0, ""
        try:
            await self._end(marker, place)
        except RaykafkaError as error:
            code, message = error.code, error.message
        return MarkerOutcome(marker.producer_id, place.topic_id, place.partition, code, message)

    def _end(self, marker: TxnMarker, place: TxnPartition) -> Awaitable[None]:
        producer_id, epoch, commit = marker.producer_id, marker.producer_epoch, marker.commit
        replica = self._leader(place.topic_id, place.partition)
        if replica.topic == CONSUMER_OFFSETS:
            return self._end_transaction(
                replica.topic, place.partition, producer_id, epoch, commit=commit
            )
        if replica.log.marker_is_due(producer_id, epoch):
            return self._append(replica, producer_id, epoch, commit=commit)
        return _committed_so_far(replica)

    def _leader(self, topic_id: str, partition: int) -> Replica:
        return self._replicas.leader(topic_id, partition, -1, self._clock.monotonic_ms())

    def _append(
        self, replica: Replica, producer_id: int, epoch: int, *, commit: bool
    ) -> Awaitable[None]:
        schemas = replica.schemas
        marker = encode_marker(
            schemas[-1],
            len(schemas) - 1,
            replica.partition,
            producer_id=producer_id,
            producer_epoch=epoch,
            commit=commit,
            now_ms=self._clock.now_ms(),
        )
        done, reply = _commit()
        self._appends.append(replica, marker, reply.parked)
        return done


def _committed_so_far(replica: Replica) -> Awaitable[None]:
    """Until all is committed that is in the log now."""
    machine = replica.machine
    done, reply = _commit()
    machine.check_produce(_ALL, machine.leader_epoch)
    if machine.on_appended(replica.log.log_end_offset, _ALL, reply.parked):
        done.set_result(None)
    return done


def _commit() -> tuple[asyncio.Future[None], CommitReply]:
    """A future that is done once what the reply is parked for is committed."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def on_committed(error: RaykafkaError | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    return done, CommitReply(on_committed)
