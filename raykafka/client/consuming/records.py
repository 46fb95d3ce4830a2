"""Records as views over columns: nothing is made per record before it is looked at.

A ``ConsumerRecord`` is a run of rows and an index into it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, repeat
from typing import Any, Final, overload

import pyarrow as pa

from raykafka.client.consuming.rows import Header, RowFormat, Rows
from raykafka.model import TimestampType, TopicPartition

_ONE_ROW: Final = pa.record_batch({"": pa.nulls(1)})


class ConsumerRecord:
    """One record, as ``poll`` returns it; the fields are those of Kafka's ``ConsumerRecord``.

    A view: it keeps the columns of its neighbours alive. Pickling makes it independent of them, and
    so does ``copy()``.
    """

    __slots__ = ("_index", "_rows")

    def __init__(self, rows: Rows, index: int) -> None:
        self._rows = rows
        self._index = index

    @property
    def topic(self) -> str:
        return self._rows.format.topic

    @property
    def partition(self) -> int:
        return self._rows.partition

    @property
    def topic_partition(self) -> TopicPartition:
        return TopicPartition(self._rows.format.topic, self._rows.partition)

    @property
    def offset(self) -> int:
        return self._rows.base_offset + self._index

    @property
    def timestamp(self) -> int:
        """Milliseconds since the epoch; who set it is told by ``timestamp_type``."""
        stamp: int = self._rows.timestamps[self._index]
        return stamp

    @property
    def timestamp_type(self) -> TimestampType:
        """``CREATE_TIME``, or ``LOG_APPEND_TIME`` where the topic says so (KIP-32)."""
        if self._rows.log_append_time is None:
            return TimestampType.CREATE_TIME
        return TimestampType.LOG_APPEND_TIME

    @property
    def key(self) -> Any:
        """Bytes, or what ``key_deserializer`` makes of them; None without a key.

        Raises ``SerializationError``, at every access, when the deserializer fails.
        """
        return self._rows.keys[self._index]

    @property
    def value(self) -> Any:
        """Bytes, what ``value_deserializer`` makes of them, or a typed topic's dict of columns.

        None is a tombstone. The object is made once and kept: change a copy. Raises
        ``SerializationError``, at every access, when the deserializer fails.
        """
        return self._rows.values[self._index]

    @property
    def headers(self) -> list[Header]:
        """(key, value) pairs in the order they were sent."""
        return self._rows.header_lists[self._index] or []

    @property
    def serialized_key_size(self) -> int:
        """Bytes of the key before deserialization, -1 without a key."""
        key = self._rows.raw_keys[self._index]
        return -1 if key is None else len(key)

    @property
    def serialized_value_size(self) -> int:
        """Bytes of the value before deserialization; -1 for a tombstone and for typed topics."""
        if self._rows.format.value_columns:
            return -1
        value = self._rows.raw_values[self._index]
        return -1 if value is None else len(value)

    @property
    def serialized_header_size(self) -> int:
        """Bytes of all header keys and values, -1 without headers."""
        headers = self._rows.header_lists[self._index]
        if not headers:
            return -1
        return sum(len(key.encode()) + len(value or b"") for key, value in headers)

    def copy(self) -> ConsumerRecord:
        """The same record on its own, so that the batch it came from can be freed."""
        rebuild, fields = self.__reduce__()
        copied: ConsumerRecord = rebuild(*fields)
        return copied

    def __reduce__(self) -> tuple[Callable[..., ConsumerRecord], tuple[Any, ...]]:
        rows, index = self._rows, self._index
        typed = bool(rows.format.value_columns)
        return _alone, (
            RowFormat(rows.format.topic, rows.format.value_columns),
            rows.partition,
            self.offset,
            rows.log_append_time,
            {
                "timestamps": self.timestamp,
                "keys": self.key,
                "values": self.value,
                "raw_keys": rows.raw_keys[index],
                "raw_values": None if typed else rows.raw_values[index],
                "header_lists": self.headers,
            },
        )

    def _fields(self) -> tuple[Any, ...]:
        return (
            self.topic,
            self.partition,
            self.offset,
            self.timestamp,
            self.timestamp_type,
            self.key,
            self.value,
            self.headers,
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ConsumerRecord):
            return NotImplemented
        return self._fields() == other._fields()

    def __hash__(self) -> int:
        return hash((self.topic, self.partition, self.offset))

    def __repr__(self) -> str:
        return (
            f"ConsumerRecord(topic={self.topic!r}, partition={self.partition}, "
            f"offset={self.offset}, timestamp={self.timestamp}, key={self.key!r}, "
            f"value={self.value!r}, headers={self.headers!r})"
        )


def _alone(
    row_format: RowFormat,
    partition: int,
    offset: int,
    log_append_time: int | None,
    fields: dict[str, Any],
) -> ConsumerRecord:
    rows = Rows(_ONE_ROW, row_format, partition, offset, log_append_time)
    for name, value in fields.items():
        setattr(rows, name, [value])
    return ConsumerRecord(rows, 0)


class ConsumerRecords(Sequence[ConsumerRecord]):
    """Records of one partition, in order: behaves like a list that cannot be changed."""

    __slots__ = ("_ends", "_runs")

    def __init__(self, runs: Sequence[Rows]) -> None:
        self._runs = [run for run in runs if run.count]
        self._ends: list[int] = []
        total = 0
        for run in self._runs:
            total += run.count
            self._ends.append(total)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[ConsumerRecord]:
        if len(self._runs) == 1:
            return _iterate(self._runs[0])
        return chain.from_iterable(map(_iterate, self._runs))

    @overload
    def __getitem__(self, index: int) -> ConsumerRecord: ...
    @overload
    def __getitem__(self, index: slice) -> list[ConsumerRecord]: ...
    def __getitem__(self, index: int | slice) -> ConsumerRecord | list[ConsumerRecord]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        place = index + len(self) if index < 0 else index
        if not 0 <= place < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        start = 0
        for run, end in zip(self._runs, self._ends, strict=True):
            if place < end:
                return ConsumerRecord(run, place - start)
            start = end
        raise AssertionError("unreachable: the last run ends at len(self)")

    def __eq__(self, other: object) -> bool:
        if isinstance(other, ConsumerRecords | list):
            return len(self) == len(other) and all(map(_equal, self, other))
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        if not self._runs:
            return "<ConsumerRecords: none>"
        first, last = self[0], self[-1]
        place = f"{first.topic_partition}, {first.offset}..{last.offset}"
        return f"<ConsumerRecords: {len(self)} of {place}>"


def _equal(left: object, right: object) -> bool:
    return left == right


def _iterate(run: Rows) -> Iterator[ConsumerRecord]:
    return map(ConsumerRecord, repeat(run, run.count), range(run.count))
