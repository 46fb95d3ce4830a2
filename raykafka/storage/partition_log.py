"""The log of one partition on one disk: append, copy, truncate, retain.

One thread owns a log; ``flush`` alone may run in another one beside it. Appending takes one write
to the active segment's file; all else about a log is derived from its files when it is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa

from raykafka.errors import (
    DiskFullError,
    FencedLeaderEpochError,
    InvalidRecordError,
    KafkaStorageError,
    OffsetOutOfRangeError,
)
from raykafka.log.batch_header import LOG_APPEND_TIME, BatchHeader, stamp
from raykafka.log.retention import check_delete_records, plan_retention
from raykafka.log.schema import UNTYPED_SCHEMA
from raykafka.model import PartitionId
from raykafka.storage.api import SegmentStore
from raykafka.storage.log_core import CHECKPOINT_INTERVAL_MS, LogCore
from raykafka.storage.log_files import LogFiles
from raykafka.storage.log_segment import LogSegment
from raykafka.storage.log_truncation import (
    announce_cut,
    announce_restart,
    plan_cut,
    write_cut,
    write_restart,
)
from raykafka.storage.log_types import AppendResult, LogConfig
from raykafka.storage.recovery import recover
from raykafka.storage.replicated_append import check_batches, end_of_run, wrong_schema


class PartitionLog(LogCore):
    """An append-only log of record batches; see ``open``."""

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
            raise wrong_schema(header.schema_id, len(self._schemas) - 1, self._name)
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

    # --- copying a leader -------------------------------------------------------------------------

    def append_replicated(
        self, data: memoryview, headers: Sequence[BatchHeader], now_ms: int
    ) -> None:
        """Append verified batches as their leader has stamped them; ``data`` holds them in a row.

        Takes one write for all that go into the same segment. Where the log is empty and begins
        inside the first batch, as after ``restart_at`` with the log start of a leader, it begins
        with that batch instead. Raises, with nothing changed, ``OffsetOutOfRangeError`` when the
        batches do not follow the log's end or each other, ``FencedLeaderEpochError`` when one is
        older than what stands before it, ``UnknownSchemaVersionError``, ``InvalidRecordError``.
        ``DiskFullError`` leaves whole batches only, up to ``log_end_offset``, and the log goes on;
        after ``KafkaStorageError`` it is offline.
        """
        self._writer.check()
        check_batches(headers, len(data), self._leader_epoch, len(self._schemas), self._name)
        first, start = headers[0], self.log_start_offset
        if first.base_offset != self.log_end_offset:
            if not (start == self.log_end_offset and first.base_offset < start < first.next_offset):
                raise OffsetOutOfRangeError(
                    f"{self._name} ends at {self.log_end_offset}, a batch at {first.base_offset} "
                    "does not follow; fetch from the log's end"
                )
            self.restart_at(first.base_offset)
        try:
            self._append_runs(data, headers, now_ms)
        except DiskFullError:
            self._drop_preamble()  # a leader's next batch may have another schema
            raise
        if start > first.base_offset:
            self.advance_log_start(start)

    def truncate_to(self, offset: int) -> None:
        """Remove every batch that ends beyond ``offset``; nothing happens at or behind the end.

        Afterwards the log is as if it had never had them, and ends at or before ``offset``: a batch
        goes whole, and so does a damaged range at the new end. For a follower with damage, cutting
        where it starts and copying on from there is the repair; it is not in sync until its end
        is again where it was. A log that begins behind ``offset`` begins again there, empty. Slices
        that were read beyond ``offset`` must not be in use any more. A crash on the way leaves the
        log whole and longer. Raises ``OffsetOutOfRangeError`` for a negative offset,
        ``DiskFullError`` with nothing changed, ``KafkaStorageError`` (offline from then on).
        """
        self._writer.check()
        _check_not_negative(offset)
        if offset >= self.log_end_offset:
            return
        cut = plan_cut(self._segments, offset)
        if not cut.keep:
            self.restart_at(cut.end_offset)
            return
        announce_cut(self._files, self._segments, self.flushed_offset, cut)
        self._rebuild(lambda: write_cut(self._store, self._files, self._segments, cut))

    def restart_at(self, offset: int) -> None:
        """Throw everything away and begin an empty log at ``offset``; epochs and producers, too.

        Kafka's ``truncateFullyAndStartAt``: for a follower whose leader has no longer what would
        come next. A crash on the way leaves the log whole, and as it was, shorter or empty. Raises
        as ``truncate_to`` does.
        """
        self._writer.check()
        _check_not_negative(offset)
        announce_restart(self._files, self._segments, self.flushed_offset)
        self._rebuild(lambda: write_restart(self._store, self._files, self._segments, offset))

    def advance_log_start(self, offset: int) -> None:
        """Move the log start to the leader's, durably, and delete segments below it.

        Nothing happens where it is there already. Raises ``OffsetOutOfRangeError`` behind the end:
        then the follower has to ``restart_at`` it.
        """
        previous = self._view.log_start_offset
        if offset > self.log_end_offset:
            raise OffsetOutOfRangeError(
                f"{self._name} ends at {self.log_end_offset}, before {offset}, where its leader's "
                "log starts; restart it there"
            )
        if not self._view.advance_log_start(offset):
            return
        try:
            self._write_checkpoint(durable=True)
        except KafkaStorageError:
            self._view.log_start_offset = previous
            raise
        sealed = self._segments.items[:-1]
        self._delete_segments(sum(segment.next_offset <= offset for segment in sealed))

    # --- upkeep -----------------------------------------------------------------------------------

    def delete_records(self, before: int) -> int:
        """Move the log start to ``before`` (-1: the log's end) and delete segments below it.

        Returns the log start; it is durable then. Raises ``OffsetOutOfRangeError`` behind the end.
        """
        self.advance_log_start(check_delete_records(self._view, before, self.log_end_offset))
        return self.log_start_offset

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
            self._checkpoint_at_ms = now_ms + CHECKPOINT_INTERVAL_MS

    def reconfigure(self, config: LogConfig, schemas: Sequence[pa.Schema]) -> None:
        """Take changed settings over; after a new schema the next append begins a new segment."""
        self._config = config
        self._schemas = tuple(schemas) or (UNTYPED_SCHEMA,)
        self._reader.schemas = self._schemas
        self._drop_preamble()

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

    def _append_runs(self, data: memoryview, headers: Sequence[BatchHeader], now_ms: int) -> None:
        """Append batches with one write for each run that goes into the same segment."""
        position = number = 0
        while number < len(headers):
            active = self._segment_for(headers[number], now_ms)
            end = end_of_run(active, headers, number, self._config)
            run = headers[number:end]
            size = sum(header.size for header in run)
            self._append_run(active, data[position : position + size], run)
            position += size
            number = end

    def _segment_for(self, header: BatchHeader, now_ms: int) -> LogSegment:
        """The active segment, with a file, and new if a copied batch must not go into the last."""
        active = self._segments.active
        if active.must_end(header, header.append_time_ms, self._config):
            self.roll(now_ms)
            active = self._segments.active
        self._drop_preamble()
        if not active.size_bytes:
            self._writer.begin(active, self._schemas[header.schema_id])
            self._write_checkpoint(durable=False)
        return active

    def _drop_preamble(self) -> None:
        """Empty the active segment's file if only a preamble stands in it: of any schema."""
        active = self._segments.active
        if active.is_empty and active.size_bytes:
            self._writer.begin_again(active)

    def _append_run(
        self, active: LogSegment, data: memoryview, headers: Sequence[BatchHeader]
    ) -> None:
        """Append batches that all go into the active segment."""
        position = self._writer.write(active, data)
        for header in headers:
            active.add(header, position)
            position += header.size
            if header.leader_epoch != self._leader_epoch:
                self.epochs.assign(header.leader_epoch, header.base_offset)
                self._leader_epoch = self.epochs.latest_epoch
            if header.producer_id >= 0:
                self._producers.append(header)
        self.log_end_offset = active.next_offset

    def _rebuild(self, change: Callable[[], None]) -> None:
        """Change the files, then take over what recovery makes of them."""
        damaged = self._view.damaged
        with self._rolling:
            try:
                change()
                recovered = recover(self._store, self._files, self._schemas, must_exist=True)
            except Exception as error:
                self._writer.fail(error)
                raise
            self._adopt(recovered)
        for start, end in damaged:  # recovery trusts sealed segments
            self._view.mark_damaged(start, min(end, self.log_end_offset))

    def _check_epoch(self, epoch: int) -> None:
        if epoch < self._leader_epoch:
            raise FencedLeaderEpochError(
                f"{self._name} has epoch {self._leader_epoch}; epoch {epoch} is over"
            )


def _check_not_negative(offset: int) -> None:
    if offset < 0:
        raise OffsetOutOfRangeError(f"a log cannot end or begin at offset {offset}")
