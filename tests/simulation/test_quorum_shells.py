"""Three shells on one log in virtual time: kills, pauses, cuts, power cuts and lost disks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import NamedTuple

import pytest

from raykafka.actors.machine_log import PartitionMachineLog
from raykafka.actors.ports import ListenerSpec
from raykafka.actors.quorum.options import QuorumOptions
from raykafka.actors.shell import ShellState, SnapshotPolicy, StateMachineShell
from raykafka.errors import RaykafkaError
from raykafka.model import Endpoint, PartitionId, TopicId
from raykafka.quorum.leading import Timing
from raykafka.quorum.voters import Voter
from raykafka.testing.simulation.control import ControlPlane
from raykafka.testing.simulation.hosts import Process
from raykafka.testing.simulation.network import Network
from raykafka.testing.simulation.world import World

PARTITION = PartitionId(TopicId("1" * 32), 0)
PORT = 9000
FAULTS_S = 25.0


class Put(NamedTuple):
    value: int


class Outcome(NamedTuple):
    records: list[int]
    answer: int


class ListMachine:
    """Keeps every value it was given, in order."""

    def __init__(self) -> None:
        self.values: tuple[int, ...] = ()

    def handle(self, command: Put, *, now_ms: int) -> Outcome:
        return Outcome([command.value], len(self.values))

    def replay(self, records: Iterable[int]) -> None:
        self.values += tuple(records)

    def view(self) -> tuple[int, ...]:
        return self.values

    def encode(self, record: int) -> bytes:
        return b"%d" % record

    def decode(self, data: bytes) -> int:
        return int(data)

    def encode_view(self, view: tuple[int, ...]) -> bytes:
        return ",".join(map(str, view)).encode()

    def restore(self, data: bytes) -> None:
        self.values = tuple(map(int, data.split(b",")))


class Trio:
    """Three machines, each with a shell that is started again whenever its process dies."""

    def __init__(self, seed: int) -> None:
        self.world = World(seed)
        self.network = Network(self.world)
        self.plane = ControlPlane(self.world, self.network)
        self.hosts = [self.plane.add_host(f"10.0.0.{number + 1}") for number in range(3)]
        self.shells: dict[int, StateMachineShell[tuple[int, ...]]] = {}
        self.processes: dict[int, Process] = {}
        self.empty: set[int] = {1, 2}
        """Whose disk has nothing of the quorum yet, or no more."""
        self.answered: dict[int, int] = {}
        self.putting: list[asyncio.Future[None]] = []
        self.refusals: set[str] = set()
        self.sent = 0
        self.seen: dict[int, int] = {}
        for number in range(3):
            self.start(number)

    def start(self, number: int) -> None:
        host = self.hosts[number]
        if not host.up:
            self.world.after(0.5, self.start, number)
            return
        process = Process(self.world, host, f"voter-{number}")
        self.processes[number] = process
        process.on_death.append(
            lambda: self.world.after(self.world.delay(0.05, 1.0), self.start, number)
        )
        process.start(lambda: self._live(number, process))

    async def _live(self, number: int, process: Process) -> None:
        environment = self.plane.environment(process)
        store = environment.store_factory("/data/controller")
        random = self.world.random
        endpoint = Endpoint(process.host.address, PORT)
        options = QuorumOptions(
            replica_id=number,
            may_found=number == 0 and number not in self.empty,
            secret=b"s" * 32,
            connector=environment.connector,
            timing=Timing(),
            jitter=random.random,
            new_directory_id=lambda: random.randbytes(8).hex(),
        )
        shell: StateMachineShell[tuple[int, ...]] = StateMachineShell(
            process.name,
            ListMachine,
            lambda: PartitionMachineLog(store, "state", PARTITION, environment.clock),
            environment.clock,
            options,
            SnapshotPolicy(records=50),
        )
        await shell.open()
        spec = ListenerSpec(*endpoint, "c" * 32, process.name, 1, b"s" * 32)
        await environment.listener_factory(spec, shell.server.handlers()).start()
        self.shells[number] = shell
        process.shell = shell
        shell.on_change(lambda: self._check(number, shell))
        shell.start(endpoint)
        writing = asyncio.ensure_future(self._write(shell))
        mending = asyncio.ensure_future(self._mend(shell))
        await shell.wait_failed()
        writing.cancel()
        mending.cancel()
        process.kill()

    async def _write(self, shell: StateMachineShell[tuple[int, ...]]) -> None:
        while True:
            await asyncio.sleep(self.world.delay(0.001, 0.1))
            if shell.state is ShellState.ACTIVE:
                for _ in range(self.world.random.randint(1, 3)):
                    self.sent += 1
                    self.putting.append(asyncio.ensure_future(self._put(shell, self.sent)))

    async def _put(self, shell: StateMachineShell[tuple[int, ...]], value: int) -> None:
        try:
            place = await shell.submit(Put(value))
        except RaykafkaError as error:
            self.refusals.add(type(error).__name__)
        else:
            self.answered[value] = place
            assert shell.view[place] == value, "it is shown before it is answered"

    async def _mend(self, shell: StateMachineShell[tuple[int, ...]]) -> None:
        """What the keeper of voters does."""
        while True:
            await asyncio.sleep(0.3)
            if shell.state is ShellState.ACTIVE:
                for number, other in self.shells.items():
                    try:
                        self._mend_one(shell, number, other)
                    except RaykafkaError:
                        break

    def _mend_one(
        self,
        shell: StateMachineShell[tuple[int, ...]],
        number: int,
        other: StateMachineShell[tuple[int, ...]],
    ) -> None:
        key = other.node.machine.local
        present = shell.node.machine.voters.find(number)
        if present is None:
            shell.node.add_voter(Voter(*key, self.hosts[number].address, PORT))
        elif present.key != key:
            shell.node.remove_voter(present.key)
        else:
            self.empty.discard(number)

    def _check(self, number: int, shell: StateMachineShell[tuple[int, ...]]) -> None:
        life = id(shell)
        assert len(shell.view) >= self.seen.get(life, 0), "a view went back"
        self.seen[life] = len(shell.view)
        assert len(set(shell.view)) == len(shell.view), "a value twice"

    # --- faults -----------------------------------------------------------------------------------

    def disturb(self) -> None:
        """One fault, mended after a while; one disk at a time may be lost."""
        random = self.world.random
        number = random.randrange(3)
        host, process = self.hosts[number], self.processes[number]
        fault = random.choice(["kill", "kill", "pause", "cut", "one way", "power", "break", "disk"])
        wait_s = self.world.delay(0.1, 3.0)
        others = [other for other in self.hosts if other is not host]
        if fault == "kill":
            process.kill()
        elif fault == "pause":
            process.pause()
            self.world.after(wait_s, process.resume)
        elif fault in ("cut", "one way"):
            for other in others:
                self.network.cut(host, other)
                if fault == "cut":
                    self.network.cut(other, host)
            self.world.after(wait_s, self.network.heal)
        elif fault == "power" and host.up:
            host.crash(power=True)
            self.world.after(wait_s, host.boot)
            self.world.after(wait_s, self.network.wake)
        elif fault == "break":
            self.network.drop_connections(3)
        elif fault == "disk" and self._may_lose_disk():
            self.empty.add(number)
            del self.shells[number]
            process.kill()
            host.disk.replace()

    def _may_lose_disk(self) -> bool:
        keys = {shell.node.machine.local for shell in self.shells.values()}
        known = [shell.node.machine.voters.keys for shell in self.shells.values()]
        return not self.empty and len(keys) == 3 and all(voters == keys for voters in known)

    def run(self) -> None:
        world = self.world
        assert world.run(30.0, lambda: not self.empty), "the quorum did not grow"
        end = world.now + FAULTS_S
        while world.now < end:
            world.run(world.now + world.delay(0.05, 2.0))
            self.disturb()
        self.network.heal()
        for host, process in zip(self.hosts, list(self.processes.values()), strict=True):
            process.resume()
            if not host.up:
                host.boot()
        assert world.run(world.now + 60.0, self._is_settled), "it did not settle"
        assert not world.troubles, world.troubles
        assert self.refusals <= {"NotControllerError", "CoordinatorNotAvailableError"}
        values = self.shells[0].view
        for value, place in self.answered.items():
            assert values[place] == value, "what was answered is gone"

    def _is_settled(self) -> bool:
        if self.empty or not all(process.alive for process in self.processes.values()):
            return False
        views = {shell.view for shell in self.shells.values()}
        active = any(shell.state is ShellState.ACTIVE for shell in self.shells.values())
        return active and len(views) == 1 and max(self.answered, default=0) in next(iter(views))


@pytest.mark.parametrize("seed", range(6))
def test_nothing_that_was_answered_is_lost(seed: int) -> None:
    trio = Trio(seed)
    trio.run()
    assert len(trio.answered) > 50


def test_the_same_seed_gives_the_same_run() -> None:
    runs = []
    for _ in range(2):
        trio = Trio(3)
        trio.run()
        runs.append((trio.world.trace.hexdigest(), trio.answered))
    assert runs[0] == runs[1]
