"""What the group machine can be asked, and what it answers; all of it is plain data.

A command with several items answers each of them, in order: None where the item succeeded. A
command about one thing raises its error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from raykafka.errors import RaykafkaError
from raykafka.group.assignment import Assignment
from raykafka.group.records import OffsetCommitted, Record
from raykafka.group.topics import TopicView

Errors = Sequence[RaykafkaError | None]

LEAVE_EPOCH = -1
"""Member epoch of a heartbeat with which a member leaves for good."""
LEAVE_STATIC_EPOCH = -2
"""Member epoch of a heartbeat with which a static member leaves for now."""
NO_MEMBER_EPOCH = -1
"""Member epoch of commits and fetches that are not a member's."""


class Outcome(NamedTuple):
    """The records that a command leads to, and its answer once they are durable."""

    records: Sequence[Record]
    answer: Any


class UpdateTopics(NamedTuple):
    """The cluster's topics are these now; answered by None."""

    topics: Mapping[str, TopicView]


class Heartbeat(NamedTuple):
    """Joins, keeps up or leaves (KIP-848); answered by a ``HeartbeatAnswer``.

    ``member_epoch``: 0 joins, -1 leaves, -2 leaves for now, else the one that the last answer gave.
    None stands for what has not changed.
    """

    group_id: str
    member_id: str
    member_epoch: int
    instance_id: str = ""
    client_id: str = ""
    host: str = ""
    rack_id: str = ""
    rebalance_timeout_ms: int = -1
    subscribed_topics: Sequence[str] | None = None
    subscribed_pattern: str | None = None
    assignor: str | None = None
    owned: Assignment | None = None
    share: bool = False


class HeartbeatAnswer(NamedTuple):
    """``assignment`` is None where it is as before."""

    member_epoch: int
    heartbeat_interval_ms: int
    assignment: Assignment | None = None


class OffsetLike(Protocol):
    """An offset to commit, as it stands in requests."""

    @property
    def topic(self) -> str:
        """Name."""

    @property
    def topic_id(self) -> str:
        """Id of the topic that was read."""

    @property
    def partition(self) -> int:
        """Number."""

    @property
    def offset(self) -> int:
        """Of the next record to read."""

    @property
    def leader_epoch(self) -> int:
        """Of the last record read; -1 where unknown."""

    @property
    def metadata(self) -> str:
        """Text of the user."""


class CommitOffsets(NamedTuple):
    """Answered by ``Errors``, one for each offset.

    By a member, or with ``member_epoch`` -1 by somebody else, while the group has no members.
    """

    group_id: str
    offsets: Sequence[OffsetLike]
    member_id: str = ""
    member_epoch: int = NO_MEMBER_EPOCH
    instance_id: str = ""


class CommitPendingOffsets(NamedTuple):
    """Offsets that count once the producer's transaction is committed (KIP-447); answered likewise.

    The caller has made sure that the transaction is open.
    """

    group_id: str
    producer_id: int
    producer_epoch: int
    offsets: Sequence[OffsetLike]
    member_id: str = ""
    member_epoch: int = NO_MEMBER_EPOCH
    instance_id: str = ""


class EndTransaction(NamedTuple):
    """A producer's transaction is over, in all groups; ``producer_epoch`` is the one that its
    marker carries, newer than the transaction's. Answered by None; done twice it is done once.
    """

    producer_id: int
    producer_epoch: int
    commit: bool


class FetchOffsets(NamedTuple):
    """Answered by a ``FetchedOffsets``; ``partitions`` None asks for all that there are."""

    group_id: str
    partitions: Sequence[tuple[str, int]] | None = None
    member_id: str = ""
    member_epoch: int = NO_MEMBER_EPOCH
    require_stable: bool = False


class FoundOffset(NamedTuple):
    """``committed`` is None where nothing is; ``error`` where it may not be told yet."""

    topic: str
    partition: int
    committed: OffsetCommitted | None
    error: RaykafkaError | None = None


FetchedOffsets = Sequence[FoundOffset]


class DeleteOffsets(NamedTuple):
    """Answered by ``Errors``, one for each partition."""

    group_id: str
    partitions: Sequence[tuple[str, int]]


class ListGroups(NamedTuple):
    """Answered by ``GroupSummary``s; empty filters let everything pass."""

    states: Sequence[str] = ()
    types: Sequence[str] = ()


class GroupSummary(NamedTuple):
    """A group in a listing."""

    group_id: str
    type: str
    state: str
    members: int


class DescribeGroups(NamedTuple):
    """Answered by a ``GroupDescription`` or an error for each group."""

    group_ids: Sequence[str]


class MemberDescription(NamedTuple):
    """A member; assignments go by topic ids."""

    member_id: str
    member_epoch: int
    instance_id: str
    client_id: str
    host: str
    rack_id: str
    subscribed_topics: Sequence[str]
    subscribed_pattern: str
    assignment: Assignment
    target_assignment: Assignment


class GroupDescription(NamedTuple):
    """A group and its members."""

    group_id: str
    type: str
    state: str
    group_epoch: int
    assignment_epoch: int
    assignor: str
    members: Sequence[MemberDescription]
    topic_names: Mapping[str, str]
    """Of the topic ids in the assignments, as far as known."""


class DeleteGroups(NamedTuple):
    """Answered by ``Errors``, one for each group."""

    group_ids: Sequence[str]


class RemoveMembers(NamedTuple):
    """Answered by ``RemovedMember``s; two empty sequences stand for all members."""

    group_id: str
    member_ids: Sequence[str] = ()
    instance_ids: Sequence[str] = ()


class RemovedMember(NamedTuple):
    """What became of one."""

    member_id: str
    instance_id: str
    error: RaykafkaError | None
