"""Cuts a stream of bytes into frames, for either side of a connection.

Frames that lie whole in the receive chunk are handled there; the chunk is shared by all connections
of a listener, because handling is synchronous and nothing of a frame is left in it afterwards. The
end of a chunk that is not a whole frame is carried over, and a large payload is received straight
into a buffer of its own, which whoever handles the frame then owns.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Sequence
from typing import Final

from raykafka.actors.ports import Buffer
from raykafka.errors import RaykafkaError
from raykafka.network.buffers import BufferPool
from raykafka.protocol.framing import MAX_HEADER_BYTES, SIZE_BYTES, check_prefix

CHUNK_BYTES: Final = 64 << 10
"""What one read of a socket takes at most, unless it goes straight into a payload."""
CARRY_BYTES: Final = 32 << 10
"""Frames up to this size are put together in the chunk, larger ones in a buffer of their own."""
JOIN_BYTES: Final = 32 << 10
"""Payloads up to this size are joined with their head: a write of parts costs more than a copy."""
JOIN_EACH_BYTES: Final = 2 << 10
"""So are larger ones whose buffers are smaller than this on average."""

NOTHING: Final = memoryview(b"")
Fields = tuple[int, ...]


class FrameReceiver:
    """Receives into the buffers that ``get_buffer`` names and calls ``on_frame`` for each frame.

    Subclasses handle frames and broken ones; a handler that sets ``_stopped`` keeps the rest of the
    chunk for ``_go_on``.
    """

    __slots__ = (
        "_carry",
        "_chunk",
        "_fields",
        "_filled",
        "_header",
        "_max_bytes",
        "_pool",
        "_prefix",
        "_stopped",
        "_target",
    )

    def _start_receiving(
        self, prefix: struct.Struct, chunk: memoryview, pool: BufferPool, max_bytes: int
    ) -> None:
        self._prefix = prefix
        self._chunk = chunk
        self._pool = pool
        self._max_bytes = max_bytes
        self._carry = b""
        self._target: memoryview | None = None
        self._filled = 0
        self._fields: Fields = ()
        self._header: bytes | memoryview | None = None
        self._stopped = False

    # --- for subclasses ---------------------------------------------------------------------------

    def on_frame(self, fields: Fields, header: memoryview, payload: memoryview) -> None:
        """One whole frame. ``header`` is valid during the call only, ``payload`` belongs to it."""
        raise AssertionError("subclasses handle frames")

    def on_broken_frame(self, fields: Fields, error: RaykafkaError) -> None:
        """The sizes in a prefix cannot be; nothing after it can be understood."""
        raise AssertionError("subclasses handle broken frames")

    def on_payload_begins(
        self, fields: Fields, header: bytes | memoryview, payload_size: int
    ) -> None:
        """The header of a large frame is there, its payload comes in; ``on_frame`` follows."""

    def reserve(self, fields: Fields, payload_size: int) -> bool:
        """Whether a payload may be received now; False stops receiving until ``_go_on``."""
        return True

    # --- receiving --------------------------------------------------------------------------------

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go."""
        target = self._target
        if target is not None:
            return target[self._filled :]
        carried = len(self._carry)
        if carried:
            self._chunk[:carried] = self._carry
            return self._chunk[carried:]
        return self._chunk

    def buffer_updated(self, nbytes: int) -> None:
        """``nbytes`` have been put where ``get_buffer`` said."""
        target = self._target
        if target is not None:
            self._filled += nbytes
            if self._filled == len(target):
                self._on_target_full(target)
            return
        carry = self._carry
        if carry:
            nbytes += len(carry)
            self._carry = b""
        self._cut(nbytes)

    @property
    def _in_a_frame(self) -> bool:
        return self._target is not None or bool(self._carry)

    def _go_on(self) -> None:
        """Handle what was left in the chunk when ``_stopped`` was set."""
        self._stopped = False
        carry = self._carry
        if carry:
            self._carry = b""
            self._chunk[: len(carry)] = carry
            self._cut(len(carry))

    def _cut(self, end: int) -> None:
        """Handle the frames in the first ``end`` bytes of the chunk."""
        chunk = self._chunk
        prefix = self._prefix
        prefix_size = prefix.size
        unpack = prefix.unpack_from
        start = 0
        while end - start >= prefix_size:
            fields: Fields = unpack(chunk, start)
            size = fields[0]
            header_size = fields[-1]
            header_start = start + prefix_size
            header_end = header_start + header_size
            frame_end = start + SIZE_BYTES + size
            if header_end > frame_end or size > self._max_bytes or header_size > MAX_HEADER_BYTES:
                self._refuse(fields)
                return
            if frame_end > end:
                if size > CARRY_BYTES:
                    self._receive_rest(fields, start, end)
                    return
                break
            if header_end == frame_end:
                self.on_frame(fields, chunk[header_start:header_end], NOTHING)
            else:
                payload = memoryview(bytearray(chunk[header_end:frame_end]))
                self.on_frame(fields, chunk[header_start:header_end], payload)
            start = frame_end
            if self._stopped:
                break
        if start < end:
            self._carry = bytes(chunk[start:end])

    def _refuse(self, fields: Fields) -> None:
        try:
            check_prefix(self._prefix, fields, self._max_bytes)
        except RaykafkaError as error:
            self.on_broken_frame(fields, error)

    # --- large frames -----------------------------------------------------------------------------

    def _receive_rest(self, fields: Fields, start: int, end: int) -> None:
        """A large frame begins at ``start``: give its missing part a buffer of its own."""
        chunk = self._chunk
        header_start = start + self._prefix.size
        header_size = fields[-1]
        payload_size = fields[0] + SIZE_BYTES - self._prefix.size - header_size
        if payload_size and not self.reserve(fields, payload_size):
            self._carry = bytes(chunk[start:end])
            return
        self._fields = fields
        header_end = header_start + header_size
        if header_end > end:
            self._target = memoryview(bytearray(header_size))
            self._header = None
            self._filled = end - header_start
            self._target[: self._filled] = chunk[header_start:end]
            return
        header = bytes(chunk[header_start:header_end])
        self._begin_payload(header, payload_size, chunk[header_end:end])

    def _begin_payload(self, header: bytes | memoryview, size: int, there: memoryview) -> None:
        """The header is whole; of the payload, which has ``size`` bytes, ``there`` has come."""
        self._header = header
        self._target = self._pool.take(size)
        self._filled = len(there)
        self._target[: self._filled] = there
        self.on_payload_begins(self._fields, header, size)

    def _on_target_full(self, target: memoryview) -> None:
        fields = self._fields
        self._filled = 0
        header = self._header
        if header is None:
            payload_size = fields[0] + SIZE_BYTES - self._prefix.size - fields[-1]
            if payload_size:
                self._begin_payload(target, payload_size, NOTHING)
                return
            header, target = target, NOTHING
        self._target = self._header = None
        self.on_frame(fields, memoryview(header), target)


def takes_lines(transport: asyncio.BaseTransport) -> bool:
    """Whether the transport hands several buffers over at once without joining them.

    asyncio's own joins the lines up to Python 3.11, and from 3.12 on forgets to say that its buffer
    is full (CVE-2024-12254, mended in 3.12.9 and 3.13.2).
    """
    return type(transport).__module__.startswith("uvloop")


def write_frame(
    transport: asyncio.Transport,
    head: bytes,
    payload: Sequence[Buffer],
    size: int,
    *,
    lines: bool,
) -> None:
    """Write one frame whose payload has ``size`` bytes; large buffers are handed over as they are.

    ``lines`` is what ``takes_lines`` said of the transport.
    """
    if size <= JOIN_BYTES or size <= len(payload) * JOIN_EACH_BYTES:
        transport.write(b"".join((head, *payload)))
    elif lines:
        transport.writelines([head, *(memoryview(buffer) for buffer in payload)])
    else:
        transport.write(head)
        for buffer in payload:
            transport.write(memoryview(buffer))
