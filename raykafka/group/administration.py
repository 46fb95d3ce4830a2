"""What operators ask about groups and do to them."""

from __future__ import annotations

from collections.abc import Sequence

from raykafka.errors import (
    GroupIdNotFoundError,
    NonEmptyGroupError,
    RaykafkaError,
    UnknownMemberIdError,
)
from raykafka.group.assignment import pairs
from raykafka.group.commands import (
    DeleteGroups,
    DescribeGroups,
    GroupDescription,
    GroupSummary,
    ListGroups,
    MemberDescription,
    Outcome,
    RemovedMember,
    RemoveMembers,
)
from raykafka.group.membership import Membership
from raykafka.group.offsets import removal_of_all
from raykafka.group.records import GroupRemoved, Record
from raykafka.group.state import Group, Groups
from raykafka.group.states import state_of, type_of
from raykafka.group.topics import Topics


def list_groups(groups: Groups, command: ListGroups) -> Outcome:
    """See ``ListGroups``; filters do not look at upper and lower case."""
    states = {state.lower() for state in command.states}
    types = {type_.lower() for type_ in command.types}
    found: list[GroupSummary] = []
    for group_id in sorted(groups.by_id):
        group = groups.by_id[group_id]
        state, type_ = state_of(group).value, type_of(group).value
        if (not states or state.lower() in states) and (not types or type_ in types):
            found.append(GroupSummary(group_id, type_, state, len(group.members)))
    return Outcome([], found)


def describe_groups(groups: Groups, topics: Topics, command: DescribeGroups) -> Outcome:
    """See ``DescribeGroups``."""
    found: list[GroupDescription | RaykafkaError] = []
    for group_id in command.group_ids:
        group = groups.by_id.get(group_id)
        found.append(_unknown(group_id) if group is None else _describe(group, topics))
    return Outcome([], found)


def delete_groups(groups: Groups, command: DeleteGroups) -> Outcome:
    """See ``DeleteGroups``."""
    records: list[Record] = []
    errors: list[RaykafkaError | None] = []
    for group_id in command.group_ids:
        group = groups.by_id.get(group_id)
        if group is None:
            errors.append(_unknown(group_id))
        elif group.members:
            errors.append(
                NonEmptyGroupError(
                    f"group {group_id} has {len(group.members)} members; it can be deleted once "
                    "all have left"
                )
            )
        else:
            errors.append(None)
            records += removal_of_all(group)
            if group.metadata is not None:
                records.append(GroupRemoved(group_id))
    return Outcome(records, errors)


def remove_members(
    groups: Groups, membership: Membership, command: RemoveMembers, now_ms: int
) -> Outcome:
    """See ``RemoveMembers``."""
    group = groups.by_id.get(command.group_id)
    if group is None:
        raise _unknown(command.group_id)
    wanted = _members_to_remove(group, command)
    gone = list(dict.fromkeys(one.member_id for one in wanted if one.error is None))
    if not gone:
        return Outcome([], wanted)
    membership.forget_timers(group.group_id, gone)
    return Outcome(membership.remove(group, gone, now_ms), wanted)


def _members_to_remove(group: Group, command: RemoveMembers) -> Sequence[RemovedMember]:
    if not command.member_ids and not command.instance_ids:
        return [
            RemovedMember(member_id, member.metadata.instance_id, None)
            for member_id, member in group.members.items()
        ]
    found: list[RemovedMember] = []
    for member_id in command.member_ids:
        member = group.members.get(member_id)
        if member is None:
            found.append(RemovedMember(member_id, "", UnknownMemberIdError()))
        else:
            found.append(RemovedMember(member_id, member.metadata.instance_id, None))
    for instance_id in command.instance_ids:
        holder = group.instances.get(instance_id)
        error = UnknownMemberIdError() if holder is None else None
        found.append(RemovedMember(holder or "", instance_id, error))
    return found


def _unknown(group_id: str) -> GroupIdNotFoundError:
    return GroupIdNotFoundError(f"there is no group {group_id!r}")


def _describe(group: Group, topics: Topics) -> GroupDescription:
    members = [
        MemberDescription(
            member_id,
            member.current.member_epoch,
            member.metadata.instance_id,
            member.metadata.client_id,
            member.metadata.host,
            member.metadata.rack_id,
            member.metadata.subscribed_topics,
            member.metadata.subscribed_pattern,
            member.current.assigned,
            member.target,
        )
        for member_id, member in sorted(group.members.items())
    ]
    ids = {
        topic_id
        for member in group.members.values()
        for assignment in (member.current.assigned, member.target)
        for topic_id, _ in pairs(assignment)
    }
    return GroupDescription(
        group.group_id,
        type_of(group).value,
        state_of(group).value,
        group.epoch,
        group.assignment_epoch,
        group.metadata.assignor if group.metadata is not None else "",
        members,
        {topic_id: topics.name_of(topic_id) for topic_id in sorted(ids)},
    )
