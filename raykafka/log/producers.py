"""Which batches a partition has seen of each idempotent producer (KIP-98, KIP-185).

The rules are those of Kafka's ``ProducerStateManager`` and ``ProducerAppendInfo``:

- sequences of one producer id and epoch follow each other without gaps and wrap from 2^31 - 1 to 0;
- the last five batches of a producer are remembered, so that one sent again is answered with the
  offset it got the first time, even with five requests in flight;
- an older epoch is refused; a new one begins at sequence 0;
- the marker that ends a transaction has a newer epoch than the transaction, so that nothing of it
  can come behind its end (KIP-890); while it is open, its producer writes nothing else;
- a producer id that is not known here (new, or expired, or its records are gone) may begin at any
  sequence: Kafka accepts that too, since a producer cannot tell that its state was dropped. So
  ``UnknownProducerIdError`` is never raised here. A transaction has an epoch of its own, so its
  batches begin at 0 also then: several may be on their way from the start.

Expiry differs in one point: Kafka takes the time of the records, which drops the state of whoever
writes historic timestamps at once; here it is the time of the append.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from raykafka.errors import (
    ConcurrentTransactionsError,
    CorruptMessageError,
    InvalidProducerEpochError,
    InvalidRecordError,
    InvalidTxnStateError,
    OutOfOrderSequenceNumberError,
)
from raykafka.log.batch_header import CONTROL, SPECIAL, TRANSACTIONAL, BatchHeader
from raykafka.log.transactions import Transactions

WINDOW: Final = 5
"""Batches remembered per producer; a producer may not have more requests in flight."""
_MAX_SEQUENCE: Final = 2**31 - 1


class Duplicate(NamedTuple):
    """A batch that the log holds already, and what was answered then."""

    base_offset: int
    append_time_ms: int


class ProducerSummary(NamedTuple):
    """What a partition knows of a producer."""

    producer_id: int
    producer_epoch: int
    last_sequence: int
    """-1 where no batch of its epoch is here."""
    last_append_ms: int
    transaction_start_offset: int
    """-1 without an open transaction."""


class _SeenBatch(NamedTuple):
    base_sequence: int
    last_sequence: int
    base_offset: int
    append_time_ms: int


class _Producer:
    __slots__ = ("batches", "epoch", "first_offset", "last_append_ms", "next_sequence")

    def __init__(self, epoch: int, last_append_ms: int) -> None:
        self.epoch = epoch
        self.last_append_ms = last_append_ms
        self.batches: deque[_SeenBatch] = deque(maxlen=WINDOW)
        self.next_sequence = 0
        """The one that follows the last batch; 0 where none is remembered."""
        self.first_offset = -1
        """Where its open transaction begins; -1 without one."""

    def note(self, batch: _SeenBatch) -> None:
        """Remember a batch as the last one."""
        self.batches.append(batch)
        last = batch.last_sequence
        self.next_sequence = 0 if last == _MAX_SEQUENCE else last + 1


PlainState = tuple[int, int, int, Sequence[tuple[int, int, int, int]]]
"""Producer id, epoch, time of the last append in ms, and per remembered batch: base sequence, last
sequence, base offset, append time in ms."""


class ProducerStates:
    """The idempotent producers of one partition. Call ``check`` before a batch is appended and
    ``append`` once it is in the log, or while the log is replayed.
    """

    __slots__ = ("_producers", "transactions")

    def __init__(self) -> None:
        self._producers: dict[int, _Producer] = {}
        self.transactions = Transactions()

    def __len__(self) -> int:
        return len(self._producers)

    def check(self, header: BatchHeader) -> Duplicate | None:
        """None for a batch that may be appended, or what was answered when it came first.

        Raises ``OutOfOrderSequenceNumberError`` for a gap or a batch older than the window,
        ``InvalidProducerEpochError`` for a producer that another one with its id has replaced,
        ``InvalidTxnStateError`` for a batch beside the producer's open transaction,
        ``ConcurrentTransactionsError`` where that is one of an older epoch, whose marker is still
        to come, and ``InvalidRecordError`` where epoch or sequence are missing.
        """
        if header.producer_id < 0:
            return None
        known = self._producers.get(header.producer_id)
        if (
            known is not None
            and header.base_sequence == known.next_sequence
            and header.producer_epoch == known.epoch
        ):
            special = header.flags & SPECIAL
            if special == TRANSACTIONAL or (not special and known.first_offset < 0):
                return None
        if header.producer_epoch < 0 or (header.base_sequence < 0 and not header.is_control):
            raise InvalidRecordError(
                f"a batch of producer id {header.producer_id} needs an epoch and a base sequence, "
                f"not {header.producer_epoch} and {header.base_sequence}"
            )
        if known is None:
            if header.flags & SPECIAL == TRANSACTIONAL and header.base_sequence:
                raise _out_of_order(header, 0)
            return None
        if header.producer_epoch < known.epoch:
            raise InvalidProducerEpochError(
                f"producer id {header.producer_id} has epoch {known.epoch} by now, the batch comes "
                f"from epoch {header.producer_epoch}: another producer has taken over, or this one "
                "must ask for a new epoch"
            )
        if header.is_control:
            return None
        same_epoch = header.producer_epoch == known.epoch
        if same_epoch:
            sequences = (header.base_sequence, header.last_sequence)
            for seen in known.batches:
                if seen[:2] == sequences:
                    return Duplicate(seen.base_offset, seen.append_time_ms)
        if known.first_offset >= 0:
            _check_transaction(header, same_epoch=same_epoch)
        expected = known.next_sequence if same_epoch else 0
        if header.base_sequence != expected:
            raise _out_of_order(header, expected)
        return None

    def append(self, header: BatchHeader) -> None:
        """Notes a batch that is in the log; its base offset and append time are filled in."""
        if header.producer_id < 0:
            return
        producer = self._producers.get(header.producer_id)
        if producer is None:
            producer = _Producer(header.producer_epoch, header.append_time_ms)
            self._producers[header.producer_id] = producer
        elif producer.epoch != header.producer_epoch:
            producer.epoch = header.producer_epoch
            producer.batches.clear()
            producer.next_sequence = 0
        producer.last_append_ms = header.append_time_ms
        if header.flags & SPECIAL:
            self._on_special(producer, header)
            if header.flags & CONTROL:
                return
        producer.note(
            _SeenBatch(
                header.base_sequence,
                header.last_sequence,
                header.base_offset,
                header.append_time_ms,
            )
        )

    def _on_special(self, producer: _Producer, header: BatchHeader) -> None:
        transactions, base_offset = self.transactions, header.base_offset
        if header.flags & CONTROL:
            transactions.on_marker(header.producer_id, base_offset, commit=header.is_commit)
            producer.first_offset = -1
        else:
            producer.first_offset = transactions.on_batch(
                header.producer_id, base_offset, header.next_offset
            )

    def marker_is_due(self, producer_id: int, epoch: int) -> bool:
        """Whether a marker of that epoch has to be written; False where it has been.

        Raises ``InvalidProducerEpochError`` for one that is not newer than the open transaction.
        """
        known = self._producers.get(producer_id)
        if known is None or epoch > known.epoch:
            return True
        if known.first_offset >= 0:
            raise InvalidProducerEpochError(
                f"producer id {producer_id} has a transaction of epoch {known.epoch} open, which "
                f"a marker of epoch {epoch} cannot end"
            )
        return False

    def in_transaction(self, producer_id: int) -> bool:
        """Whether the producer has a transaction open here."""
        return producer_id in self.transactions.open

    def described(self) -> list[ProducerSummary]:
        """What is known of each producer."""
        return [
            ProducerSummary(
                producer_id,
                each.epoch,
                each.batches[-1].last_sequence if each.batches else -1,
                each.last_append_ms,
                each.first_offset,
            )
            for producer_id, each in self._producers.items()
        ]

    def expire(self, now_ms: int, expiration_ms: int) -> int:
        """Forgets producers whose last append is ``producer.id.expiration.ms`` or longer ago;
        answers with how many. One with an open transaction stays.
        """
        idle = [
            producer_id
            for producer_id, producer in self._producers.items()
            if now_ms - producer.last_append_ms >= expiration_ms and producer.first_offset < 0
        ]
        for producer_id in idle:
            del self._producers[producer_id]
        return len(idle)

    def to_plain(self) -> list[PlainState]:
        """The state as numbers, for a snapshot."""
        return [
            (
                producer_id,
                producer.epoch,
                producer.last_append_ms,
                list(producer.batches),
            )
            for producer_id, producer in self._producers.items()
        ]

    @classmethod
    def from_plain(
        cls, data: Iterable[Sequence[object]], transactions: object = None
    ) -> ProducerStates:
        """Reads what ``to_plain`` gave, lists in place of tuples included (JSON).

        ``transactions`` is what ``Transactions.to_plain`` gave, nothing from an older raykafka.
        Raises ``CorruptMessageError`` where it is something else.
        """
        states = cls()
        try:
            for producer_id, epoch, last_append_ms, batches in data:
                producer = _Producer(_integer(epoch), _integer(last_append_ms))
                if not isinstance(batches, (list, tuple)):
                    raise TypeError
                for seen in batches:
                    producer.note(_SeenBatch(*map(_integer, seen)))
                states._producers[_integer(producer_id)] = producer
            states.transactions = Transactions.from_plain(transactions)
            for producer_id, first_offset in states.transactions.open.items():
                states._producers[producer_id].first_offset = first_offset
        except (TypeError, ValueError, KeyError):
            raise CorruptMessageError("the snapshot of producer states is damaged") from None
        return states


def _out_of_order(header: BatchHeader, expected: int) -> OutOfOrderSequenceNumberError:
    return OutOfOrderSequenceNumberError(
        f"producer id {header.producer_id}, epoch {header.producer_epoch}: the batch has "
        f"base sequence {header.base_sequence}, expected is {expected}; batches are "
        "missing or came in another order"
    )


def _check_transaction(header: BatchHeader, *, same_epoch: bool) -> None:
    """Raise unless a batch may go into its producer's open transaction."""
    if not header.is_transactional:
        raise InvalidTxnStateError(
            f"producer id {header.producer_id} has a transaction open in this partition; commit "
            "or abort it before you write outside of it"
        )
    if not same_epoch:
        raise ConcurrentTransactionsError(
            f"the transaction before of producer id {header.producer_id} has not ended in this "
            "partition yet; try again"
        )


def _integer(value: object) -> int:
    if type(value) is not int:
        raise TypeError
    return value
