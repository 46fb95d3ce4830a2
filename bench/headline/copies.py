"""Three copies of every partition: latency and throughput, and a copy that is made anew."""

from __future__ import annotations

import os
import socket
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from bench.headline import work
from bench.headline.session import Session, settle
from bench.measuring.memory import QuickMemory
from bench.measuring.records import Records
from bench.measuring.statistics import percentile
from bench.measuring.verification import VoidRunError
from bench.peers import confluent, raykafka
from bench.peers.api import Options, Topic
from bench.peers.raykafka_nodes import Nodes

MEGABYTE = 1e6
WARM_UP_RECORDS = 10_000
_LIVE_RATE = 500.0
_LIVE_BEFORE_S = 5.0
_DISK_RECORDS = 2_000_000
"""Of 1 KB: two gigabytes."""
_DISK_PARTITIONS = 6
_COPIED_S = 120.0
_QUICK_SHARE = 3
"""How often what is copied fits into the memory that is quick to take."""
_CHUNK = 1 << 20


def three_copies(session: Session) -> None:
    """One record at a time, then records as tables; acks=all, two copies at least in sync."""
    for client in (raykafka.RECORDS, confluent.CLIENT):
        if not session.offers(client):
            continue
        with session.attempt(f"three copies, {client.name}"), session.topic(client) as topic:
            session.peer(client.peer).restore(topic)
            count = 4_000 if session.counting else WARM_UP_RECORDS
            records = Records(count, 100)
            samples = session.ask(client, work.acks, topic, Options(linger_ms=0), records)
            session.record(f"three copies ack p50/{client.name}", percentile(samples, 0.5))
            session.record(f"three copies ack p99/{client.name}", percentile(samples, 0.99))
            session.read_back(client, topic, records)
        settle()
    for client, count in ((raykafka.TABLES, 2_000_000), (confluent.CLIENT, 500_000)):
        if not session.offers(client):
            continue
        session.warm_memory()
        records = Records(count, 100)
        with session.attempt(f"three copies, {client.name}"), session.topic(client) as topic:
            session.peer(client.peer).restore(topic)
            written = session.ask(client, work.produce, topic, Options(), records)
            session.read_back(client, topic, records)
            rate = count * records.size / MEGABYTE / written.seconds
            session.record(f"three copies 100 B/{client.name}", rate)
        settle()


def empty_disk(session: Session) -> None:
    """A broker comes back with an empty disk while a producer writes one record after the other.

    Beside it stands what the machine can do at best: bytes of a file through a loopback socket into
    another file, by one process that sends and one thread that writes. Both find memory that is
    quick to take when they begin and what they read in the page cache, and both clocks run from the
    first byte to the last one on the disk; when all copies are in sync again is told beside it.
    """
    client = raykafka.RECORDS
    if not session.offers(client):
        return
    with session.attempt("empty disk"):
        peer = session.peer("raykafka")
        assert isinstance(peer, raykafka.Raykafka)
        full = Topic(f"full-{time.monotonic_ns()}", _DISK_PARTITIONS, session.copies)
        peer.create_topic(full)
        records = Records(_DISK_RECORDS, 1024)
        session.ask(raykafka.TABLES, work.produce, full, Options(batch=1000), records)
        peer.restore(full)
        with session.topic(client) as live:
            _replace(session, peer, full, live)
        peer.delete_topic(full.name)
        session.say("raw copy")
        session.record("empty disk/raw copy", raw_copy(session.folder, records.count * 1024))


def _replace(session: Session, peer: raykafka.Raykafka, full: Topic, live: Topic) -> None:
    client, nodes = raykafka.RECORDS, peer.nodes
    peer.restore(live)
    victim = nodes.follower(live)
    size = nodes.disk_bytes(victim)
    worker = session.worker(client)
    seconds = _LIVE_BEFORE_S + 20 + size / MEGABYTE / 150
    paced_records = Records(int(_LIVE_RATE * seconds), 100)
    options = Options(linger_ms=0)
    os.sync()  # what has just been written is not to be written back meanwhile
    worker.start(work.paced, client, peer.address, live, options, paced_records, _LIVE_RATE)
    time.sleep(_LIVE_BEFORE_S)
    undisturbed = time.monotonic_ns()
    lost = nodes.disk_bytes(victim, full)
    memory = _hold_memory(lost)
    for broker in range(session.copies):
        if broker != victim:
            _read(nodes.segments(broker))
    session.say("empty disk: copying")
    nodes.replace_disk(victim)
    began = _bytes_there(nodes, victim, 1)
    memory.release()
    ended = _bytes_there(nodes, victim, lost, full)
    peer.restore(full)
    in_sync = time.monotonic_ns()
    paced: work.Paced = worker.finish()
    session.read_back(client, live, paced_records)
    if paced.sent_ns[-1] < in_sync:
        raise VoidRunError("the live load ended before the copies were in sync")
    latencies = [
        (sent, (acked - sent) / 1e3)
        for sent, acked in zip(paced.sent_ns, paced.acked_ns, strict=True)
    ]
    before = [latency for sent, latency in latencies[500:] if sent < undisturbed]
    during = [latency for sent, latency in latencies if began <= sent < in_sync]
    session.record("empty disk/raykafka", lost / MEGABYTE / ((ended - began) / 1e9))
    session.record("empty disk in sync/raykafka", lost / MEGABYTE / ((in_sync - began) / 1e9))
    session.record("ack p99 before copying/raykafka", percentile(before, 0.99))
    session.record("ack p99 while copying/raykafka", percentile(during, 0.99))


def _bytes_there(nodes: Nodes, broker: int, count: int, topic: Topic | None = None) -> int:
    """When ``count`` bytes of segments were on a broker's disk."""
    deadline = time.monotonic() + _COPIED_S
    while nodes.disk_bytes(broker, topic) < count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"broker {broker} has not copied {count:,} bytes in {_COPIED_S:g} s")
        time.sleep(0.005)
    return time.monotonic_ns()


def _hold_memory(copied: int) -> QuickMemory:
    """To be released when ``copied`` bytes begin to be copied."""
    memory = QuickMemory(_QUICK_SHARE * copied)
    if memory.size < copied:
        raise VoidRunError(f"only {memory.size:,} bytes of memory are free for {copied:,}")
    return memory


def _read(files: Iterable[Path]) -> None:
    """A machine may have taken what nobody has read for a minute out of the page cache."""
    buffer = bytearray(_CHUNK)
    for path in files:
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def raw_copy(folder: Path, size: int, pause_s: float = _LIVE_BEFORE_S) -> float:
    """MB/s of ``size`` bytes of a file through a loopback socket into another file.

    The disk rests for ``pause_s`` before.
    """
    with tempfile.TemporaryDirectory(dir=folder) as name:
        source, target = Path(name) / "source", Path(name) / "target"
        with source.open("wb", buffering=0) as file:
            for _ in range(0, size, _CHUNK):
                file.write(os.urandom(_CHUNK))
        os.sync()
        time.sleep(pause_s)
        memory = _hold_memory(size)
        _read([source])
        with socket.create_server(("127.0.0.1", 0)) as server:
            thread = threading.Thread(target=_send_file, args=(server, source))
            thread.start()
            start = time.perf_counter()
            releasing = threading.Thread(target=memory.release)
            releasing.start()
            with socket.create_connection(server.getsockname()) as connection:
                received = _receive_file(connection, target)
            elapsed = time.perf_counter() - start
            thread.join()
            releasing.join()
        return received / MEGABYTE / elapsed


def _send_file(server: socket.socket, source: Path) -> None:
    connection, _ = server.accept()
    with connection, source.open("rb") as file:
        connection.sendfile(file)


def _receive_file(connection: socket.socket, target: Path) -> int:
    buffer, received = memoryview(bytearray(_CHUNK)), 0
    with target.open("wb", buffering=0) as file:
        while count := connection.recv_into(buffer):
            file.write(buffer[:count])
            received += count
    return received
