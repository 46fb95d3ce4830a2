"""What the controller's assignments do to an actor: open, update, delete, and what may go wrong."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pyarrow as pa
from partition_kit import (
    EPOCH,
    TOPIC,
    TOPIC_ID,
    ActorHarness,
    assignment,
    batches_in,
    run,
    turns,
    until,
)

from raykafka.actors.ports import PartitionRemoval
from raykafka.errors import (
    FencedLeaderEpochError,
    InvalidConfigError,
    KafkaStorageError,
    LogDamagedError,
    MessageTooLargeError,
    NotLeaderOrFollowerError,
)
from raykafka.log.batch_header import read_header
from raykafka.model import Endpoint, PartitionId, TopicId


def test_the_same_assignment_twice_changes_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            [first] = await actor.assign(0)
            actor.produced(0, b"a")
            replica = actor.replica(0)
            parked = actor.fetch((0, 1))
            [again] = await actor.assign(0)
            assert actor.replica(0) is replica
            assert (first.log_end_offset, again.log_end_offset) == (0, 1)
            assert parked.answers == []

    run(scenario())


def test_news_of_the_isr_waits_for_no_turn_and_overtakes_nobody(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            three = {"replicas": (0, 1, 2), "leader_id": 0}
            await actor.assign(0, isr=(0,), partition_epoch=1, **three)
            catch_up = actor.actor._parts.following.catch_up  # type: ignore[union-attr]
            async with catch_up.first_turn():
                await asyncio.wait_for(
                    actor.assign(0, isr=(0, 1), partition_epoch=2, **three), timeout=5
                )
                assert actor.replica(0).machine.isr == {0, 1}
                epoch = {"leader_epoch": EPOCH + 1, "isr": (0, 1), **three}
                newer = asyncio.ensure_future(actor.assign(0, partition_epoch=3, **epoch))
                await turns()
                epoch["isr"] = (0, 1, 2)
                newest = asyncio.ensure_future(actor.assign(0, partition_epoch=4, **epoch))
                await turns()
                assert not newer.done()
                assert not newest.done()
            await asyncio.gather(newer, newest)
            assert actor.replica(0).machine.isr == {0, 1, 2}
            assert actor.replica(0).leader_epoch == EPOCH + 1

    run(scenario())


def test_a_newer_epoch_fences_the_older_one(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await actor.assign(0)
            actor.produced(0, b"a")
            [newer] = await actor.assign(0, leader_epoch=EPOCH + 2)
            assert (newer.leader_epoch, newer.log_end_offset) == (EPOCH + 2, 1)
            assert isinstance(actor.produce(0, b"b").error, FencedLeaderEpochError)
            assert actor.produced(0, b"b", epoch=EPOCH + 2).base_offset == 1
            batch = batches_in(actor.fetch((0, 1), epoch=EPOCH + 2))[0]
            assert read_header(batch).leader_epoch == EPOCH + 2
            [older] = await actor.actor.assign([assignment(0)], [])
            assert older.error_code == FencedLeaderEpochError.code
            assert actor.produced(0, b"c", epoch=EPOCH + 2).base_offset == 2

    run(scenario())


def test_settings_and_schemas_are_taken_over_while_in_use(tmp_path: Path) -> None:
    old = pa.schema([pa.field("x", pa.int64())]).serialize().to_pybytes()
    new = pa.schema([pa.field("x", pa.int64()), pa.field("y", pa.int64())]).serialize().to_pybytes()

    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await actor.assign(0)
            await actor.assign(0, configs={"max.message.bytes": "10"})
            assert isinstance(actor.produce(0, b"a").error, MessageTooLargeError)
            await actor.assign(1, schemas=[old])
            await actor.assign(1, schemas=[old, new])
            assert actor.replica(1).schemas[-1].names[-1] == "y"
            bad = assignment(0, configs={"nonsense": "1"})
            [refused] = await actor.actor.assign([bad], [])
            assert refused.error_code == InvalidConfigError.code

    run(scenario())


def test_data_survive_a_stop_and_a_crash(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await actor.assign(0)
            actor.produced(0, b"a")
        crashed = ActorHarness(tmp_path)
        await crashed.actor.start()
        [reopened] = await crashed.assign(0, leader_epoch=EPOCH + 1, opened_before=True)
        assert reopened.log_end_offset == 1
        crashed.produced(0, b"b", epoch=EPOCH + 1)
        await crashed.actor.crash()
        async with ActorHarness(tmp_path) as actor:
            [again] = await actor.assign(0, leader_epoch=EPOCH + 2, opened_before=True)
            assert again.log_end_offset == 2
            assert len(batches_in(actor.fetch((0, 0), epoch=EPOCH + 2))) == 2

    run(scenario())


def test_a_missing_directory_is_not_made_anew(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            [result] = await actor.actor.assign([assignment(0, opened_before=True)], [])
            assert result.error_code in (LogDamagedError.code, KafkaStorageError.code)
            assert "t-0" in result.error_message
            error = actor.produce(0, b"a").error
            assert error is not None
            assert error.code == result.error_code

    run(scenario())


def test_one_bad_log_leaves_its_neighbours_alone(tmp_path: Path) -> None:
    async def scenario() -> None:
        (tmp_path / "t-1").write_text("not a directory")
        async with ActorHarness(tmp_path) as actor:
            results = await actor.actor.assign([assignment(n) for n in range(3)], [])
            assert [bool(result.error_code) for result in results] == [False, True, False]
            assert actor.produced(0, b"a").base_offset == 0
            assert actor.produced(2, b"a").base_offset == 0
            error = actor.produce(1, b"a").error
            assert isinstance(error, KafkaStorageError)
            (tmp_path / "t-1").unlink()
            await actor.assign(1)
            assert actor.produced(1, b"a").base_offset == 0

    run(scenario())


def test_removal_deletes_the_files_also_of_what_was_never_opened(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await actor.assign(0, 1)
            actor.produced(0, b"a")
            actor.produced(1, b"a")
            await actor.remove(0)
            assert not (tmp_path / "t-0").exists()
        async with ActorHarness(tmp_path) as actor:
            stranger = PartitionRemoval(TOPIC, PartitionId(TopicId("f" * 32), 1))
            [left_alone] = await actor.actor.assign([], [stranger])
            assert left_alone.error_code == 0
            assert (tmp_path / "t-1").exists()
            await actor.remove(1)
            await actor.remove(1)
            assert not (tmp_path / "t-1").exists()
            assert isinstance(actor.produce(5, b"a").error, NotLeaderOrFollowerError) is False

    run(scenario())


def test_a_topic_made_again_under_its_old_name_starts_empty(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await actor.assign(0)
            actor.produced(0, b"a")
            reborn = PartitionId(TopicId("f" * 32), 0)
            removal = PartitionRemoval(TOPIC, PartitionId(TOPIC_ID, 0))
            removed, opened = await actor.actor.assign([assignment(0, partition=reborn)], [removal])
            assert (removed.error_code, opened.error_code) == (0, 0)
            assert opened.log_end_offset == 0

    run(scenario())


def test_a_thousand_replicas_open_quickly_and_the_loop_goes_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            loop = asyncio.get_running_loop()
            worst = [0.0]

            async def watch() -> None:
                while True:
                    before = loop.time()
                    await asyncio.sleep(0.001)
                    worst[0] = max(worst[0], loop.time() - before)

            watcher = asyncio.ensure_future(watch())
            started = loop.time()
            results = await actor.actor.assign([assignment(n) for n in range(1000)], [])
            elapsed = loop.time() - started
            watcher.cancel()
            assert not any(result.error_code for result in results)
            assert elapsed < 6, f"{elapsed:.2f} s"
            assert worst[0] < 0.5, f"the loop stood still for {worst[0]:.3f} s"

    run(scenario())


def test_upkeep_rolls_and_deletes_what_is_old(tmp_path: Path) -> None:
    async def scenario() -> None:
        configs = {"log.retention.check.interval.ms": "20"}
        async with ActorHarness(tmp_path, configs=configs) as actor:
            await actor.assign(0, configs={"segment.ms": "1", "retention.ms": "1"})
            actor.produced(0, b"a")
            replica = actor.replica(0)
            await until(lambda: replica.log.log_start_offset == 1)
            assert actor.produced(0, b"b").base_offset == 1

    run(scenario())


def test_a_leader_does_not_delete_what_its_former_leader_had_deleted(tmp_path: Path) -> None:
    """After an unclean election other records have those offsets."""

    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            elsewhere = Endpoint("127.0.0.1", 1)
            await actor.assign(0, leader_id=1, leader=elsewhere, replicas=(0, 1), isr=(1,))
            replica = actor.replica(0)
            replica.leader_log_start = 2
            await actor.assign(0, leader_epoch=EPOCH + 1)
            actor.produced(0, b"a", b"b", b"c", epoch=EPOCH + 1)
            await actor.upkeep.look_after_logs(retain=False)
            assert replica.log.log_start_offset == 0

    run(scenario())


def test_a_log_that_went_with_the_power_is_made_anew_only_if_it_was_the_only_one(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        (tmp_path / ".lock-0").write_text("1\nanother-boot\n")
        async with ActorHarness(tmp_path) as actor:
            last = assignment(0, opened_before=True, replicas=(0, 1), isr=())
            follower = assignment(1, opened_before=True, replicas=(0, 1), isr=(0, 1))
            eligible = assignment(2, opened_before=True, replicas=(0, 1), isr=(0,), elr=(1,))
            opened, *refused = await actor.actor.assign([last, follower, eligible], [])
            assert opened.error_code == 0, opened.error_message
            for result in refused:
                assert result.error_code == LogDamagedError.code, "it must not lead the others"

    run(scenario())


def test_upkeep_goes_on_with_the_next_replica_whatever_happens(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await actor.assign(0, 1, configs={"segment.ms": "1"})
            for partition in (0, 1):
                actor.produced(partition, b"a")
            await asyncio.sleep(0.005)
            actor.replica(0).log.tick = None
            await actor.upkeep.look_after_logs(retain=False)
            assert actor.replica(1).log.segment_count == 2

    run(scenario())
