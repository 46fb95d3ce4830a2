"""``ray.util.queue.Queue``: an actor that holds items in memory until somebody takes them.

It is not a log: nothing is on a disk, the death of the actor's process loses everything, and an
item goes to one reader only. It is here because it is what Ray itself offers for the purpose.
"""

from __future__ import annotations

import itertools
import logging
import os
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from bench.measuring.records import KEYS, Records
from bench.measuring.verification import Taken
from bench.measuring.worker import Worker
from bench.peers.api import (
    Address,
    Client,
    ConsumerDriver,
    NotOfferedError,
    Options,
    Peer,
    ProducerDriver,
    Topic,
)

if TYPE_CHECKING:
    from ray.util.queue import Queue

NAMESPACE = "bench"
_drivers = 0
"""How many drivers of this process use its connection to Ray."""

Batch = tuple[int, list[bytes]]
"""Number of a queue, and items for it."""


@dataclass
class RayQueue(Peer):
    """A Ray of its own, one queue actor per partition. Nothing that it holds is durable."""

    name: str = "ray-queue"
    _head: Worker | None = None
    _address: Address = ""
    _topics: dict[str, Topic] = field(default_factory=dict)

    def missing(self) -> str | None:
        return None

    def version(self) -> str:
        return f"ray.util.queue of Ray {metadata.version('ray')}"

    def start(self, folder: Path, copies: int = 1) -> None:
        """Start Ray below a process of its own, which takes it along when it ends."""
        if copies > self.largest_copies:
            raise NotOfferedError("a queue is in the memory of one process")
        self._head = Worker("ray-queue head")
        try:
            self._address = self._head.call(_start_ray)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        if self._head is not None:
            self._head.stop()
            self._head = None
        self._topics.clear()

    @property
    def address(self) -> Address:
        return self._address

    def pids(self) -> list[int]:
        if self._head is None:
            return []
        return [child.pid for child in psutil.Process(self._head.pid).children(recursive=True)]

    def create_topic(self, topic: Topic) -> None:
        if topic.copies > self.largest_copies:
            raise NotOfferedError("a queue is in the memory of one process")
        if topic.fsync != "none":
            raise NotOfferedError("a queue is never on the disk")
        assert self._head is not None
        self._head.call(_create_queues, topic)
        self._topics[topic.name] = topic

    def delete_topic(self, name: str) -> None:
        assert self._head is not None
        self._head.call(_delete_queues, self._topics.pop(name))


def _import_ray() -> Any:
    """Ray, told to show its own token: it does so by itself only to clusters it has found."""
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    import ray

    return ray


def _start_ray() -> Address:
    ray = _import_ray()
    started = ray.init(
        address="local",
        namespace=NAMESPACE,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    return str(started.address_info["gcs_address"])


def _create_queues(topic: Topic) -> None:
    for number in range(topic.partitions):
        queue(topic, number).qsize()  # returns once the actor is there


def _delete_queues(topic: Topic) -> None:
    for number in range(topic.partitions):
        queue(topic, number).shutdown(force=True)


def queue(topic: Topic, partition: int) -> Queue:
    """The queue of a partition, made unless it exists."""
    from ray.util.queue import Queue

    return Queue(
        actor_options={
            "name": f"{topic.name}/{partition}",
            "lifetime": "detached",
            "get_if_exists": True,
            "num_cpus": 0,
        }
    )


def batches(topic: Topic, records: Records, keyed: bool, size: int) -> list[Batch]:
    """``records`` in lists of up to ``size`` for one queue each.

    Keyed records go where their key says, others list by list to one queue after another.
    """
    values = records.values()
    if not keyed:
        starts = range(0, len(values), size)
        numbers = itertools.cycle(range(topic.partitions))
        return [(next(numbers), values[start : start + size]) for start in starts]
    places = [zlib.crc32(b"key-%d" % number) % topic.partitions for number in range(KEYS)]
    waiting: list[list[bytes]] = [[] for _ in range(topic.partitions)]
    cut: list[Batch] = []
    for at, value in enumerate(values):
        number = places[at % KEYS]
        waiting[number].append(value)
        if len(waiting[number]) == size:
            cut.append((number, waiting[number]))
            waiting[number] = []
    return cut + [(number, rest) for number, rest in enumerate(waiting) if rest]


class _Driver:
    """Uses this process's connection to Ray, which ends with the last driver."""

    def __init__(self, address: Address, topic: Topic, numbers: Sequence[int]) -> None:
        global _drivers
        if _drivers == 0:
            ray = _import_ray()
            ray.init(
                address,
                namespace=NAMESPACE,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        _drivers += 1
        self._topic = topic
        self._queues = {number: queue(topic, number) for number in numbers}

    def close(self) -> None:
        global _drivers
        _drivers -= 1
        if _drivers == 0:
            _import_ray().shutdown()


class QueueProducer(_Driver, ProducerDriver):
    """``put_nowait_batch``, or ``put`` for every record."""

    def __init__(self, address: Address, topic: Topic, options: Options, batch: int) -> None:
        super().__init__(address, topic, range(topic.partitions))
        self._batch = batch
        self._turns = itertools.cycle(self._queues.values())

    def prepare(self, records: Records, keyed: bool = False) -> list[Batch]:
        return batches(self._topic, records, keyed, self._batch)

    def send_all(self, prepared: list[Batch]) -> None:
        for number, values in prepared:
            if self._batch == 1:
                self._queues[number].put(values[0])
            else:
                self._queues[number].put_nowait_batch(values)

    def send_one(self, value: bytes) -> None:
        next(self._turns).put(value)


class QueueConsumer(_Driver, ConsumerDriver):
    """``get_nowait_batch`` of what a queue holds, or ``get`` for every record."""

    def __init__(self, address: Address, topic: Topic, options: Options, batch: int) -> None:
        super().__init__(address, topic, options.partitions or range(topic.partitions))
        self._batch = batch

    def read_all(self, count: int, timeout_s: float) -> list[Batch]:
        deadline, seen = time.monotonic() + timeout_s, 0
        read: list[Batch] = []
        while seen < count:
            found = self._sweep()
            read += found
            seen += sum(len(values) for _, values in found)
            if time.monotonic() > deadline:
                raise TimeoutError(f"{seen} of {count} records came in time")
        return read

    def _sweep(self) -> list[Batch]:
        """What every queue has, up to one batch of each."""
        found: list[Batch] = []
        for number, each in self._queues.items():
            held = each.qsize()
            if held and self._batch == 1:
                found.append((number, [each.get() for _ in range(held)]))
            elif held:
                found.append((number, each.get_nowait_batch(min(held, self._batch))))
        return found

    def taken(self, read: list[Batch]) -> Sequence[Taken]:
        partitions: dict[int, list[bytes]] = {}
        for number, values in read:
            partitions.setdefault(number, []).extend(values)
        return [Taken(number, values) for number, values in partitions.items()]

    def poll_values(self, timeout_s: float) -> Mapping[int, Sequence[bytes]]:
        from ray.util.queue import Empty

        if len(self._queues) > 1:
            raise NotOfferedError("several queues cannot be waited for at once")
        [(number, only)] = self._queues.items()
        try:
            first = only.get(timeout=timeout_s)
        except Empty:
            return {}
        return {number: [first, *only.get_nowait_batch(min(only.qsize(), self._batch))]}


@dataclass(frozen=True)
class RayQueueClient(Client):
    """Batches of 10,000 by default, or item by item."""

    name: str = "ray queue"
    one_by_one: bool = False
    peer: str = "ray-queue"

    def missing(self) -> str | None:
        return None

    def _batch(self, options: Options) -> int:
        return 1 if self.one_by_one else options.batch

    def producer(self, address: Address, topic: Topic, options: Options) -> ProducerDriver:
        return QueueProducer(address, topic, options, self._batch(options))

    def consumer(self, address: Address, topic: Topic, options: Options) -> ConsumerDriver:
        return QueueConsumer(address, topic, options, self._batch(options))


CLIENT = RayQueueClient()
ONE_BY_ONE = RayQueueClient("ray queue one by one", one_by_one=True)
CLIENTS = (CLIENT, ONE_BY_ONE)
