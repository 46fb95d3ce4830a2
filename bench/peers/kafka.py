"""Apache Kafka in KRaft mode: one broker, or three that keep copies of each other's partitions.

Every broker is a controller as well, as in Kafka's own quick start. The JVM gets the options that
Kafka's scripts give it (G1, the same pause target), with 1 GB of heap for a single broker, which is
their default, and 512 MB for each of three, because they share one machine.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bench.peers import confluent, jars
from bench.peers.api import Address, NotOfferedError, Peer, Topic

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

HOST = "127.0.0.1"
START_S = 90.0
REQUEST_S = 60.0
STOP_S = 3.0
HEAP_OF_SEVERAL = "512m"
JVM_OPTIONS = (
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-Djava.awt.headless=true",
)
"""What ``kafka-run-class`` sets for the servers and for the tools."""

LOGGING = """\
status = error
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = [%d] %p %m (%c)%n
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
"""
FSYNC: Mapping[str, Mapping[str, str]] = {
    "none": {},
    "interval": {"flush.ms": "1000"},
    "batch": {"flush.messages": "1"},
}
"""``Topic.fsync`` in Kafka's terms; it checks for a flush once per appended batch."""


@dataclass(frozen=True)
class Node:
    """One broker and controller."""

    number: int
    port: int
    controller_port: int
    folder: Path

    def server_properties(self, nodes: list[Node], configs: Mapping[str, str]) -> str:
        """Its configuration; ``configs`` overrides."""
        settings = {
            "process.roles": "broker,controller",
            "node.id": str(self.number),
            "controller.quorum.voters": ",".join(
                f"{node.number}@{HOST}:{node.controller_port}" for node in nodes
            ),
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://{HOST}:{self.port},CONTROLLER://{HOST}:{self.controller_port}",
            "advertised.listeners": f"PLAINTEXT://{HOST}:{self.port}",
            "log.dirs": str(self.folder / "data"),
            **common_settings(len(nodes)),
            **configs,
        }
        return "".join(f"{key}={value}\n" for key, value in settings.items())


def common_settings(copies: int) -> dict[str, str]:
    """Settings that do not depend on the node."""
    in_sync = str(min(2, copies))
    return {
        "num.partitions": "1",
        "default.replication.factor": str(copies),
        "min.insync.replicas": in_sync,
        "offsets.topic.replication.factor": str(copies),
        "transaction.state.log.replication.factor": str(copies),
        "transaction.state.log.min.isr": in_sync,
        "share.coordinator.state.topic.replication.factor": str(copies),
        "share.coordinator.state.topic.min.isr": in_sync,
        "group.initial.rebalance.delay.ms": "0",
        "auto.create.topics.enable": "false",
        "log.segment.delete.delay.ms": "1000",  # a deleted topic gives its disk back during the run
    }


@dataclass
class Kafka(Peer):
    """Brokers on free ports of the loopback interface."""

    name: str = "kafka"
    largest_copies: int = 3
    configs: Mapping[str, str] = field(default_factory=dict)
    """Settings of the broker itself, verbatim."""
    ready_s: float = 0.0
    """From the start of the server processes to the first answered request, at the last start."""
    _nodes: list[Node] = field(default_factory=list)
    _servers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _admin: AdminClient | None = None

    def missing(self) -> str | None:
        return confluent.missing() or jars.missing()

    def version(self) -> str:
        return f"Apache Kafka {jars.kafka_version()}"

    def start(self, folder: Path, copies: int = 1) -> None:
        """Start one broker, or three for more than one copy."""
        if copies > self.largest_copies:
            raise NotOfferedError(f"{self.largest_copies} brokers are started at most")
        self.stop()
        self._nodes = _new_nodes(folder, 1 if copies == 1 else 3)
        try:
            self._format(folder)
            heap = "1g" if len(self._nodes) == 1 else HEAP_OF_SEVERAL
            started = time.monotonic()
            for node in self._nodes:
                self._servers.append(_start_server(node, heap))
            self._wait_until_ready(started + START_S)
            self.ready_s = time.monotonic() - started
        except BaseException:
            self.stop()
            raise

    def _format(self, folder: Path) -> None:
        (folder / "log4j2.properties").write_text(LOGGING)
        cluster = _cluster_id()
        formatting = []
        for node in self._nodes:
            node.folder.mkdir(parents=True)
            properties = node.folder / "server.properties"
            properties.write_text(node.server_properties(self._nodes, self.configs))
            arguments = ("format", "-t", cluster, "-c", str(properties))
            command = java_command("kafka.tools.StorageTool", *arguments, heap="256m")
            with (node.folder / "format.log").open("wb") as log:
                formatting.append(subprocess.Popen(command, stdout=log, stderr=log))
        failed = [process.wait(START_S) != 0 for process in formatting]
        for node, bad in zip(self._nodes, failed, strict=True):
            if bad:
                said = (node.folder / "format.log").read_text(errors="replace")
                raise RuntimeError(f"Kafka's storage could not be formatted:\n{said[-2000:]}")

    def _wait_until_ready(self, deadline: float) -> None:
        # Clients connect once somebody listens: librdkafka backs off longer after each refusal.
        self._until(deadline, lambda: all(_listens(node.port) for node in self._nodes))
        self._admin = confluent.admin_client(self.address)
        self._until(deadline, self._all_brokers_known)

    def _all_brokers_known(self) -> bool:
        from confluent_kafka import KafkaException

        assert self._admin is not None
        try:
            return len(self._admin.list_topics(timeout=1).brokers) == len(self._nodes)
        except KafkaException:
            return False

    def _until(self, deadline: float, condition: Callable[[], bool]) -> None:
        while not condition():
            for node, server in zip(self._nodes, self._servers, strict=True):
                if server.poll() is not None:
                    said = (node.folder / "server.log").read_text(errors="replace")
                    raise RuntimeError(f"Kafka ended with {server.returncode}:\n{said[-2000:]}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"Kafka does not answer; see {self._nodes[0].folder}/server.log")
            time.sleep(0.01)

    def stop(self) -> None:
        self._admin = None
        for server in self._servers:
            server.terminate()
        deadline = time.monotonic() + STOP_S
        for server in self._servers:
            try:
                server.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
        self._servers.clear()

    @property
    def address(self) -> Address:
        return ",".join(f"{HOST}:{node.port}" for node in self._nodes)

    def pids(self) -> list[int]:
        return [server.pid for server in self._servers]

    def leader_pids(self, topic: Topic, *, whole_node: bool) -> list[int]:
        """One process is all there is of a node."""
        assert self._admin is not None
        known = self._admin.list_topics(topic.name, REQUEST_S).topics[topic.name]
        return [self._servers[known.partitions[0].leader - 1].pid]

    def restore(self, topic: Topic) -> None:
        for place, (node, server) in enumerate(zip(self._nodes, self._servers, strict=True)):
            if server.poll() is not None:
                self._servers[place] = _start_server(node, HEAP_OF_SEVERAL)
        self._until(time.monotonic() + START_S, lambda: self._all_in_sync(topic))

    def _all_in_sync(self, topic: Topic) -> bool:
        from confluent_kafka import KafkaException

        assert self._admin is not None
        try:
            known = self._admin.list_topics(topic.name, timeout=5).topics[topic.name]
        except KafkaException:
            return False
        return all(len(each.isrs) == topic.copies for each in known.partitions.values())

    def create_topic(self, topic: Topic) -> None:
        from confluent_kafka.admin import NewTopic

        if topic.copies > len(self._nodes):
            raise NotOfferedError(f"{len(self._nodes)} brokers keep no {topic.copies} copies")
        wanted = NewTopic(
            topic.name,
            num_partitions=topic.partitions,
            replication_factor=topic.copies,
            config={**FSYNC[topic.fsync], "min.insync.replicas": str(min(2, topic.copies))},
        )
        assert self._admin is not None
        self._admin.create_topics([wanted])[topic.name].result(REQUEST_S)
        self._until(time.monotonic() + REQUEST_S, lambda: self._leads_all(topic))

    def _leads_all(self, topic: Topic) -> bool:
        """Whether the leader of every partition says so itself; metadata alone is too early."""
        from confluent_kafka import KafkaException

        assert self._admin is not None
        try:
            # Also makes librdkafka forget that it was told of no such topic a moment ago.
            known = self._admin.list_topics(timeout=10).topics.get(topic.name)
            if known is None or len(known.partitions) < topic.partitions:
                return False
            return len(self.end_offsets(topic)) == topic.partitions
        except KafkaException:
            return False

    def end_offsets(self, topic: Topic) -> dict[int, int]:
        """The next offset of every partition, from its leader."""
        assert self._admin is not None
        return confluent.end_offsets(self._admin, topic.name, topic.partitions)

    def delete_topic(self, name: str) -> None:
        assert self._admin is not None
        self._admin.delete_topics([name])[name].result(REQUEST_S)


def java_command(main: str, *arguments: str, heap: str, logging: Path | None = None) -> list[str]:
    """The command line for one of Kafka's programs, as ``kafka-run-class`` would build it."""
    java = jars.java()
    assert java is not None
    options = [f"-Xms{heap}", f"-Xmx{heap}", *JVM_OPTIONS]
    if logging is not None:
        options.append(f"-Dlog4j2.configurationFile={logging}")
    return [*_dying_with_parent(), java, *options, "-cp", jars.class_path(), main, *arguments]


def _cluster_id() -> str:
    """A new id as Kafka writes them, which never begin like an option of the command line."""
    while True:
        found = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not found.startswith("-"):
            return found


def _dying_with_parent() -> list[str]:
    """A prefix that makes Linux kill the program when the thread that started it is gone."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL"] if setpriv else []


def _new_nodes(folder: Path, count: int) -> list[Node]:
    ports = free_ports(2 * count)
    return [
        Node(index + 1, ports[2 * index], ports[2 * index + 1], folder / f"broker-{index + 1}")
        for index in range(count)
    ]


def _start_server(node: Node, heap: str) -> subprocess.Popen[bytes]:
    properties = str(node.folder / "server.properties")
    logging = node.folder.parent / "log4j2.properties"
    command = java_command("kafka.Kafka", properties, heap=heap, logging=logging)
    with (node.folder / "server.log").open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on; all are held at once, so they differ."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind((HOST, 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _listens(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True
