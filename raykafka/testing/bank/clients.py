"""Who asks for transfers, and who looks at the ledger."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, Final

from raykafka.client.cluster.bootstrap import Bootstrap
from raykafka.client.consumer import Consumer
from raykafka.client.producer import Producer
from raykafka.clock import SystemClock
from raykafka.errors import RaykafkaError
from raykafka.model import TopicPartition
from raykafka.testing.bank.audit import Audit
from raykafka.testing.bank.records import ACCOUNTS, LEDGER, REQUESTS, Entry, Request

DELIVERY_MS: Final = 120_000

clock = SystemClock()


class Requester:
    """Asks for numbered transfers until it is stopped."""

    def __init__(self, bootstrap: Bootstrap, random: Random, *, pause_s: float) -> None:
        self.sent = 0
        """Number of the last request."""
        self.acknowledged: list[int] = []
        self.problems: list[str] = []
        self._bootstrap = bootstrap
        self._random = random
        self._pause_s = pause_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="requester", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Ask no more; returns when everything has been acknowledged or given up."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        settings: dict[str, Any] = {"linger_ms": 2, "delivery_timeout_ms": DELIVERY_MS}
        with Producer(self._bootstrap, **settings) as producer:
            while not self._stopping.wait(self._pause_s):
                self._ask(producer)

    def _ask(self, producer: Producer) -> None:
        self.sent += 1
        number = self.sent
        debtor, creditor = self._random.sample(range(ACCOUNTS), 2)
        request = Request(number, debtor, creditor, self._random.randrange(1, 100))
        try:
            future = producer.send(REQUESTS, request.encode(), b"%d" % number)
        except RaykafkaError as error:
            self.problems.append(repr(error))
            return
        future.add_callback(lambda _: self.acknowledged.append(number))
        future.add_errback(lambda error: self.problems.append(repr(error)))


class Auditor:
    """Reads the ledger from its beginning and adds up, until it is stopped."""

    def __init__(
        self, bootstrap: Bootstrap, partitions: int, *, isolation_level: str = "read_committed"
    ) -> None:
        self.audit = Audit()
        self.advances: list[tuple[int, int]] = []
        """(milliseconds, transfers seen) whenever there were more."""
        self.problems: list[str] = []
        self._bootstrap = bootstrap
        self._places = [TopicPartition(LEDGER, number) for number in range(partitions)]
        self._isolation_level = isolation_level
        self._positions: dict[TopicPartition, int] = {}
        self._reached: dict[TopicPartition, int | None] = {}
        """Like positions, but behind what is not for such a reader, too."""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="auditor", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()
        self._thread.join()

    def has_read_all(self) -> bool:
        """Whether nothing is behind where the auditor stands, not even what is still undecided."""
        try:
            with Consumer(self._bootstrap, isolation_level="read_uncommitted") as consumer:
                ends = consumer.end_offsets(self._places)
        except RaykafkaError as error:
            self.problems.append(repr(error))
            return False
        return all((self._reached.get(place) or 0) >= end for place, end in ends.items())

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._read()
            except RaykafkaError as error:
                self.problems.append(repr(error))

    def _read(self) -> None:
        settings: dict[str, Any] = {
            "auto_offset_reset": "earliest",
            "isolation_level": self._isolation_level,
        }
        with Consumer(self._bootstrap, **settings) as consumer:
            consumer.assign(self._places)
            consumer.seek_to_beginning(*self._places)
            for place, offset in self._positions.items():
                consumer.seek(place, offset)
            while not self._stopping.is_set():
                self._take(consumer.poll(timeout_ms=100))
                self._reached = {place: consumer.position(place) for place in self._places}

    def _take(self, polled: Mapping[TopicPartition, Sequence[Any]]) -> None:
        audit, now_ms = self.audit, clock.monotonic_ms()
        before = audit.transfers
        for place, found in polled.items():
            for record in found:
                entry = Entry.decode(record.value)
                audit.observe(place.partition, record.offset, entry, now_ms)
            self._positions[place] = found[-1].offset + 1
        audit.snapshot(now_ms)
        if audit.transfers > before:
            self.advances.append((now_ms, audit.transfers))
