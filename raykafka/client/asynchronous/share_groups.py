"""The part of ``AsyncAdmin`` that is about share groups."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from raykafka.client.admin import Admin
from raykafka.client.operating.offset_resets import OffsetChange
from raykafka.client.operating.share_group_operations import Place, ShareGroupOffset
from raykafka.protocol.group_messages import DescribedGroup, GroupListing

T = TypeVar("T")


class AsyncShareGroupOperations(ABC):
    """The methods of ``ShareGroupOperations``, awaited."""

    _admin: Admin

    async def list_share_groups(self, **filters: Any) -> list[GroupListing]:
        """See ``Admin.list_share_groups``."""
        return await self._run(lambda: self._admin.list_share_groups(**filters))

    async def describe_share_groups(self, group_ids: Iterable[str]) -> list[DescribedGroup]:
        """See ``Admin.describe_share_groups``."""
        return await self._run(lambda: self._admin.describe_share_groups(group_ids))

    async def list_share_group_offsets(self, group_id: str) -> list[ShareGroupOffset]:
        """See ``Admin.list_share_group_offsets``."""
        return await self._run(lambda: self._admin.list_share_group_offsets(group_id))

    async def alter_share_group_offsets(self, group_id: str, offsets: Mapping[Place, int]) -> None:
        """See ``Admin.alter_share_group_offsets``."""
        await self._run(lambda: self._admin.alter_share_group_offsets(group_id, offsets))

    async def reset_share_group_offsets(self, group_id: str, **settings: Any) -> list[OffsetChange]:
        """See ``Admin.reset_share_group_offsets``."""
        return await self._run(lambda: self._admin.reset_share_group_offsets(group_id, **settings))

    async def delete_share_groups(self, group_ids: Iterable[str]) -> None:
        """See ``Admin.delete_share_groups``."""
        await self._run(lambda: self._admin.delete_share_groups(group_ids))

    async def describe_share_group_configs(self, group_id: str) -> dict[str, str]:
        """See ``Admin.describe_share_group_configs``."""
        return await self._run(lambda: self._admin.describe_share_group_configs(group_id))

    async def alter_share_group_configs(
        self, group_id: str, configs: Mapping[str, object]
    ) -> dict[str, str]:
        """See ``Admin.alter_share_group_configs``."""
        return await self._run(lambda: self._admin.alter_share_group_configs(group_id, configs))

    @abstractmethod
    async def _run(self, call: Callable[[], T]) -> T:
        """The call's result, from a thread."""
