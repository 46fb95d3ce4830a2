"""The bytes on the wire are a promise: these frames were written once and must stay readable.

A change of a file under ``golden/`` breaks every peer of another version. A new field with a
default changes the samples, so its frame is added beside the old one, which still has to decode.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import wire_samples

from raykafka.protocol import apis
from raykafka.protocol.framing import split_request, split_response
from raykafka.protocol.messages import ApiKey

GOLDEN = Path(__file__).parent / "golden"
KEYS = list(ApiKey)


def golden(name: str) -> bytes:
    """The bytes of a golden frame: hexadecimal digits, spaces and line breaks."""
    return bytes.fromhex((GOLDEN / f"{name}.hex").read_text())


def test_every_api_has_golden_frames_and_every_golden_frame_an_api() -> None:
    expected = {
        f"{key.name.lower()}_{kind}.hex" for key in KEYS for kind in ("request", "response")
    }
    assert {path.name for path in GOLDEN.iterdir()} == expected


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.name)
def test_requests_are_written_and_read_as_ever(key: ApiKey) -> None:
    frame = golden(f"{key.name.lower()}_request")
    assert wire_samples.request_frame(key) == frame
    split = split_request(frame)
    message, payload = wire_samples.REQUESTS[key]
    assert (split.api_key, split.api_version) == (key, 0)
    assert split.correlation_id == wire_samples.CORRELATION_ID
    assert apis.decode_request(key, split.header) == message
    assert split.payload == payload


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.name)
def test_responses_are_written_and_read_as_ever(key: ApiKey) -> None:
    frame = golden(f"{key.name.lower()}_response")
    assert wire_samples.response_frame(key) == frame
    split = split_response(frame)
    message, payload = wire_samples.RESPONSES[key]
    assert split.correlation_id == wire_samples.CORRELATION_ID
    assert apis.decode_response(key, split.header) == message
    assert split.payload == payload


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.name)
def test_samples_show_every_field(key: ApiKey) -> None:
    """A field at its default is left out of the frame, and then the frame proves nothing of it."""
    for message, _ in (wire_samples.REQUESTS[key], wire_samples.RESPONSES[key]):
        for name, default in zip(
            message.__struct_fields__[::-1], message.__struct_defaults__[::-1], strict=False
        ):
            assert getattr(message, name) != default, name
