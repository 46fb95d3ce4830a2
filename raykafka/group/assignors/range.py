"""``range``: the same partition numbers of all topics meet in one member."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from raykafka.group.assignors.api import MemberSpec, Partitions, TopicSpec


class RangeAssignor:
    """Each topic's partitions in as many runs as it has subscribers, the first ones longer by one.

    Members stand in the order of their instance ids, else of their member ids. Topics with equally
    many partitions and the same subscribers are so divided alike, which joins need. It does not
    look at what members had: a new member moves many partitions, and the first members have more of
    every topic.
    """

    name: Final = "range"

    def assign(
        self, members: Mapping[str, MemberSpec], topics: Mapping[str, TopicSpec]
    ) -> Mapping[str, Partitions]:
        """See ``Assignor``."""
        order = sorted(members, key=lambda name: (members[name].instance_id or name, name))
        assigned: dict[str, dict[str, range]] = {name: {} for name in order}
        for topic in sorted(topics):
            subscribers = [name for name in order if topic in members[name].topics]
            if not subscribers:
                continue
            base, longer = divmod(topics[topic].num_partitions, len(subscribers))
            start = 0
            for index, name in enumerate(subscribers):
                end = start + base + (index < longer)
                if end > start:
                    assigned[name][topic] = range(start, end)
                start = end
        return assigned
