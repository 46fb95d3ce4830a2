"""Cuts the end off a log's files, or all of it, so that a crash at any moment does no harm.

The order is what makes it so. First a durable checkpoint promises no more than what is to stay;
then whole segments go, the last one first; the segment in which the cut lies is cut at the end.
After a crash anywhere in between the log is longer than it was to become, and whole.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple

from raykafka.errors import LogDamagedError
from raykafka.storage.api import MissingFileError, SegmentStore
from raykafka.storage.log_files import LogFiles
from raykafka.storage.log_segment import LogSegment
from raykafka.storage.segments import Segments


class Cut(NamedTuple):
    """How a log is to end."""

    end_offset: int
    """Its new log end offset: the end of a good batch, or of nothing."""
    keep: int
    """Segments that stay; 0 where nothing stays."""
    position: int
    """Where the last one of them is cut; its file's size where it stays as it is."""


def plan_cut(segments: Segments, offset: int) -> Cut:
    """The longest prefix of whole, good batches that ends at or before ``offset``.

    A damaged range at its end goes, too: what follows it is going to be written again, and with it
    the range can be.
    """
    items, end = segments.items, offset
    keep = len(items)
    while True:
        while keep and items[keep - 1].base_offset >= end:
            keep -= 1
        if not keep:
            return Cut(min(end, segments.view.log_start_offset), 0, 0)
        last = items[keep - 1]
        end, position = _last_end(segments, last, end)
        if end > last.base_offset:
            return Cut(end, keep, position)


def write_cut(store: SegmentStore, files: LogFiles, segments: Segments, cut: Cut) -> None:
    """Do it, once the checkpoint of ``announce_cut`` is there; raises ``KafkaStorageError``."""
    last = segments.items[cut.keep - 1]
    _delete_last(store, files, segments, keep=cut.keep)
    files.delete_producers(_active_base(last, cut))
    if last.size_bytes != cut.position:
        store.truncate(last.path, cut.position)
        # Or the next batches could come to stand among the remains of old ones.
        store.flush(last.path)


def announce_cut(files: LogFiles, segments: Segments, flushed_offset: int, cut: Cut) -> None:
    """The durable checkpoint with which a cut begins; nothing has happened if this fails."""
    last = segments.items[cut.keep - 1]
    base = _active_base(last, cut)
    files.write_marks(
        min(segments.view.log_start_offset, cut.end_offset),
        min(flushed_offset, cut.end_offset),
        cut.end_offset,
        base,
        base == last.base_offset,
        durable=True,
    )


def announce_restart(files: LogFiles, segments: Segments, flushed_offset: int) -> None:
    """The same for ``write_restart``: until all is gone the log begins where it did."""
    start = segments.view.log_start_offset
    files.write_marks(start, min(flushed_offset, start), start, start, False, durable=True)


def write_restart(store: SegmentStore, files: LogFiles, segments: Segments, offset: int) -> None:
    """Delete everything; the log begins at ``offset`` then. Raises ``KafkaStorageError``."""
    _delete_last(store, files, segments, keep=0)
    files.delete_producers(-1)
    files.sync_directory()
    files.write_marks(offset, offset, offset, offset, False, durable=True)


def _last_end(segments: Segments, segment: LogSegment, end: int) -> tuple[int, int]:
    """End offset and position of the last good batch that ends by ``end``, else the beginning."""
    try:
        index = segments.index(segment)
    except LogDamagedError:
        return segment.base_offset, 0
    number = bisect_right(index.next_offset, end)
    while number and segments.view.damaged_at(index.base_offset[number - 1]) is not None:
        number -= 1
    if not number:
        return segment.base_offset, 0
    if index.next_offset[number - 1] == segment.next_offset:
        return segment.next_offset, segment.size_bytes
    return index.next_offset[number - 1], index.position[number - 1] + index.size[number - 1]


def _active_base(last: LogSegment, cut: Cut) -> int:
    """Base offset of the segment that is appended to afterwards."""
    whole = last.sealed and last.size_bytes == cut.position
    return cut.end_offset if whole else last.base_offset


def _delete_last(store: SegmentStore, files: LogFiles, segments: Segments, *, keep: int) -> None:
    """Delete segments from the last one on; each is gone for good before the one before it."""
    for segment in reversed(segments.items[keep:]):
        segment.deleted = True
        try:
            store.delete(segment.path)
        except MissingFileError:
            continue  # the active one gets its file with its first batch
        files.sync_directory()
