"""What a leader sends its followers, and when: blocked connections and copies that catch up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from partition_kit import EPOCH, TOPIC_ID, ActorHarness, RecordedConnection, RecordedReply, run

from raykafka.actors.replicas import catch_up
from raykafka.errors import (
    NotLeaderOrFollowerError,
    StaleBrokerEpochError,
    UnknownLeaderEpochError,
)
from raykafka.protocol.messages import ApiKey
from raykafka.protocol.replication_messages import ReplicaPositionRequest, ReplicateRequest


async def lead(actor: ActorHarness, *partitions: int, isr: tuple[int, ...] = (0, 1)) -> None:
    await actor.assign(*partitions, replicas=(0, 1), isr=isr, leader_id=0)


def replicate(
    actor: ActorHarness, partition: int, connection: RecordedConnection, incarnation: int = 1
) -> RecordedReply:
    request = ReplicateRequest(TOPIC_ID, partition, EPOCH, 1, incarnation, offset=0)
    return actor.request(ApiKey.REPLICATE, request, connection=connection)


def acknowledge(actor: ActorHarness, stream: RecordedReply, offset: int) -> None:
    position = ReplicaPositionRequest(stream.correlation_id, offset, sent(stream))
    actor.request(ApiKey.REPLICA_POSITION, position, connection=stream.connection)


def sent(stream: RecordedReply) -> int:
    """Bytes of batches that were sent on a stream."""
    return sum(map(len, stream.payloads))


def test_a_batch_that_found_its_connection_full_is_sent_when_there_is_room(tmp_path: Path) -> None:
    """Nothing else is on its way, so no answer of the follower would make the stream go on."""

    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await lead(actor, 0)
            connection = RecordedConnection()
            stream = replicate(actor, 0, connection)
            actor.produce(0, b"first")
            acknowledge(actor, stream, 1)
            connection.block()
            waiting = actor.produce(0, b"second")
            assert actor.produce(0, b"third").answers == []
            before = sent(stream)
            connection.unblock()
            assert sent(stream) > before
            acknowledge(actor, stream, 3)
            assert len(waiting.answers) == 1

    run(scenario())


def test_copies_that_catch_up_share_the_window_of_their_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catch_up, "WINDOW_BYTES", 600_000)

    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await lead(actor, 0, 1, 2, isr=(0,))
            for partition in (0, 1, 2):
                for _ in range(8):
                    actor.produce(partition, bytes(100_000))
            connection = RecordedConnection()
            streams = [replicate(actor, partition, connection) for partition in (0, 1, 2)]
            on_the_way = [sent(stream) for stream in streams]
            assert on_the_way[2] == 0
            assert 600_000 <= sum(on_the_way) <= 600_000 + 300_000
            other = [replicate(actor, 2, RecordedConnection())]
            assert sent(other[0]) >= 600_000, "another connection has a window of its own"
            for _ in range(50):
                for stream in streams[:2]:
                    acknowledge(actor, stream, offset_of(stream))
            assert [offset_of(stream) for stream in streams[:2]] == [8, 8]

    run(scenario())


def test_a_stream_that_ends_gives_its_part_of_the_window_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catch_up, "WINDOW_BYTES", 300_000)

    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await lead(actor, 0, 1, isr=(0,))
            for partition in (0, 1):
                for _ in range(8):
                    actor.produce(partition, bytes(100_000))
            connection = RecordedConnection()
            replicate(actor, 0, connection)
            second = replicate(actor, 1, connection)
            assert sent(second) == 0
            again = replicate(actor, 0, connection)
            assert sent(second) > 0
            assert sent(again) == 0

    run(scenario())


def test_a_follower_that_leaves_takes_no_part_of_the_window_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its log failed, or it holds the partition no more; its connection lives on for others."""
    monkeypatch.setattr(catch_up, "WINDOW_BYTES", 300_000)

    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await lead(actor, 0, 1, isr=(0,))
            for partition in (0, 1):
                for _ in range(8):
                    actor.produce(partition, bytes(100_000))
            connection = RecordedConnection()
            first = replicate(actor, 0, connection)
            second = replicate(actor, 1, connection)
            assert sent(second) == 0
            close = ReplicaPositionRequest(first.correlation_id, -1, 0, close=True)
            actor.request(ApiKey.REPLICA_POSITION, close, connection=connection)
            assert sent(second) > 0
            assert actor.replica(0).streams == {}

    run(scenario())


def test_a_leader_that_would_send_damage_for_ever_gives_way(tmp_path: Path) -> None:
    """It wrote the batch itself and saw no reason to look at it again; followers refuse it."""

    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await lead(actor, 0)
            actor.produce(0, b"a" * 100)
            [path] = (tmp_path / "t-0").glob("*.arrow")
            content = path.read_bytes()
            path.write_bytes(content.replace(b"a" * 100, b"a" * 99 + b"b"))
            stream = replicate(actor, 0, RecordedConnection())
            assert sent(stream) == 0
            assert stream.answers[-1].error_code
            channel = actor.actor._parts.channel  # type: ignore[union-attr]
            assert actor.replica(0) in channel._failed
            assert actor.replica(0).log.damaged == [(0, 1)]
            late = actor.produce(0, b"late", acks=1)
            assert isinstance(late.error, NotLeaderOrFollowerError), "another one may lead by now"

    run(scenario())


def offset_of(stream: RecordedReply) -> int:
    """Where the batches end that were sent on a stream."""
    return sum(len(answer.sizes) for answer in stream.answers)


def test_what_is_in_sync_waits_for_no_window(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catch_up, "WINDOW_BYTES", 300_000)

    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await lead(actor, 0, isr=(0,))
            await lead(actor, 1, isr=(0, 1))
            for _ in range(8):
                actor.produce(0, bytes(100_000))
            connection = RecordedConnection()
            replicate(actor, 0, connection)
            live: Any = replicate(actor, 1, connection)
            answered = actor.produce(1, b"now")
            acknowledge(actor, live, 1)
            assert len(answered.answers) == 1

    run(scenario())


def test_what_a_dead_process_has_sent_comes_late_and_takes_nothing_away(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await lead(actor, 0)
            stream = replicate(actor, 0, RecordedConnection(), incarnation=2)
            late = replicate(actor, 0, RecordedConnection(), incarnation=1)
            assert isinstance(late.error, StaleBrokerEpochError)
            actor.produce(0, b"a")
            assert sent(stream)

    run(scenario())


def test_a_stream_that_another_one_takes_the_place_of_hears_so(tmp_path: Path) -> None:
    """The other request may be the older one, and its connection about to end."""

    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await lead(actor, 0)
            stream = replicate(actor, 0, RecordedConnection())
            replicate(actor, 0, RecordedConnection()).connection.close()
            assert stream.answers[-1].error_code == UnknownLeaderEpochError.code

    run(scenario())


def test_damage_behind_the_beginning_of_a_stream_is_found_when_it_is_asked_for_again(
    tmp_path: Path,
) -> None:
    """Followers refuse it; what is read from the log is verified once on a healthy disk."""

    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            await lead(actor, 0)
            for letter in (b"a", b"b"):
                actor.produce(0, letter * 300_000)
            [path] = (tmp_path / "t-0").glob("*.arrow")
            content = path.read_bytes()
            path.write_bytes(content.replace(b"b" * 300_000, b"b" * 299_999 + b"c"))
            stream = replicate(actor, 0, RecordedConnection())
            acknowledge(actor, stream, 1)
            assert sent(stream) > 600_000, "two frames"
            again = actor.request(
                ApiKey.REPLICATE,
                ReplicateRequest(TOPIC_ID, 0, EPOCH, 1, 1, offset=1, last_epoch=EPOCH),
                connection=RecordedConnection(),
            )
            assert sent(again) == 0
            assert again.answers[-1].error_code
            channel = actor.actor._parts.channel  # type: ignore[union-attr]
            assert actor.replica(0) in channel._failed

    run(scenario())
