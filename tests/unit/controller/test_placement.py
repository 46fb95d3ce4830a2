"""Replicas are spread over brokers, slots and racks, the same way every time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raykafka.controller.elections import elect_leader
from raykafka.controller.image import NO_LEADER, PartitionState, SlotKey
from raykafka.controller.placement import Candidate, place_partitions
from raykafka.errors import InvalidReplicationFactorError


@given(
    st.lists(st.tuples(st.sampled_from(["", "a", "b"]), st.integers(1, 4)), min_size=1, max_size=5),
    st.integers(1, 40),
    st.data(),
)
def test_replicas_are_apart_and_loads_even(
    shape: list[tuple[str, int]], count: int, data: st.DataObject
) -> None:
    candidates = [Candidate(index, rack, slots) for index, (rack, slots) in enumerate(shape)]
    copies = data.draw(st.integers(1, len(candidates)))
    loads: dict[SlotKey, int] = {}
    placed = place_partitions(count, copies, candidates, loads)
    assert placed == place_partitions(count, copies, candidates, {})
    assert sum(loads.values()) == count * copies
    racks = {candidate.broker_id: candidate.rack for candidate in candidates}
    for replicas in placed:
        assert len(set(replicas.brokers)) == copies
        used = {racks[broker_id] for broker_id in replicas.brokers}
        assert len(used) == min(copies, len(set(racks.values())))
    for candidate in candidates:
        held = [loads.get(SlotKey(candidate.broker_id, s), 0) for s in range(candidate.slots)]
        assert max(held) - min(held) <= 1, "slots of a pool differ by one at most"


def test_new_partitions_go_where_there_is_room() -> None:
    loads = {SlotKey(0, 0): 5, SlotKey(0, 1): 1, SlotKey(1, 0): 6}
    placed = place_partitions(3, 1, [Candidate(0, "", 2), Candidate(1, "", 1)], loads)
    assert [(replicas.brokers, replicas.slots) for replicas in placed] == [((0,), (1,))] * 3


def test_too_few_brokers_are_told_in_numbers() -> None:
    with pytest.raises(InvalidReplicationFactorError, match="2 are alive"):
        place_partitions(1, 3, [Candidate(0, "", 1), Candidate(1, "", 1)], {})


@pytest.mark.parametrize(
    ("isr", "dead", "unclean", "leader"),
    [
        ((1, 2, 3), set(), False, 1),
        ((1, 2, 3), {1}, False, 2),
        ((1, 3), {1}, False, 3),
        ((1,), {1}, False, NO_LEADER),
        ((1,), {1}, True, 2),
        ((1,), {1, 2, 3}, True, NO_LEADER),
    ],
)
def test_the_first_replica_in_sync_leads(
    isr: tuple[int, ...], dead: set[int], unclean: bool, leader: int
) -> None:
    partition = PartitionState((1, 2, 3), (0, 0, 0), isr, NO_LEADER, 0)
    alive = lambda slot: slot.broker_id not in dead  # noqa: E731
    assert elect_leader(partition, alive, unclean=unclean) == leader
