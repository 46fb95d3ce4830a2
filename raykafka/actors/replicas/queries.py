"""Serves LIST_OFFSETS, DELETE_RECORDS, DESCRIBE_LOG_DIRS and DESCRIBE_PRODUCERS: one result per
partition, errors inside.
"""

from __future__ import annotations

import asyncio
from typing import Any

from raykafka.actors.ports import Reply
from raykafka.actors.replicas.replica import Replica
from raykafka.actors.replicas.replica_set import ReplicaSet
from raykafka.clock import Clock
from raykafka.errors import (
    InvalidRequestError,
    InvalidTopicError,
    OffsetNotAvailableError,
    OffsetOutOfRangeError,
    RaykafkaError,
)
from raykafka.internal_topics import INTERNAL_TOPICS
from raykafka.model import (
    EARLIEST_TIMESTAMP,
    LATEST_TIMESTAMP,
    MAX_TIMESTAMP,
    OffsetAndTimestamp,
)
from raykafka.protocol.messages import (
    DeletedRecords,
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsResponse,
    DescribeLogDirsRequest,
    DescribeLogDirsResponse,
    ListedOffset,
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsResponse,
    LogDirPartition,
)
from raykafka.protocol.txn_messages import (
    DescribedProducers,
    DescribeProducersPartition,
    DescribeProducersRequest,
    DescribeProducersResponse,
    ProducerInfo,
)
from raykafka.storage.disk_guard import DiskGuard


class QueryHandler:
    """Answers questions about the replicas of one partition actor, at once."""

    def __init__(
        self, replicas: ReplicaSet, disk_guard: DiskGuard, clock: Clock, broker_id: int
    ) -> None:
        self._replicas = replicas
        self._disk_guard = disk_guard
        self._clock = clock
        self._broker_id = broker_id

    def handle_list_offsets(self, request: ListOffsetsRequest, payload: Any, reply: Reply) -> None:
        """LIST_OFFSETS: offsets that a reader of the asked isolation level could reach."""
        isolation = request.isolation
        reply(
            ListOffsetsResponse([self._list_offset(part, isolation) for part in request.partitions])
        )

    def _list_offset(self, part: ListOffsetsPartition, isolation: int) -> ListedOffset:
        try:
            replica = self._leader(part)
            found = _look_up(replica, part.timestamp, isolation)
        except RaykafkaError as error:
            return ListedOffset(
                part.topic_id, part.partition, error_code=error.code, error_message=error.message
            )
        if found is None:
            return ListedOffset(part.topic_id, part.partition)
        return ListedOffset(
            part.topic_id, part.partition, found.offset, found.timestamp, found.leader_epoch
        )

    def handle_describe_producers(
        self, request: DescribeProducersRequest, payload: Any, reply: Reply
    ) -> None:
        """DESCRIBE_PRODUCERS (KIP-664): who writes, and whose transactions are open since where."""
        reply(DescribeProducersResponse([self._producers(part) for part in request.partitions]))

    def _producers(self, part: DescribeProducersPartition) -> DescribedProducers:
        try:
            log = self._leader(part).log
        except RaykafkaError as error:
            return DescribedProducers(
                part.topic_id, part.partition, error_code=error.code, error_message=error.message
            )
        producers = [ProducerInfo(*producer) for producer in log.producers()]
        return DescribedProducers(part.topic_id, part.partition, producers)

    def _leader(
        self, part: ListOffsetsPartition | DeleteRecordsPartition | DescribeProducersPartition
    ) -> Replica:
        now_ms = self._clock.monotonic_ms()
        return self._replicas.leader(part.topic_id, part.partition, part.leader_epoch, now_ms)

    async def delete_records(self, request: DeleteRecordsRequest) -> DeleteRecordsResponse:
        """DELETE_RECORDS (KIP-107): moves the log start offset; segments below it are deleted.

        Each partition waits for the disk, so others get their turn in between.
        """
        deleted = []
        for part in request.partitions:
            deleted.append(self._delete_records(part))
            await asyncio.sleep(0)
        return DeleteRecordsResponse(deleted)

    def _delete_records(self, part: DeleteRecordsPartition) -> DeletedRecords:
        try:
            replica = self._leader(part)
            if replica.topic in INTERNAL_TOPICS:
                raise InvalidTopicError(
                    f"records of {replica.topic} are deleted by its coordinators only"
                )
            before = part.before_offset
            if before == -1:
                before = replica.high_watermark
            if not 0 <= before <= replica.high_watermark:
                raise OffsetOutOfRangeError(
                    f"cannot delete before offset {before} of {replica.topic}-{part.partition}: "
                    f"its high watermark is {replica.high_watermark}; -1 deletes all below it"
                )
            low_watermark = replica.log.delete_records(before)
        except RaykafkaError as error:
            return DeletedRecords(
                part.topic_id, part.partition, error_code=error.code, error_message=error.message
            )
        return DeletedRecords(part.topic_id, part.partition, low_watermark)

    def handle_describe_log_dirs(
        self, request: DescribeLogDirsRequest, payload: Any, reply: Reply
    ) -> None:
        """DESCRIBE_LOG_DIRS: sizes of this actor's replicas and what is left of the disk."""
        guard = self._disk_guard
        usage = guard.usage()
        usable = usage.free_bytes - guard.reserve_bytes
        reply(
            DescribeLogDirsResponse(
                path=guard.path,
                total_bytes=usage.total_bytes,
                usable_bytes=max(0, usable),
                accepts_writes=usable > 0,
                partitions=[_describe(replica) for replica in self._replicas],
                broker_id=self._broker_id,
            )
        )


def _look_up(replica: Replica, timestamp: int, isolation: int) -> OffsetAndTimestamp | None:
    end = replica.readable_end(isolation)
    if timestamp == LATEST_TIMESTAMP:
        if replica.high_watermark < replica.machine.epoch_start:
            raise OffsetNotAvailableError(
                f"the new leader of {replica.topic} does not know yet how far the partition is"
                " committed; try again"
            )
        return OffsetAndTimestamp(end, -1, replica.leader_epoch)
    if timestamp == EARLIEST_TIMESTAMP:
        return OffsetAndTimestamp(replica.log.log_start_offset, -1, replica.leader_epoch)
    if timestamp == MAX_TIMESTAMP:
        found = replica.log.max_timestamp()
    elif timestamp >= 0:
        found = replica.log.offset_for_timestamp(timestamp)
    else:
        raise InvalidRequestError(
            f"{timestamp} is not a timestamp; -1 asks for the latest offset, -2 for the earliest, "
            "-3 for the record with the largest timestamp"
        )
    # What is not committed may yet be gone after a change of the leader.
    return found if found is not None and found.offset < end else None


def _describe(replica: Replica) -> LogDirPartition:
    log = replica.log
    return LogDirPartition(
        topic=replica.topic,
        partition=replica.partition.partition,
        size_bytes=log.size_bytes,
        segments=log.segment_count,
        log_start_offset=log.log_start_offset,
        log_end_offset=log.log_end_offset,
        damaged=list(log.damaged),
    )
