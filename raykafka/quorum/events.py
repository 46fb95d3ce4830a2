"""Everything that can happen to a replica of the quorum. Tokens are the shell's own."""

from __future__ import annotations

from typing import Any, NamedTuple

from raykafka.quorum.messages import OffsetAndEpoch, Request, Response
from raykafka.quorum.voters import ReplicaKey, Voter, VoterSet


class Start(NamedTuple):
    """The log and the vote have been read; a voter that is alone leads at once."""


class Tick(NamedTuple):
    """Time has passed."""


class Received(NamedTuple):
    """A request came; ``token`` names it in ``Reply`` and ``AppendLog``."""

    request: Request
    token: Any


class Answered(NamedTuple):
    """The answer of ``replica`` came."""

    replica: ReplicaKey
    response: Response


class PeerLost(NamedTuple):
    """The connection to or from that replica has ended: perhaps it died, perhaps not."""

    replica_id: int


class Append(NamedTuple):
    """This replica, the leader, appends so many ``records``; they take the log's next offsets.

    Raises ``NotControllerError`` when it does not lead ``epoch``.
    """

    epoch: int
    records: int


class AppendFailed(NamedTuple):
    """The leader's own records from ``end_offset`` on could not be written: none are there."""

    epoch: int
    end_offset: int


class Flushed(NamedTuple):
    """What is below ``offset`` survives a power cut.

    ``generation`` is how many times the log had been cut or replaced when the flush began: what it
    says of an older log is void.
    """

    offset: int
    generation: int


class SnapshotTaken(NamedTuple):
    """The log now begins at a snapshot of committed state."""

    snapshot: OffsetAndEpoch


class SnapshotFetched(NamedTuple):
    """The leader's snapshot is here, not yet in place."""

    snapshot: OffsetAndEpoch
    voters: VoterSet


class AddVoter(NamedTuple):
    """Make a replica a voter once it has caught up, or note a voter's new address.

    Raises ``NotControllerError``, ``DuplicateVoterError`` while the id votes from another
    directory, ``ReassignmentInProgressError`` (try again) during another change.
    """

    voter: Voter


class RemoveVoter(NamedTuple):
    """Take a vote away. Raises as ``AddVoter``, or ``VoterNotFoundError``."""

    key: ReplicaKey


class Confirm(NamedTuple):
    """Is this replica still the leader? ``token`` comes back once a majority says so."""

    token: Any


class Resign(NamedTuple):
    """Stop leading; the others elect at once."""


QuorumEvent = (
    Start
    | Tick
    | Received
    | Answered
    | PeerLost
    | Append
    | AppendFailed
    | Flushed
    | SnapshotTaken
    | SnapshotFetched
    | AddVoter
    | RemoveVoter
    | Confirm
    | Resign
)
