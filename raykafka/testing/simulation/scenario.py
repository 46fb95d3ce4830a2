"""One seed: a cluster of some shape, faults at some times, and what must hold all the while."""

from __future__ import annotations

import contextlib
import gc
import logging
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Final

from raykafka.testing.simulation.checks import Violation
from raykafka.testing.simulation.cluster import Shape, SimulatedCluster
from raykafka.testing.simulation.faults import FAULTS, Fault
from raykafka.testing.simulation.loop import graveyard
from raykafka.testing.simulation.operations import OPERATIONS
from raykafka.testing.simulation.world import World

START_S: Final = 30.0
"""The cluster serves by then, or something is wrong."""
FAULTS_S: Final = (4.0, 9.0)
"""How long things go wrong."""
SETTLE_S: Final = 90.0
"""Everything is in order that long after the last fault has ended, or something is wrong."""
MAX_FAULTS: Final = 5
_COLLECTIONS: Final = 8
_WITHOUT_OPERATORS: Final = 2 / 3
"""Share of the seeds in which nobody moves copies or restarts brokers meanwhile."""
_BURSTS: Final = 0.4
"""Share of the seeds in which each fault comes within a second of the one before."""


@dataclass
class Result:
    """What became of one seed."""

    seed: int
    steps: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    virtual_s: float = 0.0
    acknowledged: int = 0
    read: int = 0
    trace: str = ""
    timeline: list[tuple[float, str]] = field(default_factory=list)
    """Which fault began when, in virtual seconds."""
    violations: list[str] = field(default_factory=list)


def shape_of(random: Random) -> Shape:
    """A small cluster."""
    hosts = random.choice((1, 3, 3, 3, 3, 4, 5))
    copies = min(hosts, 3)
    return Shape(
        hosts=hosts,
        partition_actors=random.choice((1, 1, 2)),
        partitions=random.randint(1, 2),
        replication_factor=copies,
        min_insync_replicas=(copies + 1) // 2,
        fsync=random.choice(("batch", "batch", "interval", "none")),
        producers=random.randint(1, 2),
        consumers=1,
        lag_ms=random.choice((500, 2000, 10_000)),
    )


def shape_of_seed(seed: int) -> Shape:
    """The cluster that ``run_seed`` makes."""
    return shape_of(_plan_of(seed))


def _plan_of(seed: int) -> Random:
    return Random(f"plan of {seed}")


def run_seed(seed: int, *, log: bool = False) -> Result:
    """Run one seed from its beginning to its end; never raises for what it finds.

    With ``log`` the actors' loggers are left as they are, else nothing is logged.
    """
    with collected(quiet=not log):
        return _run_seed(seed)


def _run_seed(seed: int) -> Result:
    world = World(seed)
    plan = _plan_of(seed)
    result = Result(seed)
    run = _Run(world, SimulatedCluster(world, shape_of(plan)), plan, result)
    try:
        run.go()
    except Violation:
        pass  # it is among the world's
    except Exception as error:  # noqa: BLE001  # a seed that breaks off has found something, too
        world.violations.append(f"at {world.now:.6f} s the simulation broke off: {error!r}")
    finally:
        world.close()
    result.violations = [*world.violations, *world.troubles]
    result.steps = world.steps
    result.virtual_s = world.now
    result.acknowledged = run.cluster.checks.acknowledgements
    result.read = run.cluster.checks.reads
    result.trace = world.trace.hexdigest()
    return result


class _Run:
    def __init__(
        self, world: World, cluster: SimulatedCluster, plan: Random, result: Result
    ) -> None:
        self.cluster = cluster
        self._world = world
        self._plan = plan
        self._result = result
        self._operator = Random(f"operator of {result.seed}")
        self._undo: list[object] = []

    def go(self) -> None:
        world, cluster = self._world, self.cluster
        checks = cluster.checks
        if not world.run(START_S, lambda: cluster.is_whole):
            self._fail("the cluster was not whole before the first fault")
        end = world.now + self._plan.uniform(*FAULTS_S)
        self._schedule(end)
        world.run(end)
        if world.violations:
            return
        self._heal()
        for producer in cluster.producers:
            producer.stopping = True
        if not world.run(world.now + SETTLE_S, lambda: cluster.has_settled):
            self._fail(f"the cluster did not recover in {SETTLE_S:g} s")
        checks.check_acknowledged()
        cluster.check_logs()

    def _schedule(self, end: float) -> None:
        world, plan = self._world, self._plan
        faults = [fault for fault in FAULTS if self._allowed(fault)]
        count = plan.randint(1, MAX_FAULTS)
        chosen = [plan.choice(faults) for _ in range(count)]
        if any(fault.alone for fault in chosen):
            gentle = [fault for fault in faults if fault.gentle]
            chosen = [chosen[0], *(plan.choice(gentle) for _ in range(count - 1))]
        at = world.now
        bursts = plan.random() < _BURSTS
        for fault in chosen:
            at = plan.uniform(at, min(at + 1.0, end)) if bursts else plan.uniform(world.now, end)
            world.at(at, self._inject, fault)
        for operation in self._chosen_operations():
            world.at(self._operator.uniform(world.now, end), self._inject, operation)

    def _chosen_operations(self) -> list[Fault]:
        """Operators are at work in one run of three; what goes wrong is the same without them."""
        if self._operator.random() < _WITHOUT_OPERATORS:
            return []
        return [self._operator.choice(OPERATIONS) for _ in range(self._operator.randint(1, 3))]

    def _allowed(self, fault: Fault) -> bool:
        shape = self.cluster.shape
        if fault.damage and shape.replication_factor < 3:
            return False
        return not fault.power or shape.fsync == "batch"

    def _inject(self, fault: Fault) -> None:
        random = self._operator if fault in OPERATIONS else self._plan
        undo = fault.inject(self.cluster, random)
        if undo is None:
            return
        self._result.faults[fault.name] += 1
        self._result.timeline.append((self._world.now, fault.name))
        self._world.trace.note(self._world.now, 0, (*FAULTS, *OPERATIONS).index(fault))
        if fault.longest_s:
            self._world.after(random.uniform(0.1, fault.longest_s), undo)

    def _heal(self) -> None:
        cluster = self.cluster
        for host in cluster.plane.hosts:
            if not host.up:
                cluster.plane.boot(host)
            host.disk.full = False
            host.disk.slow_s = 0.0
            for process in list(host.processes):
                process.resume()
        cluster.network.heal()

    def _fail(self, what: str) -> None:
        if not self._world.violations:
            self._world.violations.append(f"at {self._world.now:.6f} s: {what}")
        raise Violation(what)


@contextlib.contextmanager
def collected(*, quiet: bool = True) -> Iterator[None]:
    """Free what a simulation leaves behind at its end, and not before.

    Coroutines of killed processes run their ``finally`` blocks when they are collected, on a loop
    that does nothing; that they cannot is nobody's concern.
    """
    was_enabled, hook = gc.isenabled(), sys.unraisablehook
    level = logging.root.manager.disable
    gc.disable()
    if quiet:
        logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        sys.unraisablehook = lambda _: None
        logging.disable(logging.CRITICAL)
        with graveyard(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of coroutines that were never awaited
            for _ in range(_COLLECTIONS):  # what a ``finally`` block touches lives once more
                if not gc.collect():
                    break
        logging.disable(level)
        sys.unraisablehook = hook
        if was_enabled:
            gc.enable()
