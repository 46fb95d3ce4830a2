"""A ``MachineLog`` on a ``PartitionLog``: records are the values of untyped batches.

One append is one batch, which the log's recovery keeps whole or drops whole, so the records of a
command are never half there; what the voters say among themselves stands in control batches. The
vote and the snapshots are files beside the log. A log without a vote is one of an older raykafka,
or new.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from raykafka.actors.quorum.files import (
    STATE_FILE,
    QuorumState,
    Snapshot,
    decode_file,
    encode_file,
    parse_snapshot_name,
    snapshot_name,
)
from raykafka.actors.quorum.log import LogBatch, encode_voters
from raykafka.clock import Clock
from raykafka.errors import CorruptMessageError, IllegalStateError, LogDamagedError
from raykafka.log.batch import decode_batch, encode_batch
from raykafka.log.batch_header import BatchHeader, peek_header, verify
from raykafka.log.schema import UNTYPED_SCHEMA
from raykafka.log.small_batch import MAX_ROWS, SmallRecords, encode_records
from raykafka.model import PartitionId
from raykafka.quorum.messages import OffsetAndEpoch
from raykafka.quorum.voters import VoterSet
from raykafka.storage.api import MissingFileError, SegmentStore
from raykafka.storage.log_types import LogConfig
from raykafka.storage.partition_log import PartitionLog

_READ_BYTES: Final = 8 << 20
# A log of state is never deleted by age, and flushed by its shell.
_CONFIG: Final = LogConfig(segment_ms=(1 << 63) - 1, retention_ms=-1)
_EMPTY: Final = OffsetAndEpoch(0, -1)


class PartitionMachineLog:
    """The log of one machine, with its vote and its newest snapshot."""

    def __init__(
        self, store: SegmentStore, topic: str, partition: PartitionId, clock: Clock
    ) -> None:
        """Open ``<topic>-<partition>`` below the store's root, made anew if it is not there.

        Raises ``LogDamagedError`` rather than losing part of the state, and
        ``UnsupportedVersionError`` for what a later raykafka wrote.
        """
        name = f"{topic}-{partition.partition}"
        self._store = store
        self._beside = f"{name}.quorum"
        self._partition = partition
        # First what may be refused without a change.
        self.state = self._read(STATE_FILE, QuorumState)
        """What this replica has voted; None where it never has."""
        self.snapshot = self._newest_snapshot()
        """The newest snapshot, None where the log has its beginning."""
        self._log = PartitionLog.open(
            store, name, partition, topic, _CONFIG, [UNTYPED_SCHEMA], now_ms=clock.now_ms()
        )
        if self._log.damaged:
            raise LogDamagedError(
                f"the log {topic} is damaged at offsets {self._log.damaged}; restore its directory"
                " from a backup, or, while a majority of the other voters lives, remove it: they"
                " fill it again"
            )
        self._fit_to_snapshot(topic)

    @property
    def start(self) -> OffsetAndEpoch:
        """Where the snapshot ends and the log begins."""
        return _EMPTY if self.snapshot is None else self.snapshot.last

    @property
    def end_offset(self) -> int:
        """Offset of the next record."""
        return self._log.log_end_offset

    @property
    def epochs(self) -> Sequence[tuple[int, int]]:
        """Epochs in the log, and where they begin."""
        return self._log.epochs.entries

    def replay(self, start: int, end: int) -> Iterator[LogBatch]:
        """The log from ``start`` to before ``end``, batch by batch; raises ``LogDamagedError``."""
        while start < end:
            messages = self._log.read(start, max_bytes=_READ_BYTES, up_to=end)
            if not messages:
                raise LogDamagedError(f"no batch from {start} to {end} is in the log")
            for message in messages:
                header = peek_header(message)
                batch = decode_batch(message, UNTYPED_SCHEMA, columns=["value"])
                values = batch.column("value").to_pylist()
                yield LogBatch(start, header.leader_epoch, values, header.is_control)
                start += len(values)

    def append(self, records: Sequence[bytes], epoch: int, now_ms: int) -> None:
        """Write ``records`` as one batch, or nothing of them."""
        small = SmallRecords([now_ms] * len(records), None, records)
        if len(records) <= MAX_ROWS:
            self._append(encode_records(small, self._partition), epoch, now_ms)
        else:
            self._append(encode_batch(small.to_arrow(), self._partition), epoch, now_ms)

    def append_voters(self, voters: VoterSet, epoch: int, now_ms: int) -> None:
        """Write a control batch."""
        record = SmallRecords([now_ms], None, [encode_voters(voters)])
        encoded = encode_batch(record.to_arrow(), self._partition, control=True)
        self._append(encoded, epoch, now_ms)

    def read(self, start: int, max_bytes: int, end: int) -> tuple[bytes, int]:
        """Whole batches as they stand in the log, and where they end."""
        messages: list[bytes] = []
        size = 0
        while start < end and (not messages or size < max_bytes):
            found = self._log.read(start, max_bytes=max_bytes - size, up_to=end)
            if not found:
                raise LogDamagedError(f"no batch from {start} to {end} is in the log")
            for message in found:
                messages.append(bytes(message))
                size += len(message)
                start = peek_header(message).next_offset
        return b"".join(messages), start

    def check(self, data: bytes, start: int, end: int) -> None:
        """Raise ``CorruptMessageError`` unless ``data`` is whole batches from there to there."""
        for header in self._headers(data):
            if header.base_offset != start:
                raise CorruptMessageError(f"a batch at {header.base_offset} came for {start}")
            start = header.next_offset
        if start != end:
            raise CorruptMessageError(f"batches up to {start} came, up to {end} were announced")

    def append_fetched(self, data: bytes, start: int, now_ms: int) -> None:
        """Write what ``read`` gave another replica, from ``start`` on, which is the log's end.

        Raises ``CorruptMessageError``, ``OffsetOutOfRangeError`` and what the disk does not do.
        """
        headers = list(self._headers(data))
        old = sum(header.size for header in headers if header.base_offset < start)
        new = [header for header in headers if header.base_offset >= start]
        self._log.append_replicated(memoryview(data)[old:], new, now_ms)

    def truncate_to(self, end: int) -> None:
        """Cut the log; ``end`` is where a batch ends."""
        self._log.truncate_to(end)
        if self._log.log_end_offset != end:
            raise IllegalStateError(f"no batch ends at {end}, but at {self._log.log_end_offset}")

    def save_state(self, state: QuorumState) -> None:
        """Make the vote durable."""
        self._store.publish(f"{self._beside}/{STATE_FILE}", encode_file(state))
        self.state = state

    def save_snapshot(self, snapshot: Snapshot, now_ms: int) -> None:
        """Make a snapshot of what the log says durable, and delete what it stands for."""
        self._store.publish(self._path(snapshot.last), encode_file(snapshot))
        self.snapshot = snapshot
        self._log.roll(now_ms)
        self._log.delete_records(snapshot.last.offset)
        self._delete_old_snapshots()

    def install_snapshot(self, snapshot: Snapshot) -> None:
        """Make a snapshot durable that stands in the place of the whole log."""
        self._store.publish(self._path(snapshot.last), encode_file(snapshot))
        self.snapshot = snapshot
        self._log.restart_at(snapshot.last.offset)
        self._delete_old_snapshots()

    def flush(self) -> None:
        """Make everything appended durable."""
        self._log.flush()

    def close(self) -> None:
        """Close cleanly, with a checkpoint."""
        self._log.close()

    # --- inside -----------------------------------------------------------------------------------

    def _headers(self, data: bytes) -> Iterator[BatchHeader]:
        view, position = memoryview(data), 0
        while position < len(view):
            header = verify(view[position:], self._partition)
            position += header.size
            yield header

    def _append(self, encoded: Any, epoch: int, now_ms: int) -> None:
        message = bytearray().join(encoded.chunks)
        self._log.append(message, encoded.header, leader_epoch=epoch, now_ms=now_ms)

    def _fit_to_snapshot(self, topic: str) -> None:
        """A crash may have come between a snapshot and what it does to the log."""
        log, start = self._log, self.start
        if log.log_start_offset > start.offset:
            raise LogDamagedError(
                f"the log {topic} begins at {log.log_start_offset}, and its snapshot is missing;"
                " restore its directory from a backup, or, while a majority of the other voters"
                " lives, remove it: they fill it again"
            )
        if start == _EMPTY or log.log_start_offset == log.log_end_offset == start.offset:
            return
        here = log.epochs.epoch_for(start.offset - 1)
        if log.log_end_offset < start.offset or here not in (start.epoch, -1):
            log.restart_at(start.offset)
        elif log.log_start_offset < start.offset:
            log.delete_records(start.offset)

    def _newest_snapshot(self) -> Snapshot | None:
        names = [parse_snapshot_name(name) for name in self._names()]
        newest = max((name for name in names if name is not None), default=None)
        return None if newest is None else self._read(snapshot_name(newest), Snapshot)

    def _delete_old_snapshots(self) -> None:
        for name in self._names():
            last = parse_snapshot_name(name)
            if last is not None and last != self.start:
                self._store.delete(self._path(last))

    def _names(self) -> list[str]:
        return [path.rpartition("/")[2] for path in self._store.list(f"{self._beside}/")]

    def _path(self, last: OffsetAndEpoch) -> str:
        return f"{self._beside}/{snapshot_name(last)}"

    def _read(self, name: str, content: type[Any]) -> Any:
        path = f"{self._beside}/{name}"
        try:
            data = self._store.read(path, 0, self._store.size(path))
        except MissingFileError:
            return None
        return decode_file(data, content, path)
