"""When somebody is held to be silent, and when nobody is."""

from __future__ import annotations

import asyncio

from partition_kit import run, until

from raykafka.actors.controlling.session import Session
from raykafka.clock import SystemClock
from raykafka.testing.manual_clock import ManualClock


def test_it_ends_after_the_last_sign_of_life() -> None:
    clock = ManualClock()

    async def scenario() -> None:
        session = Session(clock)
        session.renew()
        waiting = asyncio.ensure_future(session.wait_silent(1000, 0.001))
        for _ in range(3):
            clock.advance(900)
            await asyncio.sleep(0.005)
            assert not waiting.done()
            session.renew()
        clock.advance(1000)
        await until(waiting.done)

    run(scenario())


def test_a_process_that_was_stopped_itself_judges_nobody_by_that_time() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        session = Session(SystemClock())
        session.renew()
        heard_ms = session.renewed_ms
        waiting = asyncio.ensure_future(session.wait_silent(300, 0.01))
        await asyncio.sleep(0.02)
        stopped_until = loop.time() + 0.8
        while loop.time() < stopped_until:
            pass  # as good as SIGSTOP for everything on this loop
        await asyncio.sleep(0.05)
        assert not waiting.done()
        assert session.renewed_ms == heard_ms, "nobody has spoken"
        await until(waiting.done)

    run(scenario())
