"""One segment of a log as its owner sees it: a file, what it holds, what of it was verified."""

from __future__ import annotations

from raykafka.errors import CorruptMessageError, LogDamagedError
from raykafka.log.batch_header import BatchHeader, verify
from raykafka.log.segment import TRAILER_SIZE, footer_size, parse_footer, should_roll
from raykafka.log.segment_index import SegmentIndex
from raykafka.log.view import SegmentRange
from raykafka.model import PartitionId
from raykafka.storage.api import SegmentStore
from raykafka.storage.log_types import LogConfig

MAX_SEGMENT_BATCHES = 1 << 17
"""A segment of tiny batches is sealed before its index grows out of hand, as Kafka rolls when
``segment.index.bytes`` is full."""


class LogSegment(SegmentRange):
    """A segment file. The active one keeps its index; a sealed one loads it from the footer.

    ``size_bytes`` is the file's size, 0 before it is created; ``next_offset`` is the end of the
    last batch, good or damaged. Damaged batches are left out of the index.
    """

    __slots__ = (
        "_checked",
        "_trusted_from",
        "deleted",
        "file_version",
        "first_append_ms",
        "index",
        "path",
        "schema_id",
        "sealed",
    )

    def __init__(self, path: str, base_offset: int) -> None:
        super().__init__(base_offset, base_offset, 0)
        self.path = path
        self.sealed = False
        self.deleted = False
        """Retention has taken it; set before its file goes."""
        self.index: SegmentIndex | None = SegmentIndex()
        """None for a sealed segment whose index is not loaded."""
        self.schema_id = -1
        """Schema of the last batch; -1 while there is none, and in sealed segments."""
        self.first_append_ms = -1
        """Append time of the first batch; -1 while there is none, and in sealed segments."""
        self.file_version = -1
        """Time of the file's last change when its batches were verified, in nanoseconds."""
        self._trusted_from = 0
        self._checked: bytearray | None = None

    @property
    def loaded_index(self) -> SegmentIndex:
        """The index, where it is known to be loaded."""
        if self.index is None:
            raise LogDamagedError(f"the index of {self.path} is not loaded; restart the partition")
        return self.index

    def must_end(self, header: BatchHeader, now_ms: int, config: LogConfig) -> bool:
        """Whether a new segment has to begin before this batch is appended."""
        batches = len(self.loaded_index.base_offset)
        return batches > 0 and (
            should_roll(
                size=self.size_bytes,
                incoming=header.size,
                age_ms=now_ms - self.first_append_ms,
                segment_bytes=config.segment_bytes,
                segment_ms=config.segment_ms,
            )
            or batches >= MAX_SEGMENT_BATCHES
            or header.schema_id != self.schema_id
        )

    def add(self, header: BatchHeader, position: int) -> None:
        """Take note of a batch that stands at ``position``; ``header`` is the stamped one."""
        index = self.loaded_index
        index.add(header, position)
        self.next_offset = index.next_offset[-1]
        self.size_bytes = position + header.size
        self.schema_id = header.schema_id
        largest = index.max_timestamp[-1]
        if largest > self.largest_timestamp:
            self.largest_timestamp = largest
        if self.first_append_ms < 0:
            self.first_append_ms = header.append_time_ms

    def trust_from(self, number: int) -> None:
        """Batches from ``number`` on were written or verified by this process, no others."""
        self._trusted_from = number
        self._checked = None

    def is_trusted_from(self, number: int) -> bool:
        """Whether no batch from ``number`` on need be verified."""
        return number >= self._trusted_from

    def is_verified(self, number: int) -> bool:
        """Whether batch ``number`` need not be verified any more."""
        if number >= self._trusted_from:
            return True
        return self._checked is not None and self._checked[number] != 0

    def verify(self, number: int, message: memoryview, partition: PartitionId) -> None:
        """Verify batch ``number`` and remember it; raises ``CorruptMessageError``."""
        header = verify(message, partition)
        index = self.loaded_index
        if header.size != index.size[number] or header.base_offset != index.base_offset[number]:
            raise CorruptMessageError(
                f"the batch says it has offset {header.base_offset} and {header.size} bytes, the "
                f"index says {index.base_offset[number]} and {index.size[number]}"
            )
        if self._checked is None:
            self._checked = bytearray(self._trusted_from)
        self._checked[number] = 1


def load_index(store: SegmentStore, path: str, size: int) -> SegmentIndex:
    """The index in a sealed segment's footer; raises ``CorruptMessageError`` if there is none."""
    if size < TRAILER_SIZE:
        raise CorruptMessageError(f"{path} is too short to have a footer")
    length = footer_size(store.read(path, size - TRAILER_SIZE, TRAILER_SIZE))
    if length > size:
        raise CorruptMessageError(f"{path} is shorter than its footer says it is")
    return parse_footer(store.read(path, size - length, length))[1]


def open_sealed(store: SegmentStore, path: str, base_offset: int, size: int) -> LogSegment:
    """A sealed segment by its footer; raises ``CorruptMessageError`` if it has no good one."""
    index = load_index(store, path, size)
    if not len(index) or index.base_offset[0] < base_offset or index.end_position() > size:
        raise CorruptMessageError(f"the index of {path} is that of another file")
    segment = LogSegment(path, base_offset)
    segment.sealed = True
    segment.size_bytes = size
    segment.index = index
    segment.next_offset = index.next_offset[-1]
    segment.largest_timestamp = index.largest_timestamp()
    segment.trust_from(len(index))
    return segment


def gaps_of(segment: LogSegment) -> list[tuple[int, int]]:
    """Offset ranges of a segment that no batch of its index covers."""
    index = segment.loaded_index
    if not len(index):
        return [(segment.base_offset, segment.next_offset)]
    starts, ends = index.base_offset, index.next_offset
    gaps = [(segment.base_offset, starts[0]), (ends[-1], segment.next_offset)]
    if starts[1:] != ends[:-1]:
        gaps += zip(ends[:-1], starts[1:], strict=True)
    return [(start, end) for start, end in gaps if start < end]
