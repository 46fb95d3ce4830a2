from __future__ import annotations

import pytest

from raykafka.errors import CorruptMessageError
from raykafka.txn.records import (
    FENCING_EPOCH,
    EndedTransaction,
    ProducerIdentity,
    Record,
    TransactionChanged,
    TransactionForgotten,
    TransactionPartition,
    TransactionState,
    TransactionTopic,
    decode,
    encode,
    with_partitions,
)
from raykafka.txn.states import TransactionStatus

FULL = TransactionState(
    ProducerIdentity(7, 4),
    TransactionStatus.PREPARE_ABORT,
    60_000,
    1_700_000_000_000,
    True,
    1_600_000_000_000,
    ProducerIdentity(7, 2),
    ProducerIdentity(7, 1),
    EndedTransaction(
        ProducerIdentity(7, 2), ProducerIdentity(7, 3), ProducerIdentity(7, 4), False, True
    ),
    (TransactionTopic("t", "0f" * 16, (0, 300)),),
)
GOLDEN = bytes.fromhex(
    "9a 92 07 04 ac 50 72 65 70 61 72 65 41 62 6f 72 74 cd ea 60 cf 00 00 01 8b cf e5 68 00 c3"
    "cf 00 00 01 74 87 6e 80 00 92 07 02 92 07 01 95 92 07 02 92 07 03 92 07 04 c2 c3 91 93 a1 74"
    "d9 20" + "30 66" * 16 + "92 00 cd 01 2c"
)


@pytest.mark.parametrize(
    "record",
    [
        TransactionChanged("orders-1", FULL),
        TransactionChanged(
            "ü", TransactionState(ProducerIdentity(0, 0), TransactionStatus.EMPTY, 1, 2)
        ),
        TransactionForgotten("orders-1"),
    ],
)
def test_records_come_back_as_they_were(record: Record) -> None:
    assert decode(*encode(record)) == record


def test_a_record_is_written_as_ever() -> None:
    assert encode(TransactionChanged("orders-1", FULL)) == (b"orders-1", GOLDEN)


def test_fields_of_a_newer_version_are_left_out() -> None:
    newer = bytes([GOLDEN[0] + 1]) + GOLDEN[1:] + b"\x2a"
    assert decode(b"orders-1", newer) == TransactionChanged("orders-1", FULL)


@pytest.mark.parametrize(
    ("key", "value"), [(b"\xff", b""), (b"a", b""), (b"a", GOLDEN[:-1]), (b"a", b"\x91" * 5000)]
)
def test_what_is_no_record_is_told(key: bytes, value: bytes) -> None:
    with pytest.raises(CorruptMessageError):
        decode(key, value)


def test_partitions_are_kept_by_topic() -> None:
    added = [TransactionPartition(t, t * 32, p) for t, p in [("a", 3), ("b", 0), ("a", 1)]]
    topics = with_partitions((), added)
    assert topics == (
        TransactionTopic("a", "a" * 32, (3, 1)),
        TransactionTopic("b", "b" * 32, (0,)),
    )
    assert with_partitions(topics, added) is topics
    recreated = TransactionPartition("a", "c" * 32, 3)
    more = with_partitions(topics, [*added, recreated, TransactionPartition("b", "b" * 32, 9)])
    assert more == (
        topics[0],
        TransactionTopic("b", "b" * 32, (0, 9)),
        TransactionTopic("a", "c" * 32, (3,)),
    )


@pytest.mark.parametrize(
    ("transaction", "owner", "epoch"),
    [
        ((7, 2), (7, 2), 3),
        ((7, 2), (7, 5), 6),
        ((7, 32766), (7, 32766), FENCING_EPOCH),
        ((7, 2), (8, 0), FENCING_EPOCH),
    ],
)
def test_markers_are_newer_than_whoever_had_the_producer_id(
    transaction: tuple[int, int], owner: tuple[int, int], epoch: int
) -> None:
    ended = EndedTransaction(
        ProducerIdentity(*transaction),
        ProducerIdentity(*owner),
        ProducerIdentity(9, 0),
        True,
        True,
    )
    assert ended.marker_epoch == epoch
