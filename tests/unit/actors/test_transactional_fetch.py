"""Who sees what of transactions: fetches, push sessions, mapped reads, offsets, followers."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
from partition_kit import (
    EPOCH,
    TOPIC_ID,
    ActorHarness,
    RecordedReply,
    batches_in,
    run,
    turns,
)
from transactions_kit import ScriptedCoordinator, TransactionalProducer

from raykafka.log.batch import decode_batch, read_header
from raykafka.log.schema import UNTYPED_SCHEMA
from raykafka.protocol.messages import (
    ApiKey,
    FetchCreditRequest,
    FetchedPartition,
    ListedOffset,
    ListOffsetsPartition,
    ListOffsetsRequest,
)


def values(reply: RecordedReply, answer: int = 0) -> list[bytes]:
    found: list[bytes] = []
    for batch in batches_in(reply, answer):
        found += decode_batch(batch, UNTYPED_SCHEMA).column("value").to_pylist()
    return found


def fetched(reply: RecordedReply, answer: int = 0) -> FetchedPartition:
    part: FetchedPartition = reply.answers[answer].partitions[0]
    assert part.error_code == 0, part.error_message
    return part


def listed(actor: ActorHarness, timestamp: int, isolation: int) -> ListedOffset:
    request = ListOffsetsRequest([ListOffsetsPartition(TOPIC_ID, 0, timestamp)], isolation)
    answer: ListedOffset = actor.request(ApiKey.LIST_OFFSETS, request).answer.partitions[0]
    return answer


def content(path: str) -> bytes:
    return Path(path).read_bytes()


async def filled(actor: ActorHarness, **changes: Any) -> TransactionalProducer:
    """Offsets 0 plain, 1 aborted, 2 its marker, 3 committed, 4 its marker, 5 open."""
    await actor.assign(0, **changes)
    ScriptedCoordinator(actor)
    producer = TransactionalProducer(actor)
    actor.produced(0, b"plain")
    await producer.sent(b"aborted")
    await producer.end(commit=False)
    await producer.sent(b"committed")
    await producer.end(commit=True)
    await producer.sent(b"open")
    return producer


class TestFetch:
    @pytest.mark.parametrize(
        ("isolation", "seen", "next_offset"),
        [
            (0, [b"plain", b"aborted", b"committed", b"open"], 6),
            (1, [b"plain", b"committed"], 5),
        ],
    )
    def test_each_isolation_level_sees_its_own(
        self, tmp_path: Path, isolation: int, seen: list[bytes], next_offset: int
    ) -> None:
        async def scenario() -> None:
            async with ActorHarness(tmp_path) as actor:
                await filled(actor)
                reply = actor.fetch((0, 0), isolation=isolation)
                assert values(reply) == seen
                part = fetched(reply)
                assert (part.high_watermark, part.last_stable_offset) == (6, 5)
                assert part.next_offset == next_offset

        run(scenario())

    def test_a_partition_without_transactions_says_nothing_of_where_to_go_on(
        self, tmp_path: Path
    ) -> None:
        async def scenario() -> None:
            async with ActorHarness(tmp_path) as actor:
                await actor.assign(0)
                actor.produced(0, b"a")
                part = fetched(actor.fetch((0, 0), isolation=1))
                assert (part.next_offset, part.last_stable_offset) == (-1, 1)

        run(scenario())

    def test_projected_batches(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with ActorHarness(tmp_path) as actor:
                await filled(actor)
                reply = actor.fetch((0, 0), isolation=1, columns=["__timestamp", "value"])
                headers = [read_header(batch) for batch in batches_in(reply)]
                assert [header.base_offset for header in headers] == [0, 3]
                assert fetched(reply).next_offset == 5

        run(scenario())

    def test_where_nothing_is_to_be_seen_a_reader_gets_on(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with ActorHarness(tmp_path) as actor:
                await filled(actor)
                reply = actor.fetch((0, 1), isolation=1, max_bytes=1, max_wait_ms=60_000)
                # The aborted batch and its marker are passed over, not the batch behind.
                assert values(reply) == []
                assert fetched(reply).next_offset == 3

        run(scenario())

    def test_a_reader_of_committed_records_waits_for_the_end(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with ActorHarness(tmp_path) as actor:
                producer = await filled(actor)
                committed = actor.fetch((0, 5), isolation=1, max_wait_ms=60_000)
                uncommitted = actor.fetch((0, 6), isolation=0, max_wait_ms=60_000)
                await producer.sent(b"more")
                actor.produced(0, b"plain")
                await turns()
                assert committed.answers == []
                assert values(uncommitted) == [b"more"]
                await producer.end(commit=True)
                assert values(committed) == [b"open", b"more", b"plain"]
                assert fetched(committed).next_offset == 9

        run(scenario())

    def test_what_becomes_stable_counts_for_who_waits_for_more(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with ActorHarness(tmp_path) as actor:
                producer = await filled(actor)
                await producer.sent(b"x" * 5000)
                waiting = actor.fetch((0, 5), isolation=1, min_bytes=5000, max_wait_ms=60_000)
                await producer.end(commit=True)
                assert values(waiting) == [b"open", b"x" * 5000]

        run(scenario())

    def test_an_abort_moves_readers_on_without_a_record(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with ActorHarness(tmp_path) as actor:
                producer = await filled(actor)
                waiting = actor.fetch((0, 5), isolation=1, max_wait_ms=60_000)
                await producer.end(commit=False)
                assert values(waiting) == []
                assert fetched(waiting).next_offset == 7

        run(scenario())

    def test_what_has_just_been_appended_does_not_leak(self, tmp_path: Path) -> None:
        """Append and abort within one turn of the loop, before any reader is woken."""

        async def scenario() -> None:
            async with ActorHarness(tmp_path) as actor:
                producer = await filled(actor)
                await producer.end(commit=True)  # 6
                await producer.sent(b"first")  # 7
                waiting = actor.fetch((0, 7), isolation=1, max_wait_ms=60_000)
                producer.send(b"second")
                assert actor.replica(0).fresh is None
                await producer.end(commit=False)
                assert values(waiting) == []
                assert fetched(waiting).next_offset == 10

        run(scenario())

    def test_mapped_readers(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with ActorHarness(tmp_path, host_id="here") as actor:
                await actor.assign(0)
                ScriptedCoordinator(actor)
                producer = TransactionalProducer(actor)
                large = b"x" * 40_000
                actor.produced(0, large)
                await producer.sent(large)
                await producer.end(commit=False)
                actor.produced(0, large)
                await producer.sent(large)
                await producer.end(commit=True)
                reply = actor.fetch((0, 0), isolation=1, host_id="here")
                part = fetched(reply)
                assert part.mapped is not None
                assert (part.mapped_count, part.next_offset) == (3, 6)
                data = content(part.mapped.path)
                found = [
                    read_header(data[position : position + size]).base_offset
                    for position, size in struct.iter_unpack("<QQ", reply.payloads[0])
                ]
                assert found == [0, 3, 4]

        run(scenario())


class TestPush:
    def test_a_session_follows_what_is_committed(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with ActorHarness(tmp_path) as actor:
                producer = await filled(actor)
                session = actor.fetch((0, 0), isolation=1, push=True, credit_bytes=1 << 20)
                assert values(session) == [b"plain", b"committed"]
                await producer.sent(b"more")
                actor.produced(0, b"plain")
                await turns()
                assert len(session.answers) == 1
                await producer.end(commit=True)
                assert values(session, 1) == [b"open", b"more", b"plain"]
                assert fetched(session, 1).next_offset == 9
                await producer.sent(b"aborted")
                await producer.end(commit=False)
                await turns()
                assert values(session, 2) == []
                assert fetched(session, 2).next_offset == 11
                actor.produced(0, b"plain")
                await turns()
                assert values(session, 3) == [b"plain"]
                assert fetched(session, 3).next_offset == -1
                credit = FetchCreditRequest(session.correlation_id, close=True)
                actor.request(ApiKey.FETCH_CREDIT, credit)

        run(scenario())

    def test_markers_reach_nobody(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with ActorHarness(tmp_path) as actor:
                producer = await filled(actor)
                session = actor.fetch((0, 5), isolation=0, push=True, credit_bytes=1 << 20)
                assert values(session) == [b"open"]
                await producer.end(commit=True)
                await turns()
                assert fetched(session, 1).sizes == []
                assert fetched(session, 1).next_offset == 7

        run(scenario())

    def test_others_have_their_turn_while_much_is_left_out(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with ActorHarness(tmp_path) as actor:
                await actor.assign(0)
                ScriptedCoordinator(actor)
                producer = TransactionalProducer(actor)
                await producer.sent(b"0")
                for number in range(1, 300):
                    producer.send(b"%d" % number)
                await producer.end(commit=False)
                actor.produced(0, b"plain")
                options: dict[str, Any] = {"isolation": 1, "push": True, "credit_bytes": 1 << 20}
                session = actor.fetch((0, 0), max_bytes=1000, **options)
                assert len(session.answers) == 1
                assert 0 < fetched(session).next_offset < 150
                while not batches_in(session, -1):
                    await turns(1)
                assert values(session, -1) == [b"plain"]
                assert len(session.answers) > 2

        run(scenario())

    def test_only_who_can_be_served_is_woken(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with ActorHarness(tmp_path) as actor:
                producer = await filled(actor)
                actor.fetch((0, 5), isolation=1, push=True, credit_bytes=1 << 20)
                [(waiter, offset)] = actor.replica(0).waiters.items()
                woken: list[int] = []
                on_committed = type(waiter).on_committed

                class Watched(type(waiter)):  # type: ignore[misc]
                    __slots__ = ()

                    def on_committed(self, replica: Any) -> None:
                        woken.append(replica.high_watermark)
                        on_committed(self, replica)

                waiter.__class__ = Watched
                assert offset == 5
                for _ in range(3):
                    await producer.sent(b"more")
                assert woken == []
                await producer.end(commit=True)
                assert woken == [10]

        run(scenario())


class TestOffsets:
    def test_the_latest_offset_is_that_of_the_isolation_level(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with ActorHarness(tmp_path) as actor:
                producer = await filled(actor)
                assert listed(actor, -1, 0).offset == 6
                assert listed(actor, -1, 1).offset == 5
                await producer.end(commit=True)
                assert listed(actor, -1, 1).offset == 7

        run(scenario())

    def test_times_behind_the_stable_offset_are_not_found(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with ActorHarness(tmp_path) as actor:
                await actor.assign(0)
                ScriptedCoordinator(actor)
                producer = TransactionalProducer(actor)
                await producer.sent(b"a")
                actor.produced(0, b"b")
                time = 1_600_000_000_000
                assert listed(actor, time, 0).offset == 0
                assert listed(actor, time, 1).offset == -1
                # The marker's own time is that of the clock, years later.
                await producer.end(commit=True)
                assert listed(actor, -3, 1).offset == 0
                assert listed(actor, time + 1, 1).offset == -1

        run(scenario())


def test_followers_show_what_is_stable(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await filled(actor)
            await actor.assign(0, leader_epoch=4, leader_id=1, replicas=(0, 1), isr=(0, 1))
            reply = actor.fetch((0, 0), isolation=1, epoch=4, follower_reads=True)
            assert values(reply) == [b"plain", b"committed"]
            assert fetched(reply).last_stable_offset == 5

    run(scenario())


def test_a_restart_keeps_readers_where_they_were(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await filled(actor)
        async with ActorHarness(tmp_path) as actor:
            await actor.assign(0, leader_epoch=EPOCH + 1, opened_before=True)
            reply = actor.fetch((0, 0), isolation=1, epoch=EPOCH + 1)
            assert values(reply) == [b"plain", b"committed"]
            assert fetched(reply).next_offset == 5

    run(scenario())
