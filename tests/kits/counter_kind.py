"""A small coordinator for tests: counters by name, on the topic of the partition kit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from partition_kit import TOPIC

from raykafka.actors.coordinating.kind import ServiceKind
from raykafka.actors.coordinating.machine import KeyedRecord
from raykafka.errors import InvalidRequestError


class Add(NamedTuple):
    """Answered with the new total; refused when that were negative."""

    name: str
    amount: int


class Total(NamedTuple):
    """The record."""

    name: str
    total: int


class Outcome(NamedTuple):
    """What a command changes, and its answer."""

    records: Sequence[Total]
    answer: Any


class CounterMachine:
    """``CoordinatorMachine``; a total of 0 is a deleted key."""

    def __init__(self) -> None:
        self.totals: dict[str, int] = {}
        self.loaded = 0

    def handle(self, command: Add, *, now_ms: int, monotonic_ms: int) -> Outcome:
        total = self.totals.get(command.name, 0) + command.amount
        if total < 0:
            raise InvalidRequestError(f"{command.name} would be {total}")
        return Outcome([Total(command.name, total)] if command.amount else [], total)

    def replay(self, records: Iterable[Total]) -> None:
        for name, total in records:
            if total:
                self.totals[name] = total
            else:
                self.totals.pop(name, None)

    def on_loaded(self, *, now_ms: int, monotonic_ms: int) -> None:
        self.loaded += 1

    def on_tick(self, *, now_ms: int, monotonic_ms: int) -> Outcome:
        return Outcome([], None)

    def snapshot(self) -> list[Total]:
        return [Total(name, total) for name, total in self.totals.items()]

    def encode(self, record: Total) -> KeyedRecord:
        return record.name.encode(), str(record.total).encode() if record.total else None

    def decode(self, key: bytes, value: bytes | None) -> Total:
        return Total(key.decode(), int(value) if value is not None else 0)


def counters(_context: object = None) -> list[ServiceKind]:
    """In the place of ``service_kinds``."""
    return [ServiceKind(TOPIC, CounterMachine, {})]
