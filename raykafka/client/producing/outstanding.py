"""The batches of a producer that have been sent and not answered, and leaders that owe for long."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from raykafka.client.cluster.metadata import ClusterMetadata
from raykafka.client.producing.delivery import Delivery
from raykafka.client.producing.partition_queue import PartitionQueue
from raykafka.model import Endpoint

SUSPECT_MS: Final = 500
"""A leader that owes an answer for so long may have been replaced without a word."""


class Outstanding:
    """Owned by whoever holds the sender's turn."""

    __slots__ = ("_counts", "_sent_to")

    def __init__(self) -> None:
        self._sent_to: dict[Delivery, tuple[Endpoint, PartitionQueue]] = {}
        self._counts: dict[Endpoint, int] = {}

    def __len__(self) -> int:
        return len(self._sent_to)

    @property
    def endpoints(self) -> Iterable[Endpoint]:
        """Leaders that owe an answer."""
        return self._counts.keys()

    def sole_endpoint(self) -> Endpoint | None:
        """The only leader that owes an answer; None unless it is exactly one."""
        if len(self._counts) != 1:
            return None
        (endpoint,) = self._counts
        return endpoint

    def add(self, delivery: Delivery, endpoint: Endpoint, queue: PartitionQueue) -> None:
        """A batch is on its way."""
        self._sent_to[delivery] = endpoint, queue
        self._counts[endpoint] = self._counts.get(endpoint, 0) + 1

    def remove(self, delivery: Delivery) -> Endpoint | None:
        """A batch was answered or given up; where it had been sent to, None if it was not out."""
        sent_to = self._sent_to.pop(delivery, None)
        if sent_to is None:
            return None
        endpoint = sent_to[0]
        count = self._counts.pop(endpoint) - 1
        if count:
            self._counts[endpoint] = count
        return endpoint

    def silent(self, now_ms: int, timeout_ms: int, metadata: ClusterMetadata) -> set[Endpoint]:
        """Leaders to be given up: they owe for ``timeout_ms``, or somebody else leads by now.

        A machine that is cut off tells nobody, so the controller is asked who leads.
        """
        found = set()
        for delivery, (endpoint, queue) in self._sent_to.items():
            age_ms = now_ms - delivery.sent_ms
            if age_ms > SUSPECT_MS:
                metadata.request_refresh(queue.topic)
                if age_ms > timeout_ms or _has_moved(metadata, queue, endpoint):
                    found.add(endpoint)
        return found


def _has_moved(metadata: ClusterMetadata, queue: PartitionQueue, endpoint: Endpoint) -> bool:
    topic = metadata.cached(queue.topic)
    if topic is None or queue.partition >= len(topic.partitions):
        return False
    return topic.partitions[queue.partition].endpoint not in (None, endpoint)
