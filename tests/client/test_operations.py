"""Operations on a running cluster: moves, elections, restarts, brokers that come and go."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from raykafka import errors
from raykafka.client.admin import Admin, NewTopic
from raykafka.client.aio import AsyncAdmin
from raykafka.client.cluster.metadata import PartitionMetadata
from raykafka.client.producer import Producer
from raykafka.model import TopicPartition
from raykafka.testing.local_cluster import LocalCluster

T0 = TopicPartition("t", 0)
WAIT_MS = 30_000


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    configs = {"leader.imbalance.check.interval.seconds": "1"}
    with LocalCluster(tmp_path, nodes=3, partition_actors=1, configs=configs) as cluster:
        yield cluster


@pytest.fixture
def admin(cluster: LocalCluster) -> Iterator[Admin]:
    with Admin(cluster.bootstrap) as admin:
        wait_for(lambda: alive(admin) == [0, 1, 2])
        yield admin


def wait_for(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_MS / 1000
    while not holds():
        assert time.monotonic() < deadline, "it does not come to be"
        time.sleep(0.02)


def alive(admin: Admin) -> list[int]:
    return [
        broker.broker_id
        for broker in admin.describe_brokers()
        if broker.state == "alive" and broker.alive_slots == broker.slots
    ]


def partitions(admin: Admin, topic: str = "t") -> tuple[PartitionMetadata, ...]:
    return admin.describe_topics([topic])[0].partitions


def create(admin: Admin, assignment: dict[int, list[int]], **configs: str) -> None:
    settings = {name.replace("_", "."): value for name, value in configs.items()}
    admin.create_topics([NewTopic("t", topic_configs=settings, replica_assignments=assignment)])


def produce(cluster: LocalCluster, first: int, last: int) -> None:
    with Producer(cluster.bootstrap) as producer:
        futures = [producer.send("t", b"%d" % number) for number in range(first, last)]
        producer.flush(30)
        assert all(future.succeeded() for future in futures)


def test_a_partition_moves_with_its_records(cluster: LocalCluster, admin: Admin) -> None:
    create(admin, {0: [0, 1]}, min_insync_replicas="2")
    produce(cluster, 0, 500)
    (directory,) = (d for d in admin.describe_log_dirs() if d.broker_id == 0)
    old = Path(directory.path) / "t-0"
    assert old.is_dir()
    admin.alter_partition_reassignments({T0: [2, 1]})
    wait_for(lambda: not admin.list_partition_reassignments([T0]))
    (part,) = partitions(admin)
    assert (part.replicas, set(part.isr)) == ((2, 1), {1, 2})
    wait_for(lambda: not any(old.glob("*")))
    assert admin.list_offsets({T0: "latest"})[T0].offset == 500
    produce(cluster, 500, 600)
    assert admin.list_offsets({T0: "latest"})[T0].offset == 600
    wait_for(lambda: partitions(admin)[0].leader_id == 2)


def test_refused_moves(admin: Admin) -> None:
    create(admin, {0: [0, 1]})
    for replicas in ([0, 9], [1, 1], []):
        with pytest.raises(errors.InvalidReplicaAssignmentError):
            admin.alter_partition_reassignments({T0: replicas})
    with pytest.raises(errors.NoReassignmentInProgressError):
        admin.alter_partition_reassignments({T0: None})
    with pytest.raises(errors.UnknownTopicOrPartitionError):
        admin.alter_partition_reassignments({("t", 4): [0]})


def test_a_move_to_a_broker_that_died_can_be_cancelled(cluster: LocalCluster, admin: Admin) -> None:
    create(admin, {0: [0]})
    cluster.stop_node(2)
    try:
        admin.alter_partition_reassignments({T0: [2]})
    except errors.InvalidReplicaAssignmentError:
        return  # it was known to be dead already
    assert admin.list_partition_reassignments()[T0].adding_replicas == [2]
    admin.alter_partition_reassignments({T0: None})
    (part,) = partitions(admin)
    assert (part.replicas, part.leader_id) == ((0,), 0)


def test_leaders_on_demand_and_by_themselves(cluster: LocalCluster, admin: Admin) -> None:
    create(admin, {0: [2, 1, 0]})
    assert admin.elect_leaders(partitions=[T0]) == []
    cluster.stop_node(2)
    wait_for(lambda: partitions(admin)[0].leader_id == 1)
    assert 2 in partitions(admin)[0].offline_replicas
    with pytest.raises(errors.PreferredLeaderNotAvailableError, match="broker 2"):
        admin.elect_leaders("preferred", [T0])
    with pytest.raises(errors.InvalidRequestError, match="'dirty'"):
        admin.elect_leaders("dirty")
    cluster.start_node(2)
    wait_for(lambda: partitions(admin)[0].leader_id == 2)
    assert not partitions(admin)[0].offline_replicas


def test_an_unclean_leader_on_demand(cluster: LocalCluster, admin: Admin) -> None:
    create(admin, {0: [1, 2]})
    cluster.stop_node(2)
    wait_for(lambda: partitions(admin)[0].isr == (1,))
    produce(cluster, 0, 10)
    cluster.stop_node(1)
    cluster.start_node(2)
    wait_for(lambda: 2 in alive(admin))
    wait_for(lambda: partitions(admin)[0].leader_id == -1)
    assert partitions(admin)[0].eligible_leader_replicas == (1,)
    assert admin.elect_leaders("unclean") == [T0]
    wait_for(lambda: partitions(admin)[0].leader_id == 2)
    assert admin.list_offsets({T0: "latest"})[T0].offset == 0


def test_a_rolling_restart_refuses_nothing(cluster: LocalCluster, admin: Admin) -> None:
    create(admin, {p: [p % 3, (p + 1) % 3, (p + 2) % 3] for p in range(3)}, min_insync_replicas="2")
    before = {broker.broker_id: broker.incarnation for broker in admin.describe_brokers()}
    steps: list[tuple[int, int]] = []
    with Producer(cluster.bootstrap) as producer:
        futures = [producer.send("t", b"%d" % number) for number in range(300)]

        def on_progress(done: int, total: int) -> None:
            steps.append((done, total))
            futures.extend(producer.send("t", b"x") for _ in range(100))

        admin.restart_brokers(timeout_ms=WAIT_MS, on_progress=on_progress)
        producer.flush(30)
        assert all(future.succeeded() for future in futures)
    assert steps == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert all(b.incarnation > before[b.broker_id] for b in admin.describe_brokers())
    offsets = admin.list_offsets({TopicPartition("t", p): "latest" for p in range(3)})
    assert sum(found.offset for found in offsets.values()) == 300 + 400
    assert {len(part.isr) for part in partitions(admin)} == {3}


def test_a_restart_waits_until_it_refuses_nobody(cluster: LocalCluster, admin: Admin) -> None:
    create(admin, {0: [0, 1, 2]}, min_insync_replicas="2")
    cluster.stop_node(2)
    wait_for(lambda: len(partitions(admin)[0].isr) == 2)
    with Admin(cluster.bootstrap, api_timeout_ms=500) as hasty:
        with pytest.raises(errors.RequestTimedOutError, match="t-0"):
            hasty.restart_broker(0, timeout_ms=500)
        with pytest.raises(errors.BrokerIdNotRegisteredError):
            hasty.restart_broker(9)


def test_a_new_broker_gets_its_share_and_an_old_one_leaves(
    cluster: LocalCluster, admin: Admin
) -> None:
    create(admin, {p: [p % 3, (p + 1) % 3] for p in range(6)})
    produce(cluster, 0, 600)
    cluster.add_node()
    wait_for(lambda: alive(admin) == [0, 1, 2, 3])
    plan = admin.plan_rebalance()
    assert [share.replicas for share in plan.before] == [4, 4, 4, 0]
    assert [share.replicas for share in plan.after] == [3, 3, 3, 3]
    assert not admin.list_partition_reassignments(), "a plan does nothing"
    seen: list[tuple[int, int]] = []
    admin.execute_moves(
        plan, timeout_ms=WAIT_MS, on_progress=lambda *progress: seen.append(progress)
    )
    assert seen[-1] == (len(plan.moves),) * 2
    assert not admin.plan_rebalance().moves

    admin.decommission_broker(0, timeout_ms=WAIT_MS)
    assert alive(admin) == [1, 2, 3]
    assert all(0 not in part.replicas for part in partitions(admin))
    offsets = admin.list_offsets({TopicPartition("t", p): "latest" for p in range(6)})
    assert sum(found.offset for found in offsets.values()) == 600
    cluster.kill_controller()
    wait_for(lambda: alive(admin) == [1, 2, 3])


def test_a_broker_that_is_needed_is_not_drained(admin: Admin) -> None:
    create(admin, {0: [0, 1, 2]})
    with pytest.raises(errors.InvalidReplicationFactorError, match="add a broker"):
        admin.drain_broker(2)
    plan = admin.plan_reassignment(["t"], brokers=[0, 1], replication_factor=2)
    admin.execute_moves(plan, timeout_ms=WAIT_MS)
    admin.drain_broker(2, timeout_ms=WAIT_MS)
    assert {b.broker_id: b.state for b in admin.describe_brokers()}[2] == "draining"
    with pytest.raises(errors.InvalidReplicationFactorError):
        admin.create_topics([NewTopic("u", 1, 3)])
    admin.resume_broker(2)
    admin.create_topics([NewTopic("u", 1, 3)])


def test_the_asyncio_face(cluster: LocalCluster, admin: Admin) -> None:
    create(admin, {0: [0, 1]})

    async def operate() -> None:
        async with AsyncAdmin(cluster.bootstrap) as face:
            assert len(await face.describe_brokers()) == 3
            await face.alter_partition_reassignments({T0: [1, 0]})
            assert await face.list_partition_reassignments() == {}
            assert await face.elect_leaders("preferred", [T0]) in ([T0], [])
            await face.execute_moves(await face.plan_rebalance(), timeout_ms=WAIT_MS)
            await face.execute_moves(
                await face.plan_reassignment(["t"], brokers=[0, 1]), timeout_ms=WAIT_MS
            )
            await face.drain_broker(2, timeout_ms=WAIT_MS)
            assert not (await face.plan_drain([2])).moves
            await face.resume_broker(2)
            await face.restart_broker(0, force=True, timeout_ms=WAIT_MS)
            await face.restart_brokers([1], timeout_ms=WAIT_MS)
            await face.decommission_broker(2, timeout_ms=WAIT_MS)

    asyncio.run(operate())
