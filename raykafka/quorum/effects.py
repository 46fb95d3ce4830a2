"""Everything a replica of the quorum asks its shell to do, strictly in order.

``SaveElection`` must be durable before anything behind it is done. The log's effects take turns in
one queue; the machine knows of them as done from the moment it asks, and hears ``Flushed`` later.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from raykafka.quorum.messages import OffsetAndEpoch, Request, Response
from raykafka.quorum.role import QuorumRole
from raykafka.quorum.voters import ReplicaKey, VoterSet


class ElectionState(NamedTuple):
    """What a replica must never forget (Kafka's ``quorum-state`` file)."""

    epoch: int = 0
    voted_for: ReplicaKey | None = None


class SaveElection(NamedTuple):
    """Make the vote durable."""

    election: ElectionState


class Send(NamedTuple):
    """Send a request. The records of an ``AppendRequest`` are read from the log; where they are
    too many, fewer may be sent, if the request says so.
    """

    to: ReplicaKey
    request: Request


class Reply(NamedTuple):
    """Answer the request that came with ``token``."""

    token: Any
    response: Response


class AppendRecords(NamedTuple):
    """Write the records of the ``Append`` that was just handed in."""

    epoch: int
    start_offset: int
    end_offset: int


class AppendVoters(NamedTuple):
    """Write a record with the voters, one that no service sees. It begins each leader's epoch."""

    epoch: int
    offset: int
    voters: VoterSet


class AppendFetched(NamedTuple):
    """Write what came with ``token``, but only from ``start_offset`` on."""

    token: Any
    start_offset: int
    end_offset: int


class TruncateLog(NamedTuple):
    """Cut the log to ``end_offset``."""

    end_offset: int


class FetchSnapshot(NamedTuple):
    """Get a snapshot from the leader, then say ``SnapshotFetched``; asked for repeatedly."""

    leader: ReplicaKey
    snapshot: OffsetAndEpoch


class InstallSnapshot(NamedTuple):
    """Put the fetched snapshot in the place of the whole log."""

    snapshot: OffsetAndEpoch


class AdvanceHighWatermark(NamedTuple):
    """Everything below is committed: it will be in the log of every later leader."""

    high_watermark: int


class RoleChanged(NamedTuple):
    """The replica's role, epoch or leader (-1: not known) is another now."""

    role: QuorumRole
    epoch: int
    leader_id: int


class Confirmed(NamedTuple):
    """A majority has followed this leader after ``Confirm``."""

    token: Any


QuorumEffect = (
    SaveElection
    | Send
    | Reply
    | AppendRecords
    | AppendVoters
    | AppendFetched
    | TruncateLog
    | FetchSnapshot
    | InstallSnapshot
    | AdvanceHighWatermark
    | RoleChanged
    | Confirmed
)
