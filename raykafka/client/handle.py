"""The topic as a small object that goes wherever the work goes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from raykafka.client.cluster.bootstrap import Bootstrap
from raykafka.client.cluster.metadata import TopicMetadata
from raykafka.client.consumer import Consumer
from raykafka.client.handles.bounds import Bounds, parse_bounds
from raykafka.client.handles.shared_clients import shared_clients
from raykafka.client.handles.topic_read import TopicRead
from raykafka.client.producing.futures import BatchMetadata
from raykafka.errors import (
    InconsistentClusterIdError,
    InvalidConfigError,
    InvalidRequestError,
    RaykafkaError,
    UnknownTopicOrPartitionError,
)
from raykafka.model import TopicPartition

logger = logging.getLogger(__name__)

_PATIENCE_S = 2.0
"""How long an append may take before it is made sure that the cluster is still the same one."""


@dataclass(frozen=True)
class TopicHandle:
    """Append to a topic and read it, from any process, Ray task or Ray actor.

    A handle is a name and a way to find the cluster: it pickles, holds no connection and does not
    keep anything alive. The handles of a process share one producer, which is closed when the
    process ends; all methods are thread-safe.
    """

    bootstrap: Bootstrap
    topic: str

    def append(
        self,
        data: Any,
        key: str | None = None,
        *,
        partition: int | None = None,
        timestamps: Any = None,
    ) -> dict[int, tuple[range, ...]]:
        """Append a table and wait until it is acknowledged; the offsets by partition.

        ``data`` is an Arrow table or record batch, a pandas or polars frame, a dict of arrays or a
        list of dicts. ``key`` names the column that decides on the partition (a typed topic with
        ``key.column`` has its own); rows without a key go to any one partition. ``timestamps`` is a
        column's name, an array or one time in milliseconds; by default it is now. Offsets
        of a partition are one range unless others wrote in between.

        Raises ``InvalidRecordError`` where the table does not fit the topic (the message names the
        column and both types), ``SerializationError`` where it is no table, and what
        ``Producer.send_table`` raises; a table that was refused is in the log neither in whole nor
        in part, one that failed on the way may be in part.
        """
        try:
            written = self._send(data, key, partition, timestamps)
        except InconsistentClusterIdError:
            # Another cluster lives at this address now, and the shared producer knew the old one.
            shared_clients.forget(self.bootstrap)
            written = self._send(data, key, partition, timestamps)
        return _ranges(written)

    def read(
        self,
        start: Bounds = "earliest",
        end: Bounds = "latest",
        *,
        partitions: Sequence[int] | None = None,
        columns: Sequence[str] | None = None,
        limit: int | None = None,
        timeout_ms: int = 60_000,
        isolation_level: str = "read_uncommitted",
    ) -> TopicRead:
        """A range of the topic, read when it is iterated or made into a table.

        ``start`` (inclusive) and ``end`` (exclusive) are offsets, moments, ``"earliest"`` or
        ``"latest"``, or a mapping from partition numbers to these. A moment is a ``datetime`` with
        a time zone and stands for the first record at or after it. ``limit`` bounds the number of
        records over all partitions. ``timeout_ms`` bounds how long nothing may arrive. With
        ``isolation_level="read_committed"`` records of aborted transactions are left out, and the
        latest offset is where the oldest open transaction begins.

        Raises ``InvalidRequestError`` for bounds that make no sense, ``InvalidConfigError`` for a
        column that the topic lacks, ``UnknownTopicOrPartitionError``; later also
        ``OffsetOutOfRangeError`` when ``start`` is not in the log.
        """
        topic = self._metadata()
        numbers = _chosen(topic, partitions)
        return TopicRead(
            self.bootstrap,
            self.topic,
            _projected(topic, columns),
            parse_bounds(start, numbers, "earliest"),
            parse_bounds(end, numbers, "latest"),
            columns=columns,
            limit=_positive("limit", limit),
            timeout_ms=timeout_ms,
            isolation_level=isolation_level,
        )

    def tail(
        self,
        n: int | None = None,
        *,
        start: Bounds | None = None,
        follow: bool = True,
        partitions: Sequence[int] | None = None,
        columns: Sequence[str] | None = None,
        limit: int | None = None,
        timeout_ms: int = 60_000,
        isolation_level: str = "read_uncommitted",
    ) -> TopicRead:
        """The last ``n`` records of each partition, and with ``follow`` those still to come.

        Iterate it for batches, or its ``records()``; with ``follow`` the iteration waits for new
        records and ends only at ``limit``. ``start`` says where to begin instead, as in ``read``;
        with neither it begins at the end. ``isolation_level`` is that of ``read``. Records are
        counted by offsets: the end of a transaction takes one, too.
        """
        if n is not None and start is not None:
            raise InvalidRequestError("give either n or start, not both")
        topic = self._metadata()
        numbers = _chosen(topic, partitions)
        first = start if start is not None else "latest" if n is None else "earliest"
        return TopicRead(
            self.bootstrap,
            self.topic,
            _projected(topic, columns),
            parse_bounds(first, numbers, "latest"),
            None if follow else parse_bounds("latest", numbers, "latest"),
            last=_positive("n", n),
            columns=columns,
            limit=_positive("limit", limit),
            timeout_ms=timeout_ms,
            isolation_level=isolation_level,
        )

    def schema(self) -> pa.Schema:
        """The value columns: those of a typed topic, else ``value: binary``."""
        return self._metadata().value_schema

    def partitions(self) -> list[int]:
        """Numbers of the topic's partitions."""
        return [partition.partition for partition in self._metadata().partitions]

    def num_rows(self) -> int:
        """How many records the topic holds now, by its offsets.

        More than can be read once records have been compacted away, and with transactions: each
        takes one offset for its end in every partition. Exact otherwise.
        """
        partitions = [TopicPartition(self.topic, number) for number in self.partitions()]
        with Consumer(self.bootstrap, client_id="topic-handle") as consumer:
            first = consumer.beginning_offsets(partitions)
            last = consumer.end_offsets(partitions)
        return sum(last[partition] - first[partition] for partition in partitions)

    def _metadata(self) -> TopicMetadata:
        try:
            # Asked for anew: a handle is used rarely, and the topic may have changed meanwhile.
            self._refresh()
        except InconsistentClusterIdError:
            shared_clients.forget(self.bootstrap)
            self._refresh()
        return shared_clients.metadata(self.bootstrap).topic(self.topic)

    def _refresh(self) -> None:
        shared_clients.metadata(self.bootstrap).refresh([self.topic])

    def _send(
        self, data: Any, key: str | None, partition: int | None, timestamps: Any
    ) -> list[BatchMetadata]:
        metadata = shared_clients.metadata(self.bootstrap)
        if metadata.cached(self.topic) is None:
            metadata.topic(self.topic)  # from now on it knows which cluster this is
        producer = shared_clients.producer(self.bootstrap)
        future = producer.send_table(
            self.topic, data, key=key, partition=partition, timestamps=timestamps
        )
        while True:
            try:
                return future.get(_PATIENCE_S)
            except TimeoutError:
                self._check_cluster()

    def _check_cluster(self) -> None:
        """Raise ``InconsistentClusterIdError`` when what answers is another cluster than before."""
        try:
            self._refresh()
        except InconsistentClusterIdError:
            raise
        except RaykafkaError as error:
            # The producer knows better how long to go on.
            logger.debug("no metadata while an append waits: %s", error)


def _ranges(written: Sequence[BatchMetadata]) -> dict[int, tuple[range, ...]]:
    """Offsets by partition, neighbours joined."""
    found: dict[int, list[range]] = {}
    for batch in sorted(written, key=lambda each: (each.partition, each.offset)):
        ranges = found.setdefault(batch.partition, [])
        end = batch.offset + batch.count
        if ranges and ranges[-1].stop == batch.offset:
            ranges[-1] = range(ranges[-1].start, end)
        else:
            ranges.append(range(batch.offset, end))
    return {partition: tuple(ranges) for partition, ranges in found.items()}


def _chosen(topic: TopicMetadata, partitions: Sequence[int] | None) -> list[int]:
    numbers = [partition.partition for partition in topic.partitions]
    if partitions is None:
        return numbers
    for number in partitions:
        if number not in numbers:
            raise UnknownTopicOrPartitionError(
                f"topic {topic.name!r} has partitions 0 to {len(numbers) - 1}, not {number!r}"
            )
    return list(dict.fromkeys(partitions))


def _projected(topic: TopicMetadata, columns: Sequence[str] | None) -> pa.Schema:
    schema = topic.value_schema
    if columns is None:
        return schema
    if isinstance(columns, str):
        raise InvalidConfigError(f"columns is a list of names, not the text {columns!r}")
    for name in columns:
        if name not in schema.names:
            raise InvalidConfigError(
                f"topic {topic.name!r} has no value column {name!r}; "
                f"it has {', '.join(map(repr, schema.names))}"
            )
    return pa.schema([schema.field(name) for name in columns])


def _positive(name: str, number: int | None) -> int | None:
    if number is not None and number < 1:
        raise InvalidRequestError(f"{name} is at least 1, not {number}")
    return number
