"""Leaders and followers on real sockets: copies, kills, changes of the leader, logs that part."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from partition_kit import TOPIC, TOPIC_ID, until
from replica_kit import SECRET, TIMEOUT_S, Brokers, play, produce, produced

from raykafka.errors import (
    ClusterAuthorizationFailedError,
    FencedLeaderEpochError,
    KafkaStorageError,
    LogDamagedError,
    NotEnoughReplicasError,
    NotLeaderOrFollowerError,
    OffsetNotAvailableError,
    UnknownLeaderEpochError,
)
from raykafka.log.schema import UNTYPED_VALUE_SCHEMA, serialize_schema
from raykafka.network.client import Connection
from raykafka.protocol.messages import (
    ApiKey,
    FetchedPartition,
    FetchPartition,
    FetchRequest,
    FetchResponse,
)
from raykafka.protocol.replication_messages import ReplicateRequest, ReplicateResponse


@pytest.mark.parametrize("fsync", ["none", "batch"])
def test_three_copies_hold_the_same_bytes(tmp_path: Path, fsync: str) -> None:
    async def scenario(brokers: Brokers) -> None:
        await brokers.lead(0, 1, isr=[0, 1, 2])
        leader = await brokers.connect(0)
        for number in range(20):
            assert await produced(leader, b"%d" % number, epoch=1) == number
            ends = [brokers.replica(each).log.log_end_offset for each in (1, 2)]
            assert ends == [number + 1] * 2, "acknowledged, so everybody in sync has it"
        big = [bytes(100_000)] * 30
        await produced(leader, *big, epoch=1)
        await brokers.settled(0, 1, 2)
        leader.close()

    play(tmp_path, scenario, fsync=fsync)


def test_many_partitions_share_a_connection(tmp_path: Path) -> None:
    async def scenario(brokers: Brokers) -> None:
        partitions = range(40)
        await brokers.lead(0, 1, isr=[0, 1, 2], partitions=partitions)
        leader = await brokers.connect(0)
        for partition in partitions:
            await produced(leader, b"x", epoch=1, partition=partition)
        assert len(brokers.actors[1]._parts.following._links) == 1  # type: ignore[union-attr]
        for partition in partitions:
            await brokers.settled(0, 1, 2, partition=partition)
        leader.close()

    play(tmp_path, scenario)


def test_a_killed_follower_catches_up_from_where_it_was(tmp_path: Path) -> None:
    async def scenario(brokers: Brokers) -> None:
        await brokers.lead(0, 1, isr=[0, 1, 2])
        leader = await brokers.connect(0)
        await produced(leader, b"before", epoch=1)
        await brokers.kill(2)
        waiting = await produce(leader, b"waits", epoch=1)
        await asyncio.sleep(0)
        assert not waiting.done(), "who is in sync has to have it"
        await brokers.lead(0, 1, isr=[0, 1])
        await asyncio.wait_for(waiting, TIMEOUT_S)
        for _ in range(300):
            await produced(leader, bytes(20_000), epoch=1)
        await brokers.start(2)
        await brokers.lead(0, 1, isr=[0, 1])
        await brokers.settled(0, 1, 2)
        machine = brokers.replica(0).machine
        await until(lambda: machine.in_sync.proposed == {0, 1, 2})
        await brokers.lead(0, 1, isr=[0, 1, 2])
        await produced(leader, b"after", epoch=1)
        await brokers.settled(0, 1, 2)
        leader.close()

    play(tmp_path, scenario)


def test_a_new_leader_goes_on_and_the_old_one_cuts_what_only_it_had(tmp_path: Path) -> None:
    async def scenario(brokers: Brokers) -> None:
        await brokers.lead(0, 1, isr=[0, 1, 2])
        leader = await brokers.connect(0)
        for number in range(10):
            await produced(leader, b"%d" % number, epoch=1)
        # The others are led by 1 already when 0, which does not know, takes more.
        await brokers.lead(1, 2, isr=[1, 2], told=[1, 2])
        lost = [await produce(leader, b"lost", epoch=1) for _ in range(5)]
        await until(lambda: brokers.replica(0).log.log_end_offset == 15)
        other = await brokers.connect(1)
        for number in range(3):
            assert await produced(other, b"kept", epoch=2) == 10 + number
        assert not any(each.done() for each in lost), "nobody else has them"
        await brokers.lead(1, 2, isr=[1, 2])
        assert isinstance(await lost[0], NotLeaderOrFollowerError)
        await brokers.settled(0, 1, 2)
        assert brokers.replica(0).log.log_end_offset == 13
        with pytest.raises(NotLeaderOrFollowerError):
            raise await (await produce(leader, b"late", epoch=1))
        with pytest.raises(FencedLeaderEpochError):
            raise await (await produce(other, b"late", epoch=1))
        leader.close()
        other.close()

    play(tmp_path, scenario)


def test_a_high_watermark_that_a_follower_does_not_know_yet_cuts_nothing(tmp_path: Path) -> None:
    """KIP-101: truncation goes by epoch, never by high watermark."""

    async def scenario(brokers: Brokers) -> None:
        await brokers.lead(0, 1, isr=[0, 1, 2])
        leader = await brokers.connect(0)
        await produced(leader, *[b"x"] * 7, epoch=1)
        # Both followers have the batch, but perhaps not the word that it is committed.
        await brokers.kill(0)
        await brokers.lead(1, 2, isr=[1, 2])
        await brokers.settled(1, 2)
        assert brokers.replica(1).high_watermark == 7
        leader.close()

    play(tmp_path, scenario)


def test_a_follower_begins_anew_where_the_leaders_log_begins(tmp_path: Path) -> None:
    async def scenario(brokers: Brokers) -> None:
        await brokers.lead(0, 1, isr=[0, 1, 2])
        leader = await brokers.connect(0)
        await produced(leader, b"old", epoch=1)
        await brokers.settled(0, 1, 2)
        await brokers.kill(2)
        await brokers.lead(0, 1, isr=[0, 1])
        for _ in range(5):
            await produced(leader, b"x", epoch=1)
        brokers.replica(0).log.delete_records(4)
        await brokers.start(2)
        await brokers.lead(0, 1, isr=[0, 1])
        await until(lambda: brokers.replica(2).log.log_end_offset == 6)
        assert brokers.replica(2).log.log_start_offset == 4
        leader.close()

    play(tmp_path, scenario)


def test_below_the_minimum_acks_all_is_refused_and_nothing_is_committed(tmp_path: Path) -> None:
    async def scenario(brokers: Brokers) -> None:
        await brokers.lead(0, 1, isr=[0, 1, 2])
        leader = await brokers.connect(0)
        await produced(leader, b"a", epoch=1)
        await brokers.lead(0, 1, isr=[0])
        with pytest.raises(NotEnoughReplicasError):
            raise await (await produce(leader, b"b", epoch=1))
        await produced(leader, b"c", epoch=1, acks=1)
        assert brokers.replica(0).high_watermark == 1
        await brokers.lead(0, 1, isr=[0, 1])
        await until(lambda: brokers.replica(0).high_watermark == 2)
        leader.close()

    play(tmp_path, scenario, **{"min.insync.replicas": "2"})


def test_a_client_cannot_pose_as_a_replica(tmp_path: Path) -> None:
    async def scenario(brokers: Brokers) -> None:
        await brokers.lead(0, 1, isr=[0, 1, 2])
        request = ReplicateRequest(TOPIC_ID, 0, 1, 1, 1, 0)

        def pose() -> None:
            client = Connection(brokers.endpoints[0], SECRET, client_id="impostor")
            with pytest.raises(ClusterAuthorizationFailedError, match="brokers"):
                client.call(ApiKey.REPLICATE, request, timeout_ms=5000)
            client.close()

        await asyncio.get_running_loop().run_in_executor(None, pose)
        assert brokers.replica(0).machine.in_sync.position(1) in (-1, 0)

    play(tmp_path, scenario)


def test_a_follower_of_another_epoch_or_without_replica_is_refused(tmp_path: Path) -> None:
    async def scenario(brokers: Brokers) -> None:
        await brokers.lead(0, 2, isr=[0], told=[0])
        peer = await brokers.connect(0)
        for epoch, replica_id, error in (
            (1, 1, FencedLeaderEpochError),
            (3, 1, UnknownLeaderEpochError),
            (2, 7, UnknownLeaderEpochError),
        ):
            request = ReplicateRequest(TOPIC_ID, 0, epoch, replica_id, 1, 0)
            with pytest.raises(error):
                await peer.call(ApiKey.REPLICATE, request, timeout_s=TIMEOUT_S)
        parted = ReplicateRequest(TOPIC_ID, 0, 2, 1, 1, 99, 1)
        answer = await peer.call(ApiKey.REPLICATE, parted, timeout_s=TIMEOUT_S)
        assert isinstance(answer, ReplicateResponse)
        assert answer.diverging_end == 0
        peer.close()

    play(tmp_path, scenario)


def test_a_damaged_copy_that_is_not_counted_on_is_copied_again(tmp_path: Path) -> None:
    async def scenario(brokers: Brokers) -> None:
        await brokers.lead(0, 1, isr=[0, 1, 2])
        leader = await brokers.connect(0)
        for number in range(30):
            await produced(leader, b"%d" % number * 100, epoch=1)
        await brokers.settled(0, 1, 2)
        await brokers.kill(2)
        (segment,) = (tmp_path / "broker-2" / f"{TOPIC}-0").glob("*.arrow")
        content = bytearray(segment.read_bytes())
        content[len(content) // 2] ^= 1
        segment.write_bytes(content)
        await brokers.start(2)
        refused = await brokers.tell(2, 0, 1, isr=[0, 1, 2])
        assert refused.error_code == LogDamagedError.code, "the controller puts it out first"
        assert (await brokers.tell(2, 0, 1, isr=[0, 1])).error_code == 0
        await brokers.settled(0, 1, 2)
        assert not brokers.replica(2).log.damaged
        leader.close()

    play(tmp_path, scenario)


def test_a_leader_that_meets_damage_asks_for_another_and_copies_it_anew(tmp_path: Path) -> None:
    async def scenario(brokers: Brokers) -> None:
        await brokers.lead(0, 1, isr=[0, 1, 2])
        leader = await brokers.connect(0)
        for number in range(30):
            await produced(leader, b"%d" % number * 100, epoch=1)
        await brokers.settled(0, 1, 2)
        replica = brokers.replica(0)
        replica.log._view.mark_damaged(10, 12)
        request = FetchRequest([FetchPartition(TOPIC_ID, 0, 10)])
        answer = await leader.call(ApiKey.FETCH, request, timeout_s=TIMEOUT_S)
        assert isinstance(answer, FetchResponse)
        assert answer.partitions[0].error_code == NotLeaderOrFollowerError.code
        parts = brokers.actors[0]._parts
        assert parts is not None
        assert replica in parts.channel._failed
        await brokers.lead(1, 2, isr=[1, 2])
        await brokers.settled(0, 1, 2)
        assert not replica.log.damaged
        leader.close()

    play(tmp_path, scenario)


def test_a_throttled_copy_takes_its_time_and_holds_up_nobody(tmp_path: Path) -> None:
    async def scenario(brokers: Brokers) -> None:
        loop = asyncio.get_running_loop()
        await brokers.lead(0, 1, isr=[0, 1], told=[0, 1])
        leader = await brokers.connect(0)
        for _ in range(40):
            await produced(leader, bytes(100_000), epoch=1)
        brokers.throttled_rate = 8_000_000
        began = loop.time()
        await brokers.lead(0, 1, isr=[0, 1])
        while brokers.replica(2).log.log_end_offset < 40:
            before = loop.time()
            await produced(leader, b"live", epoch=1)
            assert loop.time() - before < 5
        # 4 MB at 8 MB/s, the first frame and the first credit for nothing.
        assert loop.time() - began > 0.2
        leader.close()

    play(tmp_path, scenario)


def test_a_follower_serves_what_is_committed_to_who_may_read_there(tmp_path: Path) -> None:
    """KIP-392."""

    async def scenario(brokers: Brokers) -> None:
        await brokers.lead(0, 1, isr=[0, 1, 2])
        leader = await brokers.connect(0)
        for number in range(5):
            await produced(leader, b"%d" % number, epoch=1)
        await brokers.settled(0, 1, 2)
        follower = await brokers.connect(1)

        async def fetch(offset: int, **fields: Any) -> FetchedPartition:
            part = FetchPartition(TOPIC_ID, 0, offset, 1)
            request = FetchRequest([part], max_wait_ms=5000, **fields)
            answer = await follower.call(ApiKey.FETCH, request, timeout_s=TIMEOUT_S)
            assert isinstance(answer, FetchResponse)
            return answer.partitions[0]

        refused = await fetch(0)
        assert refused.error_code == NotLeaderOrFollowerError.code, "it was not asked for"
        found = await fetch(0, follower_reads=True)
        assert (len(found.sizes), found.high_watermark) == (5, 5)
        beyond = await fetch(99, follower_reads=True)
        assert beyond.error_code == OffsetNotAvailableError.code, "no reason to seek elsewhere"
        waiting = asyncio.ensure_future(fetch(5, follower_reads=True))
        await asyncio.sleep(0.01)
        await produced(leader, b"next", epoch=1)
        assert len((await waiting).sizes) == 1
        waiting = asyncio.ensure_future(fetch(6, follower_reads=True))
        await asyncio.sleep(0.01)
        await brokers.lead(2, 2, isr=[0, 1, 2])
        assert (await waiting).error_code in (
            FencedLeaderEpochError.code,
            NotLeaderOrFollowerError.code,
        ), "its epoch is over"
        leader.close()
        follower.close()

    play(tmp_path, scenario)


def test_a_copy_whose_disk_failed_is_out_until_it_does_not_count_and_then_is_mended(
    tmp_path: Path,
) -> None:
    async def scenario(brokers: Brokers) -> None:
        await brokers.lead(0, 1, isr=[0, 1, 2])
        leader = await brokers.connect(0)
        await produced(leader, b"before", epoch=1)
        brokers.replica(2).log._writer.failure = KafkaStorageError("the disk is gone")
        waiting = await produce(leader, b"after", epoch=1)
        actor = brokers.actors[2]
        partition = brokers.replica(0).partition
        await until(lambda: actor._replicas.failed(partition) is not None)
        assert not waiting.done()
        refused = await brokers.tell(2, 0, 1, isr=[0, 1, 2])
        assert refused.error_code == KafkaStorageError.code, "what it wrote is not to be believed"
        await brokers.lead(0, 1, isr=[0, 1])
        await asyncio.wait_for(waiting, TIMEOUT_S)
        await brokers.settled(0, 1, 2)
        leader.close()

    play(tmp_path, scenario)


def test_followers_acknowledge_by_the_setting_that_holds_now(tmp_path: Path) -> None:
    async def scenario(brokers: Brokers) -> None:
        await brokers.lead(0, 1, isr=[0, 1, 2])
        leader = await brokers.connect(0)
        await produced(leader, b"flushed", epoch=1)
        brokers.topic_configs = {"fsync": "none"}
        await brokers.lead(0, 1, isr=[0, 1, 2])
        await produced(leader, b"written", epoch=1)
        brokers.topic_configs = {"fsync": "batch"}
        await brokers.lead(0, 1, isr=[0, 1, 2])
        await produced(leader, b"flushed", epoch=1)
        assert [brokers.replica(each).log.flushed_offset for each in (1, 2)] == [3, 3]
        leader.close()

    play(tmp_path, scenario, fsync="batch")


def test_what_was_written_but_not_flushed_is_not_acknowledged_by_coming_back(
    tmp_path: Path,
) -> None:
    async def scenario(brokers: Brokers) -> None:
        await brokers.lead(0, 1, isr=[0, 1])
        leader = await brokers.connect(0)
        await produced(leader, b"flushed", epoch=1)
        log = brokers.replica(1).log
        log.flush = lambda: log.flushed_offset  # type: ignore[method-assign]
        waiting = await produce(leader, b"written", epoch=1)
        await until(lambda: log.log_end_offset == 2)
        stream = brokers.replica(0).streams[1]
        [link] = brokers.actors[1]._parts.following._links.values()  # type: ignore[union-attr]
        assert link.connection is not None
        link.connection.close()
        await until(lambda: brokers.replica(0).streams.get(1) not in (None, stream))
        await asyncio.sleep(0.02)
        assert not waiting.done(), "a power cut would take it from broker 1"
        del log.flush
        brokers.actors[1]._parts.flusher.request(brokers.replica(1))  # type: ignore[union-attr]
        await asyncio.wait_for(waiting, TIMEOUT_S)
        leader.close()

    play(tmp_path, scenario, count=2, fsync="batch")


def test_a_follower_that_does_not_know_the_new_schema_yet_only_waits(tmp_path: Path) -> None:
    async def scenario(brokers: Brokers) -> None:
        schema = serialize_schema(UNTYPED_VALUE_SCHEMA)
        brokers.schemas = [schema]
        await brokers.lead(0, 1, isr=[0, 1, 2])
        leader = await brokers.connect(0)
        await produced(leader, b"old", epoch=1)
        brokers.schemas = [schema, schema]
        await brokers.lead(0, 1, isr=[0, 1, 2], told=[0])
        waiting = await produce(leader, b"new", epoch=1, schema_id=1)
        await asyncio.sleep(0.05)
        assert not waiting.done()
        assert brokers.replica(1).log.log_end_offset == 1, "it is well, and served"
        await brokers.lead(0, 1, isr=[0, 1, 2])
        await asyncio.wait_for(waiting, TIMEOUT_S)
        await brokers.settled(0, 1, 2)
        leader.close()

    play(tmp_path, scenario)


def test_a_follower_that_connects_again_has_one_stream(tmp_path: Path) -> None:
    """It had been refused, and was about to ask again, when its connection broke."""

    async def scenario(brokers: Brokers) -> None:
        await brokers.lead(0, 1, isr=[0, 1], told=[1])
        following = brokers.actors[1]._parts.following  # type: ignore[union-attr]
        followed = following._followed[brokers.replica(1)]
        await until(lambda: followed._pause_s >= 1)
        await brokers.lead(0, 1, isr=[0, 1])
        [link] = following._links.values()
        assert link.connection is not None
        link.connection.close()
        await until(lambda: 1 in brokers.replica(0).streams)
        assert followed._timer is None, "a second stream would send everything once more"

    play(tmp_path, scenario, count=2)


def test_an_empty_log_with_an_epoch_that_the_leader_never_had_begins_anew(tmp_path: Path) -> None:
    """There is nothing to cut, so cutting would never bring the two in line."""

    async def scenario(brokers: Brokers) -> None:
        await brokers.lead(0, 1, isr=[0], told=[0])
        leader = await brokers.connect(0)
        await produced(leader, b"a", b"b", b"c", epoch=1)
        await brokers.lead(1, 2, isr=[1], told=[1])
        other = await brokers.connect(1)
        await produced(other, b"x", b"y", b"z", epoch=2)
        brokers.replica(1).log.delete_records(3)
        await brokers.lead(0, 3, isr=[0])
        await produced(leader, b"d", epoch=3)
        await until(lambda: brokers.replica(1).log.log_end_offset == 4)
        assert brokers.contents(1) == brokers.contents(0)[1:]
        leader.close()
        other.close()

    play(tmp_path, scenario, count=2)
