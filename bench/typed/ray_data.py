"""Rows into ``ray.data``: a typed topic, against the same rows as JSON in Kafka.

Both ends are what a user writes: on one side a Ray task per partition that reads it by its handle,
on the other ``ray.data.read_kafka`` and ``map_batches``, which Ray fuses into a task per partition.
Both have a partition per core, and end as a materialized dataset of the same columns.
"""

from __future__ import annotations

import io
import itertools
import json
import logging
import os
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.json

from bench.measuring.verification import VoidRunError
from bench.measuring.worker import Worker
from bench.peers.api import Address, Topic
from bench.typed.topics import (
    append_slices,
    fresh_name,
    kafka_topic,
    produce_values,
    raykafka_topic,
)
from raykafka import TopicHandle

ROWS = 500_000
SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("user", pa.int32()),
        ("at", pa.int64()),
        ("price", pa.float64()),
        ("score", pa.float32()),
        ("count", pa.int32()),
        ("country", pa.string()),
        ("page", pa.string()),
    ]
)
CONSUMER = {
    "fetch.queue.backoff.ms": 1,
    "queued.min.messages": 1_000_000,
    "queued.max.messages.kbytes": 1 << 20,
    "fetch.max.bytes": 64 << 20,
    "max.partition.fetch.bytes": 16 << 20,
    "log_level": 0,
}
"""Kafka's consumer reads ahead as far as it can; without the first line it stops and goes."""

Decode = Callable[[pa.Table], pa.Table]


def rows(first: int, count: int) -> pa.Table:
    """Rows ``first`` to ``first + count``; the same whenever they are asked for."""
    random = np.random.default_rng(first)
    countries = np.array(["DE", "FR", "IT", "NL", "PL", "US"])
    pages = np.array([f"/articles/{number}" for number in range(1000)])
    return pa.table(
        [
            np.arange(first, first + count),
            random.integers(0, 1 << 30, count, np.int32),
            1_700_000_000_000 + random.integers(0, 1 << 40, count),
            random.random(count) * 100,
            random.random(count, np.float32),
            random.integers(0, 100, count, np.int32),
            countries[random.integers(0, len(countries), count)],
            pages[random.integers(0, len(pages), count)],
        ],
        schema=SCHEMA,
    )


def json_values(table: pa.Table) -> list[bytes]:
    """One JSON object per row."""
    encode = json.JSONEncoder(separators=(",", ":")).encode
    return [encode(row).encode() for row in table.to_pylist()]


def measure(ours: Address, theirs: Address | None, rows: int = ROWS) -> dict[str, float]:
    """Rows per second into a dataset, once each: ``raykafka``, and Kafka with two decoders.

    ``ours`` is a raykafka cluster and ``theirs`` Kafka's bootstrap servers; None leaves Kafka out.
    ``kafka`` is the faster of ``kafka json.loads`` and ``kafka pyarrow.json``. Raises
    ``VoidRunError`` when a dataset does not hold what was written.
    """
    with Worker("ray.data") as worker:
        worker.call(_join_ray)
        rates = {"raykafka": worker.call(from_raykafka, ours, rows)}
        if theirs is not None:
            found: dict[str, float] = worker.call(from_kafka, theirs, rows)
            rates |= {f"kafka {name}": rate for name, rate in found.items()}
            rates["kafka"] = max(found.values())
    return rates


def _join_ray() -> None:
    """Join the Ray that the cluster runs on."""
    import ray

    ray.init(address="auto", log_to_driver=False, logging_level=logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    _warm_up()


def _warm_up() -> None:
    """Start Ray's worker processes, which is paid once and by neither side."""
    import ray

    def pass_on(table: pa.Table) -> pa.Table:
        return table

    blocks = [rows(0, 1) for _ in range(_cores())]
    ray.data.from_arrow(blocks).map_batches(pass_on, batch_format="pyarrow").materialize()


def _cores() -> int:
    return os.cpu_count() or 1


def _parts(count: int) -> dict[int, pa.Table]:
    """A table for each partition."""
    bounds = np.linspace(0, count, _cores() + 1).astype(int).tolist()
    return {
        number: rows(first, end - first)
        for number, (first, end) in enumerate(itertools.pairwise(bounds))
    }


def from_raykafka(address: Address, count: int) -> float:
    """Rows per second from a typed topic into a dataset."""
    parts = _parts(count)
    with raykafka_topic(address, fresh_name("ray-data"), SCHEMA, len(parts)) as topic:
        append_slices(address, topic.topic, parts)
        start = time.perf_counter()
        dataset = dataset_of(topic)
        elapsed = time.perf_counter() - start
        check(dataset, parts.values())
    return count / elapsed


def dataset_of(topic: TopicHandle) -> Any:
    """The topic as a materialized dataset, one block per partition."""
    import ray

    def read(partition: int) -> pa.Table:
        return topic.read(partitions=[partition]).to_table()

    task = ray.remote(read)
    blocks = [task.remote(number) for number in topic.partitions()]
    return ray.data.from_arrow_refs(blocks).materialize()


def from_kafka(address: Address, count: int) -> dict[str, float]:
    """Rows per second from Kafka into a dataset, by how the JSON is decoded."""
    import ray

    parts = _parts(count)
    topic = Topic(fresh_name("ray-data"), len(parts))
    rates = {}
    with kafka_topic(address, topic.name, topic.partitions):
        produce_values(address, topic, {n: json_values(table) for n, table in parts.items()})
        for name, decode in DECODERS.items():
            start = time.perf_counter()
            read = ray.data.read_kafka(
                topic.name, bootstrap_servers=address, consumer_config=CONSUMER
            )
            dataset = read.map_batches(
                decode, batch_format="pyarrow", batch_size=None, zero_copy_batch=True
            ).materialize()
            rates[name] = count / (time.perf_counter() - start)
            check(dataset, parts.values())
    return rates


def decode_with_json(messages: pa.Table) -> pa.Table:
    """Columns of JSON values, as most write it."""
    found = [json.loads(value) for value in messages["value"].to_pylist()]
    return pa.Table.from_pylist(found, SCHEMA)


def decode_with_pyarrow(messages: pa.Table) -> pa.Table:
    """Columns of JSON values by Arrow's own reader, which parses in C++."""
    lines = b"\n".join(messages["value"].to_pylist())
    options = pyarrow.json.ParseOptions(explicit_schema=SCHEMA)
    return pyarrow.json.read_json(io.BytesIO(lines), parse_options=options)


DECODERS: dict[str, Decode] = {"json.loads": decode_with_json, "pyarrow.json": decode_with_pyarrow}


def check(dataset: Any, parts: Iterable[pa.Table]) -> None:
    """Raise ``VoidRunError`` unless a dataset holds exactly these rows, in whatever order."""
    import ray

    found = pa.concat_tables(ray.get(dataset.to_arrow_refs()))
    check_rows(found, pa.concat_tables(parts))


def check_rows(found: pa.Table, expected: pa.Table) -> None:
    """Raise ``VoidRunError`` unless both hold the same rows; ``id`` says which is which."""
    if found.num_rows != expected.num_rows:
        raise VoidRunError(f"{found.num_rows} rows came, {expected.num_rows} were written")
    ordered = found.select(expected.column_names).cast(expected.schema).sort_by("id")
    for name in expected.column_names:
        if not ordered[name].equals(expected[name]):
            raise VoidRunError(f"column {name!r} is not what was written")
