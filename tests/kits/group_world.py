"""A group, its members and its coordinator, step by step: time and losses are the tests'.

Members behave as the protocol asks: they own what they were given until they have said that it is
gone, and give everything up when they have not been answered for a session. One that does not let
go in time is fenced, and from then on owns nothing, whatever it thinks.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from raykafka.errors import (
    FencedInstanceIdError,
    FencedMemberEpochError,
    NotCoordinatorError,
    RaykafkaError,
    UnknownMemberIdError,
    UnreleasedInstanceIdError,
)
from raykafka.group.assignment import Assignment, Pair, from_pairs, pairs
from raykafka.group.commands import (
    CommitOffsets,
    FetchOffsets,
    Heartbeat,
    HeartbeatAnswer,
    UpdateTopics,
)
from raykafka.group.machine import GroupMachine
from raykafka.group.records import OffsetCommitted, decode
from raykafka.group.settings import GroupSettings, KindSettings
from raykafka.group.states import GroupState, state_of
from raykafka.group.topics import TopicView

GROUP = "readers"
SESSION_MS = 3000
INTERVAL_MS = 500
REBALANCE_MS = 4000

OnAnswer = Callable[[Any], None]
"""Called with the answer or the error."""


class Offset(NamedTuple):
    """What is committed."""

    topic: str
    topic_id: str
    partition: int
    offset: int
    leader_epoch: int = 3
    metadata: str = "by hand"


def topics_of(counts: dict[str, int]) -> dict[str, TopicView]:
    """Topics whose ids are their names in capitals."""
    return {
        name: TopicView(name.upper(), count, [f"host-{index % 3}" for index in range(count)])
        for name, count in counts.items()
    }


class Coordinator:
    """A machine, its log and what of it is committed."""

    def __init__(self, settings: GroupSettings, random_: random.Random) -> None:
        self.settings = settings
        self.random = random_
        self.now_ms = 1_000_000
        self.committed: list[tuple[bytes, bytes | None]] = []
        self._tail: list[tuple[list[tuple[bytes, bytes | None]], OnAnswer, Any]] = []
        self.topics: dict[str, TopicView] = {}
        self.offsets: dict[tuple[str, int], int] = {}
        self.news: set[str] = set()
        self.before_replay: Callable[[Sequence[Any]], None] = lambda records: None
        self.machine = self._new_machine()
        self.assignments_made = 0

    def _new_machine(self) -> GroupMachine:
        return GroupMachine(self.settings, on_news=lambda _, member_id: self.news.add(member_id))

    def submit(self, command: Any, on_answer: OnAnswer = lambda _: None) -> None:
        """Handle; the answer comes when everything it rests on is committed."""
        try:
            outcome = self.machine.handle(
                command, now_ms=self.now_ms, monotonic_ms=self.now_ms + 77
            )
        except RaykafkaError as error:
            on_answer(error)
            return
        self._append(outcome.records, on_answer, outcome.answer)

    def tick(self) -> None:
        """What has run out."""
        outcome = self.machine.on_tick(now_ms=self.now_ms, monotonic_ms=self.now_ms + 77)
        if outcome.records:
            self._append(outcome.records, lambda _: None, None)

    def update_topics(self, topics: dict[str, TopicView]) -> None:
        """The cluster has changed."""
        self.topics = topics
        self.submit(UpdateTopics(topics))

    def commit(self) -> None:
        """Everything in the log is committed."""
        tail, self._tail = self._tail, []
        for encoded, on_answer, answer in tail:
            self._keep(encoded)
            on_answer(answer)

    def fail_over(self) -> None:
        """Another coordinator takes over; of what was not committed it has a part, maybe."""
        tail, self._tail = self._tail, []
        kept = self.random.randint(0, len(tail))
        for encoded, _, _ in tail[:kept]:
            self._keep(encoded)
        self.machine = self._new_machine()
        self.news.clear()
        log = self.committed
        if self.random.random() < 0.5:
            log = list({key: (key, value) for key, value in log}.values())
            self.random.shuffle(log)
        self.machine.replay([decode(key, value) for key, value in log])
        self.machine.on_loaded(now_ms=self.now_ms, monotonic_ms=self.now_ms + 77)
        for _, on_answer, _ in tail:
            on_answer(NotCoordinatorError())
        if self.random.random() < 0.8:
            self.submit(UpdateTopics(self.topics))

    def _append(self, records: Sequence[Any], on_answer: OnAnswer, answer: Any) -> None:
        if not records and not self._tail:
            on_answer(answer)
            return
        encoded = [self.machine.encode(record) for record in records]
        assert len({key for key, _ in encoded}) <= len(encoded)
        self.before_replay(records)
        self.machine.replay([decode(key, value) for key, value in encoded])
        self._tail.append((encoded, on_answer, answer))

    def _keep(self, encoded: list[tuple[bytes, bytes | None]]) -> None:
        self.committed += encoded
        for key, value in encoded:
            record = decode(key, value)
            if isinstance(record, OffsetCommitted):
                place = (record.topic, record.partition)
                before = self.offsets.get(place, 0)
                assert record.offset >= before, f"{place} went back: {before} -> {record.offset}"
                self.offsets[place] = record.offset


@dataclass
class Member:
    """A member as a client is to behave."""

    world: World
    member_id: str
    instance_id: str = ""
    topics: tuple[str, ...] = ("clicks", "views")
    host: str = ""
    epoch: int = 0
    owned: set[Pair] = field(default_factory=set)
    releasing: set[Pair] = field(default_factory=set)
    release_at_ms: int = 0
    fenced: bool = False
    """The coordinator has lost patience; the member does not know yet."""
    positions: dict[Pair, int] = field(default_factory=dict)
    alive: bool = True
    paused_until_ms: int = 0
    next_heartbeat_ms: int = 0
    confirmed_ms: int = 0
    """When the last answered heartbeat was sent."""
    say_everything: bool = True
    waits: bool = False
    """For the answer of a heartbeat that is not held."""
    life: int = 0
    """Answers of an earlier life are ignored."""
    longest_release_ms: int = 700

    def owns(self, pair: Pair) -> bool:
        """As far as the member knows, and while it may think so."""
        fresh = self.world.now_ms - self.confirmed_ms < SESSION_MS
        return self.alive and fresh and not self.fenced and pair in self.owned

    def step(self) -> None:
        """Whatever is due."""
        now_ms = self.world.now_ms
        if not self.alive or now_ms < self.paused_until_ms:
            return
        if self.epoch > 0 and now_ms - self.confirmed_ms >= SESSION_MS:
            self.forget()
        if self.releasing and now_ms >= self.release_at_ms:
            self.owned -= self.releasing
            self.releasing = set()
            self.say_everything = True
            self.next_heartbeat_ms = 0
        if not self.waits and now_ms >= self.next_heartbeat_ms:
            self.heartbeat()

    def forget(self) -> None:
        """It was fenced, or may have been."""
        self.fenced = False
        self.owned, self.releasing, self.positions = set(), set(), {}
        self.epoch = 0
        self.life += 1
        self.waits = False
        self.say_everything = True
        self.next_heartbeat_ms = 0

    def heartbeat(self) -> None:
        """Send one, with everything in it where that is needed."""
        everything = self.say_everything or self.epoch == 0
        command = Heartbeat(
            GROUP,
            self.member_id,
            self.epoch,
            self.instance_id,
            host=self.host,
            rebalance_timeout_ms=REBALANCE_MS,
            subscribed_topics=self.topics if everything else None,
            owned=self._owned() if everything and self.epoch else None,
        )
        self.say_everything = False
        self.waits = True
        self.next_heartbeat_ms = self.world.now_ms + INTERVAL_MS
        self.world.send(self, command, self.world.now_ms, self.life)

    def _owned(self) -> Assignment:
        return from_pairs(self.owned)

    def answered(self, command: Heartbeat, sent_ms: int, life: int, answer: Any) -> None:
        """An answer, an error, or ``None`` for a connection that broke."""
        if life != self.life or not self.alive:
            return
        self.waits = False
        if answer is None:
            self.say_everything = True
            return
        if isinstance(answer, (FencedInstanceIdError, UnreleasedInstanceIdError)):
            self.alive = False
            return
        if isinstance(answer, (UnknownMemberIdError, FencedMemberEpochError)):
            self.forget()
            return
        if isinstance(answer, RaykafkaError):
            self.say_everything = True
            return
        assert isinstance(answer, HeartbeatAnswer)
        self.confirmed_ms = max(self.confirmed_ms, sent_ms)
        if answer.member_epoch < self.epoch and answer.assignment is None:
            return  # of a heartbeat that was held while another one overtook it
        assert answer.member_epoch >= self.epoch, "epochs never go back"
        self.epoch = answer.member_epoch
        if answer.assignment is not None:
            self._take(set(pairs(answer.assignment)))

    def _take(self, given: set[Pair]) -> None:
        for pair in given - self.owned:
            self.owned.add(pair)
            self.world.fetch_position(self, pair)
        gone = self.owned - given
        if gone - self.releasing:
            self.release_at_ms = self.world.now_ms + self.world.random.randint(
                0, self.longest_release_ms
            )
        self.releasing = gone

    def commit(self) -> None:
        """Go on a little in everything it owns, and commit."""
        if not self.alive or self.epoch <= 0 or self.world.now_ms < self.paused_until_ms:
            return
        offsets = []
        for pair in sorted(self.owned):
            if pair in self.positions and self.owns(pair):
                self.positions[pair] += self.world.random.randint(0, 5)
                topic = pair[0].lower()
                offsets.append(Offset(topic, pair[0], pair[1], self.positions[pair]))
        if offsets:
            self.world.send_commit(CommitOffsets(GROUP, offsets, self.member_id, self.epoch))


class World:
    """All of it; ``random`` decides what is lost."""

    def __init__(self, seed: int, counts: dict[str, int]) -> None:
        self.random = random.Random(seed)
        consumer = KindSettings(session_timeout_ms=SESSION_MS, heartbeat_interval_ms=INTERVAL_MS)
        self.coordinator = Coordinator(GroupSettings(consumer=consumer), self.random)
        self.counts = dict(counts)
        self.coordinator.update_topics(topics_of(self.counts))
        self.coordinator.commit()
        self.members: list[Member] = []
        self.loss = 0.0
        self._held: dict[str, tuple[Heartbeat, int, int, Any]] = {}
        self._late_commits: list[CommitOffsets] = []
        self._number = 0

    @property
    def now_ms(self) -> int:
        """Of all clocks."""
        return self.coordinator.now_ms

    def join(self, instance_id: str = "", topics: tuple[str, ...] = ("clicks", "views")) -> Member:
        """A new process with a new member id."""
        self._number += 1
        member = Member(
            self,
            f"m{self._number:04}",
            instance_id,
            topics,
            host=f"host-{self._number % 3}",
            confirmed_ms=self.now_ms,
        )
        self.members.append(member)
        return member

    def leave(self, member: Member, epoch: int = -1) -> None:
        """The process ends in order; the farewell may be lost."""
        member.alive = False
        if member.epoch > 0 and self.random.random() >= self.loss:
            self.coordinator.submit(Heartbeat(GROUP, member.member_id, epoch, member.instance_id))

    def send(self, member: Member, command: Heartbeat, sent_ms: int, life: int) -> None:
        """A heartbeat on its way; one that is held is answered first, as nothing has changed."""

        def answered(answer: Any) -> None:
            if self.random.random() < self.loss:
                answer = None
            if isinstance(answer, HeartbeatAnswer) and self._may_hold(command, answer):
                self._held[member.member_id] = (command, sent_ms, life, answer)
                member.waits = False  # another one may overtake it
                member.confirmed_ms = max(member.confirmed_ms, sent_ms)
                return
            member.answered(command, sent_ms, life, answer)

        held = self._held.pop(member.member_id, None)
        if held is not None:
            member.answered(*held)
        if self.random.random() < self.loss:
            member.answered(command, sent_ms, life, None)
            return
        self.coordinator.submit(command, answered)

    def _may_hold(self, command: Heartbeat, answer: HeartbeatAnswer) -> bool:
        quiet = answer.assignment is None and answer.member_epoch == command.member_epoch
        return quiet and self.random.random() < 0.7

    def send_commit(self, command: CommitOffsets) -> None:
        """A commit that is lost, or late, or neither; a member's commits stay in their order."""
        if any(late.member_id == command.member_id for late in self._late_commits):
            return
        chance = self.random.random()
        if chance < self.loss:
            return
        if chance < 2 * self.loss:
            self._late_commits.append(command)
            return
        self.coordinator.submit(command)

    def fetch_position(self, member: Member, pair: Pair) -> None:
        """Where to begin; the member does not commit before it knows."""
        life = member.life

        def answered(found: Any) -> None:
            if life == member.life and pair in member.owned and not isinstance(found, Exception):
                committed = found[0].committed
                member.positions[pair] = committed.offset if committed is not None else 0

        member.positions.pop(pair, None)
        self.coordinator.submit(
            FetchOffsets(GROUP, [(pair[0].lower(), pair[1])]),
            answered,
        )

    def step(self, ms: int) -> None:
        """Time goes on, everybody does what is due, the log is committed."""
        self.coordinator.now_ms += ms
        self.check_owners()
        self._tick()
        for member in self.random.sample(self.members, len(self.members)):
            member.step()
            self.check_owners()
        self._wake_held()
        if self.random.random() >= self.loss:
            self.coordinator.commit()
        self.check_owners()
        if self._late_commits and self.random.random() < 0.5:
            self.coordinator.submit(self._late_commits.pop(0))

    def _tick(self) -> None:
        group = self.coordinator.machine.groups.by_id.get(GROUP)
        members = dict(group.members) if group is not None else {}
        self.coordinator.tick()
        for member in self.members:
            known = members.get(member.member_id)
            if known is not None and group is not None and known.current.revoking:
                member.fenced |= member.member_id not in group.members

    def _wake_held(self) -> None:
        news, self.coordinator.news = self.coordinator.news, set()
        for member_id in sorted(news):
            if member_id in self._held and self.coordinator.machine.has_news(GROUP, member_id):
                command, sent_ms, life, _ = self._held.pop(member_id)
                member = next(one for one in self.members if one.member_id == member_id)
                again = command._replace(owned=None)
                self.coordinator.submit(
                    again,
                    lambda answer, member=member, again=again, sent_ms=sent_ms, life=life: (  # type: ignore[misc]
                        member.answered(again, sent_ms, life, answer)
                    ),
                )

    def check_owners(self) -> None:
        """The promise: one owner at a time."""
        owners: dict[Pair, str] = {}
        for member in self.members:
            for pair in member.owned:
                if member.owns(pair):
                    other = owners.setdefault(pair, member.member_id)
                    assert other == member.member_id, f"{pair}: {other} and {member.member_id}"

    def describe(self) -> str:
        """For a failure's message."""
        group = self.coordinator.machine.groups.by_id.get(GROUP)
        lines = [f"{state_of(group).value}, held: {sorted(self._held)}"]
        lines += [
            f"{member.member_id} {member.instance_id} epoch {member.epoch} waits {member.waits} "
            f"owns {from_pairs(member.owned)} releasing {member.releasing}"
            for member in self.members
            if member.alive
        ]
        for name, known in group.members.items() if group is not None else ():
            lines.append(f"{name}: {known.current} target {known.target}")
        return "\n".join(lines)

    def is_settled(self) -> bool:
        """Whether everybody has what the target gives, and knows it."""
        group = self.coordinator.machine.groups.by_id.get(GROUP)
        alive = [member for member in self.members if member.alive]
        if state_of(group) is not GroupState.STABLE or group is None:
            return not alive and state_of(group) in (GroupState.EMPTY, GroupState.DEAD)
        if {member.member_id for member in alive} != set(group.members):
            return False
        return all(
            not member.releasing
            and from_pairs(member.owned) == group.members[member.member_id].target
            for member in alive
        )
