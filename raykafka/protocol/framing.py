"""How bytes on a connection become frames; no sockets, only sizes and positions.

Kafka's framing: a frame starts with its size, an int32 that counts everything after itself. All
integers are big-endian, as Kafka's are. A request then has Kafka's int16 api key, int16 api version
and int32 correlation id; a response has the correlation id only. Here both go on with a uint32
header size, the header (one MessagePack map) and the payload, which is the rest of the frame.

Every size is checked against a bound before memory is taken for what it announces.
"""

from __future__ import annotations

import struct
from typing import Any, Final, NamedTuple

from raykafka.errors import MessageTooLargeError, ProtocolError

REQUEST_PREFIX: Final = struct.Struct(">ihhiI")
"""size, api key, api version, correlation id, header size."""
RESPONSE_PREFIX: Final = struct.Struct(">iiI")
"""size, correlation id, header size."""

SIZE_BYTES: Final = 4
"""The size field itself, which the size does not count."""
MAX_UNAUTHENTICATED_BYTES: Final = 4096
"""Largest frame that a listener takes before the peer has proven the cluster's secret."""
MAX_HEADER_BYTES: Final = 8 << 20
"""Largest header of a request; what is larger than this belongs into a payload."""
MAX_FRAME_BYTES: Final = (1 << 31) - 1
"""Largest size that the int32 in front of a frame can tell."""
CONNECTION_ERROR_ID: Final = -1
"""Correlation id of an error that concerns the connection itself; the server then closes it."""


class RequestFrame(NamedTuple):
    """One request, cut out of the bytes it came in."""

    api_key: int
    api_version: int
    correlation_id: int
    header: memoryview
    payload: memoryview


class ResponseFrame(NamedTuple):
    """One response, cut out of the bytes it came in."""

    correlation_id: int
    header: memoryview
    payload: memoryview


def request_head(
    api_key: int, api_version: int, correlation_id: int, header: bytes, payload_size: int
) -> bytes:
    """The bytes in front of a request's payload.

    Raises ``MessageTooLargeError`` when the frame would exceed what its size field can tell.
    """
    header_size = len(header)
    size = REQUEST_PREFIX.size - SIZE_BYTES + header_size + payload_size
    if size > MAX_FRAME_BYTES:
        raise frame_too_large(size, MAX_FRAME_BYTES)
    return REQUEST_PREFIX.pack(size, api_key, api_version, correlation_id, header_size) + header


def response_head(correlation_id: int, header: bytes, payload_size: int) -> bytes:
    """The bytes in front of a response's payload.

    Raises ``MessageTooLargeError`` when the frame would exceed what its size field can tell.
    """
    header_size = len(header)
    size = RESPONSE_PREFIX.size - SIZE_BYTES + header_size + payload_size
    if size > MAX_FRAME_BYTES:
        raise frame_too_large(size, MAX_FRAME_BYTES)
    return RESPONSE_PREFIX.pack(size, correlation_id, header_size) + header


def frame_too_large(size: int, bound: int) -> MessageTooLargeError:
    """The error for a frame of ``size`` bytes where ``bound`` are allowed."""
    return MessageTooLargeError(
        f"the frame takes {size} bytes, the bound is {bound}; send less at once"
    )


def check_prefix(prefix: struct.Struct, fields: tuple[int, ...], max_bytes: int) -> None:
    """Judge the sizes in an unpacked prefix before anything is allocated.

    Raises ``ProtocolError`` for sizes that contradict each other, ``MessageTooLargeError`` for a
    frame over ``max_bytes`` or a header over ``MAX_HEADER_BYTES``.
    """
    size, header_size = fields[0], fields[-1]
    fixed = prefix.size - SIZE_BYTES
    if size < fixed:
        raise ProtocolError(f"a frame of size {size} cannot be: the fixed part takes {fixed} bytes")
    if size > max_bytes:
        raise frame_too_large(size, max_bytes)
    if header_size > size - fixed:
        raise ProtocolError(f"a header of {header_size} bytes does not fit a frame of size {size}")
    if header_size > MAX_HEADER_BYTES:
        raise frame_too_large(header_size, MAX_HEADER_BYTES)


def split_request(frame: Any, *, max_bytes: int = MAX_FRAME_BYTES) -> RequestFrame:
    """Take one whole request apart without copying.

    Raises what ``check_prefix`` raises, and ``ProtocolError`` when ``frame`` is shorter or longer
    than it says.
    """
    fields, header, payload = _split(REQUEST_PREFIX, frame, max_bytes)
    return RequestFrame(fields[1], fields[2], fields[3], header, payload)


def split_response(frame: Any, *, max_bytes: int = MAX_FRAME_BYTES) -> ResponseFrame:
    """Take one whole response apart without copying; raises as ``split_request`` does."""
    fields, header, payload = _split(RESPONSE_PREFIX, frame, max_bytes)
    return ResponseFrame(fields[1], header, payload)


def _split(
    prefix: struct.Struct, frame: Any, max_bytes: int
) -> tuple[tuple[int, ...], memoryview, memoryview]:
    view = memoryview(frame).cast("B")
    if len(view) < prefix.size:
        raise ProtocolError(f"{len(view)} bytes are no frame: its fixed part takes {prefix.size}")
    fields = prefix.unpack_from(view)
    check_prefix(prefix, fields, max_bytes)
    if len(view) != fields[0] + SIZE_BYTES:
        raise ProtocolError(f"a frame of size {fields[0]} came with {len(view) - SIZE_BYTES} bytes")
    header_end = prefix.size + fields[-1]
    return fields, view[prefix.size : header_end], view[header_end:]
