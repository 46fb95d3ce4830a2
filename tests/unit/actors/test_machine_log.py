"""A machine on a real log: whole commands or nothing, whatever is lost, cut or flipped."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shell_kit import Add, SumMachine

from raykafka import errors
from raykafka.actors.machine_log import PartitionMachineLog
from raykafka.actors.shell import StateMachineShell
from raykafka.model import PartitionId, TopicId
from raykafka.testing.manual_clock import ManualClock
from raykafka.testing.memory_store import MemoryStore

PARTITION = PartitionId(TopicId("1" * 32), 0)
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
