"""The part of ``Producer`` that is about transactions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

from raykafka.client.transacting.offsets import Offsets
from raykafka.client.transacting.prepared import PreparedTransaction
from raykafka.client.transacting.transactions import ProducerTransactions
from raykafka.errors import IllegalStateError, RaykafkaError
from raykafka.model import ConsumerGroupMetadata


class TransactionMethods(ABC):
    """Transactions of a producer with a ``transactional_id``; the names are kafka-python's.

    All of them wait up to ``max_block_ms`` for a coordinator and raise a retriable error after
    that, upon which the same call may be made again. ``TransactionAbortableError`` says that
    something of the transaction was lost, or that it took longer than ``transaction_timeout_ms``:
    abort it, then begin another one. ``ProducerFencedError`` says that another producer has taken
    over the transactional id: close this one, unless ``abort_transaction`` succeeds, which tells
    that it was only the timeout. ``IllegalStateError`` says that the call makes no sense now.
    """

    _transactions: ProducerTransactions | None = None

    def init_transactions(self, *, keep_prepared: bool = False) -> PreparedTransaction | None:
        """Introduce the producer to its coordinator; once, before anything else.

        Every older producer of the same ``transactional_id`` is fenced, and what it left open is
        aborted. A transaction that it left prepared is aborted as well, unless ``keep_prepared``:
        then it is returned, and ``commit_transaction`` or ``abort_transaction`` decides over it
        before another one can begin (KIP-939).
        """
        return self._required().initialize(keep_prepared=keep_prepared)

    def begin_transaction(self) -> None:
        """Open a transaction: what is sent from now on becomes visible with its commit, or never.

        Costs nothing: the cluster hears of it with the first record.
        """
        self._required().begin()

    def send_offsets_to_transaction(
        self, offsets: Offsets, group_metadata: ConsumerGroupMetadata
    ) -> None:
        """Commit a consumer group's offsets together with the transaction (KIP-447).

        ``offsets`` are those of the next records to read, per partition: numbers or
        ``OffsetAndMetadata``. ``group_metadata`` is ``Consumer.group_metadata()``: a member that
        has lost its partitions meanwhile is refused with ``CommitFailedError``; abort the
        transaction then, and poll.
        """
        self._required().send_offsets(offsets, group_metadata)

    def prepare_transaction(self) -> PreparedTransaction:
        """Deliver everything and keep it undecided, without a time limit (KIP-939).

        Whoever has the value that is returned may commit or abort it, whatever becomes of this
        process: this producer, a later one with ``init_transactions(keep_prepared=True)``, or
        ``Admin``. Needs ``transaction_two_phase_commit_enable``.
        """
        return self._required().prepare()

    def commit_transaction(self) -> None:
        """Make everything of the transaction visible, all or nothing; delivers it first.

        Raises ``TransactionAbortableError`` when some record could not be delivered.
        """
        self._required().commit()

    def abort_transaction(self) -> None:
        """Take everything of the transaction back; what is not acknowledged yet is not sent."""
        self._required().abort()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """``with producer.transaction():`` begins one, commits it at the end of the block, and
        aborts it when an exception leaves the block, or when it cannot be committed.
        """
        transactions = self._required()
        transactions.begin()
        try:
            yield
            transactions.commit()
        except BaseException:
            self.abort_after_error()
            raise

    def abort_after_error(self) -> None:
        """``abort_transaction`` for an ``except`` block: where it is too late, or fails, nothing is
        raised, so that the error that led there is the one that is told.
        """
        self._required().abort_after_error()

    def _refusal(self) -> RaykafkaError | None:
        """Why nothing can be sent now."""
        return None if self._transactions is None else self._transactions.refusal()

    def _required(self) -> ProducerTransactions:
        if self._transactions is None:
            raise IllegalStateError(
                "the producer has no transactional_id; make one with transactional_id=..."
            )
        self._check_usable()
        return self._transactions

    @abstractmethod
    def _check_usable(self) -> None:
        """Raise where the producer is closed, or belongs to the process before a fork."""
