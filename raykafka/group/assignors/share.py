"""``simple``: the assignor of share groups (KIP-932)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Final

from raykafka.group.assignors.api import (
    MemberSpec,
    Partition,
    Partitions,
    TopicSpec,
    partitions_of,
)
from raykafka.group.assignors.spread import spread
from raykafka.group.assignors.uniform import assign_alike, grouped


class ShareAssignor:
    """Every partition has a member, and every member has a partition.

    With more partitions than members a partition has one member, with more members than partitions
    a member has one partition; either way evenly, and moving as little as possible. Topics with the
    same subscribers are divided together, others apart from each other.
    """

    name: Final = "simple"

    def assign(
        self, members: Mapping[str, MemberSpec], topics: Mapping[str, TopicSpec]
    ) -> Mapping[str, Partitions]:
        """See ``Assignor``."""
        together: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for topic in sorted(topics):
            subscribers = tuple(name for name in sorted(members) if topic in members[name].topics)
            if subscribers:
                together[subscribers].append(topic)
        assigned: dict[str, list[Partition]] = {name: [] for name in members}
        for subscribers, names in together.items():
            part = {name: topics[name] for name in names}
            concerned = {name: members[name] for name in subscribers}
            for name, partitions in _divide(concerned, part).items():
                assigned[name] += [
                    (topic, number) for topic, numbers in partitions.items() for number in numbers
                ]
        return {name: grouped(found) for name, found in assigned.items()}


def _divide(
    members: Mapping[str, MemberSpec], topics: Mapping[str, TopicSpec]
) -> Mapping[str, Partitions]:
    partitions = {
        (topic, number): topics[topic].place(number) for topic, number in partitions_of(topics)
    }
    if len(partitions) >= len(members):
        return assign_alike(members, topics, frozenset(topics))
    if not partitions:
        return {}
    before: dict[str, Partition] = {}
    for name, member in members.items():
        for topic, numbers in sorted(member.owned.items()):
            for number in numbers:
                if (topic, number) in partitions:
                    before.setdefault(name, (topic, number))
    places = {name: (member.host, member.rack_id) for name, member in members.items()}
    shared = spread(places, partitions, before)
    return {name: {topic: [number]} for (topic, number), names in shared.items() for name in names}
