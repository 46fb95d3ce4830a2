"""A transaction machine with a clock and a log, as a coordinator's host would drive it."""

from __future__ import annotations

from typing import Any

from raykafka.txn.commands import (
    AddPartitions,
    CompleteTransaction,
    DescribeTransactions,
    EndTransaction,
    InitTransaction,
    Markers,
    MarkersOwed,
    PrepareTransaction,
    ProducerIdNeeded,
    TransactionDescription,
    TransactionEnd,
    TransactionIdentity,
    TransactionLimits,
)
from raykafka.txn.machine import TransactionMachine
from raykafka.txn.records import ProducerIdentity, TransactionPartition

P0 = TransactionPartition("t", "a" * 32, 0)
P1 = TransactionPartition("t", "a" * 32, 1)
Q0 = TransactionPartition("u", "b" * 32, 0)


class Coordinator:
    """Runs commands to their end: new producer ids come from a counter, markers are written at
    once unless ``markers_fail``.
    """

    def __init__(self, limits: TransactionLimits | None = None) -> None:
        self.limits = limits or TransactionLimits()
        self.machine = TransactionMachine(self.limits)
        self.now_ms = 1_000_000
        self.log: list[tuple[bytes, bytes | None]] = []
        self.next_producer_id = 100
        self.markers_fail = False
        self.written: list[Markers] = []

    def handle(self, command: Any) -> Any:
        """One command to the machine, as it is."""
        outcome = self.machine.handle(
            command, now_ms=self.now_ms, monotonic_ms=self.now_ms - 900_000
        )
        self._append(outcome.records)
        return outcome.answer

    def run(self, command: Any) -> Any:
        """A command with all it needs; raises what the machine raises.

        Answers ``MarkersOwed`` only when markers cannot be written.
        """
        while True:
            answer = self.handle(command)
            if isinstance(answer, ProducerIdNeeded):
                command = command._replace(new_producer_id=self.next_producer_id)
                self.next_producer_id += 1
            elif isinstance(answer, MarkersOwed) and not self.markers_fail:
                self.write(answer.markers)
            else:
                return answer

    def write(self, markers: Markers) -> None:
        """They stand in every partition."""
        self.written.append(markers)
        self.handle(CompleteTransaction(*markers[:3]))

    def tick(self, passed_ms: int = 0) -> list[Markers]:
        """Time goes by; answers with what is owed."""
        self.now_ms += passed_ms
        outcome = self.machine.on_tick(now_ms=self.now_ms, monotonic_ms=self.now_ms - 900_000)
        self._append(outcome.records)
        found: list[Markers] = outcome.answer
        return found

    def fail_over(self) -> None:
        """Another leader replays the log."""
        self.machine = TransactionMachine(self.limits)
        self.machine.replay([self.machine.decode(*record) for record in self.log])
        self.machine.on_loaded(now_ms=self.now_ms, monotonic_ms=self.now_ms - 900_000)

    # --- commands ---------------------------------------------------------------------------------

    def init(self, name: str = "a", timeout_ms: int = 60_000, **more: Any) -> ProducerIdentity:
        """Who the producer is."""
        answer = self.run(InitTransaction(name, timeout_ms, **more))
        assert isinstance(answer, TransactionIdentity)
        return answer.producer

    def add(self, producer: ProducerIdentity, *partitions: TransactionPartition) -> Any:
        """Partitions of a transaction of ``a``."""
        return self.run(AddPartitions("a", producer, partitions or (P0,)))

    def prepare(self, producer: ProducerIdentity) -> Any:
        """Of ``a``."""
        return self.run(PrepareTransaction("a", producer))

    def end(self, producer: ProducerIdentity, commit: bool) -> ProducerIdentity:
        """The end of ``a``'s transaction, and its markers; answers with the successor."""
        answer = self.run(EndTransaction("a", producer, commit))
        assert isinstance(answer, TransactionEnd)
        if answer.markers is not None and not self.markers_fail:
            self.write(answer.markers)
        return answer.successor

    def describe(self, name: str = "a") -> TransactionDescription:
        """Raises where the id is not known."""
        [found] = self.handle(DescribeTransactions([name]))
        if isinstance(found, Exception):
            raise found
        assert isinstance(found, TransactionDescription)
        return found

    def status(self) -> str:
        """Of ``a``."""
        return self.describe().status

    def _append(self, records: Any) -> None:
        self.log += [self.machine.encode(record) for record in records]
        self.machine.replay(records)
