"""The bank on a cluster in this process: tellers that die in their transactions, killed actors."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest

from raykafka import Admin, Producer
from raykafka.errors import RaykafkaError
from raykafka.testing.bank.audit import Audit
from raykafka.testing.bank.clients import Auditor, Requester
from raykafka.testing.bank.records import LEDGER, Entry
from raykafka.testing.bank.run import PARTITIONS, create_topics
from raykafka.testing.bank.teller import OFFSETS_OUTSIDE, PLACES, Killed, Teller
from raykafka.testing.local_cluster import LocalCluster

TELLERS = 2
REQUESTS = 300
TIMEOUT_S = 60.0
EVERYWHERE = dict.fromkeys(PLACES, 0.03)
"""How probably a teller dies at each place."""


class Staff:
    """Tellers in threads; one that dies is replaced by another of its name."""

    def __init__(self, cluster: LocalCluster, planted: str, risk: dict[str, float]) -> None:
        self.deaths = 0
        self.doomed = 0
        self._bootstrap = cluster.bootstrap
        self._planted = planted
        self._risk = risk
        self._stopping = threading.Event()
        self._left_behind: list[Any] = []
        self._threads = [
            threading.Thread(target=self._work, args=(f"teller-{number}",), daemon=True)
            for number in range(TELLERS)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(TIMEOUT_S)
            assert not thread.is_alive()
        for producer in self._left_behind:
            producer.close(0)

    def _work(self, name: str) -> None:
        random = Random(name)

        def hazard(place: str) -> None:
            if random.random() < self._risk.get(place, 0):
                raise Killed(place)

        while not self._stopping.is_set():
            teller = Teller(self._bootstrap, name, random, planted=self._planted, hazard=hazard)
            try:
                teller.run(lambda: not self._stopping.is_set())
            except Killed:
                self.deaths += 1
            except RaykafkaError:
                continue
            finally:
                self.doomed += teller.doomed
                self._left_behind += teller.left_behind


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    with LocalCluster(tmp_path) as running:
        with Admin(running.bootstrap) as admin:
            create_topics(admin, replication_factor=1, min_insync=1)
        yield running


def wait_until(condition: Callable[[], bool]) -> None:
    """Until a condition of other threads holds, which nothing announces."""
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def done_since(auditor: Auditor, before: int) -> bool:
    return auditor.audit.transfers > before + 20


def business(
    cluster: LocalCluster,
    *,
    planted: str = "",
    isolation_level: str = "read_committed",
    risk: dict[str, float] = EVERYWHERE,
    kills: int = 0,
) -> tuple[Audit, Staff]:
    """Let them work until all is done, and audit it."""
    requester = Requester(cluster.bootstrap, Random(1), pause_s=0.002)
    auditor = Auditor(cluster.bootstrap, PARTITIONS, isolation_level=isolation_level)
    staff = Staff(cluster, planted, risk)
    auditor.start()
    staff.start()
    requester.start()
    for number in range(kills):
        wait_until(partial(done_since, auditor, auditor.audit.transfers))
        cluster.kill_partition_actor(number % 2)
    wait_until(lambda: requester.sent >= REQUESTS)
    requester.stop()
    audit = auditor.audit
    wait_until(lambda: audit.settles(requester.acknowledged))
    staff.stop()
    wait_until(auditor.has_read_all)
    auditor.stop()
    audit.conclude(requester.acknowledged, requester.sent)
    assert requester.problems == []
    return audit, staff


def test_no_money_is_made_or_lost_whoever_dies(cluster: LocalCluster) -> None:
    audit, staff = business(cluster, kills=3)
    assert dict(audit.examples) == {}
    assert audit.transfers >= REQUESTS
    assert staff.deaths > 0
    assert audit.snapshots > 0


def test_an_auditor_who_sees_what_is_not_committed_is_found_out(cluster: LocalCluster) -> None:
    audit, staff = business(cluster, isolation_level="read_uncommitted")
    assert audit.violations > 0
    assert staff.deaths + staff.doomed > 0


def test_offsets_outside_of_the_transaction_are_found_out(cluster: LocalCluster) -> None:
    audit, staff = business(cluster, planted=OFFSETS_OUTSIDE, risk={"committed": 0.2})
    assert staff.deaths > 0
    assert audit.counts["request applied twice"] > 0


def test_what_is_left_open_in_the_end_is_found_out(cluster: LocalCluster) -> None:
    auditor = Auditor(cluster.bootstrap, PARTITIONS)
    auditor.start()
    with Producer(cluster.bootstrap, transactional_id="nobody's") as producer:
        producer.init_transactions()
        producer.begin_transaction()
        producer.send(LEDGER, Entry(1, 2, 3, doomed=True).encode(), partition=0).get()
        assert not auditor.has_read_all()
        producer.abort_transaction()
    wait_until(auditor.has_read_all)
    auditor.stop()
    assert auditor.audit.entries == 0
