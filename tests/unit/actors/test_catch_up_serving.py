"""What a leader gives a follower that is far behind, and when it tells it to catch up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from partition_kit import (
    EPOCH,
    TOPIC_ID,
    ActorHarness,
    RecordedConnection,
    RecordedReply,
    run,
)

from raykafka.actors.lines import FileRange
from raykafka.errors import (
    FencedLeaderEpochError,
    NotLeaderOrFollowerError,
    StaleBrokerEpochError,
)
from raykafka.protocol.messages import ApiKey
from raykafka.protocol.replication_messages import CatchUpRequest, ReplicateRequest


async def lead(actor: ActorHarness, *partitions: int, isr: tuple[int, ...] = (0,)) -> None:
    await actor.assign(*partitions, replicas=(0, 1), isr=isr, leader_id=0)


def replicate(actor: ActorHarness, *, offset: int = 0, credit: int = 1000) -> RecordedReply:
    request = ReplicateRequest(
        TOPIC_ID, 0, EPOCH, 1, 1, offset, EPOCH if offset else -1, credit_bytes=credit
    )
    return actor.request(ApiKey.REPLICATE, request, connection=RecordedConnection())


def catch_up(actor: ActorHarness, offset: int, max_bytes: int = 1000, **changes: Any) -> Any:
    fields = {"topic_id": TOPIC_ID, "partition": 0, "leader_epoch": EPOCH, **changes}
    request = CatchUpRequest(
        **{"replica_id": 1, "incarnation": 1, "offset": offset, "max_bytes": max_bytes, **fields}
    )
    return actor.request(ApiKey.CATCH_UP, request)


def test_who_lacks_more_than_its_credit_is_sent_away_to_catch_up(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await lead(actor, 0)
            for _ in range(10):
                actor.produce(0, bytes(500))
            far = replicate(actor, credit=1000)
            assert far.answer.far_behind
            assert far.payloads == [b""]
            assert not actor.replica(0).streams
            near = replicate(actor, credit=1 << 20)
            assert [len(answer.sizes) for answer in near.answers] == [10]

    run(scenario())


@pytest.mark.parametrize("credit", [3000, 1900])
def test_the_end_of_a_segment_makes_nobody_far_behind(tmp_path: Path, credit: int) -> None:
    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            small = {"segment.bytes": "2000"}
            await actor.assign(0, replicas=(0, 1), isr=(0,), leader_id=0, configs=small)
            for _ in range(4):
                actor.produce(0, bytes(100))
            log = actor.replica(0).log
            first = log.stretch(0, max_bytes=1 << 20, up_to=4)
            assert 0 < first.next_offset < 4
            batches = [log.read(offset, max_bytes=1, up_to=4)[0] for offset in range(4)]
            lacking = sum(len(batch) for batch in batches)
            stream = replicate(actor, credit=credit)
            assert stream.answers[0].far_behind == (lacking > credit)

    run(scenario())


def test_what_stands_before_known_damage_is_sent(tmp_path: Path) -> None:
    """Another follower has met it before."""

    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await lead(actor, 0)
            for _ in range(2):
                actor.produce(0, bytes(500))
            actor.replica(0).log._segments.view.mark_damaged(1, 2)
            sent, refused = replicate(actor, credit=1 << 20).answers
            assert len(sent.sizes) == 1
            assert refused.error_code

    run(scenario())


def test_who_is_in_sync_is_not_sent_away(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await lead(actor, 0, isr=(0, 1))
            for _ in range(10):
                actor.produce(0, bytes(500), acks=1)
            stream = replicate(actor, credit=1000)
            assert stream.answers[0].sizes

    run(scenario())


def test_batches_come_in_answers_of_a_bounded_size_to_the_end(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await lead(actor, 0)
            for number in range(10):
                actor.produce(0, b"%d" % number * 300)
            replicate(actor)
            offset, payload = 0, b""
            while True:
                reply = catch_up(actor, offset, max_bytes=1500)
                answer = reply.answer
                assert answer.high_watermark == 10
                if not answer.sizes:
                    break
                assert sum(answer.sizes) == len(reply.payloads[0]) <= 1500
                payload += reply.payloads[0]
                assert answer.next_offset == offset + len(answer.sizes)
                offset = answer.next_offset
            assert offset == 10
            assert all(b"%d" % number * 300 in payload for number in range(10))

    run(scenario())


def test_only_what_is_committed_is_given(tmp_path: Path) -> None:
    """What is not may be taken back while a file is sent."""

    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await actor.assign(0, replicas=(0, 1, 2), isr=(0, 2), leader_id=0)
            for _ in range(5):
                actor.produce(0, bytes(500), acks=1)
            stream = replicate(actor, credit=1000)
            assert not any(answer.far_behind for answer in stream.answers)
            assert catch_up(actor, 0).answer.sizes == []

    run(scenario())


def test_where_files_can_be_sent_one_is_named(tmp_path: Path) -> None:
    class FileReply(RecordedReply):
        file: FileRange | None = None

        def send_file(self, response: Any, file: FileRange) -> None:
            self(response)
            self.file = file

    def read(file: FileRange) -> bytes:
        return Path(file.path).read_bytes()[file.position : file.position + file.size]

    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await lead(actor, 0)
            for number in range(4):
                actor.produce(0, b"%d" % number * 300)
            replicate(actor)
            reply = FileReply(RecordedConnection(), 1)
            handler = actor.listeners[-1].handlers[ApiKey.CATCH_UP]
            handler(CatchUpRequest(TOPIC_ID, 0, EPOCH, 1, 1, 1, 10_000), memoryview(b""), reply)
            file, sizes = reply.file, reply.answer.sizes
            assert file is not None
            assert len(sizes) == 3
            assert file.size == sum(sizes)
            data = read(file)
            assert b"0" * 300 not in data
            assert all(b"%d" % number * 300 in data for number in (1, 2, 3))

    run(scenario())


def test_who_has_opened_no_stream_or_has_a_successor_gets_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await lead(actor, 0)
            actor.produce(0, bytes(500))
            assert isinstance(catch_up(actor, 0).error, StaleBrokerEpochError)
            replicate(actor)
            assert catch_up(actor, 0).answer.sizes
            assert isinstance(catch_up(actor, 0, incarnation=0).error, StaleBrokerEpochError)
            assert isinstance(catch_up(actor, 0, replica_id=7).error, StaleBrokerEpochError)

    run(scenario())


def test_an_older_epoch_and_another_partition_are_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await lead(actor, 0)
            actor.produce(0, bytes(500))
            replicate(actor)
            old = catch_up(actor, 0, leader_epoch=EPOCH - 1)
            assert isinstance(old.error, FencedLeaderEpochError)
            assert isinstance(catch_up(actor, 0, partition=5).error, NotLeaderOrFollowerError)

    run(scenario())


def test_what_is_kept_no_more_has_to_be_asked_for_on_a_stream(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await lead(actor, 0)
            for _ in range(4):
                actor.produce(0, bytes(500))
            replicate(actor)
            log = actor.replica(0).log
            log.advance_log_start(2)
            answer = catch_up(actor, 0).answer
            assert (answer.sizes, answer.log_start_offset) == ([], 2)
            assert replicate(actor).answer.restart_at == 2

    run(scenario())


def test_a_leader_that_may_not_send_more_yet_says_when_it_may(tmp_path: Path) -> None:
    """The follower must not take it for one that hangs."""

    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await lead(actor, 0)
            for _ in range(4):
                actor.produce(0, bytes(500))
            actor.replica(0).outlets.throttle.rate = 10_000
            replicate(actor)
            first = catch_up(actor, 0).answer
            assert first.sizes
            assert first.throttle_ms == 0
            wait_ms = sum(first.sizes) * 1000 // 10_000
            second = catch_up(actor, first.next_offset).answer
            assert second.sizes == []
            assert wait_ms - 50 <= second.throttle_ms <= wait_ms + 1
            actor.replica(0).outlets.throttle.rate = -1
            assert catch_up(actor, first.next_offset).answer.sizes

    run(scenario())
