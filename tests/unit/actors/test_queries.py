"""LIST_OFFSETS, DELETE_RECORDS and DESCRIBE_LOG_DIRS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from partition_kit import (
    EPOCH,
    TOPIC_ID,
    ActorHarness,
    message,
    run,
    until,
    value_batch,
)

from raykafka.errors import (
    FencedLeaderEpochError,
    InvalidRequestError,
    NotLeaderOrFollowerError,
    OffsetOutOfRangeError,
)
from raykafka.model import PartitionId
from raykafka.protocol.messages import (
    ApiKey,
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DescribeLogDirsRequest,
    ListOffsetsPartition,
    ListOffsetsRequest,
    ProduceRequest,
)


def listed(actor: ActorHarness, timestamp: int, partition: int = 0, epoch: int = EPOCH) -> Any:
    part = ListOffsetsPartition(TOPIC_ID, partition, timestamp, epoch)
    return actor.request(ApiKey.LIST_OFFSETS, ListOffsetsRequest([part])).answer.partitions[0]


async def deleted(actor: ActorHarness, before: int, partition: int = 0) -> Any:
    part = DeleteRecordsPartition(TOPIC_ID, partition, before, EPOCH)
    reply = actor.request(ApiKey.DELETE_RECORDS, DeleteRecordsRequest([part]))
    await until(lambda: bool(reply.answers))
    return reply.answer.partitions[0]


def produce_at(actor: ActorHarness, timestamp: int, count: int = 1) -> None:
    batch = value_batch(*[b"v"] * count, timestamp=timestamp)
    payload = message(PartitionId(TOPIC_ID, 0), batch)
    assert actor.request(ApiKey.PRODUCE, ProduceRequest(TOPIC_ID, 0, EPOCH), payload).answer


def test_offsets_by_name_and_by_time(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await actor.assign(0)
            assert (listed(actor, -1).offset, listed(actor, -2).offset) == (0, 0)
            assert listed(actor, -3).offset == -1
            produce_at(actor, 1000, count=3)
            produce_at(actor, 5000)
            produce_at(actor, 3000)
            assert listed(actor, -1).offset == 5
            assert listed(actor, -2).offset == 0
            assert (listed(actor, -3).offset, listed(actor, -3).timestamp) == (3, 5000)
            found = listed(actor, 1001)
            assert (found.offset, found.timestamp, found.leader_epoch) == (1, 1001, EPOCH)
            assert listed(actor, 4000).offset == 3
            assert listed(actor, 9000).offset == -1

    run(scenario())


def test_errors_stand_in_the_result(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await actor.assign(0)
            assert listed(actor, -1, partition=4).error_code == NotLeaderOrFollowerError.code
            assert listed(actor, -1, epoch=EPOCH - 1).error_code == FencedLeaderEpochError.code
            assert listed(actor, -7).error_code == InvalidRequestError.code
            refused = await deleted(actor, 0, partition=4)
            assert refused.error_code == NotLeaderOrFollowerError.code

    run(scenario())


def test_deleted_records_are_out_of_range_also_after_a_restart(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await actor.assign(0)
            for number in range(4):
                produce_at(actor, 1000 + number)
            assert (await deleted(actor, 5)).error_code == OffsetOutOfRangeError.code
            assert (await deleted(actor, 2)).low_watermark == 2
            assert (await deleted(actor, 1)).low_watermark == 2
            assert listed(actor, -2).offset == 2
            part = actor.fetch((0, 1)).answer.partitions[0]
            assert part.error_code == OffsetOutOfRangeError.code
            assert part.log_start_offset == 2
            assert (await deleted(actor, -1)).low_watermark == 4
        async with ActorHarness(tmp_path) as actor:
            await actor.assign(0, opened_before=True)
            assert listed(actor, -2).offset == 4

    run(scenario())


def test_log_dirs_tell_sizes_and_room(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await actor.assign(0, 1)
            produce_at(actor, 1000, count=2)
            answer = actor.request(ApiKey.DESCRIBE_LOG_DIRS, DescribeLogDirsRequest()).answer
            assert answer.path == str(tmp_path)
            assert answer.accepts_writes
            assert 0 < answer.usable_bytes <= answer.total_bytes
            first, second = sorted(answer.partitions, key=lambda part: part.partition)
            assert (first.log_end_offset, second.log_end_offset) == (2, 0)
            assert first.size_bytes > second.size_bytes
            assert first.damaged == []

    run(scenario())
