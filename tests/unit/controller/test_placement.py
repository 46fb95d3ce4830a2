"""Replicas are spread over brokers, slots and racks, the same way every time."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raykafka.controller.image import SlotKey
from raykafka.controller.placement import Candidate, Loads, Replicas, place_partitions
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
    placed = place_partitions(count, copies, candidates, Loads(candidates, {}, {}))
    assert placed == place_partitions(count, copies, candidates, Loads(candidates, {}, {}))
    loads = Counter(
        SlotKey(broker_id, slot)
        for replicas in placed
        for broker_id, slot in zip(*replicas, strict=True)
    )
    racks = {candidate.broker_id: candidate.rack for candidate in candidates}
    for replicas in placed:
        assert len(set(replicas.brokers)) == copies
        used = {racks[broker_id] for broker_id in replicas.brokers}
        assert len(used) == min(copies, len(set(racks.values())))
    for candidate in candidates:
        held = [loads.get(SlotKey(candidate.broker_id, s), 0) for s in range(candidate.slots)]
        assert max(held) - min(held) <= 1, "slots of a pool differ by one at most"


def test_new_partitions_go_where_there_is_room() -> None:
    held = {SlotKey(0, 0): 5, SlotKey(0, 1): 1, SlotKey(1, 0): 6}
    candidates = [Candidate(0, "", 2), Candidate(1, "", 1)]
    placed = place_partitions(3, 1, candidates, Loads(candidates, held, held))
    assert [(replicas.brokers, replicas.slots) for replicas in placed] == [((0,), (1,))] * 3


def test_too_few_brokers_are_told_in_numbers() -> None:
    candidates = [Candidate(0, "", 1), Candidate(1, "", 1)]
    loads = Loads(candidates, {}, {})
    with pytest.raises(InvalidReplicationFactorError, match="2 are alive"):
        place_partitions(1, 3, candidates, loads)


@pytest.mark.parametrize("copies", [1, 2, 3])
def test_preferred_leaders_are_spread_over_brokers_and_slots(copies: int) -> None:
    candidates = [Candidate(broker_id, "", 2) for broker_id in range(3)]
    placed = place_partitions(12, copies, candidates, Loads(candidates, {}, {}))
    leads = Counter((replicas.brokers[0], replicas.slots[0]) for replicas in placed)
    assert leads == {(broker_id, slot): 2 for broker_id in range(3) for slot in range(2)}


def test_whoever_leads_next_is_not_always_the_same() -> None:
    candidates = [Candidate(broker_id, "", 1) for broker_id in range(3)]
    placed: list[Replicas] = place_partitions(12, 3, candidates, Loads(candidates, {}, {}))
    successors = Counter(replicas.brokers[1] for replicas in placed if replicas.brokers[0] == 0)
    assert successors == {1: 2, 2: 2}
