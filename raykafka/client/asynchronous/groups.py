"""The part of ``AsyncAdmin`` that is about consumer groups."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from raykafka.client.admin import Admin
from raykafka.client.operating.group_operations import PartitionLag, Place
from raykafka.client.operating.offset_resets import OffsetChange
from raykafka.model import OffsetAndMetadata, TopicPartition
from raykafka.protocol.group_messages import DescribedGroup, GroupListing, MemberOutcome

T = TypeVar("T")


class AsyncGroupOperations(ABC):
    """The methods of ``GroupOperations``, awaited."""

    _admin: Admin

    async def list_groups(self, **filters: Any) -> list[GroupListing]:
        """See ``Admin.list_groups``."""
        return await self._run(lambda: self._admin.list_groups(**filters))

    async def list_consumer_groups(self, **filters: Any) -> list[GroupListing]:
        """See ``Admin.list_consumer_groups``."""
        return await self._run(lambda: self._admin.list_consumer_groups(**filters))

    async def describe_consumer_groups(self, group_ids: Iterable[str]) -> list[DescribedGroup]:
        """See ``Admin.describe_consumer_groups``."""
        return await self._run(lambda: self._admin.describe_consumer_groups(group_ids))

    async def delete_consumer_groups(self, group_ids: Iterable[str]) -> None:
        """See ``Admin.delete_consumer_groups``."""
        await self._run(lambda: self._admin.delete_consumer_groups(group_ids))

    async def remove_members_from_consumer_group(
        self, group_id: str, **members: Iterable[str]
    ) -> list[MemberOutcome]:
        """See ``Admin.remove_members_from_consumer_group``."""
        return await self._run(
            lambda: self._admin.remove_members_from_consumer_group(group_id, **members)
        )

    async def list_consumer_group_offsets(
        self, group_id: str, partitions: Iterable[Place] | None = None
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        """See ``Admin.list_consumer_group_offsets``."""
        return await self._run(
            lambda: self._admin.list_consumer_group_offsets(group_id, partitions)
        )

    async def consumer_group_lag(self, group_id: str) -> list[PartitionLag]:
        """See ``Admin.consumer_group_lag``."""
        return await self._run(lambda: self._admin.consumer_group_lag(group_id))

    async def alter_consumer_group_offsets(
        self, group_id: str, offsets: Mapping[Place, OffsetAndMetadata | int]
    ) -> None:
        """See ``Admin.alter_consumer_group_offsets``."""
        await self._run(lambda: self._admin.alter_consumer_group_offsets(group_id, offsets))

    async def reset_consumer_group_offsets(
        self, group_id: str, **settings: Any
    ) -> list[OffsetChange]:
        """See ``Admin.reset_consumer_group_offsets``."""
        return await self._run(
            lambda: self._admin.reset_consumer_group_offsets(group_id, **settings)
        )

    async def delete_consumer_group_offsets(
        self, group_id: str, partitions: Iterable[Place]
    ) -> None:
        """See ``Admin.delete_consumer_group_offsets``."""
        await self._run(lambda: self._admin.delete_consumer_group_offsets(group_id, partitions))

    @abstractmethod
    async def _run(self, call: Callable[[], T]) -> T:
        """The call's result, from a thread."""
