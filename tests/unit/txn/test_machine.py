"""The transaction machine: one id's life, and what everybody but its owner is told."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from txn_kit import P0, P1, Q0, Coordinator

from raykafka import errors
from raykafka.txn.commands import (
    EndTransaction,
    InitTransaction,
    ListMarkers,
    ListTransactions,
    MarkersOwed,
    ProducerIdNeeded,
    TransactionEnd,
    TransactionLimits,
)
from raykafka.txn.records import (
    FENCING_EPOCH,
    LAST_EPOCH,
    NOBODY,
    ProducerIdentity,
    TransactionChanged,
    TransactionTopic,
    decode,
)


@pytest.fixture
def coordinator() -> Coordinator:
    return Coordinator()


def exhausted(coordinator: Coordinator) -> ProducerIdentity:
    """The id's owner has the last epoch there is."""
    coordinator.init()
    record = decode(*coordinator.log[-1])
    assert isinstance(record, TransactionChanged)
    owner = ProducerIdentity(100, LAST_EPOCH)
    state = msgspec.structs.replace(record.state, owner=owner)
    coordinator.machine.replay([TransactionChanged("a", state)])
    return owner


# --- the usual way ------------------------------------------------------------------------------


def test_a_transaction_costs_two_records_while_its_producer_goes_on(
    coordinator: Coordinator,
) -> None:
    producer = coordinator.init()
    assert producer == (100, 0)
    for epoch in range(3):
        before = len(coordinator.log)
        coordinator.add(producer)
        assert coordinator.status() == "Ongoing"
        successor = coordinator.end(producer, commit=True)
        assert successor == (100, epoch + 1), "every transaction has an epoch of its own"
        assert coordinator.status() == "CompleteCommit"
        assert len(coordinator.log) == before + 2
        producer = successor
    coordinator.tick()
    assert len(coordinator.log) == before + 3, "the last completion"
    coordinator.tick()
    assert len(coordinator.log) == before + 3


def test_markers_name_every_partition_and_a_newer_epoch(coordinator: Coordinator) -> None:
    producer = coordinator.init()
    coordinator.add(producer, P0)
    coordinator.add(producer, Q0, P1)
    coordinator.add(producer, P1)
    coordinator.end(producer, commit=False)
    [markers] = coordinator.written
    assert (markers.transaction, markers.marker_epoch, markers.commit) == (producer, 1, False)
    assert markers.topics == (
        TransactionTopic("t", P0.topic_id, (0, 1)),
        TransactionTopic("u", Q0.topic_id, (0,)),
    )


def test_partitions_that_belong_already_change_nothing(coordinator: Coordinator) -> None:
    producer = coordinator.init()
    coordinator.add(producer, P0, P1)
    before = len(coordinator.log)
    coordinator.add(producer, P1)
    assert len(coordinator.log) == before


def test_the_next_transaction_waits_for_the_markers_of_the_last(coordinator: Coordinator) -> None:
    producer = coordinator.init()
    coordinator.add(producer)
    coordinator.markers_fail = True
    successor = coordinator.end(producer, commit=True)
    for answer in (coordinator.add(successor), coordinator.run(InitTransaction("a", 1000))):
        assert isinstance(answer, MarkersOwed)
        assert answer.markers.transaction == producer
    assert coordinator.status() == "PrepareCommit"
    coordinator.markers_fail = False
    coordinator.add(successor)
    assert coordinator.status() == "Ongoing"


# --- ends -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("commit", [True, False])
def test_an_end_given_again_has_the_same_answer(coordinator: Coordinator, commit: bool) -> None:
    producer = coordinator.init()
    coordinator.add(producer)
    successor = coordinator.end(producer, commit)
    before = len(coordinator.log)
    assert coordinator.end(producer, commit) == successor
    assert len(coordinator.log) == before
    with pytest.raises(errors.InvalidTxnStateError, match="committed" if commit else "aborted"):
        coordinator.end(producer, not commit)
    newer = coordinator.init()
    assert coordinator.end(producer, commit) == successor, "it stays true"
    assert newer.producer_epoch == successor.producer_epoch + 1


def test_an_end_given_again_before_the_markers_stand_waits_for_them(
    coordinator: Coordinator,
) -> None:
    producer = coordinator.init()
    coordinator.add(producer)
    coordinator.markers_fail = True
    command = EndTransaction("a", producer, commit=True)
    assert coordinator.handle(command) == coordinator.handle(command)
    assert coordinator.handle(command).markers is not None


def test_nothing_cannot_be_committed_but_aborted(coordinator: Coordinator) -> None:
    """The abort makes sure that nothing of that epoch is added any more (KIP-890)."""
    producer = coordinator.init()
    with pytest.raises(errors.InvalidTxnStateError):
        coordinator.end(producer, commit=True)
    successor = coordinator.end(producer, commit=False)
    assert successor == (100, 1)
    assert coordinator.written[-1].topics == ()
    with pytest.raises(errors.InvalidProducerEpochError):
        coordinator.add(producer)
    coordinator.add(successor)


# --- whoever does not own the id ------------------------------------------------------------------

Act = Callable[[Coordinator, ProducerIdentity], object]
ACTS: list[Act] = [
    lambda coordinator, producer: coordinator.add(producer),
    lambda coordinator, producer: coordinator.prepare(producer),
    lambda coordinator, producer: coordinator.end(producer, commit=True),
    lambda coordinator, producer: coordinator.end(producer, commit=False),
    lambda coordinator, producer: coordinator.init(known=producer),
]


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("was_open", [False, True])
def test_a_newer_producer_fences_the_former(
    coordinator: Coordinator, act: Act, was_open: bool
) -> None:
    former = coordinator.init()
    if was_open:
        coordinator.add(former)
    newer = coordinator.init()
    assert newer.producer_epoch == former.producer_epoch + 1 + was_open
    assert [markers.commit for markers in coordinator.written] == [False] * was_open
    before = len(coordinator.log)
    with pytest.raises(errors.ProducerFencedError):
        act(coordinator, former)
    assert len(coordinator.log) == before
    coordinator.add(newer)


@pytest.mark.parametrize("act", ACTS[:4])
def test_who_was_never_the_owner_is_told_so(coordinator: Coordinator, act: Act) -> None:
    with pytest.raises(errors.InvalidProducerIdMappingError, match="not known"):
        act(coordinator, ProducerIdentity(100, 0))
    coordinator.init()
    with pytest.raises(errors.InvalidProducerIdMappingError, match="does not belong"):
        act(coordinator, ProducerIdentity(99, 0))
    with pytest.raises(errors.InvalidProducerEpochError, match="yet"):
        act(coordinator, ProducerIdentity(100, 1))


def test_a_producer_asks_for_its_next_epoch(coordinator: Coordinator) -> None:
    first = coordinator.init()
    second = coordinator.init(known=first)
    assert second == (100, 1)
    assert coordinator.init(known=first) == second, "its answer was lost"
    coordinator.add(second)
    with pytest.raises(errors.ProducerFencedError):
        coordinator.init(known=first)
    third = coordinator.init(known=second)
    assert third == (100, 3), "what it had open was aborted"
    assert coordinator.init(known=second) == third
    coordinator.add(third)
    with pytest.raises(errors.ProducerFencedError):
        coordinator.init(known=second)


def test_the_answer_to_an_end_may_be_lost_before_a_new_epoch(coordinator: Coordinator) -> None:
    producer = coordinator.init()
    coordinator.add(producer)
    coordinator.end(producer, commit=True)
    assert coordinator.init(known=producer) == (100, 2)


@pytest.mark.parametrize("timeout_ms", [0, -1, 900_001])
def test_timeouts_out_of_bounds_are_refused(coordinator: Coordinator, timeout_ms: int) -> None:
    with pytest.raises(errors.InvalidTransactionTimeoutError, match="transaction.max.timeout.ms"):
        coordinator.init(timeout_ms=timeout_ms)


def test_requests_that_make_no_sense_are_refused(coordinator: Coordinator) -> None:
    with pytest.raises(errors.InvalidRequestError):
        coordinator.init("")
    with pytest.raises(errors.InvalidRequestError):
        coordinator.init(keep_prepared=True)
    with pytest.raises(errors.InvalidRequestError):
        coordinator.handle(ListTransactions(states=["Open"]))
    assert len(coordinator.machine) == 0


# --- timeouts -------------------------------------------------------------------------------------


def test_a_transaction_is_aborted_after_its_timeout(coordinator: Coordinator) -> None:
    producer = coordinator.init(timeout_ms=5000)
    coordinator.add(producer)
    coordinator.tick(3000)
    coordinator.add(producer, P1)
    assert coordinator.tick(1999) == []
    [markers] = coordinator.tick(1)
    assert (markers.transaction, markers.commit) == (producer, False)
    assert coordinator.status() == "PrepareAbort"
    coordinator.write(markers)
    for act in (ACTS[0], ACTS[1], ACTS[2]):
        with pytest.raises(errors.TransactionAbortableError):
            act(coordinator, producer)
    successor = coordinator.end(producer, commit=False)
    assert successor == (100, 1), "it may go on once it has aborted, too"
    coordinator.add(successor)


def test_another_leader_goes_on_with_what_is_left_of_the_timeout(coordinator: Coordinator) -> None:
    producer = coordinator.init(timeout_ms=5000)
    coordinator.add(producer)
    coordinator.tick(3000)
    coordinator.fail_over()
    assert coordinator.tick(1999) == []
    assert len(coordinator.tick(1)) == 1
    coordinator.fail_over()
    [owed] = coordinator.handle(ListMarkers())
    coordinator.write(owed)
    assert coordinator.handle(ListMarkers()) == []
    coordinator.add(coordinator.end(producer, commit=False))
    coordinator.now_ms -= 500_000  # its clock is wrong
    coordinator.fail_over()
    assert coordinator.tick(4999) == []
    assert len(coordinator.tick(1)) == 1


def test_a_transaction_that_ended_does_not_time_out(coordinator: Coordinator) -> None:
    producer = coordinator.init(timeout_ms=5000)
    coordinator.add(producer)
    producer = coordinator.end(producer, commit=True)
    coordinator.tick(4000)
    coordinator.add(producer)
    assert coordinator.tick(4999) == []
    assert len(coordinator.tick(1)) == 1


def test_idle_ids_are_forgotten() -> None:
    coordinator = Coordinator(TransactionLimits(id_expiration_ms=10_000))
    idle, busy = coordinator.init("idle"), coordinator.init("a", timeout_ms=900_000)
    coordinator.tick(5000)
    coordinator.add(busy)
    coordinator.tick(5000)
    with pytest.raises(errors.TransactionalIdNotFoundError):
        coordinator.describe("idle")
    assert coordinator.log[-1] == (b"idle", None)
    coordinator.end(busy, commit=True)
    coordinator.tick()
    coordinator.fail_over()
    assert len(coordinator.machine) == 1
    coordinator.tick(9999)
    assert len(coordinator.machine) == 1
    coordinator.tick(1)
    assert len(coordinator.machine) == 0
    assert coordinator.init("idle") == (102, 0) != idle


# --- two phases -----------------------------------------------------------------------------------


@pytest.mark.parametrize("commit", [True, False])
def test_a_prepared_transaction_waits_for_its_end(coordinator: Coordinator, commit: bool) -> None:
    producer = coordinator.init(two_phase=True, timeout_ms=1000)
    coordinator.add(producer)
    coordinator.prepare(producer)
    coordinator.prepare(producer)
    with pytest.raises(errors.InvalidTxnStateError):
        coordinator.add(producer, P1)
    coordinator.fail_over()
    assert coordinator.tick(10**9) == []
    assert coordinator.status() == "Prepared"
    assert coordinator.end(producer, commit) == (100, 1)
    assert coordinator.written[-1].commit is commit


def test_another_process_ends_it(coordinator: Coordinator) -> None:
    producer = coordinator.init(two_phase=True)
    coordinator.add(producer)
    coordinator.prepare(producer)
    answer = coordinator.run(InitTransaction("a", 1000, True, True))
    assert (answer.producer, answer.prepared) == ((100, 1), producer)
    with pytest.raises(errors.ProducerFencedError):
        coordinator.add(producer)
    with pytest.raises(errors.InvalidTxnStateError):
        coordinator.prepare(answer.producer)
    assert coordinator.end(answer.producer, commit=True) == (100, 2)
    assert coordinator.written[-1][1:4] == (producer, 2, True)
    assert coordinator.end(answer.producer, commit=True) == (100, 2)
    assert coordinator.end(producer, commit=True) == NOBODY, "true, but it owns the id no more"
    with pytest.raises(errors.InvalidTxnStateError):
        coordinator.end(producer, commit=False)


def test_whoever_has_its_name_ends_it(coordinator: Coordinator) -> None:
    producer = coordinator.init(two_phase=True)
    coordinator.add(producer)
    coordinator.prepare(producer)
    newer = coordinator.init(two_phase=True, keep_prepared=True)
    assert coordinator.end(producer, commit=True) == NOBODY
    assert coordinator.written[-1].transaction == producer
    assert coordinator.end(newer, commit=True) == (100, 2), "it has been told the same"
    coordinator.add(ProducerIdentity(100, 2))


def test_it_is_aborted_for_a_producer_that_does_not_keep_it(coordinator: Coordinator) -> None:
    producer = coordinator.init(two_phase=True)
    coordinator.add(producer)
    coordinator.prepare(producer)
    assert coordinator.init(two_phase=True) == (100, 2)
    assert coordinator.written[-1][1:4] == (producer, 1, False)
    with pytest.raises(errors.ProducerFencedError):
        coordinator.end(producer, commit=True)


def test_one_without_partitions_can_be_prepared(coordinator: Coordinator) -> None:
    producer = coordinator.init(two_phase=True)
    coordinator.prepare(producer)
    assert coordinator.end(producer, commit=True) == (100, 1)
    assert coordinator.status() == "CompleteCommit"


def test_one_phase_is_one_phase(coordinator: Coordinator) -> None:
    producer = coordinator.init()
    coordinator.add(producer)
    with pytest.raises(errors.InvalidTxnStateError):
        coordinator.prepare(producer)
    closed = Coordinator(TransactionLimits(two_phase_commit=False))
    with pytest.raises(errors.TransactionalIdAuthorizationFailedError):
        closed.init(two_phase=True)


# --- epochs that are used up ----------------------------------------------------------------------


def test_the_last_epoch_is_followed_by_a_new_producer_id(coordinator: Coordinator) -> None:
    producer = exhausted(coordinator)
    coordinator.add(producer)
    assert coordinator.handle(EndTransaction("a", producer, True)) == ProducerIdNeeded()
    successor = coordinator.end(producer, commit=True)
    assert successor == (101, 0)
    assert coordinator.written[-1].marker_epoch == FENCING_EPOCH
    assert coordinator.end(producer, commit=True) == successor
    with pytest.raises(errors.InvalidProducerEpochError):
        coordinator.add(producer)
    coordinator.add(successor)


def test_so_it_is_for_a_new_producer(coordinator: Coordinator) -> None:
    producer = exhausted(coordinator)
    coordinator.add(producer)
    assert coordinator.init() == (101, 0)
    assert coordinator.written[-1][1:4] == (producer, FENCING_EPOCH, False)


def test_so_it_is_after_a_timeout(coordinator: Coordinator) -> None:
    producer = exhausted(coordinator)
    coordinator.add(producer)
    [markers] = coordinator.tick(60_000)
    coordinator.write(markers)
    with pytest.raises(errors.InvalidProducerEpochError):
        coordinator.add(ProducerIdentity(100, FENCING_EPOCH))
    successor = coordinator.end(producer, commit=False)
    assert successor == (101, 0)
    assert coordinator.end(producer, commit=False) == successor
    coordinator.add(successor)


def test_so_it_is_beside_a_prepared_transaction(coordinator: Coordinator) -> None:
    producer = coordinator.init(two_phase=True)
    coordinator.add(producer)
    coordinator.prepare(producer)
    for _ in range(LAST_EPOCH):
        newer = coordinator.init(two_phase=True, keep_prepared=True)
    assert newer == (100, LAST_EPOCH)
    newer = coordinator.init(two_phase=True, keep_prepared=True)
    assert newer == (101, 0)
    assert coordinator.end(newer, commit=True) == (101, 1)
    assert coordinator.written[-1][1:4] == (producer, FENCING_EPOCH, True)


# --- looking at it --------------------------------------------------------------------------------


def test_descriptions_and_listings(coordinator: Coordinator) -> None:
    producer, other = coordinator.init(timeout_ms=7000, two_phase=True), coordinator.init("b")
    coordinator.add(producer, P0, Q0)
    coordinator.now_ms += 2000
    shown = coordinator.describe()
    assert shown[1:6] == ("Ongoing", producer, 7000, coordinator.now_ms - 2000, True)
    assert [topic.topic for topic in shown.topics] == ["t", "u"]
    assert coordinator.describe("b")[1:5] == ("Empty", other, 60_000, -1)
    with pytest.raises(errors.TransactionalIdNotFoundError):
        coordinator.describe("c")

    def listed(**filters: object) -> list[str]:
        found = coordinator.handle(ListTransactions(**filters))  # type: ignore[arg-type]
        return [one.transactional_id for one in found]

    assert listed() == ["a", "b"]
    assert listed(states=["Ongoing", "Dead"]) == ["a"]
    assert listed(producer_ids=[101]) == ["b"]
    assert listed(min_duration_ms=2000) == ["a"]
    assert listed(min_duration_ms=2001) == []
    coordinator.markers_fail = True
    answer = coordinator.run(EndTransaction("a", producer, commit=True))
    assert isinstance(answer, TransactionEnd)
    assert coordinator.describe()[1:3] == ("PrepareCommit", producer)
    assert listed(min_duration_ms=2000) == ["a"]
    assert answer.markers is not None
    coordinator.write(answer.markers)
    assert coordinator.describe()[1:5] == ("CompleteCommit", (100, 1), 7000, -1)


def test_a_snapshot_is_the_state(coordinator: Coordinator) -> None:
    coordinator.add(coordinator.init(), P0, Q0)
    coordinator.init("b")
    coordinator.log = [coordinator.machine.encode(each) for each in coordinator.machine.snapshot()]
    before = coordinator.describe(), coordinator.describe("b")
    coordinator.fail_over()
    assert (coordinator.describe(), coordinator.describe("b")) == before
    assert len(coordinator.tick(60_000)) == 1
