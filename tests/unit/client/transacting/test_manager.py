"""What a transactional producer may do in which state."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raykafka.client.producing.partition_queue import Identity
from raykafka.client.transacting.manager import NO_IDENTITY, TransactionManager, TransactionState
from raykafka.errors import (
    DeliveryTimeoutError,
    IllegalStateError,
    InvalidProducerEpochError,
    InvalidTxnStateError,
    MessageTooLargeError,
    ProducerFencedError,
    TransactionAbortableError,
)

ID = Identity(7, 0)
NEXT = Identity(7, 1)
State = TransactionState


def ready() -> TransactionManager:
    manager = TransactionManager("bank")
    manager.check_initialize()
    manager.initialized(ID)
    return manager


def opened() -> TransactionManager:
    manager = ready()
    manager.begin()
    return manager


def test_a_committed_transaction_gives_way_to_the_next_under_a_newer_epoch() -> None:
    manager = opened()
    assert manager.refusal() is None
    assert not manager.known_outside
    manager.participating = True
    manager.seal("commit_transaction")
    manager.committing()
    manager.ended(NEXT)
    assert (manager.state, manager.identity) == (State.READY, NEXT)
    manager.begin()
    assert not manager.known_outside


def test_nothing_is_sent_outside_of_a_transaction() -> None:
    manager = TransactionManager("bank")
    with pytest.raises(IllegalStateError, match="init_transactions"):
        manager.begin()
    refusal = manager.refusal()
    assert isinstance(refusal, IllegalStateError)
    manager.initialized(ID)
    refusal = manager.refusal()
    assert isinstance(refusal, IllegalStateError)
    assert "begin_transaction" in refusal.message


@pytest.mark.parametrize(
    "call", [TransactionManager.committing, TransactionManager.aborting], ids=["commit", "abort"]
)
def test_nothing_is_ended_that_was_not_begun(call: Callable[[TransactionManager], None]) -> None:
    with pytest.raises(IllegalStateError, match="begin_transaction"):
        call(ready())


def test_a_second_introduction_or_beginning_is_refused() -> None:
    manager = opened()
    with pytest.raises(IllegalStateError, match="once per producer"):
        manager.check_initialize()
    with pytest.raises(IllegalStateError, match="commit or abort it first"):
        manager.begin()


def test_a_failed_record_leaves_only_the_abort() -> None:
    manager = opened()
    manager.fail(MessageTooLargeError("too large"))
    assert manager.state is State.ABORTABLE_ERROR
    for call in (manager.committing, manager.begin, lambda: manager.seal("commit_transaction")):
        with pytest.raises(TransactionAbortableError, match=r"too large.*abort the transaction"):
            call()
    assert isinstance(manager.refusal(), TransactionAbortableError)
    manager.aborting()
    manager.ended(NEXT)
    manager.begin()
    assert manager.refusal() is None


def test_a_fenced_producer_does_nothing_any_more() -> None:
    manager = opened()
    manager.fail(ProducerFencedError("a newer one"))
    assert manager.state is State.FATAL_ERROR
    for call in (manager.committing, manager.aborting, manager.begin, manager.check_initialize):
        with pytest.raises(ProducerFencedError, match="a newer one"):
            call()
    manager.fail(DeliveryTimeoutError())
    assert isinstance(manager.refusal(), ProducerFencedError)


def test_an_old_epoch_may_be_a_timeout_and_only_the_abort_tells() -> None:
    for other_producer in (False, True):
        manager = opened()
        manager.fail(manager.understood(InvalidProducerEpochError("epoch 0 is older than 1")))
        for call in (manager.committing, manager.begin):
            with pytest.raises(ProducerFencedError, match="'bank'"):
                call()
        manager.aborting()
        if other_producer:
            manager.fail_fatally(ProducerFencedError())
            with pytest.raises(ProducerFencedError):
                manager.aborting()
        else:
            manager.ended(NEXT)
            manager.begin()


def test_late_failures_of_what_was_given_up_change_nothing() -> None:
    manager = opened()
    manager.aborting()
    manager.fail(DeliveryTimeoutError())
    assert manager.state is State.ABORTING
    manager.ended(NEXT)
    manager.fail(DeliveryTimeoutError())
    assert manager.state is State.READY


def test_an_unknown_outcome_is_asked_for_again_and_not_turned_round() -> None:
    manager = opened()
    manager.committing()
    with pytest.raises(IllegalStateError, match="call commit_transaction again"):
        manager.aborting()
    manager.committing()
    manager.ended(NEXT)
    manager.begin()
    manager.aborting()
    with pytest.raises(IllegalStateError, match="call abort_transaction again"):
        manager.committing()


def test_a_refused_commit_can_still_be_aborted() -> None:
    manager = opened()
    manager.committing()
    manager.commit_refused(InvalidTxnStateError("no such transaction"))
    with pytest.raises(TransactionAbortableError, match="no such transaction"):
        manager.committing()
    manager.aborting()


def test_a_prepared_transaction_is_ended_under_its_own_epoch() -> None:
    manager = TransactionManager("bank")
    manager.initialized(NEXT, prepared=ID)
    assert manager.state is State.PREPARED
    assert manager.known_outside
    with pytest.raises(IllegalStateError, match="prepared"):
        manager.begin()
    assert isinstance(manager.refusal(), IllegalStateError)
    manager.committing()
    assert (manager.transaction, manager.identity) == (ID, NEXT)
    manager.ended(Identity(7, 2))
    assert manager.transaction == Identity(7, 2)

    manager.begin()
    manager.participating = True
    manager.seal("prepare_transaction")
    manager.prepared()
    assert manager.state is State.PREPARED
    manager.aborting()
    assert manager.transaction == Identity(7, 2)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 8), max_size=40))
def test_no_order_of_calls_leads_astray(steps: list[int]) -> None:
    """Sending is possible in an open transaction only, and every epoch is used once."""
    manager, epoch = TransactionManager("bank"), 0

    def introduce() -> None:
        manager.check_initialize()
        manager.initialized(Identity(7, 0))

    calls: list[Callable[[], None]] = [
        introduce,
        manager.begin,
        lambda: manager.seal("commit_transaction"),
        manager.committing,
        manager.aborting,
        lambda: manager.fail(DeliveryTimeoutError()),
        lambda: manager.fail(ProducerFencedError()),
        manager.unseal,
    ]
    fatal = False
    for step in steps:
        if step == len(calls):
            if manager.state in (State.COMMITTING, State.ABORTING):
                epoch += 1
                manager.ended(Identity(7, epoch))
        else:
            try:
                calls[step]()
            except (IllegalStateError, TransactionAbortableError, ProducerFencedError):
                continue
        fatal = fatal or manager.state is State.FATAL_ERROR
        assert fatal == (manager.state is State.FATAL_ERROR)
        assert (manager.refusal() is None) == (manager.state is State.IN_TRANSACTION)
        assert (manager.error is not None) == (
            manager.state in (State.ABORTABLE_ERROR, State.FATAL_ERROR)
        ) or manager.state is State.ABORTING
        if manager.state is State.READY:
            assert manager.identity == Identity(7, epoch)
            assert manager.transaction != NO_IDENTITY
