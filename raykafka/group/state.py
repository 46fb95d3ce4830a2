"""The state of the groups, and how records change it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from raykafka.group.assignment import Assignment, Pair, is_within, pairs
from raykafka.group.records import (
    CurrentAssignment,
    CurrentRemoved,
    GroupMetadata,
    GroupRemoved,
    MemberMetadata,
    MemberRemoved,
    OffsetCommitted,
    OffsetRemoved,
    PendingOffsets,
    PendingRemoved,
    ProducerForgotten,
    Record,
    TargetAssignment,
    TargetRemoved,
    TransactionEnded,
)


class Member:
    """One member: the newest record of each kind."""

    __slots__ = ("current", "metadata", "target")

    def __init__(self, metadata: MemberMetadata) -> None:
        self.metadata = metadata
        self.current = CurrentAssignment(metadata.group_id, metadata.member_id, 0, 0)
        self.target: Assignment = {}


class Group:
    """One group. ``replay`` of records changes it, nothing else does."""

    __slots__ = (
        "checked_topics", "early", "group_id", "instances", "members", "metadata", "offsets",
        "owners", "pending",
    )  # fmt: skip

    def __init__(self, group_id: str) -> None:
        self.group_id = group_id
        self.metadata: GroupMetadata | None = None
        """None for a group that has offsets only."""
        self.members: dict[str, Member] = {}
        self.instances: dict[str, str] = {}
        """Member ids of static members, by instance id."""
        self.early: dict[tuple[str, type], TargetAssignment | CurrentAssignment] = {}
        """Records that stand in the log before their member's own; see ``records``."""
        self.owners: dict[Pair, str] = {}
        """Who owns what, or has yet to let it go; consumer groups only."""
        self.offsets: dict[tuple[str, int], OffsetCommitted] = {}
        self.pending: dict[int, PendingOffsets] = {}
        """What open transactions are going to commit, by producer id."""
        self.checked_topics = -1
        """Version of the topics that the target is known to fit; not part of the durable state."""

    @property
    def share(self) -> bool:
        """Whether it is a share group."""
        return self.metadata is not None and self.metadata.share

    @property
    def epoch(self) -> int:
        """Of the group; 0 where it never had members."""
        return self.metadata.epoch if self.metadata is not None else 0

    @property
    def assignment_epoch(self) -> int:
        """Of the target assignment."""
        return self.metadata.assignment_epoch if self.metadata is not None else 0

    def is_forgettable(self) -> bool:
        """Whether nothing of it is left to keep."""
        return (
            self.metadata is None
            and not self.members
            and not self.early
            and not self.offsets
            and not self.pending
        )


class Groups:
    """All groups of one partition of ``__consumer_offsets``."""

    def __init__(self, on_news: Callable[[str, str], None]) -> None:
        """``on_news`` is told of the group and member whose assignment may have changed, or who is
        gone.
        """
        self.by_id: dict[str, Group] = {}
        self.ended: dict[int, TransactionEnded] = {}
        """The last end of a transaction of each producer id."""
        self.pending_groups: dict[int, set[str]] = {}
        """Groups for which a producer id has pending offsets."""
        self._on_news = on_news

    def replay(self, record: Record) -> None:
        """Apply one record."""
        _APPLY[type(record)](self, record)

    def records(self) -> list[Record]:
        """What leads an empty object to this state, one record for each key."""
        found: list[Record] = []
        for group in self.by_id.values():
            found += _records_of(group)
        found += self.ended.values()
        return found

    def _group(self, group_id: str) -> Group:
        group = self.by_id.get(group_id)
        if group is None:
            group = self.by_id[group_id] = Group(group_id)
        return group

    def _maybe_forget(self, group: Group) -> None:
        if group.is_forgettable():
            self.by_id.pop(group.group_id, None)

    def _apply_group(self, record: GroupMetadata) -> None:
        self._group(record.group_id).metadata = record

    def _remove_group(self, record: GroupRemoved) -> None:
        group = self.by_id.get(record.group_id)
        if group is not None:
            group.metadata = None
            self._maybe_forget(group)

    def _apply_member(self, record: MemberMetadata) -> None:
        group = self._group(record.group_id)
        member = group.members.get(record.member_id)
        if member is None:
            group.members[record.member_id] = Member(record)
            if group.early:
                self._apply_early(group, record.member_id)
        else:
            member.metadata = record
        if record.instance_id:
            group.instances[record.instance_id] = record.member_id

    def _apply_early(self, group: Group, member_id: str) -> None:
        for kind in (TargetAssignment, CurrentAssignment):
            record = group.early.pop((member_id, kind), None)
            if record is not None:
                self.replay(record)

    def _remove_target(self, record: TargetRemoved) -> None:
        self._drop_early(record.group_id, record.member_id, TargetAssignment)

    def _remove_current(self, record: CurrentRemoved) -> None:
        self._drop_early(record.group_id, record.member_id, CurrentAssignment)

    def _drop_early(self, group_id: str, member_id: str, kind: type) -> None:
        """The member itself is gone already, or goes by a record of its own."""
        group = self.by_id.get(group_id)
        if group is not None:
            group.early.pop((member_id, kind), None)
            self._maybe_forget(group)

    def _remove_member(self, record: MemberRemoved) -> None:
        group = self.by_id.get(record.group_id)
        member = group.members.pop(record.member_id, None) if group is not None else None
        if group is None or member is None:
            return
        instance_id = member.metadata.instance_id
        if instance_id and group.instances.get(instance_id) == record.member_id:
            del group.instances[instance_id]
        if self._release(group, record.member_id, member.current):
            self._tell_waiting(group)
        self._on_news(record.group_id, record.member_id)
        self._maybe_forget(group)

    def _apply_target(self, record: TargetAssignment) -> None:
        group = self._group(record.group_id)
        member = group.members.get(record.member_id)
        if member is None:
            group.early[record.member_id, TargetAssignment] = record
            return
        member.target = record.partitions
        self._on_news(record.group_id, record.member_id)

    def _apply_current(self, record: CurrentAssignment) -> None:
        group = self._group(record.group_id)
        member = group.members.get(record.member_id)
        if member is None:
            group.early[record.member_id, CurrentAssignment] = record
            return
        before, member.current = member.current, record
        if group.share:
            return
        if before.assigned == record.assigned and before.revoking == record.revoking:
            return
        freed = any(
            not is_within(held, record.assigned, record.revoking)
            for held in (before.assigned, before.revoking)
        )
        self._release(group, record.member_id, before)
        owners = group.owners
        for held in (record.assigned, record.revoking):
            for pair in pairs(held):
                owners[pair] = record.member_id
        if freed:
            self._tell_waiting(group)

    @staticmethod
    def _release(group: Group, member_id: str, current: CurrentAssignment) -> bool:
        owners = group.owners
        for held in (current.assigned, current.revoking):
            for pair in pairs(held):
                if owners.get(pair) == member_id:
                    del owners[pair]
        return bool(current.assigned or current.revoking)

    def _tell_waiting(self, group: Group) -> None:
        for member_id, member in group.members.items():
            if member.target != member.current.assigned and not member.current.revoking:
                self._on_news(group.group_id, member_id)

    def _apply_offset(self, record: OffsetCommitted) -> None:
        self._group(record.group_id).offsets[record.topic, record.partition] = record

    def _remove_offset(self, record: OffsetRemoved) -> None:
        group = self.by_id.get(record.group_id)
        if group is not None:
            group.offsets.pop((record.topic, record.partition), None)
            self._maybe_forget(group)

    def _apply_pending(self, record: PendingOffsets) -> None:
        self._group(record.group_id).pending[record.producer_id] = record
        self.pending_groups.setdefault(record.producer_id, set()).add(record.group_id)

    def _remove_pending(self, record: PendingRemoved) -> None:
        group = self.by_id.get(record.group_id)
        if group is None or group.pending.pop(record.producer_id, None) is None:
            return
        groups = self.pending_groups[record.producer_id]
        groups.discard(record.group_id)
        if not groups:
            del self.pending_groups[record.producer_id]
        self._maybe_forget(group)

    def _apply_end(self, record: TransactionEnded) -> None:
        self.ended[record.producer_id] = record

    def _forget_producer(self, record: ProducerForgotten) -> None:
        self.ended.pop(record.producer_id, None)


def _records_of(group: Group) -> list[Record]:
    found: list[Record] = [] if group.metadata is None else [group.metadata]
    for member_id, member in group.members.items():
        found.append(member.metadata)
        if member.target:
            found.append(TargetAssignment(group.group_id, member_id, member.target))
        found.append(member.current)
    found += group.offsets.values()
    found += group.pending.values()
    return found


_APPLY: Final[Mapping[type, Callable[[Groups, Any], None]]] = {
    GroupMetadata: Groups._apply_group,
    MemberMetadata: Groups._apply_member,
    TargetAssignment: Groups._apply_target,
    CurrentAssignment: Groups._apply_current,
    OffsetCommitted: Groups._apply_offset,
    PendingOffsets: Groups._apply_pending,
    TransactionEnded: Groups._apply_end,
    GroupRemoved: Groups._remove_group,
    MemberRemoved: Groups._remove_member,
    TargetRemoved: Groups._remove_target,
    CurrentRemoved: Groups._remove_current,
    OffsetRemoved: Groups._remove_offset,
    PendingRemoved: Groups._remove_pending,
    ProducerForgotten: Groups._forget_producer,
}
