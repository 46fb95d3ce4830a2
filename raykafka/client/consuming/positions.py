"""Finds positions for partitions that have none: committed offsets, or the reset policy's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from raykafka.client.cluster.retries import Retries
from raykafka.client.consuming.offset_lookup import OffsetLookup
from raykafka.client.consuming.subscription import RESET_TIMESTAMPS, Subscription
from raykafka.client.consuming.topic_view import TopicView
from raykafka.errors import (
    NoOffsetForPartitionError,
    RaykafkaError,
    UnknownTopicOrPartitionError,
)
from raykafka.model import OffsetAndTimestamp, TopicPartition

LookUpCommitted = Callable[
    [Sequence[TopicPartition]], Mapping[TopicPartition, "int | RaykafkaError | None"]
]
"""The committed offset of each partition, None where there is none, or why it is not known."""


class Positions:
    """Applies ``auto_offset_reset`` and requests like ``seek_to_end``. Not thread-safe."""

    def __init__(
        self,
        policy: str,
        subscription: Subscription,
        topics: TopicView,
        lookup: OffsetLookup,
        retries: Retries,
    ) -> None:
        self._policy = policy
        self._subscription = subscription
        self._topics = topics
        self._lookup = lookup
        self._retries = retries
        self.look_up_committed: LookUpCommitted | None = None
        """Set for a consumer with a group."""

    def recreated(self) -> list[TopicPartition]:
        """Partitions whose topic is another one than before: deleted, and made anew by that name.

        Their positions mean nothing any more and are forgotten.
        """
        found = []
        for partition in self._subscription:
            state = self._subscription.state(partition)
            if self._subscription.managed and self._retries.waits(partition):
                continue
            try:
                topic_id = self._topics.topic(partition.topic).topic_id
            except UnknownTopicOrPartitionError:
                if not self._subscription.managed:
                    raise
                state.missing = True
                self._retries.pause(partition)
                continue
            state.missing = False
            if state.topic_id not in ("", topic_id):
                self._subscription.reset(partition, None)
                found.append(partition)
            state.topic_id = topic_id
        return found

    def look_up(self) -> None:
        """Ask once for every missing position; what could not be found is tried again later.

        Raises ``NoOffsetForPartitionError`` where the policy is ``none``.
        """
        self._use_committed()
        asked: dict[TopicPartition, int] = {}
        for partition in self._subscription.unpositioned():
            if self._awaits_committed(partition):
                continue
            timestamp = self._subscription.state(partition).reset_timestamp
            if timestamp is None:
                timestamp = RESET_TIMESTAMPS.get(self._policy)
            if timestamp is None:
                raise NoOffsetForPartitionError(
                    f"{partition} has no position and auto_offset_reset is none; seek() first"
                )
            if not self._retries.waits(partition):
                asked[partition] = timestamp
        if not asked:
            return
        for partition, answer in self._lookup.attempt(asked).items():
            if isinstance(answer, OffsetAndTimestamp):
                self._retries.settled(partition)
                self._subscription.seek(partition, answer.offset)
            elif answer.retriable:
                self._retries.pause(partition)
            else:
                raise answer

    def _use_committed(self) -> None:
        """Ask once for committed offsets, where they come before the reset policy."""
        if self.look_up_committed is None:
            return
        asked = [
            partition
            for partition in self._subscription.unpositioned()
            if self._awaits_committed(partition) and not self._retries.waits(partition)
        ]
        if not asked:
            return
        for partition, answer in self.look_up_committed(asked).items():
            if isinstance(answer, RaykafkaError):
                if not answer.retriable:
                    raise answer
                self._retries.pause(partition)
                continue
            self._retries.settled(partition)
            self._subscription.state(partition).asks_committed = False
            if answer is not None:
                self._subscription.seek(partition, answer)

    def _awaits_committed(self, partition: TopicPartition) -> bool:
        state = self._subscription.state(partition)
        asks = self.look_up_committed is not None and state.asks_committed
        return asks and state.reset_timestamp is None

    def out_of_range(self, partition: TopicPartition, offset: int) -> bool:
        """Reset a partition that stands outside of its log; False if the policy is to complain."""
        if self._policy not in RESET_TIMESTAMPS:
            return False
        if self._subscription.state(partition).position == offset:
            self._subscription.reset(partition, None)
        return True
