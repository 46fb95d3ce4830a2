"""Requests to coordinators: the leaders of the partitions of an internal topic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from raykafka.client.cluster.controller_link import CONNECT_TIMEOUT_MS
from raykafka.client.cluster.deadline import Backoff, Deadline
from raykafka.client.cluster.metadata import ClusterMetadata, TopicMetadata
from raykafka.clock import Clock
from raykafka.errors import (
    ClientClosedError,
    ConnectionLostError,
    CoordinatorNotAvailableError,
    RaykafkaError,
    RequestTimedOutError,
    UnknownTopicOrPartitionError,
    raise_for,
)
from raykafka.internal_topics import coordinator_partition
from raykafka.model import Endpoint
from raykafka.network.client import Connection
from raykafka.protocol.group_messages import FindCoordinatorRequest
from raykafka.protocol.messages import ApiKey, Message

_LONGEST_PAUSE_MS: Final = 250
"""A coordinator moves in some tens of milliseconds, so nobody waits long before asking again."""
_LOOK_AGAIN_MS: Final = 1000
"""A coordinator that has not answered for so long may have been replaced without its connection
having been closed; whoever leads by now is asked instead."""

MakeRequest = Callable[[int], Message]
"""Makes a request for the partition whose leader is the coordinator."""


class CoordinatorCalls:
    """Calls to the coordinators of one internal topic, repeated while their error is retriable.

    The coordinator of a key is the leader of the key's partition, found through the metadata like
    any other; the topic is made when it is asked for the first time. Coordinators that moved, that
    are loading, lost connections and silence lead to the metadata being asked for again and to
    another attempt. Not thread-safe, but for ``interrupt``; the metadata may be shared.
    """

    def __init__(
        self,
        metadata: ClusterMetadata,
        topic: str,
        *,
        client_id: str,
        request_timeout_ms: int,
        retry_backoff_ms: int,
        clock: Clock,
    ) -> None:
        """``topic`` is one of ``internal_topics``. Nobody is contacted."""
        self._metadata = metadata
        self._topic = topic
        self._client_id = client_id
        self._request_timeout_ms = request_timeout_ms
        self._retry_backoff_ms = retry_backoff_ms
        self._clock = clock
        self._connections: dict[Endpoint, Connection] = {}
        self._closed = False

    def call(
        self, key: str, api_key: ApiKey, make_request: MakeRequest, *, timeout_ms: float | None
    ) -> Any:
        """The answer of the coordinator of ``key``, a group id or a transactional id.

        Raises an error that asking again does not help at once, the last retriable one when
        ``timeout_ms`` are over; whether the request took effect is not known after
        ``RequestTimedOutError`` and ``ConnectionLostError``.
        """
        deadline = Deadline(self._clock, timeout_ms)
        return self._repeat(
            lambda: self.attempt(key, api_key, make_request, deadline), deadline, timeout_ms
        )

    def call_partition(
        self, partition: int, api_key: ApiKey, request: Message, *, timeout_ms: float | None
    ) -> Any:
        """The same for the coordinator that a partition of the topic makes; see ``call``."""
        deadline = Deadline(self._clock, timeout_ms)
        return self._repeat(
            lambda: self._ask(partition, api_key, request, deadline), deadline, timeout_ms
        )

    def attempt(
        self, key: str, api_key: ApiKey, make_request: MakeRequest, deadline: Deadline
    ) -> Any:
        """One attempt of ``call``; raises whatever error comes up. Metadata are fresh then."""
        partition = self.partition_of(key, deadline)
        return self._ask(partition, api_key, make_request(partition), deadline)

    def partition_of(self, key: str, deadline: Deadline) -> int:
        """The partition that ``key`` belongs to; makes the topic where it is not there yet."""
        return coordinator_partition(key, len(self._topic_metadata(deadline).partitions))

    def leader_of(self, partition: int, deadline: Deadline) -> Endpoint | None:
        """Where the partition's leader listens, as far as is known; None while nobody leads."""
        partitions = self._topic_metadata(deadline).partitions
        return partitions[partition].endpoint if partition < len(partitions) else None

    def refresh(self, deadline: Deadline) -> None:
        """Ask who leads; where nobody answers, what is known has to do."""
        try:
            self._metadata.refresh(
                [self._topic], timeout_ms=max(1, deadline.remaining_ms(_LOOK_AGAIN_MS))
            )
        except ClientClosedError:
            raise
        except RaykafkaError:
            return

    def partition_count(self, *, timeout_ms: float | None) -> int:
        """How many partitions the topic has; 0 while nobody has used it, and it is not made."""
        try:
            return len(self._metadata.topic(self._topic, timeout_ms=timeout_ms).partitions)
        except UnknownTopicOrPartitionError:
            return 0

    def pause(self, milliseconds: int) -> None:
        """Wait, but not past the end of the metadata; raises ``ClientClosedError`` then."""
        self._metadata.pause(milliseconds)

    def interrupt(self) -> None:
        """Make a call that waits in another thread end, and every later one. Thread-safe."""
        self._closed = True
        for connection in list(self._connections.values()):
            connection.interrupt()

    def close(self) -> None:
        """Close the connections; calls raise ``ClientClosedError`` from now on. Idempotent."""
        self._closed = True
        while self._connections:
            self._connections.popitem()[1].close()

    # --- inside -----------------------------------------------------------------------------------

    def _repeat(
        self, attempt: Callable[[], Any], deadline: Deadline, timeout_ms: float | None
    ) -> Any:
        backoff = Backoff(self._retry_backoff_ms, _LONGEST_PAUSE_MS)
        while True:
            try:
                return attempt()
            except RaykafkaError as error:
                pause = backoff.next_ms()
                if not error.retriable or deadline.remaining_ms(pause + 1) <= pause:
                    raise
            self._metadata.pause(pause)

    def _topic_metadata(self, deadline: Deadline) -> TopicMetadata:
        known = self._metadata.cached(self._topic)
        if known is not None:
            return known
        timeout_ms = max(1, deadline.remaining_ms(self._request_timeout_ms))
        request = FindCoordinatorRequest(self._topic)
        found = self._metadata.call(ApiKey.FIND_COORDINATOR, request, timeout_ms=timeout_ms)
        raise_for(found.error_code, found.error_message)
        timeout_ms = max(1, deadline.remaining_ms(self._request_timeout_ms))
        return self._metadata.topic(self._topic, timeout_ms=timeout_ms)

    def _ask(self, partition: int, api_key: ApiKey, request: Message, deadline: Deadline) -> Any:
        if self._closed:
            raise ClientClosedError()
        endpoint = self.leader_of(partition, deadline)
        try:
            if endpoint is None:
                raise CoordinatorNotAvailableError(
                    f"{self._topic}-{partition} has no leader now, so nobody is the coordinator"
                )
            return self._ask_at(endpoint, partition, api_key, request, deadline)
        except RaykafkaError as error:
            if self._closed:
                raise ClientClosedError() from error
            if error.retriable:
                self.refresh(deadline)
            raise

    def _ask_at(
        self,
        endpoint: Endpoint,
        partition: int,
        api_key: ApiKey,
        request: Message,
        deadline: Deadline,
    ) -> Any:
        """The answer of whoever listens there, unless somebody else is the coordinator by now."""
        limit = Deadline(self._clock, deadline.remaining_ms(self._request_timeout_ms))
        answers: list[Message | RaykafkaError] = []
        connection = self._connection(endpoint, limit)
        try:
            connection.send(api_key, request, on_response=lambda answer, _: answers.append(answer))
            while not answers:
                connection.pump(limit.remaining_ms(_LOOK_AGAIN_MS))
                if not answers and (limit.expired or self._has_moved(endpoint, partition, limit)):
                    raise RequestTimedOutError(
                        f"the coordinator at {endpoint} did not answer {api_key.name}"
                    )
        except (ConnectionLostError, RequestTimedOutError):
            self._drop(endpoint)
            raise
        answer = answers[0]
        if isinstance(answer, RaykafkaError):
            raise answer
        return answer

    def _has_moved(self, endpoint: Endpoint, partition: int, limit: Deadline) -> bool:
        self.refresh(limit)
        return self._closed or self.leader_of(partition, limit) != endpoint

    def _connection(self, endpoint: Endpoint, limit: Deadline) -> Connection:
        connection = self._connections.get(endpoint)
        if connection is None or connection.closed:
            connection = self._connections[endpoint] = Connection(
                endpoint,
                self._metadata.secret,
                client_id=self._client_id,
                connect_timeout_ms=max(1, limit.remaining_ms(CONNECT_TIMEOUT_MS)),
            )
            if self._closed:
                self._drop(endpoint)
                raise ClientClosedError()
        return connection

    def _drop(self, endpoint: Endpoint) -> None:
        connection = self._connections.pop(endpoint, None)
        if connection is not None:
            connection.close()
