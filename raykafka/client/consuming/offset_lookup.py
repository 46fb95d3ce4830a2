"""Asks partition leaders for offsets: first, last, and by timestamp (Kafka's ``ListOffsets``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from raykafka.client.cluster.deadline import Backoff, Deadline
from raykafka.client.cluster.leader_connections import LeaderConnections
from raykafka.client.consuming.fetch_plan import Leader
from raykafka.clock import Clock
from raykafka.errors import (
    ConnectionLostError,
    LeaderNotAvailableError,
    RaykafkaError,
    RequestTimedOutError,
    error_for,
)
from raykafka.model import Endpoint, IsolationLevel, OffsetAndTimestamp, TopicPartition
from raykafka.protocol.messages import (
    ApiKey,
    ListedOffset,
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsResponse,
)

Found = OffsetAndTimestamp | RaykafkaError
LeaderOf = Callable[[TopicPartition], "Leader | None"]


class OffsetLookup:
    """``ListOffsets`` over a consumer's own connections."""

    def __init__(
        self,
        connections: LeaderConnections,
        leader_of: LeaderOf,
        refresh: Callable[[str], None],
        *,
        isolation: IsolationLevel,
        request_timeout_ms: int,
        retry_backoff_ms: int,
        clock: Clock,
    ) -> None:
        """``refresh`` has a topic's metadata fetched again in the background."""
        self._connections = connections
        self._leader_of = leader_of
        self._refresh = refresh
        self._isolation = isolation
        self._request_timeout_ms = request_timeout_ms
        self._retry_backoff_ms = retry_backoff_ms
        self._clock = clock

    def find(
        self, timestamps: Mapping[TopicPartition, int], timeout_ms: int
    ) -> dict[TopicPartition, OffsetAndTimestamp]:
        """Answers for every partition; offset -1 where no record is that young.

        Raises the last error of a partition that could not be asked within ``timeout_ms``, and any
        error that asking again does not help, at once.
        """
        deadline = Deadline(self._clock, timeout_ms)
        backoff = Backoff(self._retry_backoff_ms)
        found: dict[TopicPartition, OffsetAndTimestamp] = {}
        while len(found) < len(timestamps):
            missing = {p: stamp for p, stamp in timestamps.items() if p not in found}
            failed: RaykafkaError | None = None
            for partition, answer in self.attempt(missing).items():
                if isinstance(answer, OffsetAndTimestamp):
                    found[partition] = answer
                    continue
                if not answer.retriable:
                    raise answer
                failed = answer
            if failed is None:
                continue
            pause = backoff.next_ms()
            if deadline.remaining_ms(pause + 1) <= pause:
                raise failed
            # Frames of open fetches that arrive meanwhile are taken, so the wait is not idle.
            self._connections.pump(pause)
        return found

    def attempt(self, timestamps: Mapping[TopicPartition, int]) -> dict[TopicPartition, Found]:
        """Ask each leader once; an error stands for each partition without an answer."""
        found: dict[TopicPartition, Found] = {}
        asked: dict[Endpoint, dict[TopicPartition, ListOffsetsPartition]] = {}
        for partition, timestamp in timestamps.items():
            leader = self._leader_of(partition)
            if leader is None:
                found[partition] = LeaderNotAvailableError(f"{partition} has no leader now")
                self._refresh(partition.topic)
                continue
            asked.setdefault(leader.endpoint, {})[partition] = ListOffsetsPartition(
                leader.topic_id, partition.partition, timestamp, leader.leader_epoch
            )
        for endpoint, partitions in asked.items():
            found.update(self._ask(endpoint, partitions))
        for partition, answer in found.items():
            if isinstance(answer, RaykafkaError) and answer.refresh_metadata:
                self._refresh(partition.topic)
        return found

    def _ask(
        self, endpoint: Endpoint, partitions: Mapping[TopicPartition, ListOffsetsPartition]
    ) -> dict[TopicPartition, Found]:
        connection = self._connections.get(endpoint)
        if connection is None:
            lost = ConnectionLostError(f"the leader at {endpoint} cannot be reached")
            return dict.fromkeys(partitions, lost)
        request = ListOffsetsRequest(list(partitions.values()), int(self._isolation))
        try:
            response, _ = connection.call(
                ApiKey.LIST_OFFSETS, request, timeout_ms=self._request_timeout_ms
            )
        except (ConnectionLostError, RequestTimedOutError) as error:
            self._connections.lose(endpoint)
            return dict.fromkeys(partitions, error)
        except RaykafkaError as error:
            return dict.fromkeys(partitions, error)
        self._connections.healthy(endpoint)
        assert isinstance(response, ListOffsetsResponse)
        answers = {(each.topic_id, each.partition): each for each in response.partitions}
        return {
            partition: _found(partition, answers.get((asked.topic_id, asked.partition)))
            for partition, asked in partitions.items()
        }


def _found(partition: TopicPartition, answer: ListedOffset | None) -> Found:
    if answer is None:
        return LeaderNotAvailableError(f"the leader did not answer for {partition}")
    if answer.error_code:
        return error_for(answer.error_code, f"{partition}: {answer.error_message}")
    return OffsetAndTimestamp(answer.offset, answer.timestamp, answer.leader_epoch)
