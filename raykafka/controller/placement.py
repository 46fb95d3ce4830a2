"""Where new replicas go: the emptiest brokers and pool slots, racks apart where there are racks.

Preferred leaders are spread like replicas: over brokers in proportion to their slots, and over the
slots of each broker.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


class Loads:
    """Replicas and preferred leaders per slot; brought up to date with every placement."""

    def __init__(
        self,
        candidates: Sequence[Candidate],
        replicas: Mapping[SlotKey, int],
        leads: Mapping[SlotKey, int],
    ) -> None:
        """``replicas`` and ``leads`` count those there are already; slots left out have none."""
        self._slots = {candidate.broker_id: candidate.slots for candidate in candidates}
        self._replicas = dict(replicas)
        self._leads = dict(leads)
        self._held = {id_: self._sum(replicas, id_) for id_ in self._slots}
        self._led = {id_: self._sum(leads, id_) for id_ in self._slots}

    def fullness(self, broker_id: int) -> float:
        """Replicas per slot."""
        return self._held[broker_id] / self._slots[broker_id]

    def leadership(self, broker_id: int) -> float:
        """Preferred leaders per slot."""
        return self._led[broker_id] / self._slots[broker_id]

    def led(self, broker_id: int) -> int:
        """Of how many partitions the broker is the preferred leader."""
        return self._led[broker_id]

    def add(self, broker_id: int, *, leads: bool) -> int:
        """Give the broker one more replica; returns the slot that takes it."""
        # Followers go beside leaders where slots are equally full: that leaves room for the next.
        sign = 1 if leads else -1

        def rank(slot: int) -> tuple[int, int, int]:
            key = SlotKey(broker_id, slot)
            return self._replicas.get(key, 0), sign * self._leads.get(key, 0), slot

        slot = min(range(self._slots[broker_id]), key=rank)
        key = SlotKey(broker_id, slot)
        self._replicas[key] = self._replicas.get(key, 0) + 1
        self._held[broker_id] += 1
        if leads:
            self._leads[key] = self._leads.get(key, 0) + 1
            self._led[broker_id] += 1
        return slot

    def _sum(self, counts: Mapping[SlotKey, int], broker_id: int) -> int:
        return sum(counts.get(SlotKey(broker_id, s), 0) for s in range(self._slots[broker_id]))


def place_partitions(
    count: int, replication_factor: int, candidates: Sequence[Candidate], loads: Loads
) -> list[Replicas]:
    """Replicas for ``count`` partitions; ``loads``, of the candidates, is brought up to date.

    The same input gives the same answer. Brokers are filled in proportion to their slots; the
    replicas of a partition are on different brokers, and in different racks as far as there are
    enough. Raises ``InvalidReplicationFactorError`` when there are too few brokers.
    """
    if replication_factor > len(candidates):
        raise InvalidReplicationFactorError(
            f"replication factor {replication_factor} needs as many brokers, {len(candidates)} are"
            " alive; start more or ask for fewer copies"
        )
    return [place_on(_choose(replication_factor, candidates, loads), loads) for _ in range(count)]


def place_on(brokers: Sequence[int], loads: Loads) -> Replicas:
    """Slots for the replicas of a partition whose brokers are given, preferred leader first."""
    slots = [loads.add(broker, leads=place == 0) for place, broker in enumerate(brokers)]
    return Replicas(tuple(brokers), tuple(slots))


def _choose(copies: int, candidates: Sequence[Candidate], loads: Loads) -> list[int]:
    chosen: list[int] = []
    racks: set[str] = set()
    for _ in range(copies):
        best = min(
            (broker for broker in candidates if broker.broker_id not in chosen),
            key=lambda broker: (
                broker.rack in racks,
                loads.fullness(broker.broker_id),
                loads.leadership(broker.broker_id),
                broker.broker_id,
            ),
        )
        chosen.append(best.broker_id)
        racks.add(best.rack)
    leader = min(chosen, key=lambda broker: (loads.leadership(broker), chosen.index(broker)))
    followers = sorted(broker for broker in chosen if broker != leader)
    # Turned with every partition that the broker leads: its successors are not always the same.
    turn = loads.led(leader) % max(1, len(followers))
    return [leader, *followers[turn:], *followers[:turn]]
