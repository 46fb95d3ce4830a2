"""What a course hears of a real line: every answer once, in order, large ones before they come."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from wire_kit import SECRET, running_listener

from raykafka.actors.lines import CatchUpCourse
from raykafka.actors.ports import Reply
from raykafka.errors import NotLeaderOrFollowerError, RaykafkaError
from raykafka.network.catch_up import connect_catch_up
from raykafka.network.connection import CARRY_BYTES, CHUNK_BYTES
from raykafka.protocol.messages import ApiKey
from raykafka.protocol.replication_messages import CatchUpRequest, CatchUpResponse

LARGE = 300_000
SMALL = 1_000


@dataclass
class Leader:
    """Answers with payloads of these sizes; the offset says which."""

    sizes: Sequence[int]
    batches: int = 1
    """In one answer."""
    fails_at: int = -1
    asked: list[int] = field(default_factory=list)

    def handle(self, request: CatchUpRequest, payload: memoryview, reply: Reply) -> None:
        number = request.offset
        self.asked.append(number)
        if number == self.fails_at:
            raise NotLeaderOrFollowerError("it leads no more")
        sizes = [0] * self.batches  # what a follower makes of them is not looked at here
        answer = CatchUpResponse(len(self.sizes), 0, number + 1, sizes)
        reply(answer, [bytes([number]) * self.sizes[number]])


@dataclass
class Course(CatchUpCourse):
    """Asks for ``count`` answers, one by one."""

    count: int
    heard: list[tuple[int, int]] = field(default_factory=list)
    written: list[int] = field(default_factory=list)

    def first(self) -> CatchUpRequest | None:
        return self._request(0)

    def next(self, answer: CatchUpResponse, size: int) -> CatchUpRequest | None:
        self.heard.append((answer.next_offset - 1, size))
        return self._request(answer.next_offset)

    def write(self, answer: CatchUpResponse, payload: memoryview) -> None:
        number = answer.next_offset - 1
        assert self.heard[number] == (number, len(payload))
        assert bytes(payload) == bytes([number]) * len(payload)
        self.written.append(number)

    def _request(self, offset: int) -> CatchUpRequest | None:
        if offset >= self.count:
            return None
        return CatchUpRequest("topic", 0, 1, 2, 3, offset, LARGE)


def run(leader: Leader, *courses: Course) -> None:
    """On one line, one course after the other."""

    async def main() -> None:
        line = await connect_catch_up(running.endpoint, SECRET, client_id="test", timeout_s=5)
        try:
            for course in courses:
                await asyncio.wait_for(line.run(course), 20)
        finally:
            line.close()

    with running_listener({ApiKey.CATCH_UP: leader.handle}) as running:
        asyncio.run(main())


@pytest.mark.parametrize("batches", [1, 30_000], ids=["short-header", "long-header"])
@pytest.mark.parametrize(
    "sizes",
    [
        [LARGE] * 6,
        [SMALL] * 6,
        [LARGE, SMALL, LARGE, SMALL, SMALL, LARGE],
        [SMALL, LARGE, LARGE, 0, LARGE, 0],
        [CARRY_BYTES - 100, CARRY_BYTES, CARRY_BYTES + 1, CHUNK_BYTES, CHUNK_BYTES + 1, 1],
    ],
    ids=["large", "small", "mixed", "empty", "at-limits"],
)
def test_every_answer_is_heard_of_once_and_written_in_order(sizes: list[int], batches: int) -> None:
    leader, courses = Leader(sizes, batches), [Course(6), Course(6)]
    run(leader, *courses)
    assert leader.asked == [*range(6)] * 2
    for course in courses:
        assert course.heard == [*enumerate(sizes)]
        assert course.written == [*range(6)]


def test_what_came_before_an_error_is_written() -> None:
    leader, course = Leader([LARGE] * 6, fails_at=4), Course(6)
    with pytest.raises(RaykafkaError, match="it leads no more"):
        run(leader, course)
    assert course.written == [0, 1, 2, 3]
