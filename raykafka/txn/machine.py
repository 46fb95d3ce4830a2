"""The transaction coordinator's machine: transactional ids of one partition of
``__transaction_state``.

Rules:
- ``handle`` and ``on_tick`` decide and change no durable state; ``replay`` is the only mutator.
- A decision (``PrepareCommit``, ``PrepareAbort``) is never changed: whoever finds one writes its
  markers, which may be written any number of times, and completes it.
- That markers are written is first known in memory only, and logged with the id's next record or at
  the next tick. Whoever does not know it writes them again.
- Only what is due is looked at: deadlines are heaps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any, Final

from raykafka.errors import InvalidRequestError, TransactionalIdNotFoundError
from raykafka.txn import deciding, records
from raykafka.txn.commands import (
    AddPartitions,
    CompleteTransaction,
    DescribeTransactions,
    EndTransaction,
    InitTransaction,
    ListMarkers,
    ListTransactions,
    Markers,
    Outcome,
    PrepareTransaction,
    TransactionDescription,
    TransactionLimits,
)
from raykafka.txn.deadlines import Deadlines
from raykafka.txn.deciding import Known
from raykafka.txn.records import (
    Record,
    TransactionChanged,
    TransactionForgotten,
    TransactionState,
)
from raykafka.txn.states import DECIDED, IDLE, OPEN, TransactionStatus

_MAX_PER_TICK: Final = 1000
"""Transactions completed or timed out, and ids forgotten: the rest follows with the next tick."""

_STATUS_NAMES: Final = frozenset(status.value for status in TransactionStatus)


class TransactionMachine:
    """Pure: time is an argument, and producer ids come with the commands that need one."""

    def __init__(self, limits: TransactionLimits | None = None) -> None:
        self._limits = limits or TransactionLimits()
        self._states: dict[str, TransactionState] = {}
        self._timeouts = Deadlines()
        """Of ongoing transactions, in monotonic time."""
        self._expiries = Deadlines()
        """Of idle ids, in time since the epoch."""
        self._completed: dict[str, None] = {}
        """Ids whose markers are written, which no record tells yet."""

    def __len__(self) -> int:
        return len(self._states)

    def handle(self, command: Any, *, now_ms: int, monotonic_ms: int) -> Outcome:
        """What ``command`` leads to; raises a ``RaykafkaError`` where it leads nowhere."""
        outcome = _HANDLERS[type(command)](self, command, now_ms)
        self._set_timeouts(outcome.records, monotonic_ms)
        return outcome

    def replay(self, records: Iterable[Record]) -> None:
        """Bring the state up to date."""
        for record in records:
            _APPLIED[type(record)](self, record)

    def on_tick(self, *, now_ms: int, monotonic_ms: int) -> Outcome:
        """Abort what has timed out, log completions, forget idle ids.

        The answer is a list of the ``Markers`` that are owed now.
        """
        markers: list[Markers] = []
        changes: list[Record] = [
            TransactionChanged(name, deciding.completed(self._states[name], now_ms))
            for name in islice(self._completed, _MAX_PER_TICK)
        ]
        for transactional_id in self._timeouts.due(monotonic_ms, _MAX_PER_TICK):
            known = self._known(transactional_id, now_ms)
            if known is not None and known.state.status is TransactionStatus.ONGOING:
                outcome = deciding.abort(known, now_ms)
                changes.extend(outcome.records)
                markers.append(outcome.answer.markers)
        idle = self._expiries.due(now_ms, _MAX_PER_TICK)
        changes.extend(TransactionForgotten(name) for name in idle)
        return Outcome(changes, markers)

    def on_loaded(self, *, now_ms: int, monotonic_ms: int) -> None:
        """Ongoing transactions have the rest of their timeout, by the wall clock's word."""
        for transactional_id, state in self._states.items():
            if state.status is TransactionStatus.ONGOING:
                passed = min(max(now_ms - state.start_ms, 0), state.timeout_ms)
                self._timeouts.set(transactional_id, monotonic_ms + state.timeout_ms - passed)

    def snapshot(self) -> list[Record]:
        """Records that make an empty machine equal to this one."""
        return [TransactionChanged(name, state) for name, state in self._states.items()]

    @staticmethod
    def encode(record: Record) -> tuple[bytes, bytes | None]:
        """Key and value as they stand in the log; a value of None is a tombstone."""
        return records.encode(record)

    @staticmethod
    def decode(key: bytes, value: bytes | None) -> Record:
        """The reverse; raises ``CorruptMessageError``."""
        return records.decode(key, value)

    # --- commands ---------------------------------------------------------------------------------

    def _init(self, command: InitTransaction, now_ms: int) -> Outcome:
        known = self._known(command.transactional_id, now_ms)
        return deciding.init(known, command, self._limits, now_ms)

    def _add_partitions(self, command: AddPartitions, now_ms: int) -> Outcome:
        known = self._known(command.transactional_id, now_ms)
        return deciding.add_partitions(known, command, now_ms)

    def _prepare(self, command: PrepareTransaction, now_ms: int) -> Outcome:
        known = self._known(command.transactional_id, now_ms)
        return deciding.prepare(known, command, now_ms)

    def _end(self, command: EndTransaction, now_ms: int) -> Outcome:
        known = self._known(command.transactional_id, now_ms)
        return deciding.end(known, command, now_ms)

    def _complete(self, command: CompleteTransaction, now_ms: int) -> Outcome:
        state = self._states.get(command.transactional_id)
        if state is not None and state.status in DECIDED:
            assert state.ended is not None
            if (state.ended.transaction, state.ended.marker_epoch) == command[1:]:
                self._completed[command.transactional_id] = None
        return Outcome((), None)

    def _list_markers(self, command: ListMarkers, now_ms: int) -> Outcome:
        known = (self._known(name, now_ms) for name in self._states)
        return Outcome((), [one.markers for one in known if one and one.state.status in DECIDED])

    def _describe(self, command: DescribeTransactions, now_ms: int) -> Outcome:
        described: list[TransactionDescription | TransactionalIdNotFoundError] = []
        for transactional_id in command.transactional_ids:
            known = self._known(transactional_id, now_ms)
            if known is None:
                described.append(
                    TransactionalIdNotFoundError(f"no transactional id {transactional_id}")
                )
            else:
                described.append(_description(known))
        return Outcome((), described)

    def _list(self, command: ListTransactions, now_ms: int) -> Outcome:
        unknown = set(command.states) - _STATUS_NAMES
        if unknown:
            raise InvalidRequestError(
                f"no transaction is ever {', '.join(sorted(unknown))}; the states are "
                f"{', '.join(sorted(_STATUS_NAMES))}"
            )
        known = (self._known(name, now_ms) for name in self._states)
        every = (_description(one) for one in known if one is not None)
        return Outcome((), [one for one in every if _matches(one, command, now_ms)])

    def _known(self, transactional_id: str, now_ms: int) -> Known | None:
        state = self._states.get(transactional_id)
        if state is None:
            return None
        if transactional_id in self._completed:
            state = deciding.completed(state, now_ms)
        return Known(transactional_id, state)

    def _set_timeouts(self, changes: Iterable[Record], monotonic_ms: int) -> None:
        for record in changes:
            if isinstance(record, TransactionForgotten):
                continue
            name, state = record
            before = self._states.get(name)
            if state.status is not TransactionStatus.ONGOING:
                self._timeouts.cancel(name)
            elif before is None or before.status is not TransactionStatus.ONGOING:
                self._timeouts.set(name, monotonic_ms + state.timeout_ms)

    # --- replay -----------------------------------------------------------------------------------

    def _changed(self, record: TransactionChanged) -> None:
        transactional_id, state = record
        self._states[transactional_id] = state
        self._completed.pop(transactional_id, None)
        if state.status in IDLE:
            expires = state.update_ms + self._limits.id_expiration_ms
            self._expiries.set(transactional_id, expires)
        else:
            self._expiries.cancel(transactional_id)

    def _forgotten(self, record: TransactionForgotten) -> None:
        self._states.pop(record.transactional_id, None)
        self._completed.pop(record.transactional_id, None)
        self._expiries.cancel(record.transactional_id)


def _description(known: Known) -> TransactionDescription:
    state = known.state
    producer = state.owner
    if state.status in OPEN:
        producer = state.transaction
    elif state.status in DECIDED:
        producer = known.markers.transaction
    return TransactionDescription(
        known.transactional_id,
        state.status.value,
        producer,
        state.timeout_ms,
        state.start_ms,
        state.two_phase,
        state.topics,
    )


def _matches(described: TransactionDescription, wanted: ListTransactions, now_ms: int) -> bool:
    if wanted.states and described.status not in wanted.states:
        return False
    if wanted.producer_ids and described.producer.producer_id not in wanted.producer_ids:
        return False
    if wanted.min_duration_ms < 0:
        return True
    return described.start_ms >= 0 and now_ms - described.start_ms >= wanted.min_duration_ms


_HANDLERS: Final[Mapping[type, Callable[[TransactionMachine, Any, int], Outcome]]] = {
    InitTransaction: TransactionMachine._init,
    AddPartitions: TransactionMachine._add_partitions,
    PrepareTransaction: TransactionMachine._prepare,
    EndTransaction: TransactionMachine._end,
    CompleteTransaction: TransactionMachine._complete,
    ListMarkers: TransactionMachine._list_markers,
    DescribeTransactions: TransactionMachine._describe,
    ListTransactions: TransactionMachine._list,
}
_APPLIED: Final[Mapping[type, Callable[[TransactionMachine, Any], None]]] = {
    TransactionChanged: TransactionMachine._changed,
    TransactionForgotten: TransactionMachine._forgotten,
}
