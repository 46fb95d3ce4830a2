"""Sets of partitions as they are written and compared: topic id -> sorted partition numbers.

A topic without partitions does not stand in an assignment, so that equal sets are equal values.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

Assignment = dict[str, tuple[int, ...]]
"""Never changed once it is made."""
Pair = tuple[str, int]
"""Topic id and partition."""


def pairs(assignment: Assignment) -> Iterator[Pair]:
    """One by one."""
    for topic_id, partitions in assignment.items():
        for partition in partitions:
            yield topic_id, partition


def from_pairs(found: Iterable[Pair]) -> Assignment:
    """The reverse of ``pairs``; double ones count once."""
    grouped: dict[str, set[int]] = defaultdict(set)
    for topic_id, partition in found:
        grouped[topic_id].add(partition)
    return {topic_id: tuple(sorted(grouped[topic_id])) for topic_id in sorted(grouped)}


def from_listing(listing: Iterable[Any]) -> Assignment:
    """Of objects with ``topic_id`` and ``partitions``, as they stand in requests."""
    return from_pairs(
        (item.topic_id, partition) for item in listing for partition in item.partitions
    )


def minus(left: Assignment, right: Assignment) -> Assignment:
    """What only ``left`` has."""
    if not right or not left:
        return left
    other = set(pairs(right))
    return from_pairs(pair for pair in pairs(left) if pair not in other)


def common(left: Assignment, right: Assignment) -> Assignment:
    """What both have."""
    if left == right:
        return left
    other = set(pairs(right))
    return from_pairs(pair for pair in pairs(left) if pair in other)


def is_within(small: Assignment, *large: Assignment) -> bool:
    """Whether every partition of ``small`` is in one of the others."""
    allowed = {pair for one in large for pair in pairs(one)}
    return all(pair in allowed for pair in pairs(small))


def overlap(left: Assignment, right: Assignment) -> bool:
    """Whether any partition is in both."""
    other = set(pairs(right))
    return any(pair in other for pair in pairs(left))


def size(assignment: Assignment) -> int:
    """How many partitions there are."""
    return sum(map(len, assignment.values()))
