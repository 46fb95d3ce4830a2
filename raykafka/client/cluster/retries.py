"""When partitions and leaders that failed may be tried again."""

from __future__ import annotations

import logging

from raykafka.client.cluster.deadline import Backoff
from raykafka.clock import Clock
from raykafka.errors import RaykafkaError, UnknownServerError
from raykafka.model import TopicPartition

logger = logging.getLogger(__name__)


class Retries:
    """A pause per partition that grows with each failure in a row, and the next one to end."""

    def __init__(self, clock: Clock, retry_backoff_ms: int) -> None:
        self._clock = clock
        self._retry_backoff_ms = retry_backoff_ms
        self._pauses: dict[TopicPartition, tuple[Backoff, int]] = {}
        self._next_ms: int | None = None

    def pause(self, partition: TopicPartition) -> None:
        """Leave a partition alone for a while."""
        known = self._pauses.get(partition)
        backoff = known[0] if known else Backoff(self._retry_backoff_ms)
        until_ms = self._clock.monotonic_ms() + backoff.next_ms()
        self._pauses[partition] = backoff, until_ms
        self.at(until_ms)

    def settled(self, partition: TopicPartition) -> None:
        """The partition works, or is another one's concern: its next failure is the first."""
        if self._pauses:
            self._pauses.pop(partition, None)

    def waits(self, partition: TopicPartition) -> bool:
        """Whether the partition's pause is not over; if so, ``due`` will be true when it is."""
        known = self._pauses.get(partition)
        if known is None or self._clock.monotonic_ms() >= known[1]:
            return False
        self.at(known[1])
        return True

    def at(self, monotonic_ms: int) -> None:
        """Be due at that time at the latest."""
        if self._next_ms is None or monotonic_ms < self._next_ms:
            self._next_ms = monotonic_ms

    @property
    def due(self) -> bool:
        """Whether a pause has ended since ``start``."""
        return self._next_ms is not None and self._clock.monotonic_ms() >= self._next_ms

    def start(self) -> None:
        """Begin a round of attempts; whoever still waits says so again."""
        self._next_ms = None

    def remaining_ms(self, at_most_ms: int) -> int:
        """Milliseconds until ``due``, at most ``at_most_ms``."""
        if self._next_ms is None:
            return at_most_ms
        return max(0, min(at_most_ms, self._next_ms - self._clock.monotonic_ms()))


def may_pass(error: RaykafkaError) -> bool:
    """Whether to try again: also after a server's own mistake, of which its log tells more, as
    Kafka's consumer does.
    """
    if isinstance(error, UnknownServerError):
        logger.warning("a server made a mistake: %s", error)
        return True
    return error.retriable
