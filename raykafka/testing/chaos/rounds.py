"""Rounds of faults, what each of them cost, and the verdict at the end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Final, Protocol

from raykafka.clock import SystemClock
from raykafka.errors import RaykafkaError
from raykafka.testing.chaos.deployment import Deployment
from raykafka.testing.chaos.faults import Fault, Undo
from raykafka.testing.chaos.load import Load
from raykafka.testing.oracle.judging import judge
from raykafka.testing.oracle.report import Report

HEAL_S: Final = 90.0
"""Everything is whole that long after the faults have ended, or the round has failed."""
FINAL_S: Final = 300.0
CALM_S: Final = 1.0
"""Writing and reading before the first fault of a round."""
SETTLE_S: Final = 1.0
"""Before the first look: what has just been killed may still be said to live."""
_MORE_FAULTS: Final = (1, 1, 1, 2, 3)


@dataclass
class Round:
    """What one round did."""

    number: int
    faults: list[str]
    healed: bool
    longest_gap_ms: int
    trouble: list[str] = field(default_factory=list)
    """What had not healed."""


@dataclass
class Outcome:
    """What became of a run."""

    seed: int
    rounds: list[Round] = field(default_factory=list)
    report: Report = field(default_factory=Report)
    read_all: bool = False
    problems: list[str] = field(default_factory=list)

    @property
    def failures(self) -> int:
        """Anomalies, rounds after which the cluster did not heal, and an unfinished final read."""
        unhealed = sum(not each.healed for each in self.rounds)
        return self.report.anomalies + unhealed + (not self.read_all)


class Watched(Protocol):
    """The clients of a run, as far as a round has to know them."""

    def acknowledged_since(self, since_ms: int) -> bool:
        """Whether everything works again: something went through since then."""

    def longest_gap_ms(self, begin_ms: int, end_ms: int) -> int:
        """Longest time within which nothing went through."""


class Nemesis:
    """Runs rounds against a deployment under load."""

    def __init__(
        self, deployment: Deployment, load: Watched, faults: Iterable[Fault], random: Random
    ) -> None:
        self._deployment = deployment
        self._load = load
        self._faults = list(faults)
        self._random = random
        self._clock = SystemClock()
        self._waiting = threading.Event()

    def round(self, number: int) -> Round:
        """Let one or several things go wrong, put them right, and wait until all is well."""
        self._waiting.wait(CALM_S)
        begin_ms = self._clock.monotonic_ms()
        chosen = self._random.sample(
            self._faults, min(self._random.choice(_MORE_FAULTS), len(self._faults))
        )
        injected, ends = [], []
        for fault in chosen:
            undo = fault.inject(self._deployment, self._random)
            if undo is not None:
                injected.append(fault.name)
                lasts_s = self._random.uniform(fault.shortest_s, fault.longest_s)
                ends.append((self._clock.monotonic_ms() + int(lasts_s * 1000), undo))
            self._waiting.wait(self._random.uniform(0, 0.5))
        self._end(ends)
        healed = self._wait_healed()
        end_ms = self._clock.monotonic_ms()
        gap_ms = self._load.longest_gap_ms(begin_ms, end_ms)
        trouble = [] if healed else self._deployment.unhealthy()
        return Round(number, injected, healed, gap_ms, trouble)

    def _end(self, ends: list[tuple[int, Undo]]) -> None:
        for at_ms, undo in sorted(ends, key=lambda end: end[0]):
            left_ms = at_ms - self._clock.monotonic_ms()
            if left_ms > 0:
                self._waiting.wait(left_ms / 1000)
            undo()

    def _wait_healed(self) -> bool:
        self._waiting.wait(SETTLE_S)
        since_ms = self._clock.monotonic_ms()
        return self._deployment.wait_healthy(HEAL_S) and self._deployment.wait_until(
            lambda: self._load.acknowledged_since(since_ms), HEAL_S
        )


def run_rounds(
    nemesis: Nemesis,
    load: Load,
    outcome: Outcome,
    goes_on: Callable[[int], bool],
    told: Callable[[Round], None],
) -> None:
    """Run rounds while ``goes_on(rounds done)``; one after which nothing heals is the last."""
    load.start()
    try:
        while goes_on(len(outcome.rounds)):
            outcome.rounds.append(nemesis.round(len(outcome.rounds) + 1))
            told(outcome.rounds[-1])
            if not outcome.rounds[-1].healed:
                break
    finally:
        load.stop()


def conclude(deployment: Deployment, load: Load, outcome: Outcome, topic: str) -> None:
    """Read everything once more and let the oracle judge."""
    deployment.wait_healthy(HEAL_S)
    ends = [0] * deployment.partitions
    for producer in load.producers:
        sends = producer.history().sends
        for partition, offset in zip(sends.partition.tolist(), sends.offset.tolist(), strict=True):
            ends[partition] = max(ends[partition], offset + 1)
    try:
        outcome.read_all = load.final.read_to(ends, FINAL_S)
    except RaykafkaError as error:
        load.final.problems.append(repr(error))
    outcome.report = judge(load.history())
    outcome.problems = load.problems()
