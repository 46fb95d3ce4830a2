"""One run of the bank on a cluster: its topics, its people, rounds of faults, and the verdict."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Final

from raykafka.client.admin import Admin, NewTopic
from raykafka.clock import SystemClock
from raykafka.errors import TopicAlreadyExistsError
from raykafka.testing.bank.clients import Auditor, Requester
from raykafka.testing.bank.records import LEDGER, REQUESTS
from raykafka.testing.bank.tellers import Tellers

PARTITIONS: Final = 3
PAUSE_S: Final = 0.01
"""Between two requests."""
_LOOK_S: Final = 0.1
_LAST_S: Final = 60.0
"""For what the last tellers leave open: its timeout is shorter, and what hangs does so for ever."""


def create_topics(admin: Admin, *, replication_factor: int, min_insync: int) -> None:
    """The bank's two topics."""
    for name in (REQUESTS, LEDGER):
        topic = NewTopic(
            name,
            num_partitions=PARTITIONS,
            replication_factor=replication_factor,
            topic_configs={"min.insync.replicas": str(min_insync)},
        )
        try:
            admin.create_topics([topic])
        except TopicAlreadyExistsError:
            continue


class Bank:
    """Requester, tellers and auditor; what a nemesis watches."""

    def __init__(self, requester: Requester, tellers: Tellers, auditor: Auditor) -> None:
        self.requester = requester
        self.tellers = tellers
        self.auditor = auditor
        self._clock = SystemClock()
        self._waiting = threading.Event()

    def start(self) -> None:
        """Open."""
        self.tellers.start()
        self.auditor.start()
        self.requester.start()

    def stop(self) -> None:
        """Close to the public; what was asked for is still done."""
        self.requester.stop()

    def settle(self, timeout_s: float) -> bool:
        """Wait until all that was asked for is done and audited, and nothing is left open; False
        when it takes longer.

        Ends everything.
        """
        audit = self.auditor.audit
        done = self._wait(lambda: audit.settles(self.requester.acknowledged), timeout_s)
        self.tellers.stop()
        done = self._wait(self.auditor.has_read_all, _LAST_S) and done
        self.auditor.stop()
        audit.conclude(self.requester.acknowledged, self.requester.sent)
        return done

    def acknowledged_since(self, since_ms: int) -> bool:
        """Whether transfers have been done since then."""
        advances = self.auditor.advances
        return bool(advances) and advances[-1][0] >= since_ms

    def longest_gap_ms(self, begin_ms: int, end_ms: int) -> int:
        """Longest time within which nobody saw a transfer done."""
        inside = [at_ms for at_ms, _ in self.auditor.advances if begin_ms <= at_ms <= end_ms]
        edges = [begin_ms, *inside, end_ms]
        return max(b - a for a, b in itertools.pairwise(edges))

    def _wait(self, holds: Callable[[], bool], timeout_s: float) -> bool:
        deadline_ms = self._clock.monotonic_ms() + int(timeout_s * 1000)
        while not holds():
            if self._clock.monotonic_ms() > deadline_ms:
                return False
            self._waiting.wait(_LOOK_S)
        return True


def log_lines(logs: Path) -> list[str]:
    """What tellers have said, errors that they went on after among it."""
    return [line for path in sorted(logs.glob("*.log")) for line in path.read_text().splitlines()]


def seeded(seed: int, who: str) -> Random:
    """Randomness of one of those who take part."""
    return Random(f"bank {who} {seed}")
