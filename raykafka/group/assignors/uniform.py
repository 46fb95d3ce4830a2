"""``uniform``: everybody gets equally much, and a rebalance moves as little as possible."""

from __future__ import annotations

import heapq
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
from raykafka.group.assignors.spread import distance, spread


class UniformAssignor:
    """Sticky and balanced (KIP-848's ``uniform``); the default.

    Where all members subscribe to the same topics, their numbers of partitions differ by one at
    most, and of all such assignments it is one with the fewest moves. Where they do not, no
    partition can be passed on, not even along a chain of members, so that two members' numbers come
    closer to each other. A partition that needs a new owner goes to a member on its leader's host
    where that leaves the balance as good, else to one in its rack.
    """

    name: Final = "uniform"

    def assign(
        self, members: Mapping[str, MemberSpec], topics: Mapping[str, TopicSpec]
    ) -> Mapping[str, Partitions]:
        """See ``Assignor``."""
        if not members:
            return {}
        subscriptions = {member.topics for member in members.values()}
        if len(subscriptions) == 1:
            return assign_alike(members, topics, next(iter(subscriptions)))
        return _Unlike(members, topics).assign()


def assign_alike(
    members: Mapping[str, MemberSpec],
    topics: Mapping[str, TopicSpec],
    subscribed: frozenset[str],
) -> Mapping[str, Partitions]:
    """Spread the partitions of some topics over members who all subscribe to them."""
    wanted = {name: topics[name] for name in subscribed if name in topics}
    items = {
        (topic, number): wanted[topic].place(number) for topic, number in partitions_of(wanted)
    }
    bins = {member_id: _place(members[member_id]) for member_id in sorted(members)}
    return {
        member_id: grouped(found)
        for member_id, found in spread(items, bins, previous_owners(members)).items()
    }


def previous_owners(members: Mapping[str, MemberSpec]) -> dict[Partition, str]:
    """Who had what; of several, the first member."""
    owners: dict[Partition, str] = {}
    for member_id in sorted(members):
        for topic, numbers in members[member_id].owned.items():
            for number in numbers:
                owners.setdefault((topic, number), member_id)
    return owners


def grouped(found: list[Partition]) -> Partitions:
    """Partition numbers by topic, sorted."""
    by_topic: dict[str, list[int]] = defaultdict(list)
    for topic, number in sorted(found):
        by_topic[topic].append(number)
    return by_topic


def _place(member: MemberSpec) -> tuple[str, str]:
    return member.host, member.rack_id


class _Unlike:
    """Members with different subscriptions: a balanced semi-matching by cost-reducing paths
    (Harvey, Ladner, Lovasz, Tamir 2006).
    """

    def __init__(self, members: Mapping[str, MemberSpec], topics: Mapping[str, TopicSpec]) -> None:
        self._members = {member_id: members[member_id] for member_id in sorted(members)}
        self._topics = topics
        self._subscribers: dict[str, list[str]] = defaultdict(list)
        for member_id, member in self._members.items():
            for topic in member.topics:
                if topic in topics:
                    self._subscribers[topic].append(member_id)
        self._held: dict[str, dict[str, set[int]]] = {
            member_id: defaultdict(set) for member_id in self._members
        }
        self._load = dict.fromkeys(self._members, 0)
        self._previous = previous_owners(members)
        self._heaps: dict[tuple[str, str, str], list[tuple[int, str]]] = {}

    def assign(self) -> Mapping[str, Partitions]:
        waiting: list[Partition] = []
        for topic, number in partitions_of(self._topics):
            owner = self._previous.get((topic, number))
            if owner is not None and topic in self._members[owner].topics:
                self._give(owner, topic, number)
            elif self._subscribers[topic]:
                waiting.append((topic, number))
        self._place_new(waiting)
        self._balance()
        return {
            member_id: {topic: sorted(numbers) for topic, numbers in held.items() if numbers}
            for member_id, held in self._held.items()
        }

    def _give(self, member_id: str, topic: str, number: int) -> None:
        self._held[member_id][topic].add(number)
        self._load[member_id] += 1

    def _place_new(self, waiting: list[Partition]) -> None:
        """Each to the least loaded subscriber; topics with few subscribers first."""
        waiting.sort(key=lambda pair: len(self._subscribers[pair[0]]))  # stable
        for topic, number in waiting:
            taker = self._least_loaded(topic)
            host, rack = self._topics[topic].place(number)
            for near in (self._least_loaded(topic, rack=rack), self._least_loaded(topic, host)):
                if near and self._load[near] <= self._load[taker]:
                    taker = near
            self._give(taker, topic, number)

    def _least_loaded(self, topic: str, host: str = "", *, rack: str = "") -> str:
        """Of the topic's subscribers on a host or in a rack, or of all; empty for none."""
        heap = self._heaps.get((topic, host, rack))
        if heap is None:
            heap = [
                (self._load[name], name)
                for name in self._subscribers[topic]
                if host in ("", self._members[name].host)
                and rack in ("", self._members[name].rack_id)
            ]
            heapq.heapify(heap)
            self._heaps[topic, host, rack] = heap
        while heap and heap[0][0] != self._load[heap[0][1]]:
            heapq.heapreplace(heap, (self._load[heap[0][1]], heap[0][1]))
        return heap[0][1] if heap else ""

    def _balance(self) -> None:
        """Shorten the loads of those that have the most, until no path leads to a lighter one."""
        moved = True
        while moved:
            moved = False
            heap = [(-load, name) for name, load in self._load.items()]
            heapq.heapify(heap)
            while heap:
                load, name = heapq.heappop(heap)
                path = self._path_from(name) if -load == self._load[name] else []
                if not path:
                    continue
                moved = True
                for giver, topic, taker in path:
                    self._move(giver, topic, taker)
                for changed in (name, path[-1][2]):
                    heapq.heappush(heap, (-self._load[changed], changed))

    def _path_from(self, start: str) -> list[tuple[str, str, str]]:
        """Shortest chain of moves to a member with at least two fewer partitions."""
        came_from: dict[str, tuple[str, str]] = {}
        seen_topics: set[str] = set()
        layer = [start]
        while layer:
            reached: list[str] = []
            for giver in layer:
                for topic in sorted(self._held[giver]):
                    if topic in seen_topics or not self._held[giver][topic]:
                        continue
                    seen_topics.add(topic)
                    for taker in self._subscribers[topic]:
                        if taker != start and taker not in came_from:
                            came_from[taker] = (giver, topic)
                            reached.append(taker)
            if reached:
                lightest = min(reached, key=lambda name: (self._load[name], name))
                if self._load[lightest] <= self._load[start] - 2:
                    return self._trace(start, lightest, came_from)
            layer = reached
        return []

    @staticmethod
    def _trace(
        start: str, end: str, came_from: Mapping[str, tuple[str, str]]
    ) -> list[tuple[str, str, str]]:
        path = []
        while end != start:
            giver, topic = came_from[end]
            path.append((giver, topic, end))
            end = giver
        return path[::-1]

    def _move(self, giver: str, topic: str, taker: str) -> None:
        """One partition of a topic: one that moves anyway, else one that is nearer to the taker."""
        taker_place, giver_place = _place(self._members[taker]), _place(self._members[giver])

        def cost(number: int) -> tuple[bool, bool, int, int]:
            previous = self._previous.get((topic, number))
            place = self._topics[topic].place(number)
            return (
                previous != taker,
                previous == giver,
                distance(place, taker_place) - distance(place, giver_place),
                number,
            )

        number = min(self._held[giver][topic], key=cost)
        self._held[giver][topic].remove(number)
        self._load[giver] -= 1
        self._give(taker, topic, number)
