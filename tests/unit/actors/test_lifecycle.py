"""Starting, stopping and sharing a log directory: partition actors and brokers."""

from __future__ import annotations

from pathlib import Path

import pytest
from partition_kit import ActorHarness, RecordedListener, assignment, run, until

from raykafka.actors.broker import BrokerActor
from raykafka.actors.environment import Environment
from raykafka.actors.ports import BrokerSpec, NodeInfo
from raykafka.clock import SystemClock
from raykafka.errors import (
    IllegalStateError,
    InconsistentClusterIdError,
    InvalidConfigError,
    LogDirLockedError,
    NetworkError,
)
from raykafka.model import Endpoint


def test_start_is_idempotent_and_a_slot_has_one_owner(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ActorHarness(tmp_path) as actor:
            assert await actor.actor.start() == await actor.actor.start()
            assert len(actor.listeners) == 1
            with pytest.raises(LogDirLockedError):
                await ActorHarness(tmp_path).actor.start()
            async with ActorHarness(tmp_path, slot=1):
                pass
        async with ActorHarness(tmp_path):
            pass

    run(scenario())


def test_a_crash_gives_the_slot_up_at_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        first = ActorHarness(tmp_path)
        await first.actor.start()
        await first.actor.crash()
        assert first.listeners[0].closed
        async with ActorHarness(tmp_path):
            pass

    run(scenario())


def test_nothing_is_assigned_to_an_actor_that_is_not_running(tmp_path: Path) -> None:
    async def scenario() -> None:
        actor = ActorHarness(tmp_path)
        with pytest.raises(IllegalStateError):
            await actor.actor.assign([assignment(0)], [])
        async with actor:
            pass
        with pytest.raises(IllegalStateError):
            await actor.actor.assign([assignment(0)], [])

    run(scenario())


def test_bad_settings_are_refused_and_leave_the_slot_free(tmp_path: Path) -> None:
    async def scenario() -> None:
        with pytest.raises(InvalidConfigError):
            await ActorHarness(tmp_path, configs={"no.such.key": "1"}).actor.start()
        async with ActorHarness(tmp_path):
            pass

    run(scenario())


def test_the_first_free_port_of_the_range_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def start(self: RecordedListener) -> Endpoint:
        if self.spec.port < 7003:
            raise NetworkError(f"port {self.spec.port} is in use")
        return Endpoint(self.spec.host, self.spec.port)

    monkeypatch.setattr(RecordedListener, "start", start)

    async def scenario() -> None:
        async with ActorHarness(tmp_path, configs={"listener.ports": "7001-7009"}) as actor:
            assert (await actor.actor.start()).endpoint == Endpoint("127.0.0.1", 7003)
        with pytest.raises(NetworkError, match="7001-7002"):
            await ActorHarness(tmp_path, configs={"listener.ports": "7001-7002"}).actor.start()

    run(scenario())


class Controller:
    """Counts heartbeats; answers as it is told."""

    def __init__(self, alive: bool = True) -> None:
        self.alive = alive
        self.down = False
        self.heartbeats: list[tuple[int, int, int]] = []

    async def heartbeat(self, broker_id: int, incarnation: int, usable_bytes: int) -> bool:
        self.heartbeats.append((broker_id, incarnation, usable_bytes))
        if self.down:
            raise NetworkError("the controller is away")
        return self.alive


def broker(path: Path, controller: Controller, broker_id: int = 0, **fields: str) -> BrokerActor:
    configs = {"broker.heartbeat.interval.ms": "10", **fields}
    spec = BrokerSpec(
        "test/broker-0-i4", "cluster", "test", broker_id, 4, NodeInfo("n", "h"), str(path), configs
    )
    return BrokerActor(spec, controller, Environment(SystemClock(), RecordedListener))


def test_a_broker_locks_its_directory_and_sends_heartbeats(tmp_path: Path) -> None:
    async def scenario() -> None:
        controller = Controller()
        first = broker(tmp_path, controller)
        started = await first.start()
        assert started == await first.start()
        assert started.endpoint is None
        await until(lambda: len(controller.heartbeats) >= 3)
        broker_id, incarnation, usable = controller.heartbeats[0]
        assert (broker_id, incarnation) == (0, 4)
        assert usable > 0
        with pytest.raises(LogDirLockedError):
            await broker(tmp_path, controller).start()
        await first.stop()
        again = broker(tmp_path, controller)
        await again.start()
        await again.stop()

    run(scenario())


def test_a_broker_survives_its_controllers_absence_and_ends_when_replaced(tmp_path: Path) -> None:
    async def scenario() -> None:
        controller = Controller()
        controller.down = True
        actor = broker(tmp_path, controller)
        await actor.start()
        await until(lambda: len(controller.heartbeats) >= 2)
        controller.down, controller.alive = False, False
        await actor.wait_fenced()
        await actor.crash()

    run(scenario())


def test_another_clusters_or_brokers_directory_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        first = broker(tmp_path, Controller())
        await first.start()
        await first.stop()
        with pytest.raises(InconsistentClusterIdError):
            await broker(tmp_path, Controller(), broker_id=1).start()

    run(scenario())
