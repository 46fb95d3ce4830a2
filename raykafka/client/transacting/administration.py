"""The part of ``Admin`` that is about transactions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Final

from raykafka.client.cluster.leader_calls import Asked
from raykafka.client.cluster.metadata import ClusterMetadata
from raykafka.client.grouping.coordinator_calls import CoordinatorCalls
from raykafka.client.transacting.hanging import HangingTransaction, hanging, open_since
from raykafka.client.transacting.prepared import PreparedTransaction
from raykafka.clock import Clock
from raykafka.errors import InvalidTxnStateError, RaykafkaError, error_for
from raykafka.internal_topics import TRANSACTION_STATE
from raykafka.model import TopicPartition
from raykafka.protocol.messages import ApiKey, Message
from raykafka.protocol.txn_messages import (
    AbortTransactionRequest,
    DescribedTransaction,
    DescribeProducersPartition,
    DescribeProducersRequest,
    DescribeTransactionsRequest,
    EndTxnRequest,
    InitTransactionRequest,
    ListTransactionsRequest,
    ProducerInfo,
    TransactionListing,
)

Place = TopicPartition | tuple[str, int]

_PREPARED: Final = "Prepared"
_LONGEST_MS: Final = 900_000
"""Default of ``transaction.max.timeout.ms``: no coordinator leaves anything open for longer."""


class TransactionOperations(ABC):
    """Transactions as an operator sees them; methods of ``Admin``."""

    _metadata: ClusterMetadata
    _clock: Clock
    _timeout_ms: int

    # --- looking ----------------------------------------------------------------------------------

    def list_transactions(
        self,
        *,
        states: Iterable[str] = (),
        producer_ids: Iterable[int] = (),
        min_duration_ms: int = -1,
    ) -> list[TransactionListing]:
        """Transactional ids with their producer and state, sorted; filters leave some out.

        ``min_duration_ms`` keeps those whose transaction has been open that long. States are
        ``Empty``, ``Ongoing``, ``Prepared``, ``PrepareCommit``, ``PrepareAbort``,
        ``CompleteCommit`` and ``CompleteAbort``.
        """
        wanted, ids = list(states), list(producer_ids)
        found: list[TransactionListing] = []
        for partition in range(self._coordinator_count()):
            request = ListTransactionsRequest(partition, wanted, ids, min_duration_ms)
            answer = self._ask_partition(partition, ApiKey.LIST_TRANSACTIONS, request)
            found += answer.transactions
        return sorted(found, key=lambda each: each.transactional_id)

    def describe_transactions(
        self, transactional_ids: Iterable[str]
    ) -> dict[str, DescribedTransaction]:
        """State, producer, partitions and times of transactional ids.

        Raises ``TransactionalIdNotFoundError``.
        """
        described = {}
        for name in transactional_ids:

            def request(partition: int, name: str = name) -> Message:
                return DescribeTransactionsRequest(partition, [name])

            answer = self._ask_coordinator(name, ApiKey.DESCRIBE_TRANSACTIONS, request)
            [found] = answer.transactions
            if found.error_code:
                raise error_for(found.error_code, found.error_message)
            described[name] = found
        return described

    def describe_producers(
        self, partitions: Iterable[Place]
    ) -> dict[TopicPartition, list[ProducerInfo]]:
        """What the leaders of partitions know of the producers that wrote there."""
        wanted = {TopicPartition(*place): 0 for place in partitions}

        def request(asked: list[Asked[int]]) -> Message:
            return DescribeProducersRequest(
                [DescribeProducersPartition(a.topic_id, a.partition, a.leader_epoch) for a in asked]
            )

        answers = self._ask(ApiKey.DESCRIBE_PRODUCERS, wanted, request)
        return {place: list(found.producers) for place, found in answers.items()}

    def find_hanging_transactions(
        self, topics: Iterable[str] | None = None, *, max_timeout_ms: int = _LONGEST_MS
    ) -> list[HangingTransaction]:
        """Transactions that are open in partitions and that no coordinator is going to end.

        Only those in which nothing was written for ``max_timeout_ms``: it should not be less than
        the brokers' ``transaction.max.timeout.ms``. ``topics`` None looks at all.
        """
        if topics is None:
            names = sorted(self._metadata.all_topics(timeout_ms=self._timeout_ms))
        else:
            names = list(topics)
        places = [
            TopicPartition(name, partition)
            for name in names
            for partition in range(
                len(self._metadata.topic(name, timeout_ms=self._timeout_ms).partitions)
            )
        ]
        before_ms = self._clock.now_ms() - max_timeout_ms
        candidates = open_since(self.describe_producers(places), before_ms)
        if not candidates:
            return []
        ids = {producer.producer_id for _, producer in candidates}
        listed = self.list_transactions(producer_ids=ids)
        known = self.describe_transactions(each.transactional_id for each in listed)
        return hanging(candidates, known.values())

    # --- deciding ---------------------------------------------------------------------------------

    def abort_transaction(
        self, partition: Place, *, producer_id: int, producer_epoch: int, start_offset: int
    ) -> None:
        """End a transaction that hangs in a partition; see ``find_hanging_transactions``.

        Its coordinator is not asked: never do this to one that is only slow. Raises
        ``InvalidTxnStateError`` when it is not the one that is open there.
        """

        def request(place: Asked[None]) -> Message:
            return AbortTransactionRequest(
                place.topic_id, place.partition, producer_id, producer_epoch, start_offset
            )

        self._ask_leader(TopicPartition(*partition), ApiKey.ABORT_TRANSACTION, request)

    def fence_producers(self, transactional_ids: Iterable[str]) -> dict[str, tuple[int, int]]:
        """Lock out the producers of transactional ids, and abort what they have open.

        What is prepared stays prepared. Returns the producer ids and epochs that are current now.
        Raises ``TransactionalIdNotFoundError``.
        """
        fenced = {}
        for name, before in self.describe_transactions(transactional_ids).items():
            keep = before.state == _PREPARED

            def request(
                partition: int,
                name: str = name,
                before: DescribedTransaction = before,
                keep: bool = keep,
            ) -> Message:
                two_phase = before.two_phase or keep
                return InitTransactionRequest(name, partition, before.timeout_ms, two_phase, keep)

            answer = self._ask_coordinator(name, ApiKey.INIT_TRANSACTION, request)
            fenced[name] = (answer.producer_id, answer.producer_epoch)
        return fenced

    def list_prepared(self) -> list[PreparedTransaction]:
        """Every transaction that is prepared and waits for a decision (KIP-939)."""
        listed = self.list_transactions(states=[_PREPARED])
        described = self.describe_transactions(each.transactional_id for each in listed)
        return [
            PreparedTransaction(name, found.producer_id, found.producer_epoch)
            for name, found in described.items()
            if found.state == _PREPARED
        ]

    def commit_prepared(self, prepared: PreparedTransaction) -> None:
        """Commit what ``Producer.prepare_transaction`` returned; again is the same as once.

        Raises ``InvalidTxnStateError`` when it was aborted, or is too old to be known.
        """
        self._end(prepared, commit=True)

    def abort_prepared(self, prepared: PreparedTransaction) -> None:
        """Abort what ``Producer.prepare_transaction`` returned; again is the same as once.

        Raises ``InvalidTxnStateError`` when it was committed, or is too old to be known.
        """
        self._end(prepared, commit=False)

    # --- inside -----------------------------------------------------------------------------------

    def _end(self, prepared: PreparedTransaction, *, commit: bool) -> None:
        name, producer_id, epoch = (
            prepared.transactional_id,
            prepared.producer_id,
            prepared.producer_epoch,
        )

        def request(partition: int) -> Message:
            return EndTxnRequest(name, partition, producer_id, epoch, commit)

        try:
            self._ask_coordinator(name, ApiKey.END_TXN, request)
        except RaykafkaError as error:
            if error.retriable or isinstance(error, InvalidTxnStateError):
                raise
            raise InvalidTxnStateError(
                f"no transaction of {name!r} with producer id {producer_id} and epoch {epoch} is "
                f"prepared ({error.message})"
            ) from error

    def _coordinator_count(self) -> int:
        with self._coordinators(TRANSACTION_STATE) as coordinators:
            return coordinators.partition_count(timeout_ms=self._timeout_ms)

    def _ask_partition(self, partition: int, api_key: ApiKey, request: Message) -> Any:
        with self._coordinators(TRANSACTION_STATE) as coordinators:
            return coordinators.call_partition(
                partition, api_key, request, timeout_ms=self._timeout_ms
            )

    def _ask_coordinator(
        self, transactional_id: str, api_key: ApiKey, request: Callable[[int], Message]
    ) -> Any:
        with self._coordinators(TRANSACTION_STATE) as coordinators:
            return coordinators.call(
                transactional_id, api_key, request, timeout_ms=self._timeout_ms
            )

    @abstractmethod
    def _coordinators(self, topic: str) -> AbstractContextManager[CoordinatorCalls]:
        """Coordinators of an internal topic, for this thread alone."""

    @abstractmethod
    def _ask(self, api_key: ApiKey, wanted: Mapping[TopicPartition, int], request: Any) -> Any:
        """Answers of the partitions' leaders."""

    @abstractmethod
    def _ask_leader(
        self, place: TopicPartition, api_key: ApiKey, request: Callable[[Asked[None]], Message]
    ) -> Any:
        """Answer of one partition's leader."""
