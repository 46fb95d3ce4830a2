"""``uniform``: balanced, sticky, near, deterministic."""

from __future__ import annotations

import random
from collections.abc import Mapping

from hypothesis import given, settings
from hypothesis import strategies as st

from raykafka.group.assignors.api import MemberSpec, Partition, Partitions, TopicSpec, problem_of
from raykafka.group.assignors.uniform import UniformAssignor

HOSTS = ["", "h0", "h1", "h2"]


def assigned(
    members: Mapping[str, MemberSpec], topics: Mapping[str, TopicSpec]
) -> dict[str, set[Partition]]:
    result = UniformAssignor().assign(members, topics)
    assert problem_of(result, members, topics, share=False) == ""
    return {name: flat(result.get(name, {})) for name in members}


def flat(partitions: Partitions) -> set[Partition]:
    return {(topic, number) for topic, numbers in partitions.items() for number in numbers}


def nested(partitions: set[Partition]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for topic, number in sorted(partitions):
        found.setdefault(topic, []).append(number)
    return found


@st.composite
def clusters(draw: st.DrawFn) -> dict[str, TopicSpec]:
    return {
        name: TopicSpec(count, [draw(st.sampled_from(HOSTS)) for _ in range(count)])
        for name in ("t0", "t1", "t2")
        if (count := draw(st.integers(0, 6)))
    }


@st.composite
def histories(draw: st.DrawFn) -> tuple[dict[str, MemberSpec], dict[str, TopicSpec]]:
    """Members with what they had, some of it nonsense by now."""
    topics = draw(clusters())
    names = draw(st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=7, unique=True))
    owned: dict[str, set[Partition]] = {name: set() for name in names}
    for topic in ("t0", "t1", "t2"):
        for number in range(7):
            owner = draw(st.sampled_from([*names, *names, "nobody"]))
            if owner != "nobody" and (topic not in topics or number < topics[topic].num_partitions):
                owned[owner].add((topic, number))
    members = {
        name: MemberSpec(frozenset(topics), nested(owned[name]), host=draw(st.sampled_from(HOSTS)))
        for name in names
    }
    return members, topics


@settings(max_examples=300)
@given(histories())
def test_alike_members_get_equal_shares_with_the_fewest_moves(
    history: tuple[dict[str, MemberSpec], dict[str, TopicSpec]],
) -> None:
    members, topics = history
    result = assigned(members, topics)
    total = sum(topic.num_partitions for topic in topics.values())
    loads = sorted(map(len, result.values()))
    assert sum(loads) == total
    assert loads[-1] - loads[0] <= 1
    there = {(name, n) for name, topic in topics.items() for n in range(topic.num_partitions)}
    had = {name: flat(member.owned) & there for name, member in members.items()}
    base, larger = divmod(total, len(members))
    shares = [base + 1] * larger + [base] * (len(members) - larger)
    most = sum(map(min, sorted(map(len, had.values()), reverse=True), shares))
    assert sum(len(result[name] & had[name]) for name in members) == most
    assert assigned(result_as_owned(members, result), topics) == result, "nothing moves again"
    shuffled = dict(random.Random(1).sample(sorted(members.items()), len(members)))
    assert assigned(shuffled, topics) == result


def result_as_owned(
    members: Mapping[str, MemberSpec], result: Mapping[str, set[Partition]]
) -> dict[str, MemberSpec]:
    return {
        name: MemberSpec(member.topics, nested(result[name]), host=member.host)
        for name, member in members.items()
    }


@settings(max_examples=200)
@given(clusters(), st.lists(st.sampled_from(HOSTS), min_size=1, max_size=6))
def test_as_many_as_balance_allows_are_near_their_leader(
    topics: dict[str, TopicSpec], hosts: list[str]
) -> None:
    members = {f"m{i}": MemberSpec(frozenset(topics), host=host) for i, host in enumerate(hosts)}
    result = assigned(members, topics)
    total = sum(topic.num_partitions for topic in topics.values())
    base, larger = divmod(total, len(members))
    led = {
        host: sum(list(topic.hosts).count(host) for topic in topics.values()) for host in HOSTS[1:]
    }
    best = 0
    spare = larger
    for host, count in led.items():
        here = hosts.count(host)
        best += min(count, here * base)
        beyond = min(max(0, count - here * base), here, spare)
        spare -= beyond
        best += beyond
    near = sum(
        topics[topic].hosts[number] == members[name].host != ""
        for name, found in result.items()
        for topic, number in found
    )
    assert near == best


@st.composite
def unlike(draw: st.DrawFn) -> tuple[dict[str, MemberSpec], dict[str, TopicSpec]]:
    topics = draw(clusters())
    names = draw(st.lists(st.sampled_from("abcde"), min_size=1, max_size=5, unique=True))
    subscribed = {
        name: frozenset(draw(st.sets(st.sampled_from(["t0", "t1", "t2"])))) & set(topics)
        for name in names
    }
    owned: dict[str, set[Partition]] = {name: set() for name in names}
    for topic, spec in topics.items():
        for number in range(spec.num_partitions):
            owner = draw(st.sampled_from([*names, "nobody"]))
            if owner != "nobody":
                owned[owner].add((topic, number))
    return (
        {name: MemberSpec(frozenset(subscribed[name]), nested(owned[name])) for name in names},
        topics,
    )


@settings(max_examples=300)
@given(unlike())
def test_unlike_members_are_as_balanced_as_can_be(
    history: tuple[dict[str, MemberSpec], dict[str, TopicSpec]],
) -> None:
    members, topics = history
    result = assigned(members, topics)
    wanted = {topic for member in members.values() for topic in member.topics}
    assert set().union(*result.values()) == {
        (name, number) for name in wanted for number in range(topics[name].num_partitions)
    }
    loads = [len(result[name]) for name in members]
    assert sum(load * load for load in loads) == best_squares(members, topics)
    assert assigned(result_as_owned(members, result), topics) == result, "nothing moves again"


def best_squares(members: Mapping[str, MemberSpec], topics: Mapping[str, TopicSpec]) -> int:
    """The smallest sum of squared loads, by trying every split of every topic."""
    names = list(members)
    reachable = {tuple([0] * len(names))}
    for topic, spec in topics.items():
        takers = [i for i, name in enumerate(names) if topic in members[name].topics]
        if not takers:
            continue
        for _ in range(spec.num_partitions):
            reachable = {
                (*loads[:i], loads[i] + 1, *loads[i + 1 :]) for loads in reachable for i in takers
            }
    return min(sum(load * load for load in loads) for loads in reachable)


def test_unlike_members_keep_what_they_have_when_one_leaves() -> None:
    topics = {"t0": TopicSpec(8), "t1": TopicSpec(4)}
    both, one = frozenset({"t0", "t1"}), frozenset({"t0"})
    members = {"a": MemberSpec(both), "b": MemberSpec(one), "c": MemberSpec(both)}
    before = assigned(members, topics)
    del members["b"]
    left = {name: MemberSpec(members[name].topics, nested(before[name])) for name in members}
    after = assigned(left, topics)
    assert all(before[name] <= after[name] for name in left)


def test_unlike_members_get_what_is_near_where_it_makes_no_difference() -> None:
    topics = {"t0": TopicSpec(2, ["h0", "h1"]), "t1": TopicSpec(1, ["h1"])}
    members = {
        "a": MemberSpec(frozenset({"t0"}), host="h1"),
        "b": MemberSpec(frozenset({"t0", "t1"}), host="h0"),
        "c": MemberSpec(frozenset({"t1"}), host="h1"),
    }
    assert assigned(members, topics) == {"a": {("t0", 1)}, "b": {("t0", 0)}, "c": {("t1", 0)}}


def test_nobody_and_nothing() -> None:
    assert UniformAssignor().assign({}, {"t": TopicSpec(1)}) == {}
    assert assigned({"a": MemberSpec(frozenset())}, {}) == {"a": set()}
