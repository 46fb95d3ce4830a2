"""One replica of a quorum whose other voters are played by the test."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from raykafka.quorum import effects, events
from raykafka.quorum.leading import Timing
from raykafka.quorum.log_state import LogState
from raykafka.quorum.machine import QuorumMachine
from raykafka.quorum.messages import (
    AppendRequest,
    AppendResponse,
    EpochRun,
    OffsetAndEpoch,
    VoteResponse,
)
from raykafka.quorum.voters import ReplicaKey, Voter, VotersAt, VoterSet

TIMING = Timing(election_timeout_ms=100, fetch_timeout_ms=100, heartbeat_ms=20, lost_leader_ms=10)
KEYS = [ReplicaKey(index, f"d{index}") for index in range(5)]
START = OffsetAndEpoch(0, -1)
NEVER_VOTED = effects.ElectionState()


def voters(count: int) -> VoterSet:
    return VoterSet.of(Voter(*key) for key in KEYS[:count])


class Replica:
    """Replica 0 of a quorum whose other voters are played by the test."""

    def __init__(
        self,
        count: int = 3,
        *,
        epochs: Iterable[tuple[int, int]] = (),
        end: int = 0,
        election: effects.ElectionState = NEVER_VOTED,
        start: OffsetAndEpoch = START,
    ) -> None:
        log = LogState(start, end, epochs, [VotersAt(-1, voters(count))])
        self.now_ms = 0
        self.machine = QuorumMachine(
            KEYS[0], election, log, lambda: 0.0, timing=TIMING, now_ms=self.now_ms
        )
        self.log = log

    def do(self, event: Any) -> list[Any]:
        return self.machine.on_event(event, now_ms=self.now_ms)

    def after(self, wait_ms: int) -> list[Any]:
        self.now_ms += wait_ms
        return self.do(events.Tick())

    def vote(self, voter: int, granted: bool = True, *, pre_vote: bool = False) -> list[Any]:
        response = VoteResponse(self.machine.epoch, granted, pre_vote)
        return self.do(events.Answered(KEYS[voter], response))

    def elect(self) -> list[Any]:
        self.do(events.Start())
        self.after(200)
        self.vote(1, pre_vote=True)
        return self.vote(1)

    def acknowledge(self, follower: int, end: int, **fields: Any) -> list[Any]:
        progress = self.machine.leading
        assert progress is not None
        sequence = progress.progress[KEYS[follower]].in_flight
        answer = AppendResponse(self.machine.epoch, KEYS[follower], sequence, True, end)
        return self.do(events.Answered(KEYS[follower], answer._replace(**fields)))

    def append(self, epoch: int, previous: OffsetAndEpoch, end: int, **fields: Any) -> list[Any]:
        run = (EpochRun(epoch, previous.offset),) if end > previous.offset else ()
        request = AppendRequest(epoch, KEYS[1], KEYS[0], previous, run, end, 0, 1)
        return self.do(events.Received(request._replace(**fields), "token"))


def only(found: Iterable[Any], kind: type) -> list[Any]:
    return [effect for effect in found if isinstance(effect, kind)]
