"""Members come, stay and go: epochs, revocation, sessions, what is refused."""

from __future__ import annotations

import pytest
from group_kit import CLICKS, TOPICS, GroupBench, Offset

from raykafka.errors import (
    CoordinatorLoadInProgressError,
    FencedMemberEpochError,
    GroupMaxSizeReachedError,
    InconsistentGroupProtocolError,
    InvalidGroupIdError,
    InvalidRegularExpressionError,
    InvalidRequestError,
    StaleMemberEpochError,
    UnknownMemberIdError,
    UnsupportedAssignorError,
)
from raykafka.group.commands import UpdateTopics
from raykafka.group.records import GroupMetadata
from raykafka.group.settings import GroupSettings, KindSettings
from raykafka.group.topics import TopicView


@pytest.fixture
def bench() -> GroupBench:
    return GroupBench()


def test_the_first_member_gets_everything(bench: GroupBench) -> None:
    answer = bench.join("g", "a")
    assert (answer.member_epoch, answer.heartbeat_interval_ms) == (1, 5000)
    assert answer.assignment == {CLICKS: (0, 1, 2, 3)}
    assert bench.describe("g").state == "Stable"


def test_a_quiet_heartbeat_writes_and_says_nothing(bench: GroupBench) -> None:
    bench.join("g", "a")
    answer = bench.beat("g", "a", 1)
    assert (answer.member_epoch, answer.assignment) == (1, None)
    assert not bench.last


def test_a_partition_is_given_once_its_owner_has_let_it_go(bench: GroupBench) -> None:
    bench.join("g", "a")
    answer = bench.join("g", "b")
    assert (answer.member_epoch, answer.assignment) == (2, {})
    answer = bench.beat("g", "a", 1)
    assert answer.member_epoch == 1, "an epoch is reached when its revocations are done"
    assert answer.assignment == {CLICKS: (0, 1)}
    assert bench.describe("g").state == "Reconciling"
    assert bench.beat("g", "b", 2).assignment is None
    answer = bench.beat("g", "a", 1, owned={CLICKS: (0, 1, 2, 3)})
    assert (answer.member_epoch, answer.assignment) == (1, {CLICKS: (0, 1)}), "not gone yet"
    answer = bench.beat("g", "a", 1, owned={CLICKS: (0, 1)})
    assert (answer.member_epoch, answer.assignment) == (2, None)
    answer = bench.beat("g", "b", 2)
    assert (answer.member_epoch, answer.assignment) == (2, {CLICKS: (2, 3)})
    assert bench.describe("g").state == "Stable"


def test_saying_early_that_it_owns_nothing_frees_nothing(bench: GroupBench) -> None:
    """The answer that gave the partitions may still be on its way."""
    bench.join("g", "a")
    bench.join("g", "b")
    answer = bench.beat("g", "a", 1, owned={})
    assert answer.assignment == {CLICKS: (0, 1)}
    assert bench.beat("g", "b", 2).assignment is None


def test_an_answer_that_was_lost_is_given_again(bench: GroupBench) -> None:
    bench.join("g", "a")
    bench.join("g", "b", "clicks")
    bench.settle("g", "a", "b")
    bench.beat("g", "b", -1)
    bench.beat("g", "a", 2, owned={CLICKS: (0, 1)})
    assert bench.epoch("g", "a") == 3
    answer = bench.beat("g", "a", 2, owned={CLICKS: (0, 1)})
    assert (answer.member_epoch, answer.assignment) == (3, {CLICKS: (0, 1, 2, 3)})
    assert not bench.last
    assert bench.beat("g", "a", 3, owned={CLICKS: (0, 1)}).assignment == {CLICKS: (0, 1, 2, 3)}


def test_one_that_joins_again_has_given_everything_up(bench: GroupBench) -> None:
    bench.join("g", "a")
    bench.join("g", "b")
    answer = bench.join("g", "a")
    assert (answer.member_epoch, answer.assignment) == (3, {CLICKS: (0, 1)})
    assert bench.beat("g", "b", 2).assignment == {CLICKS: (2, 3)}
    with pytest.raises(FencedMemberEpochError):
        bench.beat("g", "a", 1)


def test_a_commit_of_a_former_life_is_refused(bench: GroupBench) -> None:
    bench.join("g", "a")
    bench.join("g", "a")
    with pytest.raises(StaleMemberEpochError):
        bench.commit("g", Offset(0, 8), member_id="a", member_epoch=1)
    bench.restart(topics=None)
    assert bench.join("g", "a").member_epoch == 3, "which needs no topics"
    bench.beat("g", "a", -1)
    bench.submit(UpdateTopics(TOPICS))
    bench.join("g", "a")
    bench.join("g", "b")
    bench.restart(topics=None)
    bench.beat("g", "b", -1)
    with pytest.raises(CoordinatorLoadInProgressError):
        bench.join("g", "a")


def test_a_change_is_assigned_once(bench: GroupBench) -> None:
    bench.join("g", "a")
    bench.join("g", "b")
    assert sum(isinstance(record, GroupMetadata) for record in bench.last) == 1
    for _ in range(3):
        bench.settle("g", "a", "b")
        assert not any(isinstance(record, GroupMetadata) for record in bench.last)
    assert bench.describe("g").group_epoch == 2


@pytest.mark.parametrize("epoch", [1, 3, 4])
def test_an_epoch_that_is_not_the_members_is_fenced(bench: GroupBench, epoch: int) -> None:
    bench.join("g", "a", "clicks")
    bench.join("g", "b", "clicks")
    bench.beat("g", "b", -1)
    bench.settle("g", "a")
    bench.join("g", "c")
    bench.settle("g", "a", "c")
    assert bench.epoch("g", "a") == 4
    if epoch == 4:
        bench.beat("g", "a", 4)
        with pytest.raises(FencedMemberEpochError, match="not given"):
            bench.beat("g", "a", 4, owned={CLICKS: (0, 1, 2, 3)})
    elif epoch == 3:
        bench.beat("g", "a", 3)
    else:
        with pytest.raises(FencedMemberEpochError, match="has epoch 4, not 1"):
            bench.beat("g", "a", 1)


def test_unknown_members_are_told_so(bench: GroupBench) -> None:
    with pytest.raises(UnknownMemberIdError):
        bench.beat("g", "a", 5)
    bench.join("g", "a")
    with pytest.raises(UnknownMemberIdError):
        bench.beat("g", "b", 1)
    with pytest.raises(UnknownMemberIdError):
        bench.beat("g", "b", -1)


def test_leaving_gives_everything_to_the_others(bench: GroupBench) -> None:
    bench.join("g", "a")
    bench.join("g", "b")
    bench.settle("g", "a", "b")
    bench.news.clear()
    answer = bench.beat("g", "a", -1)
    assert (answer.member_epoch, answer.assignment) == (-1, None)
    assert ("g", "b") in bench.news
    assert bench.machine.has_news("g", "b")
    assert bench.beat("g", "b", 2).assignment == {CLICKS: (0, 1, 2, 3)}
    assert not bench.machine.has_news("g", "b")
    bench.beat("g", "b", -1)
    assert bench.describe("g").state == "Empty"


def test_a_session_that_ends_removes_the_member(bench: GroupBench) -> None:
    bench.join("g", "a")
    bench.join("g", "b")
    bench.settle("g", "a", "b")
    for _ in range(5):
        bench.tick(10_000)
        bench.beat("g", "b", bench.epoch("g", "b"))
    assert bench.owned("g") == {"b": {CLICKS: (0, 1, 2, 3)}}
    assert ("g", "a") in bench.news
    with pytest.raises(UnknownMemberIdError):
        bench.beat("g", "a", 2)


def test_members_that_expire_together_are_one_change(bench: GroupBench) -> None:
    for name in "abc":
        bench.join("g", name)
    epoch = bench.describe("g").group_epoch
    bench.tick(50_000)
    described = bench.describe("g")
    assert (described.state, described.group_epoch) == ("Empty", epoch + 1)


def test_one_that_does_not_let_go_in_time_is_removed(bench: GroupBench) -> None:
    bench.join("g", "a", rebalance_timeout_ms=20_000)
    bench.join("g", "b")
    bench.beat("g", "a", 1)
    for _ in range(3):
        bench.tick(8_000)
        if bench.now_ms < 1_020_000:
            bench.beat("g", "a", 1, owned={CLICKS: (0, 1, 2, 3)})
        bench.beat("g", "b", bench.epoch("g", "b"))
    assert bench.owned("g") == {"b": {CLICKS: (0, 1, 2, 3)}}


def test_letting_go_stops_the_clock(bench: GroupBench) -> None:
    bench.join("g", "a", rebalance_timeout_ms=20_000)
    bench.join("g", "b")
    bench.beat("g", "a", 1)
    bench.beat("g", "a", 1, owned={CLICKS: (0, 1)})
    bench.tick(30_000)
    assert set(bench.owned("g")) == {"a", "b"}


def test_a_coordinator_that_was_away_lets_sessions_begin_anew(bench: GroupBench) -> None:
    bench.join("g", "a")
    bench.tick()
    bench.now_ms += 600_000
    bench._tick(0)
    assert set(bench.owned("g")) == {"a"}
    bench.tick(46_000)
    assert bench.owned("g") == {}


def test_a_new_coordinator_gives_whole_sessions(bench: GroupBench) -> None:
    bench.join("g", "a")
    bench.tick(40_000)
    bench.restart()
    bench.tick(40_000)
    assert set(bench.owned("g")) == {"a"}
    bench.tick(6_000)
    assert bench.owned("g") == {}


def test_before_the_topics_are_known_nothing_is_taken_from_anybody(bench: GroupBench) -> None:
    bench.join("g", "a")
    bench.join("g", "b")
    bench.settle("g", "a", "b")
    bench.restart(topics=None)
    assert bench.beat("g", "a", 2).assignment is None
    with pytest.raises(CoordinatorLoadInProgressError):
        bench.join("g", "c")
    bench.beat("g", "b", -1)
    assert bench.describe("g").state == "Assigning"
    assert bench.beat("g", "a", 2).assignment is None
    bench.submit(UpdateTopics(TOPICS))
    assert bench.beat("g", "a", 2).assignment == {CLICKS: (0, 1, 2, 3)}
    assert bench.describe("g").state == "Stable"


def test_more_partitions_are_assigned_without_a_heartbeat(bench: GroupBench) -> None:
    bench.join("g", "a")
    bench.submit(UpdateTopics({**TOPICS, "clicks": TopicView(CLICKS, 5)}))
    assert bench.machine.has_news("g", "a")
    assert bench.beat("g", "a", 1).assignment == {CLICKS: (0, 1, 2, 3, 4)}
    assert bench.describe("g").group_epoch == 2


def test_other_leaders_are_no_reason_to_move(bench: GroupBench) -> None:
    bench.join("g", "a")
    bench.submit(UpdateTopics({**TOPICS, "clicks": TopicView(CLICKS, 4, ["h"] * 4)}))
    assert bench.describe("g").group_epoch == 1


def test_a_topic_that_was_made_again_is_another_one(bench: GroupBench) -> None:
    bench.join("g", "a")
    bench.submit(UpdateTopics({"clicks": TopicView("N" * 32, 1)}))
    answer = bench.beat("g", "a", 1)
    assert answer.assignment == {}, "it has the old one's partitions to give up"
    assert bench.beat("g", "a", 1, owned={}).assignment == {"N" * 32: (0,)}


def test_a_subscription_may_change(bench: GroupBench) -> None:
    bench.join("g", "a")
    answer = bench.beat("g", "a", 1, subscribed_topics=["views", "clicks"])
    assert answer.member_epoch == 2
    assert set(answer.assignment or {}) == {CLICKS, "V" * 32}
    bench.beat("g", "a", 2, subscribed_topics=["clicks", "views"])
    assert not bench.last, "the same topics in another order"
    bench.beat("g", "a", 2, host="elsewhere")
    assert bench.describe("g").members[0].host == "elsewhere"
    assert bench.describe("g").group_epoch == 2, "a place alone is no reason to move"


def test_patterns_find_topics_as_they_come(bench: GroupBench) -> None:
    answer = bench.join("g", "a", subscribed_topics=[], subscribed_pattern="click.*|vi.ws")
    assert set(answer.assignment or {}) == {CLICKS, "V" * 32}
    more = {**TOPICS, "clicks2": TopicView("D" * 32, 1), "__click": TopicView("I" * 32, 1)}
    bench.submit(UpdateTopics(more))
    assert set(bench.beat("g", "a", 1).assignment or {}) == {CLICKS, "V" * 32, "D" * 32}
    with pytest.raises(InvalidRegularExpressionError):
        bench.beat("g", "a", 2, subscribed_pattern="(")


def test_what_makes_no_sense_is_refused(bench: GroupBench) -> None:
    with pytest.raises(InvalidGroupIdError):
        bench.join("", "a")
    with pytest.raises(InvalidGroupIdError):
        bench.join("g" * 2000, "a")
    with pytest.raises(InvalidRequestError, match="has an id"):
        bench.join("g", "")
    with pytest.raises(InvalidRequestError, match="no text"):
        bench.join("g", "a", host="h" * 2000)
    with pytest.raises(InvalidRequestError, match="no member epoch -3"):
        bench.beat("g", "a", -3)
    with pytest.raises(InvalidRequestError, match="subscribes"):
        bench.beat("g", "a", 0)
    with pytest.raises(InvalidRequestError, match="cannot own"):
        bench.join("g", "a", owned={CLICKS: (0,)})
    with pytest.raises(InvalidRequestError, match="by name"):
        bench.join("g", "a", subscribed_topics=["t"] * 10_001)
    with pytest.raises(UnsupportedAssignorError, match="uniform, range"):
        bench.join("g", "a", assignor="sticky")
    assert not bench.log


def test_the_assignor_that_most_ask_for_is_taken(bench: GroupBench) -> None:
    bench.join("g", "a", assignor="range")
    assert bench.describe("g").assignor == "range"
    bench.join("g", "b", assignor="uniform")
    assert bench.describe("g").assignor == "uniform", "the default where there is a draw"
    bench.beat("g", "b", 2, assignor="range")
    assert bench.describe("g").assignor == "range"


def test_a_group_has_so_many_members() -> None:
    bench = GroupBench(GroupSettings(consumer=KindSettings(max_size=2)))
    bench.join("g", "a")
    bench.join("g", "b")
    with pytest.raises(GroupMaxSizeReachedError):
        bench.join("g", "c")
    bench.join("g", "b")
    bench.beat("g", "a", -1)
    bench.join("g", "c")


def test_share_members_and_consumers_do_not_mix(bench: GroupBench) -> None:
    bench.join("g", "a")
    with pytest.raises(InconsistentGroupProtocolError, match="is a consumer group"):
        bench.join("g", "s", share=True)
    bench.join("queue", "s", share=True)
    with pytest.raises(InconsistentGroupProtocolError, match="is a share group"):
        bench.join("queue", "a")
    bench.beat("queue", "s", -1, share=True)
    bench.join("queue", "a")
    assert bench.describe("queue").type == "consumer", "an empty group may become the other kind"


def test_share_members_wait_for_nobody(bench: GroupBench) -> None:
    first = bench.join("queue", "s1", "views", share=True)
    assert first.assignment == {"V" * 32: (0, 1)}
    second = bench.join("queue", "s2", "views", share=True)
    third = bench.join("queue", "s3", "views", share=True)
    assert second.assignment
    assert third.assignment
    assert bench.machine.has_news("queue", "s1")
    answer = bench.beat("queue", "s1", 1, share=True)
    assert answer.member_epoch == 3
    held = bench.owned("queue").values()
    assert sorted(len(partitions) for one in held for partitions in one.values()) == [1, 1, 1]
    assert bench.describe("queue").state == "Stable"
