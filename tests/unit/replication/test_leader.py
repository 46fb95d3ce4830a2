"""What a leader answers at once, what it parks, and what the high watermark releases."""

from __future__ import annotations

import pytest

from raykafka import errors
from raykafka.replication.effects import AdvanceHighWatermark, ProposeIsr, ReplyProduce
from raykafka.replication.events import (
    BecomeFollower,
    BecomeLeader,
    Configured,
    Flushed,
    FollowerAdvanced,
    FollowerAttached,
    IsrChanged,
    IsrRefused,
    Replicated,
    Resign,
    Tick,
)
from raykafka.replication.leader import ReplicaMachine
from raykafka.replication.role import Role

ME = 7
ALL, NONE, LEADER = -1, 0, 1


def leader(
    *,
    isr: frozenset[int] = frozenset({ME}),
    log_end: int = 0,
    flushed: int = 0,
    min_insync: int = 1,
    durable: bool = False,
    epoch: int = 3,
) -> ReplicaMachine:
    machine = ReplicaMachine(ME)
    event = BecomeLeader(epoch, isr, log_end, flushed, 0, min_insync, isr, 0, durable)
    machine.on_event(event, now_ms=0)
    return machine


def test_single_copy_answers_at_once_and_commits() -> None:
    machine = leader()
    for acks, end in ((ALL, 5), (LEADER, 6), (NONE, 7)):
        machine.check_produce(acks, 3)
        assert machine.on_appended(end, acks, object())
        assert machine.high_watermark == end
    assert machine.pending_produces == 0


def test_a_new_leader_commits_what_it_recovered() -> None:
    machine = ReplicaMachine(ME)
    effects = machine.on_event(BecomeLeader(0, frozenset({ME}), 40, 40, 10), now_ms=0)
    assert effects == [AdvanceHighWatermark(40)]


def test_a_checkpoint_beyond_the_recovered_log_is_not_believed() -> None:
    machine = ReplicaMachine(ME)
    machine.on_event(BecomeLeader(0, frozenset({ME}), 40, 40, 99), now_ms=0)
    assert machine.high_watermark == 40


def test_durable_topic_waits_for_the_flush_and_releases_in_order() -> None:
    machine = leader(durable=True)
    assert not machine.on_appended(5, ALL, "a")
    assert machine.on_appended(6, LEADER, "leader acks do not wait")
    assert not machine.on_appended(9, ALL, "b")
    assert not machine.on_appended(12, ALL, "c")
    assert machine.high_watermark == 0
    assert machine.on_flushed(9) == [
        ReplyProduce("a"),
        ReplyProduce("b"),
        AdvanceHighWatermark(9),
    ]
    assert machine.on_event(Flushed(9), now_ms=0) == []
    assert machine.on_flushed(12) == [ReplyProduce("c"), AdvanceHighWatermark(12)]


def test_duplicate_of_a_committed_batch_is_answered_at_once() -> None:
    machine = leader(durable=True)
    machine.on_appended(5, ALL, "a")
    assert not machine.on_appended(5, ALL, "again, not committed yet")
    machine.on_flushed(5)
    assert machine.on_appended(5, ALL, "again, committed")


def test_high_watermark_is_the_slowest_in_sync_position() -> None:
    machine = leader(isr=frozenset({ME, 8, 9}))
    assert not machine.on_appended(10, ALL, "a")
    assert machine.on_event(FollowerAdvanced(8, 10), now_ms=0) == []
    assert machine.on_event(FollowerAdvanced(9, 4), now_ms=0) == [AdvanceHighWatermark(4)]
    assert machine.on_event(FollowerAdvanced(9, 2), now_ms=0) == []
    assert machine.on_event(FollowerAdvanced(9, 10), now_ms=0) == [
        ReplyProduce("a"),
        AdvanceHighWatermark(10),
    ]


def test_a_follower_cannot_be_ahead_of_its_leader() -> None:
    machine = leader(isr=frozenset({ME, 8}))
    machine.on_appended(10, ALL, "a")
    machine.on_event(FollowerAdvanced(8, 99), now_ms=0)
    assert machine.high_watermark == 10
    assert not machine.on_appended(11, ALL, "b")


def test_below_the_minimum_nothing_is_committed_until_someone_is_back() -> None:
    machine = leader(isr=frozenset({ME, 8}), min_insync=2)
    machine.on_appended(10, ALL, "a")
    assert machine.on_event(IsrChanged(frozenset({ME}), 1), now_ms=0) == []
    with pytest.raises(errors.NotEnoughReplicasError, match=r"min\.insync\.replicas"):
        machine.check_produce(ALL, 3)
    machine.check_produce(LEADER, 3)
    assert machine.on_appended(12, LEADER, "b")
    assert machine.high_watermark == 0
    machine.on_event(FollowerAttached(8, 1, 12), now_ms=0)
    assert machine.on_event(IsrChanged(frozenset({ME, 8}), 2), now_ms=0) == [
        ReplyProduce("a"),
        AdvanceHighWatermark(12),
    ]


def test_shrinking_the_isr_releases_what_waited_for_the_lost_one() -> None:
    machine = leader(isr=frozenset({ME, 8}))
    machine.on_appended(10, ALL, "a")
    assert machine.on_event(IsrChanged(frozenset({ME}), 1), now_ms=0) == [
        ReplyProduce("a"),
        AdvanceHighWatermark(10),
    ]


def test_turning_fsync_off_releases_what_waited_for_it() -> None:
    machine = leader(durable=True)
    machine.on_appended(5, ALL, "a")
    assert machine.on_event(Configured(1, durable=False), now_ms=0) == [
        ReplyProduce("a"),
        AdvanceHighWatermark(5),
    ]


def test_turning_fsync_on_keeps_the_high_watermark() -> None:
    machine = leader()
    machine.on_appended(5, ALL, "a")
    assert machine.on_event(Configured(1, durable=True), now_ms=0) == []
    assert machine.high_watermark == 5
    assert not machine.on_appended(6, ALL, "b")


def test_epochs_are_checked_by_name() -> None:
    machine = leader(epoch=3)
    machine.check_epoch(-1)
    with pytest.raises(errors.FencedLeaderEpochError):
        machine.check_produce(ALL, 2)
    with pytest.raises(errors.UnknownLeaderEpochError):
        machine.check_produce(ALL, 4)
    with pytest.raises(errors.InvalidRequiredAcksError):
        machine.check_produce(2, 3)
    with pytest.raises(errors.NotLeaderOrFollowerError):
        ReplicaMachine(ME).check_produce(ALL, -1)


def test_resigning_fails_what_is_parked() -> None:
    machine = leader(durable=True)
    machine.on_appended(5, ALL, "a")
    (reply,) = machine.on_event(Resign(), now_ms=0)
    assert isinstance(reply, ReplyProduce)
    assert isinstance(reply.error, errors.NotLeaderOrFollowerError)
    assert machine.role is Role.OFFLINE
    assert machine.on_event(Resign(), now_ms=0) == []
    assert machine.on_flushed(5) == []


def test_a_new_epoch_fails_what_the_old_one_parked_but_the_same_epoch_does_not() -> None:
    machine = leader(durable=True)
    machine.on_appended(5, ALL, "a")
    again = BecomeLeader(3, frozenset({ME}), 5, 0, 0, 1, durable=True)
    assert machine.on_event(again, now_ms=0) == []
    assert machine.pending_produces == 1
    effects = machine.on_event(again._replace(leader_epoch=4), now_ms=0)
    assert [type(effect) for effect in effects] == [ReplyProduce]
    assert machine.leader_epoch == 4


def test_an_old_epoch_is_refused_and_changes_nothing() -> None:
    machine = leader(epoch=3)
    with pytest.raises(errors.FencedLeaderEpochError):
        machine.on_event(BecomeLeader(2, frozenset({ME}), 0, 0, 0), now_ms=0)
    with pytest.raises(errors.FencedLeaderEpochError):
        machine.on_event(BecomeFollower(2, 8), now_ms=0)
    assert (machine.role, machine.leader_epoch) == (Role.LEADER, 3)


def test_a_follower_keeps_its_high_watermark_when_it_leads_again() -> None:
    machine = leader()
    machine.on_appended(5, ALL, "a")
    machine.on_event(BecomeFollower(4, 8), now_ms=0)
    assert (machine.role, machine.leader_id, machine.high_watermark) == (Role.FOLLOWER, 8, 5)
    machine.on_event(BecomeLeader(5, frozenset({ME, 8}), 9, 9, 0), now_ms=0)
    assert machine.high_watermark == 5


def test_late_produces_are_given_up_and_do_not_block_the_rest() -> None:
    machine = leader(durable=True)
    machine.on_appended(5, ALL, "late", deadline_ms=100)
    machine.on_appended(6, ALL, "patient", deadline_ms=900)
    assert machine.on_event(Tick(), now_ms=99) == []
    (reply,) = machine.on_event(Tick(), now_ms=100)
    assert isinstance(reply, ReplyProduce)
    assert reply.token == "late"
    assert isinstance(reply.error, errors.RequestTimedOutError)
    assert machine.on_flushed(6) == [ReplyProduce("patient"), AdvanceHighWatermark(6)]


def test_a_follower_that_caught_up_is_proposed_once() -> None:
    machine = leader(isr=frozenset({ME, 8}), log_end=10)
    machine.on_event(IsrChanged(frozenset({ME}), 1), now_ms=0)
    assert machine.on_event(FollowerAttached(8, 5, 4), now_ms=0) == []
    assert machine.on_event(FollowerAdvanced(8, 9), now_ms=0) == []
    assert machine.on_event(FollowerAdvanced(8, 10), now_ms=0) == [
        ProposeIsr(frozenset({ME, 8}), 1)
    ]
    machine.on_appended(12, LEADER, "a")
    assert machine.high_watermark == 10, "it counts as soon as it may be in sync"
    assert machine.on_event(FollowerAdvanced(8, 11), now_ms=0) == [AdvanceHighWatermark(11)]
    machine.on_event(IsrRefused(), now_ms=0)
    assert machine.high_watermark == 12


def test_an_open_proposal_outlives_the_same_word_of_the_controller() -> None:
    machine = leader(isr=frozenset({ME, 8}), log_end=10)
    machine.on_event(IsrChanged(frozenset({ME}), 1), now_ms=0)
    machine.on_event(FollowerAttached(8, 5, 10), now_ms=0)
    machine.on_event(IsrChanged(frozenset({ME}), 1), now_ms=0)
    machine.on_appended(12, LEADER, "a")
    assert machine.high_watermark == 10, "it may have been accepted"
    machine.on_event(IsrChanged(frozenset({ME}), 2), now_ms=0)
    assert machine.high_watermark == 12


def test_a_proposal_with_a_replica_that_was_given_up_is_none() -> None:
    """The answer to an ISR change tells that a reassignment is complete before the replicas do."""
    machine = leader(isr=frozenset({ME, 8, 9}), log_end=10)
    for follower in (8, 9):
        machine.on_event(FollowerAttached(follower, 1, 10), now_ms=0)
    machine.on_event(IsrChanged(frozenset({ME, 9}), 1), now_ms=0)
    machine.on_appended(11, LEADER, "a")
    proposed = machine.on_event(FollowerAdvanced(8, 11), now_ms=0)
    assert proposed == [ProposeIsr(frozenset({ME, 8, 9}), 1)]
    left = frozenset({ME, 9})
    machine.on_event(BecomeLeader(3, left, 11, 0, 0, 1, left, 1), now_ms=0)
    machine.on_appended(12, LEADER, "b")
    assert machine.on_event(FollowerAdvanced(9, 12), now_ms=0) == [AdvanceHighWatermark(12)]


def test_a_follower_that_falls_behind_leaves_after_the_lag() -> None:
    machine = leader(isr=frozenset({ME, 8, 9}))
    for id_ in (8, 9):
        machine.on_event(FollowerAttached(id_, 1, 0), now_ms=0)
    machine.on_event(Tick(), now_ms=50_000)
    machine.on_appended(10, ALL, "a")
    machine.on_event(FollowerAdvanced(8, 10), now_ms=50_001)
    assert machine.on_event(Tick(), now_ms=60_000) == []
    assert machine.on_event(Tick(), now_ms=60_001) == [ProposeIsr(frozenset({ME, 8}), 0)]
    assert machine.high_watermark == 0, "it counts until the controller has decided"
    assert machine.on_event(IsrChanged(frozenset({ME, 8}), 1), now_ms=60_002) == [
        ReplyProduce("a"),
        AdvanceHighWatermark(10),
    ]


def test_a_follower_always_a_little_behind_stays_in_sync() -> None:
    machine = leader(isr=frozenset({ME, 8}))
    machine.on_event(FollowerAttached(8, 1, 0), now_ms=0)
    for second in range(1, 40):
        machine.on_appended(10 * second, LEADER, "a")
        machine.on_event(FollowerAdvanced(8, 10 * second - 10), now_ms=1000 * second)
        assert machine.on_event(Tick(), now_ms=1000 * second) == []


def test_a_member_that_comes_back_with_less_than_is_committed_is_put_out() -> None:
    machine = leader(isr=frozenset({ME, 8}))
    machine.on_event(FollowerAttached(8, 1, 0), now_ms=0)
    machine.on_appended(10, ALL, "a")
    machine.on_event(FollowerAdvanced(8, 10), now_ms=0)
    assert machine.high_watermark == 10
    assert machine.on_event(FollowerAttached(8, 2, 3), now_ms=0) == [ProposeIsr(frozenset({ME}), 0)]


def test_a_stranger_is_not_counted() -> None:
    machine = leader(isr=frozenset({ME, 8}), log_end=10)
    assert machine.on_event(FollowerAttached(77, 1, 10), now_ms=0) == []
    assert machine.on_event(FollowerAdvanced(77, 10), now_ms=0) == []


def test_a_follower_believes_its_leader_up_to_its_own_end() -> None:
    machine = ReplicaMachine(ME)
    machine.on_event(BecomeFollower(3, 8), now_ms=0)
    assert machine.on_event(Replicated(10, 4), now_ms=0) == [AdvanceHighWatermark(4)]
    assert machine.on_event(Replicated(12, 99), now_ms=0) == [AdvanceHighWatermark(12)]
    assert machine.on_event(Replicated(12, 5), now_ms=0) == []
    everyone = frozenset({ME, 8})
    event = BecomeLeader(4, everyone, 15, 15, 0, replicas=everyone)
    assert machine.on_event(event, now_ms=0) == []
    assert (machine.high_watermark, machine.epoch_start) == (12, 15)


def test_after_an_unclean_election_nothing_beyond_the_log_is_committed() -> None:
    machine = ReplicaMachine(ME)
    machine.on_event(BecomeFollower(3, 8), now_ms=0)
    machine.on_event(Replicated(12, 12), now_ms=0)
    assert machine.on_event(Replicated(7, 0), now_ms=0) == []
    assert machine.high_watermark == 7
    everyone = frozenset({ME, 8})
    machine.on_event(BecomeLeader(4, everyone, 5, 5, 12, replicas=everyone), now_ms=0)
    assert machine.high_watermark == 5
    assert not machine.on_appended(6, ALL, "a"), "the other one does not have it"
