"""The part of ``Admin`` that is about share groups: how far they are, their settings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from datetime import datetime
from typing import Any, Final, NamedTuple

from raykafka.client.cluster.metadata import ClusterMetadata
from raykafka.client.grouping.coordinator_calls import CoordinatorCalls
from raykafka.client.operating.arguments import name_list, timestamp
from raykafka.client.operating.offset_resets import (
    OffsetChange,
    OffsetReset,
    PartitionBounds,
    plan_reset,
)
from raykafka.errors import (
    GroupIdNotFoundError,
    InvalidRequestError,
    UnknownTopicOrPartitionError,
    error_for,
)
from raykafka.internal_topics import SHARE_GROUP_STATE
from raykafka.model import OffsetAndMetadata, OffsetAndTimestamp, TopicPartition
from raykafka.protocol.group_messages import DescribedGroup, GroupListing
from raykafka.protocol.messages import ApiKey, ConfigChange, Message
from raykafka.protocol.share_messages import (
    AlterShareGroupConfigsRequest,
    AlterShareGroupOffsetsRequest,
    DeleteShareGroupStateRequest,
    DescribedShareOffset,
    DescribeShareGroupConfigsRequest,
    DescribeShareGroupOffsetsRequest,
    InitialShareState,
    ShareStateResult,
)

Place = TopicPartition | tuple[str, int]

_SHARE: Final = "share"


class ShareGroupOffset(NamedTuple):
    """How far a share group is in one partition, as its coordinator knows."""

    partition: TopicPartition
    start_offset: int | None
    """Everything before it is done; None where the group has not begun to read."""
    log_end_offset: int | None
    """None for a topic that is gone."""
    lag: int | None
    """Records from the start offset to the end; some of them may be done, or leased just now."""


class ShareGroupOperations(ABC):
    """Share groups as an operator sees them; methods of ``Admin``."""

    _metadata: ClusterMetadata
    _timeout_ms: int

    def list_share_groups(self, *, states: Iterable[str] = ()) -> list[GroupListing]:
        """``list_groups`` of share groups alone."""
        return self.list_groups(states=states, types=[_SHARE])

    def describe_share_groups(self, group_ids: Iterable[str]) -> list[DescribedGroup]:
        """State, epochs and members of share groups; raises ``GroupIdNotFoundError``."""
        return self.describe_consumer_groups(group_ids)

    def list_share_group_offsets(self, group_id: str) -> list[ShareGroupOffset]:
        """How far a group is, sorted by partition; empty for one that has read nothing.

        Topics that have been deleted are left out.
        """
        offsets = self._share_offsets(group_id)
        ends = self.list_offsets(dict.fromkeys(offsets, "latest")) if offsets else {}
        found = []
        for place, each in sorted(offsets.items()):
            start = each.start_offset if each.start_offset >= 0 else None
            end = ends[place].offset if place in ends else None
            lag = None if start is None or end is None else max(0, end - start)
            found.append(ShareGroupOffset(place, start, end, lag))
        return found

    def alter_share_group_offsets(self, group_id: str, offsets: Mapping[Place, int]) -> None:
        """Set where a group that has no members begins; what was in flight is forgotten.

        Raises ``NonEmptyGroupError``, ``UnknownTopicOrPartitionError``, ``InvalidRequestError``.
        """
        states = [self._initial(TopicPartition(*place), at) for place, at in offsets.items()]
        answer = self._ask_share(
            group_id,
            ApiKey.ALTER_SHARE_GROUP_OFFSETS,
            lambda partition: AlterShareGroupOffsetsRequest(group_id, partition, states),
        )
        _check(answer.states)

    def reset_share_group_offsets(
        self,
        group_id: str,
        *,
        to: str | None = None,
        to_offset: int | None = None,
        to_time: int | datetime | None = None,
        shift_by: int | None = None,
        offsets: Mapping[Place, int] | None = None,
        topics: Iterable[str] | None = None,
        partitions: Iterable[Place] | None = None,
        execute: bool = False,
    ) -> list[OffsetChange]:
        """Move where a group begins; without ``execute`` nothing is changed, and it is a plan.

        As ``reset_consumer_group_offsets``; by default it is about every partition that the group
        has begun to read. Raises ``NonEmptyGroupError`` with ``execute`` for a group that has
        members, ``InvalidRequestError``, ``UnknownTopicOrPartitionError``.
        """
        wanted = None
        if offsets is not None:
            wanted = {TopicPartition(*place): offset for place, offset in offsets.items()}
        time_ms = None if to_time is None else timestamp(to_time)
        reset = OffsetReset(to, to_offset, time_ms, shift_by, wanted)
        reset.check()
        known = {
            place: OffsetAndMetadata(each.start_offset)
            for place, each in self._share_offsets(group_id).items()
            if each.start_offset >= 0
        }
        places = self._in_reset(known, wanted, topics, partitions)
        changes = plan_reset(reset, self._bounds(places, time_ms), known)
        if execute and changes:
            self.alter_share_group_offsets(
                group_id, {change.partition: change.after for change in changes}
            )
        return changes

    def delete_share_groups(self, group_ids: Iterable[str]) -> None:
        """Delete groups with their offsets and settings.

        Raises ``NonEmptyGroupError`` for one that has members, ``GroupIdNotFoundError``.
        """
        for group_id in name_list(group_ids):
            known = False
            with suppress(GroupIdNotFoundError):
                self._ask_share(group_id, ApiKey.DELETE_SHARE_GROUP_STATE, _delete(group_id))
                known = True
            try:
                self._delete_group(group_id)
            except GroupIdNotFoundError:
                if not known:
                    raise

    def describe_share_group_configs(self, group_id: str) -> dict[str, str]:
        """What a group sets itself; the rest is the brokers' ``group.share.*`` and the table's."""
        answer = self._ask_share(
            group_id,
            ApiKey.DESCRIBE_SHARE_GROUP_CONFIGS,
            lambda partition: DescribeShareGroupConfigsRequest(group_id, partition),
        )
        return dict(answer.configs)

    def alter_share_group_configs(
        self, group_id: str, configs: Mapping[str, object]
    ) -> dict[str, str]:
        """Set settings of a group, or with None as the value leave them to the brokers again.

        The group need not exist. Members that are at work go by the new settings within their next
        acknowledgements. Returns what the group sets then. Raises ``InvalidConfigError``.
        """
        changes = [
            ConfigChange(name, "", "delete") if value is None else ConfigChange(name, str(value))
            for name, value in configs.items()
        ]
        answer = self._ask_share(
            group_id,
            ApiKey.ALTER_SHARE_GROUP_CONFIGS,
            lambda partition: AlterShareGroupConfigsRequest(group_id, partition, changes),
        )
        return dict(answer.configs)

    # --- inside -----------------------------------------------------------------------------------

    def _ask_share(self, group_id: str, api_key: ApiKey, request: Callable[[int], Message]) -> Any:
        with self._coordinators(SHARE_GROUP_STATE) as coordinators:
            return coordinators.call(group_id, api_key, request, timeout_ms=self._timeout_ms)

    def _share_offsets(self, group_id: str) -> dict[TopicPartition, DescribedShareOffset]:
        answer = self._ask_share(
            group_id,
            ApiKey.DESCRIBE_SHARE_GROUP_OFFSETS,
            lambda partition: DescribeShareGroupOffsetsRequest(group_id, partition),
        )
        topics = self._metadata.all_topics(timeout_ms=self._timeout_ms)
        names = {topic.topic_id: name for name, topic in topics.items()}
        return {
            TopicPartition(names[each.topic_id], each.partition): each
            for each in answer.offsets
            if each.topic_id in names
        }

    def _initial(self, place: TopicPartition, offset: int) -> InitialShareState:
        topic = self._metadata.topic(place.topic, timeout_ms=self._timeout_ms)
        if not 0 <= place.partition < len(topic.partitions):
            raise UnknownTopicOrPartitionError(f"there is no partition {place}")
        if offset < 0:
            raise InvalidRequestError(f"an offset is an integer from 0, not {offset}")
        return InitialShareState(topic.topic_id, place.partition, offset)

    @abstractmethod
    def list_groups(
        self, *, states: Iterable[str] = (), types: Iterable[str] = ()
    ) -> list[GroupListing]:
        """See ``GroupOperations``."""

    @abstractmethod
    def describe_consumer_groups(self, group_ids: Iterable[str]) -> list[DescribedGroup]:
        """See ``GroupOperations``."""

    @abstractmethod
    def _delete_group(self, group_id: str) -> None:
        """See ``GroupOperations``."""

    @abstractmethod
    def list_offsets(
        self, partitions: Mapping[Place, int | str | datetime]
    ) -> dict[TopicPartition, OffsetAndTimestamp]:
        """See ``Admin``."""

    @abstractmethod
    def _coordinators(self, topic: str) -> AbstractContextManager[CoordinatorCalls]:
        """Coordinators of an internal topic, for this thread alone."""

    @abstractmethod
    def _in_reset(
        self,
        committed: Iterable[TopicPartition],
        wanted: Iterable[TopicPartition] | None,
        topics: Iterable[str] | None,
        partitions: Iterable[Place] | None,
    ) -> list[TopicPartition]:
        """See ``GroupOperations``."""

    @abstractmethod
    def _bounds(
        self, places: Sequence[TopicPartition], time_ms: int | None
    ) -> dict[TopicPartition, PartitionBounds]:
        """See ``GroupOperations``."""


def _delete(group_id: str) -> Callable[[int], Message]:
    return lambda partition: DeleteShareGroupStateRequest(group_id, partition)


def _check(states: Iterable[ShareStateResult]) -> None:
    for state in states:
        if state.error_code:
            raise error_for(state.error_code, state.error_message)
