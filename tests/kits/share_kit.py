"""Speaks the share apis with the leaders of a ``LocalCluster``, without a ``ShareConsumer``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from wire_kit import wait_until

from raykafka.client.cluster.metadata import ClusterMetadata
from raykafka.client.grouping.coordinator_calls import CoordinatorCalls
from raykafka.clock import SystemClock
from raykafka.errors import LeaderNotAvailableError, RaykafkaError, raise_for
from raykafka.internal_topics import SHARE_GROUP_STATE
from raykafka.log.batch import decode_batch
from raykafka.log.batch_header import read_header
from raykafka.log.schema import UNTYPED_SCHEMA
from raykafka.network.client import Connection
from raykafka.protocol.messages import ApiKey, ConfigChange
from raykafka.protocol.share_messages import (
    AcknowledgementBatch,
    AlterShareGroupConfigsRequest,
    DescribeShareGroupOffsetsRequest,
    ShareAcknowledgePartition,
    ShareAcknowledgeRequest,
    ShareFetchPartition,
    ShareFetchRequest,
)
from raykafka.testing.local_cluster import LocalCluster

GROUP = "workers"
Records = dict[int, tuple[bytes, int]]
"""Value and delivery count by offset."""


class ShareMember:
    """One member of a share group that reads one partition, over a connection of its own."""

    def __init__(
        self, cluster: LocalCluster, member_id: str, topic: str = "t", partition: int = 0
    ) -> None:
        self.member_id = member_id
        self.metadata = ClusterMetadata(cluster.bootstrap)
        self.place = (topic, partition)
        self.connection: Connection | None = None
        self.connect()

    def connect(self) -> None:
        """Find the leader; raises while there is none."""
        if self.connection is not None:
            self.connection.close()
        self.metadata.refresh([self.place[0]], timeout_ms=10_000)
        topic = self.metadata.topic(self.place[0], timeout_ms=10_000)
        self.topic_id = topic.topic_id
        found = topic.partitions[self.place[1]]
        self.leader_epoch = found.leader_epoch
        if found.endpoint is None:
            raise LeaderNotAvailableError
        self.connection = Connection(found.endpoint, self.metadata.secret, client_id=self.member_id)

    def fetch_again(self) -> Records:
        """Fetch, with another try wherever there is trouble."""
        found: Records = {}

        def succeeds() -> bool:
            try:
                self.connect()
                found.update(self.fetch())
            except RaykafkaError:
                return False
            return True

        wait_until(succeeds, "a leader that answers")
        return found

    def fetch(
        self,
        max_records: int = 500,
        max_wait_ms: int = 5000,
        acknowledgements: Sequence[AcknowledgementBatch] = (),
    ) -> Records:
        """Acquire; returns what was acquired."""
        part = ShareFetchPartition(
            self.topic_id, self.place[1], self.leader_epoch, acknowledgements=list(acknowledgements)
        )
        request = ShareFetchRequest(
            GROUP, self.member_id, [part], max_wait_ms=max_wait_ms, max_records=max_records
        )
        assert self.connection is not None
        answer: Any
        answer, payload = self.connection.call(ApiKey.SHARE_FETCH, request, timeout_ms=20_000)
        found: Records = {}
        for each in answer.partitions:
            raise_for(each.error_code, each.error_message)
            raise_for(each.acknowledge_error_code, each.acknowledge_error_message)
            if each.fetched is not None:
                found |= _records(each, payload)
        return found

    def acknowledge(
        self, *acknowledgements: AcknowledgementBatch, release: bool = False
    ) -> tuple[int, str]:
        """Acknowledge without fetching; returns the error."""
        part = ShareAcknowledgePartition(self.topic_id, self.place[1], list(acknowledgements))
        request = ShareAcknowledgeRequest(GROUP, self.member_id, [part], release)
        assert self.connection is not None
        answer: Any
        answer, _ = self.connection.call(ApiKey.SHARE_ACKNOWLEDGE, request, timeout_ms=20_000)
        return answer.partitions[0].error_code, answer.partitions[0].error_message

    def close(self) -> None:
        """End the connection as a killed process does."""
        if self.connection is not None:
            self.connection.close()
        self.metadata.close()


def _records(each: Any, payload: memoryview) -> Records:
    found: Records = {}
    position = 0
    for size in each.fetched.sizes:
        message = payload[position : position + size]
        position += size
        base = read_header(message).base_offset
        for index, value in enumerate(decode_batch(message, UNTYPED_SCHEMA).column("value")):
            for acquired in each.acquired:
                if acquired.first_offset <= base + index <= acquired.last_offset:
                    found[base + index] = (value.as_py(), acquired.delivery_count)
    assert len(found) == sum(a.last_offset - a.first_offset + 1 for a in each.acquired)
    return found


class ShareGroupAdmin:
    """Settings and offsets of a share group, asked of its coordinator."""

    def __init__(self, cluster: LocalCluster) -> None:
        self._metadata = ClusterMetadata(cluster.bootstrap)
        self.calls = CoordinatorCalls(
            self._metadata,
            SHARE_GROUP_STATE,
            client_id="admin",
            request_timeout_ms=10_000,
            retry_backoff_ms=20,
            clock=SystemClock(),
        )

    def configure(self, **configs: str) -> None:
        """Set the group's settings."""
        changes = [ConfigChange(name, value) for name, value in configs.items()]
        self.calls.call(
            GROUP,
            ApiKey.ALTER_SHARE_GROUP_CONFIGS,
            lambda place: AlterShareGroupConfigsRequest(GROUP, place, changes),
            timeout_ms=20_000,
        )

    def offsets(self) -> Iterable[Any]:
        """What the coordinator knows."""
        answer = self.calls.call(
            GROUP,
            ApiKey.DESCRIBE_SHARE_GROUP_OFFSETS,
            lambda place: DescribeShareGroupOffsetsRequest(GROUP, place),
            timeout_ms=20_000,
        )
        return list(answer.offsets)

    def close(self) -> None:
        """Close the connections."""
        self.calls.close()
        self._metadata.close()
