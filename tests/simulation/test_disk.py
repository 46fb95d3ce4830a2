"""A simulated machine's disk: power cuts, locks, and a directory's marks."""

from __future__ import annotations

import pytest

from raykafka.errors import DiskFullError, InconsistentClusterIdError, LogDirLockedError
from raykafka.testing.simulation.disk import SimulatedDirectory
from raykafka.testing.simulation.hosts import Host, Process
from raykafka.testing.simulation.world import World


def host() -> Host:
    return Host(World(1), 0, "10.0.0.1")


def process(machine: Host, name: str = "p") -> Process:
    return Process(World(1), machine, name)


def test_a_power_cut_keeps_what_was_synced_and_at_most_what_was_written() -> None:
    machine = host()
    store = machine.disk.store("/d")
    store.append("synced", b"a" * 10)
    store.flush("synced")
    store.append("synced", b"b" * 10)
    store.append("never", b"c" * 10)
    machine.crash(power=True)
    kept = bytes(store.read("synced", 0, store.size("synced")))
    assert (b"a" * 10 + b"b" * 10).startswith(kept)
    assert len(kept) >= 10


def test_a_machine_that_crashes_with_its_power_on_keeps_everything() -> None:
    machine = host()
    store = machine.disk.store("/d")
    store.append("f", b"a")
    machine.crash(power=False)
    assert store.size("f") == 1


def test_a_full_disk_takes_nothing_and_still_reads() -> None:
    machine = host()
    store = machine.disk.store("/d")
    store.append("f", b"a")
    machine.disk.full = True
    assert machine.disk.usage("/d").free_bytes == 0
    with pytest.raises(DiskFullError):
        store.append("f", b"b")
    with pytest.raises(DiskFullError):
        store.publish("g", b"b")
    assert bytes(store.read("f", 0, 1)) == b"a"


def test_a_lock_ends_with_its_owner_and_not_before() -> None:
    machine = host()
    first, second = process(machine, "first"), process(machine, "second")
    held = SimulatedDirectory(first, "/d", slot=0)
    held.lock()
    held.lock()
    SimulatedDirectory(second, "/d", slot=1).lock()
    with pytest.raises(LogDirLockedError, match=str(first.pid)):
        SimulatedDirectory(second, "/d", slot=0).lock()
    first.kill()
    successor = SimulatedDirectory(second, "/d", slot=0)
    successor.lock()
    held.unlock(clean=True)  # the dead do not take the lock of the living away
    with pytest.raises(LogDirLockedError):
        SimulatedDirectory(process(machine, "third"), "/d", slot=0).lock()


def test_a_clean_end_is_remembered_once() -> None:
    machine = host()
    owner = process(machine)
    directory = SimulatedDirectory(owner, "/d")
    directory.lock()
    assert not directory.clean_shutdown
    directory.unlock(clean=True)
    directory.lock()
    assert directory.clean_shutdown
    owner.kill()
    after = SimulatedDirectory(process(machine), "/d")
    after.lock()
    assert not after.clean_shutdown


def test_a_directory_knows_whose_it_is() -> None:
    machine = host()
    directory = SimulatedDirectory(process(machine), "/d")
    assert directory.read_meta() is None
    directory.claim("c", 1)
    directory.claim("c", 1)
    with pytest.raises(InconsistentClusterIdError):
        directory.claim("c", 2)
    assert directory.read_private("secret") is None
    directory.write_private("secret", b"s")
    machine.crash(power=True)
    assert directory.read_private("secret") == b"s"
    machine.disk.replace()
    assert directory.read_private("secret") is None
