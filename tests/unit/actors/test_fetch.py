"""FETCH as a long poll: what is answered at once, what parks, who is woken, what bounds it."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from partition_kit import (
    EPOCH,
    TOPIC_ID,
    ActorHarness,
    RecordedConnection,
    batches_in,
    run,
    turns,
    until,
)

from raykafka.errors import (
    FencedLeaderEpochError,
    InvalidRequestError,
    LogDamagedError,
    NotLeaderOrFollowerError,
    OffsetOutOfRangeError,
    ServerBusyError,
    UnknownTopicIdError,
)
from raykafka.log.batch import decode_batch, verify
from raykafka.log.batch_header import read_header
from raykafka.log.schema import UNTYPED_SCHEMA
from raykafka.model import Endpoint, PartitionId
from raykafka.protocol.messages import ApiKey, FetchPartition, FetchRequest

P0 = PartitionId(TOPIC_ID, 0)


def test_what_is_there_is_answered_at_once_with_where_the_partition_stands(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await actor.assign(0)
            actor.produced(0, b"a", b"b")
            actor.produced(0, b"c")
            reply = actor.fetch((0, 1))
            fetched = reply.answer.partitions[0]
            assert (fetched.high_watermark, fetched.log_start_offset) == (3, 0)
            assert fetched.last_stable_offset == 3
            headers = [verify(batch, P0) for batch in batches_in(reply)]
            assert [header.base_offset for header in headers] == [0, 2]

    run(scenario())


def test_a_fetch_at_the_end_waits_until_its_time_is_up(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await actor.assign(0)
            reply = actor.fetch((0, 0), max_wait_ms=20)
            assert reply.answers == []
            await until(lambda: bool(reply.answers))
            assert reply.answer.partitions[0].sizes == []
            assert reply.answer.partitions[0].high_watermark == 0
            assert actor.fetch((0, 0), max_wait_ms=0).answer.partitions[0].sizes == []

    run(scenario())


def test_only_readers_of_the_partition_that_moved_are_woken(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await actor.assign(0, 1)
            here, there = actor.fetch((0, 0)), actor.fetch((1, 0))
            both = actor.fetch((0, 0), (1, 0))
            actor.produced(0, b"a")
            await turns()
            assert len(batches_in(here)) == 1
            assert len(batches_in(both)) == 1
            assert there.answers == []
            assert actor.fetch_handler.parked == 1
            assert actor.replica(0).waiters == {}

    run(scenario())


def test_min_bytes_waits_for_several_appends(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await actor.assign(0, 1)
            size = actor.produced(0, b"x" * 100).base_offset == 0 and len(
                batches_in(actor.fetch((0, 0)))[0]
            )
            reply = actor.fetch((0, 0), (1, 0), min_bytes=3 * size)
            assert reply.answers == []
            actor.produced(1, b"x" * 100)
            await turns()
            assert reply.answers == []
            actor.produced(0, b"x" * 100)
            await turns()
            assert len(batches_in(reply, partition=0)) == 2
            assert len(batches_in(reply, partition=1)) == 1

    run(scenario())


def test_the_first_batch_is_returned_whatever_its_size_and_later_ones_must_fit(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await actor.assign(0, 1)
            for partition in (0, 1):
                for _ in range(3):
                    actor.produced(partition, b"x" * 1000)
            reply = actor.fetch((0, 0), (1, 0), max_bytes=10)
            assert [len(p.sizes) for p in reply.answer.partitions] == [1, 1]
            size = reply.answer.partitions[0].sizes[0]
            request = FetchRequest(
                [FetchPartition(TOPIC_ID, p, 0, EPOCH, 1 << 20) for p in (0, 1)],
                max_bytes=size + size // 2,
            )
            parts = actor.request(ApiKey.FETCH, request).answer.partitions
            assert [len(part.sizes) for part in parts] == [1, 0]
            assert parts[1].high_watermark == 3

    run(scenario())


def test_errors_of_one_partition_stand_beside_the_data_of_others(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await actor.assign(0)
            actor.produced(0, b"a")
            reply = actor.fetch((0, 0), (7, 0), (0, 9))
            codes = [part.error_code for part in reply.answer.partitions]
            assert codes == [0, NotLeaderOrFollowerError.code, OffsetOutOfRangeError.code]
            old = FetchRequest([FetchPartition(TOPIC_ID, 0, 0, EPOCH - 1)])
            part = actor.request(ApiKey.FETCH, old).answer.partitions[0]
            assert part.error_code == FencedLeaderEpochError.code

    run(scenario())


def test_nonsense_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await actor.assign(0)
            assert isinstance(actor.fetch().error, InvalidRequestError)
            many = actor.fetch(*[(0, 0)] * 5000)
            assert isinstance(many.error, InvalidRequestError)

    run(scenario())


def test_parked_fetches_are_bounded_and_end_with_their_connection(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ActorHarness(tmp_path, configs={"max.parked.fetches": "3"}) as actor:
            await actor.assign(0)
            gone = RecordedConnection()
            replies = [actor.fetch((0, 0), connection=gone) for _ in range(3)]
            refused = actor.fetch((0, 0))
            assert isinstance(refused.error, ServerBusyError)
            assert gone.close_callbacks == 1
            gone.close()
            assert actor.fetch_handler.parked == 0
            assert actor.replica(0).waiters == {}
            actor.produced(0, b"a")
            await turns()
            assert not any(reply.answers for reply in replies)
            assert len(batches_in(actor.fetch((0, 0)))) == 1

    run(scenario())


def test_a_long_lived_connection_keeps_one_callback_however_often_it_polls(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await actor.assign(0)
            for offset in range(50):
                reply = actor.fetch((0, offset))
                actor.produced(0, b"a")
                await turns()
                assert len(batches_in(reply)) == 1
            assert actor.connection.close_callbacks == 1

    run(scenario())


def test_parked_readers_learn_that_the_topic_is_gone(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await actor.assign(0)
            reply = actor.fetch((0, 0))
            await actor.remove(0)
            assert reply.answer.partitions[0].error_code == UnknownTopicIdError.code
            assert actor.fetch_handler.parked == 0
            assert isinstance(actor.produce(0, b"a").error, UnknownTopicIdError)

    run(scenario())


def test_projection_sends_only_the_columns_asked_for(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await actor.assign(0)
            actor.produced(0, b"x" * 5000)
            reply = actor.fetch((0, 0), columns=["__timestamp"])
            batch = batches_in(reply)[0]
            header = verify(batch, P0)
            assert len(batch) < 1000
            assert header.record_count == 1
            schema = pa.schema([UNTYPED_SCHEMA.field("__timestamp")])
            assert decode_batch(batch, schema).num_rows == 1
            unknown = actor.fetch((0, 0), columns=["nope"])
            assert unknown.answer.partitions[0].error_code == InvalidRequestError.code

    run(scenario())


def test_a_client_of_this_host_is_told_where_much_data_is_and_sent_little_data(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with ActorHarness(tmp_path, host_id="here") as actor:
            await actor.assign(0)
            actor.produced(0, b"small")
            assert actor.fetch((0, 0), host_id="here").answer.partitions[0].mapped is None
            for _ in range(4):
                actor.produced(0, b"x" * 50_000)
            reply = actor.fetch((0, 0), host_id="here")
            part = reply.answer.partitions[0]
            assert part.mapped is not None
            assert part.mapped_count == 5
            assert len(reply.payloads[0]) == 5 * 16
            data = _content(part.mapped.path)
            position = int.from_bytes(reply.payloads[0][64:72], "little")
            assert read_header(data[position:]).base_offset == 4
            elsewhere = actor.fetch((0, 0), host_id="there").answer.partitions[0]
            assert elsewhere.mapped is None
            assert len(elsewhere.sizes) == 5

    run(scenario())


def _content(path: str) -> bytes:
    return Path(path).read_bytes()


@pytest.mark.parametrize("isolation", [0, 1])
def test_both_isolation_levels_see_committed_records(tmp_path: Path, isolation: int) -> None:
    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await actor.assign(0)
            actor.produced(0, b"a")
            assert len(batches_in(actor.fetch((0, 0), isolation=isolation))) == 1

    run(scenario())


def test_damaged_records_are_never_served_and_the_rest_is(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await actor.assign(0, 1)
            for _ in range(3):
                actor.produced(0, b"x" * 1000)
            actor.produced(1, b"healthy")
        _flip_a_bit_in_the_second_batch(tmp_path / "t-0")
        async with ActorHarness(tmp_path) as actor:
            await actor.assign(0, 1, opened_before=True)
            reply = actor.fetch((0, 0), (1, 0))
            assert [len(part.sizes) for part in reply.answer.partitions] == [1, 1]
            part = actor.fetch((0, 1)).answer.partitions[0]
            assert part.error_code == LogDamagedError.code
            assert "seek to 2" in part.error_message
            assert len(batches_in(actor.fetch((0, 2)))) == 1
            assert actor.produced(0, b"after").base_offset == 3

    run(scenario())


def _flip_a_bit_in_the_second_batch(directory: Path) -> None:
    [segment] = directory.glob("*.arrow")
    data = bytearray(segment.read_bytes())
    second = data.index(b"x" * 1000, data.index(b"x" * 1000) + 1000)
    data[second + 10] ^= 1
    segment.write_bytes(data)


def test_a_batch_that_was_cut_off_is_not_handed_out_from_memory(tmp_path: Path) -> None:
    """What readers were about to get when the leader changed may never have been committed."""

    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await actor.assign(0, replicas=(0, 1), isr=(0, 1))
            actor.fetch((0, 0))
            actor.produce(0, b"cut")
            elsewhere = Endpoint("127.0.0.1", 1)
            await actor.assign(0, leader_epoch=EPOCH + 1, leader_id=1, leader=elsewhere)
            actor.replica(0).log.truncate_to(0)
            await actor.assign(0, leader_epoch=EPOCH + 2, replicas=(0, 1))
            actor.produced(0, b"kept", epoch=EPOCH + 2)
            [batch] = batches_in(actor.fetch((0, 0), epoch=EPOCH + 2))
            assert b"kept" in batch

    run(scenario())


def test_one_reader_that_cannot_be_served_leaves_no_other_asleep(tmp_path: Path) -> None:
    class Broken:
        committed = False

        def on_committed(self, _: object) -> None:
            raise ValueError("whatever it is")

    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await actor.assign(0, 1)
            actor.replica(0).waiters[Broken()] = 0
            parked = [actor.fetch((0, 0)), actor.fetch((1, 0))]
            actor.produced(0, b"a")
            actor.produced(1, b"a")
            await turns()
            assert [len(reply.answers) for reply in parked] == [1, 1]
            actor.replica(0).waiters.clear()

    run(scenario())


@pytest.mark.parametrize("push", [False, True])
def test_a_copy_that_is_being_cut_is_not_read(tmp_path: Path, push: bool) -> None:
    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await actor.assign(0)
            actor.produced(0, b"a")
            actor.replica(0).rebuilding = True
            reply = actor.fetch((0, 0), push=push, credit_bytes=1000)
            [fetched] = reply.answers[0].partitions
            assert fetched.error_code == NotLeaderOrFollowerError.code

    run(scenario())
