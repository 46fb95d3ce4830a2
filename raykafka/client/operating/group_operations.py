"""The part of ``Admin`` that is about consumer groups and their offsets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, NamedTuple

from raykafka.client.cluster.metadata import ClusterMetadata
from raykafka.client.grouping.coordinator_calls import CoordinatorCalls
from raykafka.client.grouping.offsets import by_topic, offset_to_commit
from raykafka.client.operating.arguments import name_list, timestamp
from raykafka.client.operating.offset_resets import (
    OffsetChange,
    OffsetReset,
    PartitionBounds,
    plan_reset,
)
from raykafka.clock import Clock
from raykafka.errors import (
    GroupIdNotFoundError,
    InvalidGroupIdError,
    NonEmptyGroupError,
    RaykafkaError,
    UnknownMemberIdError,
    UnknownTopicOrPartitionError,
    error_for,
)
from raykafka.internal_topics import CONSUMER_OFFSETS
from raykafka.model import OffsetAndMetadata, OffsetAndTimestamp, TopicPartition
from raykafka.protocol.group_messages import (
    DeleteGroupsRequest,
    DescribedGroup,
    DescribeGroupsRequest,
    FetchedOffset,
    GroupListing,
    GroupMember,
    ListGroupsRequest,
    MemberOutcome,
    OffsetCommitRequest,
    OffsetDeleteRequest,
    OffsetFetchRequest,
    OffsetToCommit,
    PartitionOutcome,
    RemoveMembersRequest,
)
from raykafka.protocol.messages import ApiKey, Message

Place = TopicPartition | tuple[str, int]

_CONSUMER = "consumer"


class PartitionLag(NamedTuple):
    """Where a group stands in one partition, and who of it reads it."""

    partition: TopicPartition
    committed: int | None
    """Offset of the next record to read; None where nothing is committed."""
    log_start_offset: int | None
    log_end_offset: int | None
    """None for a topic that is gone."""
    lag: int | None
    """Records between ``committed`` and the end; None where one of them is not known."""
    member_id: str = ""
    client_id: str = ""
    host: str = ""


class GroupOperations(ABC):
    """Consumer groups as an operator sees them; methods of ``Admin``."""

    _metadata: ClusterMetadata
    _clock: Clock
    _timeout_ms: int

    # --- groups -----------------------------------------------------------------------------------

    def list_groups(
        self, *, states: Iterable[str] = (), types: Iterable[str] = ()
    ) -> list[GroupListing]:
        """Groups with type, state and number of members, sorted; filters leave some out.

        Types are ``consumer`` and ``share``; states ``Empty``, ``Assigning``, ``Reconciling``,
        ``Stable`` and ``Dead``.
        """
        wanted, kinds = name_list(states), name_list(types)
        found: list[GroupListing] = []
        with self._coordinators(CONSUMER_OFFSETS) as coordinators:
            count = coordinators.partition_count(timeout_ms=self._timeout_ms)
            for partition in range(count):
                request = ListGroupsRequest(partition, wanted, kinds)
                found += coordinators.call_partition(
                    partition, ApiKey.LIST_GROUPS, request, timeout_ms=self._timeout_ms
                ).groups
        return sorted(found, key=lambda each: each.group_id)

    def list_consumer_groups(self, *, states: Iterable[str] = ()) -> list[GroupListing]:
        """``list_groups`` of consumer groups alone."""
        return self.list_groups(states=states, types=[_CONSUMER])

    def describe_consumer_groups(self, group_ids: Iterable[str]) -> list[DescribedGroup]:
        """State, epochs, assignor and members of groups, in the order given.

        Raises ``GroupIdNotFoundError``.
        """
        described = []
        for group_id in name_list(group_ids):
            answer = self._ask_group(group_id, ApiKey.DESCRIBE_GROUPS, _describe(group_id))
            [found] = answer.groups
            if found.error_code:
                raise error_for(found.error_code, found.error_message)
            described.append(found)
        return described

    def delete_consumer_groups(self, group_ids: Iterable[str]) -> None:
        """Delete groups with their offsets, each by itself.

        Raises the first one's error: ``NonEmptyGroupError`` for one that has members,
        ``GroupIdNotFoundError``, ``InvalidGroupIdError`` for a share group.
        """
        failed: list[RaykafkaError] = []
        for group_id in name_list(group_ids):
            try:
                [found] = self.describe_consumer_groups([group_id])
                if found.type != _CONSUMER:
                    raise InvalidGroupIdError(
                        f"{group_id!r} is a {found.type} group; delete_share_groups also deletes "
                        "its state"
                    )
                self._delete_group(group_id)
            except (GroupIdNotFoundError, InvalidGroupIdError, NonEmptyGroupError) as error:
                failed.append(error)
        if failed:
            raise failed[0]

    def _delete_group(self, group_id: str) -> None:
        """Delete a group of either type, as far as its coordinator knows it."""
        [outcome] = self._ask_group(group_id, ApiKey.DELETE_GROUPS, _delete(group_id)).groups
        if outcome.error_code:
            raise error_for(outcome.error_code, outcome.error_message)

    def remove_members_from_consumer_group(
        self,
        group_id: str,
        *,
        member_ids: Iterable[str] = (),
        group_instance_ids: Iterable[str] = (),
    ) -> list[MemberOutcome]:
        """Remove members, all of them where none is named; their partitions go to others.

        A consumer that is removed but runs joins again. Raises the first member's error:
        ``UnknownMemberIdError``; ``GroupIdNotFoundError``.
        """
        members, instances = name_list(member_ids), name_list(group_instance_ids)

        def request(partition: int) -> Message:
            return RemoveMembersRequest(group_id, partition, members, instances)

        outcomes: list[MemberOutcome] = self._ask_group(
            group_id, ApiKey.REMOVE_MEMBERS, request
        ).members
        for outcome in outcomes:
            if outcome.error_code:
                raise error_for(outcome.error_code, outcome.error_message)
        return outcomes

    # --- offsets ----------------------------------------------------------------------------------

    def list_consumer_group_offsets(
        self, group_id: str, partitions: Iterable[Place] | None = None
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        """What a group has committed, of these partitions or of all; what it has not is left out.

        Empty for a group that does not exist, as in Kafka.
        """
        topics = None if partitions is None else by_topic(partitions)

        def request(partition: int) -> Message:
            return OffsetFetchRequest(group_id, partition, topics)

        fetched: list[FetchedOffset] = self._ask_group(
            group_id, ApiKey.OFFSET_FETCH, request
        ).offsets
        found = {}
        for each in sorted(fetched, key=lambda each: (each.topic, each.partition)):
            if each.error_code:
                raise error_for(each.error_code, each.error_message)
            if each.offset >= 0:
                found[TopicPartition(each.topic, each.partition)] = OffsetAndMetadata(
                    each.offset, each.metadata, each.leader_epoch
                )
        return found

    def consumer_group_lag(self, group_id: str) -> list[PartitionLag]:
        """How far a group is behind in each partition that it has committed or reads, sorted.

        Raises ``GroupIdNotFoundError``.
        """
        [group] = self.describe_consumer_groups([group_id])
        committed = self.list_consumer_group_offsets(group_id)
        readers = _readers(group.members)
        places = sorted(committed.keys() | readers.keys())
        known = self._existing(places)
        starts = self.list_offsets(dict.fromkeys(known, "earliest"))
        ends = self.list_offsets(dict.fromkeys(known, "latest"))
        found = []
        for place in places:
            at = committed[place].offset if place in committed else None
            start = starts[place].offset if place in starts else None
            end = ends[place].offset if place in ends else None
            lag = None if at is None or end is None else max(0, end - at)
            reader = readers.get(place)
            names = (reader.member_id, reader.client_id, reader.host) if reader else ()
            found.append(PartitionLag(place, at, start, end, lag, *names))
        return found

    def alter_consumer_group_offsets(
        self, group_id: str, offsets: Mapping[Place, OffsetAndMetadata | int]
    ) -> None:
        """Commit offsets for a group that has no members; makes the group where there is none.

        Raises ``NonEmptyGroupError``, ``UnknownTopicOrPartitionError``.
        """
        listed = [self._to_commit(TopicPartition(*place), at) for place, at in offsets.items()]

        def request(partition: int) -> Message:
            return OffsetCommitRequest(group_id, partition, listed)

        try:
            answer = self._ask_group(group_id, ApiKey.OFFSET_COMMIT, request)
        except UnknownMemberIdError as error:
            raise NonEmptyGroupError(_has_members(group_id)) from error
        _check(answer.partitions)

    def reset_consumer_group_offsets(
        self,
        group_id: str,
        *,
        to: str | None = None,
        to_offset: int | None = None,
        to_time: int | datetime | None = None,
        by_duration_ms: int | None = None,
        shift_by: int | None = None,
        offsets: Mapping[Place, int] | None = None,
        topics: Iterable[str] | None = None,
        partitions: Iterable[Place] | None = None,
        execute: bool = False,
    ) -> list[OffsetChange]:
        """Move a group's offsets; without ``execute`` nothing is changed, and it is a plan.

        ``to`` is ``"earliest"``, ``"latest"`` or ``"current"``; ``to_time`` (milliseconds since the
        epoch or a ``datetime``) and ``by_duration_ms`` (before now) mean the first record at or
        after that time, else the end; ``shift_by`` goes on or, if negative, back from what is
        committed; ``offsets`` names them one by one. Partitions are those given, all of ``topics``,
        or by default those that the group has committed. An offset outside of a partition becomes
        the nearest one inside, and the change says so in ``note``.

        Raises ``NonEmptyGroupError`` with ``execute`` for a group that has members,
        ``InvalidRequestError``, ``UnknownTopicOrPartitionError``.
        """
        if by_duration_ms is not None and to_time is None:
            to_time = max(0, self._clock.now_ms() - by_duration_ms)
        wanted = None
        if offsets is not None:
            wanted = {TopicPartition(*place): offset for place, offset in offsets.items()}
        time_ms = None if to_time is None else timestamp(to_time)
        reset = OffsetReset(to, to_offset, time_ms, shift_by, wanted)
        reset.check()
        committed = self.list_consumer_group_offsets(group_id)
        places = self._in_reset(committed, wanted, topics, partitions)
        changes = plan_reset(reset, self._bounds(places, time_ms), committed)
        if execute and changes:
            self._check_empty(group_id)
            self.alter_consumer_group_offsets(
                group_id, {change.partition: change.after for change in changes}
            )
        return changes

    def delete_consumer_group_offsets(self, group_id: str, partitions: Iterable[Place]) -> None:
        """Forget what a group has committed for partitions.

        Raises ``GroupSubscribedToTopicError`` for a topic that a member is subscribed to,
        ``GroupIdNotFoundError``.
        """
        topics = by_topic(partitions)

        def request(partition: int) -> Message:
            return OffsetDeleteRequest(group_id, partition, topics)

        _check(self._ask_group(group_id, ApiKey.OFFSET_DELETE, request).partitions)

    # --- inside -----------------------------------------------------------------------------------

    def _ask_group(self, group_id: str, api_key: ApiKey, request: Callable[[int], Message]) -> Any:
        with self._coordinators(CONSUMER_OFFSETS) as coordinators:
            return coordinators.call(group_id, api_key, request, timeout_ms=self._timeout_ms)

    def _to_commit(self, place: TopicPartition, at: OffsetAndMetadata | int) -> OffsetToCommit:
        topic = self._metadata.topic(place.topic, timeout_ms=self._timeout_ms)
        self._metadata.partition(place.topic, place.partition, timeout_ms=self._timeout_ms)
        wanted = at if isinstance(at, OffsetAndMetadata) else OffsetAndMetadata(at)
        return offset_to_commit(place, topic.topic_id, wanted)

    def _existing(self, places: Iterable[TopicPartition]) -> list[TopicPartition]:
        """Those of which there is a partition now."""
        topics = self._metadata.all_topics(timeout_ms=self._timeout_ms)
        return [
            place
            for place in places
            if place.topic in topics and place.partition < len(topics[place.topic].partitions)
        ]

    def _in_reset(
        self,
        committed: Iterable[TopicPartition],
        wanted: Iterable[TopicPartition] | None,
        topics: Iterable[str] | None,
        partitions: Iterable[Place] | None,
    ) -> list[TopicPartition]:
        if wanted is not None:
            return list(wanted)
        if topics is None and partitions is None:
            return self._existing(committed)
        places = [TopicPartition(*place) for place in partitions or ()]
        for topic in name_list(topics or ()):
            found = self._metadata.topic(topic, timeout_ms=self._timeout_ms)
            places += [TopicPartition(topic, part.partition) for part in found.partitions]
        return places

    def _bounds(
        self, places: Sequence[TopicPartition], time_ms: int | None
    ) -> dict[TopicPartition, PartitionBounds]:
        if not places:
            raise UnknownTopicOrPartitionError(
                "there is nothing to reset: the group has committed nothing; name topics"
            )
        starts = self.list_offsets(dict.fromkeys(places, "earliest"))
        ends = self.list_offsets(dict.fromkeys(places, "latest"))
        times = {} if time_ms is None else self.list_offsets(dict.fromkeys(places, time_ms))
        return {
            place: PartitionBounds(
                starts[place].offset,
                ends[place].offset,
                times[place].offset if place in times else -1,
            )
            for place in places
        }

    def _check_empty(self, group_id: str) -> None:
        try:
            [group] = self.describe_consumer_groups([group_id])
        except GroupIdNotFoundError:
            return
        if group.members:
            raise NonEmptyGroupError(_has_members(group_id, len(group.members)))

    @abstractmethod
    def list_offsets(
        self, partitions: Mapping[Place, int | str | datetime]
    ) -> dict[TopicPartition, OffsetAndTimestamp]:
        """See ``Admin``."""

    @abstractmethod
    def _coordinators(self, topic: str) -> AbstractContextManager[CoordinatorCalls]:
        """Coordinators of an internal topic, for this thread alone."""


def _describe(group_id: str) -> Callable[[int], Message]:
    return lambda partition: DescribeGroupsRequest(partition, [group_id])


def _delete(group_id: str) -> Callable[[int], Message]:
    return lambda partition: DeleteGroupsRequest(partition, [group_id])


def _readers(members: Iterable[GroupMember]) -> dict[TopicPartition, GroupMember]:
    return {
        TopicPartition(owned.topic, partition): member
        for member in members
        for owned in member.assignment
        for partition in owned.partitions
    }


def _check(outcomes: Iterable[PartitionOutcome]) -> None:
    for outcome in outcomes:
        if outcome.error_code:
            place = TopicPartition(outcome.topic, outcome.partition)
            raise error_for(outcome.error_code, f"{place}: {outcome.error_message}")


def _has_members(group_id: str, count: int = 0) -> str:
    members = f"{count} members" if count > 1 else "a member" if count else "members"
    return f"group {group_id} has {members}, which would not notice; stop its consumers first"
