"""Sizes are judged before memory is taken for them."""

from __future__ import annotations

import struct

import pytest

from raykafka.errors import MessageTooLargeError, ProtocolError
from raykafka.protocol.framing import (
    MAX_FRAME_BYTES,
    MAX_HEADER_BYTES,
    REQUEST_PREFIX,
    RESPONSE_PREFIX,
    check_prefix,
    request_head,
    response_head,
    split_request,
    split_response,
)


def test_request_is_laid_out_as_kafkas() -> None:
    head = request_head(20003, 2, 7, b"HEAD", 3)
    assert head == bytes.fromhex("00000013 4e23 0002 00000007 00000004") + b"HEAD"
    frame = split_request(head + b"abc")
    assert frame == (20003, 2, 7, b"HEAD", b"abc")


def test_response_carries_the_correlation_id_only() -> None:
    head = response_head(7, b"HEAD", 3)
    assert head == bytes.fromhex("0000000f 00000007 00000004") + b"HEAD"
    assert split_response(head + b"abc") == (7, b"HEAD", b"abc")


def test_splitting_copies_nothing() -> None:
    frame = bytearray(request_head(1, 0, 1, b"h", 2) + b"ab")
    payload = split_request(frame).payload
    frame[-1] = ord("z")
    assert payload == b"az"


@pytest.mark.parametrize("size", [-(2**31), -1, 0, 11])
def test_size_below_the_fixed_part(size: int) -> None:
    with pytest.raises(ProtocolError, match="cannot be"):
        check_prefix(REQUEST_PREFIX, (size, 1, 0, 1, 0), 1 << 20)


def test_size_over_the_bound() -> None:
    check_prefix(REQUEST_PREFIX, (4096, 1, 0, 1, 0), 4096)
    with pytest.raises(MessageTooLargeError, match="4097 bytes, the bound is 4096"):
        check_prefix(REQUEST_PREFIX, (4097, 1, 0, 1, 0), 4096)


def test_header_larger_than_its_frame() -> None:
    check_prefix(REQUEST_PREFIX, (12 + 100, 1, 0, 1, 100), 4096)
    with pytest.raises(ProtocolError, match="does not fit"):
        check_prefix(REQUEST_PREFIX, (12 + 100, 1, 0, 1, 101), 4096)
    with pytest.raises(ProtocolError, match="does not fit"):
        check_prefix(REQUEST_PREFIX, (12 + 100, 1, 0, 1, 2**32 - 1), 4096)


def test_header_over_its_own_bound() -> None:
    size = 12 + MAX_HEADER_BYTES + 1
    with pytest.raises(MessageTooLargeError):
        check_prefix(REQUEST_PREFIX, (size, 1, 0, 1, MAX_HEADER_BYTES + 1), MAX_FRAME_BYTES)


@pytest.mark.parametrize("cut", [0, 3, 11, 15, 17])
def test_half_a_frame_is_no_frame(cut: int) -> None:
    frame = request_head(1, 0, 1, b"he", 0)
    with pytest.raises(ProtocolError):
        split_request(frame[:cut])
    with pytest.raises(ProtocolError):
        split_request(frame + b"x")


def test_frames_that_the_size_cannot_tell_are_not_made() -> None:
    with pytest.raises(MessageTooLargeError):
        request_head(1, 0, 1, b"", MAX_FRAME_BYTES)
    with pytest.raises(MessageTooLargeError):
        response_head(1, b"", MAX_FRAME_BYTES)


@pytest.mark.parametrize(
    "garbage",
    [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 2],
)
def test_other_protocols_announce_sizes_over_the_first_bound(garbage: bytes) -> None:
    with pytest.raises(MessageTooLargeError):
        check_prefix(REQUEST_PREFIX, REQUEST_PREFIX.unpack_from(garbage), 4096)


def test_prefixes_are_big_endian() -> None:
    assert REQUEST_PREFIX.format[0] == RESPONSE_PREFIX.format[0] == ">"
    assert struct.calcsize(REQUEST_PREFIX.format) == 16
