"""``python -m raykafka.testing.membership``: what happens to the members of a real group."""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Final

import click
from rich.console import Console

from raykafka.clock import SystemClock
from raykafka.testing.membership.checking import least_moves, moves, overlaps, ownerships
from raykafka.testing.membership.group import SESSION_MS, Group

SETTLE_S: Final = 20.0
MEMBERS: Final = (2, 6)


class Nemesis:
    """Rounds: one thing happens to the group, then it has to settle."""

    def __init__(self, group: Group, random: Random) -> None:
        self._group = group
        self._random = random
        self._clock = SystemClock()
        self.settle_ms: list[int] = []
        self.actions: Counter[str] = Counter()
        self.extra_moves = 0

    def round(self) -> str:
        """What happened; problems are noted in the group."""
        group, random = self._group, self._random
        low, high = MEMBERS
        actions: list[Callable[[], int]] = [self._pause, self._kill_coordinator, self._storm]
        if len(group.members) < high:
            actions.append(self._join)
        if len(group.members) > low:
            actions += [self._kill, self._leave]
        action = random.choice(actions)
        name = action.__name__.strip("_").replace("_", " ")
        self.actions[name] += 1
        before = group.owners()
        changed_ms = action()
        settled_ms = group.wait_settled(SETTLE_S)
        if settled_ms is None:
            owned = {member.name: member.owned for member in group.members}
            group.problems.append(f"{name}: not settled after {SETTLE_S:g} s: {owned}")
        else:
            if name != "pause":  # it is looked at a while later
                self.settle_ms.append(max(0, settled_ms - changed_ms))
            self._check_moves(name, before)
        group.wait(random.uniform(0.1, 0.6))
        group.check_committed()
        return name

    def _check_moves(self, name: str, before: dict[int, str]) -> None:
        group = self._group
        if name in ("pause", "storm") or len(before) != group.partitions:
            return
        there = {member.name for member in group.members}
        counts = Counter(owner for owner in before.values() if owner in there)
        moved = moves(before, group.owners())
        least = least_moves(counts, there, group.partitions)
        self.extra_moves += max(0, moved - least)
        if moved > least + 1:
            group.problems.append(f"{name}: {moved} partitions moved, {least} would have done")

    def _join(self) -> int:
        member = self._group.join()
        while not member.events and member.process.is_alive():
            self._group.wait(0.05)
        return member.events[0].at_ms if member.events else self._clock.monotonic_ms()

    def _kill(self) -> int:
        member = self._random.choice(self._group.members)
        self._group.remove(member, member.kill)
        return self._clock.monotonic_ms() + SESSION_MS

    def _leave(self) -> int:
        member = self._random.choice(self._group.members)
        asked_ms = self._clock.monotonic_ms()
        self._group.remove(member, member.leave)
        return asked_ms

    def _pause(self) -> int:
        member = self._random.choice(self._group.members)
        member.pause()
        self._group.wait(self._random.uniform(0.5, 2.5 * SESSION_MS / 1000))
        member.resume()
        resumed_ms = self._clock.monotonic_ms()
        self._group.wait(1.0)  # what it polled before is not what it owns now
        return resumed_ms

    def _storm(self) -> int:
        """Several things at once: none of them finds the group settled."""
        group, random = self._group, self._random
        if len(group.members) < MEMBERS[1]:
            group.join()
        group.wait(random.uniform(0.0, 0.6))
        self._kill_coordinator()
        if len(group.members) > MEMBERS[0] and random.random() < 0.5:
            self._leave()
        if len(group.members) > MEMBERS[0]:
            self._kill()
        group.wait(random.uniform(0.0, 0.1))
        self._kill_coordinator()
        if len(group.members) < MEMBERS[1]:
            self._join()
        return self._clock.monotonic_ms() + SESSION_MS

    def _kill_coordinator(self) -> int:
        self._group.kill_coordinator()
        return self._clock.monotonic_ms()


@click.command()
@click.option("--rounds", default=200, show_default=True)
@click.option("--seed", default=1, show_default=True, help="What happens to whom, and when.")
@click.option("--partitions", default=12, show_default=True)
def main(rounds: int, seed: int, partitions: int) -> None:
    """Kill, pause, join and leave members of a group and kill its coordinator; exit with 1 when two
    members owned a partition at the same time, a committed offset went back, the group did not
    settle, or more partitions moved than had to, and one.
    """
    console = Console(stderr=True)
    with (
        tempfile.TemporaryDirectory(prefix="rkg") as directory,
        Group(directory, partitions) as group,
    ):
        nemesis = Nemesis(group, Random(f"membership {seed}"))
        for _ in range(3):
            group.join()
        if group.wait_settled(60.0) is None:
            raise click.ClickException("the group did not settle at the start")
        for number in range(1, rounds + 1):
            what = nemesis.round()
            console.print(
                f"round {number}/{rounds}: {what}; {len(group.members)} members,"
                f" {len(group.problems)} problems",
                highlight=False,
            )
        everybody = [*group.members, *group.gone]
        for member in everybody:
            member.hear()
            member.heard_of_loss()
        owned = ownerships(
            {member.name: member.events for member in everybody},
            {member.name: member.stopped for member in everybody},
        )
        problems = [*group.problems, *overlaps(owned)]
    for problem in problems:
        click.echo(problem)
    settle = sorted(nemesis.settle_ms) or [0]
    actions = ", ".join(f"{count} {name}" for name, count in sorted(nemesis.actions.items()))
    click.echo(
        f"seed {seed}, {rounds} rounds ({actions}), {len(owned)} ownerships,"
        f" settled after {statistics.median(settle):,.0f} ms, worst {settle[-1]:,} ms,"
        f" {nemesis.extra_moves} moves more than necessary: {len(problems)} problems"
    )
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
