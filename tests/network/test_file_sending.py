"""Payloads that a thread sends from a file: in their place among the answers, whole or never."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import pytest
from wire_kit import PARK, PUSHED, Echo, Running, open_stream, wait_until

from raykafka.actors.lines import FileRange
from raykafka.actors.ports import Reply
from raykafka.errors import ConnectionLostError
from raykafka.network.file_sending import STALL_MS
from raykafka.network.serving import ServerConnection
from raykafka.protocol.messages import (
    ApiKey,
    ProduceRequest,
)


@pytest.fixture
def content(tmp_path: Path) -> bytes:
    data = os.urandom(5_000_000)
    (tmp_path / "file").write_bytes(data)
    return data


def piece(tmp_path: Path, position: int, size: int) -> FileRange:
    path = tmp_path / "file"
    return FileRange(str(path), path.stat().st_ino, position, size)


def payloads(got: list[Any]) -> list[bytes]:
    """Of the answers of a stream."""
    return [bytes(payload) for _, payload in got]


def server_side(reply: Reply) -> ServerConnection:
    assert isinstance(reply.connection, ServerConnection)
    return reply.connection


def test_answers_stay_in_their_order(
    running: Running, echo: Echo, tmp_path: Path, content: bytes
) -> None:
    got: list[Any] = []
    connection, _, reply = open_stream(running, echo, got)

    def answer() -> None:
        reply(PUSHED, [b"before" * 100_000])  # not written yet when the file is to be sent
        reply.send_file(PUSHED, piece(tmp_path, 7, 3_000_000))
        reply(PUSHED, [b"between"])
        reply.send_file(PUSHED, piece(tmp_path, 4_999_990, 10))
        reply(PUSHED, [b"after"])

    running.run(answer)
    while len(got) < 5:
        assert connection.pump(10_000)
    expected = [b"before" * 100_000, content[7:3_000_007], b"between", content[-10:], b"after"]
    assert payloads(got) == expected


def test_a_request_that_comes_meanwhile_is_answered_behind_it(
    running: Running, echo: Echo, tmp_path: Path, content: bytes
) -> None:
    got: list[Any] = []
    connection, _, reply = open_stream(running, echo, got)
    running.run(lambda: reply.send_file(PUSHED, piece(tmp_path, 0, 5_000_000)))
    wait_until(lambda: server_side(reply)._file is not None, "the file")
    produce = ProduceRequest("t", 0, 1)
    produced = (None, b"produced")
    connection.send(ApiKey.PRODUCE, produce, [b"x"], lambda *_: got.append(produced))
    while len(got) < 2:
        assert connection.pump(10_000)
    assert payloads(got) == [content, b"produced"]


def pump_to_the_end(connection: Any) -> None:
    while connection.pump(10_000):
        pass


@pytest.mark.parametrize("change", ["replaced", "cut", "deleted"])
def test_a_file_that_is_not_what_it_was_ends_the_connection(
    running: Running, echo: Echo, tmp_path: Path, content: bytes, change: str
) -> None:
    got: list[Any] = []
    connection, _, reply = open_stream(running, echo, got)
    there = piece(tmp_path, 0, 5_000_000)
    if change == "replaced":
        (tmp_path / "other").write_bytes(content)
        (tmp_path / "other").rename(tmp_path / "file")
    elif change == "cut":
        os.truncate(tmp_path / "file", 4_999_999)
    else:
        (tmp_path / "file").unlink()
    running.run(lambda: reply.send_file(PUSHED, there))
    with pytest.raises(ConnectionLostError):
        pump_to_the_end(connection)
    assert payloads(got) in ([], [b""]), "the stream learns that it has ended, and gets no part"
    wait_until(lambda: not running.state.connections, "the end of the connection")


def test_nothing_is_asked_for_while_a_file_is_sent(
    running: Running, echo: Echo, tmp_path: Path
) -> None:
    connection, _, reply = open_stream(running, echo, [])
    running.run(lambda: reply.send_file(PUSHED, unread(tmp_path)))
    wait_until(lambda: server_side(reply)._file is not None, "the file")
    connection.send(ApiKey.FETCH, PARK, (), lambda *_: None, stream=True)
    assert running.run(lambda: server_side(reply)._stopped)
    assert not echo.parked


def test_a_connection_that_ends_ends_the_thread_that_sends_on_it(
    running: Running, echo: Echo, tmp_path: Path
) -> None:
    """Its reader has taken nothing for a while, and would be waited for longer."""
    path = unread(tmp_path).path
    _, _, reply = open_stream(running, echo, [])
    running.run(lambda: reply.send_file(PUSHED, unread(tmp_path)))
    wait_until(lambda: is_open(path), "the file is open")
    running.run(server_side(reply).abort)
    wait_until(lambda: not is_open(path), "the file is closed", timeout_s=STALL_MS / 2000)


def unread(tmp_path: Path) -> FileRange:
    """More than a connection takes that nobody reads from."""
    path = tmp_path / "large"
    with path.open("ab") as file:
        file.truncate(256 << 20)
    return FileRange(str(path), path.stat().st_ino, 0, 256 << 20)


def is_open(path: str) -> bool:
    """Whether this process has the file open."""
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{number}") == path:
                return True
    return False


def test_a_reader_that_goes_away_in_the_middle_leaves_nothing_behind(
    running: Running, echo: Echo, tmp_path: Path, content: bytes
) -> None:
    before = len(os.listdir("/proc/self/fd"))
    connection, _, reply = open_stream(running, echo, [])
    for _ in range(10):
        running.run(lambda: reply.send_file(PUSHED, piece(tmp_path, 0, 5_000_000)))
    wait_until(lambda: server_side(reply)._file is not None, "the file")
    connection.close()
    wait_until(lambda: not running.state.connections, "the end of the connection")
    wait_until(lambda: len(os.listdir("/proc/self/fd")) <= before, "closed descriptors")


def test_a_listener_that_closes_waits_for_no_reader(
    running: Running, echo: Echo, tmp_path: Path, content: bytes
) -> None:
    connection, _, reply = open_stream(running, echo, [])
    for _ in range(10):
        running.run(lambda: reply.send_file(PUSHED, piece(tmp_path, 0, 5_000_000)))
    wait_until(lambda: server_side(reply)._file is not None, "the file")
    running.run(running.state.close)
    with pytest.raises(ConnectionLostError):
        pump_to_the_end(connection)
