"""Quorums under faults, seed by seed (Kafka's ``RaftEventSimulationTest``)."""

from __future__ import annotations

import random

import pytest
from quorum_chaos import chaos, load, settle
from quorum_kit import Quorum

from raykafka.quorum import events
from raykafka.quorum.voters import Voter

SEEDS = range(12)


@pytest.mark.parametrize("voters", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_leader_is_elected(seed: int, voters: int) -> None:
    quorum = Quorum(seed, voters)
    quorum.elected()
    load(quorum, 500)
    assert len(quorum.committed) > 5
    settle(quorum)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_dead_leader_is_replaced_at_once(seed: int) -> None:
    quorum = Quorum(seed)
    leader = quorum.elected()
    load(quorum, 200)
    quorum.kill(leader)
    died_ms = quorum.now_ms
    quorum.until(lambda: quorum.leader() not in (None, leader))
    assert quorum.now_ms - died_ms < 150, "the end of its connections tells, not a timeout"
    load(quorum, 200, 1000)
    settle(quorum)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_paused_leader_is_replaced_and_cannot_commit(seed: int) -> None:
    quorum = Quorum(seed)
    leader = quorum.elected()
    load(quorum, 200)
    leader.pause()
    quorum.until(lambda: quorum.leader() not in (None, leader))
    load(quorum, 200, 1000)
    leader.go_on()
    load(quorum, 200, 2000)
    settle(quorum)


@pytest.mark.parametrize("seed", SEEDS)
def test_all_are_killed_and_started_again(seed: int) -> None:
    quorum = Quorum(seed)
    quorum.elected()
    for round_ in range(4):
        load(quorum, 300, round_ * 1000)
        for node in quorum.living():
            quorum.kill(node)
        quorum.run(quorum.chance.randint(0, 300))
        quorum.heal()
    settle(quorum)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_leader_that_is_cut_off_resigns(seed: int) -> None:
    quorum = Quorum(seed)
    leader = quorum.elected()
    load(quorum, 200)
    quorum.isolate(leader)
    load(quorum, 1500, 1000)
    assert leader.machine is not None
    assert leader.machine.leading is None, "it heard no majority"
    assert quorum.leader() not in (None, leader)
    settle(quorum)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_replica_that_was_away_disturbs_nobody(seed: int) -> None:
    quorum = Quorum(seed)
    leader = quorum.elected()
    other = next(node for node in quorum.nodes if node is not leader)
    quorum.isolate(other)
    load(quorum, 1000)
    assert leader.machine is not None
    epoch = leader.machine.epoch
    quorum.heal()
    load(quorum, 500, 1000)
    assert quorum.leader() is leader
    assert leader.machine.epoch == epoch
    settle(quorum)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_lost_disk_is_filled_again(seed: int) -> None:
    quorum = Quorum(seed)
    leader = quorum.elected()
    load(quorum, 500)
    lost = quorum.chance.choice(quorum.nodes)
    quorum.kill(lost)
    lost.lose_disk()
    load(quorum, 300, 1000)
    for node in quorum.living():
        node.take_snapshot()
    lost.start()
    load(quorum, 300, 2000)
    assert lost.machine is not None
    assert not lost.machine.is_voter, "its vote went with its disk"
    settle(quorum)
    assert lost.machine.is_voter
    assert leader.machine is not None or lost is leader


@pytest.mark.parametrize("seed", SEEDS)
def test_voters_come_and_go(seed: int) -> None:
    quorum = Quorum(seed, 1)
    quorum.elected()
    for _ in range(4):
        quorum.add_node()
        load(quorum, 300, quorum.now_ms)
        quorum.until(quorum.mend_voters)
    for _ in range(4):
        gone = quorum.chance.choice(quorum.nodes)
        key = gone.key

        def is_gone() -> bool:
            leader = quorum.leader()
            if leader is None or leader.machine is None:
                return False
            voters = leader.machine.log.voters
            if voters.voters.holds(key):  # noqa: B023
                quorum.ask(events.RemoveVoter(key))  # noqa: B023
                return False
            return voters.offset < leader.machine.high_watermark

        quorum.until(is_gone)
        quorum.kill(gone)
        quorum.nodes.remove(gone)
        load(quorum, 300, quorum.now_ms)
    settle(quorum)
    assert len(quorum.nodes) == 1


@pytest.mark.parametrize("seed", range(60))
def test_chaos(seed: int) -> None:
    quorum = Quorum(seed, random.Random(seed).choice([3, 3, 5]), lossy=True)
    chaos(quorum, 25)
    settle(quorum)


def test_the_same_seed_tells_the_same_story() -> None:
    stories = []
    for _ in range(2):
        quorum = Quorum(7, lossy=True)
        chaos(quorum, 15)
        stories.append((quorum.steps, quorum.committed, quorum.leaders))
    assert stories[0] == stories[1]


def test_voters_are_not_added_before_they_have_caught_up() -> None:
    quorum = Quorum(1, 1)
    leader = quorum.elected()
    load(quorum, 500)
    assert quorum.ask(events.AddVoter(Voter(9, "nowhere")))
    load(quorum, 500, 1000)
    assert leader.machine is not None
    assert len(leader.machine.voters.voters) == 1, "it never came, so it does not count"
    assert quorum.ask(events.RemoveVoter(Voter(9, "nowhere").key))
    settle(quorum)
