"""Damage that is cut off a copy while it is in use; what is cut is copied again."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from partition_kit import EPOCH, ActorHarness, run, until

from raykafka.errors import KafkaStorageError, LogDamagedError, NotLeaderOrFollowerError
from raykafka.storage.local_store import LocalStore

FOLLOWS: Any = {"leader_epoch": EPOCH + 1, "leader_id": 1, "replicas": (0, 1), "isr": (1,)}


async def damaged(actor: ActorHarness, log_dir: Path) -> Any:
    """A replica of four batches that has met the damage of the last one, not of the second."""
    await actor.assign(0)
    for value in (b"first", b"second", b"third", b"fourth"):
        actor.produced(0, value * 20)
    replica = actor.replica(0)
    assert replica.high_watermark == 4
    [path] = (log_dir / "t-0").glob("*.arrow")
    content = path.read_bytes().replace(b"second" * 20, b"second" * 19 + b"sekond")
    path.write_bytes(content.replace(b"fourth" * 20, b"fourth" * 19 + b"fourzh"))
    replica.log.doubt(3)
    with pytest.raises(LogDamagedError):
        replica.log.read(3, max_bytes=1, up_to=4)
    assert replica.log.damaged == [(3, 4)]
    return replica


def test_it_forgets_what_was_committed_as_after_a_restart(tmp_path: Path) -> None:
    """A cut reads what it leaves, and meets the other damage."""

    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            replica = await damaged(actor, tmp_path)
            before = replica.machine
            await actor.assign(0, **FOLLOWS)
            assert replica.machine is not before, "nobody takes it for one that went back"
            assert replica.log.damaged == []
            assert replica.high_watermark <= replica.log.log_end_offset == 1

    run(scenario())


def test_nobody_uses_it_meanwhile_and_a_flush_that_fails_then_is_not_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            replica = await damaged(actor, tmp_path)
            cut, go_on = threading.Event(), threading.Event()
            truncate_to = replica.log.truncate_to

            def slowly(offset: int) -> None:
                truncate_to(offset)
                cut.set()
                assert go_on.wait(10)

            monkeypatch.setattr(type(replica.log), "truncate_to", lambda _, offset: slowly(offset))
            mending = asyncio.ensure_future(actor.assign(0, **FOLLOWS))
            await until(cut.is_set)
            assert isinstance(actor.produce(0, b"late").error, NotLeaderOrFollowerError)
            with pytest.raises(NotLeaderOrFollowerError):
                replica.machine.check_produce(-1, EPOCH)
            actor.actor._on_log_failed(replica, KafkaStorageError("a flush failed"))
            go_on.set()
            with pytest.raises(KafkaStorageError, match="a flush failed"):
                await mending
            assert actor.actor._replicas.failed(replica.partition) is not None

    run(scenario())


class FailsOnce(LocalStore):
    """Its first cut fails."""

    fails = True

    def truncate(self, path: str, size: int) -> None:
        if self.fails:
            self.fails = False
            raise KafkaStorageError("the disk answered with an error")
        super().truncate(path, size)


def test_after_a_cut_that_failed_the_log_is_opened_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ActorHarness(tmp_path, store=FailsOnce) as actor:
            await damaged(actor, tmp_path)
            with pytest.raises(KafkaStorageError):
                await actor.assign(0, **FOLLOWS)
            await actor.assign(0, **FOLLOWS)
            log = actor.replica(0).log
            assert log.damaged == []
            assert log.log_end_offset == 0, "nothing was flushed, and nothing else can be believed"

    run(scenario())
