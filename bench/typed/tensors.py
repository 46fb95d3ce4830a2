"""Rows into numpy, pandas and torch: records of 16 float32, as matrices of a batch each.

raykafka has them as one column of fixed-size lists, whose memory is the matrix. Kafka has a value
of 64 bytes per record, which are joined and then looked at as a matrix. Every element is summed up
on both sides.
"""

from __future__ import annotations

import importlib.util
import time
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

import raykafka
from bench.measuring.verification import VoidRunError
from bench.measuring.worker import Worker
from bench.peers.api import Address, Options, Topic
from bench.peers.confluent import RECORDS_PER_CALL, consumer_settings
from bench.typed.topics import (
    append_slices,
    fresh_name,
    kafka_topic,
    produce_values,
    raykafka_topic,
)
from raykafka import TopicPartition

ROWS = 1_000_000
WIDTH = 16
BATCH = 10_000
"""Rows that Kafka's records are gathered into; raykafka's come as they were appended."""
FRAMEWORKS = ("numpy", "pandas", "torch")
SCHEMA = pa.schema([pa.field("x", pa.list_(pa.float32(), WIDTH), nullable=False)])
_TIMEOUT_S = 60.0

Matrix = npt.NDArray[np.float32]


def missing(framework: str) -> str | None:
    """How to get what is not installed."""
    if importlib.util.find_spec(framework) is None:
        return f"{framework} is not installed (pip install {framework})"
    return None


def matrix(count: int) -> Matrix:
    """The rows; the same whenever they are asked for. Whole numbers, so that sums are exact."""
    return np.random.default_rng(count).integers(0, 1000, (count, WIDTH)).astype(np.float32)


def measure(
    ours: Address, theirs: Address | None, rows: int = ROWS
) -> dict[str, dict[str, float | str]]:
    """Rows per second into each framework, once each, by how they came.

    ``{"numpy": {"raykafka": ..., "raykafka mapped": ..., "kafka": ...}, ...}``; a framework that
    is not installed has only ``missing``. Raises ``VoidRunError`` when the sums are wrong.
    """
    figures: dict[str, dict[str, float | str]] = {name: {} for name in FRAMEWORKS}
    name = fresh_name("tensors")
    wanted = [framework for framework in FRAMEWORKS if missing(framework) is None]
    for framework in FRAMEWORKS:
        if (reason := missing(framework)) is not None:
            figures[framework]["missing"] = reason
    with raykafka_topic(ours, name, SCHEMA), Worker("tensors") as worker:
        worker.call(fill_raykafka, ours, name, rows)
        for framework in wanted:
            for way, mapped in (("raykafka", False), ("raykafka mapped", True)):
                rate = worker.call(read_raykafka, ours, name, rows, framework, mapped)
                figures[framework][way] = rate
    if theirs is not None:
        with kafka_topic(theirs, name), Worker("tensors, Kafka") as worker:
            worker.call(fill_kafka, theirs, name, rows)
            for framework in wanted:
                rate = worker.call(read_kafka, theirs, name, rows, framework)
                figures[framework]["kafka"] = rate
    return figures


def fill_raykafka(address: Address, topic: str, count: int) -> None:
    append_slices(address, topic, {0: as_table(matrix(count))})


def fill_kafka(address: Address, topic: str, count: int) -> None:
    values = [row.tobytes() for row in matrix(count)]
    produce_values(address, Topic(topic), {0: values})


def as_table(rows: Matrix) -> pa.Table:
    """Without a copy."""
    lists = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), WIDTH)
    return pa.table([lists], schema=SCHEMA)


def read_raykafka(address: Address, topic: str, count: int, framework: str, mapped: bool) -> float:
    """Rows per second from the typed topic."""
    consume = CONSUMERS[framework]()
    consumer = raykafka.connect(address).consumer(auto_offset_reset="earliest", mapped_reads=mapped)
    with consumer:
        consumer.assign([TopicPartition(topic, 0)])
        start, seen, total = time.perf_counter(), 0, 0.0
        while seen < count:
            table = consumer.poll_table(timeout_ms=1000, max_records=count - seen)
            for rows in () if table is None else matrices(table):
                total += consume(rows)
                seen += len(rows)
            _check_time(start, seen, count)
        elapsed = time.perf_counter() - start
    check(total, count)
    return count / elapsed


def matrices(table: pa.Table) -> Iterator[Matrix]:
    """A view of each chunk."""
    for chunk in table["x"].chunks:
        yield chunk.flatten().to_numpy(zero_copy_only=True).reshape(-1, WIDTH)


def read_kafka(address: Address, topic: str, count: int, framework: str) -> float:
    """Rows per second from Kafka's records."""
    from confluent_kafka import Consumer, KafkaException
    from confluent_kafka import TopicPartition as Place

    consume = CONSUMERS[framework]()
    consumer = Consumer(consumer_settings(address, Options()))
    try:
        consumer.assign([Place(topic, 0, 0)])
        start, seen, total = time.perf_counter(), 0, 0.0
        values: list[bytes] = []
        while seen < count:
            for message in consumer.consume(min(RECORDS_PER_CALL, count - seen), 1.0):
                if message.error() is not None:
                    raise KafkaException(message.error())
                values.append(message.value())
                seen += 1
            if len(values) >= BATCH or seen == count:
                total += consume(np.frombuffer(b"".join(values), np.float32).reshape(-1, WIDTH))
                values.clear()
            _check_time(start, seen, count)
        elapsed = time.perf_counter() - start
    finally:
        consumer.close()
    check(total, count)
    return count / elapsed


def _into_numpy() -> Callable[[Matrix], float]:
    return lambda rows: float(rows.sum(dtype=np.float64))


def _into_pandas() -> Callable[[Matrix], float]:
    import pandas as pd

    names = [f"x_{number}" for number in range(WIDTH)]

    def consume(rows: Matrix) -> float:
        frame = pd.DataFrame(rows, columns=names, copy=False)
        return float(frame.to_numpy().sum(dtype=np.float64))

    return consume


def _into_torch() -> Callable[[Matrix], float]:
    import torch

    # What was received cannot be written to, which torch cannot express; nobody writes to it here.
    warnings.filterwarnings("ignore", message="The given NumPy array is not writ")

    def consume(rows: Matrix) -> float:
        return float(torch.from_numpy(rows).sum(dtype=torch.float64))

    return consume


CONSUMERS: dict[str, Callable[[], Callable[[Matrix], float]]] = {
    "numpy": _into_numpy,
    "pandas": _into_pandas,
    "torch": _into_torch,
}
"""By framework: loads it, and gives a function that makes its object of rows and sums it up."""


def check(total: float, count: int) -> None:
    """Raise ``VoidRunError`` unless the elements' sum is that of what was written."""
    expected = float(matrix(count).sum(dtype=np.float64))
    if total != expected:
        raise VoidRunError(f"the elements' sum is {total}, not {expected}")


def _check_time(start: float, seen: int, count: int) -> None:
    if time.perf_counter() - start > _TIMEOUT_S:
        raise TimeoutError(f"{seen} of {count} rows came in time")
