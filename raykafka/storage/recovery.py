"""Opens the log of a partition from what is on the disk, and says what was wrong with it.

Sealed segments are opened by their footer. The active one has none: it is read through, and batches
that were not known to be durable are verified. Nothing that may be a whole batch is ever cut.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import pyarrow as pa

from raykafka.errors import (
    CorruptMessageError,
    DiskFullError,
    LogDamagedError,
)
from raykafka.log.batch_header import BatchHeader, find_batch, peek_header
from raykafka.log.epochs import LeaderEpochCache
from raykafka.log.ipc_message import PREFIX_SIZE
from raykafka.log.producers import ProducerStates
from raykafka.log.segment import (
    END_OF_STREAM,
    MAGIC,
    build_preamble,
    parse_segment_name,
    read_preamble,
    segment_name,
)
from raykafka.storage.api import SegmentStore
from raykafka.storage.checkpoints import CHECKPOINT_FILE, Checkpoint
from raykafka.storage.log_files import LogFiles
from raykafka.storage.log_segment import LogSegment, gaps_of, open_sealed
from raykafka.storage.log_types import RecoveryReport
from raykafka.storage.log_writer import LogWriter
from raykafka.storage.scan import scan
from raykafka.storage.segments import Segments


class Recovered(NamedTuple):
    """A log as it stands after recovery."""

    segments: Segments
    producers: ProducerStates
    epochs: LeaderEpochCache
    recovery_offset: int
    """End of what is known to be durable."""
    has_checkpoint: bool
    """Whether there is a checkpoint that names the active segment."""
    report: RecoveryReport


def recover(
    store: SegmentStore,
    files: LogFiles,
    schemas: Sequence[pa.Schema],
    *,
    must_exist: bool,
) -> Recovered:
    """Open the log to which ``files`` belong; see ``PartitionLog.open`` for the errors."""
    return _Recovery(store, files, schemas).run(must_exist)


class _Recovery:
    def __init__(
        self,
        store: SegmentStore,
        files: LogFiles,
        schemas: Sequence[pa.Schema],
    ) -> None:
        self._store = store
        self._files = files
        self._partition = files.partition
        self._name = files.name
        self._schemas = schemas
        self._report = RecoveryReport()
        self._producers = ProducerStates()
        self._epochs = LeaderEpochCache()
        self._items: list[LogSegment] = []
        self._damaged: list[tuple[int, int]] = []
        self._recovery_offset = 0
        self._replay_from = -1

    def run(self, must_exist: bool) -> Recovered:
        names = self._files.names()
        checkpoint = self._read_checkpoint(names)
        bases = [base for base in map(parse_segment_name, names) if base is not None]
        if must_exist and checkpoint is None and not bases:
            raise LogDamagedError(
                f"the log of {self._name} was here before and is gone: {self._files.directory} is "
                "empty. Restore it, or delete the topic"
            )
        self._recovery_offset = 0 if checkpoint is None else checkpoint.recovery_offset
        newest = max([*bases, -1 if checkpoint is None else checkpoint.active_base_offset])
        self._replay_from, self._producers = self._files.read_producers(
            names, newest, self._report.notes
        )
        if self._replay_from < 0 and len(bases) > 1:
            self._report.notes.append(
                f"{self._name} has no snapshot of its producers; they are rebuilt from its batches"
            )
        for base in bases:
            self._items.append(self._open_segment(base, last=base == bases[-1]))
        segments = self._assemble(self._items, checkpoint, self._known_end(checkpoint, names))
        base = segments.active.base_offset
        if bases and self._replay_from < base and base not in bases:
            self._renew_snapshot(base)
        self._report.damaged = [(start, end) for start, end in segments.view.damaged]
        self._epochs.truncate_before(segments.view.log_start_offset)
        self._producers.transactions.truncate_before(segments.view.log_start_offset)
        return Recovered(
            segments,
            self._producers,
            self._epochs,
            min(self._recovery_offset, segments.view.log_end_offset),
            checkpoint is not None and checkpoint.active_base_offset == base,
            self._report,
        )

    def _read_checkpoint(self, names: Sequence[str]) -> Checkpoint | None:
        if CHECKPOINT_FILE in names:
            try:
                return self._files.read_checkpoint()
            except LogDamagedError as error:
                self._report.notes.append(str(error))
        elif names:
            self._report.notes.append(f"{self._name} has no checkpoint; it is made anew")
        return None

    def _known_end(self, checkpoint: Checkpoint | None, names: Sequence[str]) -> int:
        """Offset that the log reached for certain, by what the checkpoint says."""
        if checkpoint is None:
            return 0
        base = checkpoint.active_base_offset
        known = max(checkpoint.recovery_offset, base, checkpoint.log_start_offset)
        if checkpoint.active_created and segment_name(base) not in names:
            known = max(known, checkpoint.log_end_offset, base + 1)
        return known

    # --- segments ---------------------------------------------------------------------------------

    def _open_segment(self, base: int, *, last: bool) -> LogSegment:
        path = self._files.path(segment_name(base))
        size = self._store.size(path)
        try:
            segment = open_sealed(self._store, path, base, size)
        except CorruptMessageError:
            segment = LogSegment(path, base)
            segment.size_bytes = size
            if last and base > self._replay_from and self._items:
                self._renew_snapshot(base)
            torn = self._scan(segment)
            if last:
                self._cut(segment, torn)
            else:
                self._reseal(segment, torn)
        else:
            self._replay(segment)
        self._assign_epochs(segment)
        self._damaged += gaps_of(segment)
        if segment.sealed:
            segment.index = None  # a long log's indexes do not all fit into memory
        return segment

    def _renew_snapshot(self, offset: int) -> None:
        """Keep the producers as they were rebuilt, so that the next start need not do it again."""
        try:
            self._files.write_producers(offset, self._producers)
        except DiskFullError as error:
            self._report.notes.append(f"{self._name} has no snapshot of its producers: {error}")

    def _scan(self, segment: LogSegment) -> bytes:
        """Rebuild the index of a segment without footer; returns what follows its batches."""
        data = self._store.read(segment.path, 0, segment.size_bytes)

        def on_batch(position: int, header: BatchHeader) -> None:
            segment.add(header, position)
            if header.base_offset >= self._replay_from:
                self._producers.append(header)

        start = self._preamble_size(data)
        result = scan(
            data,
            start,
            segment.base_offset,
            self._partition,
            on_batch,
            trusted_below=self._recovery_offset,
        )
        self._report.scanned_bytes += result.checked_bytes
        segment.trust_from(bisect_left(segment.loaded_index.base_offset, self._recovery_offset))
        segment.next_offset = result.next_offset
        # A preamble that is damaged and has no batch behind it is written anew.
        empty = result.end == start and build_preamble(self._schemas[-1]) != data[:start]
        segment.size_bytes = 0 if empty else result.end
        return bytes(data[segment.size_bytes :])

    def _preamble_size(self, data: memoryview) -> int:
        """Where the first batch should stand."""
        try:
            size = read_preamble(data).size
        except CorruptMessageError as error:
            if len(data) > len(build_preamble(self._schemas[-1])):
                self._report.notes.append(f"{self._name}: {error}")
            return min(len(MAGIC), len(data))
        # The preamble has no checksum, so its size is believed only if it skips no batch.
        first = find_batch(data, len(MAGIC))
        return size if first < 0 or first > size else first

    def _cut(self, segment: LogSegment, torn: bytes) -> None:
        """Cut what no batch covers off the segment that is appended to; a copy of it is kept."""
        if not torn:
            return
        self._report.torn_bytes += len(torn)
        copy = f"{segment.path}.torn-{segment.size_bytes}"
        try:
            self._store.publish(copy, torn, durable=False)
            self._report.torn_copies.append(copy)
        except DiskFullError:
            self._report.notes.append(f"no room to keep a copy of {len(torn)} torn bytes as {copy}")
        self._store.truncate(segment.path, segment.size_bytes)

    def _reseal(self, segment: LogSegment, torn: bytes) -> None:
        """Write the footer of a segment that another one follows; else it is left as it is."""
        if not len(segment.loaded_index) or torn[:8] != END_OF_STREAM[: len(torn)]:
            segment.size_bytes += len(torn)
            self._report.notes.append(f"{segment.path} has no footer and is read without one")
            return
        try:
            if torn:
                self._store.truncate(segment.path, segment.size_bytes)
            writer = LogWriter(self._store, self._name)
            writer.seal(segment, self._schemas)
            writer.flush(segment)
        except DiskFullError as error:
            self._report.notes.append(f"{segment.path} is not sealed: {error}")
        else:
            self._report.resealed.append(segment.path)

    def _replay(self, segment: LogSegment) -> None:
        """Show the producers the batches that their snapshot does not cover."""
        index = segment.loaded_index
        for number in range(index.find(self._replay_from), len(index)):
            head = self._store.read(segment.path, index.position[number], PREFIX_SIZE)
            try:
                self._producers.append(peek_header(head))
            except CorruptMessageError as error:
                self._report.notes.append(f"{self._name} at {index.base_offset[number]}: {error}")

    def _assign_epochs(self, segment: LogSegment) -> None:
        index = segment.loaded_index
        if not len(index) or index.leader_epoch[-1] <= self._epochs.latest_epoch:
            return
        for epoch, offset in zip(index.leader_epoch, index.base_offset, strict=True):
            if epoch > self._epochs.latest_epoch:
                self._epochs.assign(epoch, offset)

    # --- putting it together ----------------------------------------------------------------------

    def _assemble(
        self, items: list[LogSegment], checkpoint: Checkpoint | None, known_end: int
    ) -> Segments:
        """Bring the segments in line with what there must be by the checkpoint."""
        log_start = items[0].base_offset if items else 0
        if checkpoint is not None:
            log_start = checkpoint.log_start_offset
        expected = log_start
        for segment in items:
            if segment is not items[0] and segment.base_offset < expected:
                self._check_overlap(items)
            self._damaged.append((expected, segment.base_offset))
            expected = max(expected, segment.next_offset)
        log_end = max(expected, known_end)
        self._damaged.append((expected, log_end))
        while items and items[0].sealed and items[0].next_offset <= log_start:
            self._store.delete(items.pop(0).path)  # a crash came between checkpoint and deletion
        if not items or items[-1].sealed:
            items.append(LogSegment(self._files.path(segment_name(log_end)), log_end))
        items[-1].next_offset = log_end
        segments = Segments(self._store, items, log_start)
        for start, end in self._damaged:
            segments.view.mark_damaged(start, end)
        return segments

    def _check_overlap(self, items: Sequence[LogSegment]) -> None:
        for before, after in pairwise(items):
            if after.base_offset < before.next_offset:
                raise LogDamagedError(
                    f"{before.path} ends at offset {before.next_offset}, behind the beginning of "
                    f"{after.path}: one of them is from another time. Move the wrong one away"
                )
