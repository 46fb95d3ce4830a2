"""The share-partition machine against a model that knows every record by itself."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from raykafka.errors import InvalidRecordStateError, InvalidRequestError
from raykafka.model import AcknowledgeType
from raykafka.share.partition import SharePartition
from raykafka.share.spans import RecordState
from raykafka.share.state import ShareState
from raykafka.share.values import (
    DELIVERED_TOO_OFTEN,
    REJECTED,
    Acquired,
    DeadLetter,
    ShareLimits,
)

LIMITS = ShareLimits(lock_duration_ms=1000, delivery_limit=5, max_record_locks=50)
MEMBERS = ("a", "b", "c")


def partition(**limits: object) -> SharePartition:
    return SharePartition(LIMITS._replace(**limits), 0)


def acquire(machine: SharePartition, member: str, count: int, now_ms: int = 0) -> list[Acquired]:
    first = machine.first_acquirable()
    return [] if first is None else machine.acquire(member, first, 10_000, count, now_ms=now_ms)


def test_a_batch_is_one_span_from_beginning_to_end() -> None:
    machine = partition()
    assert acquire(machine, "a", 10) == [Acquired(0, 9, 1)]
    assert acquire(machine, "b", 10) == [Acquired(10, 19, 1)]
    machine.acknowledge("b", 10, 19, b"\x01", now_ms=0)
    assert (machine.start_offset, machine.end_offset, len(list(machine.spans))) == (0, 20, 2)
    machine.acknowledge("a", 0, 9, b"\x01", now_ms=0)
    assert (machine.start_offset, machine.end_offset, list(machine.spans)) == (20, 20, [])
    assert machine.next_deadline_ms is None


def test_a_type_for_each_record_makes_as_many_runs_as_it_has_changes() -> None:
    machine = partition()
    acquire(machine, "a", 6)
    machine.acknowledge("a", 0, 5, bytes([1, 1, 2, 2, 3, 1]), now_ms=0)
    assert machine.start_offset == 2
    states = [(span.first, span.end, span.state.name) for span in machine.spans]
    assert states == [(2, 4, "AVAILABLE"), (4, 5, "ARCHIVED"), (5, 6, "ACKNOWLEDGED")]
    assert acquire(machine, "b", 6) == [Acquired(2, 3, 2), Acquired(6, 9, 1)]


def test_what_is_not_held_cannot_be_acknowledged_and_nothing_changes() -> None:
    machine = partition()
    acquire(machine, "a", 5)
    acquire(machine, "b", 5)
    for member, first, last in (("b", 0, 4), ("a", 4, 5), ("a", 3, 12), ("nobody", 0, 0)):
        with pytest.raises(InvalidRecordStateError):
            machine.acknowledge(member, first, last, b"\x01", now_ms=0)
    for types in (b"", b"\x01\x01", b"\x00", b"\x05"):
        with pytest.raises(InvalidRequestError):
            machine.acknowledge("a", 0, 4, types, now_ms=0)
    assert machine.acquired == 10
    machine.acknowledge("a", 0, 4, b"\x01", now_ms=0)
    with pytest.raises(InvalidRecordStateError):
        machine.acknowledge("b", 4, 10, b"\x01", now_ms=0)  # 10 was never given to anybody
    with pytest.raises(InvalidRecordStateError):
        machine.acknowledge("a", 0, 4, b"\x01", now_ms=0)  # nobody accepts a record twice
    with pytest.raises(InvalidRecordStateError):
        machine.acknowledge("b", 3, 9, b"\x01", now_ms=0)


def test_a_lease_that_ends_gives_the_records_to_others_and_a_renewed_one_does_not() -> None:
    machine = partition()
    acquire(machine, "a", 4)
    machine.acknowledge("a", 0, 1, b"\x04", now_ms=600)
    assert machine.next_deadline_ms == 1000
    assert not machine.on_tick(now_ms=999)
    assert machine.on_tick(now_ms=1000)
    assert acquire(machine, "b", 2, 1000) == [Acquired(2, 3, 2)]
    with pytest.raises(InvalidRecordStateError):
        machine.acknowledge("a", 2, 3, b"\x01", now_ms=1000)
    machine.acknowledge("a", 0, 1, b"\x01", now_ms=1000)
    assert machine.start_offset == 2


def test_after_the_limit_a_record_is_archived() -> None:
    machine = partition(delivery_limit=2)
    for expected in (1, 2):
        assert acquire(machine, "a", 1)[0].delivery_count == expected
        machine.acknowledge("a", 0, 0, b"\x02", now_ms=0)
    assert machine.start_offset == 1
    assert machine.take_dead_letters() == []


def test_given_up_records_wait_for_the_dead_letter_topic() -> None:
    machine = partition(delivery_limit=1, dead_letters=True)
    acquire(machine, "a", 3)
    machine.acknowledge("a", 0, 1, bytes([3, 2]), now_ms=0)
    machine.acknowledge("a", 2, 2, b"\x01", now_ms=0)
    letters = machine.take_dead_letters()
    assert letters == [DeadLetter(0, 0, 1, REJECTED), DeadLetter(1, 1, 1, DELIVERED_TOO_OFTEN)]
    assert machine.start_offset == 0
    changes = machine.take_changes()
    restarted = SharePartition(machine.limits, changes.start_offset, changes.batches)
    assert [letter[:2] for letter in restarted.take_dead_letters()] == [(0, 1)]
    machine.on_dead_lettered(0, 1)
    assert machine.start_offset == 3
    assert machine.take_changes().start_offset == 3


def test_records_that_failed_often_are_delivered_alone_at_last() -> None:
    machine = partition(max_record_locks=200)
    sizes = []
    for _ in range(5):
        found = acquire(machine, "a", 100)
        sizes.append(sum(each.last_offset - each.first_offset + 1 for each in found))
        machine.on_tick(now_ms=1000)
    assert sizes == [100, 100, 100, 31, 1]
    last = SharePartition(machine.limits, 0)
    acquire(last, "a", 10)
    for _ in range(3):
        last.release_member("a", delivered=True)
        acquire(last, "a", 10)
    last.release_member("a", delivered=True)
    assert acquire(last, "a", 10) == [Acquired(0, 0, 5)]


def test_what_the_application_has_not_seen_does_not_count() -> None:
    machine = partition()
    acquire(machine, "a", 3)
    machine.release_member("a", delivered=False)
    assert acquire(machine, "b", 3) == [Acquired(0, 2, 1)]
    machine.release_member("b", delivered=True)
    assert acquire(machine, "a", 3) == [Acquired(0, 2, 2)]


def test_no_more_than_the_limit_is_in_flight() -> None:
    machine = partition(max_record_locks=5)
    assert acquire(machine, "a", 10) == [Acquired(0, 4, 1)]
    assert machine.first_acquirable() is None
    machine.acknowledge("a", 2, 4, b"\x01", now_ms=0)
    assert machine.first_acquirable() is None  # record 0 holds the window
    machine.acknowledge("a", 0, 1, b"\x01", now_ms=0)
    assert acquire(machine, "b", 10) == [Acquired(5, 9, 1)]


def test_offsets_without_records_are_passed_over() -> None:
    machine = partition()
    acquire(machine, "a", 3)
    machine.skip(3, 5)
    assert acquire(machine, "a", 3) == [Acquired(5, 7, 1)]
    machine.acknowledge("a", 0, 2, b"\x01", now_ms=0)
    assert machine.start_offset == 5
    machine.release_member("a", delivered=True)
    machine.skip(5, 9)
    assert (machine.start_offset, machine.end_offset) == (9, 9)


def test_holes_among_the_records_are_given_to_nobody() -> None:
    machine = partition()
    holes = [(2, 4), (7, 8), (9, 11)]
    got = machine.acquire("a", 0, 11, 5, now_ms=0, holes=holes)
    assert got == [Acquired(0, 1, 1), Acquired(4, 6, 1)]
    assert machine.end_offset == 8
    assert machine.acquire("b", 8, 11, 5, now_ms=0, holes=holes[2:]) == [Acquired(8, 8, 1)]
    assert (machine.end_offset, machine.acquired) == (11, 6)
    machine.release_member("a", delivered=True)
    assert machine.acquire("b", 0, 8, 9, now_ms=0, holes=[(0, 1)]) == [
        Acquired(1, 1, 2),
        Acquired(4, 6, 2),
    ]
    machine.acknowledge("b", 1, 1, b"\x01", now_ms=0)
    machine.acknowledge("b", 4, 6, b"\x01", now_ms=0)
    machine.acknowledge("b", 8, 8, b"\x01", now_ms=0)
    assert (machine.start_offset, machine.end_offset) == (11, 11)
    assert machine.acquire("b", 11, 14, 9, now_ms=0, holes=[(11, 14)]) == []
    assert (machine.start_offset, machine.end_offset) == (14, 14)


def test_what_the_log_has_deleted_is_nobodys() -> None:
    machine = partition()
    acquire(machine, "a", 5)
    machine.on_log_start(3)
    assert (machine.start_offset, machine.acquired) == (3, 2)
    machine.acknowledge("a", 0, 4, b"\x01", now_ms=0)
    machine.on_log_start(50)
    assert (machine.start_offset, machine.end_offset) == (50, 50)


@dataclass
class Known:
    """One record of the model."""

    state: RecordState
    count: int = 0
    member: str = ""
    acquired_ms: int = 0


def is_hole(offset: int) -> bool:
    """Where the log of the model has no records."""
    return offset % 11 in (0, 4, 5)


def holes_in(first: int, end: int) -> list[tuple[int, int]]:
    holes: list[tuple[int, int]] = []
    for offset in filter(is_hole, range(first, end)):
        if holes and holes[-1][1] == offset:
            holes[-1] = (holes[-1][0], offset + 1)
        else:
            holes.append((offset, offset + 1))
    return holes


class Model(RuleBasedStateMachine):
    """Every record by itself; the coordinator's state is written by what the machine says."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ms = 0
        self.machine = SharePartition(LIMITS, 0)
        self.written = ShareState(0, 1, 0)
        self.records: dict[int, Known] = {}
        self.accepted: set[int] = set()

    @rule(member=st.sampled_from(MEMBERS), count=st.integers(1, 12), end=st.integers(1, 300))
    def acquire(self, member: str, count: int, end: int) -> None:
        first = self.machine.first_acquirable()
        if first is None:
            assert len(self.records) >= LIMITS.max_record_locks or self.in_flight()
            return
        end = max(end, first)
        got = self.machine.acquire(
            member, first, end, count, now_ms=self.now_ms, holes=holes_in(first, end)
        )
        self.note_holes()
        total = 0
        for each in got:
            for offset in range(each.first_offset, each.last_offset + 1):
                record = self.records.setdefault(offset, Known(RecordState.AVAILABLE))
                assert record.state is RecordState.AVAILABLE, "two members hold a record"
                record.state, record.member = RecordState.ACQUIRED, member
                record.acquired_ms = self.now_ms
                record.count += 1
                assert record.count == each.delivery_count <= LIMITS.delivery_limit
                total += 1
        assert total <= count
        if any(not is_hole(offset) for offset in range(first, end)):
            assert total or self.in_flight(), "records are there and nobody has them"

    def note_holes(self) -> None:
        for offset in range(self.machine.end_offset):
            if is_hole(offset):
                self.records.setdefault(offset, Known(RecordState.ARCHIVED))
                self.records[offset].state = RecordState.ARCHIVED

    def in_flight(self) -> bool:
        return self.machine.in_flight >= LIMITS.max_record_locks

    @precondition(lambda self: any(r.state is RecordState.ACQUIRED for r in self.records.values()))
    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        held = sorted(o for o, r in self.records.items() if r.state is RecordState.ACQUIRED)
        first = data.draw(st.sampled_from(held))
        member = self.records[first].member
        last = first
        while data.draw(st.booleans()) and self.holds(last + 1, member):
            last += 1
        types = data.draw(st.lists(st.sampled_from(AcknowledgeType), min_size=last - first + 1,
                                   max_size=last - first + 1))  # fmt: skip
        if len(set(types)) == 1 and data.draw(st.booleans()):
            self.machine.acknowledge(member, first, last, bytes(types[:1]), now_ms=self.now_ms)
        else:
            self.machine.acknowledge(member, first, last, bytes(types), now_ms=self.now_ms)
        for offset, kind in zip(range(first, last + 1), types, strict=True):
            record = self.records[offset]
            if kind is AcknowledgeType.ACCEPT:
                assert offset not in self.accepted, "accepted twice"
                self.accepted.add(offset)
                record.state, record.member = RecordState.ACKNOWLEDGED, ""
            elif kind is AcknowledgeType.REJECT:
                record.state, record.member = RecordState.ARCHIVED, ""
            elif kind is AcknowledgeType.RENEW:
                record.acquired_ms = self.now_ms
            else:
                self.release(record)

    def holds(self, offset: int, member: str) -> bool:
        record = self.records.get(offset)
        return (
            record is not None and record.state is RecordState.ACQUIRED and record.member == member
        )

    def release(self, record: Known) -> None:
        gone = record.count >= LIMITS.delivery_limit
        record.state = RecordState.ARCHIVED if gone else RecordState.AVAILABLE
        record.member = ""

    @rule(member=st.sampled_from(MEMBERS), first=st.integers(0, 300), count=st.integers(1, 5))
    def acknowledge_anything(self, member: str, first: int, count: int) -> None:
        wanted = range(first, first + count)
        if all(self.holds(offset, member) for offset in wanted):
            return
        with pytest.raises(InvalidRecordStateError):
            self.machine.acknowledge(member, first, first + count - 1, b"\x01", now_ms=self.now_ms)

    @rule(step=st.integers(1, 1500))
    def pass_time(self, step: int) -> None:
        self.now_ms += step
        self.machine.on_tick(now_ms=self.now_ms)
        for record in self.records.values():
            if record.state is RecordState.ACQUIRED:
                age = self.now_ms - record.acquired_ms
                held = self.machine.next_deadline_ms
                if age >= LIMITS.lock_duration_ms + 100:
                    self.release(record)
                elif age < LIMITS.lock_duration_ms:
                    assert held is not None, "a lease ended early"
        # Between the two the machine may do either; take over what it did.
        for span in self.machine.spans:
            for offset in range(span.first, span.end):
                known = self.records[offset]
                if known.state is RecordState.ACQUIRED and span.state is not RecordState.ACQUIRED:
                    assert self.now_ms - known.acquired_ms >= LIMITS.lock_duration_ms
                    self.release(known)
        for offset, record in self.records.items():
            if offset < self.machine.start_offset and record.state is RecordState.ACQUIRED:
                assert record.count >= LIMITS.delivery_limit
                self.release(record)

    @rule(member=st.sampled_from(MEMBERS), delivered=st.booleans())
    def leave(self, member: str, delivered: bool) -> None:
        self.machine.release_member(member, delivered=delivered)
        for record in self.records.values():
            if record.state is RecordState.ACQUIRED and record.member == member:
                record.count -= not delivered
                self.release(record)

    @rule()
    def write(self) -> None:
        changes = self.machine.take_changes()
        self.written.write(1, changes.start_offset, changes.batches)
        self.written.write(1, changes.start_offset, changes.batches)
        assert not self.machine.has_changes

    @rule()
    def fail_over(self) -> None:
        """A new leader knows everything but who holds what, and deliveries under way."""
        self.write()
        before = self.machine
        self.machine = SharePartition(LIMITS, self.written.start_offset, self.written.batches)
        assert self.machine.start_offset == before.start_offset
        for record in self.records.values():
            if record.state is RecordState.ACQUIRED:
                record.state, record.member = RecordState.AVAILABLE, ""
        for span in self.machine.spans:
            for offset in range(span.first, span.end):
                self.records[offset].count = span.delivery_count
        for offset in [o for o in self.records if o >= self.machine.end_offset]:
            assert self.records[offset].state is RecordState.AVAILABLE
            del self.records[offset]

    @invariant()
    def agrees(self) -> None:
        machine = self.machine
        at = machine.start_offset
        for span in machine.spans:
            assert span.first == at < span.end, "a hole among the records in flight"
            at = span.end
            for offset in range(span.first, span.end):
                record = self.records[offset]
                assert record.state is span.state, (offset, record, span)
                assert record.member == span.member
                if span.state in (RecordState.AVAILABLE, RecordState.ACQUIRED):
                    assert record.count == span.delivery_count
        assert at == machine.end_offset
        done = (RecordState.ACKNOWLEDGED, RecordState.ARCHIVED)
        assert all(r.state in done for o, r in self.records.items() if o < machine.start_offset)
        held = [r for r in self.records.values() if r.state is RecordState.ACQUIRED]
        assert machine.acquired == len(held)
        spans = list(machine.spans)
        assert not any(a.like(b) for a, b in pairwise(spans))
        assert machine.in_flight <= LIMITS.max_record_locks + 2, "more than a hole too many"


Model.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestModel = Model.TestCase
