"""Batches that have arrived and wait to be handed out, per partition and in order. Pure.

A frame is kept as it came; a batch of it is decoded when its turn comes. So a reader that stops
early pays for nothing it did not look at, and a damaged batch is noticed in its place, after
everything before it has been handed out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from raykafka.client.consuming.rows import RowFormat, Rows, as_arrow
from raykafka.errors import RaykafkaError
from raykafka.log.batch_header import BatchHeader
from raykafka.log.one_record_runs import OneRecordRuns
from raykafka.log.small_batch import OneRecord
from raykafka.model import TopicPartition

Source = Any
"""Whose credit a frame takes; whoever puts it in gets it back when it is consumed."""


class FetchedFrame(NamedTuple):
    """Whole batches of one partition that arrived together."""

    partition: TopicPartition
    topic_id: str
    offset: int
    """First offset wanted; the first batch may begin before it."""
    messages: Sequence[Any]
    costs: Sequence[int]
    """Bytes of credit that each batch took at ``source``."""
    last_header: BatchHeader
    """Header of the last batch, read when the frame came."""
    trusted: bool
    """Whether the CRCs of the batches need no check (any more)."""
    projected: bool
    """Whether the batches carry the wanted columns only."""
    source: Source
    runs: OneRecordRuns | None = None
    """For many batches, which may have one record each."""
    next_offset: int = -1
    """Where to read on behind the last batch, when the server left batches out of the frame: then
    one need not continue the one before. -1: behind the last batch."""

    @property
    def end_offset(self) -> int:
        """Where the partition is read on."""
        return self.last_header.next_offset if self.next_offset < 0 else self.next_offset


class FetchedBatch:
    """Rows of a batch, or of small ones decoded together, that are still to be handed out."""

    __slots__ = (
        "columns",
        "format",
        "log_append_time",
        "messages",
        "next_offset",
        "offset",
        "partition",
        "row_bytes",
    )

    def __init__(
        self,
        partition: TopicPartition,
        offset: int,
        next_offset: int,
        columns: pa.RecordBatch | OneRecord,
        row_format: RowFormat,
        log_append_time: int | None,
        row_bytes: float,
        messages: int = 1,
    ) -> None:
        """``offset`` is the first row's, ``next_offset`` what follows the batch in the log.

        ``row_bytes`` is what a row takes in the log, on average over the batch. ``messages`` is how
        many of the frame's messages it was made of.
        """
        self.partition = partition
        self.offset = offset
        self.next_offset = next_offset
        self.columns = columns
        self.format = row_format
        self.log_append_time = log_append_time
        self.row_bytes = row_bytes
        self.messages = messages

    def rows(self, count: int) -> Rows:
        """The first ``count`` rows, without consuming them."""
        columns = self.columns
        if count < columns.num_rows:
            columns = as_arrow(columns).slice(0, count)
        return Rows(columns, self.format, self.partition[1], self.offset, self.log_append_time)


Decode = Callable[[FetchedFrame, int, int], FetchedBatch]
"""(frame, index of a message, first offset wanted) -> its rows; raises ``RaykafkaError``."""
Release = Callable[[Source, int], None]
"""(source, bytes of credit) whenever a batch has been consumed or dropped."""
Failed = Callable[[TopicPartition, int, RaykafkaError], None]
"""(partition, offset, error) when a batch cannot be decoded."""


class _Waiting:
    """What waits for one partition."""

    __slots__ = ("batch", "frames", "index", "offset")

    def __init__(self, offset: int) -> None:
        self.frames: deque[FetchedFrame] = deque()
        self.index = 0
        """Of the next message to decode in the first frame."""
        self.offset = offset
        """Of the next row to hand out."""
        self.batch: FetchedBatch | None = None


class FetchQueue:
    """Frames per partition; partitions take turns, one batch each."""

    def __init__(self, decode: Decode, release: Release, failed: Failed) -> None:
        self._decode = decode
        self._release = release
        self._failed = failed
        self._waiting: dict[TopicPartition, _Waiting] = {}

    def __contains__(self, partition: object) -> bool:
        return partition in self._waiting

    def put(self, frame: FetchedFrame) -> None:
        """Add a frame behind the partition's others."""
        waiting = self._waiting.get(frame.partition)
        if waiting is None:
            waiting = self._waiting[frame.partition] = _Waiting(frame.offset)
        waiting.frames.append(frame)

    def end_offset(self, partition: TopicPartition, position: int) -> int:
        """Where the partition's next fetch starts, when its consumer stands at ``position``."""
        waiting = self._waiting.get(partition)
        return waiting.frames[-1].end_offset if waiting else position

    def skip_to(self, partition: TopicPartition, offset: int) -> bool:
        """Behind all that waits for the partition nothing comes before ``offset``.

        False where nothing waits: then its position is to be moved.
        """
        waiting = self._waiting.get(partition)
        if waiting is None:
            return False
        last = waiting.frames[-1]
        waiting.frames[-1] = last._replace(next_offset=offset)
        decoded = waiting.batch
        if decoded is not None and len(waiting.frames) == 1 and waiting.index == len(last.messages):
            decoded.next_offset = offset
        return True

    def drop(self, partition: TopicPartition) -> None:
        """Forget everything fetched from the partition."""
        waiting = self._waiting.pop(partition, None)
        if waiting is None:
            return
        index = waiting.index
        if waiting.batch is not None:
            index -= waiting.batch.messages
        for frame in waiting.frames:
            self._release(frame.source, sum(frame.costs[index:]))
            index = 0

    def head(self, skip: Container[TopicPartition] = ()) -> FetchedBatch | None:
        """The batch whose turn it is, decoded, or None; partitions in ``skip`` are passed over.

        A partition whose next batch cannot be decoded is dropped after ``failed`` was told.
        """
        while True:
            for partition in self._waiting:
                if partition not in skip:
                    break
            else:
                return None
            waiting = self._waiting[partition]
            if waiting.batch is not None:
                return waiting.batch
            frame = waiting.frames[0]
            try:
                batch = self._decode(frame, waiting.index, waiting.offset)
            except RaykafkaError as error:
                self.drop(partition)
                self._failed(partition, waiting.offset, error)
                continue
            waiting.batch = batch
            waiting.index += batch.messages
            return batch

    def consume(self, batch: FetchedBatch, count: int) -> int:
        """Take ``count`` rows off the batch that ``head`` gave; returns the offset that follows.

        After the last row of a batch the next partition has its turn.
        """
        waiting = self._waiting[batch.partition]
        rest = batch.columns.num_rows - count
        if rest > 0:
            batch.columns = as_arrow(batch.columns).slice(count)
            batch.offset += count
            waiting.offset = batch.offset
            return batch.offset
        waiting.batch = None
        waiting.offset = batch.next_offset
        # Taken out and put back last, so that others come first: dictionaries keep their order.
        del self._waiting[batch.partition]
        frame = waiting.frames[0]
        cost = sum(frame.costs[waiting.index - batch.messages : waiting.index])
        if waiting.index == len(frame.messages):
            waiting.frames.popleft()
            waiting.index = 0
        if waiting.frames:
            self._waiting[batch.partition] = waiting
        self._release(frame.source, cost)
        return batch.next_offset
