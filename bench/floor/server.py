"""The floor: a bare uvloop server that receives a length-prefixed frame, checks its CRC, appends
it to a file and acknowledges it; subscribers get every frame pushed. No protocol, no index.

What raykafka adds on top of this is the price of being a log. Frame: uint32 size, uint8 kind
(0 append, 1 subscribe), uint32 CRC-32C, body. Acknowledgement: uint64 count.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import multiprocessing.connection
import os
import socket
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import crc32c
import pyarrow as pa
import uvloop

FRAME = struct.Struct("<IBI")
ACK = struct.Struct("<Q")
APPEND, SUBSCRIBE = 0, 1
SCHEMA = pa.schema([("value", pa.binary())])


class _State:
    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_TRUNC | os.O_APPEND)
        self.count = 0
        self.subscribers: list[asyncio.Transport] = []


class _Connection(asyncio.BufferedProtocol):
    def __init__(self, state: _State) -> None:
        self.state = state
        self.head = memoryview(bytearray(FRAME.size))
        self.body: memoryview | None = None
        self.filled = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods of asyncio.Transport without being one.
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.transport in self.state.subscribers:
            self.state.subscribers.remove(self.transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return (self.head if self.body is None else self.body)[self.filled :]

    def buffer_updated(self, nbytes: int) -> None:
        self.filled += nbytes
        if self.body is None:
            if self.filled < FRAME.size:
                return
            size, self.kind, self.crc = FRAME.unpack(self.head)
            self.filled = 0
            if not size:
                self.state.subscribers.append(self.transport)
                return
            self.body = memoryview(bytearray(size))
            return
        if self.filled == len(self.body):
            body, self.body, self.filled = self.body, None, 0
            self._append(body)

    def _append(self, body: memoryview) -> None:
        if crc32c.crc32c(body) != self.crc:
            self.transport.close()
            return
        os.write(self.state.fd, body)
        self.state.count += 1
        self.transport.write(ACK.pack(self.state.count))
        for subscriber in self.state.subscribers:
            subscriber.write(FRAME.pack(len(body), APPEND, self.crc))
            subscriber.write(body)


def _serve(directory: str, ready: multiprocessing.connection.Connection) -> None:
    async def main() -> None:
        state = _State(Path(directory) / "floor.log")
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Connection(state), "127.0.0.1", 0)
        ready.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(main())


@contextmanager
def floor_server(directory: str | None = None) -> Iterator[int]:
    """Run the floor in a process of its own; yields its port. Its log goes to ``directory``."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    with tempfile.TemporaryDirectory(dir=directory) as folder:
        process = context.Process(target=_serve, args=(folder, theirs), daemon=True)
        process.start()
        try:
            yield ours.recv()
        finally:
            process.kill()
            process.join()


class FloorClient:
    """The synchronous client of the floor: one thread that sends and reads by itself."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._ack = memoryview(bytearray(ACK.size))

    def send(self, batch: pa.RecordBatch) -> None:
        """Encode, checksum and send one batch; its acknowledgement is read by ``wait_ack``."""
        body = memoryview(batch.serialize())
        head = FRAME.pack(len(body), APPEND, crc32c.crc32c(body))
        if len(body) < 65536:
            self.socket.sendall(head + body)
        else:
            self.socket.sendall(head)
            self.socket.sendall(body)

    def wait_ack(self) -> None:
        receive_exactly(self.socket, self._ack)

    def subscribe(self) -> None:
        self.socket.sendall(FRAME.pack(0, SUBSCRIBE, 0))

    def receive(self) -> pa.RecordBatch:
        """Block for one pushed frame, check it and decode it."""
        head = receive_exactly(self.socket, memoryview(bytearray(FRAME.size)))
        size, _, crc = FRAME.unpack(head)
        body = receive_exactly(self.socket, memoryview(bytearray(size)))
        if crc32c.crc32c(body) != crc:
            raise ValueError("the pushed frame fails its checksum")
        return pa.ipc.read_record_batch(pa.py_buffer(body), SCHEMA)

    def close(self) -> None:
        self.socket.close()


def receive_exactly(sock: socket.socket, into: memoryview) -> memoryview:
    """Fill ``into`` from the socket; ``ConnectionError`` when the peer closes first."""
    filled = 0
    while filled < len(into):
        got = sock.recv_into(into[filled:])
        if not got:
            raise ConnectionError("the floor closed the connection")
        filled += got
    return into
