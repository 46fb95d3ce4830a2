"""Rounds in which things happen to a group, and what is checked of its rebalances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from group_world import GROUP, SESSION_MS, World, topics_of

from raykafka.group.assignment import Pair, pairs
from raykafka.group.records import GroupMetadata, TargetAssignment


class StickinessCheck:
    """Every rebalance moves as few partitions as balance allows, or one more at most."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.rebalances = 0

    def __call__(self, records: Sequence[Any]) -> None:
        metadata = [record for record in records if isinstance(record, GroupMetadata)]
        assert len(metadata) <= 1, "one rebalance for one change"
        targets = [record for record in records if isinstance(record, TargetAssignment)]
        group = self._world.coordinator.machine.groups.by_id.get(GROUP)
        if not metadata or group is None or not targets:
            return
        self.rebalances += 1
        gone = {record.member_id for record in records if type(record).__name__ == "MemberRemoved"}
        before = {name: member.target for name, member in group.members.items()}
        after = {name: target for name, target in before.items() if name not in gone}
        heirs = [record for record in targets if record.member_id not in before and gone]
        for record in targets:
            after[record.member_id] = record.partitions
        if heirs and len(gone) == 1:  # a static member's successor inherits
            before[heirs[0].member_id] = before.pop(next(iter(gone)))
            gone = set()
        subscriptions = {
            member.topics for member in self._world.members if member.member_id in after
        }
        if len(subscriptions) > 1:
            return
        self._judge(before, after, gone)

    @staticmethod
    def _judge(before: dict[str, Any], after: dict[str, Any], gone: set[str]) -> None:
        now: dict[Pair, str] = {}
        for name, target in after.items():
            for pair in pairs(target):
                assert now.setdefault(pair, name) == name
        old = {pair: name for name, target in before.items() for pair in pairs(target)}
        kept = {
            name: sum(1 for pair, owner in old.items() if owner == name and pair in now)
            for name in after
        }
        moves = sum(1 for pair, name in now.items() if old.get(pair) != name)
        base, larger = divmod(len(now), len(after))
        shares = [base + 1] * larger + [base] * (len(after) - larger)
        loads = sorted((sum(map(len, target.values())) for target in after.values()), reverse=True)
        assert loads == shares, "balanced"
        stays = sum(
            min(count, share)
            for count, share in zip(sorted(kept.values(), reverse=True), shares, strict=True)
        )
        assert moves <= len(now) - stays + 1


def one_event(world: World) -> None:
    """Something happens to a member, the topics or the coordinator."""
    random = world.random
    alive = [member for member in world.members if member.alive]
    event = random.random()
    if event < 0.25 and len(alive) < 8:
        world.join(random.choice(["", "", "a", "b", "c"]))
    elif event < 0.40 and alive:
        random.choice(alive).alive = False
    elif event < 0.55 and alive:
        pause_ms = random.choice([300, 1500, SESSION_MS + 500, 2 * SESSION_MS])
        random.choice(alive).paused_until_ms = world.now_ms + pause_ms
    elif event < 0.70 and alive:
        member = random.choice(alive)
        world.leave(member, -2 if member.instance_id and random.random() < 0.7 else -1)
    elif event < 0.75 and sum(world.counts.values()) < 24:
        topic = random.choice(sorted(world.counts))
        world.counts[topic] += 1
        world.coordinator.update_topics(topics_of(world.counts))
    elif event < 0.80 and alive:
        random.choice(alive).longest_release_ms = random.choice([0, 700, 6000])
    else:
        world.coordinator.fail_over()


def settle(world: World, limit_ms: int) -> int:
    """Quiet time until everybody has what the target gives."""
    begin_ms = world.now_ms
    while not world.is_settled():
        assert world.now_ms - begin_ms < limit_ms, world.describe()
        world.step(50)
    return world.now_ms - begin_ms


def quiet(world: World) -> None:
    """Nothing happens from now on; those that were fenced or paused come back."""
    for member in world.members:
        member.paused_until_ms = 0
        member.longest_release_ms = 0
        member.release_at_ms = min(member.release_at_ms, world.now_ms)
    world.coordinator.update_topics(topics_of(world.counts))


def one_round(seed: int) -> int:
    """Chaos from ``seed``, then quiet until the group has settled; how often it was assigned."""
    world = World(seed, {"clicks": 7, "views": 4})
    check = StickinessCheck(world)
    world.coordinator.before_replay = check
    for _ in range(world.random.randint(1, 5)):
        world.join()
    world.loss = world.random.choice([0.0, 0.05, 0.2])
    for _ in range(60):
        if world.random.random() < 0.4:
            one_event(world)
        world.step(world.random.choice([20, 100, 400]))
        for member in world.members:
            if world.random.random() < 0.3:
                member.commit()
    world.loss = 0.0
    quiet(world)
    settle(world, 4 * SESSION_MS + 10_000)
    return check.rebalances
