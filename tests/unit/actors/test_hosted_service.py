"""Coordinators on the log of a partition that is led here: durable answers, replay, compaction."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from counter_kind import Add, counters
from partition_kit import ActorHarness, run, turns, until

from raykafka.actors.coordinating import compaction
from raykafka.actors.coordinating.service import HostedService
from raykafka.errors import (
    CoordinatorNotAvailableError,
    DiskFullError,
    InvalidRequestError,
    InvalidTopicError,
    NotCoordinatorError,
)
from raykafka.storage.log_writer import LogWriter


@pytest.fixture(autouse=True)
def hosts_counters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raykafka.actors.partition.service_kinds", counters)


def service_of(actor: ActorHarness, partition: int = 0) -> HostedService:
    parts = actor.actor._parts
    assert parts is not None
    return parts.coordinators.find("t", partition)


async def loaded(actor: ActorHarness) -> HostedService:
    service = service_of(actor)
    await until(lambda: service.is_active)
    return service


def test_answers_survive_a_restart(tmp_path: Path) -> None:
    async def check() -> None:
        for expected in (3, 6):
            async with ActorHarness(tmp_path) as actor:
                await actor.assign(0, opened_before=expected > 3)
                service = await loaded(actor)
                assert await service.submit(Add("a", 1)) == expected - 2
                assert await service.submit(Add("a", 2)) == expected
                with pytest.raises(InvalidRequestError):
                    await service.submit(Add("a", -100))
                assert service.machine.totals == {"a": expected}

    run(check())


def test_commands_of_one_turn_share_a_batch(tmp_path: Path) -> None:
    async def check() -> None:
        async with ActorHarness(tmp_path) as actor:
            await actor.assign(0)
            service = await loaded(actor)
            answers = await asyncio.gather(*(service.submit(Add("a", 1)) for _ in range(100)))
            assert answers == list(range(1, 101)), "each sees what those before it have done"
            log = actor.replica(0).log
            assert log.log_end_offset == 100
            assert len(log.read(0, max_bytes=1 << 20, up_to=100)) == 1

    run(check())


def test_another_leader_ends_the_service(tmp_path: Path) -> None:
    async def check() -> None:
        async with ActorHarness(tmp_path) as actor:
            await actor.assign(0)
            service = await loaded(actor)
            waiting = asyncio.ensure_future(service.submit(Add("a", 1)))
            await asyncio.sleep(0)
            await actor.assign(0, leader_epoch=4, leader_id=1, replicas=(0, 1), isr=(0, 1))
            with pytest.raises(NotCoordinatorError):
                await service.submit(Add("a", 1))
            with pytest.raises(NotCoordinatorError):
                service_of(actor)
            await asyncio.wait([waiting])
            await actor.assign(0, leader_epoch=5)
            assert (await loaded(actor)) is not service

    run(check())


def test_too_few_copies_in_sync_change_nothing(tmp_path: Path) -> None:
    async def check() -> None:
        async with ActorHarness(tmp_path) as actor:
            await actor.assign(0, configs={"min.insync.replicas": "2"}, replicas=(0, 1))
            service = await loaded(actor)
            with pytest.raises(CoordinatorNotAvailableError):
                await service.submit(Add("a", 1))
            assert service.machine.totals == {}

    run(check())


def test_what_could_not_be_written_has_not_happened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def check() -> None:
        async with ActorHarness(tmp_path) as actor:
            await actor.assign(0)
            service = await loaded(actor)
            await service.submit(Add("a", 1))

            def full(*_: object) -> int:
                raise DiskFullError("no room")

            with monkeypatch.context() as disk:
                disk.setattr(LogWriter, "write", full)
                with pytest.raises(CoordinatorNotAvailableError):
                    await service.submit(Add("a", 5))
            await until(lambda: service.is_active)
            assert await service.submit(Add("a", 0)) == 1

    run(check())


def test_what_nobody_can_write_is_answered_and_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def check() -> None:
        async with ActorHarness(tmp_path) as actor:
            await actor.assign(0)
            service = await loaded(actor)
            await service.submit(Add("a", 1))

            def too_large(*_: object) -> None:
                raise OverflowError("a batch is never so large")

            with monkeypatch.context() as patch:
                patch.setattr("raykafka.actors.coordinating.service.encode_records", too_large)
                waiting = asyncio.ensure_future(service.submit(Add("a", 5)))
                await until(waiting.done)
                assert isinstance(waiting.exception(), CoordinatorNotAvailableError)
            await until(lambda: service.is_active)
            assert await service.submit(Add("a", 0)) == 1

    run(check())


def test_a_refusal_waits_for_what_it_rests_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def check() -> None:
        async with ActorHarness(tmp_path) as actor:
            await actor.assign(0)
            service = await loaded(actor)
            await service.submit(Add("a", 1))

            def full(*_: object) -> int:
                raise DiskFullError("no room")

            with monkeypatch.context() as disk:
                disk.setattr(LogWriter, "write", full)
                answers = await asyncio.gather(
                    service.submit(Add("a", -1)),
                    service.submit(Add("a", -1)),  # would be refused, had the first one happened
                    return_exceptions=True,
                )
            assert [type(each) for each in answers] == [CoordinatorNotAvailableError] * 2
            await until(lambda: service.is_active)
            assert await service.submit(Add("a", -1)) == 0

    run(check())


def test_a_long_log_is_replaced_by_the_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "SLICE_RECORDS", 3)

    async def check() -> None:
        async with ActorHarness(tmp_path) as actor:
            await actor.assign(0)
            service = await loaded(actor)
            service._compaction._min_records = 50
            for number in range(60):
                await service.submit(Add(f"k{number % 10}", 1))
            await service.submit(Add("k3", -6))
            log = actor.replica(0).log
            await service.tick()
            for number in range(5):  # while slices are being written
                await service.submit(Add(f"k{number}", 100))
            await until(lambda: log.log_start_offset > 0)
            expected = dict(service.machine.totals)
            assert log.log_end_offset - log.log_start_offset <= 25
            assert not service._compaction.is_running
        async with ActorHarness(tmp_path) as actor:
            await actor.assign(0, opened_before=True)
            assert (await loaded(actor)).machine.totals == expected
            await turns()

    run(check())


def test_what_changes_during_a_rewriting_is_committed_before_the_log_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "SLICE_RECORDS", 3)
    on_replied = HostedService.on_replied

    def full(*_: object) -> int:
        raise DiskFullError("no room")

    async def check() -> None:
        async with ActorHarness(tmp_path) as actor:
            await actor.assign(0, configs={"fsync": "batch"})
            service = await loaded(actor)
            for name in ("a", "b", "c", "d"):
                await service.submit(Add(name, 5))
            service._compaction._min_records = 4
            late: list[asyncio.Task[object]] = []

            with monkeypatch.context() as patch:

                def replied(service: HostedService, *arguments: Any) -> None:
                    if not late:  # the last record is left out, since its key is being changed
                        late.append(asyncio.ensure_future(service.submit(Add("d", 1))))
                        patch.setattr(LogWriter, "write", full)
                    on_replied(service, *arguments)

                patch.setattr(HostedService, "on_replied", replied)
                await service.tick()
                await until(lambda: bool(late) and late[0].done())
            assert isinstance(late[0].exception(), CoordinatorNotAvailableError)
            await until(lambda: service.is_active)
            assert service.machine.totals == dict.fromkeys("abcd", 5)

    run(check())


def test_a_rewriting_ends_when_the_machine_is_rebuilt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "SLICE_RECORDS", 2)
    write, written = LogWriter.write, 0

    def full_once(*arguments: Any) -> int:
        nonlocal written
        written += 1
        if written == 2:  # the first one is of the rewriting that begins with the new machine
            raise DiskFullError("no room")
        return write(*arguments)

    async def check() -> None:
        async with ActorHarness(tmp_path) as actor:
            await actor.assign(0, configs={"fsync": "batch"})
            service = await loaded(actor)
            names = [f"k{number}" for number in range(20)]
            await asyncio.gather(*(service.submit(Add(name, 5)) for name in names))
            service._compaction._min_records = 20

            def on_loaded(service: HostedService) -> None:
                service.spawn(service._compact())
                monkeypatch.setattr(LogWriter, "write", full_once)

            service._on_loaded = on_loaded
            await service.tick()
            await until(lambda: service._compaction.is_running)
            service._reload()
            await until(lambda: written > 1 and not service.tasks)
        async with ActorHarness(tmp_path) as actor:
            await actor.assign(0, opened_before=True)
            assert (await loaded(actor)).machine.totals == dict.fromkeys(names, 5)

    run(check())


def test_clients_do_not_write_to_the_topics_of_coordinators(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raykafka.actors.replicas.replica.INTERNAL_TOPICS", {"t"})

    async def check() -> None:
        async with ActorHarness(tmp_path) as actor:
            await actor.assign(0)
            service = await loaded(actor)
            with pytest.raises(InvalidTopicError):
                _ = actor.produce(0, b"x").answer
            assert await service.submit(Add("a", 1)) == 1

    run(check())
