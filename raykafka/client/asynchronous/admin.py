"""``Admin`` for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import pyarrow as pa

from raykafka.client.admin import Admin, NewTopic
from raykafka.client.asynchronous.groups import AsyncGroupOperations
from raykafka.client.asynchronous.operations import AsyncClusterOperations
from raykafka.client.asynchronous.share_groups import AsyncShareGroupOperations
from raykafka.client.asynchronous.transactions import AsyncTransactionOperations
from raykafka.client.cluster.bootstrap import Bootstrap
from raykafka.client.cluster.metadata import TopicMetadata
from raykafka.model import OffsetAndTimestamp, TopicPartition
from raykafka.protocol.messages import (
    ConfigChange,
    ConfigEntry,
    ConfigResource,
    DescribeClusterResponse,
    DescribeLogDirsResponse,
    TopicResult,
)
from raykafka.protocol.quorum_messages import DescribeQuorumResponse

T = TypeVar("T")


class AsyncAdmin(
    AsyncClusterOperations,
    AsyncGroupOperations,
    AsyncShareGroupOperations,
    AsyncTransactionOperations,
):
    """The methods of ``Admin``, awaited; each runs in a thread of the loop's executor."""

    def __init__(self, bootstrap: Bootstrap, **settings: Any) -> None:
        """``settings`` as for ``Admin``."""
        self._admin = Admin(bootstrap, **settings)

    async def __aenter__(self) -> AsyncAdmin:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def close(self) -> None:
        """See ``Admin.close``."""
        await self._run(self._admin.close)

    async def create_topics(
        self, new_topics: Iterable[NewTopic], *, validate_only: bool = False
    ) -> list[TopicResult]:
        """See ``Admin.create_topics``."""
        topics = list(new_topics)
        return await self._run(
            lambda: self._admin.create_topics(topics, validate_only=validate_only)
        )

    async def delete_topics(self, names: Iterable[str]) -> list[TopicResult]:
        """See ``Admin.delete_topics``."""
        wanted = list(names)
        return await self._run(lambda: self._admin.delete_topics(wanted))

    async def list_topics(self, *, list_internal: bool = False) -> list[str]:
        """See ``Admin.list_topics``."""
        return await self._run(lambda: self._admin.list_topics(list_internal=list_internal))

    async def describe_topics(self, names: Iterable[str] | None = None) -> list[TopicMetadata]:
        """See ``Admin.describe_topics``."""
        wanted = None if names is None else list(names)
        return await self._run(lambda: self._admin.describe_topics(wanted))

    async def create_partitions(
        self, total_counts: Mapping[str, int], *, validate_only: bool = False
    ) -> list[TopicResult]:
        """See ``Admin.create_partitions``."""
        return await self._run(
            lambda: self._admin.create_partitions(total_counts, validate_only=validate_only)
        )

    async def add_columns(self, topic: str, columns: pa.Schema) -> int:
        """See ``Admin.add_columns``."""
        return await self._run(lambda: self._admin.add_columns(topic, columns))

    async def describe_configs(
        self, resources: Iterable[ConfigResource]
    ) -> dict[ConfigResource, list[ConfigEntry]]:
        """See ``Admin.describe_configs``."""
        wanted = list(resources)
        return await self._run(lambda: self._admin.describe_configs(wanted))

    async def incremental_alter_configs(
        self,
        changes: Mapping[ConfigResource, Sequence[ConfigChange]],
        *,
        validate_only: bool = False,
    ) -> None:
        """See ``Admin.incremental_alter_configs``."""
        await self._run(
            lambda: self._admin.incremental_alter_configs(changes, validate_only=validate_only)
        )

    async def list_offsets(
        self, partitions: Mapping[TopicPartition | tuple[str, int], int | str]
    ) -> dict[TopicPartition, OffsetAndTimestamp]:
        """See ``Admin.list_offsets``."""
        return await self._run(lambda: self._admin.list_offsets(partitions))

    async def delete_records(
        self, before_offsets: Mapping[TopicPartition | tuple[str, int], int]
    ) -> dict[TopicPartition, int]:
        """See ``Admin.delete_records``."""
        return await self._run(lambda: self._admin.delete_records(before_offsets))

    async def describe_cluster(self) -> DescribeClusterResponse:
        """See ``Admin.describe_cluster``."""
        return await self._run(self._admin.describe_cluster)

    async def describe_quorum(self) -> DescribeQuorumResponse:
        """See ``Admin.describe_quorum``."""
        return await self._run(self._admin.describe_quorum)

    async def describe_log_dirs(self) -> list[DescribeLogDirsResponse]:
        """See ``Admin.describe_log_dirs``."""
        return await self._run(self._admin.describe_log_dirs)

    async def _run(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(None, call)
