"""Acquires records for a fetch: what the machine may give, as far as the log has it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from raykafka.actors.ports import Buffer
from raykafka.actors.replicas.reading import PartitionRead, PartitionReader
from raykafka.actors.sharing.shared_partition import SharedPartition
from raykafka.errors import RaykafkaError, error_for
from raykafka.log.batch_header import read_header
from raykafka.protocol.messages import FetchedPartition, FetchRequest
from raykafka.protocol.share_messages import ShareFetchRequest
from raykafka.share.values import Acquired

_LOOKS = 8
"""Reads of one partition for one fetch; each further one means that the last found no records."""


class Collected(NamedTuple):
    """What one look at a partition brought."""

    fetched: FetchedPartition | None = None
    acquired: Sequence[Acquired] = ()
    chunks: Sequence[Buffer] = ()
    records: int = 0
    payload_bytes: int = 0
    load: Callable[[], None] | None = None
    """Set when the disk has to be read first: run this in a thread, then look again."""
    error: RaykafkaError | None = None


def read_request(request: ShareFetchRequest, shared: SharedPartition) -> FetchRequest:
    """What ``PartitionReader`` goes by."""
    return FetchRequest(
        [],
        isolation=int(shared.config.share_isolation_level),
        columns=request.columns,
        host_id=request.host_id,
    )


def collect(
    shared: SharedPartition,
    reader: PartitionReader,
    request: FetchRequest,
    member: str,
    max_bytes: int,
    max_records: int,
    *,
    may_load: bool,
) -> Collected:
    """Acquire up to ``max_records`` of one partition for ``member``."""
    replica, machine = shared.replica, shared.machine
    machine.on_log_start(replica.log.log_start_offset)
    for _ in range(_LOOKS):
        offset = machine.first_acquirable()
        if offset is None or offset >= shared.readable_end:
            return Collected()
        read = reader.read(replica, offset, max_bytes, request, may_load=may_load)
        if read.load is not None:
            return Collected(load=read.load)
        if read.fetched.error_code:
            failed = read.fetched
            return Collected(error=error_for(failed.error_code, failed.error_message))
        if read.fetched.next_offset >= 0 and read.fetched.mapped is not None:
            # Something is left out, and only the batches themselves say where.
            sent = _unmapped(request)
            read = reader.read(replica, offset, max_bytes, sent, may_load=False)
        if not read.size:
            if read.next_offset <= offset:
                return Collected()
            machine.skip(offset, read.next_offset)
            continue
        spans = _spans(read)
        acquired = machine.acquire(
            member,
            offset,
            read.next_offset,
            max_records,
            now_ms=shared.now_ms(),
            holes=_holes(offset, spans, read.next_offset),
        )
        if acquired:
            return _found(read, spans, acquired)
    return Collected()


def _unmapped(request: FetchRequest) -> FetchRequest:
    return FetchRequest([], isolation=request.isolation, columns=request.columns)


def _spans(read: PartitionRead) -> list[tuple[int, int]] | None:
    """First offset of each batch and what follows it; None where only their places are known."""
    if read.fetched.mapped is not None or len(read.chunks) != len(read.fetched.sizes):
        return None
    headers = [read_header(chunk) for chunk in read.chunks]
    return [(header.base_offset, header.next_offset) for header in headers]


def _holes(offset: int, spans: Sequence[tuple[int, int]] | None, end: int) -> list[tuple[int, int]]:
    """Offsets that no batch has are markers, or were aborted."""
    holes = []
    at = offset
    for base, following in (*spans, (end, end)) if spans is not None else ():
        if base > at:
            holes.append((at, base))
        at = max(at, following)
    return holes


def _found(
    read: PartitionRead,
    spans: Sequence[tuple[int, int]] | None,
    acquired: Sequence[Acquired],
) -> Collected:
    records = sum(each.last_offset - each.first_offset + 1 for each in acquired)
    fetched, chunks = read.fetched, read.chunks
    if spans is None:
        return Collected(fetched, acquired, chunks, records, read.payload_bytes)
    kept = [
        index
        for index, (base, following) in enumerate(spans)
        if any(each.first_offset < following and base <= each.last_offset for each in acquired)
    ]
    if len(kept) < len(spans):
        sizes = [fetched.sizes[index] for index in kept]
        chunks = [chunks[index] for index in kept]
        fetched = FetchedPartition(
            fetched.topic_id,
            fetched.partition,
            fetched.high_watermark,
            fetched.log_start_offset,
            fetched.last_stable_offset,
            sizes,
        )
    return Collected(fetched, acquired, chunks, records, sum(fetched.sizes))
