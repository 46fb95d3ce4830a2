"""Where a group stands in each partition: what a consumer commits, and where it goes on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from raykafka.client.cluster.metadata import ClusterMetadata
from raykafka.client.consuming.subscription import Subscription
from raykafka.client.grouping.coordinator_calls import CoordinatorCalls
from raykafka.client.grouping.offsets import GroupOffsets
from raykafka.clock import Clock
from raykafka.config import ConsumerConfig
from raykafka.errors import RaykafkaError, error_for
from raykafka.model import (
    ConsumerGroupMetadata,
    IsolationLevel,
    OffsetAndMetadata,
    TopicPartition,
)
from raykafka.protocol.group_messages import FetchedOffset

logger = logging.getLogger(__name__)

_NEVER_MS: Final = 1 << 62


class GroupPositions:
    """Positions of a consumer and offsets of its group. For the consumer's own thread."""

    def __init__(
        self,
        config: ConsumerConfig,
        metadata: ClusterMetadata,
        subscription: Subscription,
        calls: CoordinatorCalls,
        identity: Callable[[], ConsumerGroupMetadata],
        on_stale: Callable[[], None],
        clock: Clock,
    ) -> None:
        """``identity`` and ``on_stale`` as for ``GroupOffsets``."""
        self._config = config
        self._metadata = metadata
        self._subscription = subscription
        self._identity = identity
        self._clock = clock
        self.automatic = config.enable_auto_commit
        """Whether positions are committed without being asked for."""
        self.due_ms = _NEVER_MS
        """Monotonic time of the next automatic commit."""
        if self.automatic:
            self.due_ms = clock.monotonic_ms() + config.auto_commit_interval_ms
        self.offsets = GroupOffsets(
            calls,
            config.group_id,
            identity=identity,
            topic_id_of=self.topic_id_of,
            on_stale=on_stale,
            clock=clock,
            request_timeout_ms=config.request_timeout_ms,
            retry_backoff_ms=config.retry_backoff_ms,
        )

    def serve(self) -> None:
        """Call back for commits that are done, and commit what is due."""
        self.offsets.call_back()
        if self._clock.monotonic_ms() >= self.due_ms:
            self._auto_commit()

    def consumed(self, places: Iterable[TopicPartition]) -> dict[TopicPartition, OffsetAndMetadata]:
        """The positions of these partitions, of those that have one."""
        found = {}
        for place in places:
            position = self._subscription.position(place)
            if position is not None:
                found[place] = OffsetAndMetadata(position)
        return found

    def committed(
        self, places: Sequence[TopicPartition], timeout_ms: int
    ) -> dict[TopicPartition, OffsetAndMetadata | None]:
        """What the group has committed for the topics of today; None for nothing."""
        found = self.offsets.fetch(places, require_stable=self._stable, timeout_ms=timeout_ms)
        return {place: self._current(place, found.get(place)) for place in places}

    def look_up_committed(
        self, places: Sequence[TopicPartition]
    ) -> dict[TopicPartition, int | RaykafkaError | None]:
        """See ``LookUpCommitted``; asks once."""
        timeout_ms = self._config.request_timeout_ms
        try:
            found = self.offsets.fetch(
                places, require_stable=self._stable, timeout_ms=timeout_ms, once=True
            )
        except RaykafkaError as error:
            return dict.fromkeys(places, error)
        answers: dict[TopicPartition, int | RaykafkaError | None] = {}
        for place in places:
            try:
                current = self._current(place, found.get(place))
            except RaykafkaError as error:
                answers[place] = error
            else:
                answers[place] = None if current is None else current.offset
        return answers

    @property
    def _stable(self) -> bool:
        return self._config.isolation_level is IsolationLevel.READ_COMMITTED

    def _current(
        self, place: TopicPartition, found: FetchedOffset | None
    ) -> OffsetAndMetadata | None:
        if found is None or (found.offset < 0 and not found.error_code):
            return None
        if found.error_code:
            raise error_for(found.error_code, f"{place}: {found.error_message}")
        if found.topic_id and found.topic_id != self.topic_id_of(place):
            return None  # of a topic that was deleted
        return OffsetAndMetadata(found.offset, found.metadata, found.leader_epoch)

    def topic_id_of(self, place: TopicPartition) -> str:
        """Which topic of that name the position of a partition belongs to."""
        if place in self._subscription:
            topic_id = self._subscription.state(place).topic_id
            if topic_id:
                return topic_id
        timeout_ms = self._config.request_timeout_ms
        return self._metadata.topic(place.topic, timeout_ms=timeout_ms).topic_id

    def commit_if_automatic(self, places: Iterable[TopicPartition], timeout_ms: int) -> None:
        """The automatic commit before partitions are given up; that it failed is logged."""
        offsets = self.consumed(places) if self.automatic else {}
        if not offsets:
            return
        try:
            self.offsets.commit(offsets, timeout_ms)
        except RaykafkaError as error:
            _log_failure(offsets, error)

    def _auto_commit(self) -> None:
        self.due_ms = self._clock.monotonic_ms() + self._config.auto_commit_interval_ms
        offsets = self.consumed(self._subscription)
        if not offsets:
            return
        try:
            self._identity()
            self.offsets.commit_later(offsets, _log_failure)
        except RaykafkaError as error:
            _log_failure(offsets, error)


def _log_failure(
    offsets: Mapping[TopicPartition, OffsetAndMetadata], error: RaykafkaError | None
) -> None:
    if error is not None:
        listed = ", ".join(f"{place}: {each.offset}" for place, each in offsets.items())
        logger.warning("the automatic commit of %s failed: %s", listed, error)
