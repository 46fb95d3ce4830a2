"""Copies that are far behind come from their leader's files, and nobody in sync waits for them."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from partition_kit import TOPIC, until
from replica_kit import Brokers, play, produced

from raykafka.actors.lines import CatchUpCourse, FileRange
from raykafka.actors.ports import PeerConnection
from raykafka.actors.replicas.catching_up import CatchUp
from raykafka.errors import DiskFullError
from raykafka.network.catch_up import TcpCatchUpLine
from raykafka.network.client import Connection
from raykafka.network.serving import ServerConnection
from raykafka.protocol.messages import ApiKey, Message
from raykafka.storage.partition_log import PartitionLog

FAR = {"replica.fetch.max.bytes": "65536"}
"""Who lacks more than 64 KiB is far behind."""
LARGE = {"replica.fetch.max.bytes": "262144"}
"""Answers are so large that more is asked for while they come in."""
of_any_size = pytest.mark.parametrize("configs", [FAR, LARGE], ids=["small", "large"])


class HeldLine:
    """Holds copies that are about to ask for what they lack."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.waiting = 0
        self.go = asyncio.Event()
        run = TcpCatchUpLine.run

        async def held(line: TcpCatchUpLine, course: CatchUpCourse) -> None:
            self.waiting += 1
            await self.go.wait()
            await run(line, course)

        monkeypatch.setattr(TcpCatchUpLine, "run", held)


class SilentFiles:
    """Leaders that send nothing of what they are asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked = 0

        def keep(connection: ServerConnection, number: int, answer: Message, file: Any) -> None:
            assert isinstance(file, FileRange)
            self.asked += 1

        monkeypatch.setattr(ServerConnection, "send_file", keep)


class HeldFiles:
    """Leaders that have chosen what to send, and send it later."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.held: list[tuple[Any, ...]] = []
        self._send = ServerConnection.send_file
        monkeypatch.setattr(ServerConnection, "send_file", lambda *each: self.held.append(each))
        # Nobody loses patience with them.
        monkeypatch.setattr(CatchUp, "_watch", lambda *_: None)

    def release(self) -> None:
        for each in self.held:
            self._send(*each)
        self.held.clear()


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
    brokers: Brokers, monkeypatch: pytest.MonkeyPatch
) -> tuple[PeerConnection, HeldLine]:
    """Broker 2 is about to ask for what it missed; the leader, and who lets it go on."""
    leader = await brokers.connect(0)
    await fall_behind(brokers, leader)
    line = HeldLine(monkeypatch)
    await brokers.lead(0, 1, isr=[0, 1])
    await until(lambda: line.waiting > 0)
    return leader, line


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
        leader, line = await held_behind(brokers, monkeypatch)
        assert await produced(leader, b"live", epoch=1, partition=1) == 0
        assert brokers.replica(2).log.log_end_offset == 0
        line.go.set()
        await brokers.settled(0, 1, 2)
        await brokers.settled(0, 1, 2, partition=1)
        leader.close()

    play(tmp_path, scenario, configs=FAR)


def test_it_is_sent_from_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(brokers: Brokers) -> None:
        sent, send = [], ServerConnection.send_file

        def note(connection: ServerConnection, number: int, answer: Message, file: Any) -> None:
            sent.append(file.size)
            send(connection, number, answer, file)

        monkeypatch.setattr(ServerConnection, "send_file", note)
        leader = await brokers.connect(0)
        await fall_behind(brokers, leader)
        await brokers.lead(0, 1, isr=[0, 1])
        await brokers.settled(0, 1, 2)
        assert len(sent) > 10
        assert sum(sent) > 1_900_000
        assert max(sent) <= 32 << 10
        leader.close()

    play(tmp_path, scenario, configs=FAR)


def test_more_is_asked_for_while_an_answer_comes_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, asked_on = list[ApiKey](), threading.Event()
    halved, in_time = list[int](), list[bool]()
    ask, send = Connection.send, os.sendfile

    def note(connection: Connection, api_key: ApiKey, *args: Any, **kwargs: Any) -> int:
        asked.append(api_key)
        if asked.count(ApiKey.CATCH_UP) == 2:
            asked_on.set()
        return ask(connection, api_key, *args, **kwargs)

    def half(target: int, source: int, position: int, size: int) -> int:
        """Half of the first answer, and the rest once the next one has been asked for."""
        if halved:
            return send(target, source, position, size)
        halved.append(size)
        sent = send(target, source, position, size // 2)
        in_time.append(asked_on.wait(10))
        return sent

    async def scenario(brokers: Brokers) -> None:
        leader = await brokers.connect(0)
        await fall_behind(brokers, leader)
        monkeypatch.setattr(Connection, "send", note)
        monkeypatch.setattr(os, "sendfile", half)
        await brokers.lead(0, 1, isr=[0, 1])
        await brokers.settled(0, 1, 2)
        assert in_time == [True]
        leader.close()

    play(tmp_path, scenario, configs=LARGE)


@of_any_size
def test_a_connection_that_breaks_meanwhile_loses_and_doubles_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    configs: dict[str, str],
) -> None:
    async def scenario(brokers: Brokers) -> None:
        leader, line = await held_behind(brokers, monkeypatch)
        await reconnect(brokers)
        line.go.set()
        await brokers.settled(0, 1, 2)
        assert "was not taken" not in caplog.text, "it asked for what it had already"
        leader.close()

    play(tmp_path, scenario, configs=configs)


@of_any_size
def test_a_line_that_breaks_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, configs: dict[str, str]
) -> None:
    async def scenario(brokers: Brokers) -> None:
        leader = await brokers.connect(0)
        await fall_behind(brokers, leader)
        append, broken = PartitionLog.append_replicated, []

        def cut(log: PartitionLog, *args: Any, **named: Any) -> None:
            append(log, *args, **named)
            following = brokers.actors[2]._parts.following  # type: ignore[union-attr]
            running = following.catch_up._running
            if running is not None and len(broken) < 3:
                broken.append(log.log_end_offset)
                running[0]._connection.interrupt()

        monkeypatch.setattr(PartitionLog, "append_replicated", cut)
        await brokers.lead(0, 1, isr=[0, 1])
        await brokers.settled(0, 1, 2)
        assert len(broken) == 3
        leader.close()

    play(tmp_path, scenario, configs=configs)


@of_any_size
def test_a_copy_joins_under_a_live_load(tmp_path: Path, configs: dict[str, str]) -> None:
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

    play(tmp_path, scenario, configs=configs)


def test_a_follower_that_falls_far_behind_on_an_open_stream_catches_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was in sync when its stream began, and is not any more."""

    async def scenario(brokers: Brokers) -> None:
        leader = await brokers.connect(0)
        await brokers.lead(0, 1, isr=[0, 1, 2])
        await brokers.settled(0, 1, 2)
        following = brokers.actors[2]._parts.following  # type: ignore[union-attr]
        followed = following._followed[brokers.replica(2)]
        acknowledge = followed.acknowledge
        monkeypatch.setattr(followed, "acknowledge", lambda: None)
        await produced(leader, bytes(20_000), epoch=1, acks=1)
        # Committed as soon as broker 2 does not count: else it would be proposed to be in sync.
        in_sync = brokers.replica(0).machine.in_sync
        await until(lambda: in_sync._progress[1].offset == 1)
        await brokers.lead(0, 1, isr=[0, 1])
        for _ in range(20):
            await produced(leader, bytes(20_000), epoch=1)
        line = HeldLine(monkeypatch)
        monkeypatch.setattr(followed, "acknowledge", acknowledge)
        acknowledge()
        await until(lambda: line.waiting > 0)
        line.go.set()
        await brokers.settled(0, 1, 2)
        leader.close()

    play(tmp_path, scenario, configs=FAR)


@pytest.mark.parametrize("interrupted", ["connection", "disk"])
def test_what_was_written_is_flushed_whatever_came_of_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interrupted: str
) -> None:
    async def scenario(brokers: Brokers) -> None:
        leader, line = await held_behind(brokers, monkeypatch)
        if interrupted == "disk":
            append = PartitionLog.append_replicated

            def half(log: PartitionLog, *args: Any, **named: Any) -> None:
                append(log, *args, **named)
                monkeypatch.setattr(PartitionLog, "append_replicated", append)
                raise DiskFullError("no space left on device")

            monkeypatch.setattr(PartitionLog, "append_replicated", half)
        else:
            await reconnect(brokers)
        line.go.set()
        await until(lambda: brokers.replica(2).log.flushed_offset == 100)
        await until(lambda: brokers.replica(0).machine.in_sync.proposed == {0, 1, 2})
        leader.close()

    play(tmp_path, scenario, configs=FAR, fsync="batch")


@pytest.mark.parametrize("configs", [{}, FAR], ids=["stream", "far"])
@pytest.mark.parametrize("part", ["header", "body"])
@pytest.mark.parametrize("isr", [[0], [0, 1]])
def test_damage_behind_what_is_well_is_found_and_what_is_well_is_copied(
    tmp_path: Path, part: str, isr: list[int], configs: dict[str, str]
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

    play(tmp_path, scenario, configs=configs)


def test_what_stands_before_damage_in_the_same_answer_is_copied(tmp_path: Path) -> None:
    """The leader verifies where a stream begins, so that is where the damage has to be then."""

    async def scenario(brokers: Brokers) -> None:
        leader = await brokers.connect(0)
        await brokers.lead(0, 1, isr=[0, 1, 2])
        await brokers.kill(2)
        await brokers.lead(0, 1, isr=[0, 1])
        for number in range(40):
            await produced(leader, b"%02d" % number + bytes(20_000), epoch=1)
        [path] = (tmp_path / "broker-0" / f"{TOPIC}-0").glob("*.arrow")
        place = path.read_bytes().index(b"30" + bytes(20_000))
        with path.open("r+b") as file:
            file.seek(place)
            file.write(b"x")
        await brokers.start(2)
        await brokers.lead(0, 1, isr=[0, 1])
        channel = brokers.actors[0]._parts.channel  # type: ignore[union-attr]
        await until(lambda: brokers.replica(0) in channel._failed)
        assert brokers.replica(2).log.log_end_offset == 30
        leader.close()

    play(tmp_path, scenario, configs={"replica.fetch.max.bytes": str(400_000)})


@of_any_size
def test_a_disk_that_is_full_while_catching_up_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, configs: dict[str, str]
) -> None:
    async def scenario(brokers: Brokers) -> None:
        leader = await brokers.connect(0)
        await fall_behind(brokers, leader)
        append, refused = PartitionLog.append_replicated, []

        def full(log: PartitionLog, *args: Any, **named: Any) -> None:
            if len(refused) < 2:
                refused.append(log.log_end_offset)
                raise DiskFullError("no space left on device")
            append(log, *args, **named)

        monkeypatch.setattr(PartitionLog, "append_replicated", full)
        await brokers.lead(0, 1, isr=[0, 1])
        await brokers.settled(0, 1, 2)
        assert len(refused) == 2
        leader.close()

    play(tmp_path, scenario, configs=configs)


@of_any_size
def test_a_leader_that_changes_while_its_follower_catches_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, configs: dict[str, str]
) -> None:
    async def scenario(brokers: Brokers) -> None:
        leader, line = await held_behind(brokers, monkeypatch)
        told = asyncio.ensure_future(brokers.lead(1, 2, isr=[0, 1], told=[1, 0, 2]))
        await until(lambda: brokers.replica(0).leader_epoch == 2)
        assert not told.done(), "nobody else changes a log that is being written"
        line.go.set()
        await told
        await brokers.settled(0, 1, 2)
        leader.close()

    play(tmp_path, scenario, configs=configs)


@of_any_size
def test_who_changes_leaders_does_not_wait_for_one_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, configs: dict[str, str]
) -> None:
    """The line would wait for it for ten seconds."""

    async def scenario(brokers: Brokers) -> None:
        leader = await brokers.connect(0)
        await fall_behind(brokers, leader)
        with monkeypatch.context() as patch:
            silent = SilentFiles(patch)
            await brokers.lead(0, 1, isr=[0, 1])
            await until(lambda: silent.asked > 0)
            await asyncio.wait_for(brokers.lead(1, 2, isr=[0, 1], told=[1, 0, 2]), 5)
        await brokers.settled(0, 1, 2)
        leader.close()

    play(tmp_path, scenario, configs=configs)


def test_what_an_unclean_election_put_in_the_place_of_a_file_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The leader of epoch 1 was to send its own; it has been cut since, and has another one's."""

    async def scenario(brokers: Brokers) -> None:
        old = await brokers.connect(0)
        await brokers.lead(0, 1, isr=[0, 1, 2])
        await produced(old, b"common", epoch=1)
        await brokers.settled(0, 1, 2)
        await brokers.kill(1)
        await brokers.kill(2)
        await brokers.lead(0, 1, isr=[0])
        for _ in range(10):
            await produced(old, b"a" * 20_000, epoch=1)
        await brokers.start(2)
        files = HeldFiles(monkeypatch)
        await brokers.lead(0, 1, isr=[0])
        await until(lambda: bool(files.held))
        await brokers.start(1)
        await brokers.lead(1, 2, isr=[1], told=[1])
        new = await brokers.connect(1)
        for _ in range(10):
            await produced(new, b"b" * 20_000, epoch=2)
        following = brokers.actors[0]._parts.following  # type: ignore[union-attr]
        following.credit_bytes = 1 << 20  # it is no file that brings it
        await brokers.lead(1, 2, isr=[1], told=[0])
        await until(lambda: brokers.replica(0).log.epochs.latest_epoch == 2)
        await brokers.settled(0, 1)
        files.release()
        line, _ = brokers.actors[2]._parts.following.catch_up._running  # type: ignore[union-attr]
        await until(lambda: line._closed)
        assert brokers.replica(2).log.log_end_offset == 1
        await brokers.lead(1, 2, isr=[1], told=[2])
        await until(lambda: bool(files.held))
        files.release()
        monkeypatch.undo()
        await until(lambda: brokers.replica(2).log.log_end_offset == 11)
        assert brokers.contents(2) == brokers.contents(1)

    play(tmp_path, scenario, configs=FAR)


@of_any_size
def test_an_actor_that_stops_does_not_wait_for_a_leader_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, configs: dict[str, str]
) -> None:
    async def scenario(brokers: Brokers) -> None:
        leader = await brokers.connect(0)
        await fall_behind(brokers, leader)
        silent = SilentFiles(monkeypatch)
        await brokers.lead(0, 1, isr=[0, 1])
        await until(lambda: silent.asked > 0)
        await asyncio.wait_for(brokers.actors[2].stop(), 5)
        leader.close()

    play(tmp_path, scenario, configs=configs)


@of_any_size
def test_copies_of_two_leaders_take_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, configs: dict[str, str]
) -> None:
    async def scenario(brokers: Brokers) -> None:
        leaders = [await brokers.connect(0), await brokers.connect(1)]
        for number in (0, 1):
            await brokers.lead(number, 1, isr=[0, 1, 2], partitions=[number])
        await brokers.kill(2)
        for number in (0, 1):
            await brokers.lead(number, 1, isr=[0, 1], partitions=[number])
        for _ in range(50):
            for number, leader in enumerate(leaders):
                await produced(leader, bytes(20_000), epoch=1, partition=number)
        await brokers.start(2)
        line = HeldLine(monkeypatch)
        for number in (0, 1):
            await brokers.lead(number, 1, isr=[0, 1], partitions=[number])
        catch_up = brokers.actors[2]._parts.following.catch_up  # type: ignore[union-attr]
        await until(lambda: len(catch_up._tasks) == 2 and catch_up._lock.locked())
        assert line.waiting == 1
        line.go.set()
        for number in (0, 1):
            await brokers.settled(0, 1, 2, partition=number)
        assert line.waiting >= 2
        for leader in leaders:
            leader.close()

    play(tmp_path, scenario, configs=configs)
