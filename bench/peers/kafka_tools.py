"""Kafka's own ``kafka-producer-perf-test`` and ``kafka-consumer-perf-test``, run and read.

They run as their scripts run them, 512 MB of heap included. The producer gets the batches and the
linger of the other clients, with which it is more than twice as fast as with its defaults. For the
consumer, other fetch and poll sizes than the defaults made no difference that stood out. Both are
JVMs that compile while they run, so a rate counts what comes after a warm-up, as the producer tool
reports it by itself (``--warmup-records``).
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from bench.measuring.verification import verify_ends
from bench.peers import confluent
from bench.peers.api import (
    Address,
    Client,
    ConsumerDriver,
    NotOfferedError,
    Options,
    ProducerDriver,
    Topic,
)
from bench.peers.kafka import java_command

PRODUCER = "org.apache.kafka.tools.ProducerPerformance"
CONSUMER = "org.apache.kafka.tools.ConsumerPerformance"
HEAP = "512m"
BUFFER_BYTES = 256 * 1024 * 1024
WARM_UP_SHARE = 0.2
INTERVAL_MS = 100
"""How often the consumer tool says how far it is."""
TIMEOUT_S = 300.0
MEGABYTE = 1e6

_PRODUCED = re.compile(
    r"(?P<count>\d+) (?P<steady>steady state )?records sent, (?P<rate>[\d.]+) records/sec "
    r"\([\d.]+ MB/sec\), [\d.]+ ms avg latency, [\d.]+ ms max latency, "
    r"(?P<p50>\d+) ms 50th, (?P<p95>\d+) ms 95th, (?P<p99>\d+) ms 99th, (?P<p999>\d+) ms 99\.9th"
)
_TIME = "%Y-%m-%d %H:%M:%S:%f"
_INCOMPLETE = "Exiting before consuming the expected number"


@dataclass(frozen=True)
class ToolRun:
    """What a tool reported."""

    records_per_s: float
    """After the warm-up."""
    megabytes_per_s: float
    seconds: float
    """Of the whole run, warm-up included, start of the JVM and joining of the group not."""
    overall_per_s: float
    """Records per second of the whole run."""
    latency_ms: Mapping[str, float] = field(default_factory=dict)
    """From ``send`` to the acknowledgement under this load: p50, p95, p99, p99.9."""


def produce(
    address: Address, topic: str, count: int, size: int, options: Options | None = None
) -> ToolRun:
    """Send ``count`` records of random letters as fast as it goes.

    Raises ``VoidRunError`` unless the log grew by as many.
    """
    before = _end_offsets(address, topic)
    said = _run(
        java_command(PRODUCER, *producer_arguments(address, topic, count, size, options), heap=HEAP)
    )
    after = _end_offsets(address, topic)
    verify_ends({number: end - before[number] for number, end in after.items()}, count)
    return read_produced(said, count, size)


def producer_arguments(
    address: Address, topic: str, count: int, size: int, options: Options | None = None
) -> list[str]:
    """The command line of the tool."""
    options = options or Options()
    settings = {
        "acks": options.acks,
        "linger.ms": options.linger_ms,
        "batch.size": confluent.BATCH_BYTES,
        "buffer.memory": BUFFER_BYTES,
        **options.extra,
    }
    return [
        *("--bootstrap-server", address),
        *("--topic", topic),
        *("--num-records", str(count)),
        *("--record-size", str(size)),
        *("--throughput", "-1"),
        *("--warmup-records", str(round(count * WARM_UP_SHARE))),
        *("--command-property", *(f"{key}={value}" for key, value in settings.items())),
    ]


def read_produced(text: str, count: int, size: int) -> ToolRun:
    """What ``kafka-producer-perf-test`` printed."""
    found = list(_PRODUCED.finditer(text))
    whole = [each for each in found if not each["steady"]]
    steady = [each for each in found if each["steady"]]
    if len(whole) != 1 or len(steady) != 1 or int(whole[0]["count"]) != count:
        raise ValueError(f"kafka-producer-perf-test printed no result for {count} records:\n{text}")
    rate, overall = float(steady[0]["rate"]), float(whole[0]["rate"])
    names = {"p50": "p50", "p95": "p95", "p99": "p99", "p999": "p99.9"}
    latency = {name: float(steady[0][group]) for group, name in names.items()}
    return ToolRun(rate, rate * size / MEGABYTE, count / overall, overall, latency)


def consume(address: Address, topic: str, count: int) -> ToolRun:
    """Read ``count`` records from the beginning. Raises ``VoidRunError`` if there are not so many.

    The tool looks at no record, so that it got them all is all that can be checked.
    """
    verify_ends(_end_offsets(address, topic), count)
    command = java_command(CONSUMER, *consumer_arguments(address, topic, count), heap=HEAP)
    return read_consumed(_run(command), count)


def consumer_arguments(address: Address, topic: str, count: int) -> list[str]:
    """The command line of the tool."""
    return [
        *("--bootstrap-server", address),
        *("--topic", topic),
        *("--num-records", str(count)),
        *("--reporting-interval", str(INTERVAL_MS)),
        *("--show-detailed-stats", "--hide-header"),
    ]


def read_consumed(text: str, count: int) -> ToolRun:
    """What ``kafka-consumer-perf-test`` printed at each interval, the last one excepted."""
    if _INCOMPLETE in text:
        raise ValueError(f"kafka-consumer-perf-test did not get {count} records:\n{text}")
    lines = [line.split(", ") for line in text.splitlines() if line.count(", ") == 9]
    steps = [
        (datetime.strptime(line[0], _TIME).timestamp(), int(line[4]), float(line[2]))  # noqa: DTZ007
        for line in lines
    ]
    warm = [step for step in steps if step[1] >= count * WARM_UP_SHARE]
    if len(warm) < 2 or warm[-1][0] == warm[0][0]:
        raise ValueError(f"{count} records are too few for kafka-consumer-perf-test:\n{text}")
    (start, first, first_mib), (end, last, last_mib) = warm[0], warm[-1]
    rate = (last - first) / (end - start)
    joining_s = float(lines[0][6]) / 1000
    fetching_s = end - steps[0][0] + max(0.0, INTERVAL_MS / 1000 - joining_s)
    overall = last / fetching_s
    megabytes = (last_mib - first_mib) * 2**20 / MEGABYTE
    return ToolRun(rate, megabytes / (end - start), count / overall, overall)


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)
    if done.returncode:
        raise RuntimeError(f"one of Kafka's tools failed:\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def _end_offsets(address: Address, topic: str) -> dict[int, int]:
    admin = confluent.admin_client(address)
    partitions = admin.list_topics(topic, confluent.CONNECT_S).topics[topic].partitions
    return confluent.end_offsets(admin, topic, len(partitions))


@dataclass(frozen=True)
class KafkaTools(Client):
    """The tools as a client that can only be run as a whole, with ``produce`` and ``consume``."""

    name: str = "Kafka's perf tools"
    peer: str = "kafka"

    def missing(self) -> str | None:
        return confluent.missing()

    def producer(self, address: Address, topic: Topic, options: Options) -> ProducerDriver:
        raise NotOfferedError("the tools make their own records")

    def consumer(self, address: Address, topic: Topic, options: Options) -> ConsumerDriver:
        raise NotOfferedError("the tools keep no records")


CLIENT = KafkaTools()
