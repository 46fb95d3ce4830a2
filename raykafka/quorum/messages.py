"""What the replicas of a quorum say to each other. Every request is answered at most once.

Offsets are exclusive ends; an ``OffsetAndEpoch`` names the record before its offset.
"""

from __future__ import annotations

from typing import NamedTuple

from raykafka.quorum.voters import ReplicaKey, VotersAt


class OffsetAndEpoch(NamedTuple):
    """An end offset and the epoch of the record before it."""

    offset: int
    epoch: int


class EpochRun(NamedTuple):
    """Records from ``start_offset`` on were written in ``epoch``."""

    epoch: int
    start_offset: int


class VoteRequest(NamedTuple):
    """May ``candidate`` lead ``epoch``? With ``pre_vote`` nothing is promised (KIP-996)."""

    epoch: int
    candidate: ReplicaKey
    voter: ReplicaKey
    """Whom it is meant for: a lost disk's successor must not answer for it."""
    last: OffsetAndEpoch
    """End of the candidate's log."""
    pre_vote: bool = False


class VoteResponse(NamedTuple):
    """``epoch`` is the one of whoever answers."""

    epoch: int
    granted: bool
    pre_vote: bool = False
    silent_ms: int = 0
    """Since the voter obeyed a leader last; with its vote only."""


class AppendRequest(NamedTuple):
    """The leader's records from ``previous.offset`` to ``end_offset``, or just a sign of life."""

    epoch: int
    leader: ReplicaKey
    replica: ReplicaKey
    """Whom it is meant for."""
    previous: OffsetAndEpoch
    runs: tuple[EpochRun, ...]
    """Epochs of the records that come, the first one from ``previous.offset``."""
    end_offset: int
    high_watermark: int
    sequence: int
    """Grows with every request of a leader; comes back in the answer."""
    voters: tuple[VotersAt, ...] = ()
    """Voter sets that stand among the records."""
    snapshot: OffsetAndEpoch | None = None
    """Set when the leader's log begins behind what the replica has: fetch it first."""


class AppendResponse(NamedTuple):
    """``end_offset`` is how far the replica's durable log equals the leader's, when ``matched``."""

    epoch: int
    replica: ReplicaKey
    sequence: int
    matched: bool
    end_offset: int = 0
    diverging: OffsetAndEpoch = OffsetAndEpoch(0, -1)
    """When not matched: the replica's newest epoch at or below the one before the records, and
    where that epoch ends."""


class EndEpochRequest(NamedTuple):
    """The leader of ``epoch`` resigns; the first of ``successors`` should stand at once."""

    epoch: int
    leader: ReplicaKey
    successors: tuple[ReplicaKey, ...]


Request = VoteRequest | AppendRequest | EndEpochRequest
Response = VoteResponse | AppendResponse
