"""The states of a group, derived from its members (KIP-848)."""

from __future__ import annotations

import enum

from raykafka.group.state import Group


class GroupState(str, enum.Enum):
    """As ``ListGroups`` and ``DescribeGroups`` spell them."""

    EMPTY = "Empty"
    """No members; there may be offsets."""
    ASSIGNING = "Assigning"
    """The target assignment is older than the group: it waits for the topics to be known."""
    RECONCILING = "Reconciling"
    """Members are on their way to the target assignment."""
    STABLE = "Stable"
    """Everybody owns what the target gives."""
    DEAD = "Dead"
    """There is no such group."""


class GroupType(str, enum.Enum):
    """As ``ListGroups`` spells them."""

    CONSUMER = "consumer"
    SHARE = "share"


def state_of(group: Group | None) -> GroupState:
    """Static members that are away for now do not keep a group from being stable."""
    if group is None:
        return GroupState.DEAD
    if not group.members:
        return GroupState.EMPTY
    if group.epoch > group.assignment_epoch:
        return GroupState.ASSIGNING
    for member in group.members.values():
        current = member.current
        if current.member_epoch < 0:
            continue
        if current.revoking or current.assigned != member.target:
            return GroupState.RECONCILING
    return GroupState.STABLE


def type_of(group: Group) -> GroupType:
    """Groups that have offsets only are consumer groups."""
    return GroupType.SHARE if group.share else GroupType.CONSUMER
