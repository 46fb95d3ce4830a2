"""The group's assignor: one's own, one that fails, places of leaders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from group_kit import CLICKS, GroupBench

from raykafka.group.assignors.api import MemberSpec, Partitions, TopicSpec
from raykafka.group.assignors.uniform import UniformAssignor
from raykafka.group.settings import GroupSettings, KindSettings
from raykafka.group.topics import TopicView


class Scripted:
    """An assignor of one's own."""

    name = "scripted"

    def __init__(self) -> None:
        self.answer: Any = {}
        self.asked: Any = None

    def assign(
        self, members: Mapping[str, MemberSpec], topics: Mapping[str, TopicSpec]
    ) -> Mapping[str, Partitions]:
        self.asked = (members, topics)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer  # type: ignore[no-any-return]


@pytest.fixture
def scripted() -> Scripted:
    return Scripted()


@pytest.fixture
def bench(scripted: Scripted) -> GroupBench:
    assignors = {"scripted": scripted, "uniform": UniformAssignor()}
    return GroupBench(GroupSettings(consumer=KindSettings(assignors=assignors)))


def test_an_assignor_of_ones_own_decides(bench: GroupBench, scripted: Scripted) -> None:
    scripted.answer = {"a": {"clicks": [3, 1]}}
    assert bench.join("g", "a", host="h", rack_id="r").assignment == {CLICKS: (1, 3)}
    members, topics = scripted.asked
    assert members == {"a": MemberSpec(frozenset({"clicks"}), {}, "", "h", "r")}
    assert topics == {"clicks": TopicSpec(4)}
    bench.join("g", "b", "clicks", "nothing", instance_id="i")
    members, _ = scripted.asked
    assert members["a"].owned == {"clicks": (1, 3)}
    assert members["b"] == MemberSpec(frozenset({"clicks"}), {}, "i")
    assert bench.describe("g").assignor == "scripted"
    assert not bench.problems


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (ZeroDivisionError("oh"), "ZeroDivisionError: oh"),
        ({"x": {}}, "no member x"),
        ({"a": {"views": [0]}}, "not subscribed to views"),
        ({"a": {"clicks": [4]}}, "no partition 4"),
        ({"a": {"clicks": [0]}, "b": {"clicks": [0]}}, "both get clicks-0"),
        ([1, 2], "AttributeError"),
    ],
)
def test_one_that_fails_is_replaced_by_uniform(
    bench: GroupBench, scripted: Scripted, answer: Any, problem: str
) -> None:
    bench.join("g", "a")
    scripted.answer = answer
    bench.join("g", "b")
    assert problem in bench.problems[-1]
    bench.settle("g", "a", "b")
    assert [len(one[CLICKS]) for one in bench.owned("g").values()] == [2, 2]


def test_partitions_go_to_members_beside_their_leaders() -> None:
    hosts = ["h1", "h0", "h1", "h0"]
    bench = GroupBench(topics={"clicks": TopicView(CLICKS, 4, hosts)})
    bench.join("g", "a", host="h0")
    bench.beat("g", "a", -1)
    bench.join("g", "b", host="h1")
    bench.join("g", "a", host="h0")
    bench.settle("g", "a", "b")
    assert bench.owned("g") == {"a": {CLICKS: (1, 3)}, "b": {CLICKS: (0, 2)}}
