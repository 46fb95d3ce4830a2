"""The servers and workers of one comparison, and the figures that were measured with them."""

from __future__ import annotations

import itertools
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from bench.headline import work
from bench.measuring.records import Records
from bench.measuring.verification import VoidRunError
from bench.measuring.worker import Worker, WorkerFailedError, cpu_seconds
from bench.peers.api import Client, NotOfferedError, Options, Peer, Topic
from raykafka import RaykafkaError

T = TypeVar("T")

_FAILURES = (
    VoidRunError,
    WorkerFailedError,
    RaykafkaError,
    TimeoutError,
    RuntimeError,
    OSError,
)
_ZEROS = bytes(4 << 20)
_WARM_BYTES = 2 << 30
"""More than a run writes and reads together."""


class Session:
    """Peers are started when they are first asked for, workers likewise; ``close`` ends all."""

    def __init__(self, peers: Sequence[Peer], say: Callable[[str], None]) -> None:
        self.say = say
        self.folder = Path(tempfile.mkdtemp(prefix="raykafka-bench-"))
        self.figures: dict[str, list[float]] = defaultdict(list)
        self.missing: dict[str, str] = {}
        """Why a peer or client is not there, by its name."""
        self.void: list[str] = []
        """Runs that lost, doubled, reordered or changed records, or failed."""
        self.counting = False
        """Off during the warm-up round, whose figures are thrown away."""
        self.copies = 1
        """Of every topic; peers are started with as many brokers as that takes."""
        self._peers = {peer.name: peer for peer in peers}
        self._running: dict[str, Peer] = {}
        self._workers: dict[str, Worker] = {}
        self._names = itertools.count()

    def close(self) -> None:
        for worker in self._workers.values():
            worker.stop()
        self._workers.clear()
        self._stop_peers()
        shutil.rmtree(self.folder, ignore_errors=True)

    def use_copies(self, copies: int) -> None:
        """From now on; servers that were started for another number of copies are stopped."""
        if copies != self.copies:
            self._stop_peers()
            self.copies = copies

    def _stop_peers(self) -> None:
        for peer in self._running.values():
            peer.stop()
        self._running.clear()

    def offers(self, client: Client) -> bool:
        """Whether a client can be used here; if not, ``missing`` says why from now on."""
        reason = client.missing() or self._peers[client.peer].missing()
        if reason is not None:
            self.missing[client.name] = reason
        return reason is None

    def peer(self, name: str) -> Peer:
        """A running peer."""
        if name not in self._running:
            peer = self._peers[name]
            self.say(f"starting {name}")
            self._running[name] = peer
            folder = self.folder / f"{name}-{next(self._names)}"
            folder.mkdir()
            peer.start(folder, self.copies)
        return self._running[name]

    def worker(self, client: Client) -> Worker:
        """The process in which a client runs."""
        if client.name not in self._workers:
            self._workers[client.name] = Worker(client.name)
        return self._workers[client.name]

    def record(self, name: str, value: float) -> None:
        if self.counting:
            self.figures[name].append(value)

    @contextmanager
    def attempt(self, what: str) -> Iterator[None]:
        """A failed or void run gives no figure and is told; the comparison goes on."""
        try:
            yield
        except NotOfferedError as error:
            self.missing[what] = str(error)
        except _FAILURES as error:
            self.void.append(f"{what}: {error}")
            self.say(f"void: {what}: {str(error).strip().splitlines()[-1]}")

    def warm_memory(self) -> None:
        """Make the machine's free memory quick to take, the same for every side.

        A virtual machine gives free memory back to its host, and taking it again costs five times
        as much as using it: whoever comes first after a pause would pay for all.
        """
        path = self.folder / "memory"
        with path.open("wb", buffering=0) as file:
            for _ in range(_WARM_BYTES // len(_ZEROS)):
                file.write(_ZEROS)
        path.unlink()

    @contextmanager
    def topic(self, client: Client, partitions: int = 1) -> Iterator[Topic]:
        """A fresh topic, deleted afterwards so that the next run finds the same disk."""
        topic = Topic(f"bench-{next(self._names)}", partitions, self.copies)
        peer = self.peer(client.peer)
        peer.create_topic(topic)
        try:
            yield topic
        finally:
            peer.delete_topic(topic.name)

    def ask(self, client: Client, function: Callable[..., T], topic: Topic, *args: Any) -> T:
        """Run ``function(client, address, topic, *args)`` in the client's worker."""
        self.say(f"{function.__name__.replace('_', ' ')}: {client.name}")
        address = self.peer(client.peer).address
        return self.worker(client).call(function, client, address, topic, *args)

    def timed(
        self, client: Client, function: Callable[..., work.Timed], topic: Topic, *args: Any
    ) -> work.Timed:
        """``ask`` for a time, to whose CPU seconds those of the servers meanwhile are added."""
        pids = self.peer(client.peer).pids()
        before = cpu_seconds(pids)
        timed = self.ask(client, function, topic, *args)
        return work.Timed(timed.seconds, timed.cpu_seconds + cpu_seconds(pids) - before)

    def read_back(self, reader: Client, topic: Topic, sent: Records) -> None:
        """Have somebody else read what was sent, only to verify it."""
        self.ask(reader, work.consume, topic, Options(), [sent])


def settle(seconds: float = 0.3) -> None:
    """Let a server finish what it does behind an answer before the other side is measured."""
    time.sleep(seconds)
