"""What catches up is written one after the other, and gives way where the machine is busy."""

from __future__ import annotations

import asyncio
import threading

import pytest

from raykafka.actors.replicas.catch_up_writer import CatchUpWriter
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

        async def write(number: int) -> None:
            def in_thread() -> None:
                done.append((number, threading.current_thread().name.partition("_")[0]))

            await writer.in_thread(in_thread)

        for number in range(5):
            writer.add(lambda number=number: write(number))  # type: ignore[misc]
        await writer.close()
        return done

    assert asyncio.run(main()) == [(number, "catch-up") for number in range(5)]


@pytest.mark.parametrize(("late_ms", "rests"), [(0, 0), (1, 3), (50, 3)])
def test_where_the_loop_is_late_the_thread_rests(
    late_ms: int, rests: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> list[bool]:
        turn = asyncio.Lock()
        writer, rested, sleep = CatchUpWriter(turn, LateClock(late_ms)), list[bool](), asyncio.sleep

        async def rest(seconds: float) -> None:
            rested.append(turn.locked())
            await sleep(0)

        monkeypatch.setattr(asyncio, "sleep", rest)
        for _ in range(3):
            writer.add(lambda: writer.in_thread(lambda: None))
        await writer.close()
        return rested

    assert asyncio.run(main()) == [False] * rests, "and whoever changes logs goes on meanwhile"


def test_a_write_that_fails_does_not_hold_up_the_next(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> list[int]:
        writer, done = CatchUpWriter(asyncio.Lock(), SystemClock()), list[int]()

        def fail() -> None:
            raise ValueError("a bug")

        writer.add(lambda: writer.in_thread(fail))
        writer.add(lambda: writer.in_thread(done.append, 1))
        await writer.close()
        return done

    assert asyncio.run(main()) == [1]
    assert "a bug" in caplog.text
