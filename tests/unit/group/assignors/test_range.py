"""``range``: runs of each topic, in the order of the members."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from raykafka.group.assignors.api import MemberSpec, TopicSpec, problem_of
from raykafka.group.assignors.range import RangeAssignor

BOTH = frozenset({"t", "u"})


def numbers(members: dict[str, MemberSpec], *counts: int) -> dict[str, dict[str, list[int]]]:
    topics = {name: TopicSpec(count) for name, count in zip("tu", counts, strict=False)}
    result = RangeAssignor().assign(members, topics)
    assert problem_of(result, members, topics, share=False) == ""
    return {
        name: {topic: list(found) for topic, found in partitions.items()}
        for name, partitions in result.items()
    }


def test_the_same_numbers_of_all_topics_meet() -> None:
    members = {"b": MemberSpec(BOTH), "a": MemberSpec(BOTH), "c": MemberSpec(BOTH)}
    assert numbers(members, 5, 5) == {
        "a": {"t": [0, 1], "u": [0, 1]},
        "b": {"t": [2, 3], "u": [2, 3]},
        "c": {"t": [4], "u": [4]},
    }


def test_static_members_stand_in_the_order_of_their_instances() -> None:
    members = {
        "a": MemberSpec(BOTH, instance_id="z"),
        "b": MemberSpec(BOTH, instance_id="y"),
        "c": MemberSpec(frozenset({"u"})),
    }
    assert numbers(members, 2, 2) == {
        "c": {"u": [0]},
        "b": {"t": [0], "u": [1]},
        "a": {"t": [1]},
    }


@given(st.integers(0, 20), st.integers(1, 7))
def test_everything_is_given_in_runs(count: int, size: int) -> None:
    members = {f"m{number}": MemberSpec(BOTH) for number in range(size)}
    found = [one.get("t", []) for _, one in sorted(numbers(members, count).items())]
    assert [number for run in found for number in run] == list(range(count))
    assert max(map(len, found)) - min(map(len, found)) <= 1
