"""What catches up is written one after the other, and gives way where the machine is busy."""

from __future__ import annotations

import asyncio
import threading

import pytest

from raykafka.actors.replicas.catch_up_writer import CatchUpWriter, Progress
from raykafka.clock import SystemClock


class LateClock(SystemClock):
    """The loop looks at it ``late_ms`` after the thread has."""

    def __init__(self, late_ms: int) -> None:
        self._late_ms = late_ms

    def monotonic_ms(self) -> int:
        in_loop = threading.current_thread() is threading.main_thread()
        return self._late_ms if in_loop else 0


def test_one_at_a_time_in_their_order_in_a_thread_of_its_own() -> None:
    async def main() -> list[tuple[int, str]]:
        writer, done = CatchUpWriter(asyncio.Lock(), SystemClock()), list[tuple[int, str]]()

        async def write(number: int) -> bool:
            def in_thread() -> None:
                done.append((number, threading.current_thread().name.partition("_")[0]))

            await writer.in_thread(in_thread)
            return True

        for number in range(5):
            writer.add(lambda number=number: write(number))  # type: ignore[misc]
        await writer.close()
        return done

    assert asyncio.run(main()) == [(number, "catch-up") for number in range(5)]


@pytest.mark.parametrize(
    ("late_ms", "gains", "rests"), [(0, True, 0), (1, True, 3), (50, True, 3), (50, False, 0)]
)
def test_where_the_loop_is_late_the_thread_rests(
    late_ms: int, gains: bool, rests: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> list[bool]:
        turn = asyncio.Lock()
        writer, rested, sleep = CatchUpWriter(turn, LateClock(late_ms)), list[bool](), asyncio.sleep

        async def write() -> bool:
            await writer.in_thread(lambda: None)
            return gains

        async def rest(seconds: float) -> None:
            rested.append(turn.locked())
            await sleep(0)

        monkeypatch.setattr(asyncio, "sleep", rest)
        for _ in range(3):
            writer.add(write)
        await writer.close()
        return rested

    assert asyncio.run(main()) == [False] * rests, "and whoever changes logs goes on meanwhile"


def test_a_write_that_fails_does_not_hold_up_the_next(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> list[int]:
        writer, done = CatchUpWriter(asyncio.Lock(), SystemClock()), list[int]()

        async def fail() -> bool:
            raise ValueError("a bug")

        async def write() -> bool:
            await writer.in_thread(done.append, 1)
            return True

        writer.add(fail)
        writer.add(write)
        await writer.close()
        return done

    assert asyncio.run(main()) == [1]
    assert "a bug" in caplog.text


def test_a_copy_that_gains_is_told_from_one_that_does_not() -> None:
    progress = Progress()
    judged = []
    for behind in (1000, 900, 900, 800, 2000, 1500):
        for _ in range(4):
            progress.note(1 << 20, behind)
        judged.append(progress.gains)
    assert judged == [True, True, False, True, False, True]


def test_what_was_on_its_way_with_one_high_watermark_is_judged_together() -> None:
    """The leader's log grows by more than what is copied meanwhile, which is told in steps."""
    progress, end, high_watermark = Progress(), 0, 0
    for number in range(64):
        if number % 8 == 0:
            high_watermark += 3000
        end += 256
        progress.note(256 << 10, high_watermark - end)
    assert not progress.gains
