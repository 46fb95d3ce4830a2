"""Transactional batches: the first one of a transaction in a partition waits for its coordinator.

The leader asks whether the transaction is open, which makes its partition part of it (KIP-890); so
no batch comes into a log that no marker would ever end. Batches of that producer and epoch that
arrive meanwhile wait behind the first one, in their order. A leader that ceases to lead answers all
of them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from raykafka.actors.ports import Buffer, Reply
from raykafka.actors.replicas.replica import Replica
from raykafka.actors.timeouts import cancel_all
from raykafka.errors import (
    ConcurrentTransactionsError,
    CoordinatorNotAvailableError,
    InvalidRecordError,
    InvalidRequiredAcksError,
    RaykafkaError,
    ServerBusyError,
    UnknownServerError,
)
from raykafka.log.batch_header import CONTROL, BatchHeader
from raykafka.model import Acks
from raykafka.protocol.messages import ErrorResponse, ProduceRequest
from raykafka.protocol.txn_messages import TxnPartition

logger = logging.getLogger(__name__)

MAX_PARKED: Final = 256
"""Batches of one producer that wait for the coordinator."""
MAX_PARKED_BYTES: Final = 64 << 20
"""Bytes of all of them in one partition actor."""
_ALL: Final = int(Acks.ALL)
_LONGEST_S: Final = 30.0
_NEVER: Final = 1 << 62

Handle = Callable[[ProduceRequest, Buffer, Reply], None]


class VerifyTransaction(Protocol):
    """Asks a transaction's coordinator; see ``verifying``."""

    async def __call__(
        self,
        transactional_id: str,
        producer: tuple[int, int],
        place: TxnPartition,
        timeout_s: float,
    ) -> None:
        """Return once the partition takes part in the transaction of ``producer``, which is an id
        and an epoch; raises why it cannot.
        """


class _Parked(NamedTuple):
    request: ProduceRequest
    payload: Buffer
    reply: Reply


class _Verification:
    """What waits for one answer of a coordinator; a ``Waiter``, to hear when leading ends."""

    committed = False

    def __init__(self, gate: TransactionGate, replica: Replica, producer: tuple[int, int]) -> None:
        self._gate = gate
        self.replica = replica
        self.producer = producer
        self.parked: list[_Parked] = []
        self.size = 0
        self.passes = False
        """Whether the transaction is open, so that what was parked is being appended."""
        self.task: asyncio.Task[None] | None = None

    def on_committed(self, replica: Replica) -> None:
        """Never: no offset is that large."""

    def on_gone(self, replica: Replica, error: RaykafkaError) -> None:
        """The replica leads no more."""
        if self.task is not None:
            self.task.cancel()
        self._gate.fail(self, error)


class TransactionGate:
    """Where batches wait for the coordinators of their transactions, for one partition actor."""

    def __init__(self, verify: VerifyTransaction) -> None:
        self._verify = verify
        self._waiting: dict[tuple[Replica, tuple[int, int]], _Verification] = {}
        """By producer id and epoch: what a zombie is told is not for its successor."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._bytes = 0

    def admits(
        self,
        replica: Replica,
        header: BatchHeader,
        request: ProduceRequest,
        payload: Buffer,
        reply: Reply,
        handle: Handle,
    ) -> bool:
        """Whether a batch may be appended now; if not, ``handle`` gets the request again later.

        Raises the errors of ``ProducerStates.check``, ``ServerBusyError`` when too much waits.
        """
        producer_id, log = header.producer_id, replica.log
        if log.in_transaction(producer_id):
            return True
        waiting = self._waiting.get((replica, (producer_id, header.producer_epoch)))
        if waiting is None:
            if log.find_duplicate(header) is not None:
                return True
            self._check_room(len(payload))
            waiting = self._begin(replica, header, request, handle)
        elif waiting.passes:
            return True
        elif len(waiting.parked) >= MAX_PARKED:
            raise ServerBusyError(
                f"{MAX_PARKED} batches of producer id {producer_id} wait for the coordinator of "
                "its transaction; send again"
            )
        else:
            self._check_room(len(payload))
        waiting.parked.append(_Parked(request, payload, reply))
        waiting.size += len(payload)
        self._bytes += len(payload)
        return False

    def fail(self, waiting: _Verification, error: RaykafkaError) -> None:
        """Answer all that waits with ``error``."""
        if self._end(waiting):
            for _, _, reply in waiting.parked:
                reply(ErrorResponse(error.code, error.message))

    async def close(self) -> None:
        """Ask nobody any more."""
        await cancel_all(self._tasks)

    # --- inside -----------------------------------------------------------------------------------

    def _check_room(self, size: int) -> None:
        if self._bytes + size > MAX_PARKED_BYTES:
            raise ServerBusyError(
                f"{MAX_PARKED_BYTES} bytes wait for coordinators of transactions; send again"
            )

    def _begin(
        self, replica: Replica, header: BatchHeader, request: ProduceRequest, handle: Handle
    ) -> _Verification:
        producer = header.producer_id, header.producer_epoch
        waiting = _Verification(self, replica, producer)
        self._waiting[replica, producer] = waiting
        replica.waiters[waiting] = _NEVER
        task = asyncio.ensure_future(self._ask(waiting, request, handle))
        waiting.task = task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return waiting

    async def _ask(self, waiting: _Verification, request: ProduceRequest, handle: Handle) -> None:
        replica = waiting.replica
        topic_id, partition = replica.partition
        place = TxnPartition(replica.topic, topic_id, partition)
        timeout_s = min(request.timeout_ms / 1000, _LONGEST_S)
        try:
            await self._verify(request.transactional_id, waiting.producer, place, timeout_s)
        except RaykafkaError as error:
            self.fail(waiting, _as_told(error))
        except Exception:
            logger.exception("a transaction of %s could not be verified", replica.topic)
            self.fail(waiting, UnknownServerError())
        else:
            self._append(waiting, handle)

    def _append(self, waiting: _Verification, handle: Handle) -> None:
        """In one turn of the loop: nothing of the producer comes in between."""
        waiting.passes = True
        try:
            for request, payload, reply in waiting.parked:
                try:
                    handle(request, payload, reply)
                except RaykafkaError as error:
                    reply(ErrorResponse(error.code, error.message))
                except Exception:
                    logger.exception("a batch of %s was not appended", waiting.replica.topic)
                    unknown = UnknownServerError()
                    reply(ErrorResponse(unknown.code, unknown.message))
        finally:
            self._end(waiting)

    def _end(self, waiting: _Verification) -> bool:
        """False where it has ended already."""
        replica = waiting.replica
        if self._waiting.get((replica, waiting.producer)) is not waiting:
            return False
        del self._waiting[replica, waiting.producer]
        replica.waiters.pop(waiting, None)
        self._bytes -= waiting.size
        return True


def check_special(request: ProduceRequest, header: BatchHeader) -> None:
    """Raise unless a batch that is not a plain one may come from a client."""
    if header.flags & CONTROL:
        raise InvalidRecordError("control batches are written by servers only")
    if not request.transactional_id:
        raise InvalidRecordError(
            "a transactional batch needs the transactional id of its producer in the request"
        )
    if header.producer_id < 0:
        raise InvalidRecordError("a transactional batch needs a producer id")
    if request.acks != _ALL:
        raise InvalidRequiredAcksError(
            f"acks is {request.acks}; transactional batches are written with -1 (all)"
        )


def _as_told(error: RaykafkaError) -> RaykafkaError:
    """What a producer hears: whatever is wrong with the coordinator is not wrong with this leader,
    so its metadata need no refresh.
    """
    if not error.retriable or isinstance(error, ConcurrentTransactionsError):
        return error
    return CoordinatorNotAvailableError(
        f"the coordinator of the transaction could not be asked: {error.message}"
    )
