"""Reads one partition for a fetch: whole batches, or the place where a co-located client finds
them.

A client on this host that asks for enough at once maps the file by itself; what is little, as at
the end of the log, is sent, because a location costs a client more than a few bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from raykafka.actors.ports import Buffer
from raykafka.actors.replicas.replica import Replica
from raykafka.errors import (
    InvalidRequestError,
    LogDamagedError,
    OffsetNotAvailableError,
    OffsetOutOfRangeError,
    RaykafkaError,
)
from raykafka.log.batch import project_batch
from raykafka.log.batch_header import read_header
from raykafka.protocol.messages import FetchedPartition, FetchRequest, MappedSegment
from raykafka.replication.role import Role
from raykafka.storage.log_types import SegmentSlice

logger = logging.getLogger(__name__)

MAP_FROM_BYTES = 64 << 10
"""Less than this is sent even to a client that could map it."""
MAX_MAPPED_BATCHES = 4096
"""Batches that one location names at most: 64 KiB of index."""


LOADING_THREADS = 2


class PartitionRead(NamedTuple):
    """What one look at a partition brought."""

    fetched: FetchedPartition
    chunks: Sequence[Buffer]
    size: int
    """Bytes of records found, mapped ones included; 0 when there are none yet."""
    payload_bytes: int
    next_offset: int
    """Where the next read goes on: behind ``offset`` also where all was left out that is there."""
    load: Callable[[], None] | None = None
    """Set when the read would have waited for the disk: run this in a thread, then read again."""


class PartitionReader:
    """Reads replicas for one partition actor."""

    def __init__(self, host_id: str) -> None:
        """``host_id`` names the machine whose clients can map its files; empty maps for nobody."""
        self._host_id = host_id
        self._pool: ThreadPoolExecutor | None = None

    def load(self, load: Callable[[], None], then: Callable[[], None]) -> None:
        """Run ``load`` in a thread, then ``then`` on the loop, however it went."""
        if self._pool is None:
            # Few threads: those who read old records wait for each other, not producers for them.
            self._pool = ThreadPoolExecutor(LOADING_THREADS, "raykafka-load")
        future = asyncio.get_running_loop().run_in_executor(self._pool, _attempt, load)
        future.add_done_callback(lambda _: then())

    def close(self) -> None:
        """Start no more threads."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def read(
        self,
        replica: Replica,
        offset: int,
        max_bytes: int,
        request: FetchRequest,
        *,
        may_load: bool = False,
    ) -> PartitionRead:
        """Committed batches from the one that holds ``offset``; at least one if there is any.

        What is not in memory is read from the disk, or with ``may_load`` left to the caller.
        Errors stand in the result. With ``max_bytes`` 0 nothing is read, and the result says where
        the partition stands.
        """
        try:
            up_to = replica.readable_end(request.isolation)
            if offset >= up_to or max_bytes <= 0:
                _check_offset(replica, offset)
                return PartitionRead(_where(replica), (), 0, 0, offset)
            fresh = replica.fresh
            if (
                fresh is not None
                and fresh.base_offset == offset
                and fresh.next_offset <= up_to
                and request.columns is None
            ):
                # The common case at the end of a log: there is no need to look into the file.
                size = len(fresh.message)
                where = _where(replica, [size])
                return PartitionRead(where, (fresh.message,), size, size, fresh.next_offset)
            if may_load:
                load = replica.log.cold(offset, max_bytes=max_bytes, up_to=up_to)
                if load is not None:
                    return PartitionRead(_where(replica), (), 0, 0, offset, load)
            return self._read(replica, offset, max_bytes, up_to, request)
        except LogDamagedError as error:
            return _failed(replica, offset, replica.on_damaged(error))
        except RaykafkaError as error:
            return _failed(replica, offset, error)

    def doubt(self, replica: Replica, offset: int) -> None:
        """A reader got something there that fails its checksum: verify it before it is read."""
        with contextlib.suppress(RaykafkaError):  # the read that follows tells what is wrong
            replica.log.doubt(offset)

    def _read(
        self, replica: Replica, offset: int, max_bytes: int, up_to: int, request: FetchRequest
    ) -> PartitionRead:
        log = replica.log
        batches: list[Buffer]
        marked = -1
        """Where a client reads on, if the batches do not say so."""
        if log.has_transactions:
            committed = request.isolation != 0
            seen = log.read_visible(offset, max_bytes=max_bytes, up_to=up_to, committed=committed)
            batches, next_offset = list(seen.batches), seen.next_offset
            if not seen.complete:
                marked = next_offset
        else:
            batches = log.read(offset, max_bytes=max_bytes, up_to=up_to)
            next_offset = read_header(batches[-1]).next_offset if batches else offset
        sizes = [len(batch) for batch in batches]
        size = sum(sizes)
        if size >= MAP_FROM_BYTES and request.host_id and request.host_id == self._host_id:
            found = _locate(replica, offset, up_to, request)
            if found is not None:
                return _mapped(replica, found)
        if request.columns is None:
            where = _where(replica, sizes, next_offset=marked)
            return PartitionRead(where, batches, size, size, next_offset)
        chunks: list[Buffer] = []
        sizes = []
        for batch in batches:
            projected = _project(replica, batch, request.columns)
            sizes.append(sum([memoryview(chunk).nbytes for chunk in projected]))
            chunks += projected
        where = _where(replica, sizes, next_offset=marked)
        return PartitionRead(where, chunks, size, sum(sizes), next_offset)


def _failed(replica: Replica, offset: int, error: RaykafkaError) -> PartitionRead:
    topic_id, partition = replica.partition
    return PartitionRead(failed_partition(topic_id, partition, error, replica), (), 0, 0, offset)


def _attempt(load: Callable[[], None]) -> None:
    try:
        load()
    except RaykafkaError as error:
        # The read that follows meets the same trouble and tells the client.
        logger.info("could not load old records: %s", error)


def _locate(
    replica: Replica, offset: int, up_to: int, request: FetchRequest
) -> SegmentSlice | None:
    log = replica.log
    if not log.has_transactions:
        return log.locate(offset, max_batches=MAX_MAPPED_BATCHES, up_to=up_to)
    committed = request.isolation != 0
    return log.locate_visible(
        offset, max_batches=MAX_MAPPED_BATCHES, up_to=up_to, committed=committed
    )


def _mapped(replica: Replica, found: SegmentSlice) -> PartitionRead:
    place = MappedSegment(found.file.path, found.file.device, found.file.inode)
    marked = -1 if found.complete else found.next_offset
    fetched = _where(replica, mapped=place, mapped_count=found.count, next_offset=marked)
    index = found.positions_and_sizes
    return PartitionRead(fetched, (index,), found.size_bytes, len(index), found.next_offset)


def failed_partition(
    topic_id: str, partition: int, error: RaykafkaError, replica: Replica | None = None
) -> FetchedPartition:
    """What a fetch is told of a partition that cannot be read."""
    return FetchedPartition(
        topic_id,
        partition,
        high_watermark=-1 if replica is None else replica.high_watermark,
        log_start_offset=-1 if replica is None else replica.log.log_start_offset,
        error_code=error.code,
        error_message=error.message,
    )


def _where(
    replica: Replica,
    sizes: list[int] | None = None,
    mapped: MappedSegment | None = None,
    mapped_count: int = 0,
    next_offset: int = -1,
) -> FetchedPartition:
    high_watermark = replica.high_watermark
    return FetchedPartition(
        replica.partition.topic_id,
        replica.partition.partition,
        high_watermark,
        replica.log.log_start_offset,
        replica.log.last_stable_offset(high_watermark),
        sizes or [],
        mapped,
        mapped_count,
        next_offset,
    )


def _check_offset(replica: Replica, offset: int) -> None:
    log = replica.log
    if not log.log_start_offset <= offset <= log.log_end_offset:
        if replica.machine.role is Role.FOLLOWER:
            # Its leader may have it, so this is no reason to seek elsewhere.
            raise OffsetNotAvailableError(
                f"this follower of {replica.topic}-{replica.partition.partition} holds "
                f"{log.log_start_offset} to {log.log_end_offset}, not {offset}; ask the leader"
            )
        raise OffsetOutOfRangeError(
            f"offset {offset} is outside of {replica.topic}-{replica.partition.partition}, which "
            f"holds {log.log_start_offset} to {log.log_end_offset}; seek to its beginning or end"
        )


def _project(replica: Replica, batch: Buffer, columns: list[str]) -> Sequence[Buffer]:
    """``batch`` with some of its columns; those added to the topic after it was written are left
    out, and readers see nulls there.
    """
    known = replica.schemas[-1].names
    unknown = [name for name in columns if name not in known]
    if unknown:
        raise InvalidRequestError(
            f"topic {replica.topic} has no column {', '.join(unknown)}; it has {', '.join(known)}"
        )
    schema = replica.schemas[read_header(batch).schema_id]
    wanted = [name for name in columns if name in schema.names]
    projected: Sequence[Buffer] = project_batch(batch, schema, wanted, replica.partition)
    return projected
