"""The consumer: reads assigned partitions as records or as tables."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from raykafka.client.cluster.bootstrap import Bootstrap
from raykafka.client.cluster.deadline import Deadline
from raykafka.client.consuming.consumer_parts import assemble
from raykafka.client.consuming.polled_tables import (
    PartitionBatch,
    as_batch,
    as_table,
    checked_metadata,
)
from raykafka.client.consuming.record_reader import UNBOUNDED
from raykafka.client.consuming.records import ConsumerRecord, ConsumerRecords
from raykafka.client.consuming.rows import Rows
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


class Consumer:
    """Reads the partitions it is told to ``assign``; names and meanings are Kafka's.

    Leaders push records as they are committed, into the buffers of the sockets, up to
    ``fetch_max_bytes`` each; ``poll`` reads them from there, not a thread in the background. No two
    threads may use the consumer at a time (``IllegalStateError``); ``wakeup`` alone may be called
    from anywhere.

    On the machine that holds a partition its segments are memory-mapped instead of sent
    (``mapped_reads``). With ``check_crcs`` the CRC-32C of every batch that came over a socket is
    checked; mapped ones were checked by the server before it told where they are.

    Lost connections, moved leaders and restarted servers are seen to inside ``poll``: it goes on at
    the position, leaving nothing out and giving nothing twice.
    """

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
        self._lock = threading.Lock()
        self._closed = False
        parts = assemble(bootstrap, self._config, self._clock)
        self._subscription = parts.subscription
        self._metadata = parts.metadata
        self._connections = parts.connections
        self._lookup = parts.lookup
        self._fetcher = parts.fetcher
        self._reader = parts.reader

    # --- assignment -------------------------------------------------------------------------------

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        """Read these partitions from now on, in place of those before.

        A partition that stays keeps its position; a new one starts where ``auto_offset_reset``
        says, unless ``seek`` is called. Nobody is contacted: a topic that does not exist is
        reported by the next ``poll``. Raises ``InvalidPartitionsError``.
        """
        with self._exclusive():
            for dropped in self._subscription.assign(partitions):
                self._fetcher.forget(dropped)
            self._fetcher.changed()

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
        _check_from_zero("an offset", offset)
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
            _check_from_zero(f"the time for {partition}, in milliseconds,", stamp)
        with self._exclusive():
            found = self._lookup.find(asked, self._know(asked, timeout_ms))
        return {p: found[p] if found[p].offset >= 0 else None for p in asked}

    # --- reading ----------------------------------------------------------------------------------

    def poll(
        self, timeout_ms: int = 0, max_records: int | None = None
    ) -> dict[TopicPartition, ConsumerRecords]:
        """Records by partition: what is there, or what comes first within ``timeout_ms``.

        At most ``max_records`` (by default ``max_poll_records``) in all; empty when none came.
        Looking up leaders and positions may add to ``timeout_ms``, each by ``request_timeout_ms``
        at most. Errors that only the caller can solve are raised once everything before them has
        been returned, and again until they are solved: ``OffsetOutOfRangeError`` and
        ``NoOffsetForPartitionError`` with ``auto_offset_reset=none``, ``CorruptMessageError`` and
        ``LogDamagedError`` (``seek`` past the damage that the message names),
        ``UnknownTopicOrPartitionError``. Positions stay then.
        """
        limit = self._config.max_poll_records if max_records is None else max_records
        _check_limit("max_records", limit)
        taken: dict[TopicPartition, list[Rows]] = {}
        reader = self._reader
        self._acquire()
        try:
            reader.settle()
            if reader.wait(timeout_ms) is not None:
                for rows in reader.take(limit):
                    partition = TopicPartition(rows.format.topic, rows.partition)
                    taken.setdefault(partition, []).append(rows)
        finally:
            self._lock.release()
        return {partition: ConsumerRecords(runs) for partition, runs in taken.items()}

    def poll_table(
        self,
        timeout_ms: int = 0,
        max_records: int | None = None,
        max_bytes: int | None = None,
        metadata: Iterable[str] = (),
    ) -> pa.Table | None:
        """Records as one table that shares memory with what arrived; None when none came.

        Its columns are the value's (``value`` for an untyped topic), after those of ``metadata``:
        ``__topic``, ``__partition``, ``__offset``, ``__timestamp``, ``__key``, ``__headers``.
        ``max_bytes`` of the log (by default ``fetch_max_bytes``) may be exceeded by the last batch;
        ``max_records`` is not limited by default. Otherwise as ``poll``. Raises
        ``IllegalStateError`` when topics that are read together differ in a column's type.
        """
        batches = self.poll_batches(timeout_ms, max_records, max_bytes, metadata)
        return as_table([each.batch for each in batches]) if batches else None

    def poll_batches(
        self,
        timeout_ms: int = 0,
        max_records: int | None = None,
        max_bytes: int | None = None,
        metadata: Iterable[str] = (),
    ) -> list[PartitionBatch]:
        """Like ``poll_table``, but each batch by itself, with its partition and offsets."""
        wanted = checked_metadata(metadata)
        records = UNBOUNDED if max_records is None else max_records
        size = self._config.fetch_max_bytes if max_bytes is None else max_bytes
        _check_limit("max_records", records)
        _check_limit("max_bytes", size)
        taken: list[PartitionBatch] = []
        with self._exclusive():
            if self._reader.wait(timeout_ms) is not None:
                for rows in self._reader.take(records, size, refill=True):
                    partition = TopicPartition(rows.format.topic, rows.partition)
                    end = rows.base_offset + rows.count
                    batch = as_batch(rows, wanted)
                    taken.append(PartitionBatch(partition, rows.base_offset, end, batch))
        return taken

    def __iter__(self) -> Iterator[ConsumerRecord]:
        """Record after record; positions follow one by one.

        Ends after ``consumer_timeout_ms`` without a record (by default never), or on ``wakeup``;
        iterating again goes on. Raises what ``poll`` raises.
        """
        while (record := next(self, None)) is not None:
            yield record
            yield from self._reader.rest()

    def __next__(self) -> ConsumerRecord:
        """The next record; see ``__iter__``."""
        timeout_ms = self._config.consumer_timeout_ms
        self._acquire()
        try:
            record = self._reader.next_record(None if timeout_ms < 0 else timeout_ms)
        finally:
            self._lock.release()
        if record is None:
            raise StopIteration
        return record

    # --- the rest ---------------------------------------------------------------------------------

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

    def metrics(self) -> dict[str, Any]:
        """Counters of this consumer, and ``records_lag`` by partition.

        The lag is the number of records between the position and the end of the partition that its
        leader last reported; partitions that nothing was heard of are left out.
        """
        lag = {}
        for partition, progress in self._fetcher.progress.items():
            if partition in self._subscription:
                position = self._subscription.state(partition).position
                if position is not None:
                    lag[partition] = max(0, progress.end_offset - position)
        return {
            "records_consumed_total": self._reader.records,
            "bytes_fetched_total": self._fetcher.bytes,
            "fetch_total": self._fetcher.frames,
            "fetch_sessions_total": self._fetcher.sessions_opened,
            "connection_count": len(self._connections),
            "records_lag": lag,
            "records_lag_max": max(lag.values(), default=0),
        }

    def wakeup(self) -> None:
        """Make a ``poll`` that waits, or else the next one that would, return at once.

        Thread-safe. The ``poll`` returns what it has, and iteration ends.
        """
        self._reader.wake()

    def close(self) -> None:
        """Close every connection; whatever is called afterwards raises ``ClientClosedError``.

        Idempotent. While another thread is in ``poll``, call ``wakeup`` there first.
        """
        if self._closed:
            return
        with self._exclusive():
            self._closed = True
            self._metadata.close()
            self._connections.close()
            self._fetcher.close()

    def __enter__(self) -> Consumer:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

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


def _check_from_zero(what: str, number: object) -> None:
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise InvalidRequestError(f"{what} is an integer from 0, not {number!r}")


def _check_limit(name: str, limit: int) -> None:
    if limit < 1:
        raise InvalidRequestError(f"{name} is at least 1, not {limit}")
