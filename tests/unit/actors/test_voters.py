"""Several shells, one log: answers wait for a majority, and any one of them may be lost."""

from __future__ import annotations

import asyncio

import pytest
from shell_kit import Add, until
from voters_kit import TIMING, Voters

from raykafka import errors
from raykafka.actors.quorum import links
from raykafka.actors.quorum.files import parse_snapshot_name
from raykafka.actors.shell import ShellState, SnapshotPolicy
from raykafka.model import Endpoint


def converged(voters: Voters, total: int) -> bool:
    living = [each for each in voters.shells.values() if each.state is not ShellState.CLOSED]
    return all(shell.view == total for shell in living)


def test_all_voters_follow() -> None:
    async def run() -> None:
        voters = Voters()
        await voters.grow(3)
        for amount in range(1, 11):
            await voters.submit(Add(amount))
        await until(lambda: converged(voters, 55))
        leader = await voters.elected()
        for shell in voters.shells.values():
            if shell is not leader:
                with pytest.raises(errors.NotControllerError, match="controller 0 is"):
                    await shell.submit(Add(1))
        described = leader.server.describe()
        assert described.leader_id == 0
        assert [replica.replica_id for replica in described.replicas] == [0, 1, 2]
        assert [replica.lag for replica in described.replicas] == [0, 0, 0]
        await voters.stop_all()

    asyncio.run(run())


def test_a_dead_leader_is_replaced_with_everything_answered() -> None:
    async def run() -> None:
        voters = Voters()
        await voters.grow(3)
        total = 0
        for _ in range(3):
            for _ in range(20):
                total = await voters.submit(Add(1))
            leader = await voters.elected()
            await voters.kill(leader.node.options.replica_id)
            assert await voters.submit(Add(1)) == total + 1
            await voters.start(leader.node.options.replica_id)
            total += 1
        await until(lambda: converged(voters, total))
        await voters.stop_all()

    asyncio.run(run())


def test_a_leader_that_is_cut_off_answers_nobody() -> None:
    async def run() -> None:
        voters = Voters()
        await voters.grow(3)
        await voters.submit(Add(1))
        old = await voters.elected()
        voters.network.cut_off.add(Endpoint("voter", 9000 + old.node.options.replica_id))
        hanging = [asyncio.ensure_future(old.submit(Add(100))) for _ in range(3)]
        confirming = asyncio.ensure_future(old.node.confirm())
        for result in await asyncio.gather(*hanging, return_exceptions=True):
            assert isinstance(result, errors.NotControllerError)
        with pytest.raises(errors.NotControllerError):
            await confirming
        assert await voters.submit(Add(1)) == 2
        voters.network.cut_off.clear()
        await until(lambda: converged(voters, 2))
        await (await voters.elected()).node.confirm()
        await voters.stop_all()

    asyncio.run(run())


def test_nothing_piles_up_for_a_voter_that_does_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "SILENCE_S", 0.3)

    async def run() -> None:
        voters = Voters()
        await voters.grow(3)
        await voters.submit(Add(1))
        await until(lambda: converged(voters, 1))
        silent = Endpoint("voter", 9002)
        before = [each for each in voters.network.connections if each.target == silent]
        voters.network.cut_off.add(silent)
        await voters.submit(Add(1))
        await until(lambda: all(each.closed for each in before))
        voters.network.cut_off.clear()
        await until(lambda: converged(voters, 2))
        await voters.stop_all()

    asyncio.run(run())


def test_without_a_majority_nothing_is_answered_and_nothing_is_lost() -> None:
    async def run() -> None:
        voters = Voters()
        await voters.grow(3)
        await voters.submit(Add(5))
        for replica_id in (1, 2):
            await voters.kill(replica_id)
        with pytest.raises((errors.NotControllerError, TimeoutError, asyncio.TimeoutError)):
            await asyncio.wait_for(voters.shells[0].submit(Add(1)), 2)
        await until(lambda: voters.shells[0].state is ShellState.FOLLOWING)
        await voters.start(2)
        assert await voters.submit(Add(0)) in (5, 6), "it may have been committed after all"
        await voters.stop_all()

    asyncio.run(run())


@pytest.mark.parametrize("lost", [0, 2])
def test_a_lost_disk_is_filled_from_a_snapshot(lost: int) -> None:
    async def run() -> None:
        voters = Voters(snapshots=SnapshotPolicy(records=10))
        await voters.grow(3)
        for _ in range(35):
            await voters.submit(Add(1))
        await voters.kill(lost)
        del voters.stores[lost]
        for _ in range(35):
            await voters.submit(Add(1))
        again = await voters.start(lost)
        assert not again.node.machine.is_voter
        await voters.add(lost)
        await until(lambda: converged(voters, 70))
        assert again.node.machine.is_voter
        assert again.node.log.start.offset > 0, "the log has no beginning any more"
        for replica_id in voters.shells:
            await voters.kill(replica_id)
        for replica_id in list(voters.shells):
            await voters.start(replica_id)
        assert await voters.submit(Add(1)) == 71
        await voters.stop_all()

    asyncio.run(run())


def test_the_log_is_replaced_by_snapshots() -> None:
    async def run() -> None:
        voters = Voters(snapshots=SnapshotPolicy(records=10))
        shell = await voters.start(0)
        for _ in range(100):
            await voters.submit(Add(1))
        await until(lambda: shell.node.log.start.offset > 80)
        files = voters.stores[0].list("state-0.quorum/")
        snapshots = [name for name in files if parse_snapshot_name(name.rpartition("/")[2])]
        assert len(snapshots) == 1, "older ones are deleted"
        await voters.kill(0)
        again = await voters.start(0)
        await until(lambda: again.view == 100)
        await voters.kill(0)
        voters.stores[0].corrupt(snapshots[-1], 30)
        with pytest.raises(errors.LogDamagedError, match="remove it: they fill it again"):
            await voters.start(0)
        voters.stores[0].corrupt(snapshots[-1], 30)
        healed = await voters.start(0)
        await until(lambda: healed.view == 100)
        await voters.stop_all()

    asyncio.run(run())


def test_a_log_without_its_vote_is_refused() -> None:
    async def run() -> None:
        voters = Voters()
        await voters.start(0)
        await voters.submit(Add(1))
        await voters.kill(0)
        voters.stores[0].delete("state-0.quorum/quorum-state")
        with pytest.raises(errors.LogDamagedError, match="what this replica has voted"):
            await voters.start(0)

    asyncio.run(run())


def test_a_clean_end_hands_the_lead_on() -> None:
    async def run() -> None:
        patient = TIMING._replace(fetch_timeout_ms=60_000, election_timeout_ms=60_000)
        voters = Voters(timing=patient)
        await voters.grow(3)
        await voters.submit(Add(1))
        leader = await voters.elected()
        await leader.close()
        await until(voters.active)  # no timeout was waited for
        assert await voters.submit(Add(1)) == 2
        await voters.stop_all()

    asyncio.run(run())
