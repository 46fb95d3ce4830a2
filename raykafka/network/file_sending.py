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
from raykafka.priority import give_way

THREADS: Final = 16
"""At most; a follower that hangs holds one of them for ``STALL_MS``."""
STALL_MS: Final = 5_000
"""A peer that takes no byte for this long is given up."""
_RETRY_S: Final = 0.001
_LONGEST_RETRY_S: Final = 0.1
"""Between two looks whether the transport has written what came before."""


class FileSender:
    """The threads of one listener."""

    def __init__(self) -> None:
        self._threads: ThreadPoolExecutor | None = None

    def submit(self, send: Callable[[], OSError | None]) -> asyncio.Future[OSError | None]:
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

    def _start(self, pause_s: float = _RETRY_S) -> None:
        if self._cancelled:
            return
        if self._transport.get_write_buffer_size():
            loop = asyncio.get_running_loop()
            loop.call_later(pause_s, self._start, min(2 * pause_s, _LONGEST_RETRY_S))
            return
        try:
            descriptor = os.dup(self._transport.get_extra_info("socket").fileno())
            self._socket = socket.socket(fileno=descriptor)
            send = functools.partial(_attempt, self._socket, self._head, self._file)
            sending = self._sender.submit(send)
        except (OSError, RuntimeError) as error:  # no descriptor or no thread is left
            self._close()
            asyncio.get_running_loop().call_soon(self._on_sent, error)
            return
        sending.add_done_callback(self._on_done)

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _on_done(self, future: asyncio.Future[OSError | None]) -> None:
        self._close()
        if not self._cancelled:
            self._on_sent(future.result())


def _attempt(connected: socket.socket, head: bytes, piece: FileRange) -> OSError | None:
    """Runs in a thread, which closes ``connected``; returns what it failed with."""
    with connected:
        try:
            _send(connected, head, piece)
        except OSError as error:
            return error
    return None


def _send(connected: socket.socket, head: bytes, piece: FileRange) -> None:
    """Raises ``OSError``."""
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
    if not poller.poll(STALL_MS):
        raise TimeoutError(f"the peer took no byte for {STALL_MS // 1000} s")
