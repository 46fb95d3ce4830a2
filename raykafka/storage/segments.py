"""The segments of one log with their indexes, on top of the plain ``LogView``."""

from __future__ import annotations

from collections.abc import Sequence

from raykafka.errors import CorruptMessageError, LogDamagedError
from raykafka.log.segment_index import SegmentIndex
from raykafka.log.view import LogView
from raykafka.storage.api import MissingFileError, SegmentStore
from raykafka.storage.log_segment import LogSegment, load_index

_INDEX_ROWS_KEPT = 100_000
"""Rows of sealed segments' indexes that one log keeps loaded: 4.4 MB."""


class Segments:
    """Sealed segments and the active one, which is the last and may not have a file yet."""

    __slots__ = ("_items", "_loaded", "_store", "active", "view")

    def __init__(
        self, store: SegmentStore, items: Sequence[LogSegment], log_start_offset: int
    ) -> None:
        """``items`` ascend and are not empty; the last one is not sealed."""
        self._store = store
        self._items = list(items)
        self._loaded: list[LogSegment] = []
        self.view = LogView(items, log_start_offset=log_start_offset)
        self.active = items[-1]
        """The segment that is appended to."""
        for segment in self._items[:-1]:
            if segment.index is not None:
                self._keep(segment)

    def __len__(self) -> int:
        return len(self._items)

    @property
    def items(self) -> Sequence[LogSegment]:
        """All segments in ascending order."""
        return self._items

    def append(self, segment: LogSegment) -> None:
        """Begin a new active segment."""
        self.view.add_segment(segment)
        self._keep(self.active)
        self._items.append(segment)
        self.active = segment

    def drop(self, count: int) -> Sequence[LogSegment]:
        """Forget the first ``count`` segments, never the active one; moves the log start."""
        self.view.drop_segments(count)
        dropped = self._items[:count]
        del self._items[:count]
        first = self._items[0].base_offset
        self._loaded = [segment for segment in self._loaded if segment.base_offset >= first]
        return dropped

    def find(self, offset: int) -> LogSegment:
        """The segment in which reading at ``offset`` begins; raises as ``LogView.segment_for``."""
        return self._items[self.view.segment_for(offset)]

    def index(self, segment: LogSegment) -> SegmentIndex:
        """The segment's index, from its footer if need be; ``LogDamagedError`` if that is gone."""
        index = segment.index
        if index is None:
            try:
                index = load_index(self._store, segment.path, segment.size_bytes)
            except (CorruptMessageError, MissingFileError) as error:
                self.view.mark_damaged(segment.base_offset, segment.next_offset)
                raise LogDamagedError(
                    f"{segment.path} cannot be read ({error}): offsets {segment.base_offset} to "
                    f"{segment.next_offset - 1} are damaged. Seek to {segment.next_offset} to skip "
                    "them, or restore the file and restart the partition"
                ) from error
            segment.index = index
            self._keep(segment)
        return index

    def _keep(self, segment: LogSegment) -> None:
        """Bound the memory of loaded indexes; the newest one always stays.

        Each segment stands here once, or what was just loaded would be dropped as the oldest.
        """
        self._loaded.append(segment)
        rows = sum(len(each.index) for each in self._loaded if each.index is not None)
        while rows > _INDEX_ROWS_KEPT and len(self._loaded) > 1:
            oldest = self._loaded.pop(0)
            if oldest.index is not None and oldest.sealed:
                rows -= len(oldest.index)
                oldest.index = None
