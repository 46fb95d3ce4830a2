"""The controller on plain objects: it starts what should run, replaces what dies, and recovers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from fake_actors import FakePartitionActor, World
from shell_kit import LoopbackListener, until

from raykafka import errors
from raykafka.actors.controller import ControllerActor
from raykafka.actors.controlling import phantoms
from raykafka.actors.controlling.keeper import Patience
from raykafka.actors.environment import Environment
from raykafka.actors.ports import ControllerSpec, NodeInfo
from raykafka.clock import Clock, SystemClock
from raykafka.internal_topics import CONSUMER_OFFSETS
from raykafka.log.schema import deserialize_schema, serialize_schema
from raykafka.protocol import group_messages, messages, operations_messages
from raykafka.protocol.messages import ApiKey
from raykafka.protocol.replication_messages import ActorHeartbeatRequest
from raykafka.testing.manual_clock import ManualClock

NODE = NodeInfo("node-1", "10.0.0.1", cores=2)
PATIENCE = Patience(find_s=0.3, spawn_s=5, start_s=5, stop_s=0.5, dead_s=0.1, check_s=0.02)


class Harness:
    """One controller at a time on a directory, and a world that outlives it."""

    def __init__(
        self,
        data_dir: Path,
        world: World | None = None,
        configs: Mapping[str, str] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.data_dir = data_dir
        self.world = world or World(NODE)
        self.configs = dict(configs or {})
        self.clock = clock or SystemClock()
        self.listener: LoopbackListener | None = None
        self.controller = self.new_controller()

    def new_controller(self, lock_timeout_s: float = 10.0) -> ControllerActor:
        def make_listener(spec: Any, handlers: Any) -> LoopbackListener:
            self.listener = LoopbackListener(spec, handlers)
            return self.listener

        spec = ControllerSpec(
            "test/controller", "test", str(self.data_dir), "127.0.0.1", configs=self.configs
        )
        return ControllerActor(
            spec,
            lambda port: self.world,
            Environment(self.clock, make_listener),
            patience=PATIENCE,
            lock_timeout_s=lock_timeout_s,
        )

    async def start(self) -> None:
        await self.controller.start()
        await until(lambda: self.image.live_brokers())
        await until(lambda: self.image.actors and all(a.alive for a in self.image.actors.values()))

    async def restart(self) -> None:
        """Kill the controller and let another take over."""
        await self.controller.crash()
        self.controller = self.new_controller()
        await self.controller.start()

    @property
    def image(self) -> Any:
        assert self.controller._parts is not None
        return self.controller._parts.shell.view

    async def ask(self, api_key: ApiKey, request: Any) -> Any:
        assert self.listener is not None
        return await self.listener.ask(api_key, request)

    async def look_at_nodes(self) -> None:
        """Return when the controller has looked at the nodes as they are now, and acted on it."""
        seen = self.world.looks
        await until(lambda: self.world.looks >= seen + 3)

    async def beat(self) -> None:
        """Renew the leases of all partition actors."""
        for actor in self.world.partition_actors():
            spec = actor.spec
            request = ActorHeartbeatRequest(spec.broker_id, spec.slot, spec.incarnation)
            await self.ask(ApiKey.ACTOR_HEARTBEAT, request)

    async def create(self, name: str, partitions: int = 1, **fields: Any) -> messages.TopicResult:
        topic = messages.NewTopic(name, partitions, **fields)
        answer = await self.ask(ApiKey.CREATE_TOPICS, messages.CreateTopicsRequest([topic]))
        result: messages.TopicResult = answer.topics[0]
        return result

    async def delete(self, name: str) -> messages.TopicResult:
        answer = await self.ask(ApiKey.DELETE_TOPICS, messages.DeleteTopicsRequest([name]))
        result: messages.TopicResult = answer.topics[0]
        return result

    async def topic(self, name: str) -> messages.TopicInfo:
        answer = await self.ask(ApiKey.METADATA, messages.MetadataRequest([name]))
        info: messages.TopicInfo = answer.topics[0]
        return info

    async def partitions(self, name: str) -> list[messages.PartitionInfo]:
        return (await self.topic(name)).partitions

    def is_online(self, name: str) -> bool:
        topic = self.image.topic(name)
        return topic is not None and all(
            partition.online and self.image.leader_actor(partition)
            for partition in topic.partitions
        )


Scenario = Callable[[Harness], Awaitable[None]]


def play(harness: Harness, scenario: Scenario) -> None:
    async def run() -> None:
        await harness.start()
        try:
            await scenario(harness)
        finally:
            await harness.controller.crash()

    asyncio.run(run())


def test_a_cluster_starts_with_one_broker_and_an_actor_per_core(tmp_path: Path) -> None:
    async def scenario(h: Harness) -> None:
        assert [broker.name for broker in h.world.brokers()] == ["test/broker-0-i1"]
        names = [actor.name for actor in h.world.partition_actors()]
        assert names == ["test/partitions-0-0-i1", "test/partitions-0-1-i1"]
        specs = [actor.spec for actor in h.world.partition_actors()]
        assert {spec.log_dir for spec in specs} == {f"{tmp_path}/broker-0"}
        access = await h.controller.bootstrap()
        assert {spec.secret for spec in specs} == {access.secret}
        assert len(access.secret) == 32
        secret_file = tmp_path / "controller" / "secret"
        assert secret_file.stat().st_mode & 0o777 == 0o600
        answer = await h.ask(ApiKey.METADATA, messages.MetadataRequest())
        assert (answer.cluster_id, answer.topics) == (access.cluster_id, [])
        assert answer.brokers == [messages.BrokerInfo(0, "10.0.0.1", "", True)]

    play(Harness(tmp_path), scenario)


def test_a_created_topic_is_writable_when_the_answer_comes(tmp_path: Path) -> None:
    async def scenario(h: Harness) -> None:
        result = await h.create("t", 3, configs={"retention.ms": "5"})
        assert (result.error_code, result.num_partitions) == (0, 3)
        info = await h.topic("t")
        assert info.topic_id == result.topic_id
        assert [(p.leader_id, p.error_code) for p in info.partitions] == [(0, 0)] * 3
        for slot, actor in enumerate(h.world.partition_actors()):
            mine = [p for p in info.partitions if p.port == 10_000 + h.world.pid(actor)]
            assert {p.partition for p in mine} == {r.partition for r in actor.replicas}
            assert len(mine) == 2 - slot
            for assignment in actor.replicas.values():
                assert assignment.configs == {"retention.ms": "5"}
                assert not assignment.opened_before

    play(Harness(tmp_path), scenario)


def test_a_thousand_partitions_are_assigned_in_a_few_calls(tmp_path: Path) -> None:
    async def scenario(h: Harness) -> None:
        result = await h.create("t", 1000)
        assert result.error_code == 0
        assert h.is_online("t")
        for actor in h.world.partition_actors():
            assert actor.calls == [(500, 0)]

    play(Harness(tmp_path), scenario)


def test_creating_waits_for_a_cluster_that_is_just_starting(tmp_path: Path) -> None:
    async def run() -> None:
        h = Harness(tmp_path)
        h.world.refusals = 2
        await h.controller.start()
        assert (await h.create("t")).error_code == 0
        assert h.is_online("t")
        await h.controller.crash()

    asyncio.run(run())


def test_a_dead_partition_actor_is_replaced_in_a_new_epoch(tmp_path: Path) -> None:
    async def scenario(h: Harness) -> None:
        await h.create("t", 2)
        before = await h.partitions("t")
        victim, other = h.world.partition_actors()
        victim.hang()
        victim.die()
        await until(lambda: not h.is_online("t"))
        lost, kept = await h.partitions("t")
        assert (lost.leader_id, lost.port, lost.error_code) == (-1, 0, 5)
        assert kept == before[1]
        await until(lambda: h.is_online("t"))
        back, kept = await h.partitions("t")
        assert back.leader_epoch > before[0].leader_epoch
        assert back.port not in (0, before[0].port)
        assert kept == before[1]
        successor = h.world.actors["test/partitions-0-0-i2"]
        assert isinstance(successor, FakePartitionActor)
        (assignment,) = successor.replicas.values()
        assert assignment.opened_before, "its data must be there"
        assert other.calls == [(1, 0)], "the others do not notice"

    play(Harness(tmp_path), scenario)


def test_what_dies_with_its_broker_is_replaced_after_it(tmp_path: Path) -> None:
    """The broker's successor judges the log directory: it may be another one."""

    async def scenario(h: Harness) -> None:
        await h.create("t", 2)
        (broker,) = h.world.brokers()
        victims = h.world.partition_actors()
        broker.survives_kill = True  # its successor has to wait for the lock
        broker.hang()
        for victim in victims:
            victim.die()
        await until(lambda: not h.is_online("t"))
        await asyncio.sleep(0.1)
        assert h.world.partition_actors() == []
        broker.responsive.set()
        broker.die()
        await until(lambda: h.is_online("t"))
        assert h.image.brokers[0].incarnation == 2
        assert {actor.incarnation for actor in h.image.actors.values()} == {2}

    play(Harness(tmp_path), scenario)


def test_a_broker_that_does_not_come_back_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    async def scenario(h: Harness) -> None:
        await h.create("t", 2)
        (broker,) = h.world.brokers()
        broker.hang()
        for victim in h.world.partition_actors():
            victim.die()
        await until(lambda: not h.is_online("t"))
        await until(lambda: h.is_online("t"))

    play(Harness(tmp_path), scenario)


def test_an_actor_that_hangs_is_killed_and_replaced(tmp_path: Path) -> None:
    configs = {"broker.session.timeout.ms": "300", "broker.heartbeat.interval.ms": "50"}

    async def scenario(h: Harness) -> None:
        # The leases are renewed: the partition actor does not do what it is told.
        beat = asyncio.ensure_future(keep_beating(h))
        await h.create("t", 2)
        victim = h.world.partition_actors()[0]
        victim.hang()
        await until(lambda: victim.killed)
        await until(lambda: "test/partitions-0-0-i2" in h.world.actors)
        await until(lambda: h.is_online("t"))
        assert (await h.create("u", 2)).error_code == 0
        beat.cancel()

    play(Harness(tmp_path, configs=configs), scenario)


async def keep_beating(h: Harness) -> None:
    while True:
        for broker in h.world.brokers():
            await h.controller.heartbeat(0, broker.spec.incarnation, 1)
        await h.beat()
        await asyncio.sleep(0.02)


def test_one_hanging_actor_holds_up_nobody_else(tmp_path: Path) -> None:
    async def scenario(h: Harness) -> None:
        await h.create("t", 2)
        h.world.partition_actors()[0].hang()
        creating = asyncio.ensure_future(h.create("u", 2))
        await until(lambda: h.image.topic("u") and h.image.topic("u").partitions[1].online)
        described = await h.ask(ApiKey.DESCRIBE_CLUSTER, messages.DescribeClusterRequest())
        assert (described.partitions, described.offline_partitions) == (4, 1)
        assert not creating.done()
        h.world.partition_actors()[0].responsive.set()
        assert (await creating).error_code == 0

    play(Harness(tmp_path), scenario)


def test_a_successor_waits_for_the_lock_of_one_that_does_not_die(tmp_path: Path) -> None:
    async def scenario(h: Harness) -> None:
        await h.create("t", 1)
        victim = h.world.partition_actors()[0]
        victim.survives_kill = True
        victim.dead.set()  # Ray says so, wrongly: the process goes on and holds its lock
        await until(lambda: "test/partitions-0-0-i2" in h.world.actors)
        assert not h.is_online("t")
        victim.die()
        await until(lambda: h.is_online("t"))

    play(Harness(tmp_path), scenario)


def test_a_silent_broker_is_fenced_and_replaced(tmp_path: Path) -> None:
    clock = ManualClock()

    async def scenario(h: Harness) -> None:
        await h.create("t", 2)
        (broker,) = h.world.brokers()
        for _ in range(2):
            clock.advance(1800)
            assert await h.controller.heartbeat(0, 1, 123)
            await h.beat()
        clock.advance(1800)
        await h.beat()
        await asyncio.sleep(0.1)
        assert not broker.killed, "its lease was renewed"
        broker.survives_kill = True
        clock.advance(300)
        await until(lambda: broker.killed)
        await until(lambda: not h.image.live_brokers())
        answer = await h.ask(ApiKey.METADATA, messages.MetadataRequest())
        assert [info.alive for info in answer.brokers] == [False]
        assert h.is_online("t"), "its partition actors serve on"
        assert not await h.controller.heartbeat(0, 1, 123), "it must exit"
        broker.die()
        await until(lambda: h.image.live_brokers())
        assert h.image.brokers[0].incarnation == 2
        assert await h.controller.heartbeat(0, 2, 123)
        assert len(h.world.partition_actors()) == 2

    play(Harness(tmp_path, clock=clock), scenario)


def test_a_silent_partition_actor_loses_what_it_leads_and_is_replaced(tmp_path: Path) -> None:
    clock = ManualClock()

    async def scenario(h: Harness) -> None:
        await h.create("t", 2)
        silent, other = h.world.partition_actors()
        silent.survives_kill = True
        clock.advance(1900)
        for actor in (other,):
            request = ActorHeartbeatRequest(0, actor.spec.slot, 1)
            assert not (await h.ask(ApiKey.ACTOR_HEARTBEAT, request)).replaced
        assert await h.controller.heartbeat(0, 1, 123)
        clock.advance(200)
        await until(lambda: silent.killed)
        assert not other.killed
        late = ActorHeartbeatRequest(0, silent.spec.slot, 1)
        await until(lambda: h.image.actors[(0, silent.spec.slot)].incarnation == 2)
        assert (await h.ask(ApiKey.ACTOR_HEARTBEAT, late)).replaced, "it must exit"
        silent.die()
        await until(lambda: h.is_online("t"))

    play(Harness(tmp_path, clock=clock), scenario)


def test_an_actor_that_was_given_up_gets_no_lease_even_if_nobody_takes_its_slot(
    tmp_path: Path,
) -> None:
    """Ray may hold a node to be dead whose processes live on, and serve who finds them."""

    async def scenario(h: Harness) -> None:
        zombie = h.world.partition_actors()[0]
        request = ActorHeartbeatRequest(0, zombie.spec.slot, 1)
        assert (await h.ask(ApiKey.ACTOR_HEARTBEAT, request)).lease_ms > 0
        h.world.node_list = []
        await asyncio.sleep(0.05)
        zombie.survives_kill = True
        zombie.dead.set()
        await until(lambda: not h.image.actors[(0, zombie.spec.slot)].alive)
        answer = await h.ask(ApiKey.ACTOR_HEARTBEAT, request)
        assert (answer.replaced, answer.lease_ms) == (True, 0)
        await h.restart()
        answer = await h.ask(ApiKey.ACTOR_HEARTBEAT, request)
        assert (answer.replaced, answer.lease_ms) == (False, 0), "it may be adopted yet"

    play(Harness(tmp_path), scenario)


def test_a_killed_controller_is_followed_by_one_that_adopts(tmp_path: Path) -> None:
    async def scenario(h: Harness) -> None:
        await h.create("t", 4, configs={"retention.ms": "5"})
        before = await h.topic("t")
        access = await h.controller.bootstrap()
        spawned = list(h.world.spawned)
        offset = (await h.ask(ApiKey.METADATA, messages.MetadataRequest())).metadata_offset
        await h.restart()
        assert await h.controller.heartbeat(0, 1, 1), "the broker is not sent away"
        assert not await h.controller.heartbeat(0, 0, 1)
        assert await h.controller.bootstrap() == access, "same address, same secret"
        assert await h.topic("t") == before, "nothing moved, no new epochs"
        await until(lambda: all(len(a.calls) == 2 for a in h.world.partition_actors()))
        assert h.world.spawned == spawned
        answer = await h.ask(ApiKey.METADATA, messages.MetadataRequest())
        assert answer.metadata_offset > offset
        described = await h.ask(ApiKey.DESCRIBE_CLUSTER, messages.DescribeClusterRequest())
        assert described.controller_epoch == 2
        assert {actor.state for actor in described.actors} == {"alive"}

    play(Harness(tmp_path), scenario)


def test_what_is_not_heard_of_after_a_controller_s_death_is_judged_by_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node died together with the controller: looking for its processes takes long."""
    configs = {"broker.session.timeout.ms": "300", "broker.heartbeat.interval.ms": "50"}

    async def scenario(h: Harness) -> None:
        await h.create("t", 2)
        await h.controller.crash()
        for actor in h.world.actors.values():
            actor.hang()
        monkeypatch.setitem(globals(), "PATIENCE", replace(PATIENCE, find_s=30))
        h.controller = h.new_controller()
        await h.controller.start()
        alive = {slot for slot, actor in h.image.actors.items() if actor.alive}
        heard, silent = sorted(alive)
        incarnation = h.image.actors[heard].incarnation
        beat = ActorHeartbeatRequest(*heard, incarnation)
        await h.ask(ApiKey.ACTOR_HEARTBEAT, beat)
        await until(lambda: not h.image.actors[silent].alive, timeout_s=5)
        assert h.image.actors[heard].alive, "this one has a lease"

    play(Harness(tmp_path, configs=configs), scenario)


def test_what_died_with_the_controller_is_replaced_by_the_next(tmp_path: Path) -> None:
    async def scenario(h: Harness) -> None:
        await h.create("t", 2)
        await h.controller.crash()
        h.world.partition_actors()[0].die()
        h.world.brokers()[0].die()
        hanging = h.world.partition_actors()[0]
        hanging.hang()
        h.controller = h.new_controller()
        await h.controller.start()
        await until(lambda: hanging.killed)
        await until(lambda: len(h.world.actors) == 3)
        await until(lambda: h.is_online("t") and h.image.live_brokers())
        assert sorted(h.world.actors) == [
            "test/broker-0-i2",
            "test/partitions-0-0-i2",
            "test/partitions-0-1-i2",
        ]

    play(Harness(tmp_path), scenario)


def test_an_actor_that_was_being_started_is_found_again(tmp_path: Path) -> None:
    async def run() -> None:
        h = Harness(tmp_path, World(NodeInfo("node-1", "10.0.0.1", cores=1)))
        h.world.new_actors_hang = True
        await h.controller.start()
        await until(h.world.brokers)
        await h.controller.crash()
        h.world.new_actors_hang = False
        h.world.brokers()[0].responsive.set()
        h.controller = h.new_controller()
        await h.controller.start()
        await until(lambda: h.image.live_brokers())
        assert h.world.spawned[0] == "test/broker-0-i1"
        assert [broker.name for broker in h.world.brokers()] == ["test/broker-0-i1"]
        await h.controller.crash()

    asyncio.run(run())


def test_kills_at_every_moment_of_a_creation_are_recovered(tmp_path: Path) -> None:
    async def run(turns: int) -> int:
        h = Harness(tmp_path / str(turns))
        await h.start()
        creating = asyncio.ensure_future(h.create("t", 4))
        for _ in range(turns):
            await asyncio.sleep(0.0005)
        finished = creating.done()
        await h.restart()
        creating.cancel()
        await asyncio.gather(creating, return_exceptions=True)
        result = await h.create("t", 4)
        assert result.error_code in (0, errors.TopicAlreadyExistsError.code)
        await until(lambda: h.is_online("t"))
        assert len(h.image.topic("t").partitions) == 4
        await h.controller.crash()
        return int(finished)

    outcomes = [asyncio.run(run(turns)) for turns in (0, 1, 2, 3, 5, 8, 13, 40)]
    assert 0 in outcomes, "some kills came in the middle"


def test_a_second_controller_does_not_get_the_directory(tmp_path: Path) -> None:
    async def scenario(h: Harness) -> None:
        with pytest.raises(errors.LogDirLockedError, match=str(os.getpid())):
            await h.new_controller(lock_timeout_s=0.1).start()

    play(Harness(tmp_path), scenario)


def test_stopping_ends_the_actors_cleanly_and_starting_brings_everything_back(
    tmp_path: Path,
) -> None:
    async def scenario(h: Harness) -> None:
        await h.create("t", 2)
        actors = [*h.world.partition_actors(), *h.world.brokers()]
        await h.controller.stop()
        await h.controller.stop()
        assert all(actor.stopped and actor.killed for actor in actors)
        assert not h.world.actors
        assert not h.world.locks
        h.controller = h.new_controller()
        await h.controller.start()
        assert not h.is_online("t"), "nothing is served from the last life"
        await until(lambda: h.is_online("t"))
        assert [p.leader_epoch > 0 for p in await h.partitions("t")] == [True, True]

    play(Harness(tmp_path), scenario)


def test_stopping_does_not_wait_for_an_actor_that_hangs(tmp_path: Path) -> None:
    async def scenario(h: Harness) -> None:
        victim = h.world.partition_actors()[0]
        victim.hang()
        await asyncio.wait_for(h.controller.stop(), 5)
        assert victim.killed

    play(Harness(tmp_path), scenario)


def test_deleting_frees_the_name_and_the_disk(tmp_path: Path) -> None:
    async def scenario(h: Harness) -> None:
        first = await h.create("t", 4)
        assert (await h.delete("t")).error_code == 0
        assert h.world.disk == {}
        assert not any(actor.replicas for actor in h.world.partition_actors())
        assert (await h.topic("t")).error_code == errors.UnknownTopicOrPartitionError.code
        again = await h.create("t", 2)
        assert again.error_code == 0
        assert again.topic_id != first.topic_id
        assert (await h.delete("none")).error_code == errors.UnknownTopicOrPartitionError.code

    play(Harness(tmp_path), scenario)


def test_a_deletion_outlives_actor_and_controller(tmp_path: Path) -> None:
    async def scenario(h: Harness) -> None:
        await h.create("t", 2)
        for actor in h.world.partition_actors():
            actor.hang()
        deleting = asyncio.ensure_future(h.delete("t"))
        await until(lambda: h.image.removals)
        await h.controller.crash()
        for actor in h.world.partition_actors():
            actor.die()
        deleting.cancel()
        assert h.world.disk, "nobody has deleted anything yet"
        h.controller = h.new_controller()
        await h.controller.start()
        await until(lambda: not h.image.removals)
        assert h.world.disk == {}

    play(Harness(tmp_path), scenario)


def test_a_replica_that_cannot_be_opened_is_told_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raykafka.actors.controlling.slot_plan._RETRY_MS", 20)
    monkeypatch.setattr("raykafka.actors.controlling.admin_handlers.APPLY_TIMEOUT_S", 0.2)

    async def scenario(h: Harness) -> None:
        h.world.broken_topics.add("t")
        assert (await h.create("t")).error_code == 0, "it exists, though it is not open"
        (partition,) = await h.partitions("t")
        assert (partition.port, partition.error_code) == (0, errors.KafkaStorageError.code)
        assert partition.error_message, "why"
        assert (await h.create("u")).error_code == 0
        assert h.is_online("u")
        h.world.broken_topics.clear()
        await until(lambda: h.is_online("t"))
        (partition,) = await h.partitions("t")
        assert partition.error_code == 0

    play(Harness(tmp_path), scenario)


def test_altered_settings_reach_the_actors_before_the_answer(tmp_path: Path) -> None:
    def alter(type_: str, name: str, key: str, value: str) -> messages.AlterConfigsRequest:
        change = messages.ConfigChange(key, value)
        resource = messages.ConfigResource(type_, name)
        return messages.AlterConfigsRequest([messages.AlteredResource(resource, [change])])

    async def scenario(h: Harness) -> None:
        await h.create("t", 2)
        await h.ask(ApiKey.ALTER_CONFIGS, alter("topic", "t", "retention.ms", "7"))
        told = [a.configs for actor in h.world.partition_actors() for a in actor.replicas.values()]
        assert told == [{"retention.ms": "7"}] * 2
        await h.ask(ApiKey.ALTER_CONFIGS, alter("broker", "", "log.roll.ms", "60000"))
        told = [a.configs for actor in h.world.partition_actors() for a in actor.replicas.values()]
        assert told == [{"retention.ms": "7", "segment.ms": "60000"}] * 2
        assert h.is_online("t")
        resources = [messages.ConfigResource("topic", name) for name in ("t", "none")]
        request = messages.DescribeConfigsRequest(resources)
        found, missing = (await h.ask(ApiKey.DESCRIBE_CONFIGS, request)).resources
        sources = {entry.name: (entry.value, entry.source) for entry in found.entries}
        assert sources["retention.ms"] == ("7", "topic")
        assert sources["segment.ms"] == ("60000", "cluster")
        assert missing.error_code == errors.UnknownTopicOrPartitionError.code
        refused = await h.ask(ApiKey.ALTER_CONFIGS, alter("topic", "t", "retention.mss", "7"))
        assert refused.resources[0].error_code == errors.InvalidConfigError.code
        assert "retention.ms" in refused.resources[0].error_message

    play(Harness(tmp_path), scenario)


def test_typed_topics_and_their_columns(tmp_path: Path) -> None:
    def schema(*fields: pa.Field) -> bytes:
        return serialize_schema(pa.schema(fields))

    first = schema(pa.field("id", pa.int64()), pa.field("speed", pa.float64()))

    async def scenario(h: Harness) -> None:
        result = await h.create("t", 2, schema=first, configs={"key.column": "id"})
        assert result.error_code == 0, result.error_message
        info = await h.topic("t")
        assert (info.key_column, len(info.schemas)) == ("id", 1)

        added = [
            h.ask(
                ApiKey.ADD_COLUMNS,
                messages.AddColumnsRequest("t", schema(pa.field(name, pa.string()))),
            )
            for name in ("a", "b", "c")
        ]
        answers = await asyncio.gather(*added)
        assert sorted(answer.schema_id for answer in answers) == [1, 2, 3]
        newest = deserialize_schema((await h.topic("t")).schemas[-1])
        assert set(newest.names) == {"id", "speed", "a", "b", "c"}
        for actor in h.world.partition_actors():
            assert {len(a.schemas) for a in actor.replicas.values()} == {4}

        wrong = await h.ask(
            ApiKey.ADD_COLUMNS, messages.AddColumnsRequest("t", schema(pa.field("a", pa.int8())))
        )
        assert wrong.error_code == errors.UnsupportedSchemaChangeError.code
        for fields, code in (
            ({"schema": first, "configs": {"key.column": "no"}}, errors.InvalidConfigError.code),
            ({"schema": first, "configs": {"key.column": "speed"}}, errors.InvalidConfigError.code),
            ({"schema": b"garbage"}, errors.InvalidRequestError.code),
            ({"configs": {"key.column": "id"}}, errors.InvalidConfigError.code),
        ):
            assert (await h.create("bad", **fields)).error_code == code

    play(Harness(tmp_path), scenario)


def test_a_bad_schema_spoils_only_its_own_topic(tmp_path: Path) -> None:
    async def scenario(h: Harness) -> None:
        topics = [
            messages.NewTopic("a", 1),
            messages.NewTopic("b", 1, schema=b"garbage"),
            messages.NewTopic("c", 1, configs={"no.such": "1"}),
            messages.NewTopic("d", 1),
        ]
        request = messages.CreateTopicsRequest(topics)
        answer = await h.ask(ApiKey.CREATE_TOPICS, request)
        assert [result.name for result in answer.topics] == ["a", "b", "c", "d"]
        assert [bool(result.error_code) for result in answer.topics] == [False, True, True, False]
        assert h.is_online("a")
        assert h.is_online("d")

    play(Harness(tmp_path), scenario)


def test_more_partitions_and_producer_ids(tmp_path: Path) -> None:
    async def scenario(h: Harness) -> None:
        await h.create("t", 1)
        request = messages.CreatePartitionsRequest([messages.NewPartitions("t", 3)])
        answer = await h.ask(ApiKey.CREATE_PARTITIONS, request)
        assert answer.topics[0].num_partitions == 3
        assert h.is_online("t")
        asked = [h.ask(ApiKey.INIT_PRODUCER_ID, messages.InitProducerIdRequest()) for _ in "abc"]
        ids = [answer.producer_id for answer in await asyncio.gather(*asked)]
        await h.restart()
        again = await h.ask(ApiKey.INIT_PRODUCER_ID, messages.InitProducerIdRequest())
        assert len({*ids, again.producer_id}) == 4, "no id is given out twice"
        assert min(ids) == 0
        bumped = await h.ask(ApiKey.INIT_PRODUCER_ID, messages.InitProducerIdRequest(0, 0))
        assert (bumped.producer_id, bumped.producer_epoch) == (0, 1)

    play(Harness(tmp_path), scenario)


def test_nodes_come_and_go(tmp_path: Path) -> None:
    other = NodeInfo("node-2", "10.0.0.2", cores=1)

    async def scenario(h: Harness) -> None:
        h.world.node_list.append(other)
        await until(lambda: len(h.image.live_brokers()) == 2)
        await until(lambda: sum(a.alive for a in h.image.actors.values()) == 3)
        await h.create("t", 3)
        owners = {p.leader_id for p in await h.partitions("t")}
        assert owners == {0, 1}

        h.world.node_list.remove(other)
        for actor in [*h.world.brokers(), *h.world.partition_actors()]:
            if actor.spec.node == other:
                actor.die()
        await until(lambda: len(h.image.live_brokers()) == 1)
        await until(lambda: not h.is_online("t"))
        described = await h.ask(ApiKey.DESCRIBE_CLUSTER, messages.DescribeClusterRequest())
        assert [broker.alive for broker in described.brokers] == [True, False]
        assert {a.state for a in described.actors if a.broker_id == 1} <= {"dead", "starting"}

        h.world.node_list.append(NodeInfo("node-3", other.host, cores=1))
        await until(lambda: h.is_online("t"))
        assert len(h.image.brokers) == 2, "same address, same broker"

    play(Harness(tmp_path), scenario)


def test_a_machine_that_comes_back_before_its_old_node_is_gone_keeps_its_broker(
    tmp_path: Path,
) -> None:
    old, new = (NodeInfo(id_, "10.0.0.2", cores=1) for id_ in ("node-2", "node-3"))

    async def scenario(h: Harness) -> None:
        h.world.node_list.append(old)
        await until(lambda: len(h.image.live_brokers()) == 2)
        for actor in [*h.world.brokers(), *h.world.partition_actors()]:
            if actor.spec.node == old:
                actor.die()
        h.world.unreachable.add(old.node_id)
        h.world.node_list.append(new)
        looks = h.world.looks
        await until(lambda: h.world.looks > looks + 3)
        assert len(h.image.brokers) == 2
        h.world.node_list.remove(old)
        await until(lambda: h.image.brokers[1].node_id == new.node_id)
        await until(lambda: len(h.image.live_brokers()) == 2)
        assert len(h.image.brokers) == 2

    play(Harness(tmp_path), scenario)


def test_an_empty_broker_of_a_machine_that_has_another_one_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(phantoms, "GONE_MS", 50)
    twice = [NodeInfo(f"node-{n}", "10.0.0.2", cores=1) for n in (2, 3)]

    async def scenario(h: Harness) -> None:
        h.world.node_list.extend(twice)
        await until(lambda: len(h.image.live_brokers()) == 3)
        empty = next(b.broker_id for b in h.image.live_brokers() if b.node_id == "node-3")
        await h.create("t", -1, replica_assignments={0: [2 if empty == 1 else 1]})
        h.world.node_list.remove(twice[1])
        for actor in [*h.world.brokers(), *h.world.partition_actors()]:
            if actor.spec.node == twice[1]:
                actor.die()
        await until(lambda: empty in h.image.retired)
        assert len(h.image.live_brokers()) == 2

        h.world.node_list.remove(twice[0])
        for actor in [*h.world.brokers(), *h.world.partition_actors()]:
            if actor.spec.node == twice[0]:
                actor.die()
        await until(lambda: len(h.image.live_brokers()) == 1)
        looks = h.world.looks
        await until(lambda: h.world.looks > looks + 5)
        assert len(h.image.brokers) == 2, "what holds replicas, or was the last one, stays"

    play(Harness(tmp_path), scenario)


def test_a_node_that_reboots_while_its_broker_is_stopped_keeps_that_broker(tmp_path: Path) -> None:
    other = NodeInfo("node-2", "10.0.0.2", cores=1)

    async def scenario(h: Harness) -> None:
        await until(lambda: len(h.image.live_brokers()) == 2)
        await until(lambda: sum(a.alive for a in h.image.actors.values()) == 3)
        (broker,) = [b for b in h.world.brokers() if b.spec.node == other]
        broker_id, incarnation = broker.spec.broker_id, broker.spec.incarnation
        broker.hang()
        asking = asyncio.ensure_future(
            h.ask(ApiKey.RESTART_BROKER, operations_messages.RestartBrokerRequest(broker_id))
        )
        await until(lambda: not any(a.spec.node == other for a in h.world.partition_actors()))
        rebooted = NodeInfo("node-3", other.host, cores=1)
        h.world.node_list[:] = [NODE, rebooted]
        await h.look_at_nodes()
        assert len(h.image.brokers) == 2, "it is not taken for a new one meanwhile"
        await asking
        await until(lambda: h.image.brokers[broker_id].incarnation > incarnation)
        await until(lambda: not h.image.brokers[broker_id].fenced)
        await until(lambda: sum(a.alive for a in h.image.actors.values()) == 3)
        assert h.image.brokers[broker_id].node_id == rebooted.node_id
        assert len(h.image.brokers) == 2

    play(Harness(tmp_path, World(NODE, other)), scenario)


def test_a_broker_that_left_is_not_started_again(tmp_path: Path) -> None:
    other = NodeInfo("node-2", "10.0.0.2", cores=1)

    async def scenario(h: Harness) -> None:
        await until(lambda: len(h.image.live_brokers()) == 2)
        await until(lambda: sum(a.alive for a in h.image.actors.values()) == 3)
        (broker,) = [b for b in h.world.brokers() if b.spec.node == other]
        leave = operations_messages.UnregisterBrokerRequest(broker.spec.broker_id)
        await h.ask(ApiKey.UNREGISTER_BROKER, leave)
        assert broker.stopped
        assert h.image.retired == {broker.spec.broker_id: other.node_id}
        await h.controller.crash()
        h.controller = h.new_controller()
        await h.controller.start()
        await until(lambda: len(h.image.live_brokers()) == 1)
        await h.look_at_nodes()
        assert not any(actor.spec.node == other for actor in h.world.actors.values())

    play(Harness(tmp_path, World(NODE, other)), scenario)


def test_a_node_lost_together_with_the_controller_is_not_shown_as_alive(tmp_path: Path) -> None:
    other = NodeInfo("node-2", "10.0.0.2", cores=1)

    async def scenario(h: Harness) -> None:
        await h.create("t", 3)
        await h.controller.crash()
        h.world.node_list.remove(other)
        for actor in [*h.world.brokers(), *h.world.partition_actors()]:
            if actor.spec.node == other:
                actor.die()
        h.controller = h.new_controller()
        await h.controller.start()
        await until(lambda: len(h.image.live_brokers()) == 1)
        await until(lambda: not h.is_online("t"))
        assert [p.port > 0 for p in await h.partitions("t")].count(False) == 1

    h = Harness(tmp_path, World(NODE, other))

    async def with_both(h: Harness) -> None:
        await until(lambda: sum(a.alive for a in h.image.actors.values()) == 3)
        await scenario(h)

    play(h, with_both)


def test_settings_that_are_wrong_are_refused_at_the_start(tmp_path: Path) -> None:
    async def run() -> None:
        h = Harness(tmp_path, configs={"partition.actor": "2"})
        with pytest.raises(errors.InvalidConfigError, match=r"partition\.actors"):
            await h.controller.start()
        assert not (tmp_path / "controller").exists()

    asyncio.run(run())


def test_the_topics_of_coordinators_are_made_when_they_are_needed_and_by_nobody_else(
    tmp_path: Path,
) -> None:
    async def scenario(h: Harness) -> None:
        await until(lambda: bool(h.image.live_brokers()))
        made = await h.create(CONSUMER_OFFSETS, 1)
        assert made.error_code == errors.InvalidTopicError.code
        find = group_messages.FindCoordinatorRequest(CONSUMER_OFFSETS)
        first, second = await asyncio.gather(
            *(h.ask(ApiKey.FIND_COORDINATOR, find) for _ in range(2))
        )
        assert first == second
        assert first.num_partitions == 8
        assert h.is_online(CONSUMER_OFFSETS)
        deleted = await h.ask(
            ApiKey.DELETE_TOPICS, messages.DeleteTopicsRequest([CONSUMER_OFFSETS])
        )
        grown = await h.ask(
            ApiKey.CREATE_PARTITIONS,
            messages.CreatePartitionsRequest([messages.NewPartitions(CONSUMER_OFFSETS, 9)]),
        )
        for refused in (deleted.topics[0], grown.topics[0]):
            assert refused.error_code == errors.InvalidTopicError.code
        other = await h.ask(ApiKey.FIND_COORDINATOR, group_messages.FindCoordinatorRequest("t"))
        assert other.error_code == errors.InvalidRequestError.code

    play(Harness(tmp_path), scenario)


def test_metadata_that_are_known_are_not_sent_again(tmp_path: Path) -> None:
    async def scenario(h: Harness) -> None:
        await h.create("t", 3)
        full = await h.ask(ApiKey.METADATA, messages.MetadataRequest())
        assert len(full.topics) == 1
        known = messages.MetadataRequest(known_offset=full.metadata_offset)
        again = await h.ask(ApiKey.METADATA, known)
        assert (again.metadata_offset, again.topics) == (full.metadata_offset, [])

    play(Harness(tmp_path), scenario)
