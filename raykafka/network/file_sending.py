"""Frames whose payload is sent from a file, by a thread: it is never in this process's memory.

The thread writes to a duplicate of the connection's descriptor while its transport has nothing to
write; whatever else is sent on the connection waits until the file is through. sendfile(2) neither
copies nor holds the interpreter's lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import select
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from raykafka.actors.lines import FileRange
from raykafka.network.socket_io import SEND_STALL_MS
from raykafka.priority import give_way

THREADS: Final = 4
"""At most, so that a follower that hangs does not hold up the others."""
_RETRY_S: Final = 0.001
"""Between two looks whether the transport has written what came before."""


class FileSender:
    """The threads of one listener."""

    def __init__(self) -> None:
        self._threads: ThreadPoolExecutor | None = None

    def submit(self, send: Callable[[], None]) -> asyncio.Future[None]:
        """Run ``send`` in a thread of low priority."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(THREADS, "send-file", initializer=give_way)
        return asyncio.get_running_loop().run_in_executor(self._threads, send)

    def close(self) -> None:
        """Start no more; what is being sent ends with its connection."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)


class OutgoingFile:
    """One frame on its way."""

    def __init__(
        self,
        sender: FileSender,
        transport: asyncio.Transport,
        head: bytes,
        file: FileRange,
        on_sent: Callable[[BaseException | None], None],
    ) -> None:
        """``on_sent`` is called on the loop, with what it failed with; not after ``cancel``."""
        self._sender = sender
        self._transport = transport
        self._head = head
        self._file = file
        self._on_sent = on_sent
        self._socket: socket.socket | None = None
        self._cancelled = False
        self._start()

    def cancel(self) -> None:
        """The connection has ended."""
        self._cancelled = True
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread

    def _start(self) -> None:
        if self._cancelled:
            return
        if self._transport.get_write_buffer_size():
            asyncio.get_running_loop().call_later(_RETRY_S, self._start)
            return
        try:
            descriptor = os.dup(self._transport.get_extra_info("socket").fileno())
        except OSError as error:
            self._on_sent(error)
            return
        self._socket = socket.socket(fileno=descriptor)
        send = functools.partial(_send, self._socket, self._head, self._file)
        self._sender.submit(send).add_done_callback(self._on_done)

    def _on_done(self, future: asyncio.Future[None]) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        failure = None if future.cancelled() else future.exception()
        if not self._cancelled:
            self._on_sent(failure)


def _send(connected: socket.socket, head: bytes, piece: FileRange) -> None:
    """Runs in a thread; raises ``OSError``."""
    with open(piece.path, "rb", buffering=0) as file:
        status = os.fstat(file.fileno())
        end = piece.position + piece.size
        if status.st_ino != piece.inode or status.st_size < end:
            raise OSError(f"{piece.path} has changed since it was to be sent")
        poller = select.poll()
        poller.register(connected, select.POLLOUT)
        rest = memoryview(head)
        while rest:
            try:
                rest = rest[connected.send(rest, _MORE | socket.MSG_DONTWAIT) :]
            except BlockingIOError:
                _wait(poller)
        position = piece.position
        while position < end:
            try:
                sent = os.sendfile(connected.fileno(), file.fileno(), position, end - position)
            except BlockingIOError:
                _wait(poller)
                continue
            if not sent:
                raise OSError(f"{piece.path} was cut while it was sent")
            position += sent


_MORE: Final[int] = getattr(socket, "MSG_MORE", 0)
"""The head goes out with the first bytes of the file."""


def _wait(poller: select.poll) -> None:
    if not poller.poll(SEND_STALL_MS):
        raise TimeoutError(f"the peer took no byte for {SEND_STALL_MS // 1000} s")
