"""What members may not do, by Kafka's errors."""

from __future__ import annotations

from typing import Final

from raykafka.errors import (
    FencedInstanceIdError,
    FencedMemberEpochError,
    GroupMaxSizeReachedError,
    InconsistentGroupProtocolError,
    InvalidGroupIdError,
    InvalidRequestError,
    UnknownMemberIdError,
    UnreleasedInstanceIdError,
    UnsupportedAssignorError,
)
from raykafka.group.assignment import is_within
from raykafka.group.commands import LEAVE_STATIC_EPOCH, Heartbeat
from raykafka.group.records import CurrentAssignment
from raykafka.group.settings import GroupSettings
from raykafka.group.state import Group, Member
from raykafka.group.targets import Surroundings

MAX_ID_LENGTH: Final = 1000
"""Characters of a group id and of everything else that a member says of itself."""
MAX_TOPICS: Final = 10_000
"""Topics that a member may name in its subscription."""


def check_group_id(group_id: str) -> None:
    """Raises ``InvalidGroupIdError``."""
    if not group_id or len(group_id) > MAX_ID_LENGTH:
        raise InvalidGroupIdError(
            f"a group id has 1 to {MAX_ID_LENGTH} characters, this one has {len(group_id)}"
        )


def check_heartbeat(command: Heartbeat, around: Surroundings) -> None:
    """Whether the request makes sense by itself.

    Raises ``InvalidGroupIdError``, ``InvalidRequestError``, ``UnsupportedAssignorError`` or
    ``InvalidRegularExpressionError``.
    """
    check_group_id(command.group_id)
    said = (command.member_id, command.instance_id, command.client_id, command.host)
    if not command.member_id or max(map(len, (*said, command.rack_id))) > MAX_ID_LENGTH:
        raise InvalidRequestError(
            f"a member has an id, and no text about it has more than {MAX_ID_LENGTH} characters"
        )
    if command.member_epoch < LEAVE_STATIC_EPOCH:
        raise InvalidRequestError(f"there is no member epoch {command.member_epoch}")
    if command.member_epoch == LEAVE_STATIC_EPOCH and not command.instance_id:
        raise InvalidRequestError("only a member with a group.instance.id can leave for now")
    if command.member_epoch == 0:
        if command.subscribed_topics is None and command.subscribed_pattern is None:
            raise InvalidRequestError("a member that joins has to say what it subscribes to")
        if command.owned:
            raise InvalidRequestError("a member that joins cannot own partitions")
    if command.subscribed_topics is not None and len(command.subscribed_topics) > MAX_TOPICS:
        raise InvalidRequestError(f"a member may subscribe to {MAX_TOPICS} topics by name")
    known = around.settings.of(share=command.share).assignors
    if command.assignor and command.assignor not in known:
        raise UnsupportedAssignorError(
            f"there is no assignor {command.assignor!r}; the brokers have {', '.join(known)}"
        )
    if command.subscribed_pattern:
        around.topics.check_pattern(command.subscribed_pattern)


def check_kind(group: Group, command: Heartbeat) -> None:
    """Consumers and share consumers do not mix; raises ``InconsistentGroupProtocolError``."""
    if group.share == command.share:
        return
    if group.members or group.offsets or group.pending:
        kind, other = ("share", "consumer") if group.share else ("consumer", "share")
        raise InconsistentGroupProtocolError(
            f"{group.group_id} is a {kind} group, a {other} group's member cannot join it"
        )


def known_member(group: Group, member_id: str) -> Member:
    """Raises ``UnknownMemberIdError``."""
    member = group.members.get(member_id)
    if member is None:
        raise UnknownMemberIdError(
            f"group {group.group_id} has no member {member_id!r}: it has left, or was fenced"
        )
    return member


def check_instance(group: Group, member_id: str, instance_id: str) -> None:
    """Raises ``UnknownMemberIdError`` and ``FencedInstanceIdError``."""
    if not instance_id:
        return
    holder = group.instances.get(instance_id)
    if holder is None:
        raise UnknownMemberIdError(
            f"group {group.group_id} has no member with group.instance.id {instance_id!r}"
        )
    if holder != member_id:
        raise FencedInstanceIdError(
            f"another member of group {group.group_id} has taken over group.instance.id "
            f"{instance_id!r}"
        )


def check_new_member(
    group: Group, command: Heartbeat, known: Member | None, settings: GroupSettings
) -> Member | None:
    """Whether it may join; the static member whose place it takes, if any.

    Raises ``UnreleasedInstanceIdError``, ``GroupMaxSizeReachedError`` and ``InvalidRequestError``.
    """
    if known is not None and known.metadata.instance_id != command.instance_id:
        raise InvalidRequestError(f"member {command.member_id} has another group.instance.id")
    holder = group.instances.get(command.instance_id) if command.instance_id else None
    if holder is not None and holder != command.member_id:
        replaced = group.members[holder]
        if replaced.current.member_epoch != LEAVE_STATIC_EPOCH:
            raise UnreleasedInstanceIdError(
                f"group.instance.id {command.instance_id!r} is in use by member {holder}, until it "
                "leaves or its session ends"
            )
        return replaced
    limit = settings.of(share=command.share).max_size
    if known is None and len(group.members) >= limit:
        raise GroupMaxSizeReachedError(f"group {group.group_id} has {limit} members, the maximum")
    return None


def check_epoch(current: CurrentAssignment, command: Heartbeat) -> None:
    """Whether the member is who it was; raises ``FencedMemberEpochError``.

    The epoch before the current one is accepted: the answer that gave the current one may have been
    lost.
    """
    if command.member_epoch not in (current.member_epoch, current.previous_epoch) or (
        current.member_epoch < 0
    ):
        raise FencedMemberEpochError(
            f"member {command.member_id} has epoch {current.member_epoch}, not "
            f"{command.member_epoch}"
        )
    owned = command.owned
    if owned and not command.share and not is_within(owned, current.assigned, current.revoking):
        raise FencedMemberEpochError(
            f"member {command.member_id} owns partitions that it was not given"
        )
