"""Redis Streams through redis-py: a stream per partition, as those who need several shard them.

Redis keeps all records in memory and writes its append-only file beside them. When that file is
forced to the disk is a setting of the whole server, so the topics of one server share a policy.
"""

from __future__ import annotations

import importlib.util
import itertools
import queue
import shutil
import subprocess
import threading
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.measuring.records import KEYS, Records
from bench.measuring.verification import Taken
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
from bench.peers.local_server import HOST, LocalServer, free_port

if TYPE_CHECKING:
    import redis

PIPELINE = 1000
"""Commands sent at a time; larger pipelines were not faster."""
READ_COUNT = 1000
"""Entries asked for at a time and stream; larger answers were slower to parse."""
FSYNC = {"none": "no", "interval": "everysec", "batch": "always"}
"""``Topic.fsync`` as ``appendfsync``; ``always`` is once per turn of the server's loop."""

Fields = dict[bytes, bytes]
Pipeline = list[tuple[str, Fields]]
"""The commands of one pipeline: stream and fields of each record."""


@dataclass
class Redis(Peer):
    """One server with an append-only file."""

    name: str = "redis"
    _server: LocalServer | None = None
    _topics: dict[str, Topic] = field(default_factory=dict)

    def missing(self) -> str | None:
        if shutil.which("redis-server") is None:
            return "redis-server is not installed (Debian: redis-server)"
        return CLIENT.missing()

    def version(self) -> str:
        command = ["redis-server", "--version"]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return "Redis " + said.partition("v=")[2].partition(" ")[0]

    def start(self, folder: Path, copies: int = 1) -> None:
        if copies > self.largest_copies:
            raise NotOfferedError("one Redis server is started, which keeps one copy")
        folder.mkdir(parents=True, exist_ok=True)
        port = free_port()
        settings = {
            "bind": HOST,
            "port": str(port),
            "dir": str(folder),
            "appendonly": "yes",
            "appendfsync": "no",
            "save": "",
            # Whether a rewrite of the file falls into a run would be chance.
            "auto-aof-rewrite-percentage": "0",
        }
        options = [word for key, value in settings.items() for word in (f"--{key}", value)]
        self._server = LocalServer(["redis-server", *options], port, folder / "server.log")

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None
        self._topics.clear()

    @property
    def address(self) -> Address:
        assert self._server is not None
        return f"{HOST}:{self._server.port}"

    def pids(self) -> list[int]:
        return [] if self._server is None else [self._server.pid]

    def create_topic(self, topic: Topic) -> None:
        if topic.copies > self.largest_copies:
            raise NotOfferedError("one Redis server is started, which keeps one copy")
        if any(other.fsync != topic.fsync for other in self._topics.values()):
            raise NotOfferedError("appendfsync is one setting for all topics of a Redis server")
        with connect(self.address) as client:
            client.config_set("appendfsync", FSYNC[topic.fsync])
        self._topics[topic.name] = topic

    def delete_topic(self, name: str) -> None:
        topic = self._topics.pop(name)
        with connect(self.address) as client:
            client.unlink(*(stream(topic.name, number) for number in range(topic.partitions)))


def connect(address: Address) -> redis.Redis:
    """A client of the server at ``host:port``."""
    import redis

    host, _, port = address.rpartition(":")
    # The shape of answers depends on the protocol; version 3 was not faster.
    return redis.Redis(host=host, port=int(port), protocol=2)


def stream(topic: str, partition: int) -> str:
    """Key of the stream that holds a partition."""
    return f"{topic}/{partition}"


def pipelines(topic: Topic, records: Records, keyed: bool) -> list[Pipeline]:
    """The commands that send ``records``, cut into pipelines.

    Keyed records go where their key says, others pipeline by pipeline to one stream after another.
    """
    values, streams = records.values(), [stream(topic.name, n) for n in range(topic.partitions)]
    commands: Pipeline
    if keyed:
        keys = [b"key-%d" % number for number in range(KEYS)]
        places = [streams[zlib.crc32(key) % topic.partitions] for key in keys]
        commands = [
            (places[at % KEYS], {b"key": keys[at % KEYS], b"value": value})
            for at, value in enumerate(values)
        ]
    else:
        commands = [
            (streams[at // PIPELINE % topic.partitions], {b"value": value})
            for at, value in enumerate(values)
        ]
    return [commands[start : start + PIPELINE] for start in range(0, len(commands), PIPELINE)]


class StreamProducer(ProducerDriver):
    """``XADD``: in pipelines, or one command and its reply."""

    def __init__(self, address: Address, topic: Topic, options: Options) -> None:
        self._topic = topic
        self._redis = connect(address)
        self._redis.ping()
        self._streams = itertools.cycle(stream(topic.name, n) for n in range(topic.partitions))
        self._queued: queue.Queue[tuple[bytes, Callable[[Exception | None], None]] | None]
        self._queued = queue.Queue()
        self._thread: threading.Thread | None = None

    def prepare(self, records: Records, keyed: bool = False) -> list[Pipeline]:
        return pipelines(self._topic, records, keyed)

    def send_all(self, prepared: list[Pipeline]) -> None:
        for commands in prepared:
            with self._redis.pipeline(transaction=False) as pipeline:
                for key, fields in commands:
                    pipeline.xadd(key, fields)
                pipeline.execute()  # raises the first command's error

    def send_one(self, value: bytes) -> None:
        self._redis.xadd(next(self._streams), {b"value": value})

    def send(self, value: bytes, acked: Callable[[Exception | None], None]) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._deliver, daemon=True)
            self._thread.start()
        self._queued.put((value, acked))

    def _deliver(self) -> None:
        """Send what came while the last pipeline was under way, so nothing is held back."""
        while (first := self._queued.get()) is not None:
            batch = [first]
            while len(batch) < PIPELINE and not self._queued.empty():
                found = self._queued.get()
                if found is None:
                    self._queued.put(None)
                    break
                batch.append(found)
            for (_, acked), fate in zip(batch, self._add([v for v, _ in batch]), strict=True):
                acked(fate if isinstance(fate, Exception) else None)
                self._queued.task_done()

    def _add(self, values: Sequence[bytes]) -> Sequence[object]:
        """An id or an exception for each value."""
        import redis

        key = next(self._streams)
        try:
            with self._redis.pipeline(transaction=False) as pipeline:
                for value in values:
                    pipeline.xadd(key, {b"value": value})
                fates: list[object] = pipeline.execute(raise_on_error=False)
                return fates
        except redis.RedisError as error:
            return [error] * len(values)

    def flush(self) -> None:
        self._queued.join()

    def close(self) -> None:
        if self._thread is not None:
            self._queued.put(None)
            self._thread.join()
        self._redis.close()


class StreamConsumer(ConsumerDriver):
    """``XREAD`` of many entries at a time, from all streams at once."""

    def __init__(self, address: Address, topic: Topic, options: Options) -> None:
        numbers = options.partitions or range(topic.partitions)
        self._numbers = {stream(topic.name, number).encode(): number for number in numbers}
        self._ends: dict[bytes, bytes] = dict.fromkeys(self._numbers, b"0-0")
        self._redis = connect(address)
        self._redis.ping()

    def read_all(self, count: int, timeout_s: float) -> list[tuple[int, list[bytes]]]:
        deadline, seen = time.monotonic() + timeout_s, 0
        read: list[tuple[int, list[bytes]]] = []
        while seen < count:
            for number, values in self._read(block_ms=1000):
                read.append((number, values))
                seen += len(values)
            if time.monotonic() > deadline:
                raise TimeoutError(f"{seen} of {count} records came in time")
        return read

    def _read(self, block_ms: int) -> list[tuple[int, list[bytes]]]:
        streams: Any = self._ends
        answer: Any = self._redis.xread(streams, count=READ_COUNT, block=block_ms)
        found = []
        for key, entries in answer:
            self._ends[key] = entries[-1][0]
            found.append((self._numbers[key], [fields[b"value"] for _, fields in entries]))
        return found

    def taken(self, read: list[tuple[int, list[bytes]]]) -> Sequence[Taken]:
        partitions: dict[int, list[bytes]] = {}
        for number, values in read:
            partitions.setdefault(number, []).extend(values)
        return [Taken(number, values) for number, values in partitions.items()]

    def poll_values(self, timeout_s: float) -> Mapping[int, Sequence[bytes]]:
        return dict(self._read(block_ms=max(1, int(timeout_s * 1000))))  # 0 would wait for ever

    def close(self) -> None:
        self._redis.close()


@dataclass(frozen=True)
class RedisClient(Client):
    """redis-py with the C parser that it recommends."""

    name: str = "redis-py"
    peer: str = "redis"

    def missing(self) -> str | None:
        for module in ("redis", "hiredis"):
            if importlib.util.find_spec(module) is None:
                return f"{module} is not installed (pip install 'redis[hiredis]')"
        return None

    def producer(self, address: Address, topic: Topic, options: Options) -> ProducerDriver:
        return StreamProducer(address, topic, options)

    def consumer(self, address: Address, topic: Topic, options: Options) -> ConsumerDriver:
        return StreamConsumer(address, topic, options)


CLIENT = RedisClient()
CLIENTS = (CLIENT,)
