"""A group machine whose records are replayed as soon as they are made, through their bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from raykafka.group.assignment import Assignment
from raykafka.group.commands import (
    CommitOffsets,
    CommitPendingOffsets,
    DescribeGroups,
    FetchOffsets,
    GroupDescription,
    Heartbeat,
    HeartbeatAnswer,
    UpdateTopics,
)
from raykafka.group.machine import GroupMachine
from raykafka.group.settings import GroupSettings
from raykafka.group.topics import TopicView

CLICKS = "C" * 32
VIEWS = "V" * 32
TOPICS = {"clicks": TopicView(CLICKS, 4), "views": TopicView(VIEWS, 2)}


class Offset(NamedTuple):
    """What is committed."""

    partition: int
    offset: int
    topic: str = "clicks"
    topic_id: str = CLICKS
    leader_epoch: int = -1
    metadata: str = ""


class GroupBench:
    """``bench.join("g", "m")``, ``bench.beat("g", "m", 1)``; time is ``now_ms``."""

    def __init__(
        self,
        settings: GroupSettings | None = None,
        topics: Mapping[str, TopicView] | None = TOPICS,
    ) -> None:
        self.settings = settings or GroupSettings()
        self.now_ms = 1_000_000
        self.log: list[tuple[bytes, bytes | None]] = []
        self.last: Sequence[Any] = []
        """Records of the last command or tick."""
        self.news: list[tuple[str, str]] = []
        self.problems: list[str] = []
        self.machine = self.new_machine()
        self.machine.on_loaded(now_ms=self.now_ms, monotonic_ms=self.now_ms)
        if topics is not None:
            self.submit(UpdateTopics(topics))

    def new_machine(self) -> GroupMachine:
        """An empty one."""
        return GroupMachine(
            self.settings,
            on_news=lambda group_id, member_id: self.news.append((group_id, member_id)),
            on_problem=self.problems.append,
        )

    def restart(self, topics: Mapping[str, TopicView] | None = TOPICS) -> None:
        """Another machine on the same log."""
        self.machine = self.new_machine()
        self.machine.replay([self.machine.decode(key, value) for key, value in self.log])
        self.machine.on_loaded(now_ms=self.now_ms, monotonic_ms=self.now_ms)
        if topics is not None:
            self.submit(UpdateTopics(topics))

    def submit(self, command: Any) -> Any:
        """The answer."""
        outcome = self.machine.handle(command, now_ms=self.now_ms, monotonic_ms=self.now_ms)
        self._replay(outcome.records)
        return outcome.answer

    def tick(self, ms: int = 0) -> None:
        """Time goes on, in steps in which a coordinator looks at it."""
        for _ in range(0, ms, 10_000):
            self._tick(min(10_000, ms))
        self._tick(0)

    def _tick(self, ms: int) -> None:
        self.now_ms += ms
        outcome = self.machine.on_tick(now_ms=self.now_ms, monotonic_ms=self.now_ms)
        self._replay(outcome.records)

    def _replay(self, records: Sequence[Any]) -> None:
        self.last = records
        encoded = [self.machine.encode(record) for record in records]
        self.log += encoded
        decoded = [self.machine.decode(key, value) for key, value in encoded]
        assert decoded == list(records)
        self.machine.replay(decoded)

    def join(self, group: str, member: str, *topics: str, **said: Any) -> HeartbeatAnswer:
        """A heartbeat with epoch 0; ``clicks`` unless topics are named."""
        said.setdefault("subscribed_topics", topics or ("clicks",))
        answer: HeartbeatAnswer = self.submit(Heartbeat(group, member, 0, **said))
        return answer

    def beat(self, group: str, member: str, epoch: int, **said: Any) -> HeartbeatAnswer:
        """Any other heartbeat."""
        answer: HeartbeatAnswer = self.submit(Heartbeat(group, member, epoch, **said))
        return answer

    def settle(self, group: str, *members: str) -> None:
        """Heartbeats until everybody has what the target gives."""
        for _ in range(4):
            for member in members:
                known = self.machine.groups.by_id[group].members[member]
                epoch = known.current.member_epoch
                self.beat(group, member, epoch, owned=known.current.assigned)

    def epoch(self, group: str, member: str) -> int:
        """Of the member."""
        return self.machine.groups.by_id[group].members[member].current.member_epoch

    def owned(self, group: str) -> dict[str, Assignment]:
        """Of every member."""
        members = self.machine.groups.by_id[group].members
        return {name: member.current.assigned for name, member in members.items()}

    def describe(self, group: str) -> GroupDescription:
        """One group."""
        (found,) = self.submit(DescribeGroups([group]))
        if isinstance(found, Exception):
            raise found
        assert isinstance(found, GroupDescription)
        return found

    def commit(self, group: str, *offsets: Offset, **by: Any) -> Any:
        """The errors, one for each offset."""
        return self.submit(CommitOffsets(group, offsets, **by))

    def commit_pending(
        self, group: str, producer_id: int, epoch: int, *offsets: Offset, **by: Any
    ) -> Any:
        """The errors, one for each offset."""
        return self.submit(CommitPendingOffsets(group, producer_id, epoch, offsets, **by))

    def committed(self, group: str, partition: int = 0, topic: str = "clicks") -> int | None:
        """The offset, None for none."""
        (found,) = self.submit(FetchOffsets(group, [(topic, partition)]))
        return found.committed.offset if found.committed is not None else None
