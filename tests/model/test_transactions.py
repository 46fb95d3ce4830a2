"""The transaction machine against partitions and producers that remember everything.

Records become committed late, leaders change and lose the tail of their log, markers are written
late, twice, and by leaders of long ago. What must hold is said of the partitions and of what
producers have been told.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from raykafka.errors import RaykafkaError
from raykafka.txn.commands import (
    AddPartitions,
    CompleteTransaction,
    EndTransaction,
    InitTransaction,
    ListMarkers,
    Markers,
    MarkersOwed,
    PrepareTransaction,
    ProducerIdNeeded,
    TransactionEnd,
    TransactionIdentity,
)
from raykafka.txn.machine import TransactionMachine
from raykafka.txn.records import (
    LAST_EPOCH,
    NOBODY,
    EndedTransaction,
    ProducerIdentity,
    TransactionChanged,
    TransactionPartition,
    TransactionState,
)
from raykafka.txn.states import COMPLETED, DECIDED, TRANSITIONS, TransactionStatus

PARTITIONS = [TransactionPartition("t", "a" * 32, number) for number in range(3)]
TIMEOUT_MS = 1000
Answer = Callable[[Any], None]


@dataclass
class Partition:
    """A leader that follows the rules of transactional appends."""

    epochs: dict[int, int] = field(default_factory=dict)
    """The newest epoch of each producer id."""
    open: dict[int, int] = field(default_factory=dict)
    """Epoch of each producer id's open transaction."""
    outcomes: dict[ProducerIdentity, bool] = field(default_factory=dict)

    def append(self, producer: ProducerIdentity) -> bool:
        """A batch of a transaction that the coordinator has taken this partition into."""
        producer_id, epoch = producer
        if epoch < self.epochs.get(producer_id, -1):
            return False
        assert producer not in self.outcomes, "a transaction has ended and goes on"
        assert self.open.get(producer_id, epoch) == epoch, "two transactions of a producer at once"
        self.epochs[producer_id] = self.open[producer_id] = epoch
        return True

    def end(self, markers: Markers) -> None:
        """A marker; one that is not newer than what is open has been written before."""
        producer_id = markers.transaction.producer_id
        open_epoch = self.open.get(producer_id)
        if open_epoch is not None and markers.marker_epoch > open_epoch:
            ended = ProducerIdentity(producer_id, self.open.pop(producer_id))
            assert ended == markers.transaction, "a marker ends another transaction than its own"
            self.outcomes[ended] = markers.commit
        self.epochs[producer_id] = max(self.epochs.get(producer_id, -1), markers.marker_epoch)


@dataclass(eq=False)
class Producer:
    """A process that uses a transactional id; it may have been replaced without knowing it."""

    name: str
    two_phase: bool
    identity: ProducerIdentity = NOBODY
    fenced: bool = False
    asked: list[tuple[ProducerIdentity, bool]] = field(default_factory=list)
    """Every end it has asked for."""


class Transactions(RuleBasedStateMachine):
    """One coordinator, two transactional ids, any number of producers."""

    @initialize()
    def begin(self) -> None:
        self.machine = TransactionMachine()
        self.now = 1_000_000
        self.log: list[TransactionChanged] = []
        self.committed = 0
        self.checked = 0
        self.waiting: list[tuple[int, Any, Answer]] = []
        self.owed: dict[tuple[str, ProducerIdentity], Markers] = {}
        self.stale: list[Markers] = []
        self.stands: dict[tuple[str, ProducerIdentity], set[int]] = {}
        self.partitions = [Partition() for _ in PARTITIONS]
        self.producers: list[Producer] = []
        self.told: dict[tuple[str, ProducerIdentity], bool] = {}
        self.decided: dict[tuple[str, ProducerIdentity], bool] = {}
        self.given: dict[ProducerIdentity, Producer] = {}
        self.next_producer_id = 0

    # --- the shell --------------------------------------------------------------------------------

    def submit(self, command: Any, on_answer: Answer) -> list[Any] | None:
        """The records that it led to; None where it was refused."""
        try:
            outcome = self.machine.handle(command, now_ms=self.now, monotonic_ms=self.now)
        except RaykafkaError:
            return None
        self.append(outcome.records)
        self.waiting.append((len(self.log), outcome.answer, on_answer))
        return list(outcome.records)

    def append(self, records: Any) -> None:
        for record in records:
            assert isinstance(record, TransactionChanged)
            before = self.machine._states.get(record.transactional_id)
            self.check_step(before, record.state)
            self.log.append(self.machine.decode(*self.machine.encode(record)))  # type: ignore[arg-type]
            self.machine.replay([record])

    @staticmethod
    def check_step(before: TransactionState | None, after: TransactionState) -> None:
        if before is None:
            assert after.status is TransactionStatus.EMPTY
            return
        possible = TRANSITIONS[before.status] | {before.status}
        if before.status in DECIDED:  # its completion may be told by the next record alone
            possible |= TRANSITIONS[COMPLETED[before.status]]
        assert after.status in possible
        if after.owner.producer_id == before.owner.producer_id:
            assert after.owner.producer_epoch >= before.owner.producer_epoch
        else:
            assert after.owner.producer_id > before.owner.producer_id

    def commit_up_to(self, end: int) -> None:
        self.committed = max(self.committed, end)
        for record in self.log[self.checked : self.committed]:
            ended = record.state.ended
            if ended is not None:
                key = (record.transactional_id, ended.transaction)
                assert self.decided.setdefault(key, ended.commit) is ended.commit
        self.checked = self.committed
        ready = [entry for entry in self.waiting if entry[0] <= self.committed]
        self.waiting = [entry for entry in self.waiting if entry[0] > self.committed]
        for _, answer, on_answer in ready:
            on_answer(answer)

    def owe(self, markers: Markers | None) -> None:
        if markers is not None:
            self.owed[markers.transactional_id, markers.transaction] = markers

    def new_producer_id(self) -> int:
        self.next_producer_id += 1
        return self.next_producer_id

    def pick(self, index: int) -> Producer:
        return self.producers[index % len(self.producers)]

    def check_fenced(self, producer: Producer, command: Any, records: list[Any] | None) -> None:
        """Whoever has been replaced changes nothing, but for the end of what it prepared."""
        if not producer.fenced or not records:
            return
        assert isinstance(command, EndTransaction)
        [record] = records
        assert record.state.ended.transaction == producer.identity
        assert record.state.ended.owner != producer.identity, "it was not prepared"

    # --- producers --------------------------------------------------------------------------------

    @precondition(lambda self: len(self.producers) < 6)
    @rule(
        name=st.sampled_from("ab"),
        two_phase=st.booleans(),
        keep=st.booleans(),
        known=st.booleans(),
        index=st.integers(0, 9),
    )
    def init(self, name: str, two_phase: bool, keep: bool, known: bool, index: int) -> None:
        self.do_init(name, two_phase, keep, known, index)
        self.commit_up_to(len(self.log) - index % 2)

    def do_init(self, name: str, two_phase: bool, keep: bool, known: bool, index: int) -> None:
        producer = Producer(name, two_phase)
        identity = NOBODY
        if known and self.producers and self.pick(index).identity != NOBODY:
            producer = self.pick(index)
            name, two_phase, identity = producer.name, producer.two_phase, producer.identity
        command = InitTransaction(name, TIMEOUT_MS, two_phase, keep and two_phase, identity)

        def on_answer(answer: Any) -> None:
            if isinstance(answer, MarkersOwed):
                self.owe(answer.markers)
            elif isinstance(answer, ProducerIdNeeded):
                again = command._replace(new_producer_id=self.new_producer_id())
                self.check_fenced(producer, again, self.submit(again, on_answer))
            else:
                assert isinstance(answer, TransactionIdentity)
                self.give(producer, answer.producer)

        self.check_fenced(producer, command, self.submit(command, on_answer))

    def give(self, producer: Producer, identity: ProducerIdentity) -> None:
        """The producer hears who it is; everybody else who used the id is fenced by now."""
        assert self.given.setdefault(identity, producer) is producer, "given to two"
        producer.identity = identity
        if producer not in self.producers:
            self.producers.append(producer)
        for other in self.producers:
            if other is not producer and other.name == producer.name and other.identity < identity:
                other.fenced = True

    @precondition(lambda self: self.producers)
    @rule(
        index=st.integers(0, 9),
        numbers=st.sets(st.integers(0, 2), min_size=1),
        steps=st.lists(st.sampled_from(["commit", "prepare", "end", "markers"]), max_size=6),
        commit=st.booleans(),
    )
    def transact(self, index: int, numbers: set[int], steps: list[str], commit: bool) -> None:
        """Much of a transaction at once: single steps seldom come in this order."""
        self.add(index, numbers)
        self.commit_up_to(len(self.log))
        for step in steps:
            if step == "commit":
                self.commit_up_to(len(self.log))
            elif step == "prepare":
                self.prepare(index)
            elif step == "end":
                self.end(index, commit, False)
            else:
                for markers in list(self.owed.values()):
                    self.write(markers, numbers)

    @precondition(lambda self: self.producers)
    @rule(index=st.integers(0, 9), numbers=st.sets(st.integers(0, 2), min_size=1))
    def add(self, index: int, numbers: set[int]) -> None:
        producer = self.pick(index)
        identity = producer.identity
        command = AddPartitions(producer.name, identity, [PARTITIONS[n] for n in numbers])

        def on_answer(answer: Any) -> None:
            if isinstance(answer, MarkersOwed):
                self.owe(answer.markers)
            else:
                for number in numbers:
                    self.partitions[number].append(identity)

        self.check_fenced(producer, command, self.submit(command, on_answer))

    @precondition(lambda self: self.producers)
    @rule(index=st.integers(0, 9))
    def prepare(self, index: int) -> None:
        producer = self.pick(index)
        command = PrepareTransaction(producer.name, producer.identity)

        def on_answer(answer: Any) -> None:
            if isinstance(answer, MarkersOwed):
                self.owe(answer.markers)

        self.check_fenced(producer, command, self.submit(command, on_answer))

    @precondition(lambda self: self.producers)
    @rule(index=st.integers(0, 9), commit=st.booleans(), again=st.booleans())
    def end(self, index: int, commit: bool, again: bool) -> None:
        producer = self.pick(index)
        identity = producer.identity
        if again and producer.asked:
            identity, commit = producer.asked[-1]
        producer.asked.append((identity, commit))
        command = EndTransaction(producer.name, identity, commit)

        def on_answer(answer: Any) -> None:
            if isinstance(answer, MarkersOwed):
                self.owe(answer.markers)
            elif isinstance(answer, ProducerIdNeeded):
                self.submit(command._replace(new_producer_id=self.new_producer_id()), on_answer)
            else:
                assert isinstance(answer, TransactionEnd)
                self.owe(answer.markers)
                # An identity that keeps a prepared transaction ends that one.
                ended = self.ended_by(producer.name, identity)
                assert self.told.setdefault((producer.name, ended.transaction), commit) is commit
                if answer.successor == NOBODY:
                    return
                assert ended.requested or not fenced, "aborted for another producer"
                if producer.identity == identity:
                    self.give(producer, answer.successor)

        fenced = producer.fenced and identity == producer.identity
        records = self.submit(command, on_answer)
        if identity == producer.identity:
            self.check_fenced(producer, command, records)

    def ended_by(self, name: str, identity: ProducerIdentity) -> EndedTransaction:
        for record in reversed(self.log[: self.committed]):
            ended = record.state.ended
            if (
                record.transactional_id == name
                and ended is not None
                and identity in (ended.owner, ended.transaction)
            ):
                return ended
        raise AssertionError("an end that no record tells of")

    # --- time, logs and markers -------------------------------------------------------------------

    @rule(passed=st.integers(0, TIMEOUT_MS))
    def tick(self, passed: int) -> None:
        self.now += passed
        outcome = self.machine.on_tick(now_ms=self.now, monotonic_ms=self.now)
        self.append(outcome.records)

        def on_answer(answer: Any) -> None:
            for markers in answer:
                self.owe(markers)

        self.waiting.append((len(self.log), outcome.answer, on_answer))

    @precondition(lambda self: self.waiting)
    @rule(count=st.integers(1, 5))
    def commit(self, count: int) -> None:
        self.commit_up_to(min(len(self.log), self.committed + count))

    @rule(lost=st.integers(0, 5))
    def fail_over(self, lost: int) -> None:
        del self.log[max(self.committed, len(self.log) - lost) :]
        self.waiting.clear()
        self.stale += self.owed.values()
        self.owed.clear()
        self.stands.clear()
        self.machine = TransactionMachine()
        self.machine.replay(self.log)
        self.commit_up_to(len(self.log))
        self.machine.on_loaded(now_ms=self.now, monotonic_ms=self.now)
        self.submit(ListMarkers(), lambda found: [self.owe(markers) for markers in found])
        self.commit_up_to(len(self.log))

    @precondition(lambda self: self.owed)
    @rule(index=st.integers(0, 9), numbers=st.sets(st.integers(0, 2)))
    def write_markers(self, index: int, numbers: set[int]) -> None:
        key = list(self.owed)[index % len(self.owed)]
        self.write(self.owed[key], numbers)

    def write(self, markers: Markers, numbers: set[int]) -> None:
        key = (markers.transactional_id, markers.transaction)
        assert self.decided[key] is markers.commit, "a marker before its decision is committed"
        wanted = {number for topic in markers.topics for number in topic.partitions}
        for number in wanted & numbers:
            self.partitions[number].end(markers)
        stands = self.stands.setdefault(key, set())
        stands |= wanted & numbers
        if stands == wanted:
            self.owed.pop(key, None)
            self.submit(CompleteTransaction(*markers[:3]), lambda _: None)

    @precondition(lambda self: self.stale)
    @rule(index=st.integers(0, 9), number=st.integers(0, 2))
    def write_stale_marker(self, index: int, number: int) -> None:
        """A leader of before, which does not know yet that it is one."""
        markers = self.stale[index % len(self.stale)]
        if any(number in topic.partitions for topic in markers.topics):
            self.partitions[number].end(markers)

    @precondition(lambda self: self.log and self.committed == len(self.log))
    @rule(name=st.sampled_from("ab"))
    def use_up_epochs(self, name: str) -> None:
        """As if the owner had gone through all of them but two."""
        state = self.machine._states.get(name)
        if state is None or state.status is not TransactionStatus.EMPTY:
            return
        if state.owner.producer_epoch > 0 or self.waiting:
            return
        holders = [each for each in self.producers if each.identity == state.owner]
        if len(holders) != 1:
            return
        command = InitTransaction(name, TIMEOUT_MS, holders[0].two_phase, False)
        assert self.submit(command, lambda _: None)
        record = self.log.pop()
        owner = ProducerIdentity(state.owner.producer_id, LAST_EPOCH - 1)
        changed = TransactionChanged(name, _with_owner(record.state, owner))
        self.log.append(changed)
        self.machine.replay([changed])
        self.waiting.clear()
        self.commit_up_to(len(self.log))
        self.give(holders[0], owner)

    # --- what must hold ---------------------------------------------------------------------------

    @invariant()
    def every_transaction_has_one_outcome(self) -> None:
        if not hasattr(self, "log"):
            return
        for key, commit in self.told.items():
            assert self.decided[key] is commit
        outcomes: dict[ProducerIdentity, bool] = {}
        for partition in self.partitions:
            for transaction, commit in partition.outcomes.items():
                assert outcomes.setdefault(transaction, commit) is commit, "both outcomes"

    def teardown(self) -> None:
        if not hasattr(self, "log"):
            return
        self.commit_up_to(len(self.log))
        self.fail_over(0)
        for _ in range(3):
            self.tick(TIMEOUT_MS)
            self.commit_up_to(len(self.log))
            for markers in list(self.owed.values()):
                self.write(markers, {0, 1, 2})
        prepared = {
            state.transaction
            for state in self.machine._states.values()
            if state.status is TransactionStatus.PREPARED
        }
        for partition in self.partitions:
            hanging = {ProducerIdentity(*entry) for entry in partition.open.items()} - prepared
            assert not hanging, "a transaction hangs for ever"
        told = {transaction: commit for (_, transaction), commit in self.told.items()}
        for partition in self.partitions:
            for transaction, commit in partition.outcomes.items():
                assert told.get(transaction, commit) is commit


def _with_owner(state: TransactionState, owner: ProducerIdentity) -> TransactionState:
    return TransactionState(owner, *[getattr(state, name) for name in _FIELDS[1:]])


_FIELDS = TransactionState.__struct_fields__

TestTransactions = Transactions.TestCase
TestTransactions.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
