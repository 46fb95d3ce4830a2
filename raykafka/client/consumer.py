"""The consumer: reads partitions as records or as tables, alone or in a group."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa

from raykafka.client.consuming.group_consumer import CLOSE_TIMEOUT_MS, GroupConsumer
from raykafka.client.consuming.polled_tables import (
    PartitionBatch,
    as_batch,
    as_table,
    checked_metadata,
)
from raykafka.client.consuming.record_reader import UNBOUNDED
from raykafka.client.consuming.records import ConsumerRecord, ConsumerRecords
from raykafka.client.consuming.rows import Rows
from raykafka.errors import InvalidRequestError
from raykafka.model import TopicPartition


class Consumer(GroupConsumer):
    """Reads the partitions it is told to ``assign``, or those that its group gives it when it is
    told to ``subscribe``; names and meanings are Kafka's.

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

        def put_back() -> None:
            for each in reversed(batches):
                self.seek(each.partition, each.base_offset)

        return as_table([each.batch for each in batches], put_back) if batches else None

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

    def metrics(self) -> dict[str, Any]:
        """Counters of this consumer, and ``records_lag`` by partition.

        The lag is the number of records between the position and the end of the partition that its
        leader last reported; partitions that nothing was heard of are left out. Members of a group
        count heartbeats that were answered and rebalances that changed what they own.
        """
        lag = {}
        for partition, progress in self._fetcher.progress.items():
            if partition in self._subscription:
                position = self._subscription.state(partition).position
                if position is not None:
                    lag[partition] = max(0, progress.end_offset - position)
        group = {} if self._group is None else self._group.metrics()
        return {
            **group,
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

    def close(
        self,
        leave_group: bool = True,
        timeout_ms: int = CLOSE_TIMEOUT_MS,
        autocommit: bool = True,
    ) -> None:
        """Close every connection; whatever is called afterwards raises ``ClientClosedError``.

        A member of a group commits its positions with ``enable_auto_commit``, unless ``autocommit``
        is False, gives its partitions up and leaves, all within ``timeout_ms``; one with a
        ``group_instance_id`` leaves for now and is expected back. Without ``leave_group`` the
        coordinator is not told, and the partitions wait for the session to end. Raises what the
        rebalance listener raises.

        A ``with`` block that an exception leaves closes without ``autocommit``: what was in hand is
        read again. Idempotent. While another thread is in ``poll``, call ``wakeup`` there first.
        """
        if self._closed:
            return
        with self._exclusive():
            try:
                if self._group is not None:
                    self._group.close(timeout_ms, leave=leave_group, commit=autocommit)
            finally:
                self._closed = True
                self._metadata.close()
                self._connections.close()
                self._fetcher.close()

    def __enter__(self) -> Consumer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(autocommit=kind is None)


def _check_limit(name: str, limit: int) -> None:
    if limit < 1:
        raise InvalidRequestError(f"{name} is at least 1, not {limit}")
