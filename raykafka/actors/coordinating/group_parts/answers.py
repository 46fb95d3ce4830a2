"""Answers of the group machine as they stand in responses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from raykafka.errors import RaykafkaError
from raykafka.group.assignment import Assignment
from raykafka.group.commands import FoundOffset, GroupDescription
from raykafka.protocol.group_messages import (
    DescribedGroup,
    FetchedOffset,
    GroupMember,
    PartitionOutcome,
    TopicPartitions,
)


def named(assignment: Assignment, names: Mapping[str, str]) -> list[TopicPartitions]:
    """Topic names beside the ids, as far as they are known."""
    return [
        TopicPartitions(names.get(topic_id, ""), topic_id, list(partitions))
        for topic_id, partitions in assignment.items()
    ]


def error_of(error: RaykafkaError | None) -> tuple[int, str]:
    """Code and message; 0 for none."""
    return (0, "") if error is None else (error.code, error.message)


def outcomes(
    places: Iterable[tuple[str, int]], errors: Sequence[RaykafkaError | None]
) -> list[PartitionOutcome]:
    """One for each partition."""
    return [
        PartitionOutcome(*place, *error_of(error))
        for place, error in zip(places, errors, strict=True)
    ]


def places_of(topics: Iterable[TopicPartitions]) -> list[tuple[str, int]]:
    """Topic and partition, one by one."""
    return [(one.topic, partition) for one in topics for partition in one.partitions]


def fetched(found: FoundOffset) -> FetchedOffset:
    """One partition of OFFSET_FETCH."""
    committed = found.committed
    if committed is None:
        code, message = error_of(found.error)
        return FetchedOffset(found.topic, found.partition, error_code=code, error_message=message)
    return FetchedOffset(
        found.topic,
        found.partition,
        committed.topic_id,
        committed.offset,
        committed.leader_epoch,
        committed.metadata,
        committed.commit_timestamp_ms,
    )


def described(group_id: str, found: GroupDescription | RaykafkaError) -> DescribedGroup:
    """One group of DESCRIBE_GROUPS."""
    if isinstance(found, RaykafkaError):
        return DescribedGroup(
            group_id, state="Dead", error_code=found.code, error_message=found.message
        )
    members = [
        GroupMember(
            one.member_id,
            one.member_epoch,
            one.instance_id,
            one.client_id,
            one.host,
            one.rack_id,
            list(one.subscribed_topics),
            one.subscribed_pattern,
            named(one.assignment, found.topic_names),
            named(one.target_assignment, found.topic_names),
        )
        for one in found.members
    ]
    return DescribedGroup(
        group_id,
        found.type,
        found.state,
        found.group_epoch,
        found.assignment_epoch,
        found.assignor,
        members,
    )
