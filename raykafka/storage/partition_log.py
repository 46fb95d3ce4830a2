"""The log of one partition on one disk: append, read, roll, flush, retain, recover.

One thread owns a log; ``flush`` alone may run in another one beside it. Appending takes one write
to the active segment's file; all else about a log is derived from its files when it is opened.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import pyarrow as pa

from raykafka.errors import (
    DiskFullError,
    FencedLeaderEpochError,
    InvalidRecordError,
    KafkaStorageError,
    UnknownSchemaVersionError,
)
from raykafka.log.batch_header import LOG_APPEND_TIME, BatchHeader, stamp
from raykafka.log.retention import check_delete_records, plan_retention
from raykafka.log.schema import UNTYPED_SCHEMA
from raykafka.log.segment import segment_name
from raykafka.model import OffsetAndTimestamp, PartitionId
from raykafka.storage.api import MissingFileError, SegmentStore
from raykafka.storage.log_files import LogFiles
from raykafka.storage.log_reader import LogReader
from raykafka.storage.log_segment import LogSegment
from raykafka.storage.log_types import AppendResult, LogConfig, SegmentSlice
from raykafka.storage.log_writer import LogWriter
from raykafka.storage.recovery import Recovered, recover

_CHECKPOINT_INTERVAL_MS = 30_000


class PartitionLog:
    """An append-only log of record batches; see ``open``."""

    def __init__(
        self,
        store: SegmentStore,
        files: LogFiles,
        config: LogConfig,
        schemas: Sequence[pa.Schema],
        recovered: Recovered,
        now_ms: int,
    ) -> None:
        """For ``open``."""
        self._store = store
        self._files = files
        self._name = files.name
        self._config = config
        self._schemas = schemas
        self._segments = recovered.segments
        self._view = recovered.segments.view
        self._producers = recovered.producers
        self.epochs = recovered.epochs
        """Which leader epoch wrote which part of the log."""
        self.recovered = recovered.report
        """What opening found."""
        self.log_end_offset = self._view.log_end_offset
        """Offset that the next record gets."""
        self.flushed_offset = recovered.recovery_offset
        """End of what survives a power cut."""
        self._leader_epoch = self.epochs.latest_epoch
        self._reader = LogReader(store, self._segments, files.partition, files.name, schemas)
        self._writer = LogWriter(store, files.name)
        self._checkpoint_at_ms = now_ms + _CHECKPOINT_INTERVAL_MS
        self._unflushed = [
            segment
            for segment in recovered.segments.items
            if segment.sealed and segment.next_offset > recovered.recovery_offset
        ]
        self._rolling = threading.Lock()  # the list above and the active segment, for ``flush``

    @classmethod
    def open(
        cls,
        store: SegmentStore,
        directory: str,
        partition: PartitionId,
        topic: str,
        config: LogConfig,
        schemas: Sequence[pa.Schema],
        *,
        now_ms: int,
        must_exist: bool = False,
    ) -> PartitionLog:
        """Open the log in ``directory``, a path inside the store, or begin a new one there.

        ``schemas`` are the topic's storage schemas by schema id, or nothing for an untyped topic.
        What recovery found is in ``recovered``. Raises ``LogDamagedError`` when ``must_exist`` and
        there is nothing, or segments overlap; ``InconsistentTopicIdError`` when the directory
        belongs to another partition; ``UnsupportedVersionError`` for a later format;
        ``KafkaStorageError`` for what the disk does not do.
        """
        schemas = tuple(schemas) or (UNTYPED_SCHEMA,)
        files = LogFiles(store, directory, topic, partition)
        recovered = recover(store, files, schemas, must_exist=must_exist)
        log = cls(store, files, config, schemas, recovered, now_ms)
        log._producers.expire(now_ms, config.producer_id_expiration_ms)
        if not recovered.has_checkpoint:
            log._write_checkpoint(durable=False)
        return log

    # --- state ------------------------------------------------------------------------------------

    @property
    def log_start_offset(self) -> int:
        """First offset that can be read."""
        return self._view.log_start_offset

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

    # --- writing ----------------------------------------------------------------------------------

    def append(
        self,
        message: bytearray | memoryview,
        header: BatchHeader,
        *,
        leader_epoch: int,
        now_ms: int,
        written: Callable[[AppendResult], None] | None = None,
    ) -> AppendResult:
        """Append one verified batch; ``header`` is what ``read_header`` says of ``message``.

        The batch's leader part is filled in place. ``written`` is called once the batch is in the
        file, while the log still has to take note of it: an answer need not wait for that. It must
        not use the log. Everything or nothing happens. Raises
        ``UnknownSchemaVersionError``, the errors of ``ProducerStates.check``,
        ``FencedLeaderEpochError`` when a newer leader has written here, ``DiskFullError`` (the log
        goes on) or ``KafkaStorageError`` (the log is offline from then on).
        """
        if self._writer.failure is not None:
            self._writer.check()
        if header.schema_id != len(self._schemas) - 1:
            raise self._wrong_schema(header.schema_id)
        if header.producer_id >= 0:
            seen = self._producers.check(header)
            if seen is not None:
                return AppendResult(seen.base_offset, seen.append_time_ms, True)
        if leader_epoch != self._leader_epoch:
            self._check_epoch(leader_epoch)
        size = header.size
        if len(message) != size:
            raise InvalidRecordError(f"a batch of {size} bytes cannot have {len(message)}")
        active, config = self._segments.active, self._config
        if active.must_end(header, now_ms, config):
            self.roll(now_ms)
            active = self._segments.active
        base_offset = self.log_end_offset
        stamped = stamp(
            message,
            base_offset=base_offset,
            leader_epoch=leader_epoch,
            append_time_ms=now_ms,
            log_append_time=config.message_timestamp_type == LOG_APPEND_TIME,
            header=header,
        )
        if not active.size_bytes:
            self._writer.begin(active, self._schemas[-1])
            self._write_checkpoint(durable=False)
        position = self._writer.write(active, message)
        result = AppendResult(base_offset, now_ms)
        try:
            if written is not None:
                written(result)
        finally:
            active.add(stamped, position)
            if leader_epoch != self._leader_epoch:
                self.epochs.assign(leader_epoch, base_offset)
                self._leader_epoch = self.epochs.latest_epoch
            if header.producer_id >= 0:
                self._producers.append(stamped)
            self.log_end_offset = active.next_offset
        return result

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
        self._checkpoint_at_ms = now_ms + _CHECKPOINT_INTERVAL_MS

    def flush(self) -> int:
        """Make everything appended before the call durable; returns the offset where that ends.

        May run in another thread beside ``append``. Raises ``KafkaStorageError``; the log is
        offline then, because what a failed fsync has lost is never known ("fsyncgate").
        """
        with self._rolling:
            self._writer.check()
            end = self.log_end_offset
            sealed = list(self._unflushed)
            active = self._segments.active
        if end == self.flushed_offset and not sealed:
            return end
        for segment in (*sealed, active):
            if segment.size_bytes:
                self._writer.flush(segment)
        with self._rolling:
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

    def cold(self, offset: int, *, max_bytes: int, up_to: int) -> Callable[[], None] | None:
        """What a thread does so that ``read`` waits for no disk; None if it would not anyway."""
        return self._reader.cold(offset, max_bytes, up_to)

    def offset_for_timestamp(self, timestamp: int) -> OffsetAndTimestamp | None:
        """The first record that is not older than ``timestamp`` (ms); None if there is none."""
        return self._reader.offset_for_timestamp(timestamp)

    def max_timestamp(self) -> OffsetAndTimestamp | None:
        """The first record with the largest timestamp (KIP-734); None for an empty log."""
        return self._reader.max_timestamp()

    # --- upkeep -----------------------------------------------------------------------------------

    def delete_records(self, before: int) -> int:
        """Move the log start to ``before`` (-1: the log's end) and delete segments below it.

        Returns the log start; it is durable then. Raises ``OffsetOutOfRangeError`` behind the end.
        """
        before = check_delete_records(self._view, before, self.log_end_offset)
        if before == self._view.log_start_offset:
            return before
        previous = self._view.log_start_offset
        self._view.advance_log_start(before)
        try:
            self._write_checkpoint(durable=True)
        except KafkaStorageError:
            self._view.log_start_offset = previous
            raise
        sealed = self._segments.items[:-1]
        self._delete_segments(sum(segment.next_offset <= before for segment in sealed))
        return before

    def apply_retention(self, now_ms: int, high_watermark: int) -> int:
        """Delete segments by ``retention.ms`` and ``retention.bytes``; returns how many went."""
        if self._writer.failure is not None:
            return 0
        plan = plan_retention(
            self._view,
            now_ms=now_ms,
            retention_ms=self._config.retention_ms,
            retention_bytes=self._config.retention_bytes,
            high_watermark=high_watermark,
        )
        if not plan.delete:
            return 0
        count = plan.delete
        try:
            if plan.roll_first:
                self.roll(now_ms)
            self._view.advance_log_start(self._segments.items[count].base_offset)
            self._write_checkpoint(durable=True)
        except DiskFullError:
            # Deleting is what makes room. Without a checkpoint a log begins at its first segment,
            # so that one of those which are there now has to stay.
            count = min(count, len(self._segments) - 2)
            if count <= 0:
                raise
            self._files.delete_checkpoint()
        self._delete_segments(count)
        self._write_checkpoint(durable=True)
        return count

    def tick(self, now_ms: int) -> None:
        """Roll by ``segment.ms``, expire idle producers, write a checkpoint now and then."""
        if self._writer.failure is not None:
            return
        active = self._segments.active
        if len(active.loaded_index) and now_ms - active.first_append_ms > self._config.segment_ms:
            self.roll(now_ms)
        if now_ms >= self._checkpoint_at_ms:
            self._producers.expire(now_ms, self._config.producer_id_expiration_ms)
            self._write_checkpoint(durable=False)
            self._checkpoint_at_ms = now_ms + _CHECKPOINT_INTERVAL_MS

    def reconfigure(self, config: LogConfig, schemas: Sequence[pa.Schema]) -> None:
        """Take changed settings over; after a new schema the next append begins a new segment."""
        self._config = config
        self._schemas = tuple(schemas) or (UNTYPED_SCHEMA,)
        self._reader.schemas = self._schemas
        active = self._segments.active
        if active.is_empty and active.size_bytes:
            self._writer.begin_again(active)

    def close(self) -> None:
        """Flush and write a checkpoint, so that the next start has nothing to verify.

        Closing twice does nothing. Raises ``KafkaStorageError`` if the log is offline.
        """
        if self._writer.closed:
            return
        self.flush()
        self._write_checkpoint(durable=True)
        self._writer.close("is closed")

    def delete(self) -> None:
        """Delete every file of the log; it cannot be used afterwards."""
        with self._rolling:
            self._writer.close("has been deleted")
        self._files.delete_all()

    # --- inside -----------------------------------------------------------------------------------

    def _delete_segments(self, count: int) -> None:
        self.epochs.truncate_before(self._view.log_start_offset)
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

    def _check_epoch(self, epoch: int) -> None:
        if epoch < self._leader_epoch:
            raise FencedLeaderEpochError(
                f"{self._name} has epoch {self._leader_epoch}; epoch {epoch} is over"
            )

    def _wrong_schema(self, schema_id: int) -> UnknownSchemaVersionError:
        return UnknownSchemaVersionError(
            f"the batch has schema {schema_id}, {self._name} has {len(self._schemas) - 1} as its "
            "newest; refresh the metadata and encode it again"
        )
