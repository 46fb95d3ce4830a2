"""What operators ask about groups and do to them."""

from __future__ import annotations

import pytest
from group_kit import CLICKS, GroupBench, Offset

from raykafka.errors import (
    GroupIdNotFoundError,
    InvalidRequestError,
    NonEmptyGroupError,
    UnknownMemberIdError,
)
from raykafka.group.commands import DeleteGroups, ListGroups, RemoveMembers


@pytest.fixture
def bench() -> GroupBench:
    bench = GroupBench()
    bench.join("g", "a", client_id="app", host="h", rack_id="r", instance_id="one")
    bench.join("g", "b")
    bench.settle("g", "a", "b")
    bench.join("queue", "s", share=True)
    bench.commit("tool", Offset(0, 5))
    return bench


def test_groups_are_listed_by_state_and_type(bench: GroupBench) -> None:
    def listed(*states: str, types: tuple[str, ...] = ()) -> list[str]:
        return [one.group_id for one in bench.submit(ListGroups(states, types))]

    assert listed() == ["g", "queue", "tool"]
    assert listed("stable") == ["g", "queue"]
    assert listed("Empty", "Dead") == ["tool"]
    assert listed(types=("share",)) == ["queue"]
    assert bench.submit(ListGroups(("stable",), ("Consumer",)))[0].members == 2


def test_a_description_says_everything(bench: GroupBench) -> None:
    found = bench.describe("g")
    assert (found.type, found.state, found.assignor) == ("consumer", "Stable", "uniform")
    assert (found.group_epoch, found.assignment_epoch) == (2, 2)
    assert found.topic_names == {CLICKS: "clicks"}
    first = found.members[0]
    assert first.member_id == "a"
    assert first[1:6] == (2, "one", "app", "h", "r")
    assert first.assignment == first.target_assignment == {CLICKS: (0, 1)}
    with pytest.raises(GroupIdNotFoundError):
        bench.describe("nobody")


def test_only_groups_without_members_are_deleted(bench: GroupBench) -> None:
    bench.commit_pending("tool", 7, 0, Offset(0, 1))
    errors = bench.submit(DeleteGroups(["g", "tool", "nobody"]))
    assert [type(error) for error in errors] == [
        NonEmptyGroupError,
        type(None),
        GroupIdNotFoundError,
    ]
    bench.submit(RemoveMembers("g"))
    assert bench.submit(DeleteGroups(["g"])) == [None]
    assert set(bench.machine.groups.by_id) == {"queue"}
    bench.restart()
    assert set(bench.machine.groups.by_id) == {"queue"}
    assert not bench.machine.groups.pending_groups


def test_members_are_removed_together(bench: GroupBench) -> None:
    bench.join("g", "c")
    epoch = bench.describe("g").group_epoch
    removed = bench.submit(RemoveMembers("g", ["b", "x"], ["one", "two"]))
    assert [(one.member_id, one.instance_id, type(one.error)) for one in removed] == [
        ("b", "", type(None)),
        ("x", "", UnknownMemberIdError),
        ("a", "one", type(None)),
        ("", "two", UnknownMemberIdError),
    ]
    described = bench.describe("g")
    assert [member.member_id for member in described.members] == ["c"]
    assert described.group_epoch == epoch + 1
    assert bench.beat("g", "c", 3).assignment == {CLICKS: (0, 1, 2, 3)}
    bench.submit(RemoveMembers("g", ["x"]))
    assert not bench.last
    assert [one.member_id for one in bench.submit(RemoveMembers("g"))] == ["c"]
    with pytest.raises(GroupIdNotFoundError):
        bench.submit(RemoveMembers("nobody"))


def test_other_commands_are_refused(bench: GroupBench) -> None:
    with pytest.raises(InvalidRequestError, match="str is not for groups"):
        bench.submit("hello")
