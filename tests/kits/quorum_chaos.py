"""Faults for a ``quorum_kit.Quorum``, chosen by its seed."""

from __future__ import annotations

from quorum_kit import Node, Quorum


def load(quorum: Quorum, duration_ms: int, first: int = 0) -> None:
    """Append while time goes by."""
    end = quorum.now_ms + duration_ms
    value = first
    while quorum.now_ms < end:
        for node in quorum.living():
            leads = node.machine is not None and node.machine.leading
            if leads and not node.paused and not node.queue:
                node.append(value := value + 1)
        quorum.run(quorum.chance.randint(1, 30))


def settle(quorum: Quorum) -> None:
    """Heal everything, then all must agree on all."""
    quorum.lossy = False
    quorum.heal()
    quorum.until(quorum.mend_voters, 30_000)
    quorum.commit(-1)
    quorum.run(500)
    quorum.check_converged()


def chaos(quorum: Quorum, rounds: int) -> None:
    """Any fault at any time, but a majority's disks always stay."""
    chance = quorum.chance
    quorum.lossy = True
    for _ in range(rounds):
        load(quorum, chance.randint(20, 300), quorum.now_ms * 10)
        _FAULTS[chance.randrange(len(_FAULTS))](quorum, chance.choice(quorum.nodes))


def _kill(quorum: Quorum, node: Node) -> None:
    if node.machine is not None:
        quorum.kill(node)


def _storm(quorum: Quorum, _: Node) -> None:
    """One after the other dies and is back at once, in the middle of elections, too."""
    _kill_leader(quorum, _)
    for _ in range(8):
        node = quorum.chance.choice(quorum.nodes)
        _kill(quorum, node)
        node.start()
        quorum.run(quorum.chance.randint(1, 20))


def _revive(quorum: Quorum, node: Node) -> None:
    if node.machine is None:
        node.start()


def _revive_all(quorum: Quorum, _: Node) -> None:
    quorum.heal()


def _pause(quorum: Quorum, node: Node) -> None:
    if node.machine is not None and not node.paused:
        node.pause()


def _go_on(quorum: Quorum, node: Node) -> None:
    if node.paused and node.machine is not None:
        node.go_on()


def _cut_off(quorum: Quorum, node: Node) -> None:
    quorum.isolate(node)


def _cut_one(quorum: Quorum, node: Node) -> None:
    quorum.cut.add(frozenset((node.id, quorum.chance.choice(quorum.nodes).id)))


def _mend(quorum: Quorum, _: Node) -> None:
    quorum.cut.clear()
    quorum.mend_voters()


def _snapshot(quorum: Quorum, node: Node) -> None:
    if not node.paused:
        node.take_snapshot()


def _kill_leader(quorum: Quorum, _: Node) -> None:
    leader = quorum.leader()
    if leader is not None:
        quorum.kill(leader)


def _lose_disk(quorum: Quorum, node: Node) -> None:
    keys = {each.key for each in quorum.nodes}
    known = [each.machine.voters.keys for each in quorum.living() if each.machine]
    if len(known) == len(keys) >= 3 and all(voters == keys for voters in known):
        quorum.kill(node)
        node.lose_disk()


_FAULTS = [
    _kill, _revive, _revive_all, _pause, _go_on, _cut_off, _cut_one, _mend, _mend, _snapshot,
    _kill_leader, _lose_disk, _storm,
]  # fmt: skip
