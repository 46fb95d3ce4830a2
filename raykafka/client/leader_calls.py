"""Requests about partitions, each sent to the partition's leader, until every one is answered."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

from raykafka.client.deadline import Backoff, Deadline
from raykafka.client.fetch_plan import Leader
from raykafka.client.leader_connections import LeaderConnections
from raykafka.client.metadata import ClusterMetadata
from raykafka.clock import Clock
from raykafka.errors import (
    ConnectionLostError,
    LeaderNotAvailableError,
    RaykafkaError,
    RequestTimedOutError,
    error_for,
)
from raykafka.model import Endpoint, TopicPartition
from raykafka.protocol.messages import ApiKey, Message

Item = Callable[[TopicPartition, Leader], Any]
"""Makes a partition's entry in a request."""
Request = Callable[[list[Any]], tuple[ApiKey, Message]]
"""Makes the request to one leader of its partitions' entries."""


class LeaderCalls:
    """Thread-safe; one call at a time. Connections are kept for the next one."""

    def __init__(
        self, metadata: ClusterMetadata, *, client_id: str, timeout_ms: int, clock: Clock
    ) -> None:
        self._metadata = metadata
        self._timeout_ms = timeout_ms
        self._clock = clock
        self._lock = threading.Lock()
        self._connections = LeaderConnections(
            lambda: metadata.secret,
            client_id=client_id,
            clock=clock,
            retry_backoff_ms=20,
            request_timeout_ms=timeout_ms,
        )

    def close(self) -> None:
        """Close every connection."""
        with self._lock:
            self._connections.close()

    def each(
        self, partitions: Iterable[TopicPartition], item: Item, request: Request
    ) -> dict[TopicPartition, Any]:
        """One answer per partition; retriable errors are retried at the leader of that moment.

        Raises any other error, and the last retriable one when time is up.
        """
        wanted = list(partitions)
        deadline = Deadline(self._clock, self._timeout_ms)
        backoff = Backoff(20)
        found: dict[TopicPartition, Any] = {}
        with self._lock:
            while True:
                failed: RaykafkaError | None = None
                missing = [partition for partition in wanted if partition not in found]
                for partition, answer in self._attempt(missing, item, request).items():
                    if not isinstance(answer, RaykafkaError):
                        found[partition] = answer
                    elif not answer.retriable:
                        raise answer
                    else:
                        failed = answer
                if failed is None:
                    return found
                pause = backoff.next_ms()
                if deadline.remaining_ms(pause + 1) <= pause:
                    raise failed
                self._connections.pump(pause)
                self._metadata.refresh({p.topic for p in wanted if p not in found})

    def call(self, host: str, port: int, api_key: ApiKey, request: Message) -> Any:
        """One request to one listener. Raises ``ConnectionLostError`` when it is not there."""
        with self._lock:
            return self._call(Endpoint(host, port), api_key, request)

    def _attempt(
        self, partitions: list[TopicPartition], item: Item, request: Request
    ) -> dict[TopicPartition, Any]:
        found: dict[TopicPartition, Any] = {}
        asked: dict[Endpoint, dict[tuple[str, int], TopicPartition]] = {}
        items: dict[Endpoint, list[Any]] = {}
        for partition in partitions:
            topic = self._metadata.topic(partition.topic, timeout_ms=self._timeout_ms)
            known = self._metadata.partition(*partition, timeout_ms=self._timeout_ms)
            if known.endpoint is None:
                found[partition] = LeaderNotAvailableError(f"{partition} has no leader now")
                continue
            leader = Leader(known.endpoint, topic.topic_id, known.leader_epoch)
            asked.setdefault(known.endpoint, {})[topic.topic_id, partition.partition] = partition
            items.setdefault(known.endpoint, []).append(item(partition, leader))
        for endpoint, of_id in asked.items():
            try:
                response = self._call(endpoint, *request(items[endpoint]))
            except RaykafkaError as error:
                found.update(dict.fromkeys(of_id.values(), error))
                continue
            for answer in response.partitions:
                partition = of_id[answer.topic_id, answer.partition]
                found[partition] = (
                    error_for(answer.error_code, f"{partition}: {answer.error_message}")
                    if answer.error_code
                    else answer
                )
        return found

    def _call(self, endpoint: Endpoint, api_key: ApiKey, request: Message) -> Any:
        connection = self._connections.get(endpoint)
        if connection is None:
            raise ConnectionLostError(f"the listener at {endpoint} cannot be reached")
        try:
            response, _ = connection.call(api_key, request, timeout_ms=self._timeout_ms)
        except (ConnectionLostError, RequestTimedOutError):
            self._connections.lose(endpoint)
            raise
        self._connections.healthy(endpoint)
        return response
