"""Classic mistakes, planted one by one: each of them must be found."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from quorum_chaos import chaos, settle
from quorum_kit import Quorum
from quorum_replica import Replica

from raykafka.errors import IllegalStateError
from raykafka.quorum import events, machine
from raykafka.quorum.effects import ElectionState
from raykafka.quorum.following import FollowerState
from raykafka.quorum.leading import LeaderState
from raykafka.quorum.log_state import LogState
from raykafka.quorum.messages import AppendRequest, OffsetAndEpoch, VoteRequest
from raykafka.quorum.voters import VoterSet

Patch = Callable[[pytest.MonkeyPatch], None]


def log_matching_is_skipped(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(LogState, "is_matched", lambda self, previous: previous.offset <= self.end_offset)


def a_vote_ignores_the_log(patch: pytest.MonkeyPatch) -> None:
    def on_vote(self: Any, request: VoteRequest, token: Any, now_ms: int) -> Any:
        forged = request._replace(last=request.last._replace(offset=1 << 40, epoch=1 << 40))
        return original(self, forged, token, now_ms)

    original = machine.QuorumMachine._on_vote
    patch.setattr(machine.QuorumMachine, "_on_vote", on_vote)


def votes_are_given_twice(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(machine.QuorumMachine, "_may_vote_for", lambda self, request: True)


def votes_are_not_saved(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Quorum, "forgets_votes", True)


def half_is_enough(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(VoterSet, "majority", property(lambda self: max(1, len(self.voters) // 2)))


def answers_do_not_wait_for_the_disk(patch: pytest.MonkeyPatch) -> None:
    def on_append(self: Any, request: AppendRequest, token: Any, high_watermark: int) -> Any:
        flushed = self._log.flushed_offset
        self._log.flushed_offset = 1 << 40
        try:
            return original(self, request, token, high_watermark)
        finally:
            self._log.flushed_offset = flushed

    original = FollowerState.on_append
    patch.setattr(FollowerState, "on_append", on_append)


def the_high_watermark_is_where_to_cut(patch: pytest.MonkeyPatch) -> None:
    def matched_end(self: LogState, runs: Any, end: int) -> int:
        return min(runs[0].start_offset, self.end_offset) if runs else end

    patch.setattr(LogState, "matched_end", matched_end)


def a_late_flush_counts_for_a_newer_log(patch: pytest.MonkeyPatch) -> None:
    def on_flushed(self: Any, event: events.Flushed, now_ms: int) -> Any:
        return original(self, event._replace(generation=self.log.generation), now_ms)

    original = machine.QuorumMachine._on_flushed
    patch.setitem(machine._HANDLERS, events.Flushed, on_flushed)  # type: ignore[arg-type]


def older_epochs_are_committed_by_counting(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(LeaderState, "_may_commit", lambda self, offset: True)


def a_lost_disk_keeps_its_vote(patch: pytest.MonkeyPatch) -> None:
    def on_vote(self: Any, request: VoteRequest, token: Any, now_ms: int) -> Any:
        return original(self, request._replace(voter=self.local), token, now_ms)

    original = machine.QuorumMachine._on_vote
    patch.setattr(machine.QuorumMachine, "_on_vote", on_vote)


def chaos_finds_it() -> None:
    for seed in range(60):
        quorum = Quorum(seed, random.Random(seed).choice([3, 3, 5]), lossy=True)
        chaos(quorum, 25)
        settle(quorum)


def a_restart_between_two_candidates() -> None:
    """They are rarely so close together that a seed would find it."""
    quorum = Quorum(0)
    voter = quorum.nodes[0]
    answers = []
    for candidate in quorum.nodes[1:]:
        request = VoteRequest(7, candidate.key, voter.key, OffsetAndEpoch(9, 6))
        assert voter.machine is not None
        voter.feed(events.Received(request, (candidate, (request, ()), voter.key)))
        quorum.run(6)
        answers.append(voter.machine.election.voted_for == candidate.key)
        quorum.kill(voter)
        voter.start()
    assert answers == [True, False]


def a_cut_during_a_flush() -> None:
    """A log is seldom cut while it is flushed."""
    replica = Replica(epochs=[(1, 0)], end=2, election=ElectionState(1))
    replica.append(2, OffsetAndEpoch(2, 1), 6)
    replica.append(3, OffsetAndEpoch(2, 1), 5)
    assert replica.do(events.Flushed(6, 0)) == []


def a_leader_that_is_ahead_of_its_own_epoch() -> None:
    """A leader's first record hardly ever reaches a follower later than what is before it."""
    replica = Replica(epochs=[(1, 0)], end=5, election=ElectionState(1))
    replica.elect()
    replica.do(events.Flushed(6, 0))
    replica.acknowledge(1, 5)
    assert replica.machine.high_watermark == 0


FINDERS: dict[Patch, Callable[[], None]] = {
    log_matching_is_skipped: chaos_finds_it,
    a_vote_ignores_the_log: chaos_finds_it,
    votes_are_given_twice: chaos_finds_it,
    votes_are_not_saved: a_restart_between_two_candidates,
    half_is_enough: chaos_finds_it,
    answers_do_not_wait_for_the_disk: chaos_finds_it,
    the_high_watermark_is_where_to_cut: chaos_finds_it,
    a_lost_disk_keeps_its_vote: chaos_finds_it,
    a_late_flush_counts_for_a_newer_log: a_cut_during_a_flush,
    older_epochs_are_committed_by_counting: a_leader_that_is_ahead_of_its_own_epoch,
}


@pytest.mark.parametrize("mutation", FINDERS, ids=lambda mutation: mutation.__name__)
def test_it_is_found(mutation: Patch, monkeypatch: pytest.MonkeyPatch) -> None:
    mutation(monkeypatch)
    with pytest.raises((AssertionError, IllegalStateError)):
        FINDERS[mutation]()


@pytest.mark.parametrize("finder", set(FINDERS.values()) - {chaos_finds_it})
def test_it_is_not_found_where_it_is_not(finder: Callable[[], None]) -> None:
    finder()
