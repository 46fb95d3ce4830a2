"""Which replicas to move: pure planning over what the brokers hold.

The same input gives the same plan. A plan is greedy: move after move, each the one that levels the
most between a full and an empty broker, until all are within the tolerance or no move helps. A
move never puts two replicas of a partition on one broker, nor takes racks away from it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from raykafka.errors import InvalidReplicaAssignmentError, InvalidReplicationFactorError
from raykafka.model import TopicPartition

TOLERANCE: Final = 0.05
"""How far a broker may be from its share before anything is moved, as a fraction of the average."""
_LEAST_GAIN: Final = 1e-12


class BrokerCapacity(NamedTuple):
    """A broker that may take replicas; ``weight`` is its share of the load, as its cores."""

    broker_id: int
    rack: str = ""
    weight: int = 1


class PartitionLoad(NamedTuple):
    """A partition, its replicas with the preferred leader first, and its size in bytes."""

    place: TopicPartition
    replicas: tuple[int, ...]
    size_bytes: int = 0


class Move(NamedTuple):
    """The replicas of one partition before and after; another order alone moves its leader."""

    place: TopicPartition
    before: tuple[int, ...]
    after: tuple[int, ...]
    size_bytes: int = 0
    """Bytes to be copied."""


class BrokerShare(NamedTuple):
    """What one broker holds."""

    broker_id: int
    replicas: int
    size_bytes: int
    leaders: int
    """Partitions of which it is the preferred leader."""


@dataclass(frozen=True, slots=True)
class MovePlan:
    """Moves, and what the brokers hold before and after them."""

    moves: tuple[Move, ...]
    before: tuple[BrokerShare, ...]
    after: tuple[BrokerShare, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes to be copied in all."""
        return sum(move.size_bytes for move in self.moves)


def plan_rebalance(
    brokers: Sequence[BrokerCapacity],
    partitions: Sequence[PartitionLoad],
    *,
    tolerance: float = TOLERANCE,
) -> MovePlan:
    """Level replicas, bytes and leaders over the brokers, in proportion to their weights."""
    board = _Board(brokers, partitions)
    before = board.shares()
    while board.level(tolerance):
        pass
    while board.level_leaders(tolerance):
        pass
    return MovePlan(tuple(board.moves()), before, board.shares())


def plan_drain(
    brokers: Sequence[BrokerCapacity],
    partitions: Sequence[PartitionLoad],
    drained: Collection[int],
) -> MovePlan:
    """Move everything away from the ``drained`` brokers, and nothing else.

    ``brokers`` are all that are alive. Raises ``InvalidReplicationFactorError`` when the others are
    too few for a partition's replicas.
    """
    left = [broker.broker_id for broker in brokers if broker.broker_id not in drained]
    board = _Board(brokers, partitions)
    before = board.shares()
    for partition in partitions:
        if not set(drained).isdisjoint(partition.replicas):
            board.confine(partition.place, left, len(partition.replicas))
    return MovePlan(tuple(board.moves()), before, board.shares())


def plan_assignment(
    brokers: Sequence[BrokerCapacity],
    partitions: Sequence[PartitionLoad],
    chosen: Collection[TopicPartition],
    *,
    allowed: Collection[int],
    replication_factor: int | None = None,
) -> MovePlan:
    """Bring the ``chosen`` partitions to the ``allowed`` brokers, in that many copies.

    ``partitions`` are all there are, so that room is judged rightly. None keeps the number of
    copies. Raises ``InvalidReplicationFactorError`` and ``InvalidReplicaAssignmentError``.
    """
    known = [broker.broker_id for broker in brokers]
    unknown = sorted(set(allowed).difference(known))
    if unknown:
        raise InvalidReplicaAssignmentError(
            f"brokers {unknown} do not take replicas; those that do are {known}"
        )
    board = _Board(brokers, partitions)
    before = board.shares()
    for partition in partitions:
        if partition.place in chosen:
            copies = replication_factor or len(partition.replicas)
            board.confine(partition.place, list(allowed), copies)
    return MovePlan(tuple(board.moves()), before, board.shares())


class _Board:
    """Replicas being moved about."""

    def __init__(
        self, brokers: Sequence[BrokerCapacity], partitions: Sequence[PartitionLoad]
    ) -> None:
        self._racks = {broker.broker_id: broker.rack for broker in brokers}
        self._partitions = {partition.place: partition for partition in partitions}
        self._replicas = {place: list(p.replicas) for place, p in self._partitions.items()}
        self._held: dict[int, dict[TopicPartition, None]] = {b: {} for b in self._racks}
        self._count = dict.fromkeys(self._racks, 0)
        self._size = dict.fromkeys(self._racks, 0)
        self._leads = dict.fromkeys(self._racks, 0)
        for partition in partitions:
            for position, broker in enumerate(partition.replicas):
                self._add(partition.place, broker, leads=position == 0)
        total = sum(broker.weight for broker in brokers)
        self._share = {broker.broker_id: broker.weight / total for broker in brokers}

    # --- what is to be seen -----------------------------------------------------------------------

    def shares(self) -> tuple[BrokerShare, ...]:
        """What every broker holds now."""
        return tuple(
            BrokerShare(b, self._count[b], self._size[b], self._leads[b])
            for b in sorted(self._count)
        )

    def moves(self) -> Iterator[Move]:
        """The partitions that have changed."""
        for place, partition in self._partitions.items():
            after = tuple(self._replicas[place])
            if after != partition.replicas:
                added = sum(broker not in partition.replicas for broker in after)
                copied = added * partition.size_bytes
                yield Move(place, partition.replicas, after, copied)

    # --- moves ------------------------------------------------------------------------------------

    def level(self, tolerance: float) -> bool:
        """Make the move that helps most; False when none is left to be made."""
        load = {broker: self._excess(broker) for broker in self._racks}
        order = sorted(load, key=lambda broker: (load[broker], broker))
        outside = {broker for broker in order if self._is_outside(broker, tolerance)}
        for receiver in order:
            for donor in reversed(order):
                if donor == receiver or not outside & {donor, receiver}:
                    continue
                place = self._best(donor, receiver)
                if place is not None:
                    self._replace(place, donor, receiver)
                    return True
        return False

    def level_leaders(self, tolerance: float) -> bool:
        """Give one partition another preferred leader; False when that helps nobody."""
        total = sum(self._leads.values())
        excess = {b: self._leads[b] - total * self._share[b] for b in self._racks}
        bound = max(1.0, tolerance * total / max(1, len(self._racks)))
        order = sorted(excess, key=lambda broker: (excess[broker], broker))
        for receiver in order:
            for donor in reversed(order):
                gap = excess[donor] - excess[receiver]
                if gap <= bound or gap <= 1:
                    break
                for place in self._held[donor]:
                    replicas = self._replicas[place]
                    if replicas[0] == donor and receiver in replicas:
                        replicas.remove(receiver)
                        replicas.insert(0, receiver)
                        self._leads[donor] -= 1
                        self._leads[receiver] += 1
                        return True
        return False

    def confine(self, place: TopicPartition, allowed: Sequence[int], copies: int) -> None:
        """Bring a partition to ``copies`` of the ``allowed`` brokers; who may stay stays."""
        if copies > len(allowed):
            raise InvalidReplicationFactorError(
                f"{place} shall have {copies} replicas, and only brokers {sorted(allowed)} are left"
                " for them; add a broker, or ask for fewer replicas"
            )
        replicas = self._replicas[place]
        for broker in [broker for broker in replicas if broker not in allowed]:
            receiver = self._roomiest(place, allowed, without=broker)
            if receiver is None or len(replicas) > copies:
                self._drop(place, broker)
            else:
                self._replace(place, broker, receiver)
        while len(replicas) > copies:
            self._drop(place, max(replicas[1:], key=self._excess))
        while len(replicas) < copies:
            receiver = self._roomiest(place, allowed)
            assert receiver is not None
            replicas.append(receiver)
            self._add(place, receiver, leads=len(replicas) == 1)

    # --- how full they are ------------------------------------------------------------------------

    def _deviations(self, broker: int) -> tuple[float, float]:
        """Replicas and bytes above the broker's share, in averages."""
        count, size = sum(self._count.values()), sum(self._size.values())
        number = len(self._racks)
        of_count = (self._count[broker] - count * self._share[broker]) * number / max(1, count)
        of_size = (self._size[broker] - size * self._share[broker]) * number / max(1, size)
        return of_count, of_size

    def _excess(self, broker: int) -> float:
        return sum(self._deviations(broker))

    def _is_outside(self, broker: int, tolerance: float) -> bool:
        return any(abs(deviation) > tolerance for deviation in self._deviations(broker))

    def _best(self, donor: int, receiver: int) -> TopicPartition | None:
        """The replica of ``donor`` whose move to ``receiver`` levels most."""
        number = len(self._racks)
        of_count = number / max(1, sum(self._count.values()))
        of_size = number / max(1, sum(self._size.values()))
        (from_count, from_size), (to_count, to_size) = map(self._deviations, (donor, receiver))
        best, best_gain = None, _LEAST_GAIN
        for place in self._held[donor]:
            size = self._partitions[place].size_bytes * of_size
            gain = of_count * (from_count - to_count - of_count)
            gain += size * (from_size - to_size - size)
            if gain > best_gain and self._may_move(place, donor, receiver):
                best, best_gain = place, gain
        return best

    def _may_move(self, place: TopicPartition, donor: int, receiver: int) -> bool:
        replicas = self._replicas[place]
        if receiver in replicas:
            return False
        others = [broker for broker in replicas if broker != donor]
        return self._rack_count((*others, receiver)) >= self._rack_count(replicas)

    def _roomiest(
        self, place: TopicPartition, allowed: Iterable[int], *, without: int | None = None
    ) -> int | None:
        """The broker that a replica fits best on; None when every one has it already."""
        replicas = self._replicas[place]
        staying = [broker for broker in replicas if broker in allowed and broker != without]
        free = [broker for broker in allowed if broker not in replicas]
        return min(
            free,
            key=lambda broker: (
                -self._rack_count((*staying, broker)),
                self._excess(broker),
                broker,
            ),
            default=None,
        )

    def _rack_count(self, brokers: Iterable[int]) -> int:
        return len({self._racks.get(broker, "") for broker in brokers})

    # --- bookkeeping ------------------------------------------------------------------------------

    def _replace(self, place: TopicPartition, donor: int, receiver: int) -> None:
        replicas = self._replicas[place]
        position = replicas.index(donor)
        replicas[position] = receiver
        self._remove(place, donor, led=position == 0)
        self._add(place, receiver, leads=position == 0)

    def _drop(self, place: TopicPartition, broker: int) -> None:
        replicas = self._replicas[place]
        led = replicas[0] == broker
        replicas.remove(broker)
        self._remove(place, broker, led=led)
        if led and replicas and replicas[0] in self._leads:
            self._leads[replicas[0]] += 1

    def _add(self, place: TopicPartition, broker: int, *, leads: bool) -> None:
        if broker in self._count:  # one that is not alive holds what it holds
            self._held[broker][place] = None
            self._count[broker] += 1
            self._size[broker] += self._partitions[place].size_bytes
            self._leads[broker] += leads

    def _remove(self, place: TopicPartition, broker: int, *, led: bool) -> None:
        if broker in self._count:
            del self._held[broker][place]
            self._count[broker] -= 1
            self._size[broker] -= self._partitions[place].size_bytes
            self._leads[broker] -= led
