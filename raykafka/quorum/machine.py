"""The quorum machine: who leads, what is committed (Raft, in KRaft's words and with its additions).

Rules:
- Epochs never go back. A replica votes once per epoch, for a log that is at least as long as its
  own, and its vote is durable before anybody hears of it.
- Nobody disturbs a leader that others hear: it is asked first whether one would be elected
  (KIP-996), and whoever hears a leader says no.
- Committed records are never cut. See ``leading`` and ``following`` for what happens to the log.
- The log's effects are done one after the other; what the disk says late of an older log is void.

``on_event`` returns effects. Time and chance are the caller's: ``now_ms`` must not go back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from raykafka.errors import IllegalStateError, NotControllerError
from raykafka.quorum import events
from raykafka.quorum.ballot import Ballot
from raykafka.quorum.effects import (
    AdvanceHighWatermark,
    AppendRecords,
    ElectionState,
    InstallSnapshot,
    QuorumEffect,
    Reply,
    RoleChanged,
    SaveElection,
    Send,
)
from raykafka.quorum.following import FollowerState
from raykafka.quorum.leading import LeaderState, Timing
from raykafka.quorum.log_state import LogState
from raykafka.quorum.messages import (
    AppendRequest,
    AppendResponse,
    EndEpochRequest,
    EpochRun,
    VoteRequest,
    VoteResponse,
)
from raykafka.quorum.role import QuorumRole, check_transition
from raykafka.quorum.voters import ReplicaKey, VoterSet

NO_LEADER: Final = -1


class QuorumMachine:
    """State machine of one replica of the quorum, voter or observer."""

    def __init__(
        self,
        local: ReplicaKey,
        election: ElectionState,
        log: LogState,
        jitter: Callable[[], float],
        *,
        timing: Timing,
        now_ms: int,
    ) -> None:
        """``jitter`` gives numbers from 0 to 1; whoever calls chooses the seed.

        ``log`` and ``election`` are what the disk says; the machine keeps both up to date.
        """
        self.local = local
        self.role = QuorumRole.UNATTACHED
        self.log = log
        self.high_watermark = max(log.start.offset, 0)
        self.election = election
        """The newest epoch, and for whom this replica has voted in it."""
        self._jitter = jitter
        self._timing = timing
        self._deadline_ms = now_ms + self._wait_ms(timing.fetch_timeout_ms)
        self._obeyed_ms = now_ms  # when this replica obeyed a leader last, was one, or was started
        self._ballot = Ballot(local, now_ms)
        self._follower: FollowerState | None = None
        self.leading: LeaderState | None = None
        """What the leader knows of the others, None unless this replica leads."""

    # --- state ------------------------------------------------------------------------------------

    @property
    def epoch(self) -> int:
        """The newest epoch this replica knows."""
        return self.election.epoch

    @property
    def leader_id(self) -> int:
        """Who leads the epoch, -1 while that is not known."""
        if self.leading is not None:
            return self.local.id
        return NO_LEADER if self._follower is None else self._follower.leader.id

    @property
    def voters(self) -> VoterSet:
        """Who votes, as far as this replica knows."""
        return self.log.voters.voters

    @property
    def is_voter(self) -> bool:
        """Whether this replica votes; an observer only follows."""
        return self.voters.holds(self.local)

    @property
    def is_active(self) -> bool:
        """Whether this replica leads and has committed in its epoch: it has all there is."""
        return self.leading is not None and self.leading.has_committed

    def on_event(self, event: events.QuorumEvent, *, now_ms: int) -> list[QuorumEffect]:
        """Apply ``event``; returns what has to be done, in order.

        Events that ask for something raise what their docstrings say, and change nothing then.
        """
        if self.leading is not None:
            self._obeyed_ms = now_ms
        effects: list[QuorumEffect] = _HANDLERS[type(event)](self, event, now_ms)
        for effect in effects:
            if isinstance(effect, AdvanceHighWatermark):
                self.high_watermark = max(self.high_watermark, effect.high_watermark)
        if self.leading is not None and self.leading.is_done():
            effects.extend(self._on_resign(events.Resign(), now_ms))
        return effects

    # --- time -------------------------------------------------------------------------------------

    def _on_start(self, _: events.Start, now_ms: int) -> list[QuorumEffect]:
        if self.voters.keys == {self.local}:
            return self._become_prospective(now_ms)
        self._set_deadline(now_ms, self._timing.lost_leader_ms)
        return []

    def _on_tick(self, _: events.Tick, now_ms: int) -> list[QuorumEffect]:
        if self.leading is not None:
            if not self.leading.has_majority(now_ms):
                return self._resign(now_ms)
            return self.leading.on_tick(now_ms)
        if now_ms < self._deadline_ms:
            return []
        if self.role is QuorumRole.RESIGNED:
            return self._become_unattached(now_ms)
        if not self.is_voter:
            self._set_deadline(now_ms, self._timing.fetch_timeout_ms)
            return []
        return self._become_prospective(now_ms)

    def _on_peer_lost(self, event: events.PeerLost, now_ms: int) -> list[QuorumEffect]:
        if self.leading is not None:
            self.leading.on_lost(event.replica_id)
        elif self._follower is not None and self._follower.leader.id == event.replica_id:
            self._leader_lost(now_ms, 0)
        return []

    def _leader_lost(self, now_ms: int, rank: int) -> None:
        assert self._follower is not None
        self._follower.heard_ms = now_ms - self._timing.fetch_timeout_ms
        wait_ms = (rank + self._jitter()) * self._timing.lost_leader_ms
        self._deadline_ms = min(self._deadline_ms, now_ms + int(wait_ms))

    # --- elections --------------------------------------------------------------------------------

    def _become_prospective(self, now_ms: int) -> list[QuorumEffect]:
        effects = self._move(QuorumRole.PROSPECTIVE)
        self._set_deadline(now_ms, self._timing.election_timeout_ms)
        return [*effects, *self._ask_for_votes(now_ms, pre_vote=True)]

    def _become_candidate(self, now_ms: int) -> list[QuorumEffect]:
        self.election = ElectionState(self.epoch + 1, self.local)
        effects = [*self._move(QuorumRole.CANDIDATE), SaveElection(self.election)]
        self._set_deadline(now_ms, self._timing.election_timeout_ms)
        return [*effects, *self._ask_for_votes(now_ms, pre_vote=False)]

    def _ask_for_votes(self, now_ms: int, *, pre_vote: bool) -> list[QuorumEffect]:
        self._ballot = Ballot(self.local, self._obeyed_ms)
        request = VoteRequest(self.epoch, self.local, self.local, self.log.last, pre_vote)
        others = sorted(self.voters.keys - {self.local})
        effects: list[QuorumEffect] = [Send(key, request._replace(voter=key)) for key in others]
        return [*effects, *self._count_votes(now_ms)]

    def _count_votes(self, now_ms: int) -> list[QuorumEffect]:
        if self._ballot.is_won(self.voters):
            if self.role is QuorumRole.PROSPECTIVE:
                return self._become_candidate(now_ms)
            return self._become_leader(now_ms)
        if self._ballot.was_refused:  # whoever refuses may hear a leader: soon one knows more
            soon = now_ms + int((1 + 2 * self._jitter()) * self._timing.lost_leader_ms)
            self._deadline_ms = min(self._deadline_ms, soon)
        return []

    def _on_vote(self, request: VoteRequest, token: Any, now_ms: int) -> list[QuorumEffect]:
        if request.voter != self.local:
            return [Reply(token, VoteResponse(self.epoch, False, request.pre_vote))]
        if request.pre_vote:
            granted = request.epoch >= self.epoch and not self._hears_leader(now_ms)
            granted = granted and request.last[::-1] >= self.log.last[::-1]
            return [Reply(token, VoteResponse(self.epoch, granted, pre_vote=True))]
        effects = self._follow_epoch(request.epoch, now_ms)
        granted = request.epoch == self.epoch and self._may_vote_for(request)
        if granted and self.election.voted_for is None:
            self.election = ElectionState(self.epoch, request.candidate)
            effects.append(SaveElection(self.election))
        if granted:
            effects.extend(self._become_unattached(now_ms))
        answer = VoteResponse(self.epoch, granted, silent_ms=now_ms - self._obeyed_ms)
        return [*effects, Reply(token, answer)]

    def _may_vote_for(self, request: VoteRequest) -> bool:
        if self.election.voted_for is not None:
            return self.election.voted_for == request.candidate
        return self.leader_id == NO_LEADER and request.last[::-1] >= self.log.last[::-1]

    def _hears_leader(self, now_ms: int) -> bool:
        if self._follower is not None:
            return now_ms - self._follower.heard_ms < self._timing.fetch_timeout_ms
        return self.leading is not None

    # --- roles ------------------------------------------------------------------------------------

    def _become_leader(self, now_ms: int) -> list[QuorumEffect]:
        self.leading = LeaderState(
            self.local, self.epoch, self.log, self.high_watermark, self._timing, now_ms
        )
        self.leading.predecessor_obeyed_ms = self._ballot.obeyed_ms
        effects = self._move(QuorumRole.LEADER)
        effects.extend(self.leading.write_voters(self.voters, now_ms))
        return effects

    def _become_follower(self, leader: ReplicaKey, now_ms: int) -> list[QuorumEffect]:
        self._follower = FollowerState(self.local, leader, self.epoch, self.log)
        return self._move(QuorumRole.FOLLOWER)

    def _become_unattached(self, now_ms: int) -> list[QuorumEffect]:
        self._set_deadline(now_ms, self._timing.fetch_timeout_ms)
        return self._move(QuorumRole.UNATTACHED)

    def _on_resign(self, _: events.Resign, now_ms: int) -> list[QuorumEffect]:
        leader = self.leading
        if leader is None:
            return []
        newest = sorted(leader.progress.values(), key=lambda each: -each.position)
        order = tuple(each.key for each in newest if self.voters.holds(each.key))
        request = EndEpochRequest(self.epoch, self.local, order)
        farewell: list[QuorumEffect] = [Send(key, request) for key in order]
        return [*self._resign(now_ms), *farewell]

    def _resign(self, now_ms: int) -> list[QuorumEffect]:
        self._set_deadline(now_ms, self._timing.election_timeout_ms)
        return self._move(QuorumRole.RESIGNED)

    def _follow_epoch(self, epoch: int, now_ms: int) -> list[QuorumEffect]:
        """A newer epoch was heard of: whatever this replica was before, it is over."""
        if epoch <= self.epoch:
            return []
        self.election = ElectionState(epoch)
        return [SaveElection(self.election), *self._become_unattached(now_ms)]

    def _move(self, role: QuorumRole) -> list[QuorumEffect]:
        check_transition(self.role, role)
        self.role = role
        if role is not QuorumRole.FOLLOWER:
            self._follower = None
        if role is not QuorumRole.LEADER:
            self.leading = None
        return [RoleChanged(role, self.epoch, self.leader_id)]

    def _set_deadline(self, now_ms: int, wait_ms: int) -> None:
        self._deadline_ms = now_ms + self._wait_ms(wait_ms)

    def _wait_ms(self, least_ms: int) -> int:
        return least_ms + int(self._jitter() * least_ms / 2)

    # --- messages ---------------------------------------------------------------------------------

    def _on_received(self, event: events.Received, now_ms: int) -> list[QuorumEffect]:
        request = event.request
        if isinstance(request, VoteRequest):
            return self._on_vote(request, event.token, now_ms)
        if isinstance(request, EndEpochRequest):
            return self._on_end_epoch(request, now_ms)
        return self._on_append_request(request, event.token, now_ms)

    def _on_append_request(
        self, request: AppendRequest, token: Any, now_ms: int
    ) -> list[QuorumEffect]:
        effects = self._follow_epoch(request.epoch, now_ms)
        if request.epoch < self.epoch or request.replica != self.local:
            refused = AppendResponse(self.epoch, self.local, request.sequence, matched=False)
            return [*effects, Reply(token, refused)]
        if self._follower is None:
            if self.role is QuorumRole.LEADER:
                raise IllegalStateError(f"two leaders in epoch {self.epoch}: {request.leader}")
            effects.extend(self._become_follower(request.leader, now_ms))
        assert self._follower is not None
        self._set_deadline(now_ms, self._timing.fetch_timeout_ms)
        self._follower.heard_ms = self._obeyed_ms = now_ms
        return [*effects, *self._follower.on_append(request, token, self.high_watermark)]

    def _on_end_epoch(self, request: EndEpochRequest, now_ms: int) -> list[QuorumEffect]:
        effects = self._follow_epoch(request.epoch, now_ms)
        if self._follower is not None and request.epoch == self.epoch:
            order = request.successors
            rank = order.index(self.local) if self.local in order else len(order)
            self._leader_lost(now_ms, rank)
        return effects

    def _on_answered(self, event: events.Answered, now_ms: int) -> list[QuorumEffect]:
        response = event.response
        effects = self._follow_epoch(response.epoch, now_ms)
        if effects or (response.epoch < self.epoch and not isinstance(response, VoteResponse)):
            return effects
        if isinstance(response, AppendResponse):
            if self.leading is None or response.replica != event.replica:
                return []
            return self.leading.on_response(event.replica, response, now_ms)
        asking = QuorumRole.PROSPECTIVE if response.pre_vote else QuorumRole.CANDIDATE
        if self.role is not asking or (not response.pre_vote and response.epoch < self.epoch):
            return []
        self._ballot.take(event.replica, response.granted, now_ms - response.silent_ms)
        return self._count_votes(now_ms)

    # --- the log ----------------------------------------------------------------------------------

    def _on_append(self, event: events.Append, now_ms: int) -> list[QuorumEffect]:
        leader = self._leading_in(event.epoch)
        start = self.log.end_offset
        end = start + event.records
        self.log.append([EpochRun(event.epoch, start)], end)
        return [AppendRecords(event.epoch, start, end), *leader.send_records(now_ms)]

    def _on_append_failed(self, event: events.AppendFailed, now_ms: int) -> list[QuorumEffect]:
        if self.leading is None or event.epoch != self.epoch:
            return []
        self.log.forget(max(event.end_offset, self.leading.start_offset))
        self.leading.on_forgotten()
        if event.end_offset <= self.leading.start_offset:
            return self._on_resign(events.Resign(), now_ms)
        return []

    def _on_flushed(self, event: events.Flushed, now_ms: int) -> list[QuorumEffect]:
        if event.generation != self.log.generation or event.offset <= self.log.flushed_offset:
            return []
        self.log.flushed_offset = min(event.offset, self.log.end_offset)
        if self.leading is not None:
            return self.leading.advance(now_ms)
        if self._follower is not None:
            return self._follower.on_flushed(self.high_watermark)
        return []

    def _on_snapshot_taken(self, event: events.SnapshotTaken, now_ms: int) -> list[QuorumEffect]:
        if self.log.start.offset < event.snapshot.offset <= self.high_watermark:
            self.log.start_at(event.snapshot)
        return []

    def _on_snapshot_fetched(
        self, event: events.SnapshotFetched, now_ms: int
    ) -> list[QuorumEffect]:
        snapshot = event.snapshot
        if snapshot.offset <= self.high_watermark or self.leading is not None:
            return []
        if snapshot.offset <= self.log.end_offset and self.log.is_matched(snapshot):
            return []
        self.log.replace(snapshot, event.voters)
        return [InstallSnapshot(snapshot), AdvanceHighWatermark(snapshot.offset)]

    # --- what the leader is asked for -------------------------------------------------------------

    def _on_add_voter(self, event: events.AddVoter, now_ms: int) -> list[QuorumEffect]:
        return self._leading_in(self.epoch).add_voter(event.voter, now_ms)

    def _on_remove_voter(self, event: events.RemoveVoter, now_ms: int) -> list[QuorumEffect]:
        return self._leading_in(self.epoch).remove_voter(event.key, now_ms)

    def _on_confirm(self, event: events.Confirm, now_ms: int) -> list[QuorumEffect]:
        return self._leading_in(self.epoch).confirm(event.token, now_ms)

    def _leading_in(self, epoch: int) -> LeaderState:
        if self.leading is None or epoch != self.epoch:
            raise NotControllerError(
                f"controller {self.local.id} does not lead, {self.leader_id} does in {self.epoch}"
            )
        return self.leading


_HANDLERS: Final[Mapping[type, Callable[[QuorumMachine, Any, int], list[QuorumEffect]]]] = {
    events.Start: QuorumMachine._on_start,
    events.Tick: QuorumMachine._on_tick,
    events.Received: QuorumMachine._on_received,
    events.Answered: QuorumMachine._on_answered,
    events.PeerLost: QuorumMachine._on_peer_lost,
    events.Append: QuorumMachine._on_append,
    events.AppendFailed: QuorumMachine._on_append_failed,
    events.Flushed: QuorumMachine._on_flushed,
    events.SnapshotTaken: QuorumMachine._on_snapshot_taken,
    events.SnapshotFetched: QuorumMachine._on_snapshot_fetched,
    events.AddVoter: QuorumMachine._on_add_voter,
    events.RemoveVoter: QuorumMachine._on_remove_voter,
    events.Confirm: QuorumMachine._on_confirm,
    events.Resign: QuorumMachine._on_resign,
}
