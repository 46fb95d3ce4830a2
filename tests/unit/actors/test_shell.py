"""The coordinator runtime: group commit, durable answers, replay, and what a broken disk does."""

from __future__ import annotations

import asyncio

import pytest
from shell_kit import Add, MemoryDisk, MemoryLog, SumMachine, until

from raykafka import errors
from raykafka.actors.shell import ShellState, StateMachineShell
from raykafka.testing.manual_clock import ManualClock


async def loaded(log: MemoryLog) -> StateMachineShell[int]:
    shell = StateMachineShell("sums", SumMachine, lambda: log, ManualClock())
    await shell.load()
    return shell


def test_answers_come_when_durable_and_survive() -> None:
    async def run() -> None:
        disk = MemoryDisk()
        shell = await loaded(MemoryLog(disk))
        assert await shell.submit(Add(2)) == 2
        assert await shell.submit(Add(3)) == 5
        assert (shell.view, shell.view_offset) == (5, 3), "an epoch begins with its voters"
        await shell.close()
        again = await loaded(MemoryLog(disk))
        assert (again.view, again.view_offset) == (5, 4)
        assert await again.submit(Add(0)) == 5
        await again.close()

    asyncio.run(run())


def test_commands_that_wait_share_a_flush() -> None:
    async def run() -> None:
        log = MemoryLog(MemoryDisk())
        shell = await loaded(log)
        flushes = log.flushes
        log.hold()
        first = asyncio.ensure_future(shell.submit(Add(1)))
        await until(log.flushing.is_set)
        rest = [asyncio.ensure_future(shell.submit(Add(1))) for _ in range(50)]
        await asyncio.sleep(0)
        assert shell.view == 0, "nothing is shown before it is durable"
        assert not first.done()
        log.release()
        assert await asyncio.gather(first, *rest) == list(range(1, 52))
        assert log.flushes == flushes + 2
        assert [len(group) for group in log.disk.groups] == [1, 50]
        await shell.close()

    asyncio.run(run())


def test_a_question_about_undurable_state_waits_with_it() -> None:
    async def run() -> None:
        log = MemoryLog(MemoryDisk())
        shell = await loaded(log)
        log.hold()
        change = asyncio.ensure_future(shell.submit(Add(7)))
        await until(log.flushing.is_set)
        question = asyncio.ensure_future(shell.submit(Add(0)))
        await asyncio.sleep(0)
        assert not question.done()
        log.release()
        assert await question == await change == 7
        await shell.close()

    asyncio.run(run())


def test_refusals_change_nothing() -> None:
    async def run() -> None:
        shell = await loaded(MemoryLog(MemoryDisk()))
        with pytest.raises(errors.InvalidRequestError):
            await shell.submit(Add(-1))
        assert shell.view == 0
        await shell.close()

    asyncio.run(run())


def test_a_failed_append_is_forgotten_by_everyone() -> None:
    async def run() -> None:
        log = MemoryLog(MemoryDisk())
        shell = await loaded(log)
        await shell.submit(Add(1))
        log.hold()
        held = asyncio.ensure_future(shell.submit(Add(10)))
        await until(log.flushing.is_set)
        log.append_error = errors.DiskFullError()
        lost = [asyncio.ensure_future(shell.submit(Add(100))) for _ in range(3)]
        await asyncio.sleep(0)
        log.release()
        assert await held == 11
        for result in await asyncio.gather(*lost, return_exceptions=True):
            assert isinstance(result, errors.DiskFullError)
        await until(lambda: shell.state is ShellState.ACTIVE)
        assert await shell.submit(Add(5)) == 16, "the machine was rebuilt without the lost ones"
        await shell.close()

    asyncio.run(run())


def test_a_failed_flush_ends_the_shell() -> None:
    async def run() -> None:
        log = MemoryLog(MemoryDisk())
        shell = await loaded(log)
        log.flush_error = OSError(5, "Input/output error")
        with pytest.raises(errors.KafkaStorageError, match="not known"):
            await shell.submit(Add(1))
        await asyncio.wait_for(shell.wait_failed(), 5)
        with pytest.raises(errors.CoordinatorNotAvailableError):
            await shell.submit(Add(1))
        await shell.close()
        assert not log.closed, "no clean mark on a log nobody can vouch for"

    asyncio.run(run())


def test_close_writes_what_is_queued_and_refuses_what_comes_later() -> None:
    async def run() -> None:
        log = MemoryLog(MemoryDisk())
        shell = await loaded(log)
        log.hold()
        tasks = [asyncio.ensure_future(shell.submit(Add(1))) for _ in range(3)]
        await until(log.flushing.is_set)
        tasks.append(asyncio.ensure_future(shell.submit(Add(1))))
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(shell.close())
        await asyncio.sleep(0)
        with pytest.raises(errors.CoordinatorNotAvailableError):
            await shell.submit(Add(1))
        log.release()
        await closing
        assert await asyncio.gather(*tasks) == [1, 2, 3, 4]
        assert log.closed

    asyncio.run(run())


def test_a_killed_shell_answers_nobody() -> None:
    async def run() -> None:
        log = MemoryLog(MemoryDisk())
        shell = await loaded(log)
        log.hold()
        task = asyncio.ensure_future(shell.submit(Add(1)))
        await until(log.flushing.is_set)
        log.release()
        await shell.abandon()
        with pytest.raises(errors.CoordinatorNotAvailableError):
            await task
        assert not log.closed

    asyncio.run(run())


def test_waiting_for_a_state() -> None:
    async def run() -> None:
        shell = await loaded(MemoryLog(MemoryDisk()))
        waiting = asyncio.ensure_future(shell.wait_for(lambda total: total >= 3, 5))
        changes: list[int] = []
        shell.on_change(lambda: changes.append(shell.view))
        await shell.submit(Add(1))
        assert not waiting.done()
        await shell.submit(Add(2))
        assert await waiting
        assert changes == [1, 3]
        assert await shell.wait_for(lambda total: total > 9, 0.01) is False
        await shell.close()

    asyncio.run(run())


def test_a_log_that_cannot_be_opened_is_reported_by_load() -> None:
    def broken() -> MemoryLog:
        raise errors.LogDamagedError

    async def run() -> None:
        shell = StateMachineShell("sums", SumMachine, broken, ManualClock())
        with pytest.raises(errors.LogDamagedError):
            await shell.load()
        with pytest.raises(errors.CoordinatorNotAvailableError):
            await shell.submit(Add(1))

    asyncio.run(run())
