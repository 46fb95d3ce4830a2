"""What a leader knows of the others: how far they are, when they were heard, who shall vote.

Rules:
- Committed is what a majority of the voters has flushed, once that holds of a record of the
  leader's own epoch; older epochs' records are committed with it, never by counting (Raft 5.4.2).
- One batch of records is under way to a replica at a time; its answer asks for the next one, so
  what has gathered meanwhile shares the next message. Signs of life go out beside it.
- A leader that has not heard a majority for a while resigns: others may have elected long ago.
- Voters change one at a time, and only once the leader has committed in its own epoch (KIP-853).
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final, NamedTuple

from raykafka.errors import DuplicateVoterError, ReassignmentInProgressError, VoterNotFoundError
from raykafka.quorum.effects import (
    AdvanceHighWatermark,
    AppendVoters,
    Confirmed,
    QuorumEffect,
    Send,
)
from raykafka.quorum.log_state import LogState
from raykafka.quorum.messages import AppendRequest, AppendResponse, EpochRun, OffsetAndEpoch
from raykafka.quorum.voters import ReplicaKey, Voter, VotersAt, VoterSet

_UNANSWERED: Final = 64
"""Requests to a replica whose time is remembered: it has not answered older ones for seconds."""


class Timing(NamedTuple):
    """Milliseconds. Whoever waits adds chance to its time, up to half as much again."""

    election_timeout_ms: int = 1000
    """For an election to be decided."""
    fetch_timeout_ms: int = 1000
    """Without a leader's word, before a voter asks for an election."""
    heartbeat_ms: int = 200
    """Between two words of a leader that has nothing to say."""
    lost_leader_ms: int = 100
    """Like ``fetch_timeout_ms``, after the connection from the leader has ended."""

    @property
    def check_quorum_ms(self) -> int:
        """Without a majority's word, before a leader resigns."""
        return self.fetch_timeout_ms * 3 // 2

    @property
    def resend_ms(self) -> int:
        """Without an answer, before records are sent again."""
        return max(self.fetch_timeout_ms // 2, 1)


class Progress:
    """How far one replica is. ``position``: its durable log equals the leader's up to here."""

    __slots__ = (
        "acknowledged", "heard_ms", "in_flight", "in_flight_ms", "key", "next_offset", "obeyed_ms",
        "position", "sent", "sent_ms",
    )  # fmt: skip

    def __init__(self, key: ReplicaKey, next_offset: int, now_ms: int) -> None:
        self.key = key
        self.next_offset = next_offset
        self.position = 0
        self.heard_ms = now_ms
        self.sent_ms = -1
        self.in_flight = 0
        """Sequence of the records that are under way, 0 for none."""
        self.in_flight_ms = 0
        self.acknowledged = 0
        """Newest sequence that was answered."""
        self.obeyed_ms = -1
        """When the newest request that was answered had been sent; -1 before the first."""
        self.sent: deque[tuple[int, int]] = deque(maxlen=_UNANSWERED)
        """Sequences that were not answered yet, and when they were sent."""

    def answered(self, sequence: int) -> None:
        """The replica obeyed a request after it was sent."""
        self.acknowledged = max(self.acknowledged, sequence)
        while self.sent and self.sent[0][0] <= sequence:
            number, at_ms = self.sent.popleft()
            if number == sequence:
                self.obeyed_ms = max(self.obeyed_ms, at_ms)


class LeaderState:
    """One leader's life in one epoch; ``log`` is shared with the machine."""

    def __init__(
        self,
        local: ReplicaKey,
        epoch: int,
        log: LogState,
        high_watermark: int,
        timing: Timing,
        now_ms: int,
    ) -> None:
        self.local = local
        self.epoch = epoch
        self.high_watermark = high_watermark
        self.start_offset = log.end_offset
        """Where the leader's own epoch begins."""
        self.progress: dict[ReplicaKey, Progress] = {}
        self._log = log
        self._timing = timing
        self._sequence = 0
        self._adding: Voter | None = None
        self._confirming: list[tuple[int, Any]] = []
        self.predecessor_obeyed_ms = now_ms
        """No majority has obeyed a leader before this one later than then."""
        self._follow_voters(now_ms)

    @property
    def adding(self) -> Voter | None:
        """Who will vote once it has caught up."""
        return self._adding

    @property
    def has_committed(self) -> bool:
        """Whether something of the leader's own epoch is committed, and so all before it."""
        return self.high_watermark > self.start_offset

    def is_done(self) -> bool:
        """Whether the leader has been voted out, and the others know."""
        voters = self._log.voters
        return voters.offset < self.high_watermark and not voters.voters.holds(self.local)

    def write_voters(self, voters: VoterSet, now_ms: int) -> list[QuorumEffect]:
        """Append a record with the voters: they count from now on."""
        at = self._log.end_offset
        self._log.append([EpochRun(self.epoch, at)], at + 1, [VotersAt(at, voters)])
        self._follow_voters(now_ms)
        return [AppendVoters(self.epoch, at, voters), *self.send_records(now_ms)]

    # --- sending ----------------------------------------------------------------------------------

    def send_records(self, now_ms: int) -> list[QuorumEffect]:
        """To everyone that waits for records."""
        end = self._log.end_offset
        return [
            self._append(progress, now_ms)
            for progress in self.progress.values()
            if not progress.in_flight
            and progress.next_offset < end
            and not self._is_behind(progress)
        ]

    def on_tick(self, now_ms: int) -> list[QuorumEffect]:
        """Signs of life, and records whose answer does not come."""
        effects: list[QuorumEffect] = []
        for progress in self.progress.values():
            if progress.in_flight and now_ms - progress.in_flight_ms >= self._timing.resend_ms:
                progress.in_flight = 0
            if progress.sent_ms < 0 or now_ms - progress.sent_ms >= self._timing.heartbeat_ms:
                if progress.in_flight or self._is_behind(progress):
                    effects.append(self._heartbeat(progress, now_ms))
                else:
                    effects.append(self._append(progress, now_ms))
        return effects

    def has_majority(self, now_ms: int) -> bool:
        """Whether a majority was heard lately."""
        oldest = now_ms - self._timing.check_quorum_ms
        heard = sum(
            key == self.local or self.progress[key].heard_ms >= oldest
            for key in self._log.voters.voters.keys
        )
        return heard >= self._log.voters.voters.majority

    def obeyed_ms(self, now_ms: int) -> int:
        """When a majority is known to have obeyed this leader last; -1 before it has.

        It obeyed after the requests that it has answered were sent.
        """
        voters = self._log.voters.voters
        times = sorted(
            now_ms if key == self.local else self.progress[key].obeyed_ms for key in voters.keys
        )
        return times[len(times) - voters.majority]

    def confirm(self, token: Any, now_ms: int) -> list[QuorumEffect]:
        """See ``Confirm``."""
        self._confirming.append((self._sequence, token))
        sent: list[QuorumEffect] = [
            self._heartbeat(progress, now_ms) for progress in self.progress.values()
        ]
        return [*sent, *self._confirmed()]

    def unconfirmed(self) -> list[Any]:
        """Tokens that still wait."""
        return [token for _, token in self._confirming]

    # --- hearing ----------------------------------------------------------------------------------

    def on_response(
        self, key: ReplicaKey, response: AppendResponse, now_ms: int
    ) -> list[QuorumEffect]:
        """An answer of the leader's own epoch."""
        progress = self.progress.get(key)
        if progress is None:
            return []
        progress.heard_ms = now_ms
        progress.answered(response.sequence)
        if response.sequence == progress.in_flight:
            progress.in_flight = 0
        if response.matched:
            end = min(response.end_offset, self._log.end_offset)
            progress.position = max(progress.position, end)
            progress.next_offset = max(progress.next_offset, progress.position)
        else:
            progress.next_offset = max(progress.position, self._last_common(response.diverging))
        effects = [*self._confirmed(), *self.advance(now_ms)]
        if not progress.in_flight:
            if self._is_behind(progress):
                if not response.matched:
                    effects.append(self._heartbeat(progress, now_ms))
            elif progress.next_offset < self._log.end_offset or not response.matched:
                effects.append(self._append(progress, now_ms))
        return effects

    def on_lost(self, replica_id: int) -> None:
        """The connection has ended: what was under way did not arrive, or its answer will not."""
        for progress in self.progress.values():
            if progress.key.id == replica_id:
                progress.in_flight = 0

    def on_forgotten(self) -> None:
        """The log's own end went back, since records could not be written."""
        for progress in self.progress.values():
            progress.next_offset = min(progress.next_offset, self._log.end_offset)

    def advance(self, now_ms: int) -> list[QuorumEffect]:
        """Move the high watermark to where a majority is."""
        voters = self._log.voters.voters
        positions = sorted(
            self._log.flushed_offset if key == self.local else self.progress[key].position
            for key in voters.keys
        )
        reached = positions[len(positions) - voters.majority]
        if reached <= self.high_watermark or not self._may_commit(reached):
            return self._maybe_add(now_ms)
        self.high_watermark = reached
        return [AdvanceHighWatermark(reached), *self._maybe_add(now_ms)]

    # --- voters -----------------------------------------------------------------------------------

    def add_voter(self, voter: Voter, now_ms: int) -> list[QuorumEffect]:
        """See ``AddVoter``."""
        voters = self._log.voters.voters
        present = voters.find(voter.id)
        if voter in (present, self._adding):
            return []
        if present is not None and present.key != voter.key:
            raise DuplicateVoterError(
                f"controller {voter.id} votes from directory {present.directory_id}; remove that"
                f" voter before {voter.directory_id} takes its place"
            )
        if self._adding is not None and self._adding.id == voter.id:
            self._adding = None  # it has lost its disk before it could vote
        self._check_may_change()
        if present is not None:
            return self.write_voters(voters.with_voter(voter), now_ms)
        self._adding = voter
        self._follow_voters(now_ms)
        return [*self.on_tick(now_ms), *self._maybe_add(now_ms)]

    def remove_voter(self, key: ReplicaKey, now_ms: int) -> list[QuorumEffect]:
        """See ``RemoveVoter``."""
        voters = self._log.voters.voters
        if self._adding is not None and self._adding.key == key:
            self._adding = None
            self._follow_voters(now_ms)
            return []
        if not voters.holds(key):
            raise VoterNotFoundError(f"{key.id} ({key.directory_id}) is no voter")
        self._check_may_change()
        remaining = voters.without(key)
        if not remaining.voters:
            raise VoterNotFoundError("the last voter cannot be removed")
        return self.write_voters(remaining, now_ms)

    def _check_may_change(self) -> None:
        if not self.has_committed or self._log.voters.offset >= self.high_watermark:
            raise ReassignmentInProgressError(
                "the last change of the voters is not committed yet; try again"
            )
        if self._adding is not None:
            raise ReassignmentInProgressError(
                f"controller {self._adding.id} is becoming a voter; try again, or remove it first"
            )

    def _maybe_add(self, now_ms: int) -> list[QuorumEffect]:
        voter, voters = self._adding, self._log.voters
        if voter is None or not self.has_committed or voters.offset >= self.high_watermark:
            return []
        if self.progress[voter.key].position < self.high_watermark:
            return []
        self._adding = None
        return self.write_voters(voters.voters.with_voter(voter), now_ms)

    def _follow_voters(self, now_ms: int) -> None:
        wanted = set(self._log.voters.voters.keys) - {self.local}
        if self._adding is not None:
            wanted.add(self._adding.key)
        for key in set(self.progress) - wanted:
            del self.progress[key]
        for key in sorted(wanted - set(self.progress)):
            self.progress[key] = Progress(key, self.start_offset, now_ms)

    # --- arithmetic -------------------------------------------------------------------------------

    def _may_commit(self, offset: int) -> bool:
        return offset > self.start_offset

    def _is_behind(self, progress: Progress) -> bool:
        return progress.next_offset < self._log.start.offset

    def _last_common(self, theirs: OffsetAndEpoch) -> int:
        """The end of what may be equal, given where an old epoch ends in the other's log."""
        if theirs.epoch < self._log.start.epoch:
            return min(theirs.offset, self._log.start.offset - 1)
        return min(theirs.offset, self._log.epoch_end(theirs.epoch).offset)

    def _append(self, progress: Progress, now_ms: int) -> Send:
        send = self._request(progress, self._log.end_offset, now_ms)
        if progress.next_offset < self._log.end_offset:
            progress.in_flight = self._sequence
            progress.in_flight_ms = now_ms
        return send

    def _heartbeat(self, progress: Progress, now_ms: int) -> Send:
        return self._request(progress, progress.next_offset, now_ms)

    def _request(self, progress: Progress, end: int, now_ms: int) -> Send:
        self._sequence += 1
        progress.sent_ms = now_ms
        progress.sent.append((self._sequence, now_ms))
        start, snapshot = progress.next_offset, None
        if self._is_behind(progress):
            snapshot = self._log.start
            start = end = snapshot.offset
        request = AppendRequest(
            epoch=self.epoch,
            leader=self.local,
            replica=progress.key,
            previous=OffsetAndEpoch(start, self._log.epoch_before(start)),
            runs=self._log.runs(start, end),
            end_offset=end,
            high_watermark=self.high_watermark,
            sequence=self._sequence,
            voters=self._log.voters_between(start, end),
            snapshot=snapshot,
        )
        return Send(progress.key, request)

    def _confirmed(self) -> list[QuorumEffect]:
        if not self._confirming:
            return []
        voters = self._log.voters.voters
        acknowledged = sorted(
            self._sequence if key == self.local else self.progress[key].acknowledged
            for key in voters.keys
        )
        reached = acknowledged[len(acknowledged) - voters.majority]
        done = [
            token for sequence, token in self._confirming if sequence < reached or self._alone()
        ]
        self._confirming = [
            waiting
            for waiting in self._confirming
            if not any(waiting[1] is token for token in done)
        ]
        return [Confirmed(token) for token in done]

    def _alone(self) -> bool:
        return self._log.voters.voters.keys == {self.local}
