"""Copies that catch up: a thread writes what they missed, and nobody in sync waits for it."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from partition_kit import TOPIC, until
from replica_kit import Brokers, play, produced

from raykafka.actors.ports import PeerConnection
from raykafka.actors.replicas.catch_up_writer import CatchUpWriter
from raykafka.errors import DiskFullError
from raykafka.storage.partition_log import PartitionLog


class HeldWriter:
    """Holds what copies that catch up write in their thread, before it is written."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.waiting = 0
        self.go = asyncio.Event()
        in_thread = CatchUpWriter.in_thread

        async def held(writer: CatchUpWriter, *args: Any) -> None:
            self.waiting += 1
            await self.go.wait()
            await in_thread(writer, *args)

        monkeypatch.setattr(CatchUpWriter, "in_thread", held)


async def fall_behind(brokers: Brokers, leader: PeerConnection, batches: int = 100) -> None:
    """Broker 2 misses batches of partition 0, and comes back."""
    await brokers.lead(0, 1, isr=[0, 1, 2], partitions=[0, 1])
    await brokers.kill(2)
    await brokers.lead(0, 1, isr=[0, 1])
    for _ in range(batches):
        await produced(leader, bytes(20_000), epoch=1)
    await brokers.start(2)
    await brokers.lead(0, 1, isr=[0, 1, 2], partitions=[1])


async def held_behind(
    brokers: Brokers, monkeypatch: pytest.MonkeyPatch, batches: int = 100
) -> tuple[PeerConnection, HeldWriter]:
    """Broker 2 is about to write the first of what it missed; the leader, and who lets it go on."""
    leader = await brokers.connect(0)
    await fall_behind(brokers, leader, batches)
    writer = HeldWriter(monkeypatch)
    await brokers.lead(0, 1, isr=[0, 1])
    await until(lambda: writer.waiting > 0)
    return leader, writer


async def reconnect(brokers: Brokers) -> None:
    """Broker 2's connection to its leader breaks, and is made again."""
    [link] = brokers.actors[2]._parts.following._links.values()  # type: ignore[union-attr]
    before = link.connection
    assert before is not None
    before.close()
    await until(lambda: link.connection not in (None, before))


def test_what_is_in_sync_does_not_wait_for_what_catches_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(brokers: Brokers) -> None:
        leader, writer = await held_behind(brokers, monkeypatch)
        assert await produced(leader, b"live", epoch=1, partition=1) == 0
        assert brokers.replica(2).log.log_end_offset == 0
        writer.go.set()
        await brokers.settled(0, 1, 2)
        await brokers.settled(0, 1, 2, partition=1)
        leader.close()

    play(tmp_path, scenario)


def test_a_connection_that_breaks_under_a_write_in_the_thread_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(brokers: Brokers) -> None:
        leader, writer = await held_behind(brokers, monkeypatch)
        await reconnect(brokers)
        writer.go.set()
        await brokers.settled(0, 1, 2)
        assert "was not taken" not in caplog.text, "it asked for what it had already"
        leader.close()

    play(tmp_path, scenario)


def test_what_comes_behind_a_write_in_the_thread_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A live batch comes while the last one that was missed is written."""

    async def scenario(brokers: Brokers) -> None:
        leader, writer = await held_behind(brokers, monkeypatch, batches=1)
        await produced(leader, b"live", epoch=1)
        [followed] = [
            each
            for each in brokers.actors[2]._parts.following._followed.values()  # type: ignore[union-attr]
            if each.replica is brokers.replica(2)
        ]
        await until(lambda: len(followed._waiting) == 2)
        writer.go.set()
        await brokers.settled(0, 1, 2)
        assert writer.waiting == 1, "the loop goes on with what is live"
        leader.close()

    play(tmp_path, scenario)
    assert "was not taken" not in caplog.text


def test_a_copy_joins_under_a_live_load(tmp_path: Path) -> None:
    """Small batches come faster than a thread could write them one by one."""

    async def scenario(brokers: Brokers) -> None:
        leader = await brokers.connect(0)
        await fall_behind(brokers, leader)
        joined = asyncio.Event()

        async def load() -> None:
            while not joined.is_set():
                await asyncio.gather(*[produced(leader, b"live", epoch=1) for _ in range(20)])

        loading = asyncio.ensure_future(load())
        await brokers.lead(0, 1, isr=[0, 1])
        await until(lambda: brokers.replica(0).machine.in_sync.proposed == {0, 1, 2})
        joined.set()
        await loading
        await brokers.settled(0, 1, 2)
        leader.close()

    play(tmp_path, scenario)


@pytest.mark.parametrize("interrupted", ["connection", "disk"])
def test_what_the_thread_wrote_is_flushed_whatever_came_of_its_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interrupted: str
) -> None:
    async def scenario(brokers: Brokers) -> None:
        leader, writer = await held_behind(brokers, monkeypatch, batches=1)
        if interrupted == "disk":
            append = PartitionLog.append_replicated

            def half(log: PartitionLog, *args: Any, **named: Any) -> None:
                append(log, *args, **named)
                monkeypatch.setattr(PartitionLog, "append_replicated", append)
                raise DiskFullError("no space left on device")

            monkeypatch.setattr(PartitionLog, "append_replicated", half)
        else:
            await reconnect(brokers)
        writer.go.set()
        await until(lambda: brokers.replica(2).log.flushed_offset == 1)
        await until(lambda: brokers.replica(0).machine.in_sync.proposed == {0, 1, 2})
        leader.close()

    play(tmp_path, scenario, fsync="batch")


@pytest.mark.parametrize("part", ["header", "body"])
@pytest.mark.parametrize("isr", [[0], [0, 1]])
def test_damage_behind_what_is_well_is_found_and_what_is_well_is_copied(
    tmp_path: Path, part: str, isr: list[int]
) -> None:
    async def scenario(brokers: Brokers) -> None:
        leader = await brokers.connect(0)
        await brokers.lead(0, 1, isr=[0, 1, 2])
        await brokers.kill(2)
        await brokers.lead(0, 1, isr=isr)
        await produced(leader, b"a" * 1000, epoch=1)
        await produced(leader, b"b" * 300_000, epoch=1)
        [path] = (tmp_path / "broker-0" / f"{TOPIC}-0").glob("*.arrow")
        content = bytearray(path.read_bytes())
        body = content.index(b"b" * 300_000)
        place = content.rindex(b"raykafka1:", 0, body) + 12 if part == "header" else body + 5
        with path.open("r+b") as file:  # in place, as a disk does
            file.seek(place)
            file.write(bytes([content[place] ^ 1]))
        await brokers.start(2)
        await brokers.lead(0, 1, isr=isr)
        channel = brokers.actors[0]._parts.channel  # type: ignore[union-attr]
        await until(lambda: brokers.replica(2).log.log_end_offset == 1)
        if len(isr) > 1:
            await until(lambda: brokers.replica(0) in channel._failed)
        leader.close()

    play(tmp_path, scenario)


def test_a_disk_that_is_full_while_catching_up_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(brokers: Brokers) -> None:
        leader = await brokers.connect(0)
        await fall_behind(brokers, leader)
        append, refused = PartitionLog.append_replicated, []

        def full(log: PartitionLog, *args: Any, **named: Any) -> None:
            if len(refused) < 2 and threading.current_thread().name.startswith("catch-up"):
                refused.append(log.log_end_offset)
                raise DiskFullError("no space left on device")
            append(log, *args, **named)

        monkeypatch.setattr(PartitionLog, "append_replicated", full)
        await brokers.lead(0, 1, isr=[0, 1])
        await brokers.settled(0, 1, 2)
        assert len(refused) == 2
        leader.close()

    play(tmp_path, scenario)


def test_a_leader_that_changes_while_its_follower_catches_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(brokers: Brokers) -> None:
        leader, writer = await held_behind(brokers, monkeypatch)
        told = asyncio.ensure_future(brokers.lead(1, 2, isr=[0, 1], told=[1, 0, 2]))
        await until(lambda: brokers.replica(0).leader_epoch == 2)
        assert not told.done(), "nobody else changes a log that is being written"
        writer.go.set()
        await told
        await brokers.settled(0, 1, 2)
        leader.close()

    play(tmp_path, scenario)
