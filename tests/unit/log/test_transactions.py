from __future__ import annotations

from typing import Any

import pytest

from raykafka.errors import CorruptMessageError
from raykafka.log.transactions import AbortedTransaction, Transactions


def test_a_log_without_transactions_is_stable_up_to_its_high_watermark() -> None:
    transactions = Transactions()
    assert transactions.last_stable_offset(70) == 70
    assert transactions.aborted_in(0, 70) == []
    assert not transactions.touches(0, 70)
    assert transactions.to_plain() is None


def test_an_open_transaction_holds_back_what_is_stable() -> None:
    transactions = Transactions()
    assert transactions.on_batch(7, 10, 12) == 10
    assert transactions.on_batch(8, 12, 13) == 12
    assert transactions.on_batch(7, 13, 14) == 10
    assert transactions.last_stable_offset(14) == 10
    assert transactions.last_stable_offset(9) == 9
    transactions.on_marker(7, 14, commit=True)
    assert transactions.last_stable_offset(15) == 12


def test_a_marker_counts_once_it_is_committed() -> None:
    transactions = Transactions()
    transactions.on_batch(7, 10, 12)
    transactions.on_marker(7, 12, commit=True)
    assert transactions.last_stable_offset(12) == 10
    assert transactions.last_stable_offset(13) == 13


def test_aborted_transactions_are_found_where_they_lie() -> None:
    transactions = Transactions()
    transactions.on_batch(7, 10, 12)
    transactions.on_batch(8, 12, 14)
    transactions.on_marker(8, 14, commit=False)
    transactions.on_marker(7, 15, commit=False)
    transactions.on_batch(9, 16, 17)
    transactions.on_marker(9, 17, commit=True)
    seven, eight = AbortedTransaction(7, 10, 15), AbortedTransaction(8, 12, 14)
    assert transactions.aborted_in(0, 20) == [eight, seven]
    assert transactions.aborted_in(10, 11) == [seven]
    assert transactions.aborted_in(15, 20) == [seven]
    assert transactions.aborted_in(16, 20) == []


def test_a_marker_without_a_transaction_changes_nothing() -> None:
    transactions = Transactions()
    transactions.on_marker(7, 3, commit=False)
    assert transactions.aborted_count == 0
    assert transactions.last_stable_offset(3) == 3
    assert transactions.touches(3, 4)


def test_what_ended_before_the_log_start_is_forgotten() -> None:
    transactions = Transactions()
    for first in (0, 10):
        transactions.on_batch(7, first, first + 1)
        transactions.on_marker(7, first + 1, commit=False)
    transactions.truncate_before(2)
    assert transactions.aborted_in(0, 20) == [AbortedTransaction(7, 10, 11)]
    transactions.truncate_before(12)
    assert transactions.aborted_count == 0
    assert not transactions.touches(0, 20)


def test_an_open_transaction_outlives_its_records() -> None:
    transactions = Transactions()
    transactions.on_batch(7, 0, 5)
    transactions.truncate_before(5)
    assert dict(transactions.open) == {7: 0}
    assert transactions.last_stable_offset(9) == 0


@pytest.mark.parametrize(
    "data",
    [
        7,
        {},
        {"first_offset": "0", "end_offset": 1, "open": [], "ended": [], "aborted": [""] * 4},
        {"first_offset": 0, "end_offset": 1, "open": [[1]], "ended": [], "aborted": [""] * 4},
        {"first_offset": 0, "end_offset": 1, "open": [], "ended": [], "aborted": [""] * 3},
        {"first_offset": 0, "end_offset": 1, "open": [], "ended": [], "aborted": ["?"] * 4},
        {"first_offset": 0, "end_offset": 1, "open": [], "ended": [], "aborted": ["AAAA"] * 4},
    ],
)
def test_a_damaged_snapshot_is_refused(data: Any) -> None:
    with pytest.raises(CorruptMessageError):
        Transactions.from_plain(data)
