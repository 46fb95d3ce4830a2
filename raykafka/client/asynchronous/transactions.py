"""The part of ``AsyncAdmin`` that is about transactions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from raykafka.client.admin import Admin
from raykafka.client.transacting.administration import Place
from raykafka.client.transacting.hanging import HangingTransaction
from raykafka.client.transacting.prepared import PreparedTransaction
from raykafka.model import TopicPartition
from raykafka.protocol.txn_messages import DescribedTransaction, ProducerInfo, TransactionListing

T = TypeVar("T")


class AsyncTransactionOperations(ABC):
    """The methods of ``TransactionOperations``, awaited."""

    _admin: Admin

    async def list_transactions(self, **filters: Any) -> list[TransactionListing]:
        """See ``Admin.list_transactions``."""
        return await self._run(lambda: self._admin.list_transactions(**filters))

    async def describe_transactions(
        self, transactional_ids: Iterable[str]
    ) -> dict[str, DescribedTransaction]:
        """See ``Admin.describe_transactions``."""
        wanted = list(transactional_ids)
        return await self._run(lambda: self._admin.describe_transactions(wanted))

    async def describe_producers(
        self, partitions: Iterable[Place]
    ) -> dict[TopicPartition, list[ProducerInfo]]:
        """See ``Admin.describe_producers``."""
        wanted = list(partitions)
        return await self._run(lambda: self._admin.describe_producers(wanted))

    async def find_hanging_transactions(
        self, topics: Iterable[str] | None = None, **settings: Any
    ) -> list[HangingTransaction]:
        """See ``Admin.find_hanging_transactions``."""
        wanted = None if topics is None else list(topics)
        return await self._run(lambda: self._admin.find_hanging_transactions(wanted, **settings))

    async def abort_transaction(
        self, partition: Place, *, producer_id: int, producer_epoch: int, start_offset: int
    ) -> None:
        """See ``Admin.abort_transaction``."""
        await self._run(
            lambda: self._admin.abort_transaction(
                partition,
                producer_id=producer_id,
                producer_epoch=producer_epoch,
                start_offset=start_offset,
            )
        )

    async def fence_producers(self, transactional_ids: Iterable[str]) -> dict[str, tuple[int, int]]:
        """See ``Admin.fence_producers``."""
        wanted = list(transactional_ids)
        return await self._run(lambda: self._admin.fence_producers(wanted))

    async def list_prepared(self) -> list[PreparedTransaction]:
        """See ``Admin.list_prepared``."""
        return await self._run(self._admin.list_prepared)

    async def commit_prepared(self, prepared: PreparedTransaction) -> None:
        """See ``Admin.commit_prepared``."""
        await self._run(lambda: self._admin.commit_prepared(prepared))

    async def abort_prepared(self, prepared: PreparedTransaction) -> None:
        """See ``Admin.abort_prepared``."""
        await self._run(lambda: self._admin.abort_prepared(prepared))

    @abstractmethod
    async def _run(self, call: Callable[[], T]) -> T:
        """The call's result, from a thread."""
