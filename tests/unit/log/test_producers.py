from __future__ import annotations

import json
from typing import Any

import pytest

from raykafka.errors import (
    ConcurrentTransactionsError,
    CorruptMessageError,
    InvalidProducerEpochError,
    InvalidRecordError,
    InvalidTxnStateError,
    OutOfOrderSequenceNumberError,
)
from raykafka.log.batch_header import BatchHeader
from raykafka.log.producers import Duplicate, ProducerStates, ProducerSummary


def batch(sequence: int, count: int = 1, **changes: Any) -> BatchHeader:
    header = BatchHeader(
        base_offset=100,
        leader_epoch=0,
        append_time_ms=1_000,
        leader_flags=0,
        crc=0,
        flags=0,
        producer_epoch=0,
        record_count=count,
        producer_id=7,
        base_sequence=sequence,
        schema_id=0,
        base_timestamp=0,
        max_timestamp=0,
        size=816,
        metadata_size=600,
    )
    return header._replace(**changes)


def appended(*headers: BatchHeader) -> ProducerStates:
    states = ProducerStates()
    for header in headers:
        assert states.check(header) is None
        states.append(header)
    return states


def test_batches_follow_each_other() -> None:
    states = appended(batch(0, 3), batch(3), batch(4, 2))
    with pytest.raises(OutOfOrderSequenceNumberError, match="base sequence 7, expected is 6"):
        states.check(batch(7))
    assert states.check(batch(6)) is None


def test_a_batch_sent_again_gets_its_first_answer() -> None:
    states = appended(*(batch(n, base_offset=200 + n, append_time_ms=n) for n in range(7)))
    for n in range(2, 7):
        assert states.check(batch(n, base_offset=-1)) == Duplicate(200 + n, n)
    with pytest.raises(OutOfOrderSequenceNumberError):
        states.check(batch(1))  # older than the window of five
    with pytest.raises(OutOfOrderSequenceNumberError):
        states.check(batch(6, 2))  # the same beginning, another end


def test_sequences_wrap() -> None:
    last = 2**31 - 1
    states = appended(batch(last - 1, 3), batch(1))
    assert states.check(batch(last - 1, 3)) == Duplicate(100, 1_000)
    states = appended(batch(last))
    assert states.check(batch(0)) is None
    with pytest.raises(OutOfOrderSequenceNumberError, match="expected is 0"):
        states.check(batch(1))


def test_a_transaction_begins_at_0_also_where_its_producer_is_not_known() -> None:
    states = ProducerStates()
    with pytest.raises(OutOfOrderSequenceNumberError, match="expected is 0"):
        states.check(batch(3, flags=2))
    assert states.check(batch(0, flags=2)) is None


def test_an_unknown_producer_may_begin_anywhere() -> None:
    assert ProducerStates().check(batch(41)) is None
    states = appended(batch(0))
    states.expire(2_000, 1_000)
    assert states.check(batch(41)) is None


def test_an_older_epoch_is_fenced_and_a_newer_begins_at_zero() -> None:
    states = appended(batch(5, producer_epoch=3))
    with pytest.raises(InvalidProducerEpochError, match="has epoch 3 by now"):
        states.check(batch(6, producer_epoch=2))
    with pytest.raises(OutOfOrderSequenceNumberError, match="expected is 0"):
        states.check(batch(6, producer_epoch=4))
    assert states.check(batch(0, producer_epoch=4)) is None
    states.append(batch(0, producer_epoch=4))
    with pytest.raises(InvalidProducerEpochError):
        states.check(batch(5, producer_epoch=3))


def test_control_batches_bump_the_epoch_and_have_no_sequence() -> None:
    states = appended(batch(0), batch(-1, flags=1, producer_epoch=1))
    with pytest.raises(InvalidProducerEpochError):
        states.check(batch(1))
    with pytest.raises(OutOfOrderSequenceNumberError):
        states.check(batch(1, producer_epoch=1))
    assert states.check(batch(0, producer_epoch=1)) is None


def test_producers_without_an_id_are_not_kept() -> None:
    states = appended(batch(-1, producer_id=-1, producer_epoch=-1))
    assert len(states) == 0


@pytest.mark.parametrize("changes", [{"producer_epoch": -1}, {"base_sequence": -1}])
def test_an_id_without_epoch_or_sequence_is_refused(changes: dict[str, int]) -> None:
    with pytest.raises(InvalidRecordError, match="needs an epoch and a base sequence"):
        ProducerStates().check(batch(0)._replace(**changes))


def test_expiry_counts_from_the_append_not_from_the_records() -> None:
    states = appended(batch(0, max_timestamp=5), batch(0, producer_id=8, append_time_ms=1_500))
    assert states.expire(1_999, 1_000) == 0
    assert states.expire(2_000, 1_000) == 1
    assert len(states) == 1
    assert states.check(batch(0, producer_id=8)) == Duplicate(100, 1_500)


def test_snapshots_survive_json() -> None:
    states = appended(batch(0), batch(1), batch(9, producer_id=8))
    restored = ProducerStates.from_plain(json.loads(json.dumps(states.to_plain())))
    assert restored.to_plain() == states.to_plain()
    assert restored.check(batch(1)) == Duplicate(100, 1_000)


@pytest.mark.parametrize(
    "data",
    [
        [1],
        [[1, 2, 3]],
        [[1, 2, 3, 4]],
        [[1, 2, 3, [[1, 2, 3]]]],
        [["1", 2, 3, []]],
        [[1, 2, 3, [[1, 2, 3, None]]]],
        5,
    ],
)
def test_damaged_snapshots_are_refused(data: Any) -> None:
    with pytest.raises(CorruptMessageError, match="snapshot"):
        ProducerStates.from_plain(data)


# --- transactions ---------------------------------------------------------------------------------

DATA, MARKER, COMMIT = 2, 3, 19


def marker(epoch: int, offset: int, flags: int = COMMIT) -> BatchHeader:
    return batch(-1, flags=flags, producer_epoch=epoch, base_offset=offset)


def test_a_producer_writes_nothing_beside_its_open_transaction() -> None:
    states = appended(batch(0, flags=DATA))
    assert states.in_transaction(7)
    with pytest.raises(InvalidTxnStateError, match="has a transaction open"):
        states.check(batch(1))
    assert states.check(batch(1, flags=DATA)) is None
    # What came before it is still known.
    assert states.check(batch(0, flags=DATA)) == Duplicate(100, 1_000)


def test_a_newer_epoch_waits_for_the_end_of_the_transaction_before() -> None:
    states = appended(batch(0, flags=DATA))
    with pytest.raises(ConcurrentTransactionsError):
        states.check(batch(0, flags=DATA, producer_epoch=1))
    states.append(marker(1, 101))
    assert not states.in_transaction(7)
    assert states.check(batch(0, flags=DATA, producer_epoch=1)) is None


@pytest.mark.parametrize("flags", [MARKER, COMMIT])
def test_nothing_of_a_transaction_comes_behind_its_marker(flags: int) -> None:
    states = appended(batch(0, flags=DATA), marker(1, 101, flags))
    with pytest.raises(InvalidProducerEpochError):
        states.check(batch(1, flags=DATA))
    with pytest.raises(InvalidProducerEpochError):
        states.check(batch(0, flags=DATA))
    with pytest.raises(OutOfOrderSequenceNumberError):
        states.check(batch(1, producer_epoch=1))
    assert states.check(batch(0, producer_epoch=1)) is None


def test_a_marker_is_due_once() -> None:
    states = appended(batch(0, flags=DATA))
    with pytest.raises(InvalidProducerEpochError, match="cannot end"):
        states.marker_is_due(7, 0)
    assert states.marker_is_due(7, 1)
    states.append(marker(1, 101))
    assert not states.marker_is_due(7, 1)
    assert not states.marker_is_due(7, 0)
    assert states.marker_is_due(7, 2)
    assert states.marker_is_due(8, 0)


def test_an_open_transaction_does_not_expire() -> None:
    states = appended(batch(0, flags=DATA), batch(0, producer_id=8))
    assert states.expire(10_000_000, 1_000) == 1
    assert states.in_transaction(7)
    states.append(marker(1, 101))
    assert states.expire(10_000_000, 1_000) == 1


def test_transactions_survive_a_restart() -> None:
    states = appended(
        batch(0, flags=DATA), marker(1, 101, MARKER), batch(0, flags=DATA, producer_id=9)
    )
    plain = json.loads(json.dumps([states.to_plain(), states.transactions.to_plain()]))
    restored = ProducerStates.from_plain(*plain)
    assert restored.transactions.to_plain() == states.transactions.to_plain()
    assert restored.described() == states.described()
    with pytest.raises(InvalidTxnStateError):
        restored.check(batch(1, producer_id=9))
    with pytest.raises(CorruptMessageError):
        ProducerStates.from_plain([], plain[1])


def test_producers_are_described() -> None:
    states = appended(batch(0, 4, flags=DATA), batch(3, producer_id=8))
    assert states.described() == [
        ProducerSummary(7, 0, 3, 1_000, 100),
        ProducerSummary(8, 0, 3, 1_000, -1),
    ]
