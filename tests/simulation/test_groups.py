"""Groups under kills, pauses, losses and failovers of their coordinator, from seeds."""

from __future__ import annotations

import pytest
from group_rounds import one_round, settle
from group_world import INTERVAL_MS, World

ROUNDS = 200


@pytest.mark.parametrize("block", range(4))
def test_rounds_of_kills_pauses_joins_leaves_and_failovers(block: int) -> None:
    seeds = range(block * ROUNDS // 4, (block + 1) * ROUNDS // 4)
    assert sum(map(one_round, seeds)) > 500, "rebalances"


def test_a_group_of_twenty_settles_soon_after_the_last_change() -> None:
    world = World(1, {"clicks": 60, "views": 40})
    for _ in range(19):
        world.join()
    for member in world.members:
        member.longest_release_ms = 0
    settle(world, 5_000)
    world.join().longest_release_ms = 0
    assert settle(world, 5_000) < 2_000
    world.leave(world.members[3])
    assert settle(world, 5_000) < 2_000


def test_the_others_go_on_while_one_member_moves() -> None:
    world = World(2, {"clicks": 12})
    members = [world.join(topics=("clicks",)) for _ in range(4)]
    settle(world, 5_000)
    held = [set(member.owned) for member in members]
    world.join(topics=("clicks",))
    lost: list[int] = [0] * 4
    for _ in range(40):
        world.step(INTERVAL_MS // 5)
        for index, member in enumerate(members):
            lost[index] = len(held[index] - member.owned)
    assert sum(lost) == 2
    assert max(lost) == 1
