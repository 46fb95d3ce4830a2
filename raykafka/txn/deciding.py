"""Decisions about one transactional id: its state and a command in, records and an answer out.

Rules:
- An id belongs to one producer id and epoch, its owner. Every end of a transaction and every init
  gives it to a successor with a newer epoch, so what comes late is told from what comes next
  (KIP-890), and a producer that has been replaced is fenced.
- An end given again is answered as the first time, for as long as no other transaction of the id
  has ended: whether it was committed stays true, whoever owns the id since.
- A transaction that the coordinator aborted, after its timeout, can be aborted by its producer
  too, which then goes on; it is fenced only when another producer has taken the id.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from raykafka.errors import (
    InvalidRequestError,
    InvalidTransactionTimeoutError,
    InvalidTxnStateError,
    ProducerFencedError,
    TransactionalIdAuthorizationFailedError,
)
from raykafka.txn.commands import (
    AddPartitions,
    EndTransaction,
    InitTransaction,
    Markers,
    MarkersOwed,
    Outcome,
    PrepareTransaction,
    ProducerIdNeeded,
    TransactionEnd,
    TransactionIdentity,
    TransactionLimits,
)
from raykafka.txn.owners import aborted, check_last, check_owner, refusal, successor_of, unknown
from raykafka.txn.records import (
    FENCING_EPOCH,
    LAST_EPOCH,
    NOBODY,
    EndedTransaction,
    ProducerIdentity,
    TransactionChanged,
    TransactionState,
    with_partitions,
)
from raykafka.txn.states import COMPLETED, DECIDED, OPEN, TransactionStatus

_replace: Final = msgspec.structs.replace


class Known(NamedTuple):
    """An id's state as a decision sees it: a transaction whose markers are written is complete."""

    transactional_id: str
    state: TransactionState

    def outcome(self, state: TransactionState, answer: object) -> Outcome:
        """The id moves to ``state``."""
        return Outcome([TransactionChanged(self.transactional_id, state)], answer)

    @property
    def markers(self) -> Markers:
        """What the transaction that has been decided needs."""
        ended = self.state.ended
        assert ended is not None
        return Markers(
            self.transactional_id,
            ended.transaction,
            ended.marker_epoch,
            ended.commit,
            self.state.topics,
        )


def completed(state: TransactionState, update_ms: int) -> TransactionState:
    """The state once every marker is written."""
    return _replace(
        state, status=COMPLETED[state.status], update_ms=update_ms, start_ms=-1, topics=()
    )


# --- init ---------------------------------------------------------------------------------------


def init(
    known: Known | None, command: InitTransaction, limits: TransactionLimits, now_ms: int
) -> Outcome:
    """Give the id to a new owner, once nothing of the former one is open."""
    _check_init(command, limits)
    if known is None:
        if command.new_producer_id < 0:
            return Outcome((), ProducerIdNeeded())
        owner = ProducerIdentity(command.new_producer_id, 0)
        state = TransactionState(
            owner,
            TransactionStatus.EMPTY,
            command.timeout_ms,
            now_ms,
            command.two_phase,
            former=command.known,
        )
        record = TransactionChanged(command.transactional_id, state)
        return Outcome([record], TransactionIdentity(owner))
    state = known.state
    kept = state.status is TransactionStatus.PREPARED and command.keep_prepared
    if command.known != NOBODY:
        if command.known == state.former:
            return Outcome((), TransactionIdentity(state.owner, state.transaction))
        check_last(state, command.known)
    if state.status in DECIDED:
        return Outcome((), MarkersOwed(known.markers))
    if state.status in OPEN and not kept:
        return abort(known, now_ms)
    owner = successor_of(state.owner, command.new_producer_id)
    if owner == NOBODY:
        return Outcome((), ProducerIdNeeded())
    changed = _replace(
        state,
        owner=owner,
        status=TransactionStatus.PREPARED if kept else TransactionStatus.EMPTY,
        timeout_ms=command.timeout_ms,
        two_phase=command.two_phase,
        update_ms=now_ms,
        former=command.known,
    )
    return known.outcome(changed, TransactionIdentity(owner, state.transaction))


def _check_init(command: InitTransaction, limits: TransactionLimits) -> None:
    if not command.transactional_id:
        raise InvalidRequestError("a transactional id must not be empty")
    if not 0 < command.timeout_ms <= limits.max_timeout_ms:
        raise InvalidTransactionTimeoutError(
            f"a transaction timeout of {command.timeout_ms} ms is not allowed: it must be positive "
            f'and at most "transaction.max.timeout.ms", {limits.max_timeout_ms}'
        )
    if command.two_phase and not limits.two_phase_commit:
        raise TransactionalIdAuthorizationFailedError(
            'commit in two phases is switched off: "transaction.two.phase.commit.enable" is false'
        )
    if command.keep_prepared and not command.two_phase:
        raise InvalidRequestError("only a producer that commits in two phases keeps what is "
                                  "prepared")  # fmt: skip


# --- partitions and the first phase ---------------------------------------------------------------


def add_partitions(known: Known | None, command: AddPartitions, now_ms: int) -> Outcome:
    """Make partitions part of the owner's transaction; the first ones open it."""
    if not command.partitions:
        raise InvalidRequestError("no partition is named")
    known = _owned(known, command.transactional_id, command.producer)
    state = known.state
    if state.status is TransactionStatus.PREPARED:
        raise InvalidTxnStateError("the transaction is prepared: it can only be ended")
    if state.status in DECIDED:
        return Outcome((), MarkersOwed(known.markers))
    topics = with_partitions(state.topics, command.partitions)
    if state.status is not TransactionStatus.ONGOING:
        return known.outcome(
            _replace(
                state,
                status=TransactionStatus.ONGOING,
                update_ms=now_ms,
                start_ms=now_ms,
                transaction=state.owner,
                former=NOBODY,
                topics=topics,
            ),
            None,
        )
    if topics is state.topics:
        return Outcome((), None)
    return known.outcome(_replace(state, topics=topics), None)


def prepare(known: Known | None, command: PrepareTransaction, now_ms: int) -> Outcome:
    """Let the transaction outlive its producer, also one without partitions."""
    known = _owned(known, command.transactional_id, command.producer)
    state = known.state
    if state.status is TransactionStatus.PREPARED:
        if state.transaction != command.producer:
            raise InvalidTxnStateError("a transaction prepared before waits for its end")
        return Outcome((), None)
    if state.status in DECIDED:
        return Outcome((), MarkersOwed(known.markers))
    if not state.two_phase:
        raise InvalidTxnStateError("the producer does not commit in two phases: init it so")
    changed = _replace(
        state,
        status=TransactionStatus.PREPARED,
        update_ms=now_ms,
        start_ms=now_ms if state.start_ms < 0 else state.start_ms,
        transaction=state.owner,
        former=NOBODY,
    )
    return known.outcome(changed, None)


# --- the end --------------------------------------------------------------------------------------


def end(known: Known | None, command: EndTransaction, now_ms: int) -> Outcome:
    """Decide on the owner's transaction, or on a prepared one that the caller names."""
    if known is None:
        raise unknown(command.transactional_id, command.producer)
    state, producer = known.state, command.producer
    is_owner = producer == state.owner
    is_prepared = state.status is TransactionStatus.PREPARED and producer == state.transaction
    if is_prepared or (is_owner and state.status in OPEN):
        return _decide(known, command, now_ms)
    ended = state.ended
    if ended is not None and producer in (ended.owner, ended.transaction):
        return _repeat(known, ended, command)
    if not is_owner:
        raise refusal(state, producer)
    if state.status in DECIDED:
        return Outcome((), MarkersOwed(known.markers))
    if command.commit:
        raise InvalidTxnStateError("there is no transaction to commit: nothing belongs to it")
    return _decide(known, command, now_ms)


def abort(known: Known, now_ms: int) -> Outcome:
    """The coordinator's own decision; answered by ``MarkersOwed``."""
    command = EndTransaction(known.transactional_id, NOBODY, commit=False)
    outcome = _decide(known, command, now_ms)
    return Outcome(outcome.records, MarkersOwed(outcome.answer.markers))


def _decide(known: Known, command: EndTransaction, now_ms: int) -> Outcome:
    state = known.state
    requested = command.producer != NOBODY
    successor = successor_of(state.owner, command.new_producer_id)
    if successor == NOBODY:
        if requested:
            return Outcome((), ProducerIdNeeded())
        # Nobody waits for a new id here. Whoever owned the id is given one when it asks.
        successor = ProducerIdentity(state.owner.producer_id, FENCING_EPOCH)
    transaction = state.transaction if state.status in OPEN else state.owner
    prepared = (
        TransactionStatus.PREPARE_COMMIT if command.commit else TransactionStatus.PREPARE_ABORT
    )
    changed = _replace(
        state,
        owner=successor,
        status=prepared,
        update_ms=now_ms,
        start_ms=now_ms if state.start_ms < 0 else state.start_ms,
        transaction=NOBODY,
        former=NOBODY,
        ended=EndedTransaction(transaction, state.owner, successor, command.commit, requested),
    )
    markers = known._replace(state=changed).markers
    told = successor if command.producer == state.owner else NOBODY
    return known.outcome(changed, TransactionEnd(told, markers))


def _repeat(known: Known, ended: EndedTransaction, command: EndTransaction) -> Outcome:
    state = known.state
    if ended.requested and command.commit != ended.commit:
        done = "committed" if ended.commit else "aborted"
        raise InvalidTxnStateError(f"the transaction has been {done}")
    if not ended.requested:
        if state.owner != ended.successor:
            raise ProducerFencedError("the transaction was aborted for a newer producer")
        if command.commit:
            raise aborted()
    markers = known.markers if state.status in DECIDED else None
    if command.producer != ended.owner:
        return Outcome((), TransactionEnd(NOBODY, markers))
    if ended.successor.producer_epoch <= LAST_EPOCH:
        return Outcome((), TransactionEnd(ended.successor, markers))
    if command.new_producer_id < 0:
        return Outcome((), ProducerIdNeeded())
    owner = ProducerIdentity(command.new_producer_id, 0)
    changed = _replace(
        state,
        owner=owner,
        ended=_replace(ended, successor=owner),
    )
    return known.outcome(changed, TransactionEnd(owner, markers))


def _owned(known: Known | None, transactional_id: str, producer: ProducerIdentity) -> Known:
    if known is None:
        raise unknown(transactional_id, producer)
    check_owner(known.state, producer)
    return known
