"""Reads a log: batches by offset, their places for co-located readers, offsets by timestamp."""

from __future__ import annotations

import functools
import struct
from bisect import bisect_right
from collections.abc import Callable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from raykafka.errors import (
    CorruptMessageError,
    KafkaStorageError,
    LogDamagedError,
    OffsetOutOfRangeError,
)
from raykafka.log.batch import decode_batch
from raykafka.log.batch_header import CONTROL, read_header, special_flags
from raykafka.log.ipc_message import PREFIX_SIZE
from raykafka.log.schema import TIMESTAMP
from raykafka.log.segment_index import SegmentIndex
from raykafka.model import OffsetAndTimestamp, PartitionId
from raykafka.storage.api import (
    CachedStore,
    LocalFile,
    MappableStore,
    MissingFileError,
    SegmentStore,
)
from raykafka.storage.log_segment import LogSegment
from raykafka.storage.log_types import SegmentSlice, Stretch
from raykafka.storage.segments import Segments

Choose = Callable[[memoryview, Sequence[int], Sequence[int]], Sequence[int]]
"""(bytes of consecutive batches, their base offsets, their positions, the first of which is that of
the bytes) -> which of them by number."""

_VERIFY_BYTES_PER_CALL = 64 << 20
"""Unverified bytes that one ``locate`` looks at: some milliseconds of an event loop's time."""
_SURELY_CACHED = 8 << 20
"""The end of the active segment has just been written: nobody need ask whether it is in memory."""


class LogReader:
    """Read access to the segments of one log; nothing damaged ever leaves it."""

    __slots__ = ("_cached", "_mappable", "_name", "_partition", "_segments", "_store", "schemas")

    def __init__(
        self,
        store: SegmentStore,
        segments: Segments,
        partition: PartitionId,
        name: str,
        schemas: Sequence[pa.Schema],
    ) -> None:
        """``name`` is what messages call the log; ``schemas`` are storage schemas by schema id."""
        self._store = store
        self._mappable = store if isinstance(store, MappableStore) else None
        self._cached = store if isinstance(store, CachedStore) else None
        self._segments = segments
        self._partition = partition
        self._name = name
        self.schemas = schemas

    def read(self, offset: int, max_bytes: int, up_to: int) -> list[memoryview]:
        """See ``PartitionLog.read``."""
        view = self._segments.view
        if not view.log_start_offset <= offset < min(up_to, view.log_end_offset):
            self._check_range(offset)
            return []
        segment, index, first = self._find(offset)
        end = self._end_of_read(index, first, max_bytes, up_to)
        return self._batches(segment, index, first, end) if end > first else []

    def cold(self, offset: int, max_bytes: int, up_to: int) -> Callable[[], None] | None:
        """See ``PartitionLog.cold``."""
        view, store = self._segments.view, self._cached
        if store is None or not view.log_start_offset <= offset < min(up_to, view.log_end_offset):
            return None
        segment, index, first = self._find(offset)
        start = index.position[first]
        if not segment.sealed and segment.size_bytes - start <= _SURELY_CACHED:
            return None
        end = self._end_of_read(index, first, max_bytes, up_to)
        length = index.position[end - 1] + index.size[end - 1] - start if end > first else 0
        if not length or store.is_cached(segment.path, start, length):
            return None
        return functools.partial(store.load, segment.path, start, length)

    def locate(
        self, offset: int, max_batches: int, up_to: int, choose: Choose | None = None
    ) -> SegmentSlice | None:
        """See ``PartitionLog.locate``; ``choose`` tells which batches are meant, all without it."""
        view = self._segments.view
        if self._mappable is None:
            return None
        if not view.log_start_offset <= offset < min(up_to, view.log_end_offset):
            self._check_range(offset)
            return None
        segment, index, first = self._find(offset)
        end = min(self._end_of_run(index, first, up_to), first + max_batches)
        file = self._file_of(segment, index, self._mappable)
        end = self._verify_range(segment, index, first, end)
        if end <= first:
            return None
        positions: Sequence[int] = index.position[first:end]
        sizes: Sequence[int] = index.size[first:end]
        size = positions[-1] + sizes[-1] - positions[0]
        if choose is not None:
            data = self._store.read(segment.path, positions[0], size)
            chosen = choose(data, index.base_offset[first:end], positions)
            positions = [positions[number] for number in chosen]
            sizes = [sizes[number] for number in chosen]
            size = sum(sizes)
        count = len(sizes)
        pairs = [0] * (2 * count)
        pairs[::2] = positions
        pairs[1::2] = sizes
        packed = struct.pack(f"<{len(pairs)}Q", *pairs)
        complete = count == end - first
        return SegmentSlice(file, packed, count, size, index.next_offset[end - 1], complete)

    def stretch(self, offset: int, max_bytes: int, up_to: int) -> Stretch | None:
        """See ``PartitionLog.stretch``."""
        view = self._segments.view
        if not view.log_start_offset <= offset < min(up_to, view.log_end_offset):
            return None
        segment, index, first = self._find(offset)
        end = self._end_of_read(index, first, max_bytes, up_to)
        if end <= first:
            return None
        store = self._mappable
        file = None if store is None else self._file_of(segment, index, store)
        sizes = list(index.size[first:end])
        return Stretch(file, index.position[first], sizes, index.next_offset[end - 1])

    def doubt(self, offset: int) -> None:
        """See ``PartitionLog.doubt``."""
        segment, index, _ = self._find(offset)
        segment.trust_from(len(index))

    def offset_for_timestamp(self, timestamp: int) -> OffsetAndTimestamp | None:
        """See ``PartitionLog.offset_for_timestamp``."""
        start = self._segments.view.log_start_offset
        for segment in self._segments.items:
            if segment.next_offset <= start or segment.largest_timestamp < timestamp:
                continue
            index = self._segments.index(segment)
            for number in range(index.find_timestamp(timestamp), len(index)):
                if index.next_offset[number] <= start or index.max_timestamp[number] < timestamp:
                    continue
                found = self._first_record(segment, index, number, timestamp)
                if found is not None:
                    return found
        return None

    def max_timestamp(self, *, has_markers: bool) -> OffsetAndTimestamp | None:
        """See ``PartitionLog.max_timestamp``."""
        start = self._segments.view.log_start_offset
        best: tuple[LogSegment, SegmentIndex, int] | None = None
        largest = 0
        # From the end: that is where the largest mostly is, and markers with it.
        for segment in reversed(self._segments.items):
            if segment.next_offset <= start or segment.largest_timestamp < largest:
                continue
            index = self._segments.index(segment)
            for number in reversed(range(index.find(start), len(index))):
                if index.max_timestamp[number] < largest:
                    continue
                if has_markers and self._is_control(segment, index, number):
                    continue
                largest = index.max_timestamp[number]
                best = segment, index, number
        if best is None:
            return None
        return self._first_record(*best, timestamp=largest)

    # --- inside -----------------------------------------------------------------------------------

    def _is_control(self, segment: LogSegment, index: SegmentIndex, number: int) -> bool:
        head = self._store.read(segment.path, index.position[number], PREFIX_SIZE)
        return bool(special_flags(head) & CONTROL)

    def _find(self, offset: int) -> tuple[LogSegment, SegmentIndex, int]:
        """Segment, index and number of the batch that holds ``offset``."""
        view = self._segments.view
        damage = view.damaged_at(offset)
        if damage is not None:
            raise self._damaged(*damage, "damaged or missing on this disk")
        segment = self._segments.find(offset)
        index = segment.index
        if index is None:
            index = self._segments.index(segment)
        number = index.find(offset)
        if number == len(index) or index.base_offset[number] > offset:
            raise self._damaged(offset, offset + 1, "missing from the segment's index")
        return segment, index, number

    def _end_of_run(self, index: SegmentIndex, first: int, up_to: int) -> int:
        """One past the last batch from ``first`` on that ends by ``up_to`` with no gap between."""
        gap = self._segments.view.next_damage(index.base_offset[first])
        return bisect_right(index.next_offset, up_to if gap is None else min(gap, up_to), first)

    def _batches(
        self, segment: LogSegment, index: SegmentIndex, first: int, end: int
    ) -> list[memoryview]:
        """Batches that stand one behind the other; at least the first one is good."""
        origin = index.position[first]
        last = end - 1
        try:
            data = self._store.read(
                segment.path, origin, index.position[last] + index.size[last] - origin
            )
        except MissingFileError as error:
            if segment.sealed:
                raise self._lost(segment, error) from error
            raise
        if segment.sealed and self._mappable is not None:
            self._file_of(segment, index, self._mappable)
        batches = [
            data[position - origin : position - origin + size]
            for position, size in zip(index.position[first:end], index.size[first:end], strict=True)
        ]
        if segment.is_trusted_from(first):
            return batches
        for number, message in enumerate(batches, first):
            if not segment.is_verified(number):
                try:
                    segment.verify(number, message, self._partition)
                except CorruptMessageError as error:
                    if number == first:
                        raise self._corrupt(index, number, error) from error
                    return batches[: number - first]
        return batches

    def _end_of_read(self, index: SegmentIndex, first: int, max_bytes: int, up_to: int) -> int:
        """One past the last batch that a read from batch ``first`` returns."""
        end = self._end_of_run(index, first, up_to)
        limit = index.position[first] + max_bytes
        if end > first + 1 and index.position[end - 1] + index.size[end - 1] > limit:
            end = max(bisect_right(index.position, limit, first, end) - 1, first + 1)
        return end

    def _verify_range(self, segment: LogSegment, index: SegmentIndex, first: int, end: int) -> int:
        """Verify what has not been, up to a bound; returns where that ends."""
        unverified = 0
        for number in range(first, end):
            if segment.is_verified(number):
                continue
            if unverified > _VERIFY_BYTES_PER_CALL:
                return number
            unverified += index.size[number]
            try:
                self._batches(segment, index, number, number + 1)
            except LogDamagedError:
                if number == first:
                    raise
                return number
        return end

    def _file_of(self, segment: LogSegment, index: SegmentIndex, store: MappableStore) -> LocalFile:
        """The segment's file; after a change from outside its batches are verified again."""
        try:
            file = store.local_file(segment.path)
        except MissingFileError as error:
            raise self._lost(segment, error) from error
        if segment.sealed and file.version != segment.file_version:
            segment.trust_from(len(index))
            segment.file_version = file.version
        return file

    def _first_record(
        self, segment: LogSegment, index: SegmentIndex, number: int, timestamp: int
    ) -> OffsetAndTimestamp | None:
        """The batch's first record from the log start on that is not older than ``timestamp``."""
        message = self._batches(segment, index, number, number + 1)[0]
        header = read_header(message)
        if header.is_control:
            return None
        skip = max(self._segments.view.log_start_offset - header.base_offset, 0)
        if header.timestamp_type:
            offset = header.base_offset + skip
            return OffsetAndTimestamp(offset, header.append_time_ms, header.leader_epoch)
        if not 0 <= header.schema_id < len(self.schemas):
            raise LogDamagedError(
                f"{self._name} has a batch of schema {header.schema_id}, but the topic has only "
                f"{len(self.schemas)}; give the partition all schemas of the topic"
            )
        schema = self.schemas[header.schema_id]
        times = decode_batch(message, schema, columns=[TIMESTAMP]).column(0).cast(pa.int64())
        position = pc.index(pc.greater_equal(times[skip:], timestamp), True).as_py()
        if position < 0:
            return None
        offset = header.base_offset + skip + position
        return OffsetAndTimestamp(offset, times[skip + position].as_py(), header.leader_epoch)

    def _check_range(self, offset: int) -> None:
        view = self._segments.view
        if not view.log_start_offset <= offset <= view.log_end_offset:
            raise OffsetOutOfRangeError(
                f"offset {offset} is outside of {self._name}, which holds {view.log_start_offset} "
                f"up to {view.log_end_offset}; seek to the beginning, the end or in between"
            )

    def _corrupt(
        self, index: SegmentIndex, number: int, error: CorruptMessageError
    ) -> LogDamagedError:
        start, end = index.base_offset[number], index.next_offset[number]
        self._segments.view.mark_damaged(start, end)
        return self._damaged(start, end, f"damaged ({error})")

    def _lost(self, segment: LogSegment, error: KafkaStorageError) -> LogDamagedError:
        self._segments.view.mark_damaged(segment.base_offset, segment.next_offset)
        return self._damaged(segment.base_offset, segment.next_offset, f"not readable ({error})")

    def _damaged(self, start: int, end: int, what: str) -> LogDamagedError:
        return LogDamagedError(
            f"offsets {start} to {end - 1} of {self._name} are {what}; seek to {end} to skip them, "
            "or restore the segment file and restart the partition"
        )
