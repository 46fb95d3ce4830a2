"""The administrative client: topics, partitions, configuration, offsets, and what runs where."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from raykafka.client.bootstrap import Bootstrap
from raykafka.client.leader_calls import LeaderCalls
from raykafka.client.metadata import ClusterMetadata, TopicMetadata
from raykafka.clock import Clock, SystemClock
from raykafka.errors import InvalidRequestError, UnknownTopicOrPartitionError, raise_for
from raykafka.log.schema import serialize_schema
from raykafka.model import (
    EARLIEST_TIMESTAMP,
    LATEST_TIMESTAMP,
    MAX_TIMESTAMP,
    OffsetAndTimestamp,
    TopicPartition,
)
from raykafka.protocol.messages import (
    AddColumnsRequest,
    AlterConfigsRequest,
    AlteredResource,
    ApiKey,
    ConfigChange,
    ConfigEntry,
    ConfigResource,
    CreatePartitionsRequest,
    CreateTopicsRequest,
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteTopicsRequest,
    DescribeClusterRequest,
    DescribeClusterResponse,
    DescribeConfigsRequest,
    DescribeLogDirsRequest,
    DescribeLogDirsResponse,
    ListOffsetsPartition,
    ListOffsetsRequest,
    Message,
    NewPartitions,
    TopicResult,
)
from raykafka.protocol.messages import NewTopic as NewTopicMessage

OFFSET_NAMES: Mapping[str, int] = {
    "earliest": EARLIEST_TIMESTAMP,
    "latest": LATEST_TIMESTAMP,
    "max_timestamp": MAX_TIMESTAMP,
}
"""What may stand in place of a timestamp in ``list_offsets``."""


@dataclass(frozen=True, slots=True)
class NewTopic:
    """A topic to create; -1 takes the cluster's default.

    ``schema`` makes it a typed topic: its fields become columns of the log. ``topic_configs`` are
    Kafka's keys verbatim (``{"retention.ms": "3600000"}``), see the configuration page.
    """

    name: str
    num_partitions: int = -1
    replication_factor: int = -1
    topic_configs: Mapping[str, str] = field(default_factory=dict)
    schema: pa.Schema | None = None


class Admin:
    """Kafka's AdminClient for this cluster. Thread-safe.

    Methods that take several items change each for itself; when one fails, the others are done
    all the same and the first error is raised, as kafka-python does. ``timeout_ms`` bounds every
    call; ``ClusterUnreachableError`` when no controller answers in that time.
    """

    def __init__(
        self,
        bootstrap: Bootstrap,
        *,
        client_id: str = "raykafka-admin",
        request_timeout_ms: int = 30_000,
        clock: Clock | None = None,
    ) -> None:
        clock = clock if clock is not None else SystemClock()
        self._metadata = ClusterMetadata(
            bootstrap, client_id=client_id, request_timeout_ms=request_timeout_ms, clock=clock
        )
        self._timeout_ms = request_timeout_ms
        self._leaders = LeaderCalls(
            self._metadata, client_id=client_id, timeout_ms=request_timeout_ms, clock=clock
        )

    def __enter__(self) -> Admin:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. Idempotent; later calls raise ``ClientClosedError``."""
        self._leaders.close()
        self._metadata.close()

    # --- topics -----------------------------------------------------------------------------------

    def create_topics(
        self, new_topics: Iterable[NewTopic], *, validate_only: bool = False
    ) -> list[TopicResult]:
        """Create topics; when this returns their partitions accept records.

        Raises ``TopicAlreadyExistsError``, ``InvalidTopicError``, ``InvalidPartitionsError``,
        ``InvalidReplicationFactorError`` or ``InvalidConfigError`` (the message names what).
        """
        request = CreateTopicsRequest(
            [
                NewTopicMessage(
                    topic.name,
                    topic.num_partitions,
                    topic.replication_factor,
                    {key: str(value) for key, value in topic.topic_configs.items()},
                    b"" if topic.schema is None else serialize_schema(topic.schema),
                )
                for topic in new_topics
            ],
            validate_only,
        )
        return _checked(self._call(ApiKey.CREATE_TOPICS, request).topics)

    def delete_topics(self, names: Iterable[str]) -> list[TopicResult]:
        """Delete topics and their records. Raises ``UnknownTopicOrPartitionError``."""
        request = DeleteTopicsRequest(list(names))
        return _checked(self._call(ApiKey.DELETE_TOPICS, request).topics)

    def list_topics(self) -> list[str]:
        """Names of all topics, sorted."""
        return sorted(self._metadata.all_topics(timeout_ms=self._timeout_ms))

    def describe_topics(self, names: Iterable[str] | None = None) -> list[TopicMetadata]:
        """Partitions, leaders, schemas of the named topics (all when None), in that order."""
        found = self._metadata.all_topics(timeout_ms=self._timeout_ms)
        if names is None:
            return [found[name] for name in sorted(found)]
        wanted = list(names)
        for name in wanted:
            if name not in found:
                raise UnknownTopicOrPartitionError(
                    f"topic {name!r} does not exist; create it first or check the spelling"
                )
        return [found[name] for name in wanted]

    def create_partitions(
        self, total_counts: Mapping[str, int], *, validate_only: bool = False
    ) -> list[TopicResult]:
        """Grow topics to the given number of partitions. Keys then map to other partitions.

        Raises ``InvalidPartitionsError`` when the number is not larger than today's.
        """
        request = CreatePartitionsRequest(
            [NewPartitions(name, count) for name, count in total_counts.items()], validate_only
        )
        return _checked(self._call(ApiKey.CREATE_PARTITIONS, request).topics)

    def add_columns(self, topic: str, columns: pa.Schema) -> int:
        """Add nullable columns to a typed topic; returns the id of the new schema.

        Records written before have nulls there. Raises ``UnsupportedSchemaChangeError``.
        """
        request = AddColumnsRequest(topic, serialize_schema(columns))
        return int(self._call(ApiKey.ADD_COLUMNS, request).schema_id)

    # --- configuration ----------------------------------------------------------------------------

    def describe_configs(
        self, resources: Iterable[ConfigResource]
    ) -> dict[ConfigResource, list[ConfigEntry]]:
        """Every key with its value, where it comes from and what it means."""
        response = self._call(ApiKey.DESCRIBE_CONFIGS, DescribeConfigsRequest(list(resources)))
        described = {}
        for each in response.resources:
            raise_for(each.error_code, each.error_message)
            described[each.resource] = each.entries
        return described

    def incremental_alter_configs(
        self,
        changes: Mapping[ConfigResource, Sequence[ConfigChange]],
        *,
        validate_only: bool = False,
    ) -> None:
        """Set or reset single keys and leave the others alone (KIP-339).

        Raises ``InvalidConfigError`` naming the key; nothing of that resource is changed then.
        """
        request = AlterConfigsRequest(
            [AlteredResource(resource, list(each)) for resource, each in changes.items()],
            validate_only,
        )
        for altered in self._call(ApiKey.ALTER_CONFIGS, request).resources:
            raise_for(altered.error_code, altered.error_message)

    # --- records and offsets ----------------------------------------------------------------------

    def list_offsets(
        self, partitions: Mapping[TopicPartition | tuple[str, int], int | str]
    ) -> dict[TopicPartition, OffsetAndTimestamp]:
        """Offsets by partition for ``earliest``, ``latest``, ``max_timestamp`` or a time in ms.

        Offset -1 where no record is that young.
        """
        asked = {TopicPartition(*key): _timestamp(value) for key, value in partitions.items()}
        answers = self._leaders.each(
            asked,
            lambda partition, leader: ListOffsetsPartition(
                leader.topic_id, partition.partition, asked[partition], leader.leader_epoch
            ),
            lambda items: (ApiKey.LIST_OFFSETS, ListOffsetsRequest(items)),
        )
        return {
            partition: OffsetAndTimestamp(each.offset, each.timestamp, each.leader_epoch)
            for partition, each in answers.items()
        }

    def delete_records(
        self, before_offsets: Mapping[TopicPartition | tuple[str, int], int]
    ) -> dict[TopicPartition, int]:
        """Delete what stands before the offsets (-1: all so far); returns each low watermark.

        Raises ``OffsetOutOfRangeError`` for an offset past the high watermark (KIP-107).
        """
        asked = {TopicPartition(*key): offset for key, offset in before_offsets.items()}
        answers = self._leaders.each(
            asked,
            lambda partition, leader: DeleteRecordsPartition(
                leader.topic_id, partition.partition, asked[partition], leader.leader_epoch
            ),
            lambda items: (ApiKey.DELETE_RECORDS, DeleteRecordsRequest(items)),
        )
        return {partition: each.low_watermark for partition, each in answers.items()}

    # --- the cluster ------------------------------------------------------------------------------

    def describe_cluster(self) -> DescribeClusterResponse:
        """Brokers, actors with their process ids, and counts of topics and partitions."""
        response: DescribeClusterResponse = self._call(
            ApiKey.DESCRIBE_CLUSTER, DescribeClusterRequest()
        )
        return response

    def describe_log_dirs(self) -> list[DescribeLogDirsResponse]:
        """What each living partition actor keeps on disk: sizes, offsets, damaged ranges."""
        actors = self.describe_cluster().actors
        return [
            self._leaders.call(
                actor.host, actor.port, ApiKey.DESCRIBE_LOG_DIRS, DescribeLogDirsRequest()
            )
            for actor in actors
            if actor.role == "partition" and actor.state == "alive"
        ]

    def _call(self, api_key: ApiKey, request: Message) -> Any:
        return self._metadata.call(api_key, request, timeout_ms=self._timeout_ms)


def _checked(results: list[TopicResult]) -> list[TopicResult]:
    for result in results:
        raise_for(result.error_code, result.error_message)
    return results


def _timestamp(value: int | str) -> int:
    if isinstance(value, int):
        return value
    try:
        return OFFSET_NAMES[value]
    except KeyError:
        raise InvalidRequestError(
            f"{value!r} is no offset; use earliest, latest, max_timestamp or milliseconds"
        ) from None
