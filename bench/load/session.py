"""One client at work: its worker processes, its topics, and the phases of a run."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from bench.load import consuming, producing
from bench.load.board import MAY_READ, STOP_READING, STOP_SENDING, Board
from bench.load.consuming import ConsumerTask, Received
from bench.load.pacing import NS, Schedule, shares
from bench.load.producing import ProducerTask, Sent, Shape
from bench.load.workload import Workload
from bench.measuring.records import Records
from bench.measuring.verification import VoidRunError, verify
from bench.measuring.worker import Worker, cpu_seconds
from bench.peers.api import Client, Options, Peer, Topic

MOST_WORKERS = 8
"""Processes for producers, and as many for consumers; more of either share them."""
DRAIN_S = 60.0
"""How long consumers may take for what is unread when the producers are done."""
PATIENCE_S = 120.0
_START_NS = 200_000_000
"""From asking to the first send: all workers have to hear of it."""
_LOOK_S = 0.02
_numbers = itertools.count(1)

T = TypeVar("T")


@dataclass(frozen=True)
class Backlog:
    """What consumers leave unread before they begin, and when that counts as read."""

    records: int
    """Over all subscriptions."""
    empty: int
    most_s: float
    """For building and draining it."""


@dataclass
class Phase:
    """What happened between the first send of a phase and the last record read."""

    begin_ns: int
    end_ns: int
    sent: list[Sent] = field(default_factory=list)
    received: list[Received] = field(default_factory=list)
    planned: int = 0
    """Sends that were due; 0 for a load that is not paced."""
    late: int = 0
    unread: int = 0
    """Of each subscription when the sending ended, as ``late``."""
    resumed_ns: int = 0
    drained_ns: int = 0
    """When the consumers began on a backlog and had read it; 0 if they did not."""
    server_cpu_s: float = 0.0
    client_cpu_s: float = 0.0
    void: str = ""

    @property
    def failures(self) -> int:
        return sum(sent.failures for sent in self.sent)

    @property
    def count(self) -> int:
        """Records that were sent."""
        return sum(r.count for sent in self.sent for some in sent.records.values() for r in some)


class Session:
    """Workers of one client against one running peer; ``connect`` before every kind of phase."""

    def __init__(
        self, client: Client, peer: Peer, workload: Workload, options: Options, folder: Path
    ) -> None:
        self._client, self._peer = client, peer
        self._workload, self._options = workload, options
        self._folder = folder
        producers = workload.topics * workload.producersPerTopic
        self._consumers_per_subscription = min(
            workload.consumerPerSubscription, workload.partitionsPerTopic
        )
        consumers = (
            workload.topics * workload.subscriptionsPerTopic * self._consumers_per_subscription
        )
        self._producers = _workers(f"producer {client.name}", producers)
        self._consumers = _workers(f"consumer {client.name}", consumers)
        self._topics: list[Topic] = []
        board = folder / f"board-{os.getpid()}-{next(_numbers)}"
        self._board = Board(board, len(self._producers), consumers)
        self._board_path = board

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in (*self._producers, *self._consumers):
            worker.stop()
        for topic in self._topics:
            self._peer.delete_topic(topic.name)
        self._board_path.unlink()

    def connect(self, copies: int, fsync: str, *, read: bool = True) -> None:
        """Make new topics, connect the producers and, with ``read``, already the consumers."""
        workload = self._workload
        label = f"load-{os.getpid()}-{next(_numbers)}"
        for number in range(workload.topics):
            topic = Topic(f"{label}-{number}", workload.partitionsPerTopic, copies, fsync)
            self._peer.create_topic(topic)
            self._topics.append(topic)
        shape = Shape(workload.messageSize, workload.random_share, workload.keyed)
        tasks = [
            ProducerTask(number, topic)
            for number, topic in enumerate(self._topics * workload.producersPerTopic)
        ]
        address = self._peer.address
        for worker, own in zip(self._producers, _dealt(tasks, len(self._producers)), strict=True):
            worker.start(producing.open_producers, self._client, address, own, self._options, shape)
        _finish(self._producers)
        if read:
            self._connect_consumers()

    def _connect_consumers(self) -> None:
        address = self._peer.address
        dealt = _dealt(self._consumer_tasks(), len(self._consumers))
        for worker, own in zip(self._consumers, dealt, strict=True):
            worker.start(consuming.open_consumers, self._client, address, own, self._options)
        _finish(self._consumers)

    def disconnect(self) -> None:
        """Close what ``connect`` opened and delete the topics."""
        for worker in self._producers:
            worker.call(producing.close_producers)
        for worker in self._consumers:
            worker.call(consuming.close_consumers)
        for topic in self._topics:
            self._peer.delete_topic(topic.name)
        self._topics = []

    def _consumer_tasks(self) -> list[ConsumerTask]:
        """Every subscription reads everything; its consumers split the partitions."""
        numbers, several = itertools.count(), self._consumers_per_subscription
        return [
            ConsumerTask(
                next(numbers), topic, subscription, tuple(range(topic.partitions))[turn::several]
            )
            for topic in self._topics
            for subscription in range(self._workload.subscriptionsPerTopic)
            for turn in range(several)
        ]

    # --- phases -----------------------------------------------------------------------------------

    def paced(self, rate: float, seconds: float, backlog: Backlog | None = None) -> Phase:
        """Send at ``rate`` and read along; with a backlog, ``seconds`` are those after it."""
        self._board.clear()
        if backlog is None:
            self._board.raise_flag(MAY_READ)
        for worker in self._consumers:
            worker.start(consuming.poll_until_stopped, self._board)
        begin = time.monotonic_ns() + _START_NS
        limit = seconds + (backlog.most_s if backlog else 0)
        phase = Phase(begin, begin + round(limit * NS))
        used = self._cpu()
        several = len(self._producers)
        for number, worker in enumerate(self._producers):
            schedule = Schedule.of_worker(begin, rate, number, several)
            worker.start(producing.send_paced, schedule, phase.end_ns, self._board, number)
        if backlog is not None:
            self._build_and_drain(backlog, phase, seconds)
        time.sleep(max(0.0, (phase.end_ns - time.monotonic_ns()) / NS))
        sent, received = self._board.sent(), self._board.received()
        phase.planned = round(rate * (phase.end_ns - begin) / NS)
        phase.late = max(0, phase.planned - sent)
        phase.unread = max(0, sent - received // self._workload.subscriptionsPerTopic)
        phase.sent = _finish(self._producers, limit + PATIENCE_S)
        self._drain(phase.count)
        _finish(self._consumers)
        self._account(phase, used)
        self._collect(phase)
        return phase

    def _build_and_drain(self, backlog: Backlog, phase: Phase, seconds: float) -> None:
        """Let consumers go when enough is unread; the end is ``seconds`` after they caught up."""
        board, several = self._board, self._workload.subscriptionsPerTopic
        while time.monotonic_ns() < phase.end_ns:
            time.sleep(_LOOK_S)
            unread = board.sent() * several - board.received()
            if not phase.resumed_ns and unread >= backlog.records:
                board.raise_flag(MAY_READ)
                phase.resumed_ns = time.monotonic_ns()
            if phase.resumed_ns and unread <= backlog.empty:
                phase.drained_ns = time.monotonic_ns()
                phase.end_ns = min(phase.end_ns, phase.drained_ns + round(seconds * NS))
                break
        time.sleep(max(0.0, (phase.end_ns - time.monotonic_ns()) / NS))
        board.raise_flag(STOP_SENDING)
        board.raise_flag(MAY_READ)

    def _drain(self, count: int) -> None:
        """Wait until everything was read, or until nothing more is to be hoped for."""
        wanted = count * self._workload.subscriptionsPerTopic
        deadline = time.monotonic() + DRAIN_S
        while self._board.received() < wanted and time.monotonic() < deadline:
            time.sleep(_LOOK_S)
        self._board.raise_flag(STOP_READING)

    def calibrate(self) -> float:
        """Records per second of all producers together, with nothing in their way."""
        for worker in self._producers:
            worker.start(producing.calibrate)
        rates: list[float] = _finish(self._producers)
        return sum(rates)

    def unlimited(self, count: int, *, apart: bool) -> Phase:
        """Send ``count`` records as fast as it goes and read them, meanwhile or afterwards.

        With ``apart`` the consumers connect afterwards too: some would fetch ahead at once.
        """
        self._board.clear()
        self._board.raise_flag(MAY_READ)
        producers = len(self._topics) * self._workload.producersPerTopic
        per_task = _dealt(shares(count, producers), len(self._producers))
        for worker, counts in zip(self._producers, per_task, strict=True):
            worker.start(producing.prepare_unlimited, counts)
        totals = _finish(self._producers, PATIENCE_S)
        by_topic = _sums(totals)
        used = self._cpu()
        if not apart:
            self._start_reading(by_topic)
        begin = time.monotonic_ns() + _START_NS
        for worker in self._producers:
            worker.start(producing.send_unlimited, begin)
        phase = Phase(begin, begin, _finish(self._producers, PATIENCE_S))
        if apart:
            self._connect_consumers()
            self._start_reading(by_topic)
        if not self._reads_whole_topics:
            self._drain(count)
        _finish(self._consumers, PATIENCE_S)
        phase.end_ns = time.monotonic_ns()
        self._account(phase, used)
        self._collect(phase)
        return phase

    @property
    def _reads_whole_topics(self) -> bool:
        return self._consumers_per_subscription == 1

    def _start_reading(self, by_topic: dict[str, int]) -> None:
        """Only who reads a whole topic knows how much to expect; others poll until told to stop."""
        for worker in self._consumers:
            if self._reads_whole_topics:
                worker.start(consuming.read_all, by_topic, PATIENCE_S - 10)
            else:
                worker.start(consuming.poll_until_stopped, self._board)

    # --- afterwards -------------------------------------------------------------------------------

    def _cpu(self) -> tuple[float, float]:
        workers = [worker.pid for worker in (*self._producers, *self._consumers)]
        return cpu_seconds(self._peer.pids()), cpu_seconds(workers)

    def _account(self, phase: Phase, before: tuple[float, float]) -> None:
        server, client = self._cpu()
        phase.server_cpu_s, phase.client_cpu_s = server - before[0], client - before[1]

    def _collect(self, phase: Phase) -> None:
        """Fetch what was read and verify it."""
        records: dict[str, list[Records]] = {}
        for sent in phase.sent:
            for topic, some in sent.records.items():
                records.setdefault(topic, []).extend(some)
        for worker in self._consumers:
            worker.start(consuming.collect, records, self._workload.messageSize)
        phase.received = list(itertools.chain(*_finish(self._consumers)))
        if phase.failures:
            first = next(sent.first_failure for sent in phase.sent if sent.failures)
            phase.void = f"{phase.failures} sends failed; the first: {first}"
            return
        phase.void = next((r.void for r in phase.received if r.void), "")
        try:
            _verify_shared(phase.received, records)
        except VoidRunError as error:
            phase.void = phase.void or str(error)
        for received in phase.received:
            received.parts = []


def _verify_shared(received: Sequence[Received], sent: dict[str, list[Records]]) -> None:
    """Verify what several consumers read of one topic for one subscription."""
    groups: dict[tuple[str, int], list[Received]] = {}
    for part in received:
        if not part.task.whole:
            groups.setdefault((part.task.topic.name, part.task.subscription), []).append(part)
    for (topic, _), parts in groups.items():
        verify([taken for part in parts for taken in part.parts], sent[topic])


def _workers(name: str, tasks: int) -> list[Worker]:
    return [Worker(f"{name} {number}") for number in range(min(tasks, MOST_WORKERS))]


def _dealt(items: Sequence[T], hands: int) -> list[list[T]]:
    """Round and round, as cards are dealt."""
    return [list(items[hand::hands]) for hand in range(hands)]


def _finish(workers: Sequence[Worker], timeout_s: float = 300) -> list[Any]:
    return [worker.finish(timeout_s) for worker in workers]


def _sums(parts: Sequence[dict[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for part in parts:
        for topic, count in part.items():
            total[topic] = total.get(topic, 0) + count
    return total
