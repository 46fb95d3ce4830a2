"""One partition's deliveries in order: what may be sent, and what follows from an answer.

No I/O and no clock: the sender sends what ``next_to_send`` gives it and reports back. Sequences are
Kafka's (KIP-98, KIP-360): a batch keeps its sequence until it is acknowledged. When one fails for
good that was certainly not appended, those behind it move up. When that is not certain they keep
their numbers: if the leader misses the failed one it says so, and a new epoch starts from 0. To
start it earlier would write a batch twice whose acknowledgement was lost.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from raykafka.client.producing.delivery import Delivery
from raykafka.errors import (
    DeliveryTimeoutError,
    InvalidProducerEpochError,
    OutOfOrderSequenceNumberError,
    RaykafkaError,
    TransactionAbortableError,
    UnknownProducerIdError,
    UnknownSchemaVersionError,
)
from raykafka.model import NO_SEQUENCE

_SEQUENCES = 1 << 31

_STATE_LOST = (OutOfOrderSequenceNumberError, UnknownProducerIdError, InvalidProducerEpochError)


class Identity(NamedTuple):
    """Producer id and epoch under which batches are numbered; -1, -1 without idempotence."""

    producer_id: int
    epoch: int

    @property
    def numbered(self) -> bool:
        """Whether batches carry sequences."""
        return self.producer_id >= 0


class PartitionQueue:
    """Deliveries of one partition. Owned by whoever holds the sender's turn.

    While ``recovering`` nothing is sent until every batch that is out has been answered or lost;
    then all that is unacknowledged is sent again, in order.
    """

    __slots__ = (
        "_established",
        "_identity",
        "_in_flight",
        "_max_in_flight",
        "_next_sequence",
        "_queue",
        "_restart",
        "_retries",
        "_sent",
        "_transactional",
        "attempt",
        "needs_bump",
        "not_before_ms",
        "partition",
        "paused_in",
        "problem",
        "recovering",
        "topic",
        "topic_id",
    )

    def __init__(
        self,
        topic: str,
        topic_id: str,
        partition: int,
        *,
        max_in_flight: int,
        retries: int,
        transactional: bool = False,
    ) -> None:
        self.topic = topic
        self.topic_id = topic_id
        self.partition = partition
        self._max_in_flight = max_in_flight
        self._retries = retries
        self._queue: deque[Delivery] = deque()
        self._in_flight: deque[Delivery] = deque()
        self._identity = Identity(-1, -1)
        self._next_sequence = 0
        self._sent = 0
        self._restart = False
        """Number from 0 again once recovery is over."""
        self._transactional = transactional
        self._established = False
        """The leader has acknowledged a batch of this identity. Until then only one is in flight: a
        leader that does not know a producer takes whatever sequence comes first, except of a
        transaction."""
        self.recovering = False
        self.needs_bump = False
        """The leader cannot follow our numbers: wait for an identity with a new epoch."""
        self.not_before_ms = 0
        """Monotonic time before which nothing is sent, after a failed attempt."""
        self.attempt = 0
        """Failures in a row; the sender derives its pauses from it."""
        self.paused_in: tuple[object, ...] = ()
        """What the sender knew of the leader when it paused."""
        self.problem: RaykafkaError | None = None
        """What went wrong last, if nothing has gone right since."""

    def __len__(self) -> int:
        return len(self._queue) + len(self._in_flight)

    def __iter__(self) -> Iterator[Delivery]:
        yield from self._in_flight
        yield from self._queue

    @property
    def identity(self) -> Identity:
        """Under which the next batches are numbered."""
        return self._identity

    @property
    def congested(self) -> bool:
        """Whether batches wait only for others to be acknowledged."""
        return bool(self._queue) and self._full

    def enqueue(self, delivery: Delivery) -> None:
        """Add a batch behind all others."""
        self._queue.append(delivery)

    def next_to_send(self, identity: Identity, now_ms: int) -> Delivery | None:
        """The batch to send now, numbered; it is to be reported as ``sent``. None: not now."""
        if self.recovering and not self._recover():
            return None
        if self.needs_bump:
            if identity == self._identity:
                return None
            self._adopt(identity)
        queue = self._queue
        if not queue or now_ms < self.not_before_ms or (self._in_flight and self._full):
            return None
        delivery = queue[0]
        if delivery.base_sequence == NO_SEQUENCE and identity.producer_id >= 0:
            if identity != self._identity and not self._in_flight:
                self._adopt(identity)
            self._number(delivery)
        return delivery

    def sent(self, delivery: Delivery, now_ms: int) -> None:
        """The batch that ``next_to_send`` gave is on its way."""
        assert self._queue[0] is delivery
        self._queue.popleft()
        self._in_flight.append(delivery)
        if not delivery.attempts:
            delivery.ordinal = self._sent
            self._sent += 1
        delivery.attempts += 1
        delivery.outstanding = True
        delivery.sent_ms = now_ms

    def acknowledged(self, delivery: Delivery) -> None:
        """The batch is in the log; the caller settles it."""
        delivery.outstanding = False
        self.attempt = 0
        self.problem = None
        self._established = True
        self._remove(delivery)

    def rejected(self, delivery: Delivery, error: RaykafkaError) -> bool:
        """The batch came back with an error, or its connection broke.

        True: it has failed for good and the caller settles it with ``error``. False: it will be
        sent again; ``attempt`` has gone up, the caller sets ``not_before_ms``.
        """
        delivery.outstanding = False
        self.problem = error
        if delivery.done:  # timed out meanwhile; its answer says nothing about those behind it
            self._remove(delivery)
            return False
        if isinstance(error, UnknownSchemaVersionError):
            delivery.encoded = None
        numbered = delivery.base_sequence != NO_SEQUENCE
        state_lost = numbered and isinstance(error, _STATE_LOST)
        if (state_lost or error.retriable) and delivery.attempts <= self._retries:
            if state_lost:
                self._lost_count(delivery)
            self._start_recovery()
            return False
        if numbered:
            if delivery.attempts <= 1:
                self._move_up(delivery)
            self._start_recovery()
        self._remove(delivery)
        return True

    def timed_out(self, delivery: Delivery, timeout_ms: int) -> DeliveryTimeoutError:
        """What a batch from ``take_expired`` fails with."""
        fate = "may or may not be" if delivery.attempts else "are not"
        why = self.problem
        return DeliveryTimeoutError(
            f"{delivery.count} records for {self.topic}-{self.partition} were not acknowledged "
            f"within {timeout_ms} ms (delivery.timeout.ms) in {delivery.attempts} attempts; they "
            f"{fate} in the log"
            + ("" if why is None else f". The last problem was {type(why).__name__}: {why.message}")
        )

    def lost_count(self) -> TransactionAbortableError:
        """What a transaction fails with whose batches the leader cannot follow."""
        return TransactionAbortableError(
            f"the leader of {self.topic}-{self.partition} does not know the batches before this "
            "one; abort the transaction"
        )

    def discard(self, delivery: Delivery) -> None:
        """What ``next_to_send`` gave cannot be sent, ever; the caller settles it."""
        if delivery.base_sequence != NO_SEQUENCE and delivery.attempts == 0:
            self._move_up(delivery)
        self._remove(delivery)

    def take_expired(self, before_ms: int) -> list[Delivery]:
        """Batches created before that time; the caller settles them as timed out.

        One that is still out keeps its place until its answer comes or its connection breaks. If
        the leader has not appended it, it refuses the batch behind it, which brings a new epoch.
        """
        expired = [
            delivery for delivery in self if delivery.created_ms < before_ms and not delivery.done
        ]
        for delivery in expired:
            if delivery.attempts == 0 and delivery.base_sequence != NO_SEQUENCE:
                self._move_up(delivery)
            if not delivery.outstanding:
                self._remove(delivery)
        return expired

    def take_all(self) -> list[Delivery]:
        """Give everything up; the caller settles what is not done."""
        taken = list(self)
        self._queue.clear()
        self._in_flight.clear()
        self.recovering = False
        return taken

    def start_over(self) -> None:
        """Everything was given up: what comes next is numbered from zero, under any identity.

        Only where the leader cannot take it for what was given up: the next transaction has an
        epoch under which nothing has been sent.
        """
        self._identity = Identity(-1, -1)
        self.needs_bump = False
        self.not_before_ms = 0
        self.attempt = 0

    def move_to(self, topic_id: str) -> None:
        """The topic was created anew: its log knows nothing of this producer's sequences."""
        self.topic_id = topic_id
        self._restart = True
        self._established = self._transactional
        self._start_recovery()

    # --- inside -----------------------------------------------------------------------------------

    @property
    def _full(self) -> bool:
        if not self._in_flight:
            return False
        if self._identity.numbered and not self._established:
            return True
        # Batches that were acknowledged before an older one count as well: a leader remembers only
        # the last few, and would not know the older one again when it is sent once more.
        beyond = self._sent - self._in_flight[0].ordinal >= self._max_in_flight
        new = not self._queue or not self._queue[0].attempts
        return len(self._in_flight) >= self._max_in_flight or (beyond and new)

    def _start_recovery(self) -> None:
        if not self.recovering:
            self.attempt += 1
        self.recovering = True

    def _recover(self) -> bool:
        """Put what was sent back in front, once nothing of it is out any more."""
        if any(delivery.outstanding for delivery in self._in_flight):
            return False
        self.recovering = False
        while self._in_flight:
            delivery = self._in_flight.pop()
            if not delivery.done:
                self._queue.appendleft(delivery)
        if self._restart:
            self._restart = False
            self._number_from_zero()
        return True

    def _move_up(self, gone: Delivery) -> None:
        """``gone`` is certainly not in the log: those behind it, which the leader cannot have
        appended either, take its numbers.
        """
        behind = False
        for delivery in self:
            if behind and delivery.base_sequence != NO_SEQUENCE:
                delivery.base_sequence = (delivery.base_sequence - gone.count) % _SEQUENCES
                delivery.encoded = None
            behind = behind or delivery is gone
        self._next_sequence = (self._next_sequence - gone.count) % _SEQUENCES

    def _lost_count(self, delivery: Delivery) -> None:
        """The leader expected another number. If nothing of ours is missing before this batch, the
        leader has forgotten, or never got, what was there: only a new epoch lets us go on.
        """
        first = next((entry for entry in self._in_flight if not entry.done), None)
        current = delivery.producer_epoch == self._identity.epoch
        if delivery is first and current and not self.recovering:
            self.needs_bump = True

    def _adopt(self, identity: Identity) -> None:
        self._identity = identity
        self._established = self._transactional
        self.needs_bump = False
        self._number_from_zero()

    def _number_from_zero(self) -> None:
        self._next_sequence = 0
        for delivery in self._queue:
            if delivery.base_sequence == NO_SEQUENCE:
                break
            self._number(delivery)

    def _number(self, delivery: Delivery) -> None:
        delivery.producer_id, delivery.producer_epoch = self._identity
        delivery.base_sequence = self._next_sequence
        delivery.encoded = None
        self._next_sequence = (self._next_sequence + delivery.count) % _SEQUENCES

    def _remove(self, delivery: Delivery) -> None:
        if self._in_flight and self._in_flight[0] is delivery:
            self._in_flight.popleft()
            return
        for entries in (self._in_flight, self._queue):
            try:
                entries.remove(delivery)
            except ValueError:
                continue
            return
