"""``Transactions`` against a log that is read through from its beginning every time."""

from __future__ import annotations

import json
from typing import NamedTuple

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from raykafka.log.transactions import Transactions

PRODUCERS = st.integers(1, 4)


class Entry(NamedTuple):
    """One batch: of a transaction, a marker, or neither."""

    base_offset: int
    next_offset: int
    producer_id: int = 0
    commit: bool | None = None
    """What a marker says; None for records."""

    @property
    def is_marker(self) -> bool:
        return self.commit is not None


class TransactionsModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.states = Transactions()
        self.log: list[Entry] = []
        self.end = 0
        self.start = 0
        self.high_watermark = 0

    # --- what happens to a log --------------------------------------------------------------------

    @rule(producer_id=PRODUCERS, count=st.integers(1, 3))
    def write(self, producer_id: int, count: int) -> None:
        entry = Entry(self.end, self.end + count, producer_id)
        begins = self.states.on_batch(producer_id, entry.base_offset, entry.next_offset)
        self.log.append(entry)
        self.end = entry.next_offset
        assert begins == self.open_ones(self.end)[producer_id]

    @rule(count=st.integers(1, 3))
    def write_outside(self, count: int) -> None:
        self.log.append(Entry(self.end, self.end + count))
        self.end += count

    @rule(producer_id=PRODUCERS, commit=st.booleans())
    def end_transaction(self, producer_id: int, commit: bool) -> None:
        self.states.on_marker(producer_id, self.end, commit=commit)
        self.log.append(Entry(self.end, self.end + 1, producer_id, commit))
        self.end += 1

    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        self.high_watermark = data.draw(st.integers(self.high_watermark, self.end))

    @precondition(lambda self: self.start < self.high_watermark)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        self.start = data.draw(st.integers(self.start, self.high_watermark))
        self.states.truncate_before(self.start)

    @rule()
    def restart(self) -> None:
        plain = json.loads(json.dumps(self.states.to_plain()))
        self.states = Transactions.from_plain(plain)

    # --- what a log says by itself ----------------------------------------------------------------

    def open_ones(self, up_to: int) -> dict[int, int]:
        """Producers and where their transaction begins, by what stands before ``up_to``."""
        found: dict[int, int] = {}
        for entry in self.log:
            if entry.base_offset >= up_to:
                break
            if entry.is_marker:
                found.pop(entry.producer_id, None)
            elif entry.producer_id:
                found.setdefault(entry.producer_id, entry.base_offset)
        return found

    def outcome(self, number: int) -> bool | None:
        """What the next marker of an entry's producer says; None while there is none."""
        own = self.log[number].producer_id
        for entry in self.log[number + 1 :]:
            if entry.is_marker and entry.producer_id == own:
                return entry.commit
        return None

    def stable(self) -> int:
        """Everything that is undecided by what is committed begins at or behind it."""
        return min([*self.open_ones(self.high_watermark).values(), self.high_watermark])

    @invariant()
    def what_is_open(self) -> None:
        assert dict(self.states.open) == self.open_ones(self.end)

    @invariant()
    def what_is_stable(self) -> None:
        assert self.states.last_stable_offset(self.high_watermark) == self.stable()

    @invariant()
    def what_is_aborted(self) -> None:
        stable = self.stable()
        for low, high in (
            (self.start, stable),
            (stable // 2, stable),
            (self.start, self.start + 1),
        ):
            low, high = max(low, self.start), min(high, stable)
            if low >= high:
                continue
            found = self.states.aborted_in(low, high)
            for number, entry in enumerate(self.log):
                if entry.is_marker or not entry.producer_id:
                    continue
                if entry.next_offset <= low or entry.base_offset >= high:
                    continue
                aborted = any(
                    each.producer_id == entry.producer_id
                    and each.first_offset <= entry.base_offset < each.last_offset
                    for each in found
                )
                assert aborted == (self.outcome(number) is False)

    @invariant()
    def nothing_is_overlooked(self) -> None:
        for entry in self.log:
            if entry.producer_id and entry.base_offset >= self.start:
                assert self.states.touches(entry.base_offset, entry.next_offset)


TestTransactions = TransactionsModel.TestCase
