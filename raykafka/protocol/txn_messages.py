"""Headers of the apis of transactions; see ``messages`` for the rules.

Requests to a coordinator go to the leader of one partition of ``__transaction_state``:
``partition`` says to which, ``internal_topics.coordinator_partition`` says which one a
transactional id belongs to.
"""

from __future__ import annotations

from typing import Final

from raykafka.protocol.api import COORDINATOR, PARTITION, Api
from raykafka.protocol.messages import ApiKey, Message


class InitTransactionRequest(Message, frozen=True):
    """Gives a producer its id and fences every other one of that transactional id.

    A transaction that another one has left open is aborted first, unless it is prepared and
    ``keep_prepared`` is set (KIP-939).
    """

    transactional_id: str
    partition: int
    transaction_timeout_ms: int
    two_phase: bool = False
    """Whether its transactions may outlive the timeout once they are prepared (KIP-939)."""
    keep_prepared: bool = False
    producer_id: int = -1
    producer_epoch: int = -1
    """What the producer has, when it asks for a new epoch after an error (KIP-360)."""


class InitTransactionResponse(Message, frozen=True):
    producer_id: int = -1
    producer_epoch: int = -1
    prepared_producer_id: int = -1
    prepared_producer_epoch: int = -1
    """The prepared transaction that waits for its end; -1 where there is none."""
    error_code: int = 0
    error_message: str = ""


class TxnPartition(Message, frozen=True):
    topic: str
    topic_id: str
    partition: int


class AddPartitionsToTxnRequest(Message, frozen=True):
    """A leader that got a transaction's first batch, or first offsets of a group, makes its
    partition part of the transaction, if it is open (KIP-890).
    """

    transactional_id: str
    partition: int
    producer_id: int
    producer_epoch: int
    partitions: list[TxnPartition]


class AddPartitionsToTxnResponse(Message, frozen=True):
    error_code: int = 0
    error_message: str = ""


class PrepareTxnRequest(Message, frozen=True):
    """Makes an open transaction durable as it is, so that a later process may end it."""

    transactional_id: str
    partition: int
    producer_id: int
    producer_epoch: int


class PrepareTxnResponse(Message, frozen=True):
    error_code: int = 0
    error_message: str = ""


class EndTxnRequest(Message, frozen=True):
    """Commits or aborts; the same request again gets the same answer."""

    transactional_id: str
    partition: int
    producer_id: int
    producer_epoch: int
    commit: bool


class EndTxnResponse(Message, frozen=True):
    producer_id: int = -1
    producer_epoch: int = -1
    """What the next transaction of the producer uses: the epoch grows with each (KIP-890)."""
    error_code: int = 0
    error_message: str = ""


class TxnMarker(Message, frozen=True):
    """The end of a transaction for some partitions that the receiver leads."""

    producer_id: int
    producer_epoch: int
    """Newer than the transaction's own: what still comes from it is refused (KIP-890)."""
    commit: bool
    partitions: list[TxnPartition]


class WriteTxnMarkersRequest(Message, frozen=True):
    markers: list[TxnMarker]


class MarkerOutcome(Message, frozen=True):
    producer_id: int
    topic_id: str
    partition: int
    error_code: int = 0
    error_message: str = ""


class WriteTxnMarkersResponse(Message, frozen=True):
    """One outcome per marker and partition; what succeeded is committed in the partition's log."""

    partitions: list[MarkerOutcome] = []
    error_code: int = 0
    error_message: str = ""


# --- administration -------------------------------------------------------------------------------


class DescribeTransactionsRequest(Message, frozen=True):
    partition: int
    transactional_ids: list[str]


class DescribedTransaction(Message, frozen=True):
    transactional_id: str
    state: str = ""
    """``Empty``, ``Ongoing``, ``Prepared``, ``PrepareCommit``, ``PrepareAbort``,
    ``CompleteCommit`` or ``CompleteAbort``."""
    producer_id: int = -1
    producer_epoch: int = -1
    timeout_ms: int = -1
    start_ms: int = -1
    two_phase: bool = False
    partitions: list[TxnPartition] = []
    error_code: int = 0
    error_message: str = ""


class DescribeTransactionsResponse(Message, frozen=True):
    transactions: list[DescribedTransaction] = []
    error_code: int = 0
    error_message: str = ""


class ListTransactionsRequest(Message, frozen=True):
    """Transactional ids of one partition; empty lists ask for all."""

    partition: int
    states: list[str] = []
    producer_ids: list[int] = []
    min_duration_ms: int = -1
    """Only transactions that have been open that long (KIP-994)."""


class TransactionListing(Message, frozen=True):
    transactional_id: str
    producer_id: int
    state: str


class ListTransactionsResponse(Message, frozen=True):
    transactions: list[TransactionListing] = []
    error_code: int = 0
    error_message: str = ""


class DescribeProducersPartition(Message, frozen=True):
    topic_id: str
    partition: int
    leader_epoch: int = -1


class DescribeProducersRequest(Message, frozen=True):
    partitions: list[DescribeProducersPartition]


class ProducerInfo(Message, frozen=True):
    producer_id: int
    producer_epoch: int
    last_sequence: int = -1
    last_timestamp_ms: int = -1
    transaction_start_offset: int = -1
    """First offset of its open transaction; -1 without one."""


class DescribedProducers(Message, frozen=True):
    topic_id: str
    partition: int
    producers: list[ProducerInfo] = []
    error_code: int = 0
    error_message: str = ""


class DescribeProducersResponse(Message, frozen=True):
    partitions: list[DescribedProducers] = []
    error_code: int = 0
    error_message: str = ""


class AbortTransactionRequest(Message, frozen=True):
    """Ends a transaction in one partition whose coordinator knows nothing of it (KIP-664)."""

    topic_id: str
    partition: int
    producer_id: int
    producer_epoch: int
    start_offset: int
    """Where the transaction begins: it must still be that one."""


class AbortTransactionResponse(Message, frozen=True):
    error_code: int = 0
    error_message: str = ""


APIS: Final = (
    Api(ApiKey.INIT_TRANSACTION, InitTransactionRequest, InitTransactionResponse, COORDINATOR),
    Api(
        ApiKey.ADD_PARTITIONS_TO_TXN,
        AddPartitionsToTxnRequest,
        AddPartitionsToTxnResponse,
        COORDINATOR,
        broker_only=True,
    ),
    Api(ApiKey.PREPARE_TXN, PrepareTxnRequest, PrepareTxnResponse, COORDINATOR),
    Api(ApiKey.END_TXN, EndTxnRequest, EndTxnResponse, COORDINATOR),
    Api(
        ApiKey.WRITE_TXN_MARKERS,
        WriteTxnMarkersRequest,
        WriteTxnMarkersResponse,
        PARTITION,
        broker_only=True,
    ),
    Api(
        ApiKey.DESCRIBE_TRANSACTIONS,
        DescribeTransactionsRequest,
        DescribeTransactionsResponse,
        COORDINATOR,
    ),
    Api(ApiKey.LIST_TRANSACTIONS, ListTransactionsRequest, ListTransactionsResponse, COORDINATOR),
    Api(
        ApiKey.DESCRIBE_PRODUCERS,
        DescribeProducersRequest,
        DescribeProducersResponse,
        PARTITION,
    ),
    Api(ApiKey.ABORT_TRANSACTION, AbortTransactionRequest, AbortTransactionResponse, PARTITION),
)
