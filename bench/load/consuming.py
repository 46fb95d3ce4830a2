"""What the worker processes of consumers do."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from bench.load.board import MAY_READ, STOP_READING, Board
from bench.load.producing import Times, each_in_a_thread
from bench.measuring.records import Records, heads
from bench.measuring.verification import Taken, VoidRunError, verify
from bench.peers.api import Address, Client, ConsumerDriver, Options, Topic

_POLL_S = 0.1
_PAUSE_S = 0.005


@dataclass(frozen=True)
class ConsumerTask:
    """One consumer of one topic, which may leave other partitions to others."""

    number: int
    topic: Topic
    subscription: int
    partitions: tuple[int, ...]

    @property
    def whole(self) -> bool:
        return len(self.partitions) == self.topic.partitions


@dataclass
class Received:
    """What one consumer read in one phase."""

    task: ConsumerTask
    count: int = 0
    times: Times = field(default_factory=lambda: np.zeros(0, np.int64))
    """When each record arrived; empty for a load that is not paced."""
    latencies: Times = field(default_factory=lambda: np.zeros(0, np.int64))
    """How long after it was sent, record by record."""
    begin_ns: int = 0
    end_ns: int = 0
    void: str = ""
    parts: list[Taken] = field(default_factory=list)
    """For a consumer of some partitions: only with the others' parts can it be verified."""


@dataclass
class _Reader:
    task: ConsumerTask
    driver: ConsumerDriver
    polled: list[tuple[int, Mapping[int, Sequence[bytes]]]] = field(default_factory=list)
    read: Any = None
    begin_ns: int = 0
    end_ns: int = 0


class _State:
    """The connected consumers of this process, kept from call to call."""

    readers: Sequence[_Reader] = ()


def open_consumers(
    client: Client, address: Address, tasks: Sequence[ConsumerTask], options: Options
) -> None:
    """Connect."""
    _State.readers = [
        _Reader(
            task,
            client.consumer(
                address,
                task.topic,
                options if task.whole else replace(options, partitions=task.partitions),
            ),
        )
        for task in tasks
    ]


def close_consumers() -> None:
    """Disconnect."""
    for reader in _State.readers:
        reader.driver.close()
    _State.readers = ()


def poll_until_stopped(board: Board) -> None:
    """Read whatever comes, from when reading is allowed until it is told to stop."""
    each_in_a_thread([functools.partial(_poll, reader, board) for reader in _State.readers])


def _poll(reader: _Reader, board: Board) -> None:
    reader.polled, count = [], 0
    while not board.is_raised(MAY_READ) and not board.is_raised(STOP_READING):
        time.sleep(_PAUSE_S)
    reader.begin_ns = reader.end_ns = time.monotonic_ns()
    while not board.is_raised(STOP_READING):
        found = reader.driver.poll_values(_POLL_S)
        if found:
            reader.end_ns = time.monotonic_ns()
            reader.polled.append((reader.end_ns, found))
            count += sum(map(len, found.values()))
            board.set_received(reader.task.number, count)


def read_all(counts: Mapping[str, int], timeout_s: float) -> None:
    """Read so many records of each topic, as the client does that best."""
    each_in_a_thread(
        [
            functools.partial(_read, reader, counts[reader.task.topic.name], timeout_s)
            for reader in _State.readers
        ]
    )


def _read(reader: _Reader, count: int, timeout_s: float) -> None:
    reader.begin_ns = time.monotonic_ns()
    reader.read = reader.driver.read_all(count, timeout_s)
    reader.end_ns = time.monotonic_ns()


def collect(sent: Mapping[str, Sequence[Records]], size: int) -> list[Received]:
    """What the last phase brought; consumers of whole topics verify it here. Not timed."""
    return [
        _collect(reader, sent.get(reader.task.topic.name, ()), size) for reader in _State.readers
    ]


def _collect(reader: _Reader, sent: Sequence[Records], size: int) -> Received:
    result = Received(reader.task, begin_ns=reader.begin_ns, end_ns=reader.end_ns)
    parts: Sequence[Taken]
    try:
        if reader.read is not None:
            parts = reader.driver.taken(reader.read)
        else:
            parts = _join(reader, result, size)
        if reader.task.whole:
            result.count = verify(parts, sent) if sent else 0
        else:
            result.parts = [_packed(part, size) for part in parts]
            result.count = sum(len(value) for part in result.parts for value in part.values)
    except VoidRunError as error:
        result.void = str(error)
    reader.read, reader.polled = None, []
    return result


def _join(reader: _Reader, result: Received, size: int) -> list[Taken]:
    """The polls by partition; fills in when each record came and how old it was."""
    values: dict[int, list[bytes]] = {}
    times: dict[int, list[Times]] = {}
    for moment, found in reader.polled:
        for partition, some in found.items():
            values.setdefault(partition, []).extend(some)
            times.setdefault(partition, []).append(np.full(len(some), moment, np.int64))
    parts = [Taken(partition, some) for partition, some in values.items()]
    if parts:
        result.times = np.concatenate([np.concatenate(times[part.partition]) for part in parts])
        stamps = [heads(part.matrix(size))["sent"].astype(np.int64) for part in parts]
        result.latencies = result.times - np.concatenate(stamps)
    return parts


def _packed(part: Taken, size: int) -> Taken:
    """The same records as one column, which is cheap to send to another process."""
    matrix = part.matrix(size)
    offsets = np.arange(0, matrix.size + 1, size, dtype=np.int64)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(matrix))]
    return Taken(part.partition, [pa.Array.from_buffers(pa.large_binary(), len(matrix), buffers)])
