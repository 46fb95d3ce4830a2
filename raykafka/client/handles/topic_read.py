"""What ``TopicHandle.read`` and ``tail`` return: a read that happens when it is iterated."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import pyarrow as pa

from raykafka.client.cluster.bootstrap import Bootstrap
from raykafka.client.cluster.deadline import Deadline
from raykafka.client.consumer import Consumer
from raykafka.client.consuming.polled_tables import (
    METADATA_COLUMNS,
    as_table,
    checked_metadata,
    metadata_schema,
)
from raykafka.client.consuming.records import ConsumerRecord
from raykafka.client.handles.bounds import OffsetRange, Place, resolve
from raykafka.clock import SystemClock
from raykafka.errors import IllegalStateError, RequestTimedOutError
from raykafka.model import TopicPartition

Metadata = bool | Iterable[str]
"""Which metadata columns come before the value's: none, all but ``__topic``, or those named."""

_WAIT_MS = 500
_ROWS_AT_ONCE = 1 << 20
_RECORDS_AT_ONCE = 4096

T = TypeVar("T")
Chunk = tuple[TopicPartition, int, T]
"""Partition, offset of the first element, elements."""


class TopicRead:
    """A range of a topic, read anew each time it is iterated; nothing is read before.

    The offsets are settled by the first use and stay the same then, so that reading twice gives the
    same records. Batches of different partitions come in the order in which they arrive; within a
    partition they are in order, and ``to_table`` puts one partition after the other.
    """

    def __init__(
        self,
        bootstrap: Bootstrap,
        topic: str,
        schema: pa.Schema,
        starts: Mapping[int, Place],
        ends: Mapping[int, Place] | None,
        *,
        last: int | None = None,
        columns: Sequence[str] | None = None,
        limit: int | None = None,
        timeout_ms: int = 60_000,
        isolation_level: str = "read_uncommitted",
    ) -> None:
        """``schema`` are the value columns wanted; ``last`` starts that many before the end."""
        self._bootstrap = bootstrap
        self._topic = topic
        self._schema = schema
        self._starts = starts
        self._ends = ends
        self._last = last
        self._columns = None if columns is None else tuple(columns)
        self._limit = limit
        self._timeout_ms = timeout_ms
        self._isolation_level = isolation_level
        self._ranges: dict[TopicPartition, OffsetRange] | None = None

    def __repr__(self) -> str:
        return f"<TopicRead of {self._topic}, partitions {list(self._starts)}>"

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return self.to_batches()

    @property
    def schema(self) -> pa.Schema:
        """The value columns of the batches."""
        return self._schema

    def offsets(self) -> dict[int, OffsetRange]:
        """What is read of each partition; settles it if nothing has been read yet."""
        if self._ranges is None:
            with self._consumer() as consumer:
                self._resolve(consumer)
        assert self._ranges is not None
        return {partition.partition: found for partition, found in self._ranges.items()}

    def to_batches(self, metadata: Metadata = False) -> Iterator[pa.RecordBatch]:
        """Record batches as they arrive.

        Raises ``RequestTimedOutError`` when nothing comes for ``timeout_ms`` although there is
        more, and what ``Consumer.poll`` raises.
        """
        wanted = _metadata(metadata)
        for _, _, batch in self._batches(wanted):
            yield batch

    def records(self) -> Iterator[ConsumerRecord]:
        """Record by record; otherwise as ``to_batches``."""
        for _, _, records in self._chunks(_poll_records):
            yield from records

    def to_table(self, metadata: Metadata = False) -> pa.Table:
        """Everything in one table, partition after partition."""
        wanted = _metadata(metadata)
        self._check_bounded("a table")
        chunks = sorted(self._batches(wanted), key=lambda chunk: chunk[:2])
        if chunks:
            return as_table([batch for _, _, batch in chunks])
        with self._consumer() as consumer:
            self._resolve(consumer)
        return metadata_schema(wanted, self._schema).empty_table()

    def to_pandas(self, metadata: Metadata = False) -> Any:
        """Everything as a pandas frame; raises ``ModuleNotFoundError`` without pandas."""
        return self.to_table(metadata).to_pandas()

    def to_polars(self, metadata: Metadata = False) -> Any:
        """Everything as a polars frame; raises ``ModuleNotFoundError`` without polars."""
        import polars

        return polars.from_arrow(self.to_table(metadata))

    def _check_bounded(self, what: str) -> None:
        if self._ends is None and self._limit is None:
            raise IllegalStateError(
                f"a read that follows the topic never ends, so it does not fit in {what}; "
                "iterate it, or give a limit"
            )

    def _consumer(self) -> Consumer:
        return Consumer(
            self._bootstrap,
            auto_offset_reset="none",
            client_id="topic-handle",
            columns=self._columns,
            isolation_level=self._isolation_level,
            request_timeout_ms=max(1_000, min(30_000, self._timeout_ms)),
        )

    def _resolve(self, consumer: Consumer) -> dict[TopicPartition, OffsetRange]:
        if self._ranges is None:
            ranges = resolve(consumer, self._topic, self._starts, self._ends)
            if self._last is not None:
                ranges = _last_of(consumer, ranges, self._last)
            self._ranges = ranges
        return self._ranges

    def _batches(self, metadata: tuple[str, ...]) -> Iterator[Chunk[pa.RecordBatch]]:
        def poll(consumer: Consumer, limit: int) -> Iterator[Chunk[pa.RecordBatch]]:
            for each in consumer.poll_batches(
                _WAIT_MS, min(limit, _ROWS_AT_ONCE), metadata=metadata
            ):
                yield each.partition, each.base_offset, each.batch

        return self._chunks(poll)

    def _chunks(self, poll: Callable[[Consumer, int], Iterator[Chunk[T]]]) -> Iterator[Chunk[T]]:
        """Poll until every partition has been read to its end, and cut what goes beyond."""
        left = _FOREVER if self._limit is None else self._limit
        clock = SystemClock()
        with self._consumer() as consumer:
            ranges = self._resolve(consumer)
            reading = {p: r.end for p, r in ranges.items() if r.end is None or r.start < r.end}
            consumer.assign(reading)
            for partition in reading:
                consumer.seek(partition, ranges[partition].start)
            deadline = Deadline(clock, self._timeout_ms)
            while reading and left > 0:
                idle = True
                for partition, base, chunk in poll(consumer, left):
                    idle = False
                    if partition not in reading:
                        # Read to its end, and more is written: it must not take the others' turns.
                        consumer.pause(partition)
                        continue
                    size = len(chunk)  # type: ignore[arg-type]
                    end = reading[partition]
                    # A poll may bring more of a partition than its range has.
                    wanted = min(left, size if end is None else min(size, end - base))
                    if end is not None and base + size >= end:
                        del reading[partition]
                    if wanted > 0:
                        left -= wanted
                        yield partition, base, _first(chunk, wanted, size)
                if self._ends is not None:
                    # The end of a transaction takes an offset, too, behind its last record.
                    _drop_finished(consumer, reading)
                if not idle:
                    # From now on: what the caller did with the chunks took time as well.
                    deadline = Deadline(clock, self._timeout_ms)
                elif self._ends is not None and reading and deadline.expired:
                    raise self._stalled(consumer, reading)

    def _stalled(
        self, consumer: Consumer, reading: Mapping[TopicPartition, int | None]
    ) -> RequestTimedOutError:
        partition, end = next(iter(reading.items()))
        return RequestTimedOutError(
            f"{partition} gave no records for {self._timeout_ms} ms at offset "
            f"{consumer.position(partition)}, although it had them up to {end}; its leader may be "
            "down (see `raykafka status`)"
        )


_FOREVER = 1 << 62


def _drop_finished(consumer: Consumer, reading: dict[TopicPartition, int | None]) -> None:
    """Leave out partitions whose position has passed their end without a record there."""
    for partition, end in list(reading.items()):
        if end is not None and consumer.position(partition) >= end:
            del reading[partition]


def _metadata(metadata: Metadata) -> tuple[str, ...]:
    if metadata is True:
        return METADATA_COLUMNS[1:]
    return () if metadata is False else checked_metadata(metadata)


def _poll_records(consumer: Consumer, limit: int) -> Iterator[Chunk[Sequence[ConsumerRecord]]]:
    polled = consumer.poll(_WAIT_MS, min(limit, _RECORDS_AT_ONCE))
    for partition, records in polled.items():
        yield partition, records[0].offset, records


def _first(chunk: Any, count: int, size: int) -> Any:
    if count == size:
        return chunk
    return chunk.slice(0, count) if isinstance(chunk, pa.RecordBatch) else chunk[:count]


def _last_of(
    consumer: Consumer, ranges: Mapping[TopicPartition, OffsetRange], count: int
) -> dict[TopicPartition, OffsetRange]:
    """Ranges that start ``count`` records before their end, or that of the log now."""
    ends = consumer.end_offsets(ranges)
    return {
        partition: OffsetRange(max(found.start, ends[partition] - count), found.end)
        for partition, found in ranges.items()
    }
