"""What a replica knows as the follower of one leader: what of its log is the leader's, and whom
it still owes an answer.

Rules:
- The log is cut where it differs from the leader's by (epoch, offset), never by a high watermark.
- An answer says what is durable here and equal there; it waits for the flush.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from raykafka.quorum.effects import (
    AdvanceHighWatermark,
    AppendFetched,
    FetchSnapshot,
    QuorumEffect,
    Reply,
    TruncateLog,
)
from raykafka.quorum.log_state import LogState
from raykafka.quorum.messages import AppendRequest, AppendResponse, OffsetAndEpoch
from raykafka.quorum.voters import ReplicaKey


class _Parked(NamedTuple):
    end_offset: int
    sequence: int
    token: Any


class FollowerState:
    """One replica under one leader's epoch; ``log`` is shared with the machine."""

    def __init__(self, local: ReplicaKey, leader: ReplicaKey, epoch: int, log: LogState) -> None:
        self.leader = leader
        self.heard_ms = 0
        """When the leader was heard last; long ago once the connection from it has ended."""
        self.matched_offset = 0
        """Up to here the log equals the leader's."""
        self._local = local
        self._epoch = epoch
        self._log = log
        self._parked: list[_Parked] = []

    def on_append(
        self, request: AppendRequest, token: Any, high_watermark: int
    ) -> list[QuorumEffect]:
        """Take the records that are missing here, then answer."""
        log = self._log
        if not log.is_matched(request.previous):
            diverging = log.epoch_end(request.previous.epoch)
            answer = self._answer(request.sequence, high_watermark, diverging)
            effects: list[QuorumEffect] = [Reply(token, answer)]
            if request.snapshot is not None:
                effects.append(FetchSnapshot(request.leader, request.snapshot))
            return effects
        effects = []
        end = request.end_offset
        start = log.matched_end(request.runs, end)
        if start < end:
            if start < log.end_offset:
                log.truncate_to(start)
                effects.append(TruncateLog(start))
            log.append(request.runs, end, request.voters)
            effects.append(AppendFetched(token, start, end))
        self.matched_offset = max(self.matched_offset, end)
        committed = min(request.high_watermark, self.matched_offset)
        if committed > high_watermark:
            effects.append(AdvanceHighWatermark(committed))
            high_watermark = committed
        if log.flushed_offset >= end:
            effects.append(Reply(token, self._answer(request.sequence, high_watermark)))
        else:
            self._parked.append(_Parked(end, request.sequence, token))
        return effects

    def on_flushed(self, high_watermark: int) -> list[QuorumEffect]:
        """Answer whoever waited for the disk."""
        ready = [each for each in self._parked if each.end_offset <= self._log.flushed_offset]
        self._parked = [each for each in self._parked if each not in ready]
        return [
            Reply(parked.token, self._answer(parked.sequence, high_watermark)) for parked in ready
        ]

    def _answer(
        self, sequence: int, high_watermark: int, diverging: OffsetAndEpoch | None = None
    ) -> AppendResponse:
        # What is committed is in every leader's log, whether or not this one has sent it.
        equal = max(self.matched_offset, high_watermark)
        return AppendResponse(
            epoch=self._epoch,
            replica=self._local,
            sequence=sequence,
            matched=diverging is None,
            end_offset=min(equal, self._log.flushed_offset),
            diverging=diverging or OffsetAndEpoch(0, -1),
        )
