"""The interface of assignors, the built-in ones and one's own.

An assignor of one's own is an object, or a class without arguments, that has a ``name`` and
``assign``; the broker setting ``group.consumer.assignors`` names it as ``package.module:Name``, and
members choose it by its name. It runs inside the coordinator: it must be a function of its
arguments alone (no clock, no randomness, no I/O), and fast, since the coordinator waits for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

Partition = tuple[str, int]
"""Topic name and partition number."""
Partitions = Mapping[str, Sequence[int]]
"""Partition numbers by topic name."""


@dataclass(frozen=True, slots=True)
class MemberSpec:
    """A member as assignors see it."""

    topics: frozenset[str]
    """What it is subscribed to, of the topics that there are; patterns are resolved."""
    owned: Partitions = field(default_factory=dict)
    """What it had in the assignment before this one, of the partitions that there are. Keeping it
    spares the members the work of a move."""
    instance_id: str = ""
    """``group.instance.id``; empty for dynamic members."""
    host: str = ""
    rack_id: str = ""


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic as assignors see it."""

    num_partitions: int
    hosts: Sequence[str] = ()
    """Machine of each partition's leader, as far as known; empty text for an unknown one."""
    racks: Sequence[str] = ()
    """Likewise the racks."""

    def place(self, partition: int) -> tuple[str, str]:
        """Host and rack of the partition's leader; empty where unknown."""
        host = self.hosts[partition] if partition < len(self.hosts) else ""
        return host, self.racks[partition] if partition < len(self.racks) else ""


class Assignor(Protocol):
    """Decides who gets what."""

    @property
    def name(self) -> str:
        """As members and settings spell it."""

    def assign(
        self, members: Mapping[str, MemberSpec], topics: Mapping[str, TopicSpec]
    ) -> Mapping[str, Partitions]:
        """The partitions of each member, by member id; members that get none may be left out.

        Every partition must go to a member that is subscribed to its topic, and in consumer groups
        to one member only. What breaks these rules, and any exception, counts as a failure: the
        group is then assigned by ``uniform``.
        """


def partitions_of(topics: Mapping[str, TopicSpec]) -> Iterator[Partition]:
    """Every partition, in order of names and numbers."""
    for name in sorted(topics):
        for partition in range(topics[name].num_partitions):
            yield name, partition


def problem_of(
    assigned: Mapping[str, Partitions],
    members: Mapping[str, MemberSpec],
    topics: Mapping[str, TopicSpec],
    *,
    share: bool,
) -> str:
    """Which rule an assignment breaks; empty for none."""
    owners: dict[Partition, str] = {}
    for member_id, partitions in assigned.items():
        member = members.get(member_id)
        if member is None:
            return f"there is no member {member_id}"
        for topic, numbers in partitions.items():
            if topic not in topics or topic not in member.topics:
                return f"member {member_id} is not subscribed to {topic}"
            for number in numbers:
                if not 0 <= number < topics[topic].num_partitions:
                    return f"there is no partition {number} of {topic}"
                owner = owners.setdefault((topic, number), member_id)
                if owner != member_id and not share:
                    return f"{owner} and {member_id} both get {topic}-{number}"
    return ""
