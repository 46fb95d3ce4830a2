"""A partition actor behind a real listener, spoken to over real connections."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from partition_kit import EPOCH, TOPIC_ID, assignment, message, value_batch

from raykafka.actors.partition import PartitionActor
from raykafka.actors.ports import NodeInfo, PartitionActorSpec
from raykafka.assembly import machine_environment
from raykafka.errors import (
    ClusterAuthorizationFailedError,
    ConnectionLostError,
    CorruptMessageError,
    NotLeaderOrFollowerError,
)
from raykafka.log.batch_header import read_header
from raykafka.model import Endpoint, PartitionId
from raykafka.network.client import Connection
from raykafka.network.mapped import MappedReader, host_id
from raykafka.protocol.messages import (
    ApiKey,
    FetchCreditRequest,
    FetchPartition,
    FetchRequest,
    FetchResponse,
    ProduceRequest,
    ProduceResponse,
)
from raykafka.testing.loop_thread import LoopThread

SECRET = b"s" * 32


class Served:
    """A partition actor on a loop of its own, with two partitions."""

    def __init__(self, path: Path) -> None:
        spec = PartitionActorSpec(
            "test/partitions-0-0-i1", "c", "test", 0, 0, 1, NodeInfo("n", "127.0.0.1"),
            str(path), {"disk.reserve.bytes": "0"}, SECRET,
        )  # fmt: skip
        self.thread = LoopThread("partition")
        self.actor = PartitionActor(spec, machine_environment())
        started = self.run(self.actor.start())
        assert started.endpoint is not None
        self.endpoint: Endpoint = started.endpoint
        for result in self.run(self.actor.assign([assignment(0), assignment(1)], [])):
            assert result.error_code == 0

    def run(self, coroutine: Any) -> Any:
        return self.thread.run(coroutine, timeout_s=30)

    def connect(self) -> Connection:
        return Connection(self.endpoint, SECRET, client_id="test")

    def parked(self) -> int:
        async def count() -> int:
            replicas = self.actor._replicas
            return sum(len(replica.waiters) for replica in replicas)

        return int(self.run(count()))


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    server = Served(tmp_path)
    yield server
    server.run(server.actor.stop())
    server.thread.close()


def batch(partition: int, *values: bytes) -> bytearray:
    return message(PartitionId(TOPIC_ID, partition), value_batch(*values))


def produce(connection: Connection, partition: int, *values: bytes) -> ProduceResponse:
    request = ProduceRequest(TOPIC_ID, partition, EPOCH)
    payload = [batch(partition, *values)]
    answer, _ = connection.call(ApiKey.PRODUCE, request, payload, timeout_ms=10_000)
    assert isinstance(answer, ProduceResponse)
    return answer


def fetch_request(offset: int, partition: int = 0, **fields: Any) -> FetchRequest:
    return FetchRequest([FetchPartition(TOPIC_ID, partition, offset, EPOCH)], **fields)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_pipelined_produces_are_answered_in_order(served: Served) -> None:
    connection = served.connect()
    answers: list[Any] = []
    request = ProduceRequest(TOPIC_ID, 0, EPOCH)
    for number in range(200):
        connection.send(
            ApiKey.PRODUCE, request, [batch(0, b"%d" % number)], lambda a, _: answers.append(a)
        )
    while len(answers) < 200:
        connection.pump(10_000)
    assert [answer.base_offset for answer in answers] == list(range(200))
    connection.close()


def test_a_large_batch_comes_back_byte_by_byte_with_its_offset(served: Served) -> None:
    connection = served.connect()
    sent = batch(0, *[bytes([n % 256]) * 1000 for n in range(3000)])
    request = ProduceRequest(TOPIC_ID, 0, EPOCH)
    connection.call(ApiKey.PRODUCE, request, [b"small"[:0], sent], timeout_ms=10_000)
    _, payload = connection.call(ApiKey.FETCH, fetch_request(0), timeout_ms=10_000)
    assert read_header(payload).base_offset == 0
    assert payload[-2_000_000:] == sent[-2_000_000:]
    connection.close()


def test_records_are_pushed_to_a_waiting_session(served: Served) -> None:
    reader, writer = served.connect(), served.connect()
    frames: list[tuple[Any, bytes]] = []
    session = reader.send(
        ApiKey.FETCH,
        fetch_request(0, push=True, credit_bytes=1 << 20),
        on_response=lambda answer, payload: frames.append((answer, bytes(payload))),
        stream=True,
    )
    for number in range(3):
        produce(writer, 0, b"%d" % number)
        while len(frames) <= number:
            reader.pump(10_000)
    assert [read_header(payload).base_offset for _, payload in frames] == [0, 1, 2]
    reader.send(ApiKey.FETCH_CREDIT, FetchCreditRequest(session, close=True))
    while reader.pending:
        reader.pump(10_000)
    assert frames[-1][0] == FetchResponse()
    reader.close()
    writer.close()


def test_what_waits_ends_with_its_connection(served: Served) -> None:
    reader, writer = served.connect(), served.connect()
    reader.send(ApiKey.FETCH, fetch_request(0, max_wait_ms=600_000), on_response=lambda *_: None)
    reader.send(
        ApiKey.FETCH,
        fetch_request(0, push=True, credit_bytes=10),
        on_response=lambda *_: None,
        stream=True,
    )
    wait_until(lambda: served.parked() == 2)
    reader.close()
    wait_until(lambda: served.parked() == 0)
    assert produce(writer, 0, b"a").base_offset == 0
    writer.close()


def test_a_reader_that_does_not_read_holds_up_nobody(served: Served) -> None:
    """Its session stops at the write buffer's mark, and other clients do not notice."""
    lazy, writer, other = served.connect(), served.connect(), served.connect()
    for _ in range(20):
        produce(writer, 0, b"x" * 1_000_000)
    lazy.send(
        ApiKey.FETCH,
        fetch_request(0, push=True, credit_bytes=1 << 30),
        on_response=lambda *_: None,
        stream=True,
    )
    assert produce(other, 1, b"a").base_offset == 0
    _, payload = other.call(ApiKey.FETCH, fetch_request(19), timeout_ms=10_000)
    assert read_header(payload).base_offset == 19
    for connection in (lazy, writer, other):
        connection.close()


def test_a_co_located_reader_maps_the_same_bytes(served: Served) -> None:
    connection = served.connect()
    sent = [batch(0, b"%d" % n * 40_000) for n in range(3)]
    for payload in sent:
        request = ProduceRequest(TOPIC_ID, 0, EPOCH)
        connection.call(ApiKey.PRODUCE, request, [payload], timeout_ms=10_000)
    answer, index = connection.call(
        ApiKey.FETCH, fetch_request(0, host_id=host_id()), timeout_ms=10_000
    )
    assert isinstance(answer, FetchResponse)
    part = answer.partitions[0]
    assert part.mapped is not None
    reader = MappedReader()
    found = reader.batches(part.mapped, index)
    assert [read_header(each).base_offset for each in found] == [0, 1, 2]
    _, payload = connection.call(ApiKey.FETCH, fetch_request(0), timeout_ms=10_000)
    assert b"".join(found) == bytes(payload)
    reader.close()
    connection.close()


def test_errors_leave_the_connection_usable(served: Served) -> None:
    connection = served.connect()
    request = ProduceRequest(TOPIC_ID, 0, EPOCH)
    with pytest.raises(CorruptMessageError):
        connection.call(ApiKey.PRODUCE, request, [b"garbage"], timeout_ms=10_000)
    elsewhere = ProduceRequest("f" * 32, 0, EPOCH)
    with pytest.raises(NotLeaderOrFollowerError):
        connection.call(ApiKey.PRODUCE, elsewhere, [batch(0, b"a")], timeout_ms=10_000)
    assert produce(connection, 0, b"a").base_offset == 0
    connection.close()


def test_strangers_and_garbage_change_nothing(served: Served) -> None:
    with pytest.raises(ClusterAuthorizationFailedError):
        Connection(served.endpoint, b"wrong" * 7, client_id="stranger")
    for garbage in (b"GET / HTTP/1.1\r\n\r\n", struct.pack(">i", -1), struct.pack(">i", 1 << 30)):
        with socket.create_connection((served.endpoint.host, served.endpoint.port)) as raw:
            raw.sendall(garbage)
    with socket.create_connection((served.endpoint.host, served.endpoint.port)) as half:
        half.sendall(b"\x00\x00")
        connection = served.connect()
        assert produce(connection, 0, b"a").base_offset == 0
        connection.close()


def test_a_crash_breaks_connections_and_a_successor_has_the_records(served: Served) -> None:
    connection = served.connect()
    produce(connection, 0, b"a")
    served.run(served.actor.crash())
    with pytest.raises(ConnectionLostError):
        produce(connection, 0, b"b")
    actor = PartitionActor(served.actor.spec, machine_environment())
    started = served.run(actor.start())
    try:
        [result] = served.run(actor.assign([assignment(0, opened_before=True)], []))
        assert result.log_end_offset == 1
        fresh = Connection(started.endpoint, SECRET, client_id="test")
        assert produce(fresh, 0, b"b").base_offset == 1
        fresh.close()
    finally:
        served.run(actor.stop())
