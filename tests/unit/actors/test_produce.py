"""PRODUCE against a partition actor: every check, every acks, and who is woken when."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from partition_kit import (
    EPOCH,
    TOPIC_ID,
    ActorHarness,
    batches_in,
    message,
    run,
    turns,
    until,
    value_batch,
)

from raykafka.errors import (
    CorruptMessageError,
    DiskFullError,
    FencedLeaderEpochError,
    InvalidRecordError,
    InvalidRequiredAcksError,
    KafkaStorageError,
    MessageTooLargeError,
    NotEnoughReplicasError,
    NotLeaderOrFollowerError,
    OutOfOrderSequenceNumberError,
    RaykafkaError,
    RequestTimedOutError,
    UnknownLeaderEpochError,
    UnknownSchemaVersionError,
)
from raykafka.log.batch_header import read_header
from raykafka.log.schema import UNTYPED_SCHEMA
from raykafka.model import PartitionId
from raykafka.protocol.messages import ApiKey, ProduceRequest

P0 = PartitionId(TOPIC_ID, 0)


def test_offsets_are_given_in_order_and_the_leader_part_is_stamped(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await actor.assign(0)
            assert actor.produced(0, b"a", b"b").base_offset == 0
            assert actor.produced(0, b"c").base_offset == 2
            header = read_header(batches_in(actor.fetch((0, 2)))[0])
            assert (header.base_offset, header.leader_epoch) == (2, EPOCH)

    run(scenario())


def test_acks_none_is_appended_and_never_answered(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await actor.assign(0)
            assert actor.produce(0, b"a", acks=0).answers == []
            assert actor.produced(0, b"b", acks=1).base_offset == 1

    run(scenario())


@pytest.mark.parametrize("kind", ["CreateTime", "LogAppendTime"])
def test_the_append_time_is_told_only_where_it_is_the_records_time(
    tmp_path: Path, kind: str
) -> None:
    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await actor.assign(0, configs={"message.timestamp.type": kind})
            answer = actor.produced(0, b"a")
            assert (answer.append_time_ms >= 0) == (kind == "LogAppendTime")

    run(scenario())


def test_an_idempotent_batch_sent_twice_is_written_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await actor.assign(0)
            sent = {"producer_id": 7, "producer_epoch": 0, "base_sequence": 0}
            first = actor.produced(0, b"a", **sent)
            again = actor.produced(0, b"a", **sent)
            assert (first.base_offset, first.duplicate) == (0, False)
            assert (again.base_offset, again.duplicate) == (0, True)
            gap = actor.produce(0, b"c", **{**sent, "base_sequence": 5})
            assert isinstance(gap.error, OutOfOrderSequenceNumberError)
            assert actor.produced(0, b"d").base_offset == 1

    run(scenario())


REFUSED: list[tuple[dict[str, Any], dict[str, Any], type[RaykafkaError]]] = [
    ({"epoch": EPOCH - 1}, {}, FencedLeaderEpochError),
    ({"epoch": EPOCH + 1}, {}, UnknownLeaderEpochError),
    ({"acks": 2}, {}, InvalidRequiredAcksError),
    ({}, {"max.message.bytes": "64"}, MessageTooLargeError),
    ({}, {"min.insync.replicas": "2"}, NotEnoughReplicasError),
    ({"schema_id": 1}, {}, UnknownSchemaVersionError),
    ({"control": True}, {}, InvalidRecordError),
    ({"transactional": True}, {}, InvalidRecordError),
]


@pytest.mark.parametrize(("sent", "configs", "error"), REFUSED)
def test_a_refused_batch_says_why_and_changes_nothing(
    tmp_path: Path, sent: dict[str, Any], configs: dict[str, str], error: type[RaykafkaError]
) -> None:
    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await actor.assign(0, configs=configs)
            assert isinstance(actor.produce(0, b"a", **sent).error, error)
            await actor.assign(0, configs={})
            assert actor.produced(0, b"b").base_offset == 0

    run(scenario())


def test_bytes_that_are_not_one_valid_batch_are_refused(tmp_path: Path) -> None:
    good = message(P0, value_batch(b"a"))
    flipped = bytearray(good)
    flipped[-3] ^= 1
    elsewhere = message(PartitionId(TOPIC_ID, 1), value_batch(b"a"))
    wrong = pa.record_batch([pa.array([1], pa.timestamp("ms"))], names=["__timestamp"])
    payloads: list[tuple[Any, type[RaykafkaError]]] = [
        (b"", CorruptMessageError),
        (b"garbage", CorruptMessageError),
        (good[:-8], CorruptMessageError),
        (flipped, CorruptMessageError),
        (elsewhere, CorruptMessageError),
        (good + good, InvalidRecordError),
        (message(P0, wrong), InvalidRecordError),
    ]

    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await actor.assign(0)
            for payload, error in payloads:
                request = ProduceRequest(TOPIC_ID, 0, EPOCH)
                reply = actor.request(ApiKey.PRODUCE, request, bytearray(payload))
                assert isinstance(reply.error, error), (bytes(payload)[:20], reply.error)
            assert actor.produced(0, b"b").base_offset == 0

    run(scenario())


def test_a_partition_that_is_not_here_is_not_led_here(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            assert isinstance(actor.produce(5, b"a").error, NotLeaderOrFollowerError)

    run(scenario())


def test_a_full_disk_refuses_producers_and_goes_on_serving_readers(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await actor.assign(0)
            actor.produced(0, b"a")
        async with ActorHarness(tmp_path, configs={"disk.reserve.bytes": str(1 << 60)}) as actor:
            await actor.assign(0, opened_before=True, leader_epoch=EPOCH + 1)
            reply = actor.produce(0, b"b", epoch=EPOCH + 1)
            assert isinstance(reply.error, DiskFullError)
            assert reply.error.retriable
            reply = actor.fetch((0, 0), epoch=EPOCH + 1)
            assert len(batches_in(reply)) == 1

    run(scenario())


def test_the_answer_leaves_before_a_reader_is_woken(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await actor.assign(0)
            parked = actor.fetch((0, 0))
            produced = actor.produce(0, b"a")
            assert produced.answer.base_offset == 0
            assert parked.answers == []
            await turns()
            assert len(batches_in(parked)) == 1

    run(scenario())


def test_fsync_batch_answers_acks_all_when_flushed_and_hides_records_until_then(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await actor.assign(0, configs={"fsync": "batch"})
            reader = actor.fetch((0, 0))
            replies = [actor.produce(0, b"v%d" % number) for number in range(20)]
            leader_only = actor.produced(0, b"last", acks=1)
            assert leader_only.base_offset == 20
            assert replies[0].answers == []
            await until(lambda: all(reply.answers for reply in replies))
            assert [reply.answer.base_offset for reply in replies] == list(range(20))
            await until(lambda: bool(reader.answers))

    run(scenario())


def test_a_produce_that_is_not_committed_in_time_is_told_so(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await actor.assign(0, configs={"fsync": "batch"})
            replica = actor.replica(0)
            replica.log = _NeverFlushed(replica.log)
            payload = message(P0, value_batch(b"a"))
            request = ProduceRequest(TOPIC_ID, 0, EPOCH, timeout_ms=-1)
            reply = actor.request(ApiKey.PRODUCE, request, payload)
            actor.upkeep.look_after_roles()
            assert reply.answer.error_code == RequestTimedOutError.code
            replica.log.release()

    run(scenario())


class _NeverFlushed:
    """A log whose disk does not answer until it is told to."""

    def __init__(self, log: Any) -> None:
        self._log = log
        self._free = threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def flush(self) -> int:
        self._free.wait(10)
        return int(self._log.flush())

    def release(self) -> None:
        self._free.set()


def test_a_failed_fsync_fails_the_produce_and_takes_only_that_replica_out_of_service(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await actor.assign(0, 1, configs={"fsync": "batch"})
            replica = actor.replica(0)
            replica.log = _Broken(replica.log)
            parked = actor.fetch((0, 0))
            reply = actor.produce(0, b"a")
            await until(lambda: bool(reply.answers))
            assert reply.answer.error_code == 56
            assert parked.answer.partitions[0].error_code == 56
            again = actor.produce(0, b"b").error
            assert again is not None
            assert again.code == 56
            healthy = actor.produce(1, b"c")
            await until(lambda: bool(healthy.answers))
            assert healthy.answer.base_offset == 0

    run(scenario())


class _Broken:
    """A log whose fsync fails."""

    def __init__(self, log: Any) -> None:
        self._log = log

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def flush(self) -> int:
        raise KafkaStorageError("the disk is gone; replace it")


def test_an_interval_topic_is_flushed_after_its_interval(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await actor.assign(0, configs={"fsync": "interval", "fsync.interval.ms": "5"})
            actor.produced(0, b"a")
            log = actor.replica(0).log
            await until(lambda: log.flushed_offset == 1)

    run(scenario())


def test_typed_batches_must_fit_the_topics_schema(tmp_path: Path) -> None:
    async def scenario() -> None:
        value = pa.schema([pa.field("x", pa.int64())])
        async with ActorHarness(tmp_path) as actor:
            await actor.assign(0, schemas=[value.serialize().to_pybytes()])
            untyped = actor.produce(0, b"a")
            assert isinstance(untyped.error, InvalidRecordError)
            columns = [*value_batch(b"").columns[:3], pa.array([42], pa.int64())]
            batch = pa.record_batch(columns, names=["__timestamp", "__key", "__headers", "x"])
            reply = actor.request(
                ApiKey.PRODUCE, ProduceRequest(TOPIC_ID, 0, EPOCH), message(P0, batch)
            )
            assert reply.answer.base_offset == 0

    run(scenario())


def test_requests_cost_no_task_and_no_future(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await actor.assign(0)
            actor.produced(0, b"a")
            before = len(asyncio.all_tasks())
            for _ in range(100):
                actor.produced(0, b"a")
            parked = [actor.fetch((0, 101)) for _ in range(100)]
            assert len(asyncio.all_tasks()) == before
            assert not any(reply.answers for reply in parked)
            assert UNTYPED_SCHEMA.names[0] == "__timestamp"

    run(scenario())
