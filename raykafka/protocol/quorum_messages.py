"""What the voters of a quorum say to each other; see ``messages`` for the rules.

The fields are those of ``raykafka.quorum.messages``, where they are explained; pairs and triples
stand as arrays. Accepted only on connections that have proven the broker's role.
"""

from __future__ import annotations

from typing import Final

from raykafka.protocol.api import CONTROLLER, Api
from raykafka.protocol.messages import ApiKey, Message
from raykafka.quorum.messages import EpochRun, OffsetAndEpoch
from raykafka.quorum.voters import ReplicaKey, VotersAt


class QuorumVoteRequest(Message, frozen=True):
    epoch: int
    candidate: ReplicaKey
    voter: ReplicaKey
    last: OffsetAndEpoch
    pre_vote: bool = False
    host: str = ""
    """Where the candidate listens."""
    port: int = 0


class QuorumVoteResponse(Message, frozen=True):
    epoch: int = 0
    granted: bool = False
    pre_vote: bool = False
    silent_ms: int = 0
    """Since the voter obeyed a leader last; 0 does not say."""
    error_code: int = 0
    error_message: str = ""


class QuorumAppendRequest(Message, frozen=True):
    """The payload is the batches from ``previous`` to ``end_offset``, as they stand in the log."""

    epoch: int
    leader: ReplicaKey
    replica: ReplicaKey
    previous: OffsetAndEpoch
    runs: tuple[EpochRun, ...]
    end_offset: int
    high_watermark: int
    sequence: int
    voters: tuple[VotersAt, ...] = ()
    snapshot: OffsetAndEpoch | None = None
    host: str = ""
    """Where the leader listens."""
    port: int = 0


class QuorumAppendResponse(Message, frozen=True):
    epoch: int = 0
    replica: ReplicaKey = ReplicaKey(-1, "")
    sequence: int = 0
    matched: bool = False
    end_offset: int = 0
    diverging: OffsetAndEpoch = OffsetAndEpoch(0, -1)
    error_code: int = 0
    error_message: str = ""


class EndQuorumEpochRequest(Message, frozen=True):
    """No answer."""

    epoch: int
    leader: ReplicaKey
    successors: tuple[ReplicaKey, ...] = ()


class FetchSnapshotRequest(Message, frozen=True):
    """A piece of the leader's snapshot from byte ``position`` on (KIP-630)."""

    snapshot: OffsetAndEpoch
    position: int = 0
    max_bytes: int = 1 << 20


class FetchSnapshotResponse(Message, frozen=True):
    """The payload is the piece; ``size`` is that of the whole snapshot in bytes."""

    size: int = 0
    error_code: int = 0
    error_message: str = ""


class DescribeQuorumRequest(Message, frozen=True):
    """Any voter answers; only the leader knows how far the others are."""


class QuorumReplicaInfo(Message, frozen=True):
    """One voter or observer. What is not known is -1."""

    replica_id: int
    directory_id: str
    host: str = ""
    port: int = 0
    voter: bool = True
    log_end_offset: int = -1
    lag: int = -1
    """Records behind the leader."""
    heard_ms: int = -1
    """Milliseconds since the leader heard of it."""


class DescribeQuorumResponse(Message, frozen=True):
    """``leader_id`` -1: an election is under way."""

    replica_id: int = -1
    """Who answers."""
    leader_id: int = -1
    leader_epoch: int = 0
    high_watermark: int = -1
    log_start_offset: int = 0
    """Where the snapshot ends."""
    replicas: list[QuorumReplicaInfo] = []
    error_code: int = 0
    error_message: str = ""


APIS: Final = (
    Api(
        ApiKey.QUORUM_VOTE,
        QuorumVoteRequest,
        QuorumVoteResponse,
        CONTROLLER,
        broker_only=True,
    ),
    Api(
        ApiKey.QUORUM_APPEND,
        QuorumAppendRequest,
        QuorumAppendResponse,
        CONTROLLER,
        payload=True,
        broker_only=True,
    ),
    Api(
        ApiKey.END_QUORUM_EPOCH,
        EndQuorumEpochRequest,
        None,
        CONTROLLER,
        broker_only=True,
    ),
    Api(
        ApiKey.FETCH_SNAPSHOT,
        FetchSnapshotRequest,
        FetchSnapshotResponse,
        CONTROLLER,
        response_payload=True,
        broker_only=True,
    ),
    Api(
        ApiKey.DESCRIBE_QUORUM,
        DescribeQuorumRequest,
        DescribeQuorumResponse,
        CONTROLLER,
    ),
)
