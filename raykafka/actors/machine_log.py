"""A ``MachineLog`` on a ``PartitionLog``: records are the values of untyped batches.

One append is one batch, which the log's recovery keeps whole or drops whole, so the records of a
command are never half there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from raykafka.clock import Clock
from raykafka.errors import LogDamagedError
from raykafka.log.batch import decode_batch, encode_batch
from raykafka.log.schema import UNTYPED_SCHEMA
from raykafka.log.small_batch import MAX_ROWS, SmallRecords, encode_records
from raykafka.model import PartitionId
from raykafka.storage.api import SegmentStore
from raykafka.storage.log_types import LogConfig
from raykafka.storage.partition_log import PartitionLog

_READ_BYTES: Final = 8 << 20
# A log of state is never deleted by age, and flushed by its shell.
_CONFIG: Final = LogConfig(segment_ms=(1 << 63) - 1, retention_ms=-1)


class PartitionMachineLog:
    """The log of one machine. Opening recovers it; a new epoch begins with each owner."""

    def __init__(
        self, store: SegmentStore, topic: str, partition: PartitionId, clock: Clock
    ) -> None:
        """Open ``<topic>-<partition>`` below the store's root, made anew if it is not there.

        Raises ``LogDamagedError`` rather than losing part of the state.
        """
        self._partition = partition
        self._clock = clock
        self._log = PartitionLog.open(
            store,
            f"{topic}-{partition.partition}",
            partition,
            topic,
            _CONFIG,
            [UNTYPED_SCHEMA],
            now_ms=clock.now_ms(),
        )
        if self._log.damaged:
            raise LogDamagedError(
                f"the log {topic} is damaged at offsets {self._log.damaged}; restore its directory"
                " from a backup, the state cannot be rebuilt without it"
            )
        self._epoch = self._log.epochs.latest_epoch + 1

    @property
    def end_offset(self) -> int:
        """Offset of the next record."""
        return self._log.log_end_offset

    def replay(self) -> Iterator[list[bytes]]:
        """Everything in the log, batch by batch; raises ``LogDamagedError``."""
        end = self._log.log_end_offset
        offset = self._log.log_start_offset
        while offset < end:
            for message in self._log.read(offset, max_bytes=_READ_BYTES, up_to=end):
                batch = decode_batch(message, UNTYPED_SCHEMA, columns=["value"])
                offset += batch.num_rows
                yield batch.column("value").to_pylist()

    def append(self, records: Sequence[bytes], now_ms: int) -> None:
        """Write ``records`` as one batch."""
        small = SmallRecords([now_ms] * len(records), None, records)
        if len(records) <= MAX_ROWS:
            encoded = encode_records(small, self._partition)
        else:
            encoded = encode_batch(small.to_arrow(), self._partition)
        message = bytearray().join(encoded.chunks)
        self._log.append(message, encoded.header, leader_epoch=self._epoch, now_ms=now_ms)

    def flush(self) -> None:
        """Make everything appended durable."""
        self._log.flush()

    def close(self) -> None:
        """Close cleanly, with a checkpoint."""
        self._log.close()
