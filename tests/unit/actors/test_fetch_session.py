"""Push sessions: frames as records commit, within credit, turn by turn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from partition_kit import (
    ActorHarness,
    RecordedConnection,
    RecordedReply,
    batches_in,
    run,
    turns,
)

from raykafka.errors import (
    FetchSessionIdNotFoundError,
    InvalidRequestError,
    NotLeaderOrFollowerError,
    OffsetOutOfRangeError,
    ServerBusyError,
    UnknownTopicIdError,
)
from raykafka.log.batch_header import read_header
from raykafka.protocol.messages import ApiKey, FetchCreditRequest


def credit(actor: ActorHarness, session: RecordedReply, **fields: Any) -> RecordedReply:
    request = FetchCreditRequest(session.correlation_id, **fields)
    return actor.request(ApiKey.FETCH_CREDIT, request, connection=session.connection)


def offsets(session: RecordedReply) -> list[tuple[int, int]]:
    """(partition, base offset) of every batch pushed so far, in order."""
    return [
        (answer.partitions[0].partition, read_header(batch).base_offset)
        for number, answer in enumerate(session.answers)
        for batch in batches_in(session, number)
    ]


def push(actor: ActorHarness, *parts: tuple[int, int], bytes_: int = 1 << 20, **fields: Any) -> Any:
    return actor.fetch(*parts, push=True, credit_bytes=bytes_, **fields)


def test_what_is_there_and_what_commits_later_is_pushed(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await actor.assign(0)
            actor.produced(0, b"a")
            session = push(actor, (0, 0))
            assert offsets(session) == [(0, 0)]
            actor.produced(0, b"b")
            await turns()
            actor.produced(0, b"c")
            await turns()
            assert offsets(session) == [(0, 0), (0, 1), (0, 2)]
            assert actor.fetch_handler.parked == 1

    run(scenario())


def test_nothing_is_pushed_beyond_the_credit(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await actor.assign(0)
            for _ in range(5):
                actor.produced(0, b"x" * 1000)
            session = push(actor, (0, 0), bytes_=1, max_bytes=1)
            assert len(session.answers) == 1
            size = session.answers[0].partitions[0].sizes[0]
            credit(actor, session, credit_bytes=size)
            assert len(session.answers) == 2
            credit(actor, session, credit_bytes=2 * size)
            assert offsets(session) == [(0, n) for n in range(4)]
            actor.produced(0, b"y")
            await turns()
            assert len(session.answers) == 4

    run(scenario())


def test_partitions_take_turns(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await actor.assign(0, 1)
            for partition in (0, 1):
                for _ in range(3):
                    actor.produced(partition, b"x" * 100)
            session = push(actor, (0, 0), (1, 0), max_bytes=1)
            assert [partition for partition, _ in offsets(session)] == [0, 1, 0, 1, 0, 1]

    run(scenario())


def test_a_full_write_buffer_stops_the_session_until_it_drains(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await actor.assign(0)
            actor.produced(0, b"a")
            actor.connection.block()
            session = push(actor, (0, 0))
            credit(actor, session, credit_bytes=10)
            assert session.answers == []
            actor.connection.unblock()
            assert offsets(session) == [(0, 0)]

    run(scenario())


def test_the_last_frame_of_a_session_names_no_partition(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await actor.assign(0)
            session = push(actor, (0, 0))
            credit(actor, session, close=True)
            assert session.answer.partitions == []
            actor.produced(0, b"a")
            await turns()
            assert len(session.answers) == 1
            assert credit(actor, session, close=True).error is None
            assert actor.fetch_handler.parked == 0

    run(scenario())


def test_a_partition_that_fails_leaves_the_session_with_the_reason(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await actor.assign(0, 1)
            session = push(actor, (0, 0), (7, 0), (1, 99))
            codes = [answer.partitions[0].error_code for answer in session.answers]
            assert codes == [NotLeaderOrFollowerError.code, OffsetOutOfRangeError.code]
            await actor.remove(0)
            gone, end = session.answers[2:]
            assert gone.partitions[0].error_code == UnknownTopicIdError.code
            assert end.partitions == []
            assert actor.fetch_handler.parked == 0

    run(scenario())


def test_a_session_ends_with_its_connection(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await actor.assign(0)
            connection = RecordedConnection()
            session = push(actor, (0, 0), connection=connection)
            connection.close()
            actor.produced(0, b"a")
            await turns()
            assert session.answers == []
            assert actor.replica(0).waiters == {}
            assert actor.fetch_handler.parked == 0

    run(scenario())


def test_sessions_count_as_parked_and_credit_is_checked(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ActorHarness(tmp_path, configs={"max.parked.fetches": "1"}) as actor:
            await actor.assign(0)
            session = push(actor, (0, 0))
            assert isinstance(push(actor, (0, 0)).error, ServerBusyError)
            negative = credit(actor, session, credit_bytes=-5)
            assert isinstance(negative.error, InvalidRequestError)
            credit(actor, session, close=True)
            poll = actor.fetch((0, 0))
            assert isinstance(
                credit(actor, poll, credit_bytes=5).error, FetchSessionIdNotFoundError
            )

    run(scenario())
