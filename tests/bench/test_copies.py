"""Cases with three copies: what is computed, the raw copy, and paced loads without a server."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from bench.headline import work
from bench.headline.cases import CASES, Case
from bench.headline.copies import raw_copy
from bench.headline.faults import longest_gap
from bench.headline.targets import Row
from bench.measuring.memory import QuickMemory
from bench.measuring.records import Records
from bench.measuring.verification import VoidRunError
from bench.peers.api import Client, NotOfferedError, Options, ProducerDriver, Topic
from bench.peers.kafka import Kafka
from bench.peers.raykafka import Raykafka

SECOND = 1_000_000_000


def test_the_longest_gap_is_looked_for_behind_the_fault() -> None:
    acked = [number * SECOND for number in (0, 5, 6, 7, 10, 11)]
    assert longest_gap(acked, struck_ns=6 * SECOND) == 3
    assert longest_gap(acked[::-1], struck_ns=10 * SECOND) == 1
    assert longest_gap(acked, struck_ns=4 * SECOND) == 5


def test_the_worst_run_is_judged_where_the_row_says_so() -> None:
    row = Row("gap", "Kafka", "s", "a", "b", None, most=1, worst=True)
    judged = row.judge({"a": [0.1, 0.2, 1.5], "b": [10, 11]})
    assert (judged["ours"], judged["theirs"], judged["met"]) == (1.5, 11, False)
    rate = Row("rate", "Kafka", "MB/s", "a", "b", 1, worst=True)
    assert rate.judge({"a": [3, 2], "b": [1, 2]})["ratio"] == 2


def test_cases_of_many_strikes_are_repeated_less() -> None:
    case = Case(lambda _: None, most=2)
    assert (case.rounds(1), case.rounds(5)) == (1, 2)
    assert Case(lambda _: None).rounds(5) == 5
    assert {name for name, case in CASES.items() if case.copies == 3} == {
        "three-copies",
        "killed-leader",
        "silent-leader",
        "empty-disk",
    }


def test_the_raw_copy_moves_every_byte(tmp_path: Path) -> None:
    assert raw_copy(tmp_path, 3 << 20, pause_s=0) > 0
    assert list(tmp_path.iterdir()) == []


def test_memory_is_held_until_it_is_given_back() -> None:
    process, size = psutil.Process(), 64 << 20
    before = process.memory_info().rss
    memory = QuickMemory(size)
    assert process.memory_info().rss - before > size // 2
    memory.release()
    assert process.memory_info().rss - before < size // 2


@pytest.mark.parametrize("peer", [Kafka(), Raykafka()], ids=["kafka", "raykafka"])
def test_a_peer_that_does_not_run_has_no_leaders(peer: Kafka | Raykafka) -> None:
    if isinstance(peer, Raykafka):
        with pytest.raises(NotOfferedError):
            peer.leader_pids(Topic("t"), whole_node=False)
    with pytest.raises(NotOfferedError):
        peer.start(Path("/nowhere"), copies=4)


@dataclass
class Driver(ProducerDriver):
    """Acknowledges the third record late, and refuses the last one if it is told to."""

    refuse: bool
    sent: int = 0
    flushes: int = 0

    def prepare(self, records: Records, keyed: bool = False) -> Any:
        raise AssertionError

    def send_all(self, prepared: Any) -> None:
        raise AssertionError

    def send(self, value: bytes, acked: Callable[[Exception | None], None]) -> None:
        self.sent += 1
        acked(RuntimeError("refused") if self.refuse and self.sent == 10 else None)

    def flush(self) -> None:
        self.flushes += 1

    def close(self) -> None:
        return


@dataclass(frozen=True)
class DriverClient(Client):
    driver: Driver
    name: str = "driver"
    peer: str = "none"

    def missing(self) -> str | None:
        return None

    def producer(self, address: str, topic: Topic, options: Options) -> ProducerDriver:
        return self.driver

    def consumer(self, address: str, topic: Topic, options: Options) -> Any:
        raise AssertionError


def test_a_paced_load_keeps_its_schedule() -> None:
    driver = Driver(refuse=False)
    start = time.monotonic_ns()
    paced = work.paced(DriverClient(driver), "", Topic("t"), Options(), Records(10, 100), 200.0)
    assert (driver.sent, driver.flushes) == (10, 2)
    for number, (sent, acked) in enumerate(zip(paced.sent_ns, paced.acked_ns, strict=True)):
        assert sent >= start + number * SECOND // 200
        assert acked >= sent


def test_a_paced_load_of_which_a_record_failed_is_void() -> None:
    client = DriverClient(Driver(refuse=True))
    with pytest.raises(VoidRunError, match="refused"):
        work.paced(client, "", Topic("t"), Options(), Records(10, 100), 1000.0)
