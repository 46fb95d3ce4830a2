"""What must hold of the ledger at any time, whoever died meanwhile.

A reader that is read-committed sees a transaction's records of several partitions one partition
after the other, as in Kafka; so a transfer may be half seen for a while. The sum is therefore taken
with the other half of those added, and each of them has a time within which it must turn up.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Final, NamedTuple

from raykafka.testing.bank.records import ACCOUNTS, OPENING_BALANCE, Entry

MOST_EXAMPLES: Final = 5
LONGEST_HALF_MS: Final = 120_000
"""A transfer that is half seen for longer is torn: its transaction ended long ago, and faults last
for less."""


class _Half(NamedTuple):
    entry: Entry
    since_ms: int


class Audit:
    """Takes entries in the order in which a reader sees them; no clock and no I/O."""

    def __init__(self, accounts: int = ACCOUNTS, opening_balance: int = OPENING_BALANCE) -> None:
        self.balances = [opening_balance] * accounts
        self.entries = 0
        self.snapshots = 0
        self.counts: Counter[str] = Counter()
        """How often each rule was broken."""
        self.examples: dict[str, list[str]] = defaultdict(list)
        self._total = accounts * opening_balance
        self._halves: dict[int, _Half] = {}
        self._done: set[int] = set()
        self._positions: dict[int, int] = {}

    @property
    def transfers(self) -> int:
        """Seen in whole."""
        return len(self._done)

    @property
    def violations(self) -> int:
        """Of all rules together."""
        return sum(self.counts.values())

    def settles(self, acknowledged: Iterable[int]) -> bool:
        """Whether there is nothing to wait for: all of these are done, or the books are wrong."""
        return bool(self.counts) or all(number in self._done for number in list(acknowledged))

    def observe(self, partition: int, offset: int, entry: Entry, now_ms: int) -> None:
        """A reader was given an entry."""
        self.entries += 1
        where = f"{entry} at {partition}:{offset}"
        if offset <= self._positions.get(partition, -1):
            self._broken("read again", where)
        self._positions[partition] = offset
        if entry.doomed:
            self._broken("aborted transaction seen", where)
        self.balances[entry.account] += entry.amount
        half = self._halves.pop(entry.request, None)
        if half is None:
            if entry.request in self._done:
                self._broken("request applied twice", where)
            self._halves[entry.request] = _Half(entry, now_ms)
        elif half.entry.amount + entry.amount or half.entry.account == entry.account:
            self._broken("halves of different transfers", f"{half.entry} and {where}")
        else:
            self._done.add(entry.request)

    def snapshot(self, now_ms: int) -> None:
        """The sum of all accounts, now that a reader has come to some end."""
        self.snapshots += 1
        under_way = sum(half.entry.amount for half in self._halves.values())
        found = sum(self.balances) - under_way
        if found != self._total:
            self._broken("money made or lost", f"{found} in place of {self._total}")
        late = [half for half in self._halves.values() if now_ms - half.since_ms > LONGEST_HALF_MS]
        for half in late:
            self._broken("torn transaction", f"{half.entry} has no other half")
            del self._halves[half.entry.request]
            self._total += half.entry.amount

    def conclude(self, acknowledged: Iterable[int], sent: int) -> None:
        """Everything is written and read: what was asked for is done once, and nothing else.

        ``sent`` is the largest number of any request.
        """
        for half in self._halves.values():
            self._broken("torn transaction", f"{half.entry} has no other half")
        for number in acknowledged:
            if number not in self._done and number not in self._halves:
                self._broken("request lost", f"request {number}")
        for number in self._done:
            if not 0 < number <= sent:
                self._broken("request never made", f"request {number}")

    def _broken(self, rule: str, example: str) -> None:
        self.counts[rule] += 1
        if len(self.examples[rule]) < MOST_EXAMPLES:
            self.examples[rule].append(example)
