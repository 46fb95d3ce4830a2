"""The group machine: commands in, records and answers out, replay as the only mutator.

Rules:
- ``handle`` looks at the state and changes nothing but timers, and what it remembers of the topics;
  ``replay`` applies records and decides nothing.
- Everything durable is in the records: epochs and assignments are not recomputed by a replay.
- A change of a group is assigned once, when it happens; nothing is looked at again and again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from raykafka.errors import InvalidRequestError
from raykafka.group import administration, offsets
from raykafka.group.commands import (
    CommitOffsets,
    CommitPendingOffsets,
    DeleteGroups,
    DeleteOffsets,
    DescribeGroups,
    EndTransaction,
    FetchOffsets,
    Heartbeat,
    ListGroups,
    Outcome,
    RemoveMembers,
    UpdateTopics,
)
from raykafka.group.membership import Membership
from raykafka.group.reconciliation import has_news
from raykafka.group.records import GroupRemoved, ProducerForgotten, Record, decode, encode
from raykafka.group.settings import GroupSettings
from raykafka.group.state import Group, Groups
from raykafka.group.targets import Surroundings, is_outdated, rebalance
from raykafka.group.topics import Topics

_GROUPS_AT_ONCE: Final = 200
"""Groups that one command or tick looks at for new topics or expired offsets."""
_LONGEST_GAP_MS: Final = 2000
"""Between two ticks of a coordinator that runs as it should; a third of a session, if longer."""


def _nobody_listens(group_id: str, member_id: str) -> None:
    """Most tests have no heartbeats that wait."""


def _nobody_reads(problem: str) -> None:
    """Likewise for logs."""


class GroupMachine:
    """The groups of one partition of ``__consumer_offsets``. Pure: no clock, no randomness, no I/O.

    A heartbeat may be held back by the shell: ``on_news`` tells of the members whose heartbeat is
    worth another look, see ``has_news``.
    """

    def __init__(
        self,
        settings: GroupSettings,
        *,
        on_news: Callable[[str, str], None] = _nobody_listens,
        on_problem: Callable[[str], None] = _nobody_reads,
    ) -> None:
        self.groups = Groups(on_news)
        self._around = Surroundings(settings, Topics(), on_problem)
        self._membership = Membership(self.groups, self._around)
        self._to_check: deque[str] = deque()
        """Groups that may have to be assigned anew, because the topics have changed."""
        self._to_expire: deque[str] = deque()
        """Groups whose offsets have yet to be looked at in this round."""
        self._next_round_ms: int | None = None
        self._last_tick_ms: int | None = None

    def handle(self, command: Any, *, now_ms: int, monotonic_ms: int) -> Outcome:
        """What ``command`` leads to; raises a ``RaykafkaError`` where it leads nowhere."""
        handler = _HANDLERS.get(type(command))
        if handler is None:
            raise InvalidRequestError(f"{type(command).__name__} is not for groups")
        return handler(self, command, now_ms, monotonic_ms)

    def replay(self, records: Iterable[Record]) -> None:
        """Bring the state up to date."""
        replay = self.groups.replay
        for record in records:
            replay(record)

    def on_loaded(self, *, now_ms: int, monotonic_ms: int) -> None:
        """Every session begins now."""
        self._membership.restart_timers(monotonic_ms)
        self._last_tick_ms = monotonic_ms

    def on_tick(self, *, now_ms: int, monotonic_ms: int) -> Outcome:
        """Sessions and offsets that have run out, and groups that new topics concern.

        Costs nothing while there is nothing to do. A coordinator that was itself away, as a process
        that was suspended, lets every session begin anew.
        """
        last_ms, self._last_tick_ms = self._last_tick_ms, monotonic_ms
        if last_ms is not None and monotonic_ms - last_ms > self._longest_gap_ms():
            self._membership.restart_timers(monotonic_ms)
            return Outcome([], None)
        records = self._membership.expire(now_ms, monotonic_ms)
        if not records:
            # Decisions about one group rest on its state, so one tick decides about it once.
            records = self._check_topics(now_ms)
        if not records:
            records = self._expire_offsets(now_ms, monotonic_ms)
        return Outcome(records, None)

    def snapshot(self) -> list[Record]:
        """Records that make an empty machine equal to this one, one for each key."""
        return self.groups.records()

    def has_news(self, group_id: str, member_id: str) -> bool:
        """Whether a heartbeat of the member would now be answered otherwise than before."""
        group = self.groups.by_id.get(group_id)
        return group is None or has_news(group, member_id)

    def session_timeout_ms(self, *, share: bool) -> int:
        """How long a member may be silent."""
        return self._around.settings.of(share=share).session_timeout_ms

    @staticmethod
    def encode(record: Record) -> tuple[bytes, bytes | None]:
        """A record as it is written: key and value."""
        return encode(record)

    @staticmethod
    def decode(key: bytes, value: bytes | None) -> Record:
        """The reverse of ``encode``."""
        return decode(key, value)

    # --- inside -----------------------------------------------------------------------------------

    def _longest_gap_ms(self) -> int:
        settings = self._around.settings
        shortest_ms = min(settings.consumer.session_timeout_ms, settings.share.session_timeout_ms)
        return max(_LONGEST_GAP_MS, shortest_ms // 3)

    def _update_topics(self, command: UpdateTopics, now_ms: int) -> Outcome:
        topics = self._around.topics
        if not topics.update(command.topics):
            return Outcome([], None)
        used = {
            member.metadata.subscribed_pattern
            for group in self.groups.by_id.values()
            for member in group.members.values()
        }
        topics.keep_patterns(used)
        self._to_check = deque(name for name, group in self.groups.by_id.items() if group.members)
        return Outcome(self._check_topics(now_ms), None)

    def _check_topics(self, now_ms: int) -> list[Record]:
        records: list[Record] = []
        topics = self._around.topics
        for _ in range(min(_GROUPS_AT_ONCE, len(self._to_check))):
            group = self.groups.by_id.get(self._to_check.popleft())
            if group is None or not group.members or group.checked_topics == topics.version:
                continue
            if not is_outdated(group, topics):
                group.checked_topics = topics.version
                continue
            members = {name: member.metadata for name, member in group.members.items()}
            done = rebalance(group, members, self._around, share=group.share, now_ms=now_ms)
            records += done.records
        return records

    def _expire_offsets(self, now_ms: int, monotonic_ms: int) -> list[Record]:
        settings = self._around.settings
        if self._next_round_ms is None:
            self._next_round_ms = monotonic_ms + settings.offsets_retention_check_interval_ms
        if monotonic_ms >= self._next_round_ms:
            self._next_round_ms = monotonic_ms + settings.offsets_retention_check_interval_ms
            self._to_expire = deque(self.groups.by_id)
            forgotten_ms = now_ms - settings.producer_id_expiration_ms
            return [
                ProducerForgotten(producer_id)
                for producer_id, ended in self.groups.ended.items()
                if ended.ended_ms <= forgotten_ms
            ]
        records: list[Record] = []
        for _ in range(min(_GROUPS_AT_ONCE, len(self._to_expire))):
            group = self.groups.by_id.get(self._to_expire.popleft())
            if group is not None:
                records += self._expire_group(group, now_ms)
        return records

    def _expire_group(self, group: Group, now_ms: int) -> list[Record]:
        records = offsets.expired(group, self._around, now_ms)
        metadata = group.metadata
        nothing_left = len(records) == len(group.offsets) and not group.pending
        if metadata is None or group.members or not nothing_left:
            return records
        if metadata.empty_since_ms <= now_ms - self._around.settings.offsets_retention_ms:
            records.append(GroupRemoved(group.group_id))
        return records


_Handler = Callable[[GroupMachine, Any, int, int], Outcome]

_HANDLERS: Final[Mapping[type, _Handler]] = {
    UpdateTopics: lambda it, command, now_ms, _: it._update_topics(command, now_ms),
    Heartbeat: lambda it, command, now_ms, monotonic_ms: it._membership.heartbeat(
        command, now_ms, monotonic_ms
    ),
    CommitOffsets: lambda it, command, now_ms, _: offsets.commit(
        it.groups, it._around, command, now_ms
    ),
    CommitPendingOffsets: lambda it, command, now_ms, _: offsets.commit_pending(
        it.groups, it._around, command, now_ms
    ),
    EndTransaction: lambda it, command, now_ms, _: offsets.end_transaction(
        it.groups, command, now_ms
    ),
    FetchOffsets: lambda it, command, _, __: offsets.fetch(it.groups, command),
    DeleteOffsets: lambda it, command, _, __: offsets.delete(it.groups, it._around, command),
    ListGroups: lambda it, command, _, __: administration.list_groups(it.groups, command),
    DescribeGroups: lambda it, command, _, __: administration.describe_groups(
        it.groups, it._around.topics, command
    ),
    DeleteGroups: lambda it, command, _, __: administration.delete_groups(it.groups, command),
    RemoveMembers: lambda it, command, now_ms, _: administration.remove_members(
        it.groups, it._membership, command, now_ms
    ),
}
