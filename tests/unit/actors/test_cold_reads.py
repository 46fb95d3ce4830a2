"""Reads that would wait for the disk happen in a thread; the loop serves all others meanwhile."""

from __future__ import annotations

import threading
from pathlib import Path

from partition_kit import (
    ActorHarness,
    RecordedConnection,
    batches_in,
    run,
    turns,
    until,
)

from raykafka.errors import UnknownTopicIdError
from raykafka.log.batch_header import read_header
from raykafka.storage.local_store import LocalStore

SMALL_SEGMENTS = {"segment.bytes": "1500"}


class SlowDisk(LocalStore):
    """Has nothing in memory until it is loaded, which waits for ``turn``."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.loaded: list[tuple[str, int, int]] = []
        self.turn = threading.Event()

    def is_cached(self, path: str, start: int, length: int) -> bool:
        return (path, start, length) in self.loaded

    def load(self, path: str, start: int, length: int) -> None:
        self.turn.wait(10)
        super().load(path, start, length)
        self.loaded.append((path, start, length))


class Cold(ActorHarness):
    """An actor on a slow disk, with three sealed segments in partition 0."""

    def __init__(self, log_dir: Path) -> None:
        super().__init__(log_dir, store=SlowDisk)

    async def fill(self) -> None:
        await self.assign(0, configs=SMALL_SEGMENTS)
        await self.assign(1)
        for _ in range(4):
            self.produced(0, b"x" * 1000)

    @property
    def disk(self) -> SlowDisk:
        parts = self.actor._parts
        assert parts is not None
        assert isinstance(parts.store, SlowDisk)
        return parts.store


def test_a_cold_fetch_waits_and_others_do_not(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Cold(tmp_path) as actor:
            await actor.fill()
            cold = actor.fetch((0, 0), (1, 0), max_wait_ms=0)
            assert cold.answers == []
            assert actor.produced(1, b"meanwhile").base_offset == 0
            assert len(batches_in(actor.fetch((0, 3)))) == 1
            assert len(batches_in(actor.fetch((1, 0)))) == 1
            actor.disk.turn.set()
            await until(lambda: bool(cold.answers))
            assert len(batches_in(cold)) == 1
            assert len(batches_in(cold, partition=1)) == 1
            assert len(actor.disk.loaded) == 1
            assert actor.fetch_handler.parked == 0
            assert len(batches_in(actor.fetch((0, 0)))) == 1

    run(scenario())


def test_a_session_goes_through_cold_segments_in_order(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Cold(tmp_path) as actor:
            await actor.fill()
            session = actor.fetch((0, 0), push=True, credit_bytes=1 << 20)
            actor.disk.turn.set()
            await until(lambda: len(session.answers) == 4)
            offsets = [read_header(batches_in(session, n)[0]).base_offset for n in range(4)]
            assert offsets == [0, 1, 2, 3]
            assert len(actor.disk.loaded) == 3
            actor.produced(0, b"new")
            await turns()
            assert len(session.answers) == 5

    run(scenario())


def test_who_leaves_while_the_disk_works_is_forgotten(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Cold(tmp_path) as actor:
            await actor.fill()
            gone = RecordedConnection()
            poll = actor.fetch((0, 0), connection=gone)
            session = actor.fetch((0, 1), connection=gone, push=True, credit_bytes=1 << 20)
            gone.close()
            actor.disk.turn.set()
            await until(lambda: len(actor.disk.loaded) == 2)
            await turns()
            assert poll.answers == session.answers == []
            assert actor.fetch_handler.parked == 0

    run(scenario())


def test_a_topic_deleted_while_the_disk_works_is_reported(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Cold(tmp_path) as actor:
            await actor.fill()
            poll = actor.fetch((0, 0))
            session = actor.fetch((0, 0), push=True, credit_bytes=1 << 20)
            await actor.remove(0)
            actor.disk.turn.set()
            await until(lambda: bool(poll.answers) and len(session.answers) == 2)
            assert poll.answer.partitions[0].error_code == UnknownTopicIdError.code
            assert session.answers[0].partitions[0].error_code == UnknownTopicIdError.code
            assert session.answers[1].partitions == []

    run(scenario())
