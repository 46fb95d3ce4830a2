"""Transaction coordinators: requests become commands of the machine, decisions become markers.

Rules:
- Markers are written once the decision is committed, by whoever leads the partition of
  ``__transaction_state`` then; a new leader goes on with what it finds.
- A producer that comes before its last transaction is complete waits here, not in a retry's pause.
"""

from __future__ import annotations

import asyncio
import weakref
from typing import Any, Final

from raykafka.actors.coordinating.kind import CoordinatorContext, ServiceKind
from raykafka.actors.coordinating.markers import MarkerWriter
from raykafka.actors.coordinating.service import HostedService
from raykafka.actors.peers import Peers
from raykafka.errors import ConcurrentTransactionsError, RaykafkaError
from raykafka.internal_topics import TRANSACTION_STATE
from raykafka.protocol.messages import ApiKey, InitProducerIdRequest, InitProducerIdResponse
from raykafka.protocol.txn_messages import (
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnResponse,
    DescribedTransaction,
    DescribeTransactionsRequest,
    DescribeTransactionsResponse,
    EndTxnRequest,
    EndTxnResponse,
    InitTransactionRequest,
    InitTransactionResponse,
    ListTransactionsRequest,
    ListTransactionsResponse,
    PrepareTxnRequest,
    PrepareTxnResponse,
    TransactionListing,
    TxnPartition,
)
from raykafka.txn.commands import (
    AddPartitions,
    CompleteTransaction,
    DescribeTransactions,
    EndTransaction,
    InitTransaction,
    ListMarkers,
    ListTransactions,
    Markers,
    MarkersOwed,
    PrepareTransaction,
    ProducerIdNeeded,
    TransactionDescription,
    TransactionEnd,
    TransactionIdentity,
    TransactionLimits,
)
from raykafka.txn.machine import TransactionMachine
from raykafka.txn.records import ProducerIdentity, TransactionPartition

_LATE_MARKERS_S: Final = 0.5
"""How long the end of a transaction waits for its markers before it is answered without them."""
_PARKED_S: Final = 5.0
"""How long a request waits for the markers of the transaction before."""
_CONTROLLER_TIMEOUT_S: Final = 10.0


class _Completing:
    """The transactions of one service whose markers are being written."""

    def __init__(self, service: HostedService, writer: MarkerWriter) -> None:
        # The service holds the tasks that hold this object.
        self._service = weakref.proxy(service)
        self._writer = writer
        self._running: dict[tuple[str, int, int], asyncio.Future[None]] = {}

    def ensure(self, markers: Markers) -> asyncio.Future[None]:
        """Write them, unless that is under way; done when they stand and the machine knows it."""
        key = (markers.transactional_id, markers.transaction.producer_id, markers.marker_epoch)
        running = self._running.get(key)
        if running is None:
            running = self._running[key] = asyncio.get_running_loop().create_future()
            self._service.spawn(self._complete(key, markers, running))
        return running

    async def _complete(
        self, key: tuple[str, int, int], markers: Markers, done: asyncio.Future[None]
    ) -> None:
        try:
            await self._writer.write(markers)
            completed = CompleteTransaction(
                markers.transactional_id, markers.transaction, markers.marker_epoch
            )
            self._service.tell(completed)
        finally:
            del self._running[key]
            if not done.done():
                done.set_result(None)


class TransactionCoordinator:
    """Serves the requests of ``__transaction_state``; one per partition actor."""

    def __init__(self, context: CoordinatorContext) -> None:
        self._peers: Peers = context.peers
        self._writer = MarkerWriter(context.peers, context.clock)
        self._completing: weakref.WeakKeyDictionary[HostedService, _Completing]
        self._completing = weakref.WeakKeyDictionary()

    def kind(self, limits: TransactionLimits) -> ServiceKind:
        """The row of the host's table."""
        return ServiceKind(
            TRANSACTION_STATE,
            lambda: TransactionMachine(limits),
            {
                ApiKey.INIT_TRANSACTION: self.init,
                ApiKey.ADD_PARTITIONS_TO_TXN: self.add_partitions,
                ApiKey.PREPARE_TXN: self.prepare,
                ApiKey.END_TXN: self.end,
                ApiKey.DESCRIBE_TRANSACTIONS: self.describe,
                ApiKey.LIST_TRANSACTIONS: self.list_ids,
            },
            self.on_loaded,
            self.on_ticked,
        )

    # --- requests ---------------------------------------------------------------------------------

    async def init(
        self, service: HostedService, request: InitTransactionRequest
    ) -> InitTransactionResponse:
        """INIT_TRANSACTION: waits until nothing of a former producer is left open."""
        command = InitTransaction(
            request.transactional_id,
            request.transaction_timeout_ms,
            request.two_phase,
            request.keep_prepared,
            ProducerIdentity(request.producer_id, request.producer_epoch),
        )
        answer = await self._submit(service, command)
        assert isinstance(answer, TransactionIdentity)
        return InitTransactionResponse(*answer.producer, *answer.prepared)

    async def add_partitions(
        self, service: HostedService, request: AddPartitionsToTxnRequest
    ) -> AddPartitionsToTxnResponse:
        """ADD_PARTITIONS_TO_TXN: answered when they belong to the producer's transaction."""
        partitions = [
            TransactionPartition(p.topic, p.topic_id, p.partition) for p in request.partitions
        ]
        command = AddPartitions(request.transactional_id, _producer(request), partitions)
        await self._submit(service, command)
        return AddPartitionsToTxnResponse()

    async def prepare(
        self, service: HostedService, request: PrepareTxnRequest
    ) -> PrepareTxnResponse:
        """PREPARE_TXN: the transaction waits for its end from now on, without a timeout."""
        await self._submit(
            service, PrepareTransaction(request.transactional_id, _producer(request))
        )
        return PrepareTxnResponse()

    async def end(self, service: HostedService, request: EndTxnRequest) -> EndTxnResponse:
        """END_TXN: answered when readers see it, or a little later when a leader is missing."""
        command = EndTransaction(request.transactional_id, _producer(request), request.commit)
        answer = await self._submit(service, command)
        assert isinstance(answer, TransactionEnd)
        if answer.markers is not None:
            written = self._of(service).ensure(answer.markers)
            await asyncio.wait([written], timeout=_LATE_MARKERS_S)
        return EndTxnResponse(*answer.successor)

    async def describe(
        self, service: HostedService, request: DescribeTransactionsRequest
    ) -> DescribeTransactionsResponse:
        """DESCRIBE_TRANSACTIONS: each id, or why there is nothing to say of it."""
        command = DescribeTransactions(request.transactional_ids)
        described = await service.submit(command)
        pairs = zip(request.transactional_ids, described, strict=True)
        return DescribeTransactionsResponse([_described(name, one) for name, one in pairs])

    async def list_ids(
        self, service: HostedService, request: ListTransactionsRequest
    ) -> ListTransactionsResponse:
        """LIST_TRANSACTIONS: the ids of this partition that match."""
        command = ListTransactions(request.states, request.producer_ids, request.min_duration_ms)
        found = await service.submit(command)
        return ListTransactionsResponse(
            [
                TransactionListing(one.transactional_id, one.producer.producer_id, one.status)
                for one in found
            ]
        )

    # --- completing -------------------------------------------------------------------------------

    def on_loaded(self, service: HostedService) -> None:
        """Go on with what a former leader has decided and not completed.

        All that has been loaded is committed, and nobody would ask again where this is refused.
        """
        self.on_ticked(service, service.tell(ListMarkers()))

    def on_ticked(self, service: HostedService, markers: list[Markers]) -> None:
        """Abort what has timed out."""
        for each in markers:
            self._of(service).ensure(each)

    def _of(self, service: HostedService) -> _Completing:
        found = self._completing.get(service)
        if found is None:
            found = self._completing[service] = _Completing(service, self._writer)
        return found

    async def _submit(self, service: HostedService, command: Any) -> Any:
        """The machine's answer, once it has all it needs.

        Raises ``ConcurrentTransactionsError`` when the transaction before cannot be completed in
        time, and what ``HostedService.submit`` raises.
        """
        deadline = asyncio.get_running_loop().time() + _PARKED_S
        while True:
            answer = await service.submit(command)
            if isinstance(answer, ProducerIdNeeded):
                command = command._replace(new_producer_id=await self._new_producer_id())
            elif isinstance(answer, MarkersOwed):
                written = self._of(service).ensure(answer.markers)
                left_s = deadline - asyncio.get_running_loop().time()
                done, _ = await asyncio.wait([written], timeout=max(0.0, left_s))
                if not done:
                    raise ConcurrentTransactionsError(
                        f"the last transaction of {command.transactional_id} has been decided, but "
                        "not every partition has heard of it yet; try again"
                    )
            else:
                return answer

    async def _new_producer_id(self) -> int:
        answer = await self._peers.call_controller(
            ApiKey.INIT_PRODUCER_ID, InitProducerIdRequest(), timeout_s=_CONTROLLER_TIMEOUT_S
        )
        assert isinstance(answer, InitProducerIdResponse)
        return answer.producer_id


def transactions(context: CoordinatorContext) -> ServiceKind:
    """Transaction coordinators, with the broker's settings."""
    config = context.config
    limits = TransactionLimits(
        config.transaction_max_timeout_ms,
        config.transactional_id_expiration_ms,
        config.transaction_two_phase_commit_enable,
    )
    return TransactionCoordinator(context).kind(limits)


_WithProducer = AddPartitionsToTxnRequest | PrepareTxnRequest | EndTxnRequest


def _producer(request: _WithProducer) -> ProducerIdentity:
    return ProducerIdentity(request.producer_id, request.producer_epoch)


def _described(name: str, found: TransactionDescription | RaykafkaError) -> DescribedTransaction:
    if isinstance(found, RaykafkaError):
        return DescribedTransaction(name, error_code=found.code, error_message=found.message)
    return DescribedTransaction(
        name,
        found.status,
        *found.producer,
        found.timeout_ms,
        found.start_ms,
        found.two_phase,
        [
            TxnPartition(topic.topic, topic.topic_id, partition)
            for topic in found.topics
            for partition in topic.partitions
        ],
    )
