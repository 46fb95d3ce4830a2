"""Any bytes give a valid value or a typed error, in bounded time and memory."""

from __future__ import annotations

import contextlib
import time
import tracemalloc

import pytest
import wire_samples
from hypothesis import given, settings
from hypothesis import strategies as st

from raykafka.errors import InvalidRequestError, MessageTooLargeError, ProtocolError
from raykafka.protocol import apis
from raykafka.protocol.framing import split_request, split_response
from raykafka.protocol.messages import ApiKey, Message

KEYS = list(ApiKey)
REQUESTS = {key: wire_samples.request_frame(key) for key in KEYS}
RESPONSES = {key: wire_samples.response_frame(key) for key in KEYS}


def read_request(frame: bytes) -> Message | None:
    """What the frame says; None when it is refused with an error that a server may raise."""
    try:
        split = split_request(frame, max_bytes=1 << 20)
        return apis.decode_request(ApiKey(split.api_key), split.header)
    except ValueError:
        assert split.api_key not in set(ApiKey)
        return None
    except (ProtocolError, MessageTooLargeError, InvalidRequestError):
        return None


def read_response(key: ApiKey, frame: bytes) -> Message | None:
    """What the frame says; None when it is refused with an error that a client may raise."""
    try:
        return apis.decode_response(key, split_response(frame, max_bytes=1 << 20).header)
    except (ProtocolError, MessageTooLargeError):
        return None


@st.composite
def mutated(draw: st.DrawFn, frames: dict[ApiKey, bytes]) -> tuple[ApiKey, bytes]:
    """A golden frame with bytes changed, put in or taken out, often with its size made right."""
    key = draw(st.sampled_from(KEYS))
    frame = bytearray(frames[key])
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(0, len(frame) - 1)))
        action = draw(st.sampled_from(["set", "insert", "delete"]))
        if action == "set" and frame:
            frame[at] = draw(st.integers(0, 255))
        elif action == "insert":
            frame[at:at] = draw(st.binary(min_size=1, max_size=8))
        else:
            del frame[at : at + draw(st.integers(1, 8))]
    if draw(st.booleans()) and len(frame) >= 4:
        frame[:4] = (len(frame) - 4).to_bytes(4, "big")
    return key, bytes(frame)


@given(st.binary(max_size=300))
def test_random_bytes_as_a_frame(frame: bytes) -> None:
    read_request(frame)
    for key in KEYS:
        read_response(key, frame)


@given(st.sampled_from(KEYS), st.binary(max_size=300))
def test_random_bytes_as_a_header(key: ApiKey, header: bytes) -> None:
    with contextlib.suppress(InvalidRequestError):
        assert isinstance(apis.decode_request(key, header), Message)
    with contextlib.suppress(ProtocolError):
        assert isinstance(apis.decode_response(key, header), Message)


@settings(max_examples=500)
@given(mutated(REQUESTS))
def test_mutated_requests(case: tuple[ApiKey, bytes]) -> None:
    value = read_request(case[1])
    assert value is None or apis.encode(value)


@settings(max_examples=500)
@given(mutated(RESPONSES))
def test_mutated_responses(case: tuple[ApiKey, bytes]) -> None:
    value = read_response(*case)
    assert value is None or apis.encode(value)


_STRUCTURES = {
    "empty arrays in a list of strings": b"\x81\xa7columns\xdd\x00\x10\x00\x00"
    + b"\x90" * (1 << 20),
    "empty strings in a list of strings": b"\x82\xaapartitions\x90\xa7columns\xdd\x00\x10\x00\x00"
    + b"\xa0" * (1 << 20),
    "unknown field full of empty maps": b"\x82\xaapartitions\x90\xa1x\xdd\x00\x10\x00\x00"
    + b"\x80" * (1 << 20),
    "the same key again and again": b"\xdf\x00\x02\x00\x00" + b"\xa7columns\x90" * (1 << 17),
}


@pytest.mark.parametrize("name", _STRUCTURES)
def test_a_header_costs_no_more_than_a_few_times_its_size(name: str) -> None:
    header = _STRUCTURES[name]
    tracemalloc.start()
    try:
        started = time.perf_counter()
        with contextlib.suppress(InvalidRequestError):
            apis.decode_request(ApiKey.FETCH, header)
        elapsed = time.perf_counter() - started
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20 * len(header)
    assert elapsed < 5
