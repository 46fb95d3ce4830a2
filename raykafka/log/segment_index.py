"""The index of a segment: one row per batch, in columns, without Arrow."""

from __future__ import annotations

import struct
import sys
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import accumulate
from typing import Final, NamedTuple

import crc32c

from raykafka.errors import CorruptMessageError
from raykafka.log.batch_header import BatchHeader

_HEAD: Final = struct.Struct("<8sI")
_MAGIC: Final = b"rkindex1"
_CRC: Final = struct.Struct("<I")
_WIDE: Final = "q"
_NARROW: Final = "i"


class IndexEntry(NamedTuple):
    """One batch of a segment."""

    base_offset: int
    next_offset: int
    position: int
    """Where the batch begins in the file."""
    size: int
    """Bytes of the batch."""
    max_timestamp: int
    """Largest timestamp that a reader of the batch sees, in milliseconds."""
    leader_epoch: int
    metadata_size: int
    """Bytes of the batch before its body."""


class SegmentIndex:
    """Rows in ascending order of offset and position; 44 bytes of memory each."""

    __slots__ = (
        "_columns",
        "_latest",
        "base_offset",
        "leader_epoch",
        "max_timestamp",
        "metadata_size",
        "next_offset",
        "position",
        "size",
    )

    def __init__(self) -> None:
        self.base_offset = array(_WIDE)
        self.next_offset = array(_WIDE)
        self.position = array(_WIDE)
        self.max_timestamp = array(_WIDE)
        self.size = array(_NARROW)
        self.metadata_size = array(_NARROW)
        self.leader_epoch = array(_NARROW)
        self._columns = (
            self.base_offset,
            self.next_offset,
            self.position,
            self.max_timestamp,
            self.size,
            self.metadata_size,
            self.leader_epoch,
        )
        self._latest = array(_WIDE)

    def __len__(self) -> int:
        return len(self.base_offset)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SegmentIndex) and self._columns == other._columns

    __hash__ = None  # type: ignore[assignment]

    def __getitem__(self, number: int) -> IndexEntry:
        return IndexEntry(
            self.base_offset[number],
            self.next_offset[number],
            self.position[number],
            self.size[number],
            self.max_timestamp[number],
            self.leader_epoch[number],
            self.metadata_size[number],
        )

    def __iter__(self) -> Iterator[IndexEntry]:
        return (self[number] for number in range(len(self)))

    def add(self, header: BatchHeader, position: int) -> None:
        """Appends a stamped batch that begins at ``position`` of the file.

        Raises ``ValueError`` where it does not follow the last one: the caller has mixed up its
        offsets or positions.
        """
        ends, base_offset = self.next_offset, header.base_offset
        if ends and (base_offset < ends[-1] or position < self.position[-1] + self.size[-1]):
            raise ValueError(
                f"the batch at offset {base_offset}, position {position} does not follow {self[-1]}"
            )
        self.base_offset.append(base_offset)
        ends.append(base_offset + header.record_count)
        self.position.append(position)
        self.max_timestamp.append(header.largest_timestamp)
        self.size.append(header.size)
        self.metadata_size.append(header.metadata_size)
        self.leader_epoch.append(header.leader_epoch)

    def find(self, offset: int) -> int:
        """Number of the batch that holds ``offset``, or of the first one behind it; ``len(self)``
        where all batches end before it.
        """
        return bisect_right(self.next_offset, offset)

    def find_timestamp(self, timestamp: int) -> int:
        """Number of the first batch with a record at or after ``timestamp``; ``len(self)`` where
        there is none. Timestamps need not ascend.
        """
        return bisect_left(self._running_maximum(), timestamp)

    def largest_timestamp(self) -> int:
        """The segment's largest timestamp in milliseconds; -1 where it holds no batch."""
        return self._running_maximum()[-1] if len(self) else -1

    def end_position(self) -> int:
        """Where the last batch ends; 0 where there is none."""
        return self.position[-1] + self.size[-1] if len(self) else 0

    def truncate(self, count: int) -> None:
        """Keeps the first ``count`` batches."""
        for column in (*self._columns, self._latest):
            del column[count:]

    def blocks(self) -> Iterator[tuple[int, int, int]]:
        """Position, metadata size and whole size of each batch: what an Arrow footer lists."""
        return zip(self.position, self.metadata_size, self.size, strict=True)

    def to_bytes(self) -> bytes:
        """Little-endian columns behind a magic and the count, with a CRC-32C at the end."""
        parts = [_HEAD.pack(_MAGIC, len(self))]
        parts += (_little_endian(column).tobytes() for column in self._columns)
        data = b"".join(parts)
        return data + _CRC.pack(crc32c.crc32c(data))

    @classmethod
    def from_bytes(cls, data: bytes) -> SegmentIndex:
        """Reads what ``to_bytes`` wrote; raises ``CorruptMessageError`` where it is damaged."""
        index = cls()
        if len(data) < _HEAD.size + _CRC.size:
            raise CorruptMessageError("the segment's index is cut short")
        magic, count = _HEAD.unpack_from(data)
        row = sum(column.itemsize for column in index._columns)
        end = _HEAD.size + count * row
        if magic != _MAGIC or len(data) != end + _CRC.size:
            raise CorruptMessageError("the segment's index has another format or length")
        if _CRC.unpack_from(data, end)[0] != crc32c.crc32c(data[:end]):
            raise CorruptMessageError("the segment's index fails its CRC")
        start = _HEAD.size
        for column in index._columns:
            stop = start + count * column.itemsize
            column.frombytes(data[start:stop])
            if sys.byteorder == "big":
                column.byteswap()
            start = stop
        return index

    def _running_maximum(self) -> array[int]:
        """Largest timestamp up to each batch, so that time can be searched by bisection."""
        known = len(self._latest)
        if known < len(self):
            if known:
                rest = accumulate(self.max_timestamp[known:], max, initial=self._latest[-1])
                next(rest)
            else:
                rest = accumulate(self.max_timestamp, max)
            self._latest.extend(rest)
        return self._latest


def _little_endian(column: array[int]) -> array[int]:
    if sys.byteorder == "little":
        return column
    swapped = column[:]
    swapped.byteswap()
    return swapped
