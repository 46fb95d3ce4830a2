"""The two kinds of groups: a chunk of ``send`` calls, and a table."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raykafka.client.producing.delivery import Delivery, Driver, Group
from raykafka.client.producing.futures import BatchMetadata
from raykafka.errors import RaykafkaError
from raykafka.model import RecordMetadata

Int64Array = npt.NDArray[np.int64]
Places: TypeAlias = "Sequence[int] | Int64Array"

RECORD_OVERHEAD_BYTES = 24
"""What a record takes in a batch beside key and value: timestamp, offsets of three columns."""


class Chunk(Group):
    """Records of one topic as columns that grow, until they are cut into batches.

    A column that no record has used yet is None. Changed only by the thread that has deleted
    ``free``, until it is closed, and only by the holder of the sender's turn afterwards.
    """

    __slots__ = (
        "_batch_of",
        "_errors",
        "_failure",
        "_position_of",
        "due_ms",
        "due_wall_ms",
        "free",
        "headers",
        "keys",
        "limit",
        "mark_index",
        "mark_ms",
        "mixed",
        "partitions",
        "schema_id",
        "since_s",
        "until_s",
        "values",
    )

    def __init__(
        self, driver: Driver, topic: str, *, created_ms: int, limit: int, schema_id: int
    ) -> None:
        super().__init__(driver, topic, created_ms)
        self.limit = limit
        self.schema_id = schema_id
        self.free: bool
        """There while the chunk is open and no thread changes it. Who deletes it may change the
        chunk until setting it again: only one thread can, since an attribute is deleted in one step
        of the interpreter, and that costs a third of a lock. Never there again once closed."""
        self.due_ms = created_ms
        """Monotonic time at which it is sent even if it is not full."""
        self.due_wall_ms = 0
        """The same by the wall clock, which ``send`` reads anyway."""
        self.values: list[Any] = []
        """Bytes or None of an untyped topic; of a typed one a tuple per row."""
        self.keys: list[bytes | None] | None = None
        self.headers: list[Sequence[tuple[str, bytes | None]] | None] | None = None
        self.partitions: list[int] | None = None
        """Where the caller wants each record, -1 for no wish."""
        self.mark_index: list[int] = []
        """First record of each run of equal timestamps."""
        self.mark_ms: list[int] = []
        self.since_s = self.until_s = 0.0
        """Wall-clock time from and before which a record has the timestamp of the last mark, if
        nothing but a value and perhaps a key is known of it; empty once the chunk is mixed."""
        self.mixed = False
        """Some record has headers or a partition of its own."""
        self._batch_of: Places | None = None
        self._position_of: Places | None = None
        self._errors: Mapping[int, RaykafkaError] = {}
        self._failure: RaykafkaError | None = None

    def append(
        self,
        value: Any,
        key: bytes | None,
        headers: Sequence[tuple[str, bytes | None]] | None,
        partition: int | None,
        timestamp_ms: int,
        size: int,
    ) -> int:
        """Add one record; returns its place."""
        index = len(self.values)
        self.values.append(value)
        self.size += size
        if not self.mark_ms or timestamp_ms != self.mark_ms[-1]:
            self.mark_index.append(index)
            self.mark_ms.append(timestamp_ms)
        if key is not None or self.keys is not None:
            if self.keys is None:
                self.keys = [None] * index
            self.keys.append(key)
        if headers is not None or self.headers is not None:
            if self.headers is None:
                self.headers = [None] * index
                self.mixed = True
            self.headers.append(headers)
        if partition is not None or self.partitions is not None:
            if self.partitions is None:
                self.partitions = [-1] * index
                self.mixed = True
            self.partitions.append(-1 if partition is None else partition)
        self.since_s = timestamp_ms / 1000
        self.until_s = 0.0 if self.mixed else (timestamp_ms + 1) / 1000
        return index

    @property
    def errors(self) -> Mapping[int, RaykafkaError]:
        """Records that failed by themselves when it was cut, by their place."""
        return self._errors

    @property
    def typed(self) -> bool:
        """Whether its values are rows of columns."""
        return bool(self.values) and type(self.values[0]) is tuple

    def timestamps(self) -> Int64Array:
        """The timestamp of every record, in milliseconds."""
        bounds = np.array([*self.mark_index, len(self.values)], np.int64)
        return np.repeat(np.array(self.mark_ms, np.int64), bounds[1:] - bounds[:-1])

    def timestamp_list(self) -> list[int]:
        """The same as a plain list, for a few records."""
        marks = self.mark_ms
        if len(marks) == 1:
            return marks * len(self.values)
        bounds = pairwise([*self.mark_index, len(self.values)])
        return [
            mark
            for mark, (start, end) in zip(marks, bounds, strict=True)
            for _ in range(start, end)
        ]

    def place(
        self,
        deliveries: Sequence[Delivery],
        batch_of: Places | None,
        position_of: Places | None,
        errors: Mapping[int, RaykafkaError],
    ) -> None:
        """Say where the records went: with None all of them are in the only delivery, in order.

        ``batch_of`` is an index into ``deliveries``, -1 for a record in ``errors``.
        """
        self._batch_of, self._position_of, self._errors = batch_of, position_of, errors
        self.pending = len(deliveries)
        self.deliveries = deliveries
        self._let_go()

    def fail(self, error: RaykafkaError) -> None:
        self._failure = error
        self.deliveries = ()
        self._let_go()

    def settled(self, index: int) -> bool:
        if self.deliveries is None:
            return False
        if self.pending == 0:
            return True
        delivery = self._delivery(index)
        return delivery is None or delivery.done

    def error(self, index: int) -> RaykafkaError | None:
        delivery = self._delivery(index)
        if delivery is not None:
            return delivery.error
        return self._failure or self._errors[index]

    def result(self, index: int) -> RecordMetadata:
        delivery = self._delivery(index)
        assert delivery is not None
        position = index if self._position_of is None else self._position_of[index]
        offset = delivery.base_offset + position if delivery.base_offset >= 0 else -1
        timestamp = delivery.append_time_ms
        if timestamp < 0:
            timestamp = self.mark_ms[bisect_right(self.mark_index, index) - 1]
        return RecordMetadata(self.topic, delivery.partition, int(offset), timestamp)

    def _delivery(self, index: int) -> Delivery | None:
        if not self.deliveries:
            return None
        if self._batch_of is None:
            return self.deliveries[0]
        batch = self._batch_of[index]
        return None if batch < 0 else self.deliveries[batch]

    def _let_go(self) -> None:
        self.values, self.keys, self.headers, self.partitions = [], None, None, None


class TablePart(NamedTuple):
    """A piece of a table that becomes one batch."""

    partition: int
    """-1 means wherever it is best."""
    batch: pa.RecordBatch
    """In the storage schema."""
    size: int
    """Bytes of its columns."""


class TableGroup(Group):
    """A table, already cut into batches of its columns."""

    __slots__ = ("_failure", "parts", "schema_id")

    def __init__(
        self,
        driver: Driver,
        topic: str,
        created_ms: int,
        parts: Sequence[TablePart],
        schema_id: int,
    ) -> None:
        super().__init__(driver, topic, created_ms)
        self.parts = parts
        self.schema_id = schema_id
        self._failure: RaykafkaError | None = None
        if not parts:
            self.deliveries = ()

    def place(self, deliveries: Sequence[Delivery]) -> None:
        """One delivery per part, in their order."""
        self.pending = len(deliveries)
        self.deliveries = deliveries
        self.parts = ()

    def fail(self, error: RaykafkaError) -> None:
        self._failure = error
        self.deliveries = ()
        self.parts = ()

    def settled(self, index: int) -> bool:
        return self.complete()

    def error(self, index: int) -> RaykafkaError | None:
        """The first error of any batch; the other batches may be in the log."""
        failures = (delivery.error for delivery in self.deliveries or () if delivery.error)
        return self._failure or next(failures, None)

    def result(self, index: int) -> list[BatchMetadata]:
        return [
            BatchMetadata(
                self.topic,
                delivery.partition,
                delivery.base_offset,
                delivery.max_timestamp,
                delivery.count,
            )
            for delivery in self.deliveries or ()
        ]
