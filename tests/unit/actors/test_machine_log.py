"""A machine on a real log: whole commands or nothing, whatever is lost, cut or flipped."""

from __future__ import annotations

import asyncio
import random

import msgspec
import pytest
from crc32c import crc32c
from hypothesis import given, settings
from hypothesis import strategies as st
from shell_kit import Add, SumMachine

from raykafka import errors
from raykafka.actors.machine_log import PartitionMachineLog
from raykafka.actors.quorum.files import QuorumState, Snapshot, encode_file
from raykafka.actors.shell import StateMachineShell
from raykafka.model import PartitionId, TopicId
from raykafka.quorum.messages import OffsetAndEpoch
from raykafka.quorum.voters import ReplicaKey, VoterSet
from raykafka.testing.manual_clock import ManualClock
from raykafka.testing.memory_store import MemoryStore

PARTITION = PartitionId(TopicId("1" * 32), 0)
LAST = OffsetAndEpoch(7, 2)
ACTIVE = "state-0/" + "0" * 20 + ".arrow"


def opened(store: MemoryStore) -> PartitionMachineLog:
    return PartitionMachineLog(store, "state", PARTITION, ManualClock())


def contents(store: MemoryStore) -> list[list[bytes]]:
    log = opened(store)
    return [
        batch.records
        for batch in log.replay(log.start.offset, log.end_offset)
        if not batch.is_control
    ]


def replayed(log: PartitionMachineLog) -> list[list[bytes]]:
    return [batch.records for batch in log.replay(0, log.end_offset)]


def test_groups_come_back_as_they_were_written() -> None:
    store = MemoryStore()
    log = opened(store)
    assert replayed(log) == []
    groups = [[b"a"], [b"b", b"", b"c" * 100_000], [bytes([index]) for index in range(50)]]
    for group in groups:
        log.append(group, 0, 1)
    log.flush()
    assert replayed(log) == groups
    assert log.end_offset == 54
    log.close()
    assert contents(store) == groups


def test_each_owner_writes_in_an_epoch_of_its_own() -> None:
    store = MemoryStore()
    for epoch in range(1, 4):

        async def live() -> None:
            shell = StateMachineShell("sums", SumMachine, lambda: opened(store), ManualClock())
            await shell.load()
            await shell.submit(Add(1))
            await shell.close()

        asyncio.run(live())
        assert opened(store).epochs[-1][0] == epoch


def test_a_torn_tail_is_dropped_whole() -> None:
    store = MemoryStore()
    log = opened(store)
    log.append([b"kept"], 0, 1)
    whole = store.size(ACTIVE)
    log.append([b"torn", b"torn too"], 0, 1)
    end = store.size(ACTIVE)
    for size in range(end - 1, whole - 1, -7):
        store.truncate(ACTIVE, size)
        assert contents(store) == [[b"kept"]], size


def test_a_flipped_bit_is_refused_not_skipped() -> None:
    store = MemoryStore()
    log = opened(store)
    for value in (b"first", b"second", b"third"):
        log.append([value * 10], 0, 1)
    log.flush()
    data = bytes(store.read(ACTIVE, 0, store.size(ACTIVE)))
    store.corrupt(ACTIVE, data.index(b"second" * 10))
    with pytest.raises(errors.LogDamagedError, match="restore"):
        contents(store)


def test_a_later_format_is_refused_and_nothing_is_changed() -> None:
    for name, content in (
        ("quorum-state", QuorumState("d", 3, ReplicaKey(0, "d"))),
        ("00000000000000000007-0000000002.snapshot", Snapshot(LAST, VoterSet(), b"1")),
    ):
        store = MemoryStore()
        log = opened(store)
        log.append([b"kept"], 1, 1)
        log.close()
        envelope = msgspec.msgpack.decode(encode_file(content))
        envelope["format_version"] = 2
        envelope["crc32c"] = int(crc32c(envelope["body"], 2))
        store.publish(f"state-0.quorum/{name}", msgspec.msgpack.encode(envelope))
        before = {path: bytes(store.read(path, 0, store.size(path))) for path in store.list("")}
        with pytest.raises(errors.UnsupportedVersionError, match="upgrade raykafka"):
            opened(store)
        after = {path: bytes(store.read(path, 0, store.size(path))) for path in store.list("")}
        assert after == before


def test_a_log_from_before_there_were_quorums_is_taken_over() -> None:
    async def run() -> None:
        store = MemoryStore()
        log = opened(store)
        log.append([b"4"], 0, 1)
        log.append([b"5"], 7, 1)
        log.close()
        shell = StateMachineShell("sums", SumMachine, lambda: opened(store), ManualClock())
        await shell.load()
        assert shell.view == 9
        assert shell.node.machine.epoch == 8, "behind every epoch of its former owners"
        assert await shell.submit(Add(1)) == 10
        await shell.close()

    asyncio.run(run())


def test_a_snapshot_whose_log_is_missing_records_wins() -> None:
    store = MemoryStore()
    log = opened(store)
    log.append([b"a", b"b"], 1, 1)
    log.close()
    store.publish(
        "state-0.quorum/00000000000000000007-0000000002.snapshot",
        encode_file(Snapshot(LAST, VoterSet(), b"state")),
    )
    log = opened(store)
    assert (log.start, log.end_offset) == (LAST, 7), "it came from a leader, the crash before that"
    log.append([b"c"], 2, 1)
    log.close()
    assert opened(store).end_offset == 8


def test_a_log_without_its_snapshot_is_refused() -> None:
    store = MemoryStore()
    log = opened(store)
    for _ in range(3):
        log.append([b"x"], 1, 1)
    log.save_snapshot(Snapshot(OffsetAndEpoch(2, 1), VoterSet(), b"xx"), 1)
    log.close()
    assert (opened(store).start.offset, opened(store).end_offset) == (2, 3)
    store.delete("state-0.quorum/00000000000000000002-0000000001.snapshot")
    with pytest.raises(errors.LogDamagedError, match="its snapshot is missing"):
        opened(store)


class Crash(Exception):
    """Power cut."""


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=30), st.integers(0, 2**32))
def test_answered_commands_survive_power_cuts(amounts: list[int], seed: int) -> None:
    chance = random.Random(seed)
    store = MemoryStore()
    answered: list[int] = []

    async def live(todo: list[int]) -> None:
        shell = StateMachineShell("sums", SumMachine, lambda: opened(store), ManualClock())
        await shell.load()
        assert shell.view >= (answered[-1] if answered else 0), "an answer was forgotten"
        tasks = [asyncio.ensure_future(shell.submit(Add(amount))) for amount in todo]
        for _ in range(chance.randrange(len(tasks) + 1)):
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED, timeout=0.0001)
        await shell.abandon()
        answered.extend(
            task.result()
            for task in tasks
            if task.done() and not task.cancelled() and task.exception() is None
        )
        await asyncio.gather(*tasks, return_exceptions=True)

    while amounts:
        cut = chance.randrange(1, len(amounts) + 1)
        asyncio.run(live(amounts[:cut]))
        amounts = amounts[cut:]
        store.drop_unsynced()
    asyncio.run(live([1]))
    assert answered == sorted(answered)


def test_a_full_disk_is_told_and_overcome() -> None:
    async def run() -> None:
        store = MemoryStore()
        shell = StateMachineShell("sums", SumMachine, lambda: opened(store), ManualClock())
        await shell.load()
        assert await shell.submit(Add(1)) == 1
        store.fail_next("append", errors.DiskFullError())
        with pytest.raises(errors.DiskFullError):
            await shell.submit(Add(10))
        while True:  # the machine is being rebuilt
            try:
                assert await shell.submit(Add(2)) == 3
                break
            except errors.CoordinatorLoadInProgressError:
                await asyncio.sleep(0)
        await shell.close()
        assert contents(store) == [[b"1"], [b"2"]]

    asyncio.run(run())
