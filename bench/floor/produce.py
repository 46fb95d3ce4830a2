"""Producing: one record with its ack, tables of 10,000 records, ``send()`` one by one."""

from __future__ import annotations

import os
import time

import pyarrow as pa

from bench.floor.cluster import bench_cluster, new_topic
from bench.floor.measure import Row, interleaved, median_of, microseconds
from bench.floor.server import SCHEMA, FloorClient, floor_server
from bench.measuring.statistics import percentile

BATCH = 10_000
RECORD = os.urandom(100)


def one_record(runs: int) -> list[Row]:
    """A synchronous client that waits for each acknowledgement, beside the floor."""
    with bench_cluster() as cluster, floor_server() as port:
        topic = new_topic(cluster)
        floor = FloorClient(port)
        one = pa.record_batch([pa.array([RECORD])], schema=SCHEMA)
        with cluster.producer() as producer:

            def ours() -> list[float]:
                return microseconds(lambda: producer.send(topic, RECORD).get(10), 3000)

            def theirs() -> list[float]:
                def call() -> None:
                    floor.send(one)
                    floor.wait_ack()

                return microseconds(call, 3000)

            ours(), theirs()
            left, right = interleaved(ours, theirs, runs)
        floor.close()
    rows = []
    for label, share, bound in (("p50", 0.5, 4.0), ("p99", 0.99, 6.0)):
        a, b = median_of(left, share), median_of(right, share)
        spread = [percentile(run, share) for run in left]
        rows.append(
            Row(
                f"one record, acked, {label}",
                "us",
                a,
                b,
                f"<= {bound:g} x floor",
                a <= bound * b,
                spread,
            )
        )
    return rows


def tables(runs: int, rounds: int = 300) -> list[Row]:
    """Tables of 10,000 records of 100 bytes, several in flight, beside the floor with four."""
    values = pa.array([os.urandom(100) for _ in range(BATCH)], pa.binary())
    table = pa.table({"value": values})
    batch = pa.record_batch([values], schema=SCHEMA)
    megabytes = rounds * BATCH * 100 / 1e6
    with bench_cluster() as cluster, floor_server() as port:
        floor = FloorClient(port)
        with cluster.producer() as producer:

            def ours() -> list[float]:
                topic = new_topic(cluster)
                producer.send_table(topic, table).get(30)
                start = time.perf_counter()
                for _ in range(rounds):
                    producer.send_table(topic, table)
                producer.flush()
                return [megabytes / (time.perf_counter() - start)]

            def theirs() -> list[float]:
                start = time.perf_counter()
                for index in range(rounds):
                    floor.send(batch)
                    if index >= 3:
                        floor.wait_ack()
                for _ in range(3):
                    floor.wait_ack()
                return [megabytes / (time.perf_counter() - start)]

            ours(), theirs()
            left, right = interleaved(ours, theirs, runs)
        floor.close()
    a, b = median_of(left, 0.5), median_of(right, 0.5)
    spread = [run[0] for run in left]
    return [Row("tables of 10,000 x 100 B", "MB/s", a, b, ">= 0.5 x floor", a >= 0.5 * b, spread)]


def send_loop(runs: int, count: int = 1_000_000) -> list[Row]:
    """``send()`` one by one without waiting, flush included, unkeyed and keyed."""
    rows = []
    keys = [b"key-%d" % (i % 1000) for i in range(count)]
    with bench_cluster() as cluster, cluster.producer() as producer:
        for label, keyed in (
            ("send() one by one, no key", False),
            ("send() one by one, keyed", True),
        ):
            rates = []
            for _ in range(runs + 1):
                topic = new_topic(cluster, partitions=4 if keyed else 1)
                producer.partitions_for(topic)
                send = producer.send
                start = time.perf_counter()
                if keyed:
                    for key in keys:
                        send(topic, RECORD, key)
                else:
                    for _ in range(count):
                        send(topic, RECORD)
                producer.flush()
                rates.append(count / (time.perf_counter() - start))
            rate = percentile(rates[1:], 0.5)
            target = "" if keyed else ">= 600,000"
            rows.append(
                Row(
                    label,
                    "records/s",
                    rate,
                    None,
                    target,
                    None if keyed else rate >= 6e5,
                    rates[1:],
                )
            )
    return rows
