"""A blocking TCP socket with time limits at no extra cost.

Waiting happens inside ``recv`` itself (SO_RCVTIMEO), not in a ``poll`` before it, and the limit is
set anew only when it changes: an answer then costs one system call.
"""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Callable, Sequence
from typing import Any, Final

from raykafka.model import Endpoint

SEND_STALL_MS: Final = 30_000
"""A peer that takes no byte of a frame for this long is given up."""
MAX_WAIT_MS: Final = 1 << 14
"""Longest single wait; waits are powers of two, so that the limit rarely changes."""
MAX_BUFFERS: Final = 512
"""Buffers per system call; the kernel takes 1,024."""

_TIMEVAL: Final = struct.Struct("@ll")


class BlockingSocket:
    """Sends whole frames, receives what is there. Not thread-safe, but for ``shutdown``."""

    __slots__ = ("_armed_ms", "_socket")

    def __init__(self, connected: socket.socket) -> None:
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        keep_alive(connected)
        connected.settimeout(None)
        self._socket = connected
        self._armed_ms = 0

    @classmethod
    def connect(cls, endpoint: Endpoint, timeout_ms: int) -> BlockingSocket:
        """Connect within ``timeout_ms``; raises ``OSError``."""
        address = (endpoint.host, endpoint.port)
        return cls(socket.create_connection(address, timeout=max(timeout_ms, 1) / 1000))

    def fileno(self) -> int:
        """The descriptor, -1 once closed."""
        return self._socket.fileno()

    def receive(self, buffer: memoryview, timeout_ms: int | None) -> int:
        """Wait for bytes and put them into ``buffer``; 0 when none came in ``timeout_ms``.

        Raises ``OSError`` when the peer has closed the connection or it broke.
        """
        if timeout_ms == 0:
            try:
                received = self._socket.recv_into(buffer, 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return 0
            if not received:
                raise _closed()
            return received
        while timeout_ms is None or timeout_ms > 0:
            # The largest power of two that fits; what remains is waited for in the next turn.
            wait = MAX_WAIT_MS
            if timeout_ms is not None and timeout_ms < MAX_WAIT_MS:
                wait = 1 << (timeout_ms.bit_length() - 1)
            if wait != self._armed_ms:
                self._arm(wait)
            try:
                received = self._socket.recv_into(buffer)
            except BlockingIOError:
                if timeout_ms is not None:
                    timeout_ms -= wait
                continue
            if not received:
                raise _closed()
            return received
        return 0

    def send(
        self, buffers: Sequence[Any], size: int, receive_meanwhile: Callable[[], None]
    ) -> None:
        """Send ``buffers``, ``size`` bytes in all, to the last byte.

        While the peer does not take more, ``receive_meanwhile`` is called for what it sends: a peer
        that waits for this side to read would otherwise never go on. Raises ``OSError`` when the
        connection broke or the peer took nothing for ``SEND_STALL_MS``.
        """
        sent = 0
        try:
            if len(buffers) == 1:
                sent = self._socket.send(buffers[0], socket.MSG_DONTWAIT)
            else:
                sent = self._socket.sendmsg(buffers[:MAX_BUFFERS], (), socket.MSG_DONTWAIT)
        except BlockingIOError:
            sent = 0
        if sent < size:
            self._send_rest(buffers, sent, receive_meanwhile)

    def shutdown(self) -> None:
        """End both directions, which wakes a thread that waits in ``receive``."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # not connected any more, so nobody waits

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _send_rest(
        self, buffers: Sequence[Any], sent: int, receive_meanwhile: Callable[[], None]
    ) -> None:
        rest = [memoryview(buffer).cast("B") for buffer in buffers]
        first = _advance(rest, 0, sent)
        poller = select.poll()
        poller.register(self._socket, select.POLLIN | select.POLLOUT)
        while first < len(rest):
            events = poller.poll(SEND_STALL_MS)
            if not events:
                raise TimeoutError(f"the peer took no byte for {SEND_STALL_MS // 1000} s")
            mask = events[0][1]
            if mask & ~select.POLLOUT:
                receive_meanwhile()
            if mask & select.POLLOUT:
                try:
                    batch = rest[first : first + MAX_BUFFERS]
                    sent = self._socket.sendmsg(batch, (), socket.MSG_DONTWAIT)
                except BlockingIOError:
                    sent = 0
                first = _advance(rest, first, sent)

    def _arm(self, wait_ms: int) -> None:
        timeval = _TIMEVAL.pack(wait_ms // 1000, wait_ms % 1000 * 1000)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval)
        self._armed_ms = wait_ms


def _closed() -> ConnectionResetError:
    return ConnectionResetError("the peer closed it")


def keep_alive(connected: socket.socket) -> None:
    """Have the kernel notice within two minutes that a silent peer's machine is gone."""
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4)):
        option = getattr(socket, name, None)  # macOS names the first one differently
        if option is not None:
            connected.setsockopt(socket.IPPROTO_TCP, option, value)


def _advance(rest: list[memoryview], first: int, sent: int) -> int:
    """Drop ``sent`` bytes from the front; returns the index of the first buffer that is left."""
    while first < len(rest) and sent >= len(rest[first]):
        sent -= len(rest[first])
        first += 1
    if sent:
        rest[first] = rest[first][sent:]
    return first
