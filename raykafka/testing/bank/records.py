"""What stands in the two topics of the bank."""

from __future__ import annotations

from typing import Final, NamedTuple

REQUESTS: Final = "requests"
"""Wanted transfers, in the order in which they are to be done."""
LEDGER: Final = "ledger"
"""Two entries per transfer that was done, one per account, each in its account's partition."""
TELLERS: Final = "tellers"
"""Group of those who do transfers."""

ACCOUNTS: Final = 50
OPENING_BALANCE: Final = 1000


class Request(NamedTuple):
    """A transfer that somebody wants."""

    number: int
    debtor: int
    creditor: int
    amount: int

    def encode(self) -> bytes:
        """As a record's value."""
        return b"%d %d %d %d" % self

    @classmethod
    def decode(cls, value: bytes) -> Request:
        """The reverse."""
        return cls(*map(int, value.split()))


class Entry(NamedTuple):
    """One half of a transfer: what it adds to an account."""

    request: int
    account: int
    amount: int
    doomed: bool
    """Its transaction was meant to be aborted: nobody may ever see it."""

    def encode(self) -> bytes:
        """As a record's value."""
        return b"%d %d %d %d" % self

    @classmethod
    def decode(cls, value: bytes) -> Entry:
        """The reverse."""
        request, account, amount, doomed = map(int, value.split())
        return cls(request, account, amount, bool(doomed))


def entries_of(request: Request, *, doomed: bool) -> tuple[Entry, Entry]:
    """What a transfer writes to the ledger."""
    number, debtor, creditor, amount = request
    return Entry(number, debtor, -amount, doomed), Entry(number, creditor, amount, doomed)
