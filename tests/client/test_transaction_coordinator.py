"""Coordinators that are killed between a decision and its completion: the next one goes on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from wire_kit import wait_until

from raykafka import Admin, Consumer, NewTopic, Producer, TopicPartition
from raykafka.actors.coordinating import markers
from raykafka.actors.coordinating.markers import MarkerWriter
from raykafka.actors.coordinating.service import HostedService
from raykafka.actors.coordinating.transactions import TransactionCoordinator, _Completing
from raykafka.errors import RaykafkaError
from raykafka.internal_topics import TRANSACTION_STATE, coordinator_partition
from raykafka.protocol.txn_messages import TxnPartition
from raykafka.testing.local_cluster import LocalCluster
from raykafka.txn.commands import EndTransaction, Markers
from raykafka.txn.machine import TransactionMachine

NAME = "bank"
PLACES = [TopicPartition("t", 0), TopicPartition("t", 1)]


class Hold:
    """A place in the coordinator where it stops for ever, until it is lifted."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.lifted = False

    async def stop(self) -> None:
        if not self.lifted:
            self.reached.set()
            await asyncio.Event().wait()


Plant = Callable[[pytest.MonkeyPatch, Hold], None]


def after_the_decision(patch: pytest.MonkeyPatch, hold: Hold) -> None:
    submit = TransactionCoordinator._submit

    async def stopping(self: TransactionCoordinator, service: HostedService, command: Any) -> Any:
        answer = await submit(self, service, command)
        if isinstance(command, EndTransaction):
            await hold.stop()
        return answer

    patch.setattr(TransactionCoordinator, "_submit", stopping)


def before_any_marker(patch: pytest.MonkeyPatch, hold: Hold) -> None:
    write = MarkerWriter.write

    async def stopping(self: MarkerWriter, owed: Markers) -> None:
        await hold.stop()
        await write(self, owed)

    patch.setattr(MarkerWriter, "write", stopping)


def after_one_marker_of_two(patch: pytest.MonkeyPatch, hold: Hold) -> None:
    attempt = MarkerWriter._attempt

    async def stopping(
        self: MarkerWriter, owed: Markers, left: list[TxnPartition]
    ) -> list[TxnPartition]:
        if not hold.lifted:
            assert not await attempt(self, owed, left[:1])
            await hold.stop()
        return await attempt(self, owed, left)

    patch.setattr(MarkerWriter, "_attempt", stopping)


def after_all_markers(patch: pytest.MonkeyPatch, hold: Hold) -> None:
    write = MarkerWriter.write

    async def stopping(self: MarkerWriter, owed: Markers) -> None:
        await write(self, owed)
        await hold.stop()

    patch.setattr(MarkerWriter, "write", stopping)


def before_the_completion_is_logged(patch: pytest.MonkeyPatch, hold: Hold) -> None:
    on_tick = TransactionMachine.on_tick
    complete = _Completing._complete

    async def telling(self: _Completing, *arguments: Any) -> None:
        await complete(self, *arguments)
        hold.reached.set()

    def idle(self: TransactionMachine, **times: int) -> Any:
        return on_tick(self if hold.lifted else TransactionMachine(), **times)

    patch.setattr(_Completing, "_complete", telling)
    patch.setattr(TransactionMachine, "on_tick", idle)


PLANTS = [
    after_the_decision,
    before_any_marker,
    after_one_marker_of_two,
    after_all_markers,
    before_the_completion_is_logged,
]


@pytest.fixture(params=[1, 3], ids=["one broker", "three brokers"])
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LocalCluster]:
    nodes: int = request.param
    with LocalCluster(tmp_path, nodes=nodes, partition_actors=3 - nodes or 1) as running:
        with Admin(running.bootstrap) as admin:
            wait_until(lambda: living(admin) == nodes, "every broker")
            admin.create_topics([NewTopic("t", 2, replication_factor=nodes)])
        yield running


def living(admin: Admin) -> int:
    """Brokers with all of their partition actors."""
    cluster = admin.describe_cluster()
    dead = {actor.broker_id for actor in cluster.actors if actor.state != "alive"}
    manned = {actor.broker_id for actor in cluster.actors if actor.role == "partition"}
    return len({broker.broker_id for broker in cluster.brokers if broker.alive} & manned - dead)


def coordinator_place(cluster: LocalCluster) -> tuple[int, int]:
    """Broker and slot of the actor that coordinates ``NAME``."""
    for place, port in cluster._actors.partition_actors().items():
        parts = port._shell._parts
        assert parts is not None
        count = len(parts.peers.view.topics[TRANSACTION_STATE].partitions)
        try:
            parts.coordinators.find(TRANSACTION_STATE, coordinator_partition(NAME, count))
        except RaykafkaError:
            continue
        return place
    raise AssertionError("nobody coordinates")


def read(cluster: LocalCluster) -> list[list[bytes]]:
    """Every committed record of both partitions."""
    settings: dict[str, Any] = {
        "isolation_level": "read_committed",
        "auto_offset_reset": "earliest",
    }
    found: list[list[bytes]] = []
    for place in PLACES:
        with Consumer(cluster.bootstrap, **settings) as consumer:
            consumer.assign([place])
            consumer.seek_to_end(place)
            end = consumer.position(place)
            consumer.seek_to_beginning(place)
            values: list[bytes] = []
            while consumer.position(place) < end:
                for records in consumer.poll(timeout_ms=1000).values():
                    values += [record.value for record in records]
            found.append(values)
    return found


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
@pytest.mark.parametrize("commit", [True, False], ids=["commit", "abort"])
def test_a_decision_is_carried_out_by_the_next_coordinator(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch, plant: Plant, commit: bool
) -> None:
    with Producer(cluster.bootstrap, transactional_id=NAME) as producer:
        producer.init_transactions()
        with producer.transaction():
            send_both(producer, b"first")
        producer.begin_transaction()
        send_both(producer, b"second")
        hold = Hold()
        plant(monkeypatch, hold)
        end = producer.commit_transaction if commit else producer.abort_transaction
        ending = threading.Thread(target=end)
        ending.start()
        assert hold.reached.wait(20)
        broker_id, slot = coordinator_place(cluster)
        hold.lifted = True
        cluster.kill_partition_actor(slot, broker_id)
        ending.join(30)
        assert not ending.is_alive()
        with producer.transaction():
            send_both(producer, b"third")
    expected = [b"first", b"second", b"third"] if commit else [b"first", b"third"]
    assert read(cluster) == [expected, expected]


def send_both(producer: Producer, value: bytes) -> None:
    for future in [producer.send("t", value, partition=place.partition) for place in PLACES]:
        future.get()


def test_a_topic_that_is_deleted_holds_nobody_up(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(markers, "_GONE_AFTER_MS", 100)
    with (
        Admin(cluster.bootstrap) as admin,
        Producer(cluster.bootstrap, transactional_id=NAME) as producer,
    ):
        admin.create_topics([NewTopic("gone", 1)])
        producer.init_transactions()
        producer.begin_transaction()
        producer.send("gone", b"v").get()
        send_both(producer, b"first")
        admin.delete_topics(["gone"])
        producer.commit_transaction()
        with producer.transaction():
            send_both(producer, b"second")
        found = admin.describe_transactions([NAME])[NAME]
        assert found.state == "CompleteCommit"
    assert read(cluster) == [[b"first", b"second"]] * 2


def test_a_missing_leader_holds_up_its_own_readers_and_the_next_transaction(
    tmp_path: Path,
) -> None:
    with (
        LocalCluster(tmp_path, nodes=2, partition_actors=1) as cluster,
        Admin(cluster.bootstrap) as admin,
        Producer(cluster.bootstrap, transactional_id=NAME) as producer,
    ):
        wait_until(lambda: living(admin) == 2, "every broker")
        admin.create_topics([NewTopic("t", 2)])  # a partition on each
        producer.init_transactions()
        producer.begin_transaction()
        send_both(producer, b"first")
        cluster.stop_node(1)
        producer.commit_transaction()
        assert admin.describe_transactions([NAME])[NAME].state == "PrepareCommit"
        producer.begin_transaction()
        leaders = {
            part.partition: part.leader_id for part in admin.describe_topics(["t"])[0].partitions
        }
        here = next(number for number, leader in leaders.items() if leader == 0)
        parked = producer.send("t", b"second", partition=here)
        assert not parked.done()
        cluster.start_node(1)
        parked.get()
        producer.commit_transaction()
        assert [values[0] for values in read(cluster)] == [b"first", b"first"]
        assert admin.describe_transactions([NAME])[NAME].state == "CompleteCommit"
