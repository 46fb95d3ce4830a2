"""Committed offsets: who may commit, what is refused, what expires, what transactions hold."""

from __future__ import annotations

import pytest
from group_kit import CLICKS, TOPICS, VIEWS, GroupBench, Offset

from raykafka.errors import (
    ConcurrentTransactionsError,
    FencedInstanceIdError,
    FencedMemberEpochError,
    GroupIdNotFoundError,
    GroupSubscribedToTopicError,
    InconsistentGroupProtocolError,
    InvalidGroupIdError,
    InvalidProducerEpochError,
    NonEmptyGroupError,
    OffsetMetadataTooLargeError,
    OffsetOutOfRangeError,
    StaleMemberEpochError,
    UnknownMemberIdError,
    UnknownTopicIdError,
    UnknownTopicOrPartitionError,
    UnstableOffsetCommitError,
)
from raykafka.group.commands import (
    DeleteOffsets,
    EndTransaction,
    FetchOffsets,
    ListGroups,
    UpdateTopics,
)
from raykafka.group.records import TransactionEnded
from raykafka.group.settings import GroupSettings

DAY_MS = 24 * 3600 * 1000
MEMBER = {"member_id": "a", "member_epoch": 1}


@pytest.fixture
def bench() -> GroupBench:
    return GroupBench()


def kinds(errors: list[Exception | None]) -> list[type]:
    return [type(error) for error in errors]


def test_a_member_commits_and_reads_back(bench: GroupBench) -> None:
    bench.join("g", "a")
    assert bench.commit("g", Offset(0, 10, leader_epoch=3, metadata="é"), **MEMBER) == [None]
    (found,) = bench.submit(FetchOffsets("g", [("clicks", 0)], "a", 1))
    committed = found.committed
    assert (committed.offset, committed.leader_epoch, committed.metadata) == (10, 3, "é")
    assert (committed.topic_id, committed.commit_timestamp_ms) == (CLICKS, bench.now_ms)
    bench.restart()
    assert bench.committed("g") == 10
    assert bench.committed("g", 1) is None
    assert bench.committed("nobody") is None


def test_who_may_not_commit(bench: GroupBench) -> None:
    bench.join("g", "a", instance_id="one")
    with pytest.raises(UnknownMemberIdError):
        bench.commit("g", Offset(0, 1), member_id="b", member_epoch=1)
    with pytest.raises(FencedMemberEpochError):
        bench.commit("g", Offset(0, 1), member_id="a", member_epoch=2)
    bench.beat("g", "a", 1, subscribed_topics=["clicks", "views"])
    with pytest.raises(StaleMemberEpochError):
        bench.commit("g", Offset(0, 1), **MEMBER)
    with pytest.raises(NonEmptyGroupError):
        bench.commit("g", Offset(0, 1))
    bench.join("g", "b", instance_id="two")
    with pytest.raises(FencedInstanceIdError):
        bench.commit("g", Offset(0, 1), member_id="a", member_epoch=2, instance_id="two")
    with pytest.raises(InvalidGroupIdError):
        bench.commit("", Offset(0, 1))
    with pytest.raises(UnknownMemberIdError):
        bench.submit(FetchOffsets("g", None, "c", 1))
    bench.join("queue", "s", share=True)
    with pytest.raises(InconsistentGroupProtocolError):
        bench.commit("queue", Offset(0, 1))
    assert bench.committed("g") is None


def test_anybody_commits_for_a_group_without_members(bench: GroupBench) -> None:
    assert bench.commit("tool", Offset(0, 5), Offset(1, 6)) == [None, None]
    assert bench.committed("tool", 1) == 6
    (listed,) = bench.submit(ListGroups())
    assert listed == ("tool", "consumer", "Empty", 0)
    bench.commit("tool", Offset(0, 2))
    assert bench.committed("tool") == 2, "a reset"


def test_bad_offsets_are_refused_one_by_one(bench: GroupBench) -> None:
    errors = bench.commit(
        "g",
        Offset(0, 1),
        Offset(0, -1),
        Offset(9, 1),
        Offset(0, 1, topic="nothing"),
        Offset(1, 1, topic_id="Z" * 32),
        Offset(2, 1, metadata="é" * 2049),
        Offset(3, 1, metadata="m" * 4096),
    )
    assert kinds(errors) == [
        type(None),
        OffsetOutOfRangeError,
        UnknownTopicOrPartitionError,
        UnknownTopicOrPartitionError,
        UnknownTopicIdError,
        OffsetMetadataTooLargeError,
        type(None),
    ]
    assert [bench.committed("g", number) for number in range(4)] == [1, None, None, 1]


def test_a_late_commit_does_not_undo_the_new_owners(bench: GroupBench) -> None:
    bench.join("g", "a")
    bench.join("g", "b")
    bench.settle("g", "a", "b")
    assert bench.commit("g", Offset(2, 50), member_id="b", member_epoch=2) == [None]
    errors = bench.commit("g", Offset(0, 9), Offset(2, 40), member_id="a", member_epoch=2)
    assert kinds(errors) == [type(None), StaleMemberEpochError]
    assert bench.committed("g", 2) == 50


def test_all_offsets_can_be_asked_for(bench: GroupBench) -> None:
    bench.commit("g", Offset(1, 6), Offset(0, 7, "views", VIEWS))
    bench.commit_pending("g", 7, 0, Offset(0, 3))
    found = bench.submit(FetchOffsets("g"))
    assert [(one.topic, one.partition, one.committed.offset) for one in found] == [
        ("clicks", 1, 6),
        ("views", 0, 7),
    ]
    found = bench.submit(FetchOffsets("g", require_stable=True))
    assert [(one.partition, type(one.error)) for one in found if one.topic == "clicks"] == [
        (0, UnstableOffsetCommitError),
        (1, type(None)),
    ]


def test_offsets_of_subscribed_topics_are_not_deleted(bench: GroupBench) -> None:
    with pytest.raises(GroupIdNotFoundError):
        bench.submit(DeleteOffsets("g", [("clicks", 0)]))
    bench.join("g", "a")
    bench.commit("g", Offset(0, 1), Offset(1, 2, "views", VIEWS), **MEMBER)
    errors = bench.submit(DeleteOffsets("g", [("clicks", 0), ("views", 1), ("views", 0)]))
    assert kinds(errors) == [GroupSubscribedToTopicError, type(None), type(None)]
    assert bench.committed("g", 1, "views") is None
    bench.beat("g", "a", -1)
    assert bench.submit(DeleteOffsets("g", [("clicks", 0)])) == [None]
    assert bench.committed("g") is None


# --- transactions ---------------------------------------------------------------------------------


def test_pending_offsets_count_when_the_transaction_is_committed(bench: GroupBench) -> None:
    bench.commit("g", Offset(0, 1), Offset(1, 1))
    assert bench.commit_pending("g", 7, 4, Offset(0, 10)) == [None]
    bench.commit_pending("g", 7, 4, Offset(0, 11), Offset(1, 20))
    bench.restart()
    (found,) = bench.submit(FetchOffsets("g", [("clicks", 0)], require_stable=True))
    assert isinstance(found.error, UnstableOffsetCommitError)
    assert bench.committed("g") == 1
    bench.submit(EndTransaction(7, 5, commit=True))
    assert [bench.committed("g", number) for number in range(2)] == [11, 20]
    (found,) = bench.submit(FetchOffsets("g", [("clicks", 0)], require_stable=True))
    assert found.error is None


def test_an_abort_forgets_them_in_every_group(bench: GroupBench) -> None:
    bench.commit_pending("g", 7, 4, Offset(0, 10))
    bench.commit_pending("h", 7, 4, Offset(0, 10))
    bench.commit_pending("h", 8, 0, Offset(1, 10))
    bench.submit(EndTransaction(7, 5, commit=False))
    assert bench.committed("g") is None
    assert set(bench.machine.groups.by_id) == {"h"}, "nothing is left of g"
    bench.submit(EndTransaction(8, 1, commit=True))
    assert bench.committed("h", 1) == 10


def test_the_end_of_a_transaction_comes_once(bench: GroupBench) -> None:
    bench.commit_pending("g", 7, 4, Offset(0, 10))
    with pytest.raises(InvalidProducerEpochError, match="open transaction epoch 4"):
        bench.submit(EndTransaction(7, 4, commit=True))
    bench.submit(EndTransaction(7, 5, commit=True))
    bench.commit_pending("g", 7, 5, Offset(0, 20))
    with pytest.raises(InvalidProducerEpochError):
        bench.submit(EndTransaction(7, 5, commit=True))
    bench.submit(EndTransaction(7, 6, commit=False))
    bench.submit(EndTransaction(7, 6, commit=False))
    assert not bench.last
    assert bench.committed("g") == 10


def test_a_zombies_offsets_are_refused(bench: GroupBench) -> None:
    bench.submit(EndTransaction(7, 5, commit=False))
    bench.restart()
    with pytest.raises(InvalidProducerEpochError, match="epoch 5"):
        bench.commit_pending("g", 7, 4, Offset(0, 10))
    bench.commit_pending("g", 7, 5, Offset(0, 10))
    with pytest.raises(ConcurrentTransactionsError):
        bench.commit_pending("g", 7, 6, Offset(0, 10))
    bench.join("g", "a")
    with pytest.raises(UnknownMemberIdError):
        bench.commit_pending("g", 8, 0, Offset(0, 10), member_id="b", member_epoch=1)
    assert bench.commit_pending("g", 8, 0, Offset(1, 10), **MEMBER) == [None]
    assert kinds(bench.commit_pending("g", 8, 0, Offset(9, 1))) == [UnknownTopicOrPartitionError]
    assert not bench.last


def test_a_commit_takes_the_place_of_what_was_pending_before_it(bench: GroupBench) -> None:
    bench.commit_pending("g", 7, 4, Offset(0, 10), Offset(1, 10))
    bench.commit("g", Offset(0, 30))
    bench.submit(EndTransaction(7, 5, commit=True))
    assert [bench.committed("g", number) for number in range(2)] == [30, 10]


# --- expiry ---------------------------------------------------------------------------------------


def expire(bench: GroupBench, days: int) -> None:
    """Time without ticks in between, then a whole round of expiry."""
    bench.now_ms += days * DAY_MS
    for _ in range(4):
        bench._tick(0)
    bench.tick(610_000)
    bench.tick()


def test_offsets_without_members_expire_after_a_week(bench: GroupBench) -> None:
    bench.commit("g", Offset(0, 5))
    expire(bench, 6)
    bench.commit("g", Offset(1, 5))
    assert bench.committed("g") == 5
    expire(bench, 1)
    assert bench.committed("g") is None
    assert bench.committed("g", 1) == 5
    expire(bench, 7)
    assert "g" not in bench.machine.groups.by_id


def test_the_week_begins_when_the_last_member_leaves(bench: GroupBench) -> None:
    bench.join("g", "a")
    bench.commit("g", Offset(0, 5), **MEMBER)
    bench.now_ms += 10 * DAY_MS
    bench._tick(0)
    bench.beat("g", "a", -1)
    expire(bench, 6)
    assert bench.committed("g") == 5
    expire(bench, 2)
    assert "g" not in bench.machine.groups.by_id
    bench.restart()
    assert "g" not in bench.machine.groups.by_id


def test_a_group_with_members_keeps_what_it_reads(bench: GroupBench) -> None:
    bench.join("g", "a")
    bench.commit("g", Offset(0, 5), Offset(0, 6, "views", VIEWS), **MEMBER)
    bench.now_ms += 8 * DAY_MS
    bench._tick(0)
    for _ in range(70):
        bench.beat("g", "a", 1)
        bench.tick(10_000)
    assert bench.committed("g") == 5
    assert bench.committed("g", 0, "views") is None


def test_pending_offsets_do_not_expire_but_ended_producers_do(bench: GroupBench) -> None:
    bench.commit("g", Offset(0, 5))
    bench.commit_pending("g", 7, 4, Offset(0, 10))
    bench.submit(EndTransaction(9, 1, commit=False))
    expire(bench, 8)
    assert bench.committed("g") == 5
    assert not bench.machine.groups.ended
    bench.restart()
    assert not any(isinstance(record, TransactionEnded) for record in bench.machine.snapshot())


def test_expiry_looks_at_a_few_groups_at_a_time() -> None:
    bench = GroupBench(GroupSettings(offsets_retention_check_interval_ms=1000))
    for number in range(450):
        bench.commit(f"g{number}", Offset(0, 5))
    bench.tick()
    bench.now_ms += 8 * DAY_MS
    sizes = []
    for _ in range(6):
        bench._tick(0)
        sizes.append(len(bench.last))
    assert sizes == [0, 0, 200, 200, 50, 0]


def test_topics_that_are_gone_change_no_offsets(bench: GroupBench) -> None:
    bench.commit("g", Offset(0, 5))
    bench.submit(UpdateTopics({name: TOPICS[name] for name in ("views",)}))
    assert bench.committed("g") == 5
    assert kinds(bench.commit("g", Offset(0, 6))) == [UnknownTopicOrPartitionError]
