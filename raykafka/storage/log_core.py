"""What every operation on an open log needs: its segments and ends, reading, rolling, flushing.

One thread owns a log; ``flush`` alone may run in another one beside it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import pyarrow as pa

from raykafka.log.batch_header import BatchHeader
from raykafka.log.producers import ProducerSummary
from raykafka.log.segment import segment_name
from raykafka.log.transactions import AbortedTransaction
from raykafka.model import OffsetAndTimestamp
from raykafka.storage.api import MissingFileError, SegmentStore
from raykafka.storage.log_files import LogFiles
from raykafka.storage.log_reader import LogReader
from raykafka.storage.log_segment import LogSegment
from raykafka.storage.log_types import (
    AppendResult,
    LogConfig,
    SegmentSlice,
    Stretch,
    VisibleBatches,
)
from raykafka.storage.log_writer import LogWriter
from raykafka.storage.recovery import Recovered
from raykafka.storage.visible_reads import locate_visible, read_visible

CHECKPOINT_INTERVAL_MS = 30_000


class LogCore:
    """The part of ``PartitionLog`` that leaders and followers have in common."""

    def __init__(
        self,
        store: SegmentStore,
        files: LogFiles,
        config: LogConfig,
        schemas: Sequence[pa.Schema],
        recovered: Recovered,
        now_ms: int,
    ) -> None:
        """For ``PartitionLog.open``."""
        self._store = store
        self._files = files
        self._name = files.name
        self._config = config
        self._schemas = schemas
        self.recovered = recovered.report
        """What opening found."""
        self._writer = LogWriter(store, files.name)
        self._checkpoint_at_ms = now_ms + CHECKPOINT_INTERVAL_MS
        self._rolling = threading.Lock()  # what ``flush`` looks at: ``_unflushed`` and the segments
        self._adopt(recovered)

    def _adopt(self, recovered: Recovered) -> None:
        """Go on from what recovery made of the files."""
        self._segments = recovered.segments
        self._view = recovered.segments.view
        self._producers = recovered.producers
        self._transactions = recovered.producers.transactions
        self.epochs = recovered.epochs
        """Which leader epoch wrote which part of the log."""
        self.log_end_offset = self._view.log_end_offset
        """Offset that the next record gets."""
        self.flushed_offset = recovered.recovery_offset
        """End of what survives a power cut."""
        self._leader_epoch = self.epochs.latest_epoch
        self._reader = LogReader(
            self._store, self._segments, self._files.partition, self._name, self._schemas
        )
        self._unflushed = [
            segment
            for segment in recovered.segments.items
            if segment.sealed and segment.next_offset > recovered.recovery_offset
        ]

    # --- state ------------------------------------------------------------------------------------

    @property
    def log_start_offset(self) -> int:
        """First offset that can be read."""
        return self._view.log_start_offset

    @property
    def high_watermark(self) -> int:
        """How far the log was known to be committed; what is set goes into the next checkpoint."""
        return min(self._files.high_watermark, self.log_end_offset)

    @high_watermark.setter
    def high_watermark(self, offset: int) -> None:
        self._files.high_watermark = offset
        self._transactions.last_stable_offset(offset)  # forgets what ended and is committed

    @property
    def has_transactions(self) -> bool:
        """Whether a transactional batch or a marker may be in the log."""
        return self._transactions.first_offset >= 0

    def last_stable_offset(self, high_watermark: int) -> int:
        """End of what readers of committed records may see: nothing below it is undecided."""
        if self._transactions.first_offset < 0:
            return high_watermark
        stable = self._transactions.last_stable_offset(high_watermark)
        return max(stable, min(self.log_start_offset, high_watermark))

    def aborted_transactions(self, start: int, end: int) -> list[AbortedTransaction]:
        """Aborted transactions that have something between two offsets, ``end`` exclusive."""
        return self._transactions.aborted_in(start, end)

    def in_transaction(self, producer_id: int) -> bool:
        """Whether the producer has a transaction open here."""
        return producer_id in self._transactions.open

    def marker_is_due(self, producer_id: int, epoch: int) -> bool:
        """Whether a marker of that epoch has to be written; False where it has been.

        Raises ``InvalidProducerEpochError`` for one that cannot end the open transaction.
        """
        return self._producers.marker_is_due(producer_id, epoch)

    def find_duplicate(self, header: BatchHeader) -> AppendResult | None:
        """What was answered when the batch came first; None if it has not come yet.

        Raises the errors of ``ProducerStates.check``.
        """
        seen = self._producers.check(header)
        return None if seen is None else AppendResult(seen.base_offset, seen.append_time_ms, True)

    def producers(self) -> list[ProducerSummary]:
        """What is known of each producer that has written here."""
        return self._producers.described()

    @property
    def size_bytes(self) -> int:
        """Bytes of all segment files."""
        return self._view.size_bytes

    @property
    def segment_count(self) -> int:
        """Segments, the active one included."""
        return len(self._segments)

    @property
    def damaged(self) -> list[tuple[int, int]]:
        """Offset ranges, end exclusive, that are known to be unreadable."""
        return [(start, end) for start, end in self._view.damaged]

    @property
    def needs_flush(self) -> bool:
        """Whether a sealed segment still waits for ``flush``, whatever the topic's policy."""
        return bool(self._unflushed)

    # --- files ------------------------------------------------------------------------------------

    def roll(self, now_ms: int) -> None:
        """Seal the active segment and begin a new one; nothing happens while it is empty.

        The sealed file is made durable by the next ``flush``. Raises ``DiskFullError``, after which
        the segment is active still.
        """
        active = self._segments.active
        if active.is_empty:
            return
        base_offset = self.log_end_offset
        # First, so that no sealed segment is ever deleted without a snapshot of what it told.
        self._files.write_producers(base_offset, self._producers)
        if len(active.loaded_index):  # else nothing in it can be read, and its file stays as it is
            self._writer.seal(active, self._schemas)
        new = LogSegment(self._files.path(segment_name(base_offset)), base_offset)
        with self._rolling:
            if active.sealed:
                self._unflushed.append(active)
            self._segments.append(new)
        self._write_checkpoint(durable=False)
        self._checkpoint_at_ms = now_ms + CHECKPOINT_INTERVAL_MS

    def flush(self) -> int:
        """Make everything appended before the call durable; returns the offset where that ends.

        May run in another thread beside everything else. Raises ``KafkaStorageError``; the log is
        offline then, because what a failed fsync has lost is never known ("fsyncgate").
        """
        with self._rolling:
            self._writer.check()
            end = self.log_end_offset
            sealed = list(self._unflushed)
            segments = self._segments
            active = segments.active
        if end == self.flushed_offset and not sealed:
            return end
        for segment in (*sealed, active):
            if segment.size_bytes:
                self._writer.flush(segment)
        with self._rolling:
            if segments is not self._segments:  # truncated meanwhile: that says what is durable
                return min(end, self.flushed_offset)
            self._unflushed = [each for each in self._unflushed if each not in sealed]
            self.flushed_offset = max(self.flushed_offset, end)
        return end

    # --- reading ----------------------------------------------------------------------------------

    def read(self, offset: int, *, max_bytes: int, up_to: int) -> list[memoryview]:
        """Whole batches from the one that holds ``offset``, none reaching beyond ``up_to``.

        At least one if there is any, then as many as fit into ``max_bytes`` and stand in the same
        segment. Slices stay valid for as long as they are held. Raises ``OffsetOutOfRangeError``,
        or ``LogDamagedError`` that names the damaged range and where to go on.
        """
        return self._reader.read(offset, max_bytes, up_to)

    def locate(self, offset: int, *, max_batches: int, up_to: int) -> SegmentSlice | None:
        """Where the batches that ``read`` would return stand in their file, CRCs verified.

        None where there is nothing below ``up_to`` yet, or where the store's files cannot be
        mapped. Raises as ``read`` does.
        """
        return self._reader.locate(offset, max_batches, up_to)

    def read_visible(
        self, offset: int, *, max_bytes: int, up_to: int, committed: bool
    ) -> VisibleBatches:
        """What ``read`` gives, without markers, and with ``committed`` without what was aborted.

        ``up_to`` must not lie behind the last stable offset then. Where all that was looked at is
        left out there is no batch, but ``next_offset`` has moved on.
        """
        hidden = self._transactions, committed
        return read_visible(self._reader, hidden, offset, max_bytes, up_to)

    def locate_visible(
        self, offset: int, *, max_batches: int, up_to: int, committed: bool
    ) -> SegmentSlice | None:
        """What ``locate`` gives, as ``read_visible`` leaves things out."""
        hidden = self._transactions, committed
        return locate_visible(self._reader, hidden, offset, max_batches, up_to)

    def cold(self, offset: int, *, max_bytes: int, up_to: int) -> Callable[[], None] | None:
        """What a thread does so that ``read`` waits for no disk; None if it would not anyway."""
        return self._reader.cold(offset, max_bytes, up_to)

    def stretch(self, offset: int, *, max_bytes: int, up_to: int) -> Stretch | None:
        """Where the batches that ``read`` would return stand, unread and unverified.

        None where there is nothing below ``up_to``, or ``offset`` is outside of the log. Raises
        ``LogDamagedError`` as ``read`` does.
        """
        return self._reader.stretch(offset, max_bytes, up_to)

    def doubt(self, offset: int) -> None:
        """What was read at ``offset`` was damaged: batches of its segment are verified once more
        before they are read, although this process wrote them. Raises as ``read`` does.
        """
        self._reader.doubt(offset)

    def offset_for_timestamp(self, timestamp: int) -> OffsetAndTimestamp | None:
        """The first record that is not older than ``timestamp`` (ms); None if there is none."""
        return self._reader.offset_for_timestamp(timestamp)

    def max_timestamp(self) -> OffsetAndTimestamp | None:
        """The first record with the largest timestamp (KIP-734); None for an empty log."""
        return self._reader.max_timestamp(has_markers=self.has_transactions)

    # --- inside -----------------------------------------------------------------------------------

    def _delete_segments(self, count: int) -> None:
        self.epochs.truncate_before(self._view.log_start_offset)
        self._transactions.truncate_before(self._view.log_start_offset)
        if not count:
            return
        self._files.sync_producers()
        with self._rolling:
            dropped = self._segments.drop(count)
            self._unflushed = [each for each in self._unflushed if each not in dropped]
        for segment in dropped:
            segment.deleted = True
            try:
                self._store.delete(segment.path)
            except MissingFileError:
                continue  # somebody was faster; gone is gone

    def _write_checkpoint(self, *, durable: bool) -> None:
        self._files.write_checkpoint(self._segments, self.flushed_offset, durable=durable)
