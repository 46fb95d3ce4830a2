"""What a million records cost: CPU seconds and resident memory, of servers and of clients.

The client is a process of its own. Its CPU seconds are those spent in ``send_all`` and
``read_all``; the servers' are those used from before until after, which holds what they do behind
the answers. Linux counts the latter in ticks of 10 ms: a million records are few for a fast server.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from bench.measuring.records import Records
from bench.measuring.verification import verify
from bench.measuring.worker import Worker, cpu_seconds, resident_bytes
from bench.peers.api import Address, Client, Options, Peer, Topic
from bench.typed.topics import fresh_name

COUNT = 1_000_000
SIZE = 100
_READ_TIMEOUT_S = 120.0
_SETTLE_S = 0.5
"""For what servers do behind the last answer."""

Figures = dict[str, float]


def measure(
    peer: Peer, clients: Sequence[Client], count: int = COUNT, size: int = SIZE
) -> dict[str, Figures]:
    """Produce and consume with each client against its running peer; figures by client.

    For ``produce`` and ``consume`` each: ``client_cpu_s`` and ``server_cpu_s`` per million
    records, ``records_per_s``; and ``client_bytes`` and ``server_bytes`` resident at the end of
    each. Resident memory counts what processes share (libraries, mapped files) once for each, and
    the client's holds all the records, which were made before they are sent and kept when read.
    Raises ``VoidRunError`` when what was read is not what was sent.
    """
    return {client.name: _of(peer, client, Records(count, size)) for client in clients}


def _of(peer: Peer, client: Client, records: Records) -> Figures:
    topic = Topic(fresh_name("footprint"))
    figures: Figures = {}
    peer.create_topic(topic)
    try:
        for name, work in (("produce", produce), ("consume", consume)):
            with Worker(f"{client.name}, {name}") as worker:
                before = cpu_seconds(peer.pids())
                found = worker.call(work, client, peer.address, topic, records)
                time.sleep(_SETTLE_S)
                found["server_cpu_s"] = (cpu_seconds(peer.pids()) - before) / records.count * 1e6
                found["server_bytes"] = resident_bytes(peer.pids())
            figures |= {f"{name}_{figure}": value for figure, value in found.items()}
    finally:
        peer.delete_topic(topic.name)
    return figures


def produce(client: Client, address: Address, topic: Topic, records: Records) -> Figures:
    """What sending took in this process."""
    driver = client.producer(address, topic, Options())
    try:
        prepared = driver.prepare(records)
        return _cost(records.count, lambda: driver.send_all(prepared))[1]
    finally:
        driver.close()


def consume(client: Client, address: Address, topic: Topic, records: Records) -> Figures:
    """What reading took in this process."""
    driver = client.consumer(address, topic, Options())
    try:
        read, cost = _cost(records.count, lambda: driver.read_all(records.count, _READ_TIMEOUT_S))
        verify(driver.taken(read), [records])
        return cost
    finally:
        driver.close()


def _cost(count: int, work: Callable[[], Any]) -> tuple[Any, Figures]:
    cpu, start = time.process_time(), time.perf_counter()
    result = work()
    elapsed, cpu = time.perf_counter() - start, time.process_time() - cpu
    return result, {
        "records_per_s": count / elapsed,
        "client_cpu_s": cpu / count * 1e6,
        "client_bytes": resident_bytes([os.getpid()]),
    }
