"""Records of a share group: like a consumer's, with the number of their delivery."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import overload

import pyarrow as pa

from raykafka.client.consuming.records import ConsumerRecord
from raykafka.client.consuming.rows import RowFormat, Rows
from raykafka.log.small_batch import OneRecord
from raykafka.model import Endpoint, TopicPartition


class ShareRows(Rows):
    """A run of records that were acquired together, as often as each other."""

    __slots__ = ("delivery_count", "endpoint")

    def __init__(
        self,
        columns: pa.RecordBatch | OneRecord,
        row_format: RowFormat,
        partition: int,
        base_offset: int,
        log_append_time: int | None,
        delivery_count: int,
        endpoint: Endpoint,
    ) -> None:
        super().__init__(columns, row_format, partition, base_offset, log_append_time)
        self.delivery_count = delivery_count
        self.endpoint = endpoint
        """The leader that has to hear what becomes of them."""

    @property
    def place(self) -> TopicPartition:
        """Topic and partition."""
        return TopicPartition(self.format.topic, self.partition)

    @property
    def end_offset(self) -> int:
        """What follows the last record."""
        return self.base_offset + self.count

    def split(self, count: int) -> tuple[ShareRows, ShareRows]:
        """The first ``count`` records, and the others."""
        return self._part(0, count), self._part(count, self.count)

    def _part(self, start: int, end: int) -> ShareRows:
        return ShareRows(
            self.columns.slice(start, end - start),
            self.format,
            self.partition,
            self.base_offset + start,
            self.log_append_time,
            self.delivery_count,
            self.endpoint,
        )


class ShareRecord(ConsumerRecord):
    """One record of a share group; see ``ConsumerRecord``.

    A copy, and what comes out of a pickle, is a ``ConsumerRecord``: acknowledge the original.
    """

    __slots__ = ()

    @property
    def delivery_count(self) -> int:
        """How often the record has been delivered, this time included."""
        rows = self._rows
        assert isinstance(rows, ShareRows)
        return rows.delivery_count


class ShareRecords(Sequence[ShareRecord]):
    """Records of one partition in the order of their offsets, made when they are looked at."""

    __slots__ = ("_runs",)

    def __init__(self, runs: Sequence[ShareRows]) -> None:
        self._runs = runs

    def __len__(self) -> int:
        return sum(run.count for run in self._runs)

    def __iter__(self) -> Iterator[ShareRecord]:
        for run in self._runs:
            for index in range(run.count):
                yield ShareRecord(run, index)

    @overload
    def __getitem__(self, index: int) -> ShareRecord: ...
    @overload
    def __getitem__(self, index: slice) -> list[ShareRecord]: ...
    def __getitem__(self, index: int | slice) -> ShareRecord | list[ShareRecord]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        place = index + len(self) if index < 0 else index
        if place >= 0:
            for run in self._runs:
                if place < run.count:
                    return ShareRecord(run, place)
                place -= run.count
        raise IndexError(f"record {index} of {len(self)}")

    def __repr__(self) -> str:
        if not self._runs:
            return "<ShareRecords: none>"
        first, last = self[0], self[-1]
        return (
            f"<ShareRecords: {len(self)} of {first.topic_partition}, {first.offset}..{last.offset}>"
        )


@dataclass(frozen=True, slots=True)
class ShareBatch:
    """Consecutive records of one partition as columns, acquired together."""

    partition: TopicPartition
    base_offset: int
    """Offset of the first row; the others follow without gaps."""
    delivery_count: int
    """How often these records have been delivered, this time included."""
    batch: pa.RecordBatch = field(repr=False)

    @property
    def num_rows(self) -> int:
        """Records in the batch."""
        rows: int = self.batch.num_rows
        return rows
