"""What a share consumer owes its leaders: runs, bitmaps, several leaders, what is put back."""

from __future__ import annotations

import pyarrow as pa
import pytest

from raykafka.client.consuming.rows import RowFormat
from raykafka.client.sharing.acknowledgements import Acknowledgements
from raykafka.client.sharing.share_records import ShareRows
from raykafka.errors import IllegalStateError
from raykafka.model import AcknowledgeType, Endpoint, TopicPartition
from raykafka.protocol.share_messages import AcknowledgementBatch

HERE, THERE = Endpoint("10.0.0.1", 1), Endpoint("10.0.0.2", 2)
T0, T1 = TopicPartition("t", 0), TopicPartition("t", 1)
ACCEPT, RELEASE, RENEW = b"\x01", b"\x02", b"\x04"


def rows(first: int, count: int, partition: int = 0, endpoint: Endpoint = HERE) -> ShareRows:
    columns = pa.record_batch({"value": [b"v"] * count})
    return ShareRows(columns, RowFormat("t", ()), partition, first, None, 1, endpoint)


def test_records_one_by_one_become_one_batch() -> None:
    owed = Acknowledgements()
    owed.deliver(rows(10, 6))
    for offset in (10, 11, 13, 12, 15):
        owed.acknowledge(T0, offset, offset + 1, RELEASE if offset == 12 else ACCEPT)
    assert owed.outstanding == 1
    assert dict(owed.take(HERE)) == {
        T0: [
            AcknowledgementBatch(10, 11, ACCEPT),
            AcknowledgementBatch(13, 13, ACCEPT),
            AcknowledgementBatch(12, 12, RELEASE),
            AcknowledgementBatch(15, 15, ACCEPT),
        ]
    }
    owed.acknowledge(T0, 14, 15, ACCEPT)
    assert owed.outstanding == 0
    assert list(owed.endpoints()) == [HERE]


def test_neighbours_of_several_kinds_are_one_batch_with_a_type_each() -> None:
    owed = Acknowledgements()
    owed.deliver(rows(0, 3))
    owed.deliver(rows(3, 3))
    owed.acknowledge(T0, 0, 2, ACCEPT)
    owed.acknowledge(T0, 2, 5, bytes([2, 3, 1]))
    assert dict(owed.take(HERE)) == {
        T0: [AcknowledgementBatch(0, 4, bytes([1, 1, 2, 3, 1]))],
    }


def test_each_leader_hears_of_its_own() -> None:
    owed = Acknowledgements()
    owed.deliver(rows(0, 2))
    owed.deliver(rows(0, 2, partition=1, endpoint=THERE))
    owed.acknowledge_all(AcknowledgeType.ACCEPT)
    assert owed.outstanding == 0
    assert owed.waits(HERE)
    assert dict(owed.take(THERE)) == {T1: [AcknowledgementBatch(0, 1, ACCEPT)]}
    assert dict(owed.take(THERE)) == {}
    assert dict(owed.take(HERE)) == {T0: [AcknowledgementBatch(0, 1, ACCEPT)]}


def test_what_was_not_delivered_or_is_said_already_changes_nothing() -> None:
    owed = Acknowledgements()
    owed.deliver(rows(5, 3))
    owed.acknowledge(T0, 6, 7, ACCEPT)
    for place, first, end in ((T0, 6, 7), (T0, 5, 8), (T0, 4, 6), (T0, 7, 9), (T1, 5, 6)):
        with pytest.raises(IllegalStateError):
            owed.acknowledge(place, first, end, ACCEPT)
    with pytest.raises(IllegalStateError, match="renewed by an acknowledgement of their own"):
        owed.acknowledge(T0, 5, 6, RENEW + ACCEPT)
    assert owed.outstanding == 2
    owed.take(HERE)
    owed.acknowledge_all(AcknowledgeType.RENEW)
    assert owed.outstanding == 2
    assert dict(owed.take(HERE)) == {
        T0: [AcknowledgementBatch(5, 5, RENEW), AcknowledgementBatch(7, 7, RENEW)]
    }


def test_what_is_withdrawn_can_be_delivered_again() -> None:
    owed = Acknowledgements()
    run = rows(0, 4)
    owed.deliver(run)
    assert owed.is_outstanding(run)
    owed.withdraw(run)
    assert owed.outstanding == 0
    with pytest.raises(IllegalStateError):
        owed.acknowledge(T0, 0, 1, ACCEPT)
    owed.deliver(run)
    owed.acknowledge(T0, 0, 1, ACCEPT)
    assert not owed.is_outstanding(run)
