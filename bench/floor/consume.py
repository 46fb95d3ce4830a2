"""Consuming: record by record, as tables, end to end, and by mapping the log."""

from __future__ import annotations

import multiprocessing
import os
import time
from multiprocessing.connection import Connection

import pyarrow as pa

from bench.floor.cluster import bench_cluster, new_topic, sealed_segments
from bench.floor.measure import Row, interleaved, median_of
from bench.floor.server import SCHEMA, FloorClient, floor_server
from bench.measuring.statistics import percentile
from raykafka.client.cluster.bootstrap import Bootstrap
from raykafka.client.consumer import Consumer
from raykafka.model import TopicPartition
from raykafka.runtime import Cluster

BATCH = 10_000
RECORD = os.urandom(100)


def _fill(cluster: Cluster, topic: str, records: int) -> None:
    table = pa.table({"value": pa.array([RECORD] * BATCH, pa.binary())})
    with cluster.producer() as producer:
        for _ in range(records // BATCH):
            producer.send_table(topic, table)
        producer.flush()


def poll(runs: int, count: int = 1_000_000) -> list[Row]:
    """``poll()`` touching every record's value; ``poll_table()``; over the socket and mapped."""
    rows = []
    with bench_cluster() as cluster:
        topic = new_topic(cluster)
        _fill(cluster, topic, count)
        partition = TopicPartition(topic, 0)
        for mapped in (False, True):
            way = "mapped" if mapped else "socket"
            by_record, by_table = [], []
            for _ in range(runs + 1):
                by_record.append(count / _poll_all(cluster, partition, count, mapped, tables=False))
                by_table.append(count / _poll_all(cluster, partition, count, mapped, tables=True))
            rate = percentile(by_record[1:], 0.5)
            rows.append(
                Row(
                    f"poll() record by record, {way}",
                    "records/s",
                    rate,
                    None,
                    ">= 1,000,000",
                    rate >= 1e6,
                    by_record[1:],
                )
            )
            rate = percentile(by_table[1:], 0.5)
            rows.append(Row(f"poll_table(), {way}", "records/s", rate, None, spread=by_table[1:]))
    return rows


def _poll_all(
    cluster: Cluster, partition: TopicPartition, count: int, mapped: bool, *, tables: bool
) -> float:
    settings = {"auto_offset_reset": "earliest", "mapped_reads": mapped, "max_poll_records": BATCH}
    with cluster.consumer(**settings) as consumer:
        consumer.assign([partition])
        seen = size = 0
        start = time.perf_counter()
        while seen < count:
            if tables:
                table = consumer.poll_table(timeout_ms=1000, max_records=count)
                seen += 0 if table is None else table.num_rows
                continue
            for records in consumer.poll(timeout_ms=1000).values():
                for record in records:
                    size += len(record.value)
                seen += len(records)
        elapsed = time.perf_counter() - start
    if seen != count or (not tables and size != 100 * count):
        raise AssertionError(f"read {seen} records and {size} bytes, expected {count}")
    return elapsed


def _receiver(bootstrap: Bootstrap, topic: str, pipe: Connection) -> None:
    with Consumer(bootstrap, auto_offset_reset="latest") as consumer:
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        consumer.position(partition)
        consumer.poll(timeout_ms=0)
        pipe.send(0)
        while True:
            for records in consumer.poll(timeout_ms=1000).values():
                for record in records:
                    now = time.perf_counter_ns()
                    if record.value == b"stop":
                        return
                    pipe.send(now)


def _floor_receiver(port: int, pipe: Connection) -> None:
    client = FloorClient(port)
    client.subscribe()
    pipe.send(0)
    while True:
        client.receive()
        pipe.send(time.perf_counter_ns())


def end_to_end(runs: int, count: int = 2000) -> list[Row]:
    """From ``send`` to a consumer waiting in another process, one record at a time."""
    context = multiprocessing.get_context("spawn")
    with bench_cluster() as cluster, floor_server() as port, cluster.producer() as producer:
        topic = new_topic(cluster)
        ours_pipe, theirs_end = context.Pipe()
        reader = context.Process(
            target=_receiver, args=(cluster.bootstrap, topic, theirs_end), daemon=True
        )
        reader.start()
        floor_pipe, floor_end = context.Pipe()
        floor_reader = context.Process(target=_floor_receiver, args=(port, floor_end), daemon=True)
        floor_reader.start()
        ours_pipe.recv(), floor_pipe.recv()
        floor = FloorClient(port)
        one = pa.record_batch([pa.array([RECORD])], schema=SCHEMA)

        def ours() -> list[float]:
            samples = []
            for _ in range(count):
                start = time.perf_counter_ns()
                producer.send(topic, RECORD).get(10)
                samples.append((ours_pipe.recv() - start) / 1e3)
            return samples

        def theirs() -> list[float]:
            samples = []
            for _ in range(count):
                start = time.perf_counter_ns()
                floor.send(one)
                floor.wait_ack()
                samples.append((floor_pipe.recv() - start) / 1e3)
            return samples

        ours(), theirs()
        left, right = interleaved(ours, theirs, runs)
        reader.kill()
        floor_reader.kill()
    rows = []
    for label, share in (("p50", 0.5), ("p99", 0.99)):
        a, b = median_of(left, share), median_of(right, share)
        bound = "<= 4 x floor" if label == "p50" else ""
        met = a <= 4 * b if label == "p50" else None
        rows.append(
            Row(
                f"end to end, one record, {label}",
                "us",
                a,
                b,
                bound,
                met,
                [percentile(r, share) for r in left],
            )
        )
    return rows


def mapped(runs: int, records: int = 10_000_000) -> list[Row]:
    """Sealed segments through ``poll_batches`` by mapping, beside ``pyarrow.ipc.open_file``."""
    with bench_cluster() as cluster:
        topic = new_topic(cluster, segment_bytes=str(64 << 20))
        _fill(cluster, topic, records)
        partition = TopicPartition(topic, 0)
        files = sealed_segments(cluster, topic)

        def ours() -> list[float]:
            with cluster.consumer(auto_offset_reset="earliest") as consumer:
                consumer.assign([partition])
                seen = 0
                start = time.perf_counter()
                while seen < sealed:
                    for batch in consumer.poll_batches(timeout_ms=1000):
                        seen += batch.num_rows
                return [seen / (time.perf_counter() - start)]

        def theirs() -> list[float]:
            start = time.perf_counter()
            rows = sum(_open_file_rows(str(path)) for path in files)
            return [rows / (time.perf_counter() - start)]

        sealed = sum(_open_file_rows(str(path)) for path in files)
        ours(), theirs()
        left, right = interleaved(ours, theirs, runs)
    a, b = median_of(left, 0.5), median_of(right, 0.5)
    return [
        Row(
            "sealed segments by mapping",
            "records/s",
            a,
            b,
            ">= 0.5 x open_file",
            a >= 0.5 * b,
            [r[0] for r in left],
        )
    ]


def _open_file_rows(path: str) -> int:
    with pa.memory_map(path) as source:
        reader = pa.ipc.open_file(source)
        return sum(reader.get_batch(index).num_rows for index in range(reader.num_record_batches))
