"""Headers of the apis of consumer groups and their offsets; see ``messages`` for the rules.

Every request goes to the leader of one partition of ``__consumer_offsets``: ``partition`` says to
which, ``internal_topics.coordinator_partition`` says which one a group belongs to.
"""

from __future__ import annotations

from typing import Final

from raykafka.protocol.api import CONTROLLER, COORDINATOR, Api
from raykafka.protocol.messages import ApiKey, Message

# --- finding one ----------------------------------------------------------------------------------


class FindCoordinatorRequest(Message, frozen=True):
    """Makes sure that the internal topic is there; its leaders then are the coordinators."""

    topic: str
    """``__consumer_offsets``, ``__transaction_state`` or ``__share_group_state``."""


class FindCoordinatorResponse(Message, frozen=True):
    topic: str = ""
    topic_id: str = ""
    num_partitions: int = 0
    error_code: int = 0
    error_message: str = ""


# --- membership -----------------------------------------------------------------------------------


class TopicPartitions(Message, frozen=True):
    """Some partitions of one topic."""

    topic: str
    topic_id: str
    partitions: list[int] = []


class ConsumerGroupHeartbeatRequest(Message, frozen=True):
    """Joins, keeps up or leaves a group (KIP-848). What is None has not changed since the last.

    ``member_epoch``: 0 joins, -1 leaves, -2 leaves for now (static members), else the epoch that
    the last answer gave. A member has one heartbeat at a time under way, and beside it one that the
    coordinator holds back (``max_wait_ms``); after one that was not answered, the next one says
    everything, with ``owned`` in it.
    """

    group_id: str
    partition: int
    member_id: str
    """Chosen by the client, once for its life (KIP-1082)."""
    member_epoch: int
    instance_id: str = ""
    """``group.instance.id`` of a static member (KIP-345)."""
    client_id: str = ""
    host: str = ""
    """Machine of the member: a partition goes to a member on its leader's machine where balance
    allows."""
    rack_id: str = ""
    rebalance_timeout_ms: int = -1
    """How long the member may take to let partitions go."""
    subscribed_topics: list[str] | None = None
    subscribed_pattern: str | None = None
    """A regular expression of Python's ``re``, matched against whole topic names; empty for none.
    """
    assignor: str | None = None
    owned: list[TopicPartitions] | None = None
    """What the member owns; sent with a join and whenever it has changed."""
    share: bool = False
    """A share group's member (KIP-932): several members may have the same partition."""
    max_wait_ms: int = 0
    """How long the coordinator may hold the answer back while it has nothing new for the member, at
    most a third of the session timeout. A heartbeat that is held is answered when the member's
    assignment changes, when another of the member's arrives, or at the end of this time; the member
    then sends the next one at once, and so learns of a change without polling for it."""


class ConsumerGroupHeartbeatResponse(Message, frozen=True):
    member_id: str = ""
    member_epoch: int = 0
    heartbeat_interval_ms: int = 0
    """Pause before the next heartbeat of a member that lets none be held."""
    assignment: list[TopicPartitions] | None = None
    """What the member may own now; None where it is as before."""
    error_code: int = 0
    error_message: str = ""


# --- offsets --------------------------------------------------------------------------------------


class OffsetToCommit(Message, frozen=True):
    topic: str
    topic_id: str
    partition: int
    offset: int
    """Of the next record to read."""
    leader_epoch: int = -1
    metadata: str = ""


class PartitionOutcome(Message, frozen=True):
    """What became of one partition of a request."""

    topic: str
    partition: int
    error_code: int = 0
    error_message: str = ""


class OffsetCommitRequest(Message, frozen=True):
    """By a member, or with ``member_epoch`` -1 by somebody else for a group that has no members."""

    group_id: str
    partition: int
    offsets: list[OffsetToCommit]
    member_id: str = ""
    member_epoch: int = -1
    instance_id: str = ""


class OffsetCommitResponse(Message, frozen=True):
    partitions: list[PartitionOutcome] = []
    error_code: int = 0
    error_message: str = ""


class TxnOffsetCommitRequest(Message, frozen=True):
    """Offsets that are committed when the transaction is (KIP-447)."""

    group_id: str
    partition: int
    transactional_id: str
    producer_id: int
    producer_epoch: int
    offsets: list[OffsetToCommit]
    member_id: str = ""
    member_epoch: int = -1
    instance_id: str = ""


class TxnOffsetCommitResponse(Message, frozen=True):
    partitions: list[PartitionOutcome] = []
    error_code: int = 0
    error_message: str = ""


class OffsetFetchRequest(Message, frozen=True):
    """``topics=None`` asks for every offset of the group."""

    group_id: str
    partition: int
    topics: list[TopicPartitions] | None = None
    member_id: str = ""
    member_epoch: int = -1
    require_stable: bool = False
    """Whether an offset that an open transaction may change is refused with
    ``UNSTABLE_OFFSET_COMMIT`` (KIP-447)."""


class FetchedOffset(Message, frozen=True):
    topic: str
    partition: int
    topic_id: str = ""
    """The topic it was committed for: one that was made again has another."""
    offset: int = -1
    """-1 where none is committed."""
    leader_epoch: int = -1
    metadata: str = ""
    commit_timestamp_ms: int = -1
    error_code: int = 0
    error_message: str = ""


class OffsetFetchResponse(Message, frozen=True):
    offsets: list[FetchedOffset] = []
    error_code: int = 0
    error_message: str = ""


class OffsetDeleteRequest(Message, frozen=True):
    """Refused for a topic that a member is subscribed to."""

    group_id: str
    partition: int
    topics: list[TopicPartitions]


class OffsetDeleteResponse(Message, frozen=True):
    partitions: list[PartitionOutcome] = []
    error_code: int = 0
    error_message: str = ""


# --- administration -------------------------------------------------------------------------------


class ListGroupsRequest(Message, frozen=True):
    """Groups of one partition; empty lists ask for all."""

    partition: int
    states: list[str] = []
    types: list[str] = []


class GroupListing(Message, frozen=True):
    group_id: str
    type: str
    """``consumer`` or ``share``."""
    state: str
    """``Empty``, ``Assigning``, ``Reconciling``, ``Stable`` or ``Dead``."""
    members: int = 0


class ListGroupsResponse(Message, frozen=True):
    groups: list[GroupListing] = []
    error_code: int = 0
    error_message: str = ""


class DescribeGroupsRequest(Message, frozen=True):
    partition: int
    group_ids: list[str]


class GroupMember(Message, frozen=True):
    member_id: str
    member_epoch: int
    instance_id: str = ""
    client_id: str = ""
    host: str = ""
    rack_id: str = ""
    subscribed_topics: list[str] = []
    subscribed_pattern: str = ""
    assignment: list[TopicPartitions] = []
    """What the member owns now."""
    target_assignment: list[TopicPartitions] = []
    """What it is going to own."""


class DescribedGroup(Message, frozen=True):
    group_id: str
    type: str = ""
    state: str = ""
    group_epoch: int = -1
    assignment_epoch: int = -1
    assignor: str = ""
    members: list[GroupMember] = []
    error_code: int = 0
    error_message: str = ""


class DescribeGroupsResponse(Message, frozen=True):
    groups: list[DescribedGroup] = []
    error_code: int = 0
    error_message: str = ""


class GroupOutcome(Message, frozen=True):
    """What became of one group of a request."""

    group_id: str
    error_code: int = 0
    error_message: str = ""


class DeleteGroupsRequest(Message, frozen=True):
    """Refused for groups with members."""

    partition: int
    group_ids: list[str]


class DeleteGroupsResponse(Message, frozen=True):
    groups: list[GroupOutcome] = []
    error_code: int = 0
    error_message: str = ""


class RemoveMembersRequest(Message, frozen=True):
    """Empty lists remove all members."""

    group_id: str
    partition: int
    member_ids: list[str] = []
    instance_ids: list[str] = []


class MemberOutcome(Message, frozen=True):
    member_id: str
    instance_id: str = ""
    error_code: int = 0
    error_message: str = ""


class RemoveMembersResponse(Message, frozen=True):
    members: list[MemberOutcome] = []
    error_code: int = 0
    error_message: str = ""


APIS: Final = (
    Api(
        ApiKey.FIND_COORDINATOR,
        FindCoordinatorRequest,
        FindCoordinatorResponse,
        CONTROLLER,
    ),
    Api(
        ApiKey.CONSUMER_GROUP_HEARTBEAT,
        ConsumerGroupHeartbeatRequest,
        ConsumerGroupHeartbeatResponse,
        COORDINATOR,
    ),
    Api(ApiKey.OFFSET_COMMIT, OffsetCommitRequest, OffsetCommitResponse, COORDINATOR),
    Api(ApiKey.OFFSET_FETCH, OffsetFetchRequest, OffsetFetchResponse, COORDINATOR),
    Api(ApiKey.OFFSET_DELETE, OffsetDeleteRequest, OffsetDeleteResponse, COORDINATOR),
    Api(
        ApiKey.TXN_OFFSET_COMMIT,
        TxnOffsetCommitRequest,
        TxnOffsetCommitResponse,
        COORDINATOR,
    ),
    Api(ApiKey.LIST_GROUPS, ListGroupsRequest, ListGroupsResponse, COORDINATOR),
    Api(ApiKey.DESCRIBE_GROUPS, DescribeGroupsRequest, DescribeGroupsResponse, COORDINATOR),
    Api(ApiKey.DELETE_GROUPS, DeleteGroupsRequest, DeleteGroupsResponse, COORDINATOR),
    Api(ApiKey.REMOVE_MEMBERS, RemoveMembersRequest, RemoveMembersResponse, COORDINATOR),
)
