"""A table of 20 columns: how fast it is taken in, and what reading some of its columns costs.

A read is timed until every byte of the wanted columns has been touched, since a mapped file costs
nothing before. ``received_bytes`` are counted by the kernel on the reader's own connections; of
what a mapped read touches nothing comes over them, so ``touched_bytes`` stands beside it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

import raykafka
from bench.measuring.verification import VoidRunError
from bench.measuring.worker import Worker
from bench.peers.api import Address
from bench.typed import wire
from bench.typed.topics import fresh_name, raykafka_topic, send_slices
from raykafka import TopicPartition

ROWS = 1_000_000
WIDTHS = (1, 3, 20)
_NUMBERS = 8
_TEXTS = 4
_TIMEOUT_S = 60.0

SCHEMA = pa.schema(
    [
        *((f"int_{number}", pa.int64()) for number in range(_NUMBERS)),
        *((f"float_{number}", pa.float64()) for number in range(_NUMBERS)),
        *((f"text_{number}", pa.string()) for number in range(_TEXTS)),
    ]
)
ORDER = ("int_0", "float_0", "text_0", *SCHEMA.names)
"""Columns as they are chosen: a number, then two of other types, then all."""


def rows(count: int) -> pa.Table:
    """The table; the same whenever it is asked for."""
    random = np.random.default_rng(count)
    words = np.array([f"word-{number:04}" for number in range(1000)])
    columns: list[Any] = [random.integers(0, 1 << 60, count) for _ in range(_NUMBERS)]
    columns += [random.random(count) for _ in range(_NUMBERS)]
    columns += [words[random.integers(0, len(words), count)] for _ in range(_TEXTS)]
    return pa.table(columns, schema=SCHEMA)


def chosen(width: int) -> list[str]:
    """The first ``width`` columns of ``ORDER``, each once."""
    return list(dict.fromkeys(ORDER))[:width]


def measure(
    address: Address, rows: int = ROWS, widths: Sequence[int] = WIDTHS
) -> dict[str, dict[str, float]]:
    """One ingest, then each width read over the socket and mapped.

    Figures by what was done (``ingest``, ``socket 3``, ``mapped 3``): ``rows_per_s``,
    ``mb_per_s`` (10^6 bytes of the columns in memory), ``received_bytes``, ``touched_bytes``.
    Raises ``VoidRunError`` when a read does not give what was written.
    """
    name = fresh_name("columns")
    with raykafka_topic(address, name, SCHEMA), Worker("columns") as worker:
        figures = {"ingest": worker.call(ingest, address, name, rows)}
        for width in widths:
            for way, mapped in (("socket", False), ("mapped", True)):
                read = worker.call(read_columns, address, name, rows, width, mapped)
                figures[f"{way} {width}"] = read
    return figures


def ingest(address: Address, topic: str, count: int) -> dict[str, float]:
    """Append the table in slices, several of them under way at a time."""
    table = rows(count)
    with raykafka.connect(address).producer() as producer:
        producer.partitions_for(topic)
        start = time.perf_counter()
        send_slices(producer, topic, {0: table})
        elapsed = time.perf_counter() - start
    return {"rows_per_s": count / elapsed, "mb_per_s": table.nbytes / elapsed / 1e6}


def read_columns(
    address: Address, topic: str, count: int, width: int, mapped: bool
) -> dict[str, float]:
    """Read ``width`` columns of every row and touch all their bytes."""
    names = chosen(width)
    settings: Mapping[str, Any] = {
        "auto_offset_reset": "earliest",
        "mapped_reads": mapped,
        "columns": names if width < len(SCHEMA) else None,
    }
    with raykafka.connect(address).consumer(**settings) as consumer:
        before = wire.received_bytes()
        consumer.assign([TopicPartition(topic, 0)])
        start, seen, touched = time.perf_counter(), 0, 0
        read: list[pa.Table] = []
        while seen < count:
            table = consumer.poll_table(timeout_ms=1000, max_records=count - seen)
            if table is not None:
                read.append(table)
                seen += table.num_rows
                touched += touch(table)
            if time.perf_counter() - start > _TIMEOUT_S:
                raise TimeoutError(f"{seen} of {count} rows came in time")
        elapsed = time.perf_counter() - start
        received = wire.received_bytes() - before
    found = pa.concat_tables(read)
    check(found, rows(count), names)
    return {
        "rows_per_s": count / elapsed,
        "mb_per_s": found.nbytes / elapsed / 1e6,
        "received_bytes": received,
        "touched_bytes": touched,
    }


def touch(table: pa.Table) -> int:
    """Load every byte of the columns, at about the speed of memory; how many those were."""
    touched = 0
    for column in table.columns:
        for chunk in column.chunks:
            for values in visible(chunk):
                np.count_nonzero(values)
                touched += len(values)
    return touched


def visible(chunk: pa.Array) -> list[np.ndarray[Any, np.dtype[np.uint8]]]:
    """The bytes behind a number or string column, without what was cut away from around it."""
    _, *buffers = chunk.buffers()
    first, end = chunk.offset, chunk.offset + len(chunk)
    if not pa.types.is_string(chunk.type):
        width = chunk.type.byte_width
        return [np.frombuffer(buffers[0], np.uint8)[first * width : end * width]]
    offsets = np.frombuffer(buffers[0], np.int32)[first : end + 1]
    if buffers[1] is None:
        return [offsets.view(np.uint8)]
    text = np.frombuffer(buffers[1], np.uint8)[offsets[0] : offsets[-1]]
    return [offsets.view(np.uint8), text]


def check(found: pa.Table, expected: pa.Table, names: Sequence[str]) -> None:
    """Raise ``VoidRunError`` unless these columns came as they were written, in order."""
    if sorted(found.column_names) != sorted(names):
        raise VoidRunError(f"columns {found.column_names} came, {names} were asked for")
    if found.num_rows != expected.num_rows:
        raise VoidRunError(f"{found.num_rows} rows came, {expected.num_rows} were written")
    for name in names:
        if not found[name].equals(expected[name]):
            raise VoidRunError(f"column {name!r} is not what was written")
