"""A scripted cluster with a transaction coordinator that is strict and has no log.

Leader 0 coordinates. The end of a transaction clears what leaders know of producers, which is what
its markers do; records of aborted transactions stay in ``aborted``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from raykafka.actors.ports import Reply
from raykafka.errors import (
    InvalidProducerEpochError,
    InvalidTxnStateError,
    ProducerFencedError,
    RaykafkaError,
)
from raykafka.internal_topics import CONSUMER_OFFSETS, TRANSACTION_STATE
from raykafka.log.batch import read_header
from raykafka.protocol.group_messages import (
    FindCoordinatorRequest,
    FindCoordinatorResponse,
    OffsetToCommit,
    PartitionOutcome,
    TxnOffsetCommitRequest,
    TxnOffsetCommitResponse,
)
from raykafka.protocol.messages import ApiKey, Message, ProduceRequest, ProduceResponse
from raykafka.protocol.txn_messages import (
    EndTxnRequest,
    EndTxnResponse,
    InitTransactionRequest,
    InitTransactionResponse,
    PrepareTxnRequest,
    PrepareTxnResponse,
)
from tests.kits.produce_cluster import ProduceCluster

Answer = Callable[[Any], Message]


@dataclass
class Transaction:
    """What the coordinator knows of a transactional id."""

    producer_id: int
    epoch: int
    state: str = "Empty"
    prepared_epoch: int = -1
    offsets: dict[tuple[str, str, int], int] = field(default_factory=dict)
    last: tuple[int, bool] = (-1, False)
    """Epoch of the last transaction that was ended, and whether it was committed."""


class TxnCluster(ProduceCluster):
    """``with TxnCluster() as cluster: Producer(cluster.bootstrap, transactional_id="a")``."""

    def __init__(self, leaders: int = 1) -> None:
        super().__init__(leaders)
        self.transactions: dict[str, Transaction] = {}
        self.calls: list[Message] = []
        """Every request to the coordinator."""
        self.refusals: deque[RaykafkaError | None] = deque()
        """One per request to the coordinator: the error that it answers, None for none."""
        self.lost_answers = 0
        """Requests of which the next so many take effect and are never answered."""
        self.committed_offsets: dict[tuple[str, str, int], int] = {}
        self.outcomes: list[bool] = []
        """Whether each transaction was committed."""
        self.leader_handlers = lambda number: {
            ApiKey.INIT_TRANSACTION: self._answering(self._init, InitTransactionResponse),
            ApiKey.END_TXN: self._answering(self._end, EndTxnResponse),
            ApiKey.PREPARE_TXN: self._answering(self._prepare, PrepareTxnResponse),
            ApiKey.TXN_OFFSET_COMMIT: self._answering(self._offsets, TxnOffsetCommitResponse),
        }
        self.controller_handlers = {ApiKey.FIND_COORDINATOR: self._on_find}

    def __enter__(self) -> TxnCluster:
        super().__enter__()
        for name in (TRANSACTION_STATE, CONSUMER_OFFSETS):
            self.create(name, 1)
        return self

    def fence(self, transactional_id: str) -> None:
        """As another producer of the name does, or the time-out of its transaction."""

        def bump() -> None:
            known = self.transactions[transactional_id]
            known.epoch += 1
            known.state = "Empty"

        self.call(bump)

    # --- on the loop ------------------------------------------------------------------------------

    def _on_find(self, request: FindCoordinatorRequest, _: Any, reply: Reply) -> None:
        reply(FindCoordinatorResponse(request.topic, self.topics[request.topic].topic_id, 1))

    def _answering(self, answer: Answer, failed: type[Any]) -> Any:
        def handle(request: Message, _: Any, reply: Reply) -> None:
            self.calls.append(request)
            refusal = self.refusals.popleft() if self.refusals else None
            try:
                if refusal is not None:
                    raise refusal
                response = answer(request)
            except RaykafkaError as error:
                reply(failed(error_code=error.code, error_message=error.message))
                return
            if self.lost_answers:
                self.lost_answers -= 1
                reply.connection.abort()  # type: ignore[attr-defined]
                return
            reply(response)

        return handle

    def _init(self, request: InitTransactionRequest) -> Message:
        known = self.transactions.get(request.transactional_id)
        if known is None:
            known = self.transactions[request.transactional_id] = Transaction(
                self.next_producer_id, -1
            )
            self.next_producer_id += 1
        elif known.state == "Prepared" and request.keep_prepared:
            known.epoch += 1
            return InitTransactionResponse(
                known.producer_id, known.epoch, known.producer_id, known.prepared_epoch
            )
        elif known.state != "Empty":
            self._ended(known, commit=False)
        known.epoch += 1
        return InitTransactionResponse(known.producer_id, known.epoch)

    def _known(self, request: Any) -> Transaction:
        known = self.transactions[request.transactional_id]
        if request.producer_epoch != known.epoch and known.state != "Prepared":
            raise ProducerFencedError("another epoch is current")
        return known

    def _end(self, request: EndTxnRequest) -> Message:
        known = self.transactions[request.transactional_id]
        if known.last == (request.producer_epoch, request.commit):
            return EndTxnResponse(known.producer_id, known.epoch)
        known = self._known(request)
        if known.state == "Empty" and request.commit:
            raise InvalidTxnStateError("nothing is open")
        known.last = (request.producer_epoch, request.commit)
        self._ended(known, commit=request.commit)
        return EndTxnResponse(known.producer_id, known.epoch)

    def _ended(self, known: Transaction, *, commit: bool) -> None:
        if commit:
            self.committed_offsets.update(known.offsets)
        known.offsets = {}
        known.epoch += 1
        known.state = "Empty"
        known.prepared_epoch = -1
        self.states.clear()
        self.outcomes.append(commit)

    def _prepare(self, request: PrepareTxnRequest) -> Message:
        known = self._known(request)
        known.state, known.prepared_epoch = "Prepared", known.epoch
        return PrepareTxnResponse()

    def _offsets(self, request: TxnOffsetCommitRequest) -> Message:
        known = self._known(request)
        known.state = "Ongoing"
        for each in request.offsets:
            known.offsets[request.group_id, each.topic, each.partition] = each.offset
        return TxnOffsetCommitResponse([_fine(each) for each in request.offsets])

    def append_produced(
        self, number: int, request: ProduceRequest, payload: Any
    ) -> ProduceResponse:
        header = read_header(payload)
        if request.transactional_id:
            known = self.transactions[request.transactional_id]
            assert header.is_transactional
            if (header.producer_id, header.producer_epoch) != (known.producer_id, known.epoch):
                raise InvalidProducerEpochError("another epoch is current")
            if known.state == "Prepared":
                raise InvalidTxnStateError("the transaction is prepared")
            known.state = "Ongoing"
        else:
            assert not header.is_transactional
        return super().append_produced(number, request, payload)


def _fine(each: OffsetToCommit) -> PartitionOutcome:
    return PartitionOutcome(each.topic, each.partition)
