"""Machines and the processes on them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from raykafka.testing.simulation.disk import Disk
from raykafka.testing.simulation.loop import ProcessLoop
from raykafka.testing.simulation.world import World

EPOCH_MS = 1_700_000_000_000
"""Wall-clock time at the beginning of every simulation."""


class HostClock:
    """A machine's clocks: the wall clock can be moved, the monotonic one only goes on."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.skew_ms = 0

    def now_ms(self) -> int:
        """See ``Clock``."""
        return EPOCH_MS + self.skew_ms + int(self._world.now * 1000)

    def now_s(self) -> float:
        """See ``Clock``."""
        return (EPOCH_MS + self.skew_ms) / 1000 + self._world.now

    def monotonic_ms(self) -> int:
        """See ``Clock``."""
        return int(self._world.now * 1000)


class Process:
    """One operating-system process: an actor, or a client."""

    def __init__(self, world: World, host: Host, name: str) -> None:
        self.world = world
        self.host = host
        self.name = name
        self.loop = ProcessLoop(world, name)  # type: ignore[abstract]  # what actors need is there
        self.shell: Any = None
        """The actor that runs in it."""
        self.on_death: list[Callable[[], None]] = []
        host.processes.append(self)

    @property
    def alive(self) -> bool:
        """Whether the process exists; a paused one does."""
        return not self.loop.dead

    @property
    def pid(self) -> int:
        """A number of its own."""
        return 1000 + self.loop.number

    def start(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Begin to run ``main``; the process lives on when it returns."""
        self.loop.start(main)

    def kill(self) -> None:
        """SIGKILL: nothing is closed but by the kernel, which ends connections and locks."""
        if self.loop.dead:
            return
        self.loop.kill()
        self.host.processes.remove(self)
        self.host.disk.release(self)
        callbacks, self.on_death = self.on_death, []
        for callback in callbacks:
            callback()

    def pause(self) -> None:
        """SIGSTOP."""
        self.loop.pause()

    def resume(self) -> None:
        """SIGCONT."""
        self.loop.resume()


class Host:
    """A machine with one disk."""

    def __init__(self, world: World, number: int, address: str) -> None:
        self.number = number
        self.address = address
        self.up = True
        self.generation = 1
        """Which life of the machine this is."""
        self.disk = Disk(world)
        self.clock = HostClock(world)
        self.processes: list[Process] = []

    @property
    def node_id(self) -> str:
        """What the cluster manager calls this life of the machine."""
        return f"node-{self.number}-{self.generation}"

    def crash(self, *, power: bool) -> None:
        """The machine goes down without a word; ``power`` loses what was not synced as well."""
        self.up = False
        for process in list(self.processes):
            process.kill()
        if power:
            self.disk.cut_power()

    def boot(self) -> None:
        """The machine is back, with nothing running on it."""
        self.up = True
        self.generation += 1
