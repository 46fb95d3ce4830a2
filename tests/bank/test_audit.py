"""What the auditor makes of a ledger."""

from __future__ import annotations

from raykafka.testing.bank.audit import LONGEST_HALF_MS, Audit
from raykafka.testing.bank.records import Entry, Request, entries_of


def audit_of(*entries: Entry) -> Audit:
    audit = Audit()
    for offset, entry in enumerate(entries):
        audit.observe(0, offset, entry, 0)
        audit.snapshot(0)
    return audit


FIRST = entries_of(Request(1, 3, 4, 10), doomed=False)
SECOND = entries_of(Request(2, 4, 5, 7), doomed=False)


def test_records_survive_their_encoding() -> None:
    request = Request(17, 2, 3, 44)
    assert Request.decode(request.encode()) == request
    for entry in entries_of(request, doomed=True):
        assert Entry.decode(entry.encode()) == entry


def test_transfers_that_are_seen_in_any_order_are_in_order() -> None:
    audit = audit_of(FIRST[0], SECOND[1], SECOND[0], FIRST[1])
    audit.conclude([1, 2], sent=3)
    assert audit.violations == 0
    assert audit.transfers == 2
    assert audit.balances[3:6] == [990, 1003, 1007]


def test_what_was_aborted_may_not_be_seen() -> None:
    audit = audit_of(*entries_of(Request(1, 3, 4, 10), doomed=True))
    assert audit.counts == {"aborted transaction seen": 2}


def test_a_transfer_is_made_once() -> None:
    assert audit_of(*FIRST, *FIRST).counts["request applied twice"] == 1


def test_a_half_alone_is_torn_after_a_while_and_in_the_end() -> None:
    audit = audit_of(FIRST[0])
    audit.snapshot(LONGEST_HALF_MS)
    assert audit.violations == 0
    audit.snapshot(LONGEST_HALF_MS + 1)
    assert audit.counts == {"torn transaction": 1}
    audit.snapshot(LONGEST_HALF_MS + 2)
    assert audit.counts == {"torn transaction": 1}
    audit = audit_of(SECOND[1])
    audit.conclude([], sent=2)
    assert audit.counts == {"torn transaction": 1}


def test_halves_that_do_not_match() -> None:
    audit = audit_of(FIRST[0], FIRST[1]._replace(amount=11))
    assert audit.counts["halves of different transfers"] == 1
    assert audit.counts["money made or lost"] == 1


def test_what_is_lost_invented_or_read_again() -> None:
    audit = audit_of(*FIRST, *entries_of(Request(9, 1, 2, 3), doomed=False))
    audit.conclude([1, 2], sent=2)
    assert audit.counts == {"request lost": 1, "request never made": 1}
    audit.observe(0, 1, SECOND[0], 0)
    assert audit.counts["read again"] == 1
    assert audit.examples["request lost"] == ["request 2"]
