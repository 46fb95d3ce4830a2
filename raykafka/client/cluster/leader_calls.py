"""Requests about partitions, each asked of the partition's leader, with retries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

from raykafka.client.cluster.controller_link import CONNECT_TIMEOUT_MS
from raykafka.client.cluster.deadline import Backoff, Deadline
from raykafka.client.cluster.metadata import ClusterMetadata
from raykafka.clock import Clock
from raykafka.errors import (
    LeaderNotAvailableError,
    RaykafkaError,
    UnknownTopicOrPartitionError,
    error_for,
)
from raykafka.model import Endpoint, TopicPartition
from raykafka.network.client import Connection
from raykafka.protocol.messages import ApiKey, Message

A = TypeVar("A")


class Asked(NamedTuple, Generic[A]):
    """One partition of a request."""

    topic_id: str
    partition: int
    leader_epoch: int
    argument: A


class LeaderCalls:
    """Connections to leaders for calls that are made now and then. Not thread-safe."""

    def __init__(
        self,
        metadata: ClusterMetadata,
        *,
        client_id: str,
        request_timeout_ms: int,
        retry_backoff_ms: int,
        clock: Clock,
    ) -> None:
        self._metadata = metadata
        self._client_id = client_id
        self._request_timeout_ms = request_timeout_ms
        self._retry_backoff_ms = retry_backoff_ms
        self._clock = clock
        self._connections: dict[Endpoint, Connection] = {}

    def ask(
        self,
        api_key: ApiKey,
        arguments: Mapping[TopicPartition, A],
        make_request: Callable[[list[Asked[A]]], Message],
        timeout_ms: int,
    ) -> dict[TopicPartition, Any]:
        """The leaders' answers by partition; the response's entries name ``topic_id`` and
        ``partition`` and carry ``error_code``.

        Raises an error that asking again does not help at once, a retriable one when it persists
        for ``timeout_ms``; other partitions may have been served by then.
        """
        deadline = Deadline(self._clock, timeout_ms)
        backoff = Backoff(self._retry_backoff_ms)
        found: dict[TopicPartition, Any] = {}
        for topic in sorted({place.topic for place in arguments}):
            self._metadata.topic(topic, timeout_ms=deadline.remaining_ms(timeout_ms))
        while True:
            failed = self._attempt(api_key, arguments, make_request, found, deadline)
            if failed is None:
                return {place: found[place] for place in arguments}
            pause = backoff.next_ms()
            if not failed.retriable or deadline.remaining_ms(pause + 1) <= pause:
                raise failed
            self._metadata.pause(pause)
            stale = sorted({place.topic for place in arguments if place not in found})
            self._metadata.refresh(stale, timeout_ms=max(1, deadline.remaining_ms(timeout_ms)))

    def ask_leader(
        self,
        place: TopicPartition,
        api_key: ApiKey,
        make_request: Callable[[Asked[None]], Message],
        timeout_ms: int,
    ) -> Any:
        """The answer of one partition's leader to a request that is about nothing else.

        Raises like ``ask``.
        """
        deadline = Deadline(self._clock, timeout_ms)
        backoff = Backoff(self._retry_backoff_ms)
        self._metadata.topic(place.topic, timeout_ms=timeout_ms)
        while True:
            endpoint, entry = self._place(place, None)
            try:
                if endpoint is None:
                    raise LeaderNotAvailableError(f"{place} has no leader now")
                limit = max(1, deadline.remaining_ms(self._request_timeout_ms))
                return self.call(endpoint, api_key, make_request(entry), limit)
            except RaykafkaError as error:
                pause = backoff.next_ms()
                if not error.retriable or deadline.remaining_ms(pause + 1) <= pause:
                    raise
            self._metadata.pause(pause)
            left_ms = max(1, deadline.remaining_ms(timeout_ms))
            self._metadata.refresh([place.topic], timeout_ms=left_ms)

    def call(self, endpoint: Endpoint, api_key: ApiKey, request: Message, timeout_ms: int) -> Any:
        """One request to one listener; raises its error."""
        connection = self._connections.get(endpoint)
        if connection is None or connection.closed:
            connection = self._connections[endpoint] = Connection(
                endpoint,
                self._metadata.secret,
                client_id=self._client_id,
                connect_timeout_ms=max(1, min(CONNECT_TIMEOUT_MS, timeout_ms)),
            )
        try:
            return connection.call(api_key, request, timeout_ms=timeout_ms)[0]
        except RaykafkaError:
            # Whatever went wrong, a fresh connection next time costs little.
            self._connections.pop(endpoint).close()
            raise

    def close(self) -> None:
        """Close every connection."""
        while self._connections:
            self._connections.popitem()[1].close()

    def _attempt(
        self,
        api_key: ApiKey,
        arguments: Mapping[TopicPartition, A],
        make_request: Callable[[list[Asked[A]]], Message],
        found: dict[TopicPartition, Any],
        deadline: Deadline,
    ) -> RaykafkaError | None:
        """Ask about everything that is not in ``found`` yet; returns an error that came up."""
        failed: RaykafkaError | None = None
        asked: dict[Endpoint, dict[tuple[str, int], tuple[TopicPartition, Asked[A]]]] = {}
        for place, argument in arguments.items():
            if place in found:
                continue
            endpoint, entry = self._place(place, argument)
            if endpoint is None:
                failed = LeaderNotAvailableError(f"{place} has no leader now")
                continue
            asked.setdefault(endpoint, {})[entry.topic_id, entry.partition] = (place, entry)
        for endpoint, entries in asked.items():
            request = make_request([entry for _, entry in entries.values()])
            limit = max(1, deadline.remaining_ms(self._request_timeout_ms))
            try:
                answers = self.call(endpoint, api_key, request, limit).partitions
            except RaykafkaError as error:
                if not error.retriable:
                    raise
                failed = error
                continue
            for answer in answers:
                place, _ = entries[answer.topic_id, answer.partition]
                if answer.error_code == 0:
                    found[place] = answer
                    continue
                failed = error_for(answer.error_code, f"{place}: {answer.error_message}")
                if not failed.retriable:
                    raise failed
        return failed

    def _place(self, place: TopicPartition, argument: A) -> tuple[Endpoint | None, Asked[A]]:
        topic = self._metadata.cached(place.topic)
        if topic is None:
            raise UnknownTopicOrPartitionError(f"topic {place.topic!r} does not exist any more")
        if not 0 <= place.partition < len(topic.partitions):
            self._metadata.partition(place.topic, place.partition)
            return self._place(place, argument)
        found = topic.partitions[place.partition]
        entry = Asked(topic.topic_id, place.partition, found.leader_epoch, argument)
        return found.endpoint, entry
