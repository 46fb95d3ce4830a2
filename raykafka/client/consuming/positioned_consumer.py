"""What a consumer does with the partitions it has: positions, pauses, offsets that it looks up."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from raykafka.client.cluster.bootstrap import Bootstrap
from raykafka.client.cluster.deadline import Deadline
from raykafka.client.consuming.consumer_parts import assemble
from raykafka.client.consuming.subscription import checked
from raykafka.clock import Clock, SystemClock
from raykafka.config import ConsumerConfig
from raykafka.errors import (
    ClientClosedError,
    IllegalStateError,
    InvalidRequestError,
    UnknownTopicOrPartitionError,
)
from raykafka.model import (
    EARLIEST_TIMESTAMP,
    LATEST_TIMESTAMP,
    OffsetAndTimestamp,
    TopicPartition,
)


class PositionedConsumer:
    """The part of ``Consumer`` that knows how far it has come."""

    def __init__(
        self,
        bootstrap: Bootstrap,
        config: ConsumerConfig | None = None,
        *,
        clock: Clock | None = None,
        **settings: object,
    ) -> None:
        """Make a consumer without contacting anybody.

        ``settings`` are keys such as ``auto_offset_reset="earliest"``; or ``config`` holds all of
        them. Raises ``InvalidConfigError`` for unknown keys and invalid values.
        """
        if config is not None and settings:
            raise InvalidRequestError(
                f"give either a ConsumerConfig or settings, not both ({', '.join(settings)})"
            )
        self._config = config if config is not None else ConsumerConfig.parse(settings)
        self._clock = clock if clock is not None else SystemClock()
        # A rebalance listener, called within a poll, may call the consumer.
        self._lock = threading.RLock()
        self._closed = False
        parts = assemble(bootstrap, self._config, self._clock)
        self._subscription = parts.subscription
        self._metadata = parts.metadata
        self._connections = parts.connections
        self._lookup = parts.lookup
        self._fetcher = parts.fetcher
        self._reader = parts.reader
        self._group = parts.group
        if parts.group is not None:
            # One that is dropped without having been closed must not stay a member for ever.
            weakref.finalize(self, parts.group.abandon).atexit = False

    def assignment(self) -> set[TopicPartition]:
        """The partitions assigned."""
        return set(self._subscription)

    def pause(self, *partitions: TopicPartition) -> None:
        """Return no records of these partitions (all, without arguments) until ``resume``."""
        with self._exclusive():
            self._subscription.paused.update(self._subscription.selected(partitions))
            self._fetcher.changed()

    def resume(self, *partitions: TopicPartition) -> None:
        """Return records of these partitions (all, without arguments) again."""
        with self._exclusive():
            self._subscription.paused.difference_update(self._subscription.selected(partitions))
            self._fetcher.changed()

    def paused(self) -> set[TopicPartition]:
        """The assigned partitions that are paused."""
        return set(self._subscription.paused)

    # --- positions --------------------------------------------------------------------------------

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Read the partition on at ``offset``, from the next ``poll`` on.

        An offset outside of the log is noticed by ``poll``, which applies ``auto_offset_reset``.
        Raises ``IllegalStateError`` for a partition that is not assigned.
        """
        check_from_zero("an offset", offset)
        with self._exclusive():
            partition = checked(partition)
            self._subscription.seek(partition, offset)
            self._fetcher.forget(partition)

    def seek_to_beginning(self, *partitions: TopicPartition) -> None:
        """Read these partitions (all, without arguments) from their first record on."""
        self._reset(partitions, EARLIEST_TIMESTAMP)

    def seek_to_end(self, *partitions: TopicPartition) -> None:
        """Read these partitions (all, without arguments) from their end on.

        The end is looked up by the next ``poll`` or ``position``.
        """
        self._reset(partitions, LATEST_TIMESTAMP)

    def _reset(self, partitions: Iterable[TopicPartition], timestamp: int) -> None:
        with self._exclusive():
            for partition in self._subscription.selected(partitions):
                self._subscription.reset(partition, timestamp)
                self._fetcher.forget(partition)

    def position(self, partition: TopicPartition, timeout_ms: int | None = None) -> int:
        """Offset of the next record that will be returned.

        Looks it up if there is none yet; raises ``RequestTimedOutError`` when that takes longer
        than ``timeout_ms`` (by default ``request_timeout_ms``), ``NoOffsetForPartitionError`` with
        ``auto_offset_reset=none``, ``IllegalStateError`` for a partition not assigned.
        """
        with self._exclusive():
            left_ms = self._know([checked(partition)], timeout_ms)
            return self._reader.find_position(partition, left_ms)

    def beginning_offsets(
        self, partitions: Iterable[TopicPartition], timeout_ms: int | None = None
    ) -> dict[TopicPartition, int]:
        """Offset of the first record of each partition, assigned or not."""
        return self._listed(partitions, EARLIEST_TIMESTAMP, timeout_ms)

    def end_offsets(
        self, partitions: Iterable[TopicPartition], timeout_ms: int | None = None
    ) -> dict[TopicPartition, int]:
        """Offset after the last readable record of each partition, assigned or not."""
        return self._listed(partitions, LATEST_TIMESTAMP, timeout_ms)

    def _listed(
        self, partitions: Iterable[TopicPartition], timestamp: int, timeout_ms: int | None
    ) -> dict[TopicPartition, int]:
        asked = {checked(partition): timestamp for partition in partitions}
        with self._exclusive():
            found = self._lookup.find(asked, self._know(asked, timeout_ms))
        return {partition: found[partition].offset for partition in asked}

    def offsets_for_times(
        self, timestamps: Mapping[TopicPartition, int], timeout_ms: int | None = None
    ) -> dict[TopicPartition, OffsetAndTimestamp | None]:
        """The first record at or after each time (ms since the epoch); None where there is none.

        Raises ``InvalidRequestError`` for a negative time, the last error of a partition whose
        leader could not be asked within ``timeout_ms``.
        """
        asked = {checked(partition): stamp for partition, stamp in timestamps.items()}
        for partition, stamp in asked.items():
            check_from_zero(f"the time for {partition}, in milliseconds,", stamp)
        with self._exclusive():
            found = self._lookup.find(asked, self._know(asked, timeout_ms))
        return {p: found[p] if found[p].offset >= 0 else None for p in asked}

    # --- topics -----------------------------------------------------------------------------------

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        """Numbers of the topic's partitions, None if there is no such topic."""
        with self._exclusive():
            timeout_ms = self._config.request_timeout_ms
            try:
                found = self._metadata.topic(topic, timeout_ms=timeout_ms)
            except UnknownTopicOrPartitionError:
                return None
            return {partition.partition for partition in found.partitions}

    def topics(self) -> set[str]:
        """Names of all topics of the cluster, asked for now."""
        with self._exclusive():
            return set(self._metadata.all_topics(timeout_ms=self._config.request_timeout_ms))

    # --- inside -----------------------------------------------------------------------------------

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """One call at a time, none after ``close``; positions are those of what was returned.

        What is called per record or per poll does the same by hand, to save the two microseconds.
        """
        self._acquire()
        try:
            self._reader.settle()
            yield
        finally:
            self._lock.release()

    def _acquire(self) -> None:
        if not self._lock.acquire(blocking=False):
            raise IllegalStateError(
                "the consumer is in use by another thread; give each thread a consumer of its own"
            )
        if self._closed:
            self._lock.release()
            raise ClientClosedError("the consumer is closed; make a new one")

    def _know(self, partitions: Iterable[TopicPartition], timeout_ms: int | None) -> int:
        """Have metadata of the topics within ``timeout_ms``; returns how much of it is left."""
        if timeout_ms is None:
            timeout_ms = self._config.request_timeout_ms
        deadline = Deadline(self._clock, timeout_ms)
        for topic in {partition.topic for partition in partitions}:
            if self._metadata.cached(topic) is None:
                self._metadata.topic(topic, timeout_ms=deadline.remaining_ms(timeout_ms))
        return int(deadline.remaining_ms(timeout_ms))


def check_from_zero(what: str, number: object) -> None:
    """Raise ``InvalidRequestError`` for what is not an integer from 0."""
    valid = isinstance(number, int) and not isinstance(number, bool) and 0 <= number < 1 << 63
    if not valid:
        raise InvalidRequestError(f"{what} is an integer from 0, not {number!r}")
