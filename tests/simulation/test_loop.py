"""The loop of a simulated process: order, time, threads, pauses and death."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from raykafka.testing.simulation.hosts import Host, Process
from raykafka.testing.simulation.world import World


def process(world: World, name: str = "p") -> Process:
    return Process(world, Host(world, 0, "10.0.0.1"), name)


def run(main: Any, world: World | None = None, until: float = 100.0) -> World:
    world = world or World(1)

    def begin() -> Coroutine[Any, Any, None]:
        coroutine: Coroutine[Any, Any, None] = main()
        return coroutine

    process(world).start(begin)
    world.run(until)
    assert not world.troubles
    return world


def test_callbacks_of_a_process_run_in_the_order_in_which_they_were_asked_for() -> None:
    seen: list[int] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for number in range(100):
            loop.call_soon(seen.append, number)

    run(main)
    assert seen == list(range(100))


def test_sleeping_takes_virtual_time_only() -> None:
    woken: list[float] = []

    async def main() -> None:
        await asyncio.gather(*(sleep(hours) for hours in (3, 1, 2)))

    async def sleep(hours: int) -> None:
        await asyncio.sleep(hours * 3600)
        woken.append(round(asyncio.get_running_loop().time() / 3600, 3))

    run(main, until=1e6)
    assert woken == [1, 2, 3]


def test_a_function_for_a_thread_runs_later_and_outside_of_the_loop() -> None:
    seen: list[Any] = []

    def blocking() -> str:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return "outside"
        return "inside"

    def failing() -> None:
        raise ValueError("no")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        seen.append(await loop.run_in_executor(None, blocking))
        assert loop.time() > begun
        try:
            await loop.run_in_executor(None, failing)
        except ValueError as error:
            seen.append(str(error))

    run(main)
    assert seen == ["outside", "no"]


def test_a_paused_process_does_nothing_until_it_is_resumed() -> None:
    world = World(3)
    ticks: list[float] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(0.1)
            await loop.run_in_executor(None, lambda: ticks.append(world.now))

    victim = process(world)
    victim.start(main)
    world.at(1.05, victim.pause)
    world.at(3.0, victim.resume)
    world.run(4.0)
    assert len([tick for tick in ticks if tick < 1.1]) >= 9
    assert not [tick for tick in ticks if 1.1 < tick < 3.0]
    assert [tick for tick in ticks if tick > 3.0]


def test_a_killed_process_does_not_even_clean_up() -> None:
    world = World(4)
    ended: list[str] = []

    async def main() -> None:
        try:
            await asyncio.sleep(10)
        finally:
            ended.append("cleaned up")

    victim = process(world)
    victim.on_death.append(lambda: ended.append("dead"))
    victim.start(main)
    world.at(1.0, victim.kill)
    world.run(20.0)
    assert ended == ["dead"]
    assert not victim.alive
    assert not victim.host.processes


def test_what_nobody_catches_is_kept() -> None:
    world = World(5)

    async def main() -> None:
        asyncio.get_running_loop().call_soon(lambda: 1 / 0)

    process(world).start(main)
    world.run(1.0)
    assert "division by zero" in world.troubles[0]


def test_two_processes_take_turns_by_chance_but_always_the_same_way() -> None:
    def order(seed: int) -> list[str]:
        world, seen = World(seed), []

        def main(name: str) -> Any:
            async def body() -> None:
                for _ in range(5):
                    await asyncio.get_running_loop().run_in_executor(None, seen.append, name)

            return body

        for name in "ab":
            process(world, name).start(main(name))
        world.run(1.0)
        return seen

    assert order(1) == order(1)
    assert len({tuple(order(seed)) for seed in range(20)}) > 10


def test_sets_of_tasks_have_the_order_in_which_the_tasks_were_made() -> None:
    orders = []

    async def main() -> None:
        tasks = {asyncio.ensure_future(asyncio.sleep(number)) for number in range(8)}
        orders.append([hash(task) - min(map(hash, tasks)) for task in tasks])

    for seed in (1, 1):
        run(main, World(seed))
    assert orders[0] == orders[1]
