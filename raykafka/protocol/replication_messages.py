"""What brokers say to each other and to the controller; see ``messages`` for the rules.

Accepted only on connections that have proven the broker's role (CVE-2018-1288 is why).
"""

from __future__ import annotations

from typing import Final

import msgspec

from raykafka.protocol.api import CONTROLLER, PARTITION, Api
from raykafka.protocol.messages import ApiKey, Message


class ReplicateRequest(Message, frozen=True):
    """A follower opens the stream of one partition; the leader answers again and again.

    The leader sends while fewer than ``credit_bytes`` are unacknowledged (``ReplicaPosition``).
    Opened again by the same replica, the older stream ends.
    """

    topic_id: str
    partition: int
    leader_epoch: int
    """Epoch that the follower was told of; the leader must lead in exactly that one (KIP-101)."""
    replica_id: int
    """Broker id of the follower."""
    incarnation: int
    """Incarnation of the follower's partition actor (KIP-903)."""
    offset: int
    """The follower's log end: what it asks for first."""
    last_epoch: int = -1
    """Leader epoch of the follower's last batch, -1 for an empty log (KIP-595)."""
    credit_bytes: int = 8 << 20


class ReplicateResponse(Message, frozen=True):
    """The next batches of one partition, how far it is committed, or where the logs part."""

    high_watermark: int = -1
    log_start_offset: int = -1
    sizes: list[int] = []
    """Sizes of the batches in the payload, in order."""
    diverging_epoch: int = -1
    """Largest epoch of the leader's log that is not above ``last_epoch``; -1 if nothing parts."""
    diverging_end: int = -1
    """Where that epoch ends in the leader's log: what the follower has beyond is cut."""
    restart_at: int = -1
    """Set where the leader no longer has what was asked for: the follower begins anew there."""
    far_behind: bool = False
    """The follower lacks more committed bytes than its credit: the stream has ended, and it comes
    back when it has caught up (``CatchUpRequest``)."""
    error_code: int = 0
    error_message: str = ""


class CatchUpRequest(Message, frozen=True):
    """A follower that is far behind asks for committed batches from ``offset`` on.

    Spoken on a connection of its own, since nothing else should wait behind an answer, which comes
    from the leader's file as fast as the connection takes it. What follows is asked for while an
    answer still comes in.
    """

    topic_id: str
    partition: int
    leader_epoch: int
    replica_id: int
    incarnation: int
    offset: int
    max_bytes: int
    """Of the answer's payload; at least one batch comes, whatever its size."""


class CatchUpResponse(Message, frozen=True):
    """The batches stand in the payload; where there are none the follower opens a stream, or asks
    again after ``throttle_ms``.
    """

    high_watermark: int = -1
    log_start_offset: int = -1
    next_offset: int = -1
    """Where the last batch ends."""
    sizes: list[int] = []
    """Sizes of the batches in the payload, in order."""
    throttle_ms: int = 0
    """Over 0 there are no batches: the leader may send some only after that time."""
    error_code: int = 0
    error_message: str = ""


class ReplicaPositionRequest(Message, frozen=True):
    """The follower holds everything below ``offset`` (durably where the topic says so).

    No answer. ``session`` is the correlation id of the stream.
    """

    session: int
    offset: int
    received_bytes: int
    """Payload bytes received on the stream so far: gives the leader its credit back."""
    close: bool = False
    """The follower takes no more of this stream: the leader ends it without an answer."""


class ActorHeartbeatRequest(Message, frozen=True):
    """A partition actor renews its lease with the active controller."""

    broker_id: int
    slot: int
    incarnation: int


class ControllerEndpoint(Message, frozen=True):
    """Listener of one voter."""

    host: str
    port: int


class ActorHeartbeatResponse(Message, frozen=True):
    """``lease_ms`` counts from when the request was sent. An actor that was replaced must exit."""

    lease_ms: int = 0
    replaced: bool = False
    controllers: list[ControllerEndpoint] = []
    """Every voter, the active one first."""
    error_code: int = 0
    error_message: str = ""


class IsrMemberInfo(msgspec.Struct, frozen=True, array_like=True):
    """A replica that shall be in sync, and the incarnation of its actor that caught up."""

    broker_id: int
    incarnation: int


class AlteredPartition(Message, frozen=True):
    """The ISR that a leader proposes for one partition (KIP-497)."""

    topic_id: str
    partition: int
    leader_epoch: int
    partition_epoch: int
    """Of the state that the proposal was made from."""
    isr: list[IsrMemberInfo]


class AlterPartitionsRequest(Message, frozen=True):
    """Proposals of one partition actor for partitions that it leads."""

    broker_id: int
    slot: int
    incarnation: int
    partitions: list[AlteredPartition]


class AlteredPartitionResult(Message, frozen=True):
    """The partition as it stands now, or why the proposal was refused."""

    topic_id: str
    partition: int
    leader_epoch: int = -1
    partition_epoch: int = -1
    isr: list[int] = []
    error_code: int = 0
    error_message: str = ""


class AlterPartitionsResponse(Message, frozen=True):
    partitions: list[AlteredPartitionResult] = []
    error_code: int = 0
    error_message: str = ""


class FailedReplicaInfo(Message, frozen=True):
    """A partition whose log has failed."""

    topic_id: str
    partition: int


class FailReplicasRequest(Message, frozen=True):
    """Logs of one partition actor that failed while in use: others shall lead."""

    broker_id: int
    slot: int
    incarnation: int
    partitions: list[FailedReplicaInfo]


class FailReplicasResponse(Message, frozen=True):
    error_code: int = 0
    error_message: str = ""


APIS: Final = (
    Api(
        ApiKey.REPLICATE,
        ReplicateRequest,
        ReplicateResponse,
        PARTITION,
        response_payload=True,
        broker_only=True,
    ),
    Api(
        ApiKey.REPLICA_POSITION,
        ReplicaPositionRequest,
        None,
        PARTITION,
        broker_only=True,
    ),
    Api(
        ApiKey.CATCH_UP,
        CatchUpRequest,
        CatchUpResponse,
        PARTITION,
        response_payload=True,
        broker_only=True,
    ),
    Api(
        ApiKey.ACTOR_HEARTBEAT,
        ActorHeartbeatRequest,
        ActorHeartbeatResponse,
        CONTROLLER,
        broker_only=True,
    ),
    Api(
        ApiKey.ALTER_PARTITIONS,
        AlterPartitionsRequest,
        AlterPartitionsResponse,
        CONTROLLER,
        broker_only=True,
    ),
    Api(
        ApiKey.FAIL_REPLICAS,
        FailReplicasRequest,
        FailReplicasResponse,
        CONTROLLER,
        broker_only=True,
    ),
)
