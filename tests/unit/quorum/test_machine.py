"""The quorum machine step by step."""

from __future__ import annotations

import pytest
from quorum_replica import KEYS, START, Replica, only, voters

from raykafka import errors
from raykafka.quorum import effects, events
from raykafka.quorum.messages import (
    AppendResponse,
    EndEpochRequest,
    EpochRun,
    OffsetAndEpoch,
    VoteRequest,
)
from raykafka.quorum.role import TRANSITIONS, QuorumRole, check_transition
from raykafka.quorum.voters import ReplicaKey, Voter


def test_a_voter_that_is_alone_leads_at_once() -> None:
    replica = Replica(1)
    found = replica.do(events.Start())
    kinds = [type(effect) for effect in found]
    assert kinds.index(effects.SaveElection) < kinds.index(effects.AppendVoters)
    assert replica.machine.role is QuorumRole.LEADER
    assert not replica.machine.is_active, "nothing of its epoch is durable yet"
    assert replica.do(events.Flushed(1, 0)) == [effects.AdvanceHighWatermark(1)]
    assert replica.machine.is_active
    assert replica.do(events.Append(1, 3)) == [effects.AppendRecords(1, 1, 4)]
    assert replica.do(events.Flushed(4, 0)) == [effects.AdvanceHighWatermark(4)]


def test_nobody_is_disturbed_before_a_majority_would_vote() -> None:
    replica = Replica()
    replica.do(events.Start())
    found = only(replica.after(200), effects.Send)
    assert [send.to for send in found] == KEYS[1:3]
    assert all(send.request.pre_vote and send.request.epoch == 0 for send in found)
    assert replica.machine.epoch == 0
    replica.vote(1, False, pre_vote=True)
    assert replica.machine.role is QuorumRole.PROSPECTIVE
    found = replica.vote(2, pre_vote=True)
    assert replica.machine.role is QuorumRole.CANDIDATE
    saved = found.index(effects.SaveElection(effects.ElectionState(1, KEYS[0])))
    first = next(index for index, effect in enumerate(found) if isinstance(effect, effects.Send))
    assert saved < first, "the vote is durable before anybody hears of it"


def test_whoever_hears_a_leader_wants_no_election() -> None:
    replica = Replica()
    replica.append(1, START, 0)
    request = VoteRequest(1, KEYS[2], KEYS[0], OffsetAndEpoch(50, 1), pre_vote=True)
    (reply,) = replica.do(events.Received(request, 1))
    assert not reply.response.granted
    replica.do(events.PeerLost(1))
    (reply,) = replica.do(events.Received(request, 1))
    assert reply.response.granted


def test_one_vote_per_epoch_for_a_log_that_is_long_enough() -> None:
    replica = Replica(epochs=[(1, 0), (2, 5)], end=8, election=effects.ElectionState(2))

    def ask(candidate: int, epoch: int, last: OffsetAndEpoch) -> bool:
        request = VoteRequest(epoch, KEYS[candidate], KEYS[0], last)
        return bool(replica.do(events.Received(request, 1))[-1].response.granted)

    assert not ask(1, 3, OffsetAndEpoch(100, 1)), "longer, but of an older epoch"
    assert not ask(1, 3, OffsetAndEpoch(7, 2))
    assert ask(2, 3, OffsetAndEpoch(8, 2))
    assert not ask(1, 3, OffsetAndEpoch(100, 2)), "one vote per epoch"
    assert ask(2, 3, OffsetAndEpoch(8, 2)), "the answer may have been lost"
    assert not ask(1, 2, OffsetAndEpoch(100, 2)), "an epoch that is over"
    assert ask(1, 4, OffsetAndEpoch(100, 2))


def test_a_vote_meant_for_a_lost_disk_is_not_given() -> None:
    replica = Replica()
    request = VoteRequest(1, KEYS[1], ReplicaKey(0, "lost"), OffsetAndEpoch(9, 9))
    (reply,) = replica.do(events.Received(request, 1))
    assert not reply.response.granted
    assert replica.machine.epoch == 0


def test_records_of_older_epochs_are_not_committed_by_counting() -> None:
    replica = Replica(epochs=[(1, 0)], end=5, election=effects.ElectionState(1))
    replica.elect()
    replica.do(events.Flushed(6, 0))
    assert not only(replica.acknowledge(1, 5), effects.AdvanceHighWatermark)
    assert not replica.machine.is_active
    found = replica.acknowledge(2, 6)
    assert only(found, effects.AdvanceHighWatermark) == [effects.AdvanceHighWatermark(6)]
    assert replica.machine.is_active


def test_only_what_is_flushed_counts() -> None:
    replica = Replica()
    replica.elect()
    assert not only(replica.acknowledge(1, 1), effects.AdvanceHighWatermark), "one of three disks"
    found = replica.do(events.Flushed(1, 0))
    assert found == [effects.AdvanceHighWatermark(1)]


def test_a_flush_of_a_log_that_was_cut_says_nothing() -> None:
    replica = Replica(epochs=[(1, 0)], end=2, election=effects.ElectionState(1))
    replica.append(2, OffsetAndEpoch(2, 1), 6)
    found = replica.append(3, OffsetAndEpoch(2, 1), 5)
    assert effects.TruncateLog(2) in found
    assert replica.do(events.Flushed(6, 0)) == [], "it began before the log was cut"
    (reply,) = replica.do(events.Flushed(5, 1))
    assert reply.response.end_offset == 5


def test_the_log_is_cut_where_it_differs() -> None:
    replica = Replica(epochs=[(1, 0), (2, 6)], end=9, election=effects.ElectionState(2))
    reply = replica.append(5, OffsetAndEpoch(12, 4), 12)[-1]
    assert (reply.response.matched, reply.response.diverging) == (False, OffsetAndEpoch(9, 2))
    (reply,) = replica.append(5, OffsetAndEpoch(8, 1), 8)
    assert reply.response.diverging == OffsetAndEpoch(6, 1)
    runs = (EpochRun(1, 4), EpochRun(4, 6))
    found = replica.append(5, OffsetAndEpoch(4, 1), 8, runs=runs)
    assert found == [effects.TruncateLog(6), effects.AppendFetched("token", 6, 8)]
    assert (replica.log.last, replica.log.flushed_offset) == (OffsetAndEpoch(8, 4), 6)


def test_a_late_copy_of_an_old_message_cuts_nothing() -> None:
    replica = Replica()
    replica.append(1, START, 4)
    replica.append(1, OffsetAndEpoch(4, 1), 9)
    assert not only(replica.append(1, START, 4), effects.TruncateLog)
    assert replica.log.end_offset == 9


def test_a_leader_finds_where_a_follower_has_left() -> None:
    replica = Replica(epochs=[(1, 0), (3, 5)], end=9, election=effects.ElectionState(3))
    replica.elect()
    diverging = OffsetAndEpoch(8, 2)
    (send,) = only(replica.acknowledge(1, 0, matched=False, diverging=diverging), effects.Send)
    assert send.request.previous == OffsetAndEpoch(5, 1), "it has no epoch 2: where 1 ends"
    assert send.request.runs == (EpochRun(3, 5), EpochRun(4, 9))


def test_a_follower_that_is_too_far_behind_gets_the_snapshot() -> None:
    start = OffsetAndEpoch(100, 3)
    replica = Replica(start=start, end=100, election=effects.ElectionState(3))
    replica.elect()
    found = replica.acknowledge(1, 0, matched=False, diverging=OffsetAndEpoch(20, 2))
    (send,) = only(found, effects.Send)
    assert send.request.snapshot == send.request.previous == start
    follower = Replica(epochs=[(2, 0)], end=20, election=effects.ElectionState(2))
    reply, fetch = follower.append(4, start, 100, runs=(), snapshot=start)[-2:]
    assert not reply.response.matched
    assert fetch == effects.FetchSnapshot(KEYS[1], start)
    found = follower.do(events.SnapshotFetched(start, voters(3)))
    assert found == [effects.InstallSnapshot(start), effects.AdvanceHighWatermark(100)]
    assert follower.log.last == start
    assert follower.log.flushed_offset == 0
    assert follower.do(events.SnapshotFetched(start, voters(3))) == []


def test_a_leader_without_a_majority_resigns() -> None:
    replica = Replica()
    replica.elect()
    replica.now_ms += 100
    replica.acknowledge(1, 1)
    assert only(replica.after(140), effects.Send)
    assert replica.machine.role is QuorumRole.LEADER
    replica.after(20)
    assert replica.machine.role is QuorumRole.RESIGNED
    with pytest.raises(errors.NotControllerError):
        replica.do(events.Append(1, 1))


def test_a_clean_farewell_names_the_successors() -> None:
    replica = Replica()
    replica.elect()
    replica.acknowledge(2, 1)
    found = replica.do(events.Resign())
    sends = only(found, effects.Send)
    assert all(send.request.successors == (KEYS[2], KEYS[1]) for send in sends)
    follower = Replica()
    follower.append(1, START, 0)
    follower.do(events.Received(EndEpochRequest(1, KEYS[1], (KEYS[0], KEYS[2])), 1))
    assert only(follower.after(0), effects.Send), "the first one stands at once"


def test_confirming_takes_answers_from_after_the_question() -> None:
    replica = Replica()
    replica.elect()
    found = only(replica.do(events.Confirm("asked")), effects.Send)
    old = AppendResponse(1, KEYS[1], found[0].request.sequence - 2, True, 0)
    assert not only(replica.do(events.Answered(KEYS[1], old)), effects.Confirmed)
    new = old._replace(sequence=found[0].request.sequence)
    assert replica.do(events.Answered(KEYS[1], new))[0] == effects.Confirmed("asked")
    alone = Replica(1)
    alone.do(events.Start())
    assert alone.do(events.Confirm("me")) == [effects.Confirmed("me")]


def test_voters_change_one_at_a_time_and_not_before_the_epoch_is_committed() -> None:
    replica = Replica()
    replica.elect()
    with pytest.raises(errors.ReassignmentInProgressError):
        replica.do(events.RemoveVoter(KEYS[2]))
    replica.do(events.Flushed(1, 0))
    replica.acknowledge(1, 1)
    with pytest.raises(errors.VoterNotFoundError):
        replica.do(events.RemoveVoter(KEYS[4]))
    with pytest.raises(errors.DuplicateVoterError):
        replica.do(events.AddVoter(Voter(2, "another disk")))
    assert only(replica.do(events.RemoveVoter(KEYS[2])), effects.AppendVoters)
    assert replica.machine.voters == voters(2), "they count from now on"
    with pytest.raises(errors.ReassignmentInProgressError):
        replica.do(events.AddVoter(Voter(*KEYS[3])))
    replica.do(events.Flushed(2, 0))
    replica.acknowledge(1, 2)
    assert only(replica.do(events.AddVoter(Voter(*KEYS[3]))), effects.Send)
    found = replica.acknowledge(3, 2)
    assert only(found, effects.AppendVoters), "caught up"


def test_one_that_loses_its_disk_before_it_votes_may_try_again() -> None:
    replica = Replica()
    replica.elect()
    replica.do(events.Flushed(1, 0))
    replica.acknowledge(1, 1)
    replica.do(events.AddVoter(Voter(*KEYS[3])))
    with pytest.raises(errors.ReassignmentInProgressError):
        replica.do(events.AddVoter(Voter(*KEYS[4])))
    replica.do(events.AddVoter(Voter(KEYS[3].id, "another disk")))
    assert replica.machine.leading is not None
    assert replica.machine.leading.adding == Voter(KEYS[3].id, "another disk")
    assert KEYS[3] not in replica.machine.leading.progress, "the lost disk counts no more"


def test_a_leader_that_is_voted_out_stays_until_that_is_committed() -> None:
    replica = Replica()
    replica.elect()
    replica.do(events.Flushed(1, 0))
    replica.acknowledge(1, 1)
    replica.do(events.RemoveVoter(KEYS[0]))
    replica.do(events.Flushed(2, 0))
    assert not only(replica.acknowledge(1, 2), effects.AdvanceHighWatermark), "it does not count"
    replica.acknowledge(2, 2)
    assert replica.machine.role is QuorumRole.RESIGNED


def test_what_could_not_be_written_is_forgotten() -> None:
    replica = Replica(1)
    replica.do(events.Start())
    replica.do(events.Flushed(1, 0))
    replica.do(events.Append(1, 5))
    replica.do(events.AppendFailed(1, 1))
    assert replica.log.last == OffsetAndEpoch(1, 1)
    assert replica.do(events.Append(1, 2)) == [effects.AppendRecords(1, 1, 3)]
    assert replica.do(events.Flushed(3, 0)) == [effects.AdvanceHighWatermark(3)]


def test_a_snapshot_is_of_what_is_committed() -> None:
    replica = Replica(1)
    replica.do(events.Start())
    replica.do(events.Flushed(1, 0))
    replica.do(events.Append(1, 5))
    replica.do(events.SnapshotTaken(OffsetAndEpoch(6, 1)))
    assert replica.log.start == START
    replica.do(events.Flushed(6, 0))
    replica.do(events.SnapshotTaken(OffsetAndEpoch(4, 1)))
    assert replica.log.start == OffsetAndEpoch(4, 1)
    assert (replica.log.last, replica.machine.voters) == (OffsetAndEpoch(6, 1), voters(1))


@pytest.mark.parametrize("following", QuorumRole)
@pytest.mark.parametrize("current", QuorumRole)
def test_only_the_table_says_what_may_follow(current: QuorumRole, following: QuorumRole) -> None:
    if following in TRANSITIONS[current]:
        check_transition(current, following)
    else:
        with pytest.raises(errors.IllegalStateError):
            check_transition(current, following)
