"""What must hold of a group, whatever happens to its members and its coordinator."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from raykafka.testing.membership.worker import ASSIGNED, LEFT, LOST, REVOKED, Event

FOREVER: Final = 1 << 62


class Ownership(NamedTuple):
    """One member had one partition, from when it was told until it gave it back or was stopped."""

    member: str
    partition: int
    from_ms: int
    until_ms: int


def ownerships(
    histories: Mapping[str, Sequence[Event]], stopped: Mapping[str, Sequence[tuple[int, int]]]
) -> list[Ownership]:
    """When each member owned what. While it was ``stopped`` (paused, or killed for ever) it owned
    nothing: it does nothing, and hears that it has lost everything before it does anything again.
    """
    found: list[Ownership] = []
    for member, events in histories.items():
        since: dict[int, int] = {}
        ends: list[tuple[int, int, int]] = []
        for event in events:
            if event.what == ASSIGNED:
                since.update(dict.fromkeys(event.partitions, event.at_ms))
            elif event.what in (REVOKED, LOST, LEFT):
                gone = event.partitions if event.what != LEFT else tuple(since)
                ends += [(p, since.pop(p), event.at_ms) for p in gone if p in since]
        ends += [(p, from_ms, FOREVER) for p, from_ms in since.items()]
        for partition, from_ms, until_ms in ends:
            found += [
                Ownership(member, partition, *piece)
                for piece in _without(from_ms, until_ms, stopped.get(member, ()))
            ]
    return found


def overlaps(owned: Iterable[Ownership]) -> list[str]:
    """Partitions that two members had at the same time, a line each."""
    problems = []
    by_partition: dict[int, list[Ownership]] = {}
    for each in owned:
        by_partition.setdefault(each.partition, []).append(each)
    for partition, found in sorted(by_partition.items()):
        found.sort(key=lambda each: each.from_ms)
        latest = found[0]
        for each in found[1:]:
            if each.member != latest.member and each.from_ms < latest.until_ms:
                problems.append(
                    f"partition {partition}: {each.member} got it at {each.from_ms}, but"
                    f" {latest.member} had it from {latest.from_ms} to {latest.until_ms}"
                )
            if each.until_ms > latest.until_ms:
                latest = each
    return problems


def least_moves(before: Mapping[str, int], after: Iterable[str], partitions: int) -> int:
    """How many partitions must change hands between members that stay, for balance.

    ``before`` says how many partitions each member had that is still there.
    """
    members = sorted(after)
    low, larger = divmod(partitions, len(members))
    counts = sorted((before.get(member, 0) for member in members), reverse=True)
    kept = sum(min(count, low + (index < larger)) for index, count in enumerate(counts))
    return sum(counts) - kept


def moves(before: Mapping[int, str], after: Mapping[int, str]) -> int:
    """How many partitions went from a member that is still there to another one."""
    there = set(after.values())
    return sum(owner != after[partition] for partition, owner in before.items() if owner in there)


def _without(
    from_ms: int, until_ms: int, holes: Iterable[tuple[int, int]]
) -> list[tuple[int, int]]:
    pieces = [(from_ms, until_ms)]
    for begin, end in holes:
        pieces = [
            piece
            for start, stop in pieces
            for piece in ((start, min(stop, begin)), (max(start, end), stop))
            if piece[0] < piece[1]
        ]
    return pieces
