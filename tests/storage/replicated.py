"""Batches as a leader has stamped them, and stores that die at a given call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from raykafka.errors import KafkaStorageError
from raykafka.log.batch_header import BatchHeader, read_header, stamp
from raykafka.storage.api import SegmentStore
from raykafka.storage.checkpoints import ProducerSnapshot, decode, snapshot_name
from raykafka.storage.partition_log import PartitionLog
from tests.storage.batches import NOW, make_batch
from tests.storage.logs import ALL, DIRECTORY

CHANGES = ("append", "truncate", "publish", "delete", "flush")


def stamped(
    values: Sequence[bytes],
    base_offset: int,
    *,
    leader_epoch: int = 0,
    append_time_ms: int = NOW,
    **producer: Any,
) -> bytearray:
    """One batch with its leader part filled in."""
    message = make_batch(values, **producer)
    stamp(
        message,
        base_offset=base_offset,
        leader_epoch=leader_epoch,
        append_time_ms=append_time_ms,
        log_append_time=False,
    )
    return message


def copy_to(log: PartitionLog, messages: Sequence[bytes | bytearray], now_ms: int = NOW) -> None:
    """Append a leader's batches."""
    log.append_replicated(
        memoryview(b"".join(messages)), [read_header(message) for message in messages], now_ms
    )


def headers_of(log: PartitionLog) -> list[BatchHeader]:
    """Of every batch from the log start on."""
    return [read_header(message) for message in messages_of(log)]


def messages_of(log: PartitionLog) -> list[bytes]:
    """Every batch from the log start on, byte for byte."""
    found: list[bytes] = []
    offset = log.log_start_offset
    while messages := log.read(offset, max_bytes=1 << 20, up_to=ALL):
        found += map(bytes, messages)
        offset = read_header(messages[-1]).next_offset
    return found


def producers_of(log: PartitionLog, store: SegmentStore) -> list[Any]:
    """What the log knows of its producers, by the snapshot that rolling writes."""
    log.roll(NOW)
    path = f"{DIRECTORY}/{snapshot_name(log.log_end_offset)}"
    if path not in store.list(path):
        return []
    snapshot = decode(store.read(path, 0, store.size(path)), ProducerSnapshot, path)
    return sorted(snapshot.producers)


class Death(KafkaStorageError):
    """The process ends here."""


class MortalStore:
    """Another store that dies at the ``n``-th change from now: before it, or right behind it."""

    def __init__(self, store: SegmentStore) -> None:
        self._store = store
        self._left: int | None = None
        self._behind = False
        self.changes = 0
        """How many were made."""

    def die_at(self, change: int, *, behind: bool) -> None:
        """0 is the next one; from then on nothing works any more."""
        self._left, self._behind = change, behind

    def live(self) -> None:
        self._left = None

    def __getattr__(self, name: str) -> Callable[..., Any]:
        call: Callable[..., Any] = getattr(self._store, name)
        return self._guard(call) if name in CHANGES else call

    def _guard(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*arguments: Any, **options: Any) -> Any:
            self.changes += 1
            if self._left is None:
                return call(*arguments, **options)
            self._left -= 1
            if self._left < 0:
                if self._left == -1 and self._behind:
                    call(*arguments, **options)
                raise Death("the process has ended")
            return call(*arguments, **options)

        return guarded
