"""The admin client: topics, configuration, offsets, and what runs where."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from types import TracebackType
from typing import Any

import pyarrow as pa

from raykafka.client.cluster.bootstrap import Bootstrap
from raykafka.client.cluster.deadline import Backoff, Deadline
from raykafka.client.cluster.leader_calls import Asked, LeaderCalls
from raykafka.client.cluster.metadata import ClusterMetadata, TopicMetadata
from raykafka.client.grouping.coordinator_calls import CoordinatorCalls
from raykafka.client.operating.arguments import (
    checked,
    config_changes,
    name_list,
    timestamp,
)
from raykafka.client.operating.group_operations import GroupOperations
from raykafka.client.operating.operations import ClusterOperations
from raykafka.client.operating.share_group_operations import ShareGroupOperations
from raykafka.client.transacting.administration import TransactionOperations
from raykafka.clock import Clock, SystemClock
from raykafka.errors import (
    ClientClosedError,
    RaykafkaError,
    error_for,
)
from raykafka.internal_topics import INTERNAL_TOPICS
from raykafka.log.schema import serialize_schema
from raykafka.model import (
    Endpoint,
    OffsetAndTimestamp,
    TopicPartition,
)
from raykafka.protocol import messages
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
from raykafka.protocol.quorum_messages import DescribeQuorumRequest, DescribeQuorumResponse


@dataclass(frozen=True, slots=True)
class NewTopic:
    """A topic to create; -1 takes the cluster's default.

    ``topic_configs`` are keys of the topic table in ``docs/configuration.md``. ``schema`` are the
    value columns of a typed topic; without it values are bytes. ``replica_assignments`` names the
    brokers of each partition, preferred leader first, in the place of the two numbers.
    """

    name: str
    num_partitions: int = -1
    replication_factor: int = -1
    topic_configs: Mapping[str, str] = field(default_factory=dict)
    schema: pa.Schema | None = None
    replica_assignments: Mapping[int, Sequence[int]] = field(default_factory=dict)


class Admin(ClusterOperations, GroupOperations, ShareGroupOperations, TransactionOperations):
    """Administration of a cluster. Thread-safe; calls are made one at a time.

    Every method waits up to ``api_timeout_ms``, repeating what is retriable. Raises
    ``ClusterUnreachableError`` when nobody answers, ``ClientClosedError`` after ``close``.
    """

    def __init__(
        self,
        bootstrap: Bootstrap,
        *,
        client_id: str = "raykafka-admin",
        request_timeout_ms: int = 30_000,
        api_timeout_ms: int | None = None,
        retry_backoff_ms: int = 20,
        clock: Clock | None = None,
    ) -> None:
        """``request_timeout_ms`` bounds one attempt, ``api_timeout_ms`` all attempts of a call
        together (default: twice as long).
        """
        clock = clock if clock is not None else SystemClock()
        self._clock = clock
        self._request_timeout_ms = request_timeout_ms
        self._timeout_ms = 2 * request_timeout_ms if api_timeout_ms is None else api_timeout_ms
        self._retry_backoff_ms = retry_backoff_ms
        self._client_id = client_id
        self._metadata = ClusterMetadata(
            bootstrap,
            client_id=client_id,
            request_timeout_ms=request_timeout_ms,
            retry_backoff_ms=retry_backoff_ms,
            clock=clock,
        )
        self._leaders = LeaderCalls(
            self._metadata,
            client_id=client_id,
            request_timeout_ms=request_timeout_ms,
            retry_backoff_ms=retry_backoff_ms,
            clock=clock,
        )
        self._coordinator_calls: dict[str, CoordinatorCalls] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Admin:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections. Idempotent."""
        self._metadata.close()
        with self._lock:
            self._leaders.close()
            for coordinators in self._coordinator_calls.values():
                coordinators.close()

    # --- topics -----------------------------------------------------------------------------------

    def create_topics(
        self, new_topics: Iterable[NewTopic], *, validate_only: bool = False
    ) -> list[TopicResult]:
        """Create topics; each is created or not by itself.

        Raises the first topic's error: ``TopicAlreadyExistsError``, ``InvalidTopicError``,
        ``InvalidPartitionsError``, ``InvalidReplicationFactorError``, ``InvalidConfigError``.
        Records can be sent at once: producers wait until the partitions have leaders.
        """
        topics = [
            messages.NewTopic(
                topic.name,
                topic.num_partitions,
                topic.replication_factor,
                {name: str(value) for name, value in topic.topic_configs.items()},
                b"" if topic.schema is None else serialize_schema(topic.schema),
                {index: list(brokers) for index, brokers in topic.replica_assignments.items()},
            )
            for topic in new_topics
        ]
        request = CreateTopicsRequest(topics, validate_only)
        return checked(self._call(ApiKey.CREATE_TOPICS, request).topics)

    def delete_topics(self, names: Iterable[str]) -> list[TopicResult]:
        """Delete topics with all their records; raises ``UnknownTopicOrPartitionError``."""
        request = DeleteTopicsRequest(name_list(names))
        return checked(self._call(ApiKey.DELETE_TOPICS, request).topics)

    def list_topics(self, *, list_internal: bool = False) -> list[str]:
        """The names of all topics, sorted; those of coordinators with ``list_internal`` only."""
        known = set(self._metadata.all_topics(timeout_ms=self._timeout_ms))
        return sorted(known if list_internal else known - INTERNAL_TOPICS)

    def describe_topics(self, names: Iterable[str] | None = None) -> list[TopicMetadata]:
        """Partitions, leaders and schemas of topics, of all of them for None, in order.

        Raises ``UnknownTopicOrPartitionError``.
        """
        if names is None:
            known = self._metadata.all_topics(timeout_ms=self._timeout_ms)
            return [known[name] for name in sorted(known)]
        wanted = name_list(names)
        self._metadata.refresh(wanted, timeout_ms=self._timeout_ms)
        return [self._metadata.topic(name, timeout_ms=self._timeout_ms) for name in wanted]

    def create_partitions(
        self, total_counts: Mapping[str, int], *, validate_only: bool = False
    ) -> list[TopicResult]:
        """Add partitions so that each topic has the number given, which must be larger than now.

        Keys map to other partitions afterwards. Raises ``InvalidPartitionsError``,
        ``UnknownTopicOrPartitionError``.
        """
        wanted = [NewPartitions(name, count) for name, count in total_counts.items()]
        request = CreatePartitionsRequest(wanted, validate_only)
        return checked(self._call(ApiKey.CREATE_PARTITIONS, request).topics)

    def add_columns(self, topic: str, columns: pa.Schema) -> int:
        """Add nullable columns at the end of a typed topic's schema; returns the new schema id.

        Raises ``UnsupportedSchemaChangeError``, ``UnknownTopicOrPartitionError``.
        """
        request = AddColumnsRequest(topic, serialize_schema(columns))
        schema_id: int = self._call(ApiKey.ADD_COLUMNS, request).schema_id
        return schema_id

    # --- configuration ----------------------------------------------------------------------------

    def describe_configs(
        self, resources: Iterable[ConfigResource]
    ) -> dict[ConfigResource, list[ConfigEntry]]:
        """Every setting of topics (``ConfigResource("topic", name)``) or brokers
        (``ConfigResource("broker", id)``) with its value and where that comes from.
        """
        request = DescribeConfigsRequest(list(resources))
        answers = self._call(ApiKey.DESCRIBE_CONFIGS, request).resources
        for answer in answers:
            if answer.error_code:
                raise error_for(answer.error_code, answer.error_message)
        return {answer.resource: answer.entries for answer in answers}

    def incremental_alter_configs(
        self,
        changes: Mapping[ConfigResource, Sequence[ConfigChange] | Mapping[str, str | None]],
        *,
        validate_only: bool = False,
    ) -> None:
        """Change some settings, leave the others (KIP-339).

        Changes are ``ConfigChange`` objects, or a mapping from names to new values where None sets
        the default back. Raises ``InvalidConfigError`` that names the key.
        """
        resources = [
            AlteredResource(resource, config_changes(wanted))
            for resource, wanted in changes.items()
        ]
        request = AlterConfigsRequest(resources, validate_only)
        for answer in self._call(ApiKey.ALTER_CONFIGS, request).resources:
            if answer.error_code:
                raise error_for(answer.error_code, answer.error_message)

    # --- records ----------------------------------------------------------------------------------

    def list_offsets(
        self, partitions: Mapping[TopicPartition | tuple[str, int], int | str | datetime]
    ) -> dict[TopicPartition, OffsetAndTimestamp]:
        """An offset per partition: ``"earliest"``, ``"latest"`` (the next one to be written),
        ``"max_timestamp"``, or the first record at or after a time (milliseconds or ``datetime``).

        The offset is -1 where no record is that young.
        """
        wanted = {TopicPartition(*place): timestamp(at) for place, at in partitions.items()}

        def request(asked: list[Asked[int]]) -> Message:
            return ListOffsetsRequest(
                [
                    ListOffsetsPartition(a.topic_id, a.partition, a.argument, a.leader_epoch)
                    for a in asked
                ]
            )

        return {
            place: OffsetAndTimestamp(found.offset, found.timestamp, found.leader_epoch)
            for place, found in self._ask(ApiKey.LIST_OFFSETS, wanted, request).items()
        }

    def delete_records(
        self, before_offsets: Mapping[TopicPartition | tuple[str, int], int]
    ) -> dict[TopicPartition, int]:
        """Delete the records before an offset per partition, -1 for all there are; returns the
        first offset that is left. Raises ``OffsetOutOfRangeError``.
        """
        wanted = {TopicPartition(*place): offset for place, offset in before_offsets.items()}

        def request(asked: list[Asked[int]]) -> Message:
            return DeleteRecordsRequest(
                [
                    DeleteRecordsPartition(a.topic_id, a.partition, a.argument, a.leader_epoch)
                    for a in asked
                ]
            )

        return {
            place: deleted.low_watermark
            for place, deleted in self._ask(ApiKey.DELETE_RECORDS, wanted, request).items()
        }

    # --- the cluster ------------------------------------------------------------------------------

    def describe_cluster(self) -> DescribeClusterResponse:
        """Brokers, actors and counts."""
        response: DescribeClusterResponse = self._call(
            ApiKey.DESCRIBE_CLUSTER, DescribeClusterRequest()
        )
        return response

    def describe_quorum(self) -> DescribeQuorumResponse:
        """The voters that hold the metadata, who of them is active, and how far the others are."""
        deadline = Deadline(self._clock, self._timeout_ms)
        backoff = Backoff(self._retry_backoff_ms)
        while True:
            self.describe_cluster()  # answered by the active one, which is asked next then
            found: DescribeQuorumResponse = self._call(
                ApiKey.DESCRIBE_QUORUM, DescribeQuorumRequest()
            )
            if found.replica_id == found.leader_id or deadline.remaining_ms(1) <= 0:
                return found
            self._metadata.pause(backoff.next_ms())

    def describe_log_dirs(self) -> list[DescribeLogDirsResponse]:
        """What is stored where, one answer per partition actor that lives."""
        deadline = Deadline(self._clock, self._timeout_ms)
        backoff = Backoff(self._retry_backoff_ms)
        while True:
            actors = [
                actor
                for actor in self.describe_cluster().actors
                if actor.role == "partition" and actor.state == "alive" and actor.port
            ]
            try:
                with self._lock:
                    return [
                        self._leaders.call(
                            Endpoint(actor.host, actor.port),
                            ApiKey.DESCRIBE_LOG_DIRS,
                            DescribeLogDirsRequest(),
                            max(1, deadline.remaining_ms(self._request_timeout_ms)),
                        )
                        for actor in actors
                    ]
            except RaykafkaError as error:
                # An actor may have died since the controller named it: its successor will do.
                pause = backoff.next_ms()
                if not error.retriable or deadline.remaining_ms(pause + 1) <= pause:
                    raise
            self._metadata.pause(pause)

    def _ask(self, api_key: ApiKey, wanted: Mapping[TopicPartition, int], request: Any) -> Any:
        with self._alone():
            return self._leaders.ask(api_key, wanted, request, self._timeout_ms)

    def _ask_leader(self, place: TopicPartition, api_key: ApiKey, request: Any) -> Any:
        with self._alone():
            return self._leaders.ask_leader(place, api_key, request, self._timeout_ms)

    @contextmanager
    def _coordinators(self, topic: str) -> Iterator[CoordinatorCalls]:
        with self._alone():
            found = self._coordinator_calls.get(topic)
            if found is None:
                found = self._coordinator_calls[topic] = CoordinatorCalls(
                    self._metadata,
                    topic,
                    client_id=self._client_id,
                    request_timeout_ms=self._request_timeout_ms,
                    retry_backoff_ms=self._retry_backoff_ms,
                    clock=self._clock,
                )
            yield found

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Connections to leaders and coordinators are for one thread at a time."""
        with self._lock:
            if self._metadata.closed:
                raise ClientClosedError("the admin client is closed; make a new one")
            yield

    def _call(self, api_key: ApiKey, request: Message) -> Any:
        return self._metadata.call(api_key, request, timeout_ms=self._timeout_ms)
