"""What a comparison asks of a system and of a client library.

A ``Peer`` is a system: it starts and stops real servers. A ``Client`` is one library, or one way of
using it, against a peer; its drivers run in a worker process. What a driver does inside
``send_all`` and ``read_all`` is timed, so it is written as a good user of that library would write
it; everything that can be prepared is prepared before.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.measuring.records import Records
from bench.measuring.verification import Taken

Address = str
"""Where a peer's clients connect; what it says is a matter between a peer and its clients."""


@dataclass(frozen=True)
class Topic:
    """A topic, stream or queue to be made."""

    name: str
    partitions: int = 1
    copies: int = 1
    fsync: str = "none"
    """``none``, ``interval`` or ``batch``: when an acknowledged record is on the disk."""


@dataclass(frozen=True)
class Options:
    """How a client is used."""

    acks: str = "all"
    batch: int = 10_000
    """Records per append, for clients that append tables; others batch by themselves."""
    linger_ms: int = 5
    """How long a client may hold a record back for company; ``send_one`` never waits."""
    columns: tuple[str, ...] = ()
    """Read only these, for clients that can; empty reads all."""
    partitions: tuple[int, ...] = ()
    """A consumer reads only these, as one of several that share a topic; empty reads all."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the client library itself, verbatim."""


class NotOfferedError(Exception):
    """The system or its driver cannot do this; results name it as missing."""


class Peer(ABC):
    """A system that is started on this machine for the comparison, and stopped after it."""

    name: str
    largest_copies: int = 1
    """Copies of a partition that it can keep here."""

    @abstractmethod
    def missing(self) -> str | None:
        """What is not installed and how to get it; None when it can be started."""

    @abstractmethod
    def version(self) -> str:
        """Of the server; only asked when nothing is missing."""

    @abstractmethod
    def start(self, folder: Path, copies: int = 1) -> None:
        """Start its servers on an empty folder and wait until they take requests."""

    @abstractmethod
    def stop(self) -> None:
        """End every process it started. Idempotent; also after a ``start`` that failed."""

    @property
    @abstractmethod
    def address(self) -> Address:
        """Where clients connect, while it runs."""

    @abstractmethod
    def pids(self) -> list[int]:
        """Its server processes, for CPU time and memory."""

    @abstractmethod
    def create_topic(self, topic: Topic) -> None:
        """Make a topic and return when it can be written. Raises ``NotOfferedError``."""

    @abstractmethod
    def delete_topic(self, name: str) -> None:
        """Remove a topic and its records."""

    def leader_pids(self, topic: Topic, *, whole_node: bool) -> list[int]:
        """The process that leads partition 0 of a topic, or all processes of its node."""
        raise NotOfferedError(f"{self.name} has no leaders here")

    def restore(self, topic: Topic) -> None:
        """Start again what was killed; returns when all copies of a topic are in sync."""
        raise NotOfferedError(f"{self.name} keeps no copies here")


class ProducerDriver(ABC):
    """A connected producer for one topic."""

    @abstractmethod
    def prepare(self, records: Records, keyed: bool = False) -> Any:
        """Turn records into what ``send_all`` takes; not timed."""

    @abstractmethod
    def send_all(self, prepared: Any) -> None:
        """Send every record as this client is meant to, and return when all are acknowledged.

        Timed. Raises when one of them failed.
        """

    def send_one(self, value: bytes) -> None:
        """Send one record and return when it is acknowledged. Timed."""
        raise NotOfferedError(f"{type(self).__name__} sends no single records")

    def send(self, value: bytes, acked: Callable[[Exception | None], None]) -> None:
        """Queue one record of a paced load; ``acked`` is called, from any thread, with its fate."""
        raise NotOfferedError(f"{type(self).__name__} cannot be paced")

    def poll(self) -> None:
        """Let callbacks run; called between paced sends."""
        return

    def flush(self) -> None:
        """Return when all that was queued by ``send`` has its fate."""
        return

    def open_transactions(self) -> None:
        """Get ready for ``send_transaction``; not timed."""
        raise NotOfferedError(f"{type(self).__name__} has no transactions")

    def send_transaction(self, values: Sequence[bytes]) -> None:
        """Send these records in one transaction and return when it is committed. Timed.

        Raises when one of them failed.
        """
        raise NotOfferedError(f"{type(self).__name__} has no transactions")

    @abstractmethod
    def close(self) -> None:
        """Let go of connections and threads."""


class ConsumerDriver(ABC):
    """A connected consumer of one topic that has not read anything yet."""

    @abstractmethod
    def read_all(self, count: int, timeout_s: float) -> Any:
        """Read ``count`` records from the beginning and touch every value. Timed.

        Raises ``TimeoutError`` when they do not come.
        """

    @abstractmethod
    def taken(self, read: Any) -> Sequence[Taken]:
        """What ``read_all`` returned, by partition, for verification; not timed."""

    def poll_values(self, timeout_s: float) -> Mapping[int, Sequence[bytes]]:
        """What has arrived by now, by partition; waits up to ``timeout_s`` for the first."""
        raise NotOfferedError(f"{type(self).__name__} does not follow a live topic")

    @abstractmethod
    def close(self) -> None:
        """Let go of connections and threads."""


class Client(ABC):
    """A client library used in one particular way. Picklable: it travels to workers."""

    name: str
    peer: str
    """Name of the peer that it speaks to."""

    @abstractmethod
    def missing(self) -> str | None:
        """The package that is not installed; None when it can be used."""

    @abstractmethod
    def producer(self, address: Address, topic: Topic, options: Options) -> ProducerDriver:
        """Connect a producer; returns when it knows the topic's leaders."""

    @abstractmethod
    def consumer(self, address: Address, topic: Topic, options: Options) -> ConsumerDriver:
        """Connect a consumer at the beginning of every partition, without a group."""


def check_time(deadline: float, seen: int, count: int) -> None:
    """Raise ``TimeoutError`` after the deadline."""
    if time.monotonic() > deadline:
        raise TimeoutError(f"{seen} of {count} records came in time")
