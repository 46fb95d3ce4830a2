"""Members come, stay and go (KIP-848; static members: KIP-345).

Differences from Kafka: a member that joins although the coordinator still knows it has given
everything up, and gets a new epoch, so that nothing of its former life is taken for its own; and a
static member that leaves for now has let its partitions go, so that others may have them when the
target changes before it comes back.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from raykafka.errors import CoordinatorLoadInProgressError
from raykafka.group.assignment import Assignment
from raykafka.group.checks import (
    check_epoch,
    check_heartbeat,
    check_instance,
    check_kind,
    check_new_member,
    known_member,
)
from raykafka.group.commands import LEAVE_STATIC_EPOCH, Heartbeat, HeartbeatAnswer, Outcome
from raykafka.group.deadlines import Deadlines
from raykafka.group.reconciliation import reconcile
from raykafka.group.records import (
    CurrentAssignment,
    GroupMetadata,
    MemberMetadata,
    Record,
    TargetAssignment,
    removal_of,
)
from raykafka.group.state import Group, Groups, Member
from raykafka.group.targets import Surroundings, is_outdated, rebalance

_MOST_EXPIRED_AT_ONCE = 500


class _Sender(NamedTuple):
    """Whose heartbeat it is, before anything has changed."""

    known: Member | None
    replaced: Member | None
    """The static member whose place it takes."""
    current: CurrentAssignment
    metadata: MemberMetadata


class _Step(NamedTuple):
    """What the heartbeat does to the member."""

    target: Assignment
    target_epoch: int
    records: list[Record]


class Membership:
    """Decides about heartbeats and expiries; sessions and timers are its only state."""

    def __init__(self, groups: Groups, around: Surroundings) -> None:
        self._groups = groups
        self._around = around
        self._sessions: Deadlines[tuple[str, str]] = Deadlines()
        self._revocations: Deadlines[tuple[str, str]] = Deadlines()
        """Members that have to let partitions go, and until when."""

    def restart_timers(self, monotonic_ms: int) -> None:
        """A new coordinator gives every member a whole session."""
        for group in self._groups.by_id.values():
            timeout_ms = self._around.settings.of(share=group.share).session_timeout_ms
            for member_id, member in group.members.items():
                key = (group.group_id, member_id)
                self._sessions.renew(key, monotonic_ms + timeout_ms)
                if member.current.revoking:
                    limit_ms = member.metadata.rebalance_timeout_ms
                    self._revocations.renew(key, monotonic_ms + limit_ms)

    def heartbeat(self, command: Heartbeat, now_ms: int, monotonic_ms: int) -> Outcome:
        """See ``Heartbeat``."""
        check_heartbeat(command, self._around)
        group = self._groups.by_id.get(command.group_id) or Group(command.group_id)
        check_kind(group, command)
        if command.member_epoch < 0:
            return self._leave(group, command, now_ms, monotonic_ms)
        sender = self._sender(group, command)
        step = self._step(group, command, sender, now_ms)
        following = reconcile(
            sender.current,
            step.target,
            step.target_epoch,
            group.owners,
            owned=command.owned if command.member_epoch else None,
            share=command.share,
        )
        records = step.records
        if sender.known is None or following != sender.known.current:
            records.append(following)
        self._renew_timers(command, sender, following, monotonic_ms)
        interval_ms = self._around.settings.of(share=command.share).heartbeat_interval_ms
        tell = (
            command.member_epoch != sender.current.member_epoch
            or command.member_epoch == 0
            or following.assigned != sender.current.assigned
            or (command.owned is not None and command.owned != following.assigned)
        )
        assignment = following.assigned if tell else None
        return Outcome(records, HeartbeatAnswer(following.member_epoch, interval_ms, assignment))

    def remove(self, group: Group, member_ids: Sequence[str], now_ms: int) -> list[Record]:
        """Records that take members of the group away, all in one rebalance."""
        gone = set(member_ids)
        left = {name: one.metadata for name, one in group.members.items() if name not in gone}
        records: list[Record] = []
        for member_id in member_ids:
            records += removal_of(group.group_id, member_id)
        done = rebalance(group, left, self._around, share=group.share, now_ms=now_ms)
        return records + done.records

    def expire(self, now_ms: int, monotonic_ms: int) -> list[Record]:
        """Fence members whose session or whose time to let partitions go is over."""
        found: dict[str, dict[str, None]] = defaultdict(dict)
        for group_id, member_id in self._sessions.passed(monotonic_ms, _MOST_EXPIRED_AT_ONCE):
            found[group_id][member_id] = None
        for group_id, member_id in self._revocations.passed(monotonic_ms, _MOST_EXPIRED_AT_ONCE):
            found[group_id][member_id] = None
        records: list[Record] = []
        for group_id, member_ids in found.items():
            group = self._groups.by_id.get(group_id)
            if group is not None:
                gone = [name for name in member_ids if name in group.members]
                if gone:
                    self.forget_timers(group_id, gone)
                    records += self.remove(group, gone, now_ms)
        return records

    def forget_timers(self, group_id: str, member_ids: Iterable[str]) -> None:
        """Of members that are gone."""
        for member_id in member_ids:
            self._sessions.drop((group_id, member_id))
            self._revocations.drop((group_id, member_id))

    def _leave(self, group: Group, command: Heartbeat, now_ms: int, monotonic_ms: int) -> Outcome:
        member = known_member(group, command.member_id)
        check_instance(group, command.member_id, command.instance_id)
        key = (command.group_id, command.member_id)
        answer = HeartbeatAnswer(command.member_epoch, 0)
        if command.member_epoch != LEAVE_STATIC_EPOCH:
            self.forget_timers(group.group_id, [command.member_id])
            return Outcome(self.remove(group, [command.member_id], now_ms), answer)
        timeout_ms = self._around.settings.of(share=command.share).session_timeout_ms
        self._sessions.renew(key, monotonic_ms + timeout_ms)
        self._revocations.drop(key)
        away = CurrentAssignment(*key, LEAVE_STATIC_EPOCH, LEAVE_STATIC_EPOCH)
        return Outcome([] if member.current == away else [away], answer)

    def _sender(self, group: Group, command: Heartbeat) -> _Sender:
        known: Member | None
        replaced: Member | None = None
        if command.member_epoch == 0:
            known = group.members.get(command.member_id)
            replaced = check_new_member(group, command, known, self._around.settings)
        else:
            known = known_member(group, command.member_id)
            check_instance(group, command.member_id, command.instance_id)
            check_epoch(known.current, command)
        current = CurrentAssignment(command.group_id, command.member_id, 0, 0)
        if known is not None and command.member_epoch:
            current = known.current
        base = known or replaced
        metadata = _merged(base.metadata if base is not None else None, command)
        return _Sender(known, replaced, current, metadata)

    def _step(self, group: Group, command: Heartbeat, sender: _Sender, now_ms: int) -> _Step:
        records: list[Record] = []
        inherited: dict[str, Assignment] = {}
        target: Assignment = sender.known.target if sender.known is not None else {}
        if sender.replaced is not None:
            replaced = sender.replaced
            target = inherited[command.member_id] = replaced.target
            records += removal_of(group.group_id, replaced.metadata.member_id)
            self.forget_timers(group.group_id, [replaced.metadata.member_id])
        if sender.known is None or sender.metadata != sender.known.metadata:
            records.append(sender.metadata)
        if target and sender.known is None:
            records.append(TargetAssignment(group.group_id, command.member_id, target))
        if not self._has_changed(group, sender):
            epoch = group.assignment_epoch
            if command.member_epoch == 0 and sender.known is not None:
                metadata = self._next_epoch(group)
                records.append(metadata)
                epoch = metadata.epoch
            return _Step(target, epoch, records)
        if self._around.topics.by_name is None:
            raise CoordinatorLoadInProgressError("the coordinator does not know the topics yet")
        members = {name: member.metadata for name, member in group.members.items()}
        if sender.replaced is not None:
            del members[sender.replaced.metadata.member_id]
        members[command.member_id] = sender.metadata
        done = rebalance(
            group,
            members,
            self._around,
            share=command.share,
            now_ms=now_ms,
            inherited=inherited,
        )
        return _Step(
            done.targets[command.member_id], done.metadata.assignment_epoch, records + done.records
        )

    @staticmethod
    def _next_epoch(group: Group) -> GroupMetadata:
        """For a member that begins another life; everybody's target stays as it is."""
        metadata = group.metadata
        if metadata is None or metadata.epoch != metadata.assignment_epoch:
            raise CoordinatorLoadInProgressError("the coordinator does not know the topics yet")
        epoch = metadata.epoch + 1
        return msgspec.structs.replace(metadata, epoch=epoch, assignment_epoch=epoch)

    def _has_changed(self, group: Group, sender: _Sender) -> bool:
        """Whether the group needs another target assignment."""
        base = sender.known or sender.replaced
        if base is None or _what_it_wants(base.metadata) != _what_it_wants(sender.metadata):
            return True
        topics = self._around.topics
        if topics.by_name is None or group.checked_topics == topics.version:
            return False
        if is_outdated(group, topics):
            return True
        group.checked_topics = topics.version
        return False

    def _renew_timers(
        self,
        command: Heartbeat,
        sender: _Sender,
        following: CurrentAssignment,
        monotonic_ms: int,
    ) -> None:
        key = (command.group_id, command.member_id)
        timeout_ms = self._around.settings.of(share=command.share).session_timeout_ms
        self._sessions.renew(key, monotonic_ms + timeout_ms)
        if not following.revoking:
            self._revocations.drop(key)
        elif following.revoking != sender.current.revoking or key not in self._revocations:
            limit_ms = sender.metadata.rebalance_timeout_ms
            self._revocations.renew(key, monotonic_ms + limit_ms)


def _what_it_wants(metadata: MemberMetadata) -> tuple[tuple[str, ...], str, str]:
    return metadata.subscribed_topics, metadata.subscribed_pattern, metadata.assignor


def _merged(base: MemberMetadata | None, command: Heartbeat) -> MemberMetadata:
    """What the member has said so far and what it says now."""
    if base is None:
        base = MemberMetadata(command.group_id, command.member_id)
    elif command.member_epoch and _says_nothing_new(command):
        return base
    topics = command.subscribed_topics
    pattern = command.subscribed_pattern
    if command.member_epoch == 0:
        topics, pattern = topics or (), pattern or ""
    return MemberMetadata(
        command.group_id,
        command.member_id,
        command.instance_id or base.instance_id,
        command.client_id or base.client_id,
        command.host or base.host,
        command.rack_id or base.rack_id,
        command.rebalance_timeout_ms
        if command.rebalance_timeout_ms > 0
        else base.rebalance_timeout_ms,
        base.subscribed_topics if topics is None else tuple(sorted(set(topics))),
        base.subscribed_pattern if pattern is None else pattern,
        base.assignor if command.assignor is None else command.assignor,
    )


def _says_nothing_new(command: Heartbeat) -> bool:
    return (
        command.subscribed_topics is None
        and command.subscribed_pattern is None
        and command.assignor is None
        and not command.host
        and not command.rack_id
        and not command.client_id
        and command.rebalance_timeout_ms <= 0
    )
