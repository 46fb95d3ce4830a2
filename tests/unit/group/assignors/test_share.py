"""``simple``: everybody has something, and everything has somebody."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from raykafka.group.assignors.api import MemberSpec, Partitions, TopicSpec, problem_of
from raykafka.group.assignors.share import ShareAssignor


def assigned(
    members: Mapping[str, MemberSpec], topics: Mapping[str, TopicSpec]
) -> Mapping[str, Partitions]:
    result = ShareAssignor().assign(members, topics)
    assert problem_of(result, members, topics, share=True) == ""
    return result


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 12))
def test_shares_are_even_and_stay(partitions: int, size: int, later_size: int) -> None:
    topics = {"t": TopicSpec(partitions)}
    one = frozenset({"t"})
    members = {f"m{number:02}": MemberSpec(one) for number in range(size)}
    result = assigned(members, topics)
    users = Counter(number for found in result.values() for number in found["t"])
    assert set(users) == set(range(partitions))
    assert max(users.values()) - min(users.values()) <= 1
    loads = [len(found["t"]) for found in result.values()]
    assert max(loads) - min(loads) <= 1
    assert sum(loads) == max(partitions, size)
    later = {
        f"m{number:02}": MemberSpec(one, result.get(f"m{number:02}", {}))
        for number in range(later_size)
    }
    again = assigned(later, topics)
    if later_size == size:
        assert again == result
    kept = sum(
        len(set(found["t"]) & set(again.get(name, {}).get("t", [])))
        for name, found in result.items()
    )
    if later_size >= size >= partitions:
        shares = [
            later_size // partitions + (n < later_size % partitions) for n in range(partitions)
        ]
        counts = sorted(users.values(), reverse=True)
        assert kept == sum(map(min, counts, shares))


def test_topics_with_other_subscribers_are_divided_apart() -> None:
    members = {
        "a": MemberSpec(frozenset({"t"})),
        "b": MemberSpec(frozenset({"t", "u"})),
        "c": MemberSpec(frozenset()),
    }
    result = assigned(members, {"t": TopicSpec(1), "u": TopicSpec(2), "v": TopicSpec(1)})
    assert result == {"a": {"t": [0]}, "b": {"t": [0], "u": [0, 1]}, "c": {}}
    assert assigned(members, {"t": TopicSpec(0)}) == {"a": {}, "b": {}, "c": {}}
