"""What a transactional producer may do next: Kafka's ``TransactionManager`` without its I/O.

Pure: no clock, threads or sockets. Whoever owns it asks before it acts, reports what came of it,
and holds a lock where several threads do.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from raykafka.client.producing.partition_queue import Identity
from raykafka.errors import (
    ClusterAuthorizationFailedError,
    IllegalStateError,
    InvalidProducerEpochError,
    InvalidProducerIdMappingError,
    InvalidTransactionTimeoutError,
    ProducerFencedError,
    RaykafkaError,
    TransactionAbortableError,
    TransactionalIdAuthorizationFailedError,
    TransactionalIdNotFoundError,
    UnsupportedVersionError,
)
from raykafka.model import NO_PRODUCER_EPOCH, NO_PRODUCER_ID

NO_IDENTITY: Final = Identity(NO_PRODUCER_ID, NO_PRODUCER_EPOCH)

_FENCED: Final = (InvalidProducerEpochError, InvalidProducerIdMappingError)
_FATAL: Final = (
    ProducerFencedError,
    InvalidProducerIdMappingError,
    ClusterAuthorizationFailedError,
    InvalidTransactionTimeoutError,
    TransactionalIdAuthorizationFailedError,
    TransactionalIdNotFoundError,
    UnsupportedVersionError,
)


class TransactionState(Enum):
    """Where a transactional producer stands; the names are Kafka's."""

    UNINITIALIZED = "Uninitialized"
    READY = "Ready"
    IN_TRANSACTION = "InTransaction"
    PREPARED = "Prepared"
    """Complete and durable; only its end is missing (KIP-939)."""
    COMMITTING = "Committing"
    """The coordinator was asked to commit, and has not answered yet."""
    ABORTING = "Aborting"
    ABORTABLE_ERROR = "AbortableError"
    """Something of the transaction was lost; it can only be aborted."""
    FATAL_ERROR = "FatalError"
    """Nothing goes on with this producer."""


_ADVICE: Final = {
    TransactionState.UNINITIALIZED: "call init_transactions first",
    TransactionState.READY: "call begin_transaction first",
    TransactionState.IN_TRANSACTION: "a transaction is open; commit or abort it first",
    TransactionState.PREPARED: "the transaction is prepared; commit or abort it first",
    TransactionState.COMMITTING: (
        "the outcome of commit_transaction is not known; call commit_transaction again"
    ),
    TransactionState.ABORTING: (
        "the outcome of abort_transaction is not known; call abort_transaction again"
    ),
}


class TransactionManager:
    """The state of one transactional id in one producer."""

    def __init__(self, transactional_id: str) -> None:
        self.transactional_id = transactional_id
        self.state = TransactionState.UNINITIALIZED
        self.identity = NO_IDENTITY
        """What batches are numbered under."""
        self.error: RaykafkaError | None = None
        """Why the state is one of the two errors."""
        self.sealed = False
        """Nothing more is taken into the transaction; what was taken is still sent."""
        self.shut = False
        """Nothing more is sent either, of what other threads brought in while it was sealed."""
        self.participating = False
        """Something was sent, so that the coordinator may know of the transaction."""
        self._prepared = NO_IDENTITY

    @property
    def transaction(self) -> Identity:
        """Under which the transaction was written: another than ours for one that was found
        prepared.
        """
        return self._prepared if self._prepared.numbered else self.identity

    @property
    def known_outside(self) -> bool:
        """Whether the coordinator may know of the transaction, so that it has to end it."""
        return self.participating or self._prepared.numbered

    # --- the life of a transaction ----------------------------------------------------------------

    def check_initialize(self) -> None:
        """Raise unless the producer may introduce itself to the coordinator now."""
        if self.state is not TransactionState.UNINITIALIZED:
            self._raise_if_failed()
            raise IllegalStateError("init_transactions has been called; call it once per producer")

    def initialized(self, identity: Identity, prepared: Identity = NO_IDENTITY) -> None:
        """The coordinator gave an identity, and perhaps a prepared transaction that waits."""
        self.identity = identity
        self._prepared = prepared
        waits = prepared.numbered
        self.state = TransactionState.PREPARED if waits else TransactionState.READY

    def begin(self) -> None:
        """A transaction begins; the coordinator hears of it with the first batch."""
        self._require("begin_transaction", TransactionState.READY)
        self.state = TransactionState.IN_TRANSACTION
        self.sealed = self.shut = False
        self.participating = False

    def seal(self, call: str) -> None:
        """Take nothing more, so that everything can be delivered before ``call`` goes on."""
        self._require(call, TransactionState.IN_TRANSACTION)
        self.sealed = True
        self.shut = False

    def unseal(self) -> None:
        """It could not be delivered in time, and may go on."""
        self.sealed = self.shut = False

    def prepared(self) -> None:
        """The coordinator keeps the transaction as it is."""
        self._prepared = self.identity
        self.state = TransactionState.PREPARED

    def committing(self) -> None:
        """The coordinator is asked to commit; what the answer is decides."""
        self._require(
            "commit_transaction",
            TransactionState.IN_TRANSACTION,
            TransactionState.PREPARED,
            TransactionState.COMMITTING,
        )
        self.state = TransactionState.COMMITTING

    def aborting(self) -> None:
        """Nothing more is sent; the coordinator is asked to abort."""
        self._require(
            "abort_transaction",
            TransactionState.IN_TRANSACTION,
            TransactionState.PREPARED,
            TransactionState.ABORTABLE_ERROR,
            TransactionState.ABORTING,
        )
        self.state = TransactionState.ABORTING

    def commit_refused(self, error: RaykafkaError) -> None:
        """The coordinator cannot commit, but the transaction may be aborted."""
        self.state = TransactionState.ABORTABLE_ERROR
        self.error = error

    def ended(self, identity: Identity) -> None:
        """The coordinator has decided; the next transaction uses ``identity`` (KIP-890).

        There is none for who has ended what it had prepared and was replaced since then.
        """
        self.identity = identity
        self.error = None
        self.participating = False
        self._prepared = NO_IDENTITY
        self.state = TransactionState.READY
        if not identity.numbered:
            self.fail_fatally(
                ProducerFencedError(
                    f"another producer uses transactional id {self.transactional_id!r} by now; the "
                    "transaction that this one had prepared has been ended"
                )
            )

    # --- batches and errors -----------------------------------------------------------------------

    def refusal(self, call: str = "send") -> RaykafkaError | None:
        """Why nothing can be sent now; None while a transaction is open."""
        if self.state is TransactionState.IN_TRANSACTION and not self.shut:
            return None
        if self.error is not None:
            return self._failure(call)
        if self.state is TransactionState.IN_TRANSACTION:
            return IllegalStateError(f"{call} came too late: the transaction is being ended")
        return IllegalStateError(f"{call} needs an open transaction; {_ADVICE[self.state]}")

    def check_open(self, call: str) -> None:
        """Raise unless something can be added to the transaction now."""
        self._require(call, TransactionState.IN_TRANSACTION)

    def check_able(self) -> None:
        """Raise if the transaction, or the producer, has failed."""
        self._raise_if_failed()

    def fail(self, error: RaykafkaError) -> None:
        """Something of the transaction has failed for good, or a coordinator has refused."""
        if self.state is TransactionState.FATAL_ERROR:
            return
        if isinstance(error, _FATAL) and not isinstance(error.__cause__, InvalidProducerEpochError):
            self.state = TransactionState.FATAL_ERROR
            self.error = self.understood(error)
        elif self.state is TransactionState.IN_TRANSACTION:
            # Also with an epoch that is too old: it may be the coordinator that aborted, after the
            # timeout. Whether somebody else has taken over is for the coordinator to say (KIP-588).
            self.state = TransactionState.ABORTABLE_ERROR
            self.error = self.understood(error)

    def fail_fatally(self, error: RaykafkaError) -> None:
        """Nobody knows any more how the transaction stands."""
        if self.state is not TransactionState.FATAL_ERROR:
            self.state = TransactionState.FATAL_ERROR
            self.error = self.understood(error)

    def understood(self, error: RaykafkaError) -> RaykafkaError:
        """What a refusal means: an old epoch is the mark of a producer that was replaced."""
        if not isinstance(error, _FENCED):
            return error
        fenced = ProducerFencedError(
            f"another producer uses transactional id {self.transactional_id!r}, or the cluster has "
            "aborted the transaction after transaction_timeout_ms; abort_transaction tells which, "
            f"and the producer can go on in the latter case ({error.message})"
        )
        fenced.__cause__ = error
        return fenced

    # --- inside -----------------------------------------------------------------------------------

    def _require(self, call: str, *allowed: TransactionState) -> None:
        if self.state not in allowed:
            self._raise_if_failed(call)
            raise IllegalStateError(f"{call} is not possible now: {_ADVICE[self.state]}")

    def _raise_if_failed(self, call: str = "") -> None:
        if self.error is not None:
            raise self._failure(call) from self.error

    def _failure(self, call: str) -> RaykafkaError:
        error = self.error
        assert error is not None
        if self.state is TransactionState.FATAL_ERROR or isinstance(error, ProducerFencedError):
            return type(error)(error.message)  # another one each time: tracebacks grow
        what = f"{call} is not possible: " if call else ""
        return TransactionAbortableError(
            f"{what}the transaction failed ({type(error).__name__}: {error.message}); abort the "
            "transaction, then the producer can begin another one"
        )
