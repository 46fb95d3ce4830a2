"""Samples of transaction coordinators' requests and responses; see ``wire_samples``."""

from __future__ import annotations

from typing import Any

from raykafka.protocol.messages import ApiKey, Message
from raykafka.protocol.txn_messages import (
    AbortTransactionRequest,
    AbortTransactionResponse,
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnResponse,
    DescribedProducers,
    DescribedTransaction,
    DescribeProducersPartition,
    DescribeProducersRequest,
    DescribeProducersResponse,
    DescribeTransactionsRequest,
    DescribeTransactionsResponse,
    EndTxnRequest,
    EndTxnResponse,
    InitTransactionRequest,
    InitTransactionResponse,
    ListTransactionsRequest,
    ListTransactionsResponse,
    MarkerOutcome,
    PrepareTxnRequest,
    PrepareTxnResponse,
    ProducerInfo,
    TransactionListing,
    TxnMarker,
    TxnPartition,
    WriteTxnMarkersRequest,
    WriteTxnMarkersResponse,
)

TOPIC_ID = "0f" * 16
FAILED: dict[str, Any] = {"error_code": 51, "error_message": "try again"}
_PARTITION = TxnPartition("flights", TOPIC_ID, 3)

REQUESTS: dict[ApiKey, tuple[Message, bytes]] = {
    ApiKey.INIT_TRANSACTION: (
        InitTransactionRequest("orders-1", 5, 60_000, True, True, 7, 4),
        b"",
    ),
    ApiKey.ADD_PARTITIONS_TO_TXN: (
        AddPartitionsToTxnRequest("orders-1", 5, 7, 4, [_PARTITION]),
        b"",
    ),
    ApiKey.PREPARE_TXN: (PrepareTxnRequest("orders-1", 5, 7, 4), b""),
    ApiKey.END_TXN: (EndTxnRequest("orders-1", 5, 7, 4, True), b""),
    ApiKey.WRITE_TXN_MARKERS: (
        WriteTxnMarkersRequest([TxnMarker(7, 5, True, [_PARTITION])]),
        b"",
    ),
    ApiKey.DESCRIBE_PRODUCERS: (
        DescribeProducersRequest([DescribeProducersPartition(TOPIC_ID, 3, 2)]),
        b"",
    ),
    ApiKey.ABORT_TRANSACTION: (AbortTransactionRequest(TOPIC_ID, 3, 7, 4, 1000), b""),
    ApiKey.DESCRIBE_TRANSACTIONS: (DescribeTransactionsRequest(5, ["orders-1", "b"]), b""),
    ApiKey.LIST_TRANSACTIONS: (ListTransactionsRequest(5, ["Ongoing"], [7, 8], 1000), b""),
}
RESPONSES: dict[ApiKey, tuple[Message, bytes]] = {
    ApiKey.INIT_TRANSACTION: (InitTransactionResponse(7, 5, 7, 4, **FAILED), b""),
    ApiKey.ADD_PARTITIONS_TO_TXN: (AddPartitionsToTxnResponse(**FAILED), b""),
    ApiKey.PREPARE_TXN: (PrepareTxnResponse(**FAILED), b""),
    ApiKey.END_TXN: (EndTxnResponse(7, 5, **FAILED), b""),
    ApiKey.DESCRIBE_TRANSACTIONS: (
        DescribeTransactionsResponse(
            [
                DescribedTransaction(
                    "orders-1",
                    "Ongoing",
                    7,
                    4,
                    60_000,
                    1_700_000_000_000,
                    True,
                    [_PARTITION],
                    **FAILED,
                )
            ],
            **FAILED,
        ),
        b"",
    ),
    ApiKey.WRITE_TXN_MARKERS: (
        WriteTxnMarkersResponse([MarkerOutcome(7, TOPIC_ID, 3, **FAILED)], **FAILED),
        b"",
    ),
    ApiKey.DESCRIBE_PRODUCERS: (
        DescribeProducersResponse(
            [
                DescribedProducers(
                    TOPIC_ID, 3, [ProducerInfo(7, 4, 12, 1_700_000_000_000, 1000)], **FAILED
                )
            ],
            **FAILED,
        ),
        b"",
    ),
    ApiKey.ABORT_TRANSACTION: (AbortTransactionResponse(**FAILED), b""),
    ApiKey.LIST_TRANSACTIONS: (
        ListTransactionsResponse([TransactionListing("orders-1", 7, "Ongoing")], **FAILED),
        b"",
    ),
}
