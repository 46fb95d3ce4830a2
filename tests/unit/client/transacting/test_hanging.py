"""Which open transactions of partitions hang."""

from __future__ import annotations

import pytest

from raykafka.client.transacting.hanging import HangingTransaction, hanging, open_since
from raykafka.model import TopicPartition
from raykafka.protocol.txn_messages import DescribedTransaction, ProducerInfo, TxnPartition

PLACE = TopicPartition("t", 1)
OPEN = ProducerInfo(7, 3, 10, last_timestamp_ms=1000, transaction_start_offset=40)
FOUND = HangingTransaction("t", 1, 7, 3, 40, 1000, "")


def known(state: str, epoch: int = 3, partition: int = 1) -> DescribedTransaction:
    return DescribedTransaction(
        "bank", state, 7, epoch, partitions=[TxnPartition("t", "id", partition)]
    )


def test_only_what_is_open_and_old_is_looked_at() -> None:
    closed = ProducerInfo(8, 0, 5, last_timestamp_ms=1)
    assert open_since({PLACE: [closed, OPEN]}, 1000) == [(PLACE, OPEN)]
    assert open_since({PLACE: [closed, OPEN]}, 999) == []


def test_what_no_coordinator_knows_hangs() -> None:
    assert hanging([(PLACE, OPEN)], []) == [FOUND]


@pytest.mark.parametrize("state", ["Ongoing", "Prepared", "PrepareCommit", "PrepareAbort"])
def test_what_its_coordinator_is_going_to_end_does_not_hang(state: str) -> None:
    assert hanging([(PLACE, OPEN)], [known(state)]) == []


@pytest.mark.parametrize(
    "transaction",
    [
        known("Empty"),
        known("CompleteCommit"),
        known("CompleteAbort"),
        known("Ongoing", partition=2),
        known("Ongoing", epoch=4),
    ],
)
def test_what_its_coordinator_has_forgotten_hangs(transaction: DescribedTransaction) -> None:
    assert hanging([(PLACE, OPEN)], [transaction]) == [FOUND._replace(transactional_id="bank")]
