"""Opening, filling and reading logs."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from raykafka.log.batch import decode_batch
from raykafka.log.batch_header import read_header
from raykafka.log.schema import UNTYPED_SCHEMA
from raykafka.model import PartitionId
from raykafka.storage.api import SegmentStore
from raykafka.storage.log_types import AppendResult, LogConfig
from raykafka.storage.partition_log import PartitionLog
from tests.storage.batches import NOW, PARTITION, make_batch

DIRECTORY = "t-0"
ALL = 1 << 60


def open_log(
    store: SegmentStore,
    config: LogConfig | None = None,
    *,
    partition: PartitionId = PARTITION,
    schemas: Sequence[pa.Schema] = (),
    now_ms: int = NOW,
    must_exist: bool = False,
) -> PartitionLog:
    return PartitionLog.open(
        store,
        DIRECTORY,
        partition,
        "t",
        config or LogConfig(),
        schemas,
        now_ms=now_ms,
        must_exist=must_exist,
    )


def append(
    log: PartitionLog, message: bytearray, *, leader_epoch: int = 0, now_ms: int = NOW
) -> AppendResult:
    return log.append(message, read_header(message), leader_epoch=leader_epoch, now_ms=now_ms)


def append_values(log: PartitionLog, *values: bytes, now_ms: int = NOW) -> int:
    """Appends one batch; returns its base offset."""
    return append(log, make_batch(values), now_ms=now_ms).base_offset


def read_values(
    log: PartitionLog, start: int | None = None, *, max_bytes: int = 1 << 20, up_to: int = ALL
) -> dict[int, bytes]:
    """Every record from ``start`` to the end by offset; stops where the log does."""
    found: dict[int, bytes] = {}
    offset = log.log_start_offset if start is None else start
    while True:
        messages = log.read(offset, max_bytes=max_bytes, up_to=up_to)
        if not messages:
            return found
        for message in messages:
            found.update(values_of(message))
        offset = read_header(messages[-1]).next_offset


def values_of(message: memoryview) -> dict[int, bytes]:
    """The records of one batch by offset."""
    header = read_header(message)
    values = decode_batch(message, UNTYPED_SCHEMA, columns=["value"]).column(0).to_pylist()
    return dict(zip(range(header.base_offset, header.next_offset), values, strict=True))


def segment_files(store: SegmentStore) -> list[str]:
    return [path for path in store.list(DIRECTORY + "/") if path.endswith(".arrow")]
