"""raykafka: the cluster that ``raykafka up`` starts, and three ways to use it.

``raykafka`` sends and polls records one by one, ``raykafka tables`` appends and polls Arrow tables
over the socket as a reader on another node would, ``raykafka mapped`` reads them as a reader on the
same node does, by mapping the log's files.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import pyarrow as pa
from crc32c import crc32c

import raykafka
from bench.measuring.records import Records
from bench.measuring.verification import Taken, join_parts
from bench.peers.api import (
    Address,
    Client,
    ConsumerDriver,
    NotOfferedError,
    Options,
    Peer,
    ProducerDriver,
    Topic,
    check_time,
)
from bench.peers.raykafka_nodes import Nodes
from raykafka import NewTopic, TopicPartition
from raykafka.client.consuming.polled_tables import PartitionBatch


@dataclass
class Raykafka(Peer):
    """One node, and Ray is started with it unless one runs; or three nodes with a Ray of their own.

    On three nodes every broker has one partition actor, because they share one machine.
    """

    name: str = "raykafka"
    largest_copies: int = 3
    configs: Mapping[str, str] = field(default_factory=dict)
    _folder: Path | None = None
    _nodes: Nodes | None = None

    def missing(self) -> str | None:
        return None

    def version(self) -> str:
        return f"raykafka {raykafka.__version__} on Ray {metadata.version('ray')}"

    def start(self, folder: Path, copies: int = 1) -> None:
        if copies > self.largest_copies:
            raise NotOfferedError(f"{self.largest_copies} brokers are started at most")
        self._folder = folder
        if copies > 1:
            configs = {"partition.actors": "1", **self.configs}
            self._nodes = Nodes(f"bench-{os.getpid()}", folder, self.largest_copies, configs)
            return
        settings = [f"--config={key}={value}" for key, value in self.configs.items()]
        self._command("up", "--data-dir", str(folder), *settings)

    def stop(self) -> None:
        if self._nodes is not None:
            self._nodes.stop()
            self._nodes = None
        elif self._folder is not None:
            self._command("down")
        self._folder = None

    def _command(self, verb: str, *options: str) -> None:
        """Run the command line as its users do, with names kept out of the user's home."""
        assert self._folder is not None
        command = [str(Path(sys.executable).with_name("raykafka")), verb, "--quiet"]
        environment = {**os.environ, "RAYKAFKA_HOME": str(self._folder.parent / "home")}
        done = subprocess.run(
            [*command, "--name", f"bench-{os.getpid()}", *options],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"raykafka {verb} failed:\n{done.stdout}{done.stderr}")

    @property
    def address(self) -> Address:
        return f"{self._folder}{os.sep}"

    def pids(self) -> list[int]:
        return [a.pid for a in raykafka.connect(self.address).status().actors if a.pid]

    def create_topic(self, topic: Topic) -> None:
        if topic.copies > (1 if self._nodes is None else self.largest_copies):
            raise NotOfferedError(f"the brokers that run keep no {topic.copies} copies")
        wanted = NewTopic(
            topic.name,
            num_partitions=topic.partitions,
            replication_factor=topic.copies,
            topic_configs={
                "fsync": topic.fsync,
                "min.insync.replicas": str(min(2, topic.copies)),
            },
        )
        with raykafka.connect(self.address).admin() as admin:
            admin.create_topics([wanted])

    def delete_topic(self, name: str) -> None:
        with raykafka.connect(self.address).admin() as admin:
            admin.delete_topics([name])

    def leader_pids(self, topic: Topic, *, whole_node: bool) -> list[int]:
        return self.nodes.pids_of(self.nodes.leader(topic), whole_node=whole_node)

    def restore(self, topic: Topic) -> None:
        """What was killed is started again by the cluster itself."""
        self.nodes.wait_in_sync(topic)

    @property
    def nodes(self) -> Nodes:
        """What can be done to a cluster of three."""
        if self._nodes is None:
            raise NotOfferedError("one broker keeps no copies")
        return self._nodes


class RecordProducer(ProducerDriver):
    """``Producer.send`` for every record."""

    def __init__(self, address: Address, topic: Topic, options: Options) -> None:
        self._address = address
        self._topic = topic.name
        self._options = options
        self._transactional: raykafka.Producer | None = None
        self._producer = raykafka.connect(address).producer(
            acks=options.acks, linger_ms=options.linger_ms, **options.extra
        )
        self._producer.partitions_for(topic.name)

    def prepare(self, records: Records, keyed: bool = False) -> Any:
        return records.values(), records.keys() if keyed else None

    def send_all(self, prepared: Any) -> None:
        values, keys = prepared
        send, topic = self._producer.send, self._topic
        if keys is None:
            for value in values:
                send(topic, value)
        else:
            for value, key in zip(values, keys, strict=True):
                send(topic, value, key)
        self.flush()

    def send_one(self, value: bytes) -> None:
        self._producer.send(self._topic, value).get(10)

    def send(self, value: bytes, acked: Callable[[Exception | None], None]) -> None:
        self._producer.send(self._topic, value).add_both(
            lambda fate: acked(fate if isinstance(fate, Exception) else None)
        )

    def flush(self) -> None:
        self._producer.flush()
        failed = self._producer.metrics()["records_failed"]
        if failed:
            raise RuntimeError(f"{failed} records failed")

    def open_transactions(self) -> None:
        self._transactional = raykafka.connect(self._address).producer(
            transactional_id=f"bench-{self._topic}", linger_ms=self._options.linger_ms
        )
        self._transactional.init_transactions()

    def send_transaction(self, values: Sequence[bytes]) -> None:
        producer = self._transactional
        assert producer is not None
        send, topic = producer.send, self._topic
        producer.begin_transaction()
        for value in values:
            send(topic, value)
        producer.commit_transaction()

    def close(self) -> None:
        if self._transactional is not None:
            self._transactional.close()
        self._producer.close()


class TableProducer(RecordProducer):
    """``Producer.send_table`` for every ``options.batch`` records."""

    def prepare(self, records: Records, keyed: bool = False) -> list[pa.Table]:
        columns = {"value": records.column()}
        if keyed:
            columns["key"] = pa.array(records.keys(), pa.binary())
        table, step = pa.table(columns), self._options.batch
        return [table.slice(start, step) for start in range(0, records.count, step)]

    def send_all(self, prepared: list[pa.Table]) -> None:
        send_table, topic = self._producer.send_table, self._topic
        key = "key" if "key" in prepared[0].column_names else None
        for table in prepared:
            send_table(topic, table, key=key)
        self.flush()


class RecordConsumer(ConsumerDriver):
    """``Consumer.poll``, every value touched."""

    def __init__(self, address: Address, topic: Topic, options: Options, mapped: bool) -> None:
        self._consumer = raykafka.connect(address).consumer(
            auto_offset_reset="earliest",
            mapped_reads=mapped,
            max_poll_records=10_000,
            **options.extra,
        )
        numbers = options.partitions or range(topic.partitions)
        self._consumer.assign([TopicPartition(topic.name, number) for number in numbers])

    def read_all(self, count: int, timeout_s: float) -> Any:
        poll, seen = self._consumer.poll, 0
        deadline = time.monotonic() + timeout_s
        read: list[tuple[int, list[bytes]]] = []
        while seen < count:
            for partition, records in poll(timeout_ms=1000).items():
                read.append((partition.partition, [record.value for record in records]))
                seen += len(records)
            check_time(deadline, seen, count)
        return read

    def taken(self, read: Any) -> Sequence[Taken]:
        return join_parts(read)

    def poll_values(self, timeout_s: float) -> Mapping[int, Sequence[bytes]]:
        polled = self._consumer.poll(timeout_ms=int(timeout_s * 1000))
        return {place.partition: [r.value for r in found] for place, found in polled.items()}

    def close(self) -> None:
        self._consumer.close()


class TableConsumer(RecordConsumer):
    """``Consumer.poll_batches``: columns, without a Python object per record.

    A checksum of each batch's values stands for the work of a reader, which looks at every byte:
    mapped columns would otherwise be handed out without having been read from memory at all.
    """

    def read_all(self, count: int, timeout_s: float) -> list[PartitionBatch]:
        poll_batches, seen = self._consumer.poll_batches, 0
        deadline = time.monotonic() + timeout_s
        read: list[PartitionBatch] = []
        while seen < count:
            for found in poll_batches(timeout_ms=1000):
                crc32c(memoryview(found.batch.column(0).buffers()[2]))
                read.append(found)
                seen += found.batch.num_rows
            check_time(deadline, seen, count)
        return read

    def taken(self, read: list[PartitionBatch]) -> Sequence[Taken]:
        partitions: dict[int, list[pa.Array]] = {}
        for found in read:
            columns = partitions.setdefault(found.partition.partition, [])
            columns.append(found.batch.column(0))
        return [Taken(partition, columns) for partition, columns in partitions.items()]


@dataclass(frozen=True)
class RaykafkaClient(Client):
    """One way to use raykafka."""

    name: str
    tables: bool = False
    mapped: bool = False
    peer: str = "raykafka"

    def missing(self) -> str | None:
        return None

    def producer(self, address: Address, topic: Topic, options: Options) -> ProducerDriver:
        return (TableProducer if self.tables else RecordProducer)(address, topic, options)

    def consumer(self, address: Address, topic: Topic, options: Options) -> ConsumerDriver:
        kind = TableConsumer if self.tables else RecordConsumer
        return kind(address, topic, options, self.mapped)


RECORDS = RaykafkaClient("raykafka")
TABLES = RaykafkaClient("raykafka tables", tables=True)
MAPPED = RaykafkaClient("raykafka mapped", tables=True, mapped=True)
CLIENTS = (RECORDS, TABLES, MAPPED)
