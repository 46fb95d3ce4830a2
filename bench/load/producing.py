"""What the worker processes of producers do."""

from __future__ import annotations

import functools
import threading
import time
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.load.board import STOP_SENDING, Board
from bench.load.pacing import NS, Schedule
from bench.measuring.records import Records
from bench.peers.api import Address, Client, Options, ProducerDriver, Topic

Times = npt.NDArray[np.int64]
"""Nanoseconds of the monotonic clock."""

_LONGEST_BURST = 500
_LONGEST_SLEEP_NS = 10_000_000
_SHORTEST_SLEEP_NS = 100_000
"""Waking up for every record of a high rate would cost more than sending it."""
_POLL_NS = 50_000
"""How often a client is polled whose callbacks run only then: what it adds to a latency."""
_CALIBRATION_S = 1.0
_CALIBRATION_FIRST = 1000
_CALIBRATION_BYTES = 128 * 1024 * 1024


@dataclass(frozen=True)
class ProducerTask:
    """One producer of one topic."""

    number: int
    topic: Topic


@dataclass(frozen=True)
class Shape:
    """What every record of a run looks like."""

    size: int
    random_share: float
    keyed: bool


@dataclass
class Sent:
    """What the producers of one worker did in one phase."""

    records: Mapping[str, list[Records]]
    """By topic, for verification."""
    due: Times = field(default_factory=lambda: np.zeros(0, np.int64))
    sent: Times = field(default_factory=lambda: np.zeros(0, np.int64))
    acked: Times = field(default_factory=lambda: np.zeros(0, np.int64))
    """0 where a record failed. All three are empty for a load that is not paced."""
    failures: int = 0
    first_failure: str = ""
    begin_ns: int = 0
    end_ns: int = 0


class _State:
    """The connected producers of this process, kept from call to call."""

    tasks: Sequence[ProducerTask] = ()
    drivers: Sequence[ProducerDriver] = ()
    prepared: Sequence[Any] = ()
    taken: Mapping[str, list[Records]]
    """What was prepared."""
    next: list[int]
    """Sequence number of the next record, by producer."""
    shape: Shape


def open_producers(
    client: Client,
    address: Address,
    tasks: Sequence[ProducerTask],
    options: Options,
    shape: Shape,
) -> None:
    """Connect."""
    _State.tasks, _State.shape = tasks, shape
    _State.drivers = [client.producer(address, task.topic, options) for task in tasks]
    _State.next = [0] * len(tasks)


def close_producers() -> None:
    """Disconnect."""
    for driver in _State.drivers:
        driver.close()
    _State.drivers = ()


def _records(task: int, count: int) -> Records:
    """The next ``count`` records of a producer."""
    shape = _State.shape
    number, first = _State.tasks[task].number, _State.next[task]
    return Records(count, shape.size, number, first, shape.random_share)


def _take(counts: Sequence[int]) -> dict[str, list[Records]]:
    """Count records as sent; what they were."""
    taken: dict[str, list[Records]] = {}
    for task, count in enumerate(counts):
        if count:
            taken.setdefault(_State.tasks[task].topic.name, []).append(_records(task, count))
            _State.next[task] += count
    return taken


def send_paced(schedule: Schedule, end_ns: int, board: Board, worker: int) -> Sent:
    """Send by the clock until ``end_ns`` or until it is told to stop, then wait for all acks.

    The producers take turns. A send that is late goes out at once, and what was due meanwhile
    stays due: a system that stalls is not spared the load that it would have got.
    """
    turns = len(_State.drivers)
    sends = [driver.send for driver in _State.drivers]
    stamps = [_records(task, 1).stamped for task in range(turns)]
    firsts = list(_State.next)
    sent, acked = array("q"), array("q")
    failures: list[str] = []
    clock = time.monotonic_ns
    pollers = [driver.poll for driver in _State.drivers if _must_be_polled(driver)]
    settled = [0]

    def fate(number: int, error: Exception | None) -> None:
        if error is None:
            acked[number] = clock()
        else:
            failures.append(str(error))
        settled[0] += 1

    number, now = 0, clock()
    while now < end_ns and not board.is_raised(STOP_SENDING):
        ready = min(schedule.ready(now), number + _LONGEST_BURST)
        while number < ready:
            task = number % turns
            now = clock()
            sent.append(now)
            acked.append(0)
            value = stamps[task](firsts[task] + number // turns, now)
            sends[task](value, functools.partial(fate, number))
            number += 1
        board.set_sent(worker, number)
        for poll in pollers:
            poll()
        now = clock()
        gap = min(schedule.due_ns(number), end_ns) - now
        if gap > 0:
            awaited = bool(pollers) and settled[0] < number
            time.sleep(_nap_ns(gap, awaited) / NS)
            now = clock()
    each_in_a_thread([functools.partial(_flush, driver, failures) for driver in _State.drivers])
    counts = [len(range(task, number, turns)) for task in range(turns)]
    due = schedule.start_ns + np.arange(number, dtype=np.int64) * (NS / schedule.rate)
    result = Sent(_take(counts), due.astype(np.int64), _times(sent), _times(acked))
    result.failures = int((result.acked == 0).sum())
    result.first_failure = failures[0] if failures else ""
    return result


def _must_be_polled(driver: ProducerDriver) -> bool:
    """Whether its callbacks run in ``poll``, and so in this thread."""
    return type(driver).poll is not ProducerDriver.poll


def _nap_ns(gap_ns: int, awaited: bool) -> int:
    """How long to sleep when the next send is due in ``gap_ns``, and acks may be waited for."""
    if awaited:
        return min(gap_ns, _POLL_NS)
    return min(max(gap_ns, _SHORTEST_SLEEP_NS), _LONGEST_SLEEP_NS)


def _flush(driver: ProducerDriver, failures: list[str]) -> None:
    try:
        driver.flush()
    except Exception as error:  # noqa: BLE001 - whatever failed, the run is void and says why
        failures.append(str(error))


def _times(values: array[int]) -> Times:
    return np.array(values, np.int64)


def calibrate() -> float:
    """Records per second of these producers together, when nothing holds them back."""
    count = _CALIBRATION_FIRST
    _burst(count)  # connections and code are cold: whatever it took says nothing
    while True:
        took = _burst(count)
        if took >= _CALIBRATION_S or count * _State.shape.size >= _CALIBRATION_BYTES:
            return count * len(_State.drivers) / took
        count *= 4 if took < _CALIBRATION_S / 4 else 2


def _burst(count: int) -> float:
    """Send ``count`` records with each producer; how many seconds that took."""
    prepare_unlimited([count] * len(_State.drivers))
    sent = send_unlimited(time.monotonic_ns())
    return (sent.end_ns - sent.begin_ns) / NS


def prepare_unlimited(counts: Sequence[int]) -> dict[str, int]:
    """Make the next records of each producer, in the form in which its client takes them.

    Returns how many there are by topic.
    """
    _State.prepared = [
        driver.prepare(_records(task, count), _State.shape.keyed)
        for task, (driver, count) in enumerate(zip(_State.drivers, counts, strict=True))
    ]
    _State.taken = _take(counts)
    return {topic: sum(records.count for records in some) for topic, some in _State.taken.items()}


def send_unlimited(start_ns: int) -> Sent:
    """Send everything that was prepared as fast as the clients take it; wait for all acks."""
    _sleep_until(start_ns)
    begin = time.monotonic_ns()
    each_in_a_thread(
        [
            functools.partial(driver.send_all, prepared)
            for driver, prepared in zip(_State.drivers, _State.prepared, strict=True)
        ]
    )
    end = time.monotonic_ns()
    _State.prepared = ()
    return Sent(_State.taken, begin_ns=begin, end_ns=end)


def _sleep_until(moment_ns: int) -> None:
    time.sleep(max(0, moment_ns - time.monotonic_ns()) / NS)


def each_in_a_thread(calls: Sequence[Callable[[], None]]) -> None:
    """Run them side by side; the first failure is raised when all have ended."""
    if len(calls) == 1:
        calls[0]()
        return
    errors: list[Exception] = []

    def run(call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:  # noqa: BLE001 - raised below, in the thread that asked
            errors.append(error)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
