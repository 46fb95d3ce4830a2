"""What is timed. These functions run in a worker: one Python process with one client library."""

from __future__ import annotations

import gc
import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import NamedTuple, TypeVar

from bench.measuring.records import Records, heads
from bench.measuring.verification import Taken, VoidRunError, verify
from bench.peers.api import Address, Client, ConsumerDriver, Options, Topic

T = TypeVar("T")

READ_TIMEOUT_S = 60.0
_WARM_UP_ACKS = 500
_WARM_UP_TRANSACTIONS = 20


class Timed(NamedTuple):
    """What a piece of work took."""

    seconds: float
    cpu_seconds: float
    """Of this process, all threads."""


@contextmanager
def _quiet() -> Iterator[None]:
    """What was prepared is not walked by the garbage collector inside what is timed."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _timed(work: Callable[[], T]) -> tuple[T, Timed]:
    with _quiet():
        cpu, start = time.process_time(), time.perf_counter()
        result = work()
        return result, Timed(time.perf_counter() - start, time.process_time() - cpu)


def produce(
    client: Client,
    address: Address,
    topic: Topic,
    options: Options,
    records: Records,
    keyed: bool = False,
) -> Timed:
    """From the first ``send`` until everything is acknowledged."""
    driver = client.producer(address, topic, options)
    try:
        prepared = driver.prepare(records, keyed)
        return _timed(lambda: driver.send_all(prepared))[1]
    finally:
        driver.close()


def consume(
    client: Client, address: Address, topic: Topic, options: Options, sent: list[Records]
) -> Timed:
    """Read everything; raises ``VoidRunError`` unless it is what was sent."""
    driver = client.consumer(address, topic, options)
    try:
        count = sum(records.count for records in sent)
        read, timed = _timed(lambda: driver.read_all(count, READ_TIMEOUT_S))
        verify(driver.taken(read), sent)
        return timed
    finally:
        driver.close()


def acks(
    client: Client, address: Address, topic: Topic, options: Options, records: Records
) -> list[float]:
    """Microseconds from ``send`` to the acknowledgement, one record at a time."""
    driver = client.producer(address, topic, options)
    try:
        values = records.values()
        for value in values[:_WARM_UP_ACKS]:
            driver.send_one(value)
        samples, clock, send_one = [], time.perf_counter, driver.send_one
        with _quiet():
            for value in values[_WARM_UP_ACKS:]:
                start = clock()
                send_one(value)
                samples.append((clock() - start) * 1e6)
        return samples
    finally:
        driver.close()


def transactions(
    client: Client,
    address: Address,
    topic: Topic,
    options: Options,
    records: Records,
    size: int,
) -> tuple[Timed, Timed]:
    """The records in transactions of ``size``, one after the other; then as many without."""
    driver = client.producer(address, topic, options)
    try:
        driver.open_transactions()
        values = records.values()
        parts = [values[start : start + size] for start in range(0, len(values), size)]
        for part in parts[:_WARM_UP_TRANSACTIONS]:
            driver.send_transaction(part)

        def send() -> None:
            for part in parts:
                driver.send_transaction(part)

        within = _timed(send)[1]
        prepared = driver.prepare(records)
        driver.send_all(driver.prepare(Records(size, records.size)))
        return within, _timed(lambda: driver.send_all(prepared))[1]
    finally:
        driver.close()


def commits(
    client: Client, address: Address, topic: Topic, options: Options, records: Records
) -> list[float]:
    """Microseconds from the begin of a transaction with one record to its commit."""
    driver = client.producer(address, topic, options)
    try:
        driver.open_transactions()
        values = records.values()
        for value in values[:_WARM_UP_ACKS]:
            driver.send_transaction([value])
        samples, clock = [], time.perf_counter
        with _quiet():
            for value in values[_WARM_UP_ACKS:]:
                start = clock()
                driver.send_transaction([value])
                samples.append((clock() - start) * 1e6)
        return samples
    finally:
        driver.close()


def end_to_end(
    client: Client, address: Address, topic: Topic, options: Options, records: Records
) -> list[float]:
    """Microseconds from ``send`` until a consumer in another process has the record.

    One at a time: the next record is sent when the last one was acknowledged and received.
    """
    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe()
    receiver = context.Process(
        target=_receive, args=(client, address, topic, options, records.count, theirs)
    )
    receiver.start()
    theirs.close()
    driver = client.producer(address, topic, options)
    samples = []
    try:
        _expect(pipe)
        with _quiet():
            for sequence in range(records.count):
                sent = time.perf_counter_ns()
                driver.send_one(records.stamped(sequence, sent))
                samples.append((_expect(pipe) - sent) / 1e3)
        _expect(pipe)
    finally:
        driver.close()
        pipe.close()
        receiver.join(timeout=5)
        receiver.kill()
    return samples[_WARM_UP_ACKS:]


class Paced(NamedTuple):
    """When each record was sent and acknowledged, on the monotonic clock of the machine."""

    sent_ns: list[int]
    acked_ns: list[int]


def paced(
    client: Client, address: Address, topic: Topic, options: Options, records: Records, rate: float
) -> Paced:
    """Send ``rate`` records a second whatever happens, and wait until all are acknowledged.

    Raises ``VoidRunError`` when one of them was not.
    """
    driver = client.producer(address, topic, options)
    sent, acked, failures = [0] * records.count, [0] * records.count, []

    def send(number: int) -> None:
        def fate(error: Exception | None) -> None:
            acked[number] = time.monotonic_ns()
            if error is not None:
                failures.append(error)

        sent[number] = time.monotonic_ns()
        driver.send(records.stamped(number, sent[number]), fate)

    try:
        send(0)
        driver.flush()  # connected from here on
        start = time.monotonic()
        for number in range(1, records.count):
            pause = start + number / rate - time.monotonic()
            if pause > 0:
                time.sleep(pause)
            send(number)
            driver.poll()
        driver.flush()
    finally:
        driver.close()
    if failures:
        raise VoidRunError(f"{len(failures)} records failed, the first: {failures[0]}")
    return Paced(sent, acked)


def _expect(pipe: Connection) -> int:
    if not pipe.poll(READ_TIMEOUT_S):
        raise TimeoutError(f"a record was not received in {READ_TIMEOUT_S:g} s")
    received = pipe.recv()
    if isinstance(received, Exception):
        raise received
    assert isinstance(received, int)
    return received


def _receive(
    client: Client,
    address: Address,
    topic: Topic,
    options: Options,
    count: int,
    pipe: Connection,
) -> None:
    """Tell the sender when each record came in; at the end check all of them."""
    driver = client.consumer(address, topic, options)
    try:
        driver.poll_values(0.5)
        pipe.send(0)
        values: list[bytes] = []
        while len(values) < count:
            _take(driver, values, pipe)
        read = Taken(0, values).matrix(len(values[0]))
        if (heads(read)["sequence"] != range(count)).any():
            raise ValueError("records were lost, doubled or reordered")
        pipe.send(0)
    except Exception as error:  # noqa: BLE001 - the sender waits for it
        pipe.send(error)
    finally:
        driver.close()


def _take(driver: ConsumerDriver, values: list[bytes], pipe: Connection) -> None:
    for found in driver.poll_values(1.0).values():
        for value in found:
            now = time.perf_counter_ns()
            values.append(value)
            pipe.send(now)
