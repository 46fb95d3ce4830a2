"""The transactions of one producer: its calls to coordinators, and what they mean for its batches.

The rules are ``TransactionManager``'s; this adds locks, the coordinators and the sender.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from typing import Any, Final, Protocol

from raykafka.client.cluster.deadline import Backoff, Deadline
from raykafka.client.cluster.metadata import ClusterMetadata
from raykafka.client.grouping.coordinator_calls import CoordinatorCalls
from raykafka.client.producing.partition_queue import Identity
from raykafka.client.transacting.manager import TransactionManager, TransactionState
from raykafka.client.transacting.offsets import Offsets, offsets_to_commit
from raykafka.client.transacting.prepared import PreparedTransaction
from raykafka.clock import Clock
from raykafka.config.producer import ProducerConfig
from raykafka.errors import (
    ClientClosedError,
    CommitFailedError,
    FencedInstanceIdError,
    FencedMemberEpochError,
    IllegalGenerationError,
    IllegalStateError,
    InvalidTxnStateError,
    RaykafkaError,
    RequestTimedOutError,
    StaleMemberEpochError,
    TransactionAbortableError,
    TransactionAbortedError,
    UnknownMemberIdError,
    error_for,
)
from raykafka.internal_topics import CONSUMER_OFFSETS, TRANSACTION_STATE
from raykafka.model import ConsumerGroupMetadata
from raykafka.protocol.group_messages import TxnOffsetCommitRequest, TxnOffsetCommitResponse
from raykafka.protocol.messages import ApiKey, Message
from raykafka.protocol.txn_messages import (
    EndTxnRequest,
    InitTransactionRequest,
    PrepareTxnRequest,
)

logger = logging.getLogger(__name__)

_AT_CLOSE_MS: Final = 5000
"""How long ``close`` tries to abort what is open; the coordinator does it after the timeout."""
_NO_MEMBER: Final = (
    FencedInstanceIdError,
    FencedMemberEpochError,
    IllegalGenerationError,
    StaleMemberEpochError,
    UnknownMemberIdError,
)
_OPEN: Final = (TransactionState.IN_TRANSACTION, TransactionState.ABORTABLE_ERROR)
_DELIVERED: Final = (TransactionState.PREPARED, TransactionState.COMMITTING)


class Deliveries(Protocol):
    """What is asked of the sender."""

    def flush(self, timeout_s: float | None, hopeless: Callable[[], bool]) -> bool:
        """Deliver what was taken; False when the time was up, or ``hopeless()``, before."""

    def abandon(self, error: RaykafkaError) -> None:
        """Fail what is not acknowledged."""


class ProducerTransactions:
    """One transactional id in one producer; a ``producing.gate.Gate``.

    Thread-safe; calls wait for each other, and each is bounded by ``max_block_ms``.
    """

    def __init__(self, config: ProducerConfig, metadata: ClusterMetadata, clock: Clock) -> None:
        self.transactional_id = config.transactional_id
        self._config = config
        self._metadata = metadata
        self._clock = clock
        self._manager = TransactionManager(config.transactional_id)
        self._lock = threading.Lock()
        """Guards the manager; held for moments only."""
        self._calling = threading.RLock()
        """One call at a time."""
        self._coordinator = self._calls(TRANSACTION_STATE)
        self._groups = self._calls(CONSUMER_OFFSETS)
        self._deliveries: Deliveries
        self._admit: Callable[[bool], None]
        self.current = self._manager.identity

    def _calls(self, topic: str) -> CoordinatorCalls:
        config = self._config
        return CoordinatorCalls(
            self._metadata,
            topic,
            client_id=config.client_id,
            request_timeout_ms=config.request_timeout_ms,
            retry_backoff_ms=config.retry_backoff_ms,
            clock=self._clock,
        )

    def attach(self, deliveries: Deliveries, admit: Callable[[bool], None]) -> None:
        """``admit`` says whether the producer takes records from now on."""
        self._deliveries = deliveries
        self._admit = admit
        admit(False)

    # --- what users call --------------------------------------------------------------------------

    def initialize(self, *, keep_prepared: bool) -> PreparedTransaction | None:
        """See ``Producer.init_transactions``."""
        config, manager = self._config, self._manager

        def request(partition: int) -> Message:
            return InitTransactionRequest(
                self.transactional_id,
                partition,
                config.transaction_timeout_ms,
                config.transaction_two_phase_commit_enable,
                keep_prepared,
            )

        with self._calling:
            with self._lock:
                manager.check_initialize()
            found = self._ask(ApiKey.INIT_TRANSACTION, request, self._deadline())
            prepared = Identity(found.prepared_producer_id, found.prepared_producer_epoch)
            with self._lock:
                manager.initialized(Identity(found.producer_id, found.producer_epoch), prepared)
                self.current = manager.identity
            return self._handle() if prepared.numbered else None

    def begin(self) -> None:
        """See ``Producer.begin_transaction``."""
        with self._calling:
            with self._lock:
                self._manager.begin()
            self._admit(True)

    def send_offsets(self, offsets: Offsets, group_metadata: ConsumerGroupMetadata) -> None:
        """See ``Producer.send_offsets_to_transaction``."""
        with self._calling:
            with self._lock:
                self._manager.check_open("send_offsets_to_transaction")
            deadline = self._deadline()
            wanted = offsets_to_commit(offsets, lambda topic: self._topic_id(topic, deadline))
            if not wanted:
                return
            group = group_metadata
            producer_id, epoch = self._manager.identity

            def request(partition: int) -> Message:
                return TxnOffsetCommitRequest(
                    group.group_id,
                    partition,
                    self.transactional_id,
                    producer_id,
                    epoch,
                    wanted,
                    group.member_id,
                    group.member_epoch,
                    group.group_instance_id or "",
                )

            self._manager.participating = True
            try:
                self._commit_offsets(group.group_id, request, deadline)
            except RaykafkaError as error:
                if not error.retriable:
                    self.failed(error)
                if isinstance(error, _NO_MEMBER):
                    raise CommitFailedError() from error
                raise self._manager.understood(error) from error

    def prepare(self) -> PreparedTransaction:
        """See ``Producer.prepare_transaction``."""
        if not self._config.transaction_two_phase_commit_enable:
            raise IllegalStateError(
                "prepare_transaction needs transaction_two_phase_commit_enable=True"
            )

        def request(partition: int) -> Message:
            return PrepareTxnRequest(self.transactional_id, partition, *self._manager.identity)

        with self._calling:
            deadline = self._deadline()
            self._deliver("prepare_transaction", deadline)
            try:
                self._ask(ApiKey.PREPARE_TXN, request, deadline)
            except RaykafkaError as error:
                if error.retriable:
                    self._reopen()
                else:
                    self.failed(error)
                raise
            with self._lock:
                self._manager.prepared()
            return self._handle()

    def commit(self) -> None:
        """See ``Producer.commit_transaction``."""
        with self._calling:
            deadline = self._deadline()
            if self._manager.state not in _DELIVERED:
                self._deliver("commit_transaction", deadline)
            with self._lock:
                self._manager.committing()
            self._end(True, deadline)

    def abort(self) -> None:
        """See ``Producer.abort_transaction``."""
        with self._calling:
            self._abort(self._deadline())

    def abort_after_error(self) -> None:
        """Abort if that is still possible; the error that led here is the one to be told."""
        with self._calling:
            if self._manager.state not in _OPEN:
                return
            try:
                self._abort(self._deadline())
            except RaykafkaError as error:
                logger.warning(
                    "transaction of %s could not be aborted: %s", self.transactional_id, error
                )

    def close(self) -> None:
        """Abort what is open, as far as that is quickly done; ask nobody any more. Idempotent."""
        if not self._calling.acquire(blocking=False):
            # Another thread waits for a coordinator: there is nothing to abort behind its back.
            self._coordinator.interrupt()
            self._groups.interrupt()
            return
        try:
            if self._manager.state in _OPEN:
                with contextlib.suppress(RaykafkaError):
                    self._abort(Deadline(self._clock, _AT_CLOSE_MS))
            self._coordinator.close()
            self._groups.close()
        finally:
            self._calling.release()

    # --- what the sender calls --------------------------------------------------------------------

    def ensure(self, timeout_ms: float) -> None:
        """See ``producing.gate.Identities``: ``init_transactions`` has got one."""

    def renew(self, burnt: Identity) -> None:
        """See ``producing.gate.Identities``: the end of a transaction renews it."""

    def refusal(self) -> RaykafkaError | None:
        """See ``producing.gate.Gate``."""
        return self._manager.refusal()

    def batch_sent(self) -> None:
        """See ``producing.gate.Gate``."""
        self._manager.participating = True

    def understood(self, error: RaykafkaError) -> RaykafkaError:
        """See ``producing.gate.Gate``."""
        return self._manager.understood(error)

    def failed(self, error: RaykafkaError) -> None:
        """See ``producing.gate.Gate``."""
        with self._lock:
            self._manager.fail(error)
            if self._manager.error is not None:
                self._admit(False)

    # --- inside -----------------------------------------------------------------------------------

    def _deadline(self) -> Deadline:
        return Deadline(self._clock, self._config.max_block_ms)

    def _handle(self) -> PreparedTransaction:
        return PreparedTransaction(self.transactional_id, *self._manager.transaction)

    def _topic_id(self, topic: str, deadline: Deadline) -> str:
        return self._metadata.topic(topic, timeout_ms=deadline.remaining_ms(1 << 31)).topic_id

    def _ask(self, api_key: ApiKey, request: Callable[[int], Message], deadline: Deadline) -> Any:
        """The transaction coordinator's answer; a fatal refusal ends the producer's life."""
        try:
            return self._coordinator.call(
                self.transactional_id,
                api_key,
                request,
                timeout_ms=max(1, deadline.remaining_ms(1 << 31)),
            )
        except ClientClosedError:
            raise
        except RaykafkaError as error:
            with self._lock:
                self._manager.fail(error)
            raise self._manager.understood(error) from error

    def _deliver(self, call: str, deadline: Deadline) -> None:
        """Have everything acknowledged that was taken; nothing more is taken from now on."""
        manager = self._manager
        with self._lock:
            manager.seal(call)
        self._admit(False)
        done = False
        try:
            done = self._flush(deadline)
            manager.shut = True
            # What other threads had in hand when it was sealed: sent by now, or refused.
            done = done and self._flush(deadline)
        finally:
            if not done:
                self._reopen()
        with self._lock:
            manager.check_able()
        if not done:
            raise RequestTimedOutError(
                f"not everything was acknowledged within {self._config.max_block_ms} ms "
                f"(max.block.ms); call {call} again, or abort the transaction"
            )

    def _flush(self, deadline: Deadline) -> bool:
        left_s = deadline.remaining_ms(1 << 31) / 1000
        return self._deliveries.flush(left_s, lambda: self._manager.error is not None)

    def _reopen(self) -> None:
        with self._lock:
            self._manager.unseal()
            self._admit(self._manager.state is TransactionState.IN_TRANSACTION)

    def _abort(self, deadline: Deadline) -> None:
        with self._lock:
            self._manager.aborting()
        self._admit(False)
        self._deliveries.abandon(
            TransactionAbortedError(
                "the transaction was aborted before the record was acknowledged"
            )
        )
        self._end(False, deadline)

    def _end(self, commit: bool, deadline: Deadline) -> None:
        manager = self._manager
        # Also one that was found prepared is ended under our own identity, so that the coordinator
        # answers with the next one.
        identity = manager.identity
        if manager.known_outside:

            def request(partition: int) -> Message:
                return EndTxnRequest(self.transactional_id, partition, *manager.identity, commit)

            try:
                ended = self._ask(ApiKey.END_TXN, request, deadline)
            except RaykafkaError as error:
                self._not_ended(commit, error)
                raise
            identity = Identity(ended.producer_id, ended.producer_epoch)
        with self._lock:
            manager.ended(identity)
            self.current = identity

    def _not_ended(self, commit: bool, error: RaykafkaError) -> None:
        if error.retriable or isinstance(error, ClientClosedError):
            return  # the same call may be made again
        with self._lock:
            if commit and isinstance(error, (InvalidTxnStateError, TransactionAbortableError)):
                self._manager.commit_refused(error)
            else:
                self._manager.fail_fatally(error)

    def _commit_offsets(
        self, group_id: str, request: Callable[[int], Message], deadline: Deadline
    ) -> None:
        backoff = Backoff(self._config.retry_backoff_ms)
        while True:
            left_ms = max(1, deadline.remaining_ms(1 << 31))
            answer: TxnOffsetCommitResponse = self._groups.call(
                group_id, ApiKey.TXN_OFFSET_COMMIT, request, timeout_ms=left_ms
            )
            errors = [
                error_for(each.error_code, f"{each.topic}-{each.partition}: {each.error_message}")
                for each in answer.partitions
                if each.error_code
            ]
            if not errors:
                return
            pause = backoff.next_ms()
            final = next((error for error in errors if not error.retriable), None)
            if final is not None or deadline.remaining_ms(pause + 1) <= pause:
                raise final or errors[0]
            self._metadata.pause(pause)
