"""Where new replicas go: the emptiest brokers and pool slots, racks apart where there are racks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from raykafka.controller.image import SlotKey
from raykafka.errors import InvalidReplicationFactorError


class Candidate(NamedTuple):
    """A live broker that may take replicas."""

    broker_id: int
    rack: str
    slots: int


class Replicas(NamedTuple):
    """The replicas of one partition, preferred leader first, and their places in the pools."""

    brokers: tuple[int, ...]
    slots: tuple[int, ...]


def place_partitions(
    count: int,
    replication_factor: int,
    candidates: Sequence[Candidate],
    loads: dict[SlotKey, int],
) -> list[Replicas]:
    """Replicas for ``count`` partitions; ``loads`` (replicas per slot) is brought up to date.

    The same input gives the same answer. Brokers are filled in proportion to their slots; the
    replicas of a partition are on different brokers, and in different racks as far as there are
    enough. Raises ``InvalidReplicationFactorError`` when there are too few brokers.
    """
    if replication_factor > len(candidates):
        raise InvalidReplicationFactorError(
            f"replication factor {replication_factor} needs as many brokers, {len(candidates)} are"
            " alive; start more or ask for fewer copies"
        )
    totals = {
        broker.broker_id: sum(
            loads.get(SlotKey(broker.broker_id, s), 0) for s in range(broker.slots)
        )
        for broker in candidates
    }
    placed: list[Replicas] = []
    for _ in range(count):
        brokers: list[int] = []
        slots: list[int] = []
        racks: set[str] = set()
        for _ in range(replication_factor):
            chosen = min(
                (broker for broker in candidates if broker.broker_id not in brokers),
                key=lambda broker: (
                    broker.rack in racks,
                    totals[broker.broker_id] / broker.slots,
                    broker.broker_id,
                ),
            )
            id_ = chosen.broker_id
            slot = min(range(chosen.slots), key=lambda s: (loads.get(SlotKey(id_, s), 0), s))
            loads[SlotKey(id_, slot)] = loads.get(SlotKey(id_, slot), 0) + 1
            totals[id_] += 1
            brokers.append(id_)
            slots.append(slot)
            racks.add(chosen.rack)
        placed.append(Replicas(tuple(brokers), tuple(slots)))
    return placed
