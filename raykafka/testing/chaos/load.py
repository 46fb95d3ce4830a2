"""Producers and consumers of a chaos run, and the history of what they were told."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from typing import Any, Final

from raykafka.client.cluster.file_bootstrap import FileBootstrap
from raykafka.client.consumer import Consumer
from raykafka.client.producer import Producer
from raykafka.clock import SystemClock
from raykafka.errors import RaykafkaError
from raykafka.model import TopicPartition
from raykafka.testing.oracle.history import History, Recorder, merge

PRODUCERS: Final = 2
CONSUMERS: Final = 2
PAUSE_S: Final = 0.01
"""Between two records of a producer for every partition."""
DELIVERY_MS: Final = 120_000
_NS: Final = 1_000_000
_VALUES: Final = 1 << 40
_OPERATIONS: Final = 1 << 44

clock = SystemClock()


def now_ns() -> int:
    """Time of the histories."""
    return clock.monotonic_ms() * _NS


class LoadProducer:
    """Writes numbered records to every partition until it is stopped."""

    def __init__(self, bootstrap: FileBootstrap, topic: str, partitions: int, process: int) -> None:
        self.process = process
        self.acknowledged: list[tuple[int, int]] = []
        """(milliseconds, partition) of every acknowledgement."""
        self.problems: list[str] = []
        self._bootstrap = bootstrap
        self._topic = topic
        self._partitions = partitions
        self._recorder = Recorder(first_operation=process * _OPERATIONS)
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"producer-{process}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Write no more; returns when everything has been acknowledged or given up."""
        self._stopping.set()
        self._thread.join()

    def history(self) -> History:
        """What was recorded."""
        return self._recorder.history()

    def _run(self) -> None:
        settings: dict[str, Any] = {"linger_ms": 2, "delivery_timeout_ms": DELIVERY_MS}
        with Producer(self._bootstrap, **settings) as producer:
            number = self.process * _VALUES
            while not self._stopping.wait(PAUSE_S):
                for partition in range(self._partitions):
                    number += 1
                    self._send(producer, partition, number)

    def _send(self, producer: Producer, partition: int, value: int) -> None:
        with self._lock:
            row = self._recorder.send(self.process, partition, value, now_ns())
        try:
            future = producer.send(self._topic, b"%d" % value, partition=partition)
        except RaykafkaError as error:
            with self._lock:
                self._recorder.failed(row, now_ns())
            self.problems.append(repr(error))
            return

        def on_done(metadata: Any) -> None:
            with self._lock:
                self._recorder.acknowledged(row, metadata.offset, now_ns())
            self.acknowledged.append((clock.monotonic_ms(), partition))

        future.add_callback(on_done)
        future.add_errback(lambda error: self.problems.append(repr(error)))


class LoadConsumer:
    """Reads every partition from its beginning; one that fails begins again as another process."""

    def __init__(
        self,
        bootstrap: FileBootstrap,
        topic: str,
        partitions: int,
        process: int,
        *,
        mapped: bool,
    ) -> None:
        self.problems: list[str] = []
        self._bootstrap = bootstrap
        self._places = [TopicPartition(topic, number) for number in range(partitions)]
        self._process = process * 1000
        self._mapped = mapped
        self._recorder = Recorder(first_operation=process * _OPERATIONS)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"consumer-{process}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Read no more."""
        self._stopping.set()
        self._thread.join()

    def history(self) -> History:
        """What was recorded."""
        return self._recorder.history()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._process += 1
            try:
                self._read(lambda _: self._stopping.is_set(), tails=True)
            except RaykafkaError as error:
                self.problems.append(repr(error))

    def read_to(self, ends: Sequence[int], timeout_s: float) -> bool:
        """Read everything up to these offsets, in the caller's thread; False when it takes longer.

        Raises what the consumer raises.
        """
        self._process += 1
        deadline_ms = clock.monotonic_ms() + int(timeout_s * 1000)

        def is_done(positions: list[int]) -> bool:
            return clock.monotonic_ms() > deadline_ms or _reached(positions, ends)

        return _reached(self._read(is_done, tails=False), ends)

    def _read(self, is_done: Any, *, tails: bool) -> list[int]:
        # How far one is behind who reads everything once more says nothing.

        settings: dict[str, Any] = {
            "auto_offset_reset": "earliest",
            "mapped_reads": self._mapped,
        }
        positions = [0] * len(self._places)
        with Consumer(self._bootstrap, **settings) as consumer:
            consumer.assign(self._places)
            consumer.seek_to_beginning(*self._places)
            while not is_done(positions):
                invoked = now_ns()
                records = [
                    (place.partition, record.offset, int(record.value))
                    for place, found in consumer.poll(timeout_ms=100).items()
                    for record in found
                ]
                for partition, offset, _ in records:
                    positions[partition] = offset + 1
                reached = enumerate(positions) if tails else ()
                self._recorder.polled(self._process, records, reached, invoked)
        return positions


def _reached(positions: Sequence[int], ends: Sequence[int]) -> bool:
    return all(position >= end for position, end in zip(positions, ends, strict=True))


class Load:
    """All clients of a run."""

    def __init__(self, bootstrap: FileBootstrap, topic: str, partitions: int) -> None:
        self._partitions = partitions
        self.producers = [
            LoadProducer(bootstrap, topic, partitions, number + 1) for number in range(PRODUCERS)
        ]
        self.consumers = [
            LoadConsumer(bootstrap, topic, partitions, PRODUCERS + number + 1, mapped=number == 0)
            for number in range(CONSUMERS)
        ]
        self.final = LoadConsumer(
            bootstrap, topic, partitions, PRODUCERS + CONSUMERS + 1, mapped=False
        )

    def start(self) -> None:
        """Begin to write and to read."""
        for producer in self.producers:
            producer.start()
        for consumer in self.consumers:
            consumer.start()

    def stop(self) -> None:
        """End the writing, then the reading."""
        for producer in self.producers:
            producer.stop()
        for consumer in self.consumers:
            consumer.stop()

    def acknowledged_since(self, since_ms: int) -> bool:
        """Whether every partition has taken something since then."""
        taken = {
            partition
            for producer in self.producers
            for at_ms, partition in _latest(producer.acknowledged, since_ms)
        }
        return len(taken) == self._partitions

    def longest_gap_ms(self, begin_ms: int, end_ms: int) -> int:
        """Longest time within which some partition acknowledged nothing."""
        longest = 0
        taken: dict[int, list[int]] = {number: [] for number in range(self._partitions)}
        for producer in self.producers:
            for at_ms, partition in _latest(producer.acknowledged, begin_ms):
                taken[partition].append(at_ms)
        for times in taken.values():
            inside = sorted(at_ms for at_ms in times if at_ms <= end_ms)
            edges = [begin_ms, *inside, end_ms]
            longest = max(longest, *(b - a for a, b in itertools.pairwise(edges)))
        return longest

    def history(self) -> History:
        """What everybody was told."""
        written = [producer.history() for producer in self.producers]
        return merge([*written, *(each.history() for each in (*self.consumers, self.final))])

    def problems(self) -> list[str]:
        """Errors that clients were told."""
        told = [problem for producer in self.producers for problem in producer.problems]
        readers = (*self.consumers, self.final)
        return told + [problem for consumer in readers for problem in consumer.problems]


def _latest(acknowledged: list[tuple[int, int]], since_ms: int) -> list[tuple[int, int]]:
    """Those since then; the list grows meanwhile."""
    found = []
    for index in range(len(acknowledged) - 1, -1, -1):
        if acknowledged[index][0] < since_ms:
            break
        found.append(acknowledged[index])
    return found
