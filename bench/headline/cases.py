"""The measurements behind the rows. Each case runs once per round, sides one after the other.

A case is called as ``case(session)`` and records figures named ``what/client``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.headline import cold_start, copies, faults, partitions, transactions, work
from bench.headline.session import Session, settle
from bench.measuring.records import Records
from bench.measuring.statistics import percentile
from bench.peers import (
    aiokafka,
    confluent,
    confluent_defaults,
    kafka_python,
    kafka_tools,
    raykafka,
)
from bench.peers.api import Client, Options
from bench.typed import ray_data

MEGABYTE = 1e6
TOOL_RECORDS = 10_000_000
"""Fewer, and their JVMs are still compiling for most of the time."""
WARM_UP_RECORDS = 25_000
"""Single requests after which a fresh Kafka broker answers as fast as it ever will."""


@dataclass(frozen=True)
class Bulk:
    """One client's share of the produce and consume rows."""

    writer: Client
    readers: tuple[Client, ...]
    records: Records
    """As many as take a second or two, so that starting and stopping do not count."""


BULK = (
    Bulk(raykafka.RECORDS, (raykafka.RECORDS,), Records(1_000_000, 100)),
    Bulk(confluent.CLIENT, (confluent.CLIENT,), Records(1_000_000, 100)),
    Bulk(raykafka.TABLES, (raykafka.TABLES, raykafka.MAPPED), Records(4_000_000, 100)),
    Bulk(confluent.CALLBACKS, (), Records(500_000, 100)),
    Bulk(confluent_defaults.CLIENT, (confluent_defaults.CLIENT,), Records(250_000, 100)),
    Bulk(kafka_python.CLIENT, (kafka_python.CLIENT,), Records(150_000, 100)),
    Bulk(aiokafka.CLIENT, (aiokafka.CLIENT,), Records(400_000, 100)),
)


def produce_and_consume(session: Session) -> None:
    """100 B records: written by each client, then read back and verified by its readers."""
    for bulk in BULK:
        if session.offers(bulk.writer):
            with session.attempt(f"produce, {bulk.writer.name}"):
                session.warm_memory()
                _bulk(session, bulk)
            settle()


def _bulk(session: Session, bulk: Bulk) -> None:
    count, name = bulk.records.count, bulk.writer.name
    with session.topic(bulk.writer) as topic:
        written = session.timed(bulk.writer, work.produce, topic, Options(), bulk.records)
        if not bulk.readers:
            session.read_back(confluent.CLIENT, topic, bulk.records)
        for reader in bulk.readers:
            read = session.timed(reader, work.consume, topic, Options(), [bulk.records])
            session.record(f"consume/{reader.name}", count / read.seconds)
            if reader is bulk.writer:
                both = written.cpu_seconds + read.cpu_seconds
                session.record(f"cpu/{name}", both / count * 1e6)
        # Only now, since what was written has been read back and verified.
        session.record(f"produce/{name}", count / written.seconds)


def perf_tools(session: Session) -> None:
    """Kafka's own tools, on the same broker."""
    if not session.offers(kafka_tools.CLIENT):
        return
    with session.attempt("Kafka's perf tools"), session.topic(kafka_tools.CLIENT) as topic:
        address = session.peer("kafka").address
        session.warm_memory()
        session.say("kafka-producer-perf-test")
        produced = kafka_tools.produce(address, topic.name, TOOL_RECORDS, 100)
        session.record("produce/kafka-producer-perf-test", produced.records_per_s)
        session.say("kafka-consumer-perf-test")
        consumed = kafka_tools.consume(address, topic.name, TOOL_RECORDS)
        session.record("consume/kafka-consumer-perf-test", consumed.records_per_s)


def produce_1_kb(session: Session) -> None:
    """1 KB records: tables against records."""
    for client, count in ((raykafka.TABLES, 400_000), (confluent.CLIENT, 300_000)):
        records = Records(count, 1024)
        options = Options(batch=1000)
        if not session.offers(client):
            continue
        session.warm_memory()
        with session.attempt(f"produce 1 KB, {client.name}"), session.topic(client) as topic:
            written = session.ask(client, work.produce, topic, options, records)
            session.ask(client, work.consume, topic, options, [records])
            megabytes = count * records.size / MEGABYTE
            session.record(f"produce 1 KB/{client.name}", megabytes / written.seconds)
        settle()


def one_record(session: Session) -> None:
    """Latency of a single record: its acknowledgement, and its way to another process."""
    for what, function, count in (
        ("ack", work.acks, 4_000),
        ("end to end", work.end_to_end, 2_500),
    ):
        for client in (raykafka.RECORDS, confluent.CLIENT):
            if not session.offers(client):
                continue
            with session.attempt(f"{what}, {client.name}"), session.topic(client) as topic:
                if what == "ack" and not session.counting:
                    count = WARM_UP_RECORDS
                records = Records(count, 100)
                samples = session.ask(client, function, topic, Options(linger_ms=0), records)
                session.record(f"{what} p50/{client.name}", percentile(samples, 0.5))
                session.record(f"{what} p99/{client.name}", percentile(samples, 0.99))


def many_partitions(session: Session) -> None:
    """A topic of 1,000 partitions: created, then one record acknowledged on each."""
    for client, measure in (
        (raykafka.RECORDS, partitions.raykafka),
        (confluent.CLIENT, partitions.kafka),
    ):
        if not session.offers(client):
            continue
        with session.attempt(f"1,000 partitions, {client.name}"):
            name = f"many-{client.peer}-{len(session.figures)}-{len(session.void)}"
            session.say(f"1,000 partitions: {client.name}")
            peer = session.peer(client.peer)
            answered, writable = session.worker(client).call(measure, peer.address, name)
            session.record(f"1,000 partitions answered/{client.name}", answered)
            session.record(f"1,000 partitions writable/{client.name}", writable)
            peer.delete_topic(name)
        settle(1.0)


def one_record_batches(session: Session) -> None:
    """A log in which every record came alone: written once per round, read one by one."""
    records = Records(50_000, 100)
    for client in (raykafka.RECORDS, confluent.CLIENT):
        if not session.offers(client):
            continue
        with (
            session.attempt(f"one-record batches, {client.name}"),
            session.topic(client) as topic,
        ):
            session.ask(client, work.acks, topic, Options(linger_ms=0), records)
            read = session.ask(client, work.consume, topic, Options(), [records])
            rate = records.count / read.seconds
            session.record(f"consume one-record batches/{client.name}", rate)


def datasets(session: Session) -> None:
    """Rows of a typed topic as a ``ray.data.Dataset``, against JSON in Kafka."""
    with session.attempt("ray.data"):
        session.say("ray.data")
        ours, theirs = session.peer("raykafka").address, session.peer("kafka").address
        for name, rate in ray_data.measure(ours, theirs).items():
            session.record(f"ray.data/{name}", rate)


@dataclass(frozen=True)
class Case:
    """One measurement and how it is repeated."""

    measure: Callable[[Session], None]
    warm_up: int = 1
    """Rounds whose figures are thrown away: a JVM compiles while it runs."""
    copies: int = 1
    """Of every partition."""
    most: int | None = None
    """Rounds that are enough, where one takes long or strikes more than once."""

    def rounds(self, runs: int) -> int:
        """Of those whose figures count."""
        return runs if self.most is None else min(runs, self.most)


CASES = {
    "cold-start": Case(cold_start.alone, warm_up=0),
    "bulk": Case(produce_and_consume),
    "perf-tools": Case(perf_tools, warm_up=0),  # every run of them is a JVM of its own
    "1kb": Case(produce_1_kb),
    "one-record": Case(one_record),
    "transactions": Case(transactions.transactions),
    "partitions": Case(many_partitions, warm_up=0),
    "one-record-batches": Case(one_record_batches, warm_up=0),
    "ray-data": Case(datasets, warm_up=0),
    "cold-start-joining": Case(cold_start.joining, warm_up=0),
    "three-copies": Case(copies.three_copies, copies=3),
    "killed-leader": Case(faults.killed_leader, warm_up=0, copies=3, most=2),
    "silent-leader": Case(faults.silent_leader, warm_up=0, copies=3, most=2),
    "empty-disk": Case(copies.empty_disk, warm_up=0, copies=3, most=3),
}
"""In this order: the first one needs a machine on which nothing runs yet."""
