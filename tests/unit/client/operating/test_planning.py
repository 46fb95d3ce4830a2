"""Plans are legal, level what they should, move little, and leave nothing more to do."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raykafka.client.operating.planning import (
    BrokerCapacity,
    Move,
    MovePlan,
    PartitionLoad,
    plan_assignment,
    plan_drain,
    plan_rebalance,
)
from raykafka.errors import InvalidReplicaAssignmentError, InvalidReplicationFactorError
from raykafka.model import TopicPartition

Shape = tuple[list[BrokerCapacity], list[PartitionLoad]]


@st.composite
def clusters(draw: st.DrawFn) -> Shape:
    racks = draw(st.lists(st.sampled_from(["", "a", "b"]), min_size=2, max_size=6))
    brokers = [
        BrokerCapacity(index, rack, draw(st.integers(1, 3))) for index, rack in enumerate(racks)
    ]
    count = draw(st.integers(1, 25))
    partitions = []
    for index in range(count):
        order = draw(st.permutations(range(len(brokers))))
        copies = draw(st.integers(1, min(3, len(brokers))))
        size = draw(st.sampled_from([0, 1, 10, 1000]))
        partitions.append(PartitionLoad(TopicPartition("t", index), tuple(order[:copies]), size))
    return brokers, partitions


def applied(partitions: list[PartitionLoad], plan: MovePlan) -> list[PartitionLoad]:
    moved = {move.place: move.after for move in plan.moves}
    return [p._replace(replicas=moved.get(p.place, p.replicas)) for p in partitions]


def check_moves(brokers: list[BrokerCapacity], plan: MovePlan) -> None:
    racks = {broker.broker_id: broker.rack for broker in brokers}
    for move in plan.moves:
        assert len(set(move.after)) == len(move.after)
        assert move.after != move.before
        assert set(move.after) <= set(racks)
        apart = [len({racks[b] for b in replicas}) for replicas in (move.before, move.after)]
        assert apart[1] >= apart[0], "racks were taken away"


@settings(deadline=None, max_examples=60)
@given(clusters())
def test_a_rebalance_is_legal_and_complete(shape: Shape) -> None:
    brokers, partitions = shape
    plan = plan_rebalance(brokers, partitions)
    assert plan == plan_rebalance(brokers, partitions), "the same every time"
    check_moves(brokers, plan)
    assert all(len(move.after) == len(move.before) for move in plan.moves)
    after = applied(partitions, plan)
    again = plan_rebalance(brokers, after)
    assert again.before == plan.after
    assert not again.moves, "a second look finds nothing more"


@settings(deadline=None, max_examples=60)
@given(clusters(), st.integers(0, 5))
def test_a_drain_empties_one_broker_and_touches_nothing_else(shape: Shape, drained: int) -> None:
    brokers, partitions = shape
    drained %= len(brokers)
    copies = max(len(partition.replicas) for partition in partitions)
    holds = [p for p in partitions if drained in p.replicas]
    if any(len(p.replicas) > len(brokers) - 1 for p in holds):
        with pytest.raises(InvalidReplicationFactorError, match="add a broker"):
            plan_drain(brokers, partitions, [drained])
        return
    plan = plan_drain(brokers, partitions, [drained])
    assert {move.place for move in plan.moves} == {p.place for p in holds}
    for move in plan.moves:
        assert drained not in move.after
        assert len(move.after) == len(move.before) <= copies
        assert len(set(move.before) - set(move.after)) == 1
    assert {share.broker_id: share for share in plan.after}[drained].replicas == 0


def test_a_new_broker_gets_its_share_in_few_moves() -> None:
    brokers = [BrokerCapacity(index) for index in range(4)]
    partitions = [
        PartitionLoad(TopicPartition("t", i), (i % 3, (i + 1) % 3), 100) for i in range(30)
    ]
    plan = plan_rebalance(brokers, partitions)
    assert [share.replicas for share in plan.before] == [20, 20, 20, 0]
    assert [share.replicas for share in plan.after] == [15, 15, 15, 15]
    assert max(share.leaders for share in plan.after) <= 8
    copied = sum(len(set(move.after) - set(move.before)) for move in plan.moves)
    assert copied == 15, "no more than it lacks"
    assert plan.size_bytes == 1500


def test_bytes_count_as_well_as_replicas() -> None:
    brokers = [BrokerCapacity(0), BrokerCapacity(1)]
    sizes = [(0, 1000), (0, 1000), (1, 0), (1, 0)]
    partitions = [
        PartitionLoad(TopicPartition("t", i), (b,), size) for i, (b, size) in enumerate(sizes)
    ]
    plan = plan_rebalance(brokers, partitions)
    assert [(share.replicas, share.size_bytes) for share in plan.after] == [(2, 1000)] * 2


def test_leaders_are_levelled_by_order_alone() -> None:
    brokers = [BrokerCapacity(0), BrokerCapacity(1)]
    partitions = [PartitionLoad(TopicPartition("t", i), (0, 1), 5) for i in range(6)]
    plan = plan_rebalance(brokers, partitions)
    assert [share.leaders for share in plan.after] == [3, 3]
    assert plan.moves == tuple(Move(TopicPartition("t", i), (0, 1), (1, 0)) for i in range(3))
    assert plan.size_bytes == 0


def test_what_is_level_is_left_alone() -> None:
    brokers = [BrokerCapacity(index) for index in range(3)]
    partitions = [
        PartitionLoad(TopicPartition("t", i), (i % 3, (i + 1) % 3), 1000 + i) for i in range(99)
    ]
    assert not plan_rebalance(brokers, partitions).moves


def test_an_assignment_changes_brokers_and_copies() -> None:
    brokers = [BrokerCapacity(index, "ab"[index % 2]) for index in range(4)]
    partitions = [PartitionLoad(TopicPartition("t", i), (0,), 10) for i in range(4)]
    partitions.append(PartitionLoad(TopicPartition("other", 0), (0, 1, 2), 10))
    chosen = [partition.place for partition in partitions[:4]]
    plan = plan_assignment(brokers, partitions, chosen, allowed=[1, 2, 3], replication_factor=2)
    check_moves(brokers, plan)
    assert {move.place for move in plan.moves} == set(chosen)
    for move in plan.moves:
        assert len(move.after) == 2
        assert 0 not in move.after
        assert {b % 2 for b in move.after} == {0, 1}, "in both racks"
    fewer = plan_assignment(
        brokers, partitions, [TopicPartition("other", 0)], allowed=range(4), replication_factor=1
    )
    assert [move.after for move in fewer.moves] == [(0,)]


def test_assignments_that_cannot_be() -> None:
    brokers = [BrokerCapacity(0), BrokerCapacity(1)]
    partitions = [PartitionLoad(TopicPartition("t", 0), (0,))]
    places = [partitions[0].place]
    with pytest.raises(InvalidReplicaAssignmentError, match=r"\[7\]"):
        plan_assignment(brokers, partitions, places, allowed=[0, 7])
    with pytest.raises(InvalidReplicationFactorError, match="3 replicas"):
        plan_assignment(brokers, partitions, places, allowed=[0, 1], replication_factor=3)


def test_large_clusters_are_planned_in_seconds() -> None:
    chance = random.Random(5)
    brokers = [BrokerCapacity(index, str(index % 3)) for index in range(12)]
    partitions = [
        PartitionLoad(
            TopicPartition("t", i), tuple(chance.sample(range(9), 3)), chance.randrange(1 << 30)
        )
        for i in range(3000)
    ]
    started = time.perf_counter()
    plan = plan_rebalance(brokers, partitions)
    assert time.perf_counter() - started < 20
    held = [share.replicas for share in plan.after]
    assert max(held) - min(held) < 0.15 * sum(held) / len(held)
