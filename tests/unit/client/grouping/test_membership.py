"""A member's half of KIP-848, one event at a time."""

from __future__ import annotations

import pytest

from raykafka.client.grouping.member import (
    NOTHING,
    Heartbeat,
    MemberSettings,
    MemberState,
    Owned,
    OwnedPartition,
    Work,
    as_owned,
    as_topics,
)
from raykafka.client.grouping.membership import Membership
from raykafka.errors import (
    CommitFailedError,
    FencedInstanceIdError,
    FencedMemberEpochError,
    GroupMaxSizeReachedError,
    NotCoordinatorError,
    RaykafkaError,
    UnknownMemberIdError,
    UnreleasedInstanceIdError,
)
from raykafka.model import ConsumerGroupMetadata
from raykafka.protocol.group_messages import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
)

INTERVAL_MS = 500
MAX_POLL_MS = 10_000


def partitions(*numbers: int, topic_id: str = "id") -> Owned:
    return frozenset(OwnedPartition("t", topic_id, number) for number in numbers)


def _response(epoch: int, assignment: Owned | None) -> ConsumerGroupHeartbeatResponse:
    listed = None if assignment is None else as_topics(assignment)
    return ConsumerGroupHeartbeatResponse("m", epoch, INTERVAL_MS, listed)


class Member(Membership):
    """With a clock, and a coordinator that says what the test says."""

    def __init__(self, instance_id: str = "") -> None:
        super().__init__(
            MemberSettings(
                "g", "m", instance_id, max_poll_interval_ms=MAX_POLL_MS, assignor="range"
            )
        )
        self.now_ms = 0
        self.said: Heartbeat
        self.waits: Heartbeat

    def send(self) -> ConsumerGroupHeartbeatRequest:
        """What is due now; it says something."""
        self.said = self.next()
        assert not self.said.held
        return self.said.request

    def hold(self) -> ConsumerGroupHeartbeatRequest:
        """One that the coordinator may hold back."""
        self.waits = self.next()
        assert self.waits.held
        return self.waits.request

    def next(self) -> Heartbeat:
        heartbeat = self.next_heartbeat(self.now_ms)
        assert heartbeat is not None
        return heartbeat

    def quiet(self) -> bool:
        return self.next_heartbeat(self.now_ms) is None

    def answer(self, epoch: int, assignment: Owned | None = None) -> None:
        self.on_response(self.said, _response(epoch, assignment), self.now_ms)

    def release(self, epoch: int, assignment: Owned | None = None) -> None:
        """Answer the one that was held back."""
        self.on_response(self.waits, _response(epoch, assignment), self.now_ms)

    def refuse(self, error: RaykafkaError) -> None:
        self.on_error(self.said, error, self.now_ms)

    def fail(self, error: RaykafkaError) -> None:
        """What happens to the one that was held back."""
        self.on_error(self.waits, error, self.now_ms)

    def do(self) -> Work:
        """What the group wants, done."""
        work = self.work()
        assert work is not None
        if work.lost is not None:
            self.lost(self.now_ms)
        elif self.advance(work):
            self.reconciled(self.now_ms)
        return work


@pytest.fixture
def member() -> Member:
    return Member()


@pytest.fixture
def settled(member: Member) -> Member:
    """Owns 0 and 1 in epoch 3, has said so, and listens."""
    member.subscribe(["t"], "", 0)
    member.send()
    member.answer(3, partitions(0, 1))
    member.do()
    member.send()
    member.answer(3)
    member.hold()
    return member


def test_joining_says_everything(member: Member) -> None:
    assert member.quiet()
    member.subscribe(["t", "a"], "", 0)
    request = member.send()
    assert request.member_epoch == 0
    assert request.subscribed_topics == ["a", "t"]
    assert request.subscribed_pattern == ""
    assert request.owned == []
    assert request.rebalance_timeout_ms == MAX_POLL_MS
    assert request.assignor == "range"
    assert member.quiet(), "one at a time"


def test_what_is_assigned_is_taken_and_reported(member: Member) -> None:
    member.subscribe(["t"], "", 0)
    member.send()
    member.answer(3, partitions(0, 1))
    assert member.has_work
    assert member.do() == Work(added=partitions(0, 1))
    report = member.send()
    assert (report.member_epoch, report.owned) == (3, as_topics(partitions(0, 1)))
    assert report.subscribed_topics is None
    member.answer(3)
    assert member.hold().max_wait_ms == INTERVAL_MS
    assert member.work() is None


def test_a_join_without_partitions_is_work_once(member: Member) -> None:
    member.subscribe(["t"], "", 0)
    member.send()
    member.answer(1)
    assert member.do() == Work()
    assert member.work() is None
    assert member.hold().owned is None


def test_one_heartbeat_is_with_the_coordinator_all_the_time(settled: Member) -> None:
    assert settled.quiet()
    assert settled.due_in_ms(settled.now_ms, 5000) == 5000, "nothing to do before it is answered"
    settled.now_ms += INTERVAL_MS
    settled.release(3)
    request = settled.hold()
    assert (request.member_epoch, request.owned, request.subscribed_topics) == (3, None, None)


def test_a_coordinator_that_holds_nothing_back_is_not_flooded(settled: Member) -> None:
    settled.release(3)
    assert settled.quiet()
    assert settled.due_in_ms(settled.now_ms, 5000) == 50


def test_partitions_are_given_up_before_that_is_said(settled: Member) -> None:
    settled.release(4, partitions(0))
    assert settled.owned == partitions(0, 1)
    settled.now_ms += 50
    settled.hold()
    assert settled.do() == Work(revoked=partitions(1))
    assert settled.send().owned == as_topics(partitions(0)), "while the other one is held back"
    settled.release(4)
    settled.answer(4)
    settled.now_ms += 50
    settled.hold()


def test_a_topic_made_again_is_another_one(settled: Member) -> None:
    settled.release(4, partitions(0, topic_id="new"))
    assert settled.do() == Work(revoked=partitions(0, 1), added=partitions(0, topic_id="new"))


def test_a_newer_assignment_replaces_what_is_under_way(settled: Member) -> None:
    settled.release(4, partitions(0, 2))
    work = settled.work()
    assert work is not None
    settled.now_ms += 50
    settled.hold()
    settled.release(5, partitions(0, 3))
    assert not settled.advance(work)
    assert settled.owned == partitions(0), "1 was given up, 2 is not wanted any more"
    assert settled.do() == Work(added=partitions(3))


def test_one_given_up_comes_back_when_the_coordinator_changes_its_mind(settled: Member) -> None:
    settled.release(4, partitions(0))
    work = settled.work()
    assert work is not None
    settled.now_ms += 50
    settled.hold()
    settled.release(5, partitions(0, 1))
    assert not settled.advance(work)
    assert settled.do() == Work(added=partitions(1))
    assert settled.owned == partitions(0, 1)


@pytest.mark.parametrize("error", [FencedMemberEpochError(), UnknownMemberIdError()])
def test_one_that_was_removed_loses_all_and_joins_again(
    settled: Member, error: RaykafkaError
) -> None:
    settled.fail(error)
    assert settled.quiet(), "its owner still believes to own something"
    with pytest.raises(CommitFailedError, match="the coordinator has removed it"):
        settled.identity()
    assert settled.do() == Work(lost=partitions(0, 1))
    request = settled.send()
    assert (request.member_epoch, request.owned) == (0, [])
    settled.answer(9, partitions(5))
    assert settled.do() == Work(added=partitions(5))


def test_one_without_partitions_joins_again_by_itself(member: Member) -> None:
    member.subscribe(["t"], "", 0)
    member.send()
    member.answer(1)
    member.do()
    member.hold()
    member.fail(UnknownMemberIdError())
    assert member.send().member_epoch == 0


def test_removed_while_it_takes_something(settled: Member) -> None:
    settled.release(4, partitions(0, 2))
    work = settled.work()
    assert work is not None
    settled.now_ms += 50
    settled.hold()
    settled.fail(FencedMemberEpochError())
    assert not settled.advance(work)
    assert settled.do() == Work(lost=partitions(0))


def test_after_a_failure_everything_is_said_again(settled: Member) -> None:
    settled.fail(NotCoordinatorError())
    assert settled.quiet(), "not at once"
    settled.now_ms += settled.due_in_ms(settled.now_ms, 60_000)
    request = settled.send()
    assert request.member_epoch == 3
    assert request.subscribed_topics == ["t"]
    assert request.owned == as_topics(partitions(0, 1))
    settled.answer(3, partitions(0, 1))
    assert settled.do() == Work(), "nothing has changed"
    assert settled.send().owned == as_topics(partitions(0, 1)), "and the coordinator hears so"
    settled.answer(3)
    settled.hold()


def test_an_assignment_that_overtakes_another_is_answered_though_nothing_changes(
    settled: Member,
) -> None:
    """The coordinator takes a partition back that the owner has not heard of yet: it waits for the
    member to say so, who has what it had all the time.
    """
    settled.release(3, partitions(0, 1, 2))
    settled.now_ms += INTERVAL_MS
    settled.hold()
    settled.release(3, partitions(0, 1))
    assert settled.do() == Work()
    assert settled.send().owned == as_topics(partitions(0, 1))
    settled.answer(4)
    settled.hold()


def test_pauses_grow_and_start_over(settled: Member) -> None:
    settled.fail(NotCoordinatorError())
    pauses = []
    for _ in range(3):
        pauses.append(settled.due_in_ms(settled.now_ms, 60_000))
        settled.now_ms += pauses[-1]
        settled.send()
        settled.refuse(NotCoordinatorError())
    assert pauses == [20, 40, 80]
    settled.now_ms += 160
    settled.send()
    settled.answer(3)
    settled.hold()
    settled.fail(NotCoordinatorError())
    assert settled.due_in_ms(settled.now_ms, 60_000) == 20


def test_a_new_subscription_is_said_at_once(settled: Member) -> None:
    settled.subscribe([], "t.*", settled.now_ms)
    request = settled.send()
    assert (request.subscribed_topics, request.subscribed_pattern) == ([], "t.*")
    settled.subscribe(["x"], "", settled.now_ms)
    settled.answer(3)
    assert settled.send().subscribed_topics == ["x"], "the answer was to the one before"
    settled.answer(3)
    settled.release(3)
    assert settled.hold().subscribed_topics is None


@pytest.mark.parametrize(("instance_id", "epoch"), [("", -1), ("i", -2)])
def test_leaving(instance_id: str, epoch: int) -> None:
    member = Member(instance_id)
    member.subscribe(["t"], "", 0)
    member.send()
    member.answer(3, partitions(0))
    member.do()
    member.leave(member.now_ms)
    request = member.send()
    assert (request.member_epoch, request.instance_id) == (epoch, instance_id)
    assert member.state is MemberState.LEAVING
    member.answer(epoch)
    assert member.state is MemberState.IDLE
    assert member.quiet()
    assert member.identity() == ConsumerGroupMetadata("g")


def test_leaving_is_tried_again(settled: Member) -> None:
    settled.leave(settled.now_ms)
    assert settled.send().member_epoch == -1
    settled.refuse(NotCoordinatorError())
    settled.now_ms += 20
    assert settled.send().member_epoch == -1
    settled.refuse(UnknownMemberIdError())
    assert settled.state is MemberState.IDLE


def test_subscribing_again_while_it_leaves(settled: Member) -> None:
    settled.leave(settled.now_ms)
    assert settled.send().member_epoch == -1
    settled.subscribe(["t"], "", settled.now_ms)
    settled.answer(-1)
    assert settled.send().member_epoch == 0


def test_an_answer_from_before_is_void(settled: Member) -> None:
    settled.leave(settled.now_ms)
    settled.release(7, partitions(5))
    assert settled.state is MemberState.LEAVING
    assert settled.owned == NOTHING
    assert settled.send().member_epoch == -1


class TestPollInterval:
    def test_one_that_does_not_poll_leaves(self, settled: Member) -> None:
        settled.end_poll(settled.now_ms)
        while settled.now_ms < MAX_POLL_MS:
            assert not settled.on_time(settled.now_ms)
            settled.now_ms += INTERVAL_MS
            settled.release(3)
            settled.hold()
        settled.now_ms = MAX_POLL_MS + 1
        assert settled.on_time(settled.now_ms)
        assert settled.send().member_epoch == -1
        settled.answer(-1)
        assert settled.state is MemberState.AWAY
        assert settled.quiet()
        with pytest.raises(CommitFailedError, match=r"max\.poll\.interval\.ms \(10000 ms\)"):
            settled.identity()
        assert settled.do() == Work(lost=partitions(0, 1))
        assert settled.send().member_epoch == 0

    def test_it_may_be_back_before_it_has_left(self, settled: Member) -> None:
        settled.now_ms = MAX_POLL_MS + 1
        assert settled.on_time(settled.now_ms)
        settled.send()
        assert settled.do() == Work(lost=partitions(0, 1))
        settled.answer(-1)
        assert settled.send().member_epoch == 0

    def test_polling_and_reading_count(self, settled: Member) -> None:
        settled.start_poll(0)
        assert not settled.on_time(MAX_POLL_MS + 1)
        settled.end_poll(MAX_POLL_MS + 1)
        settled.active(2 * MAX_POLL_MS)
        assert not settled.on_time(3 * MAX_POLL_MS)
        assert settled.on_time(3 * MAX_POLL_MS + 1)

    def test_the_thread_wakes_in_time(self, settled: Member) -> None:
        settled.end_poll(0)
        assert settled.due_in_ms(MAX_POLL_MS, 60_000) == 1


class TestRefusals:
    def test_what_cannot_be_helped_is_kept(self, member: Member) -> None:
        member.subscribe(["t"], "", 0)
        member.send()
        member.refuse(GroupMaxSizeReachedError("200 members"))
        assert member.has_work
        assert isinstance(member.failure, GroupMaxSizeReachedError)
        assert member.quiet()
        member.subscribe(["t"], "", 0)
        assert member.failure is None
        assert member.send().member_epoch == 0

    def test_a_static_member_that_was_replaced_loses_all(self) -> None:
        member = Member("i")
        member.subscribe(["t"], "", 0)
        member.send()
        member.answer(3, partitions(0))
        member.do()
        member.send()
        member.refuse(FencedInstanceIdError("another one"))
        assert member.do() == Work(lost=partitions(0))
        assert isinstance(member.failure, FencedInstanceIdError)
        assert member.work() is None

    def test_a_static_member_waits_for_its_predecessor(self) -> None:
        member = Member("i")
        member.subscribe(["t"], "", 0)
        while member.now_ms < 59_000:
            member.now_ms += member.due_in_ms(member.now_ms, 60_000)
            member.start_poll(member.now_ms)
            member.send()
            member.refuse(UnreleasedInstanceIdError())
            assert member.failure is None
        member.now_ms = 61_000
        member.send()
        member.refuse(UnreleasedInstanceIdError("in use"))
        assert isinstance(member.failure, UnreleasedInstanceIdError)


def test_names_survive_the_wire() -> None:
    owned = partitions(3, 1) | partitions(2, topic_id="other")
    assert as_owned(as_topics(owned)) == owned
