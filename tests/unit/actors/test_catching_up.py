"""Who catches up when: one line at a time, a bounded turn, and way for who is in a hurry."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from partition_kit import until

from raykafka.actors.lines import CatchUpCourse
from raykafka.actors.replicas import catching_up
from raykafka.actors.replicas.catching_up import CatchUp, Pace, Turn
from raykafka.errors import ConnectionLostError, DiskFullError, RaykafkaError
from raykafka.model import Endpoint
from raykafka.protocol.replication_messages import CatchUpRequest, CatchUpResponse
from raykafka.testing.manual_clock import ManualClock

NEAR, OTHER = Endpoint("a", 1), Endpoint("b", 1)
RECORD = b"r" * 10


class Copy:
    """A log of ``RECORD``s that lacks some."""

    def __init__(self, name: str, lacks: int, story: list[str], endpoint: Endpoint = NEAR) -> None:
        self.name = name
        self.endpoint = endpoint
        self.committed = lacks
        self.end = 0
        self.told = 0
        self.ended = False
        self.pause_s = 0.0
        self.refuses: RaykafkaError | None = None
        self.result: list[RaykafkaError | None] = []
        self.caught_up = asyncio.Event()
        self._story = story
        self._in_turn = False

    def catch_up_request(self, offset: int, max_bytes: int) -> CatchUpRequest | None:
        offset = self.end if offset < 0 else offset
        return None if self.ended else CatchUpRequest(self.name, 0, 0, 1, 1, offset, max_bytes)

    def pause_for(self, size: int) -> float:
        return self.pause_s if size else 0.0

    def append(self, answer: CatchUpResponse, payload: memoryview) -> None:
        assert self._in_turn
        if self.refuses is not None:
            raise self.refuses
        assert answer.next_offset == self.end + 1
        self.end += 1

    def on_turn(self, *, begins: bool) -> None:
        assert self._in_turn != begins
        self._in_turn = begins
        self._story.append(f"{self.name} {'begins' if begins else 'ends'}")

    def on_appended(self, answer: CatchUpResponse, size: int) -> None:
        self.told += size
        assert answer.next_offset == self.end

    def on_append_failed(self, error: RaykafkaError) -> None:
        self._story.append(f"{self.name} failed")

    def on_caught_up(self, error: RaykafkaError | None) -> None:
        self.result.append(error)
        self.caught_up.set()


class Line:
    """Answers one record at a time, from ``copies`` by their names."""

    def __init__(
        self,
        copies: dict[str, Copy],
        each: Callable[[], Awaitable[None]],
        stalls: Callable[[], bool],
        throttle_ms: Callable[[], int],
    ) -> None:
        self.closed = asyncio.Event()
        self._answers = 0
        self._stalls = stalls
        self._throttle_ms = throttle_ms
        self._copies = copies
        self._each = each

    async def run(self, course: CatchUpCourse) -> None:
        request = course.first()
        while request is not None:
            await self._each()
            if self._stalls():
                await self.closed.wait()
            self._answers += 1
            if self.closed.is_set():
                raise ConnectionLostError("closed")
            committed, throttle_ms = self._copies[request.topic_id].committed, self._throttle_ms()
            payload = RECORD if request.offset < committed and not throttle_ms else b""
            following = request.offset + bool(payload)
            answer = CatchUpResponse(committed, 0, following, [10], throttle_ms)
            request = course.next(answer, len(payload))
            course.write(answer, memoryview(payload))

    def progress(self) -> object:
        return self._answers

    def close(self) -> None:
        self.closed.set()


class World:
    def __init__(self) -> None:
        self.story: list[str] = []
        self.copies: dict[str, Copy] = {}
        self.clock = ManualClock()
        self.lines: list[Line] = []
        self.unreachable: Exception | None = None
        self.stalls = False
        self.throttled: list[int] = []
        self.go = asyncio.Event()
        self.go.set()
        self.catch_up = CatchUp(self._open, self.clock)

    def copy(self, name: str, lacks: int, endpoint: Endpoint = NEAR) -> Copy:
        copy = self.copies[name] = Copy(name, lacks, self.story, endpoint)
        return copy

    async def _open(self, endpoint: Endpoint) -> Line:
        if self.unreachable is not None:
            raise self.unreachable
        self.lines.append(Line(self.copies, self._each, lambda: self.stalls, self._throttle_ms))
        return self.lines[-1]

    def _throttle_ms(self) -> int:
        return self.throttled.pop(0) if self.throttled else 0

    async def _each(self) -> None:
        self.clock.advance(1)
        await self.go.wait()
        await asyncio.sleep(0)


def play(scenario: Callable[[World], Awaitable[None]]) -> None:
    async def main() -> None:
        world = World()
        await asyncio.wait_for(scenario(world), 20)
        await world.catch_up.close()

    asyncio.run(main())


def test_one_partition_after_the_other_to_its_end() -> None:
    async def scenario(world: World) -> None:
        first, second = world.copy("first", 5), world.copy("second", 3)
        for copy in (first, second):
            world.catch_up.add(copy)
        await second.caught_up.wait()
        assert (first.end, second.end) == (5, 3)
        assert (first.told, second.told) == (50, 30)
        assert first.result == second.result == [None]
        assert world.story == ["first begins", "first ends", "second begins", "second ends"]
        assert len(world.lines) == 1

    play(scenario)


def test_a_turn_ends_after_its_time_and_another_leader_has_the_next() -> None:
    async def scenario(world: World) -> None:
        long, other = world.copy("long", 600), world.copy("other", 1, OTHER)
        world.catch_up.add(long)
        world.catch_up.add(other)
        await long.caught_up.wait()
        assert world.story[:4] == ["long begins", "long ends", "other begins", "other ends"]
        assert long.end == 600

    play(scenario)


def test_a_partition_that_has_had_its_share_waits_behind_its_leaders_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(catching_up, "_SHARE_BYTES", 100)

    async def scenario(world: World) -> None:
        long, short = world.copy("long", 25), world.copy("short", 1)
        world.catch_up.add(long)
        world.catch_up.add(short)
        await long.caught_up.wait()
        assert world.story[:4] == ["long begins", "long ends", "short begins", "short ends"]
        assert long.end == 25

    play(scenario)


def test_who_is_throttled_lets_the_others_go_first() -> None:
    async def scenario(world: World) -> None:
        slow, quick = world.copy("slow", 2), world.copy("quick", 5)
        slow.pause_s = 0.05
        world.catch_up.add(slow)
        world.catch_up.add(quick)
        await slow.caught_up.wait()
        assert world.story[:4] == ["slow begins", "slow ends", "quick begins", "quick ends"]
        assert (slow.end, quick.end) == (2, 5)

    play(scenario)


def test_a_leader_that_is_throttled_is_asked_again_later() -> None:
    async def scenario(world: World) -> None:
        copy = world.copy("copy", 3)
        world.throttled = [20, 0, 20, 20, 0, 0]
        world.catch_up.add(copy)
        await copy.caught_up.wait()
        assert (copy.end, copy.result) == (3, [None])
        assert world.story.count("copy begins") == 4

    play(scenario)


def test_what_cannot_be_appended_ends_its_copy_only() -> None:
    async def scenario(world: World) -> None:
        full, well = world.copy("full", 5), world.copy("well", 5)
        full.refuses = DiskFullError("no space left on device")
        world.catch_up.add(full)
        world.catch_up.add(well)
        await well.caught_up.wait()
        assert full.result == [full.refuses]
        assert "full failed" in world.story
        assert well.result == [None]
        assert len(world.lines) == 2, "an answer was on its way that nobody wants"

    play(scenario)


@pytest.mark.parametrize("error", [ConnectionLostError("nobody"), RuntimeError("no thread")])
def test_a_leader_that_cannot_be_reached_is_told_to_all_that_wait_for_it(error: Exception) -> None:
    async def scenario(world: World) -> None:
        world.unreachable = error
        copies = [world.copy(str(number), 1) for number in range(3)]
        for copy in copies:
            world.catch_up.add(copy)
        for copy in copies:
            await copy.caught_up.wait()
            assert isinstance(copy.result[0], RaykafkaError)
        world.unreachable = None
        again = world.copy("again", 1)
        world.catch_up.add(again)
        await again.caught_up.wait()
        assert again.result == [None]

    play(scenario)


def test_who_was_in_a_hurry_and_is_not_any_more_stops_nobody() -> None:
    """It has been told, and has not run since."""

    async def scenario(world: World) -> None:
        copy = world.copy("copy", 1000)
        world.go.clear()
        world.catch_up.add(copy)
        await until(lambda: bool(world.story))

        async def hurried() -> None:
            async with world.catch_up.first_turn():
                raise AssertionError("it was cancelled")

        task = asyncio.ensure_future(hurried())
        await asyncio.sleep(0)
        on_turn = copy.on_turn

        def cancel_with_the_turn(*, begins: bool) -> None:
            on_turn(begins=begins)
            task.cancel()

        copy.on_turn = cancel_with_the_turn  # type: ignore[method-assign]
        world.go.set()
        await copy.caught_up.wait()
        assert copy.end == 1000

    play(scenario)


def test_a_leader_that_falls_silent_loses_its_turn_to_another_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(catching_up, "_LOOK_S", 0.01)

    async def scenario(world: World) -> None:
        silent = world.copy("silent", 1000)
        world.catch_up.add(silent)
        await until(lambda: bool(world.story))
        world.stalls = True
        await until(lambda: silent.end > 0)
        other = world.copy("other", 5, OTHER)
        world.catch_up.add(other)
        world.clock.advance(300)
        await silent.caught_up.wait()
        assert isinstance(silent.result[0], ConnectionLostError)
        world.stalls = False
        await other.caught_up.wait()
        assert other.end == 5

    play(scenario)


def test_as_much_is_asked_for_as_comes_in_a_tenth_of_a_second() -> None:
    pace = Pace()
    pace.note(1 << 20, 1)
    assert pace.max_bytes == 100 << 20
    pace.note(1 << 20, 1000)
    assert pace.max_bytes == (1 << 20) // 10
    pace.note(1000, 1000)
    assert pace.max_bytes == 64 << 10
    before = pace.max_bytes
    pace.note(0, 1)
    assert pace.max_bytes == before


def test_the_time_for_an_answer_counts_until_all_of_it_is_there() -> None:
    clock, pace = ManualClock(), Pace()
    turn = Turn(Copy("slow", 9, []), clock, pace, share=1 << 30)
    assert turn.first() is not None
    answer = CatchUpResponse(9, 0, 1, [1 << 20])
    clock.advance(1)
    before = pace.max_bytes
    following = turn.next(answer, 1 << 20)  # its header is there
    assert following is not None
    assert following.max_bytes == before
    clock.advance(99)
    turn.copy.on_turn(begins=True)
    turn.write(answer, memoryview(bytes(1 << 20)))
    assert pace.max_bytes == 1 << 20


def test_a_copy_that_has_ended_asks_for_nothing() -> None:
    async def scenario(world: World) -> None:
        copy = world.copy("gone", 5)
        copy.ended = True
        world.catch_up.add(copy)
        await copy.caught_up.wait()
        assert copy.end == 0

    play(scenario)


@pytest.mark.parametrize("stalls", [False, True])
def test_who_is_in_a_hurry_has_the_next_turn(stalls: bool) -> None:
    async def scenario(world: World) -> None:
        copies = [world.copy(str(port), 1000, Endpoint("c", port)) for port in range(3)]
        world.go.clear()
        for copy in copies:
            world.catch_up.add(copy)
        await until(lambda: len(world.lines) == 3 and bool(world.story))

        async def hurried() -> list[str]:
            async with world.catch_up.first_turn():
                world.stalls = False
                return list(world.story)

        world.stalls = stalls
        story = asyncio.ensure_future(hurried())
        await asyncio.sleep(0)
        world.go.set()
        assert await story == ["0 begins", "0 ends"]
        assert copies[0].end == (0 if stalls else 1)
        for copy in copies[1:]:
            await copy.caught_up.wait()
            assert copy.end == 1000

    play(scenario)


def test_nothing_is_begun_after_the_end() -> None:
    async def scenario(world: World) -> None:
        await world.catch_up.close()
        world.catch_up.add(world.copy("late", 1))
        await asyncio.sleep(0.01)
        assert world.story == []

    play(scenario)
