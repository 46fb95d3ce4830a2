"""The api table is complete, and its codecs answer bad bytes with typed errors."""

from __future__ import annotations

import re

import msgspec
import pytest

from raykafka.errors import InvalidRequestError, ProtocolError, UnsupportedVersionError
from raykafka.protocol import (
    apis,
    group_messages,
    messages,
    operations_messages,
    quorum_messages,
    replication_messages,
    share_messages,
    txn_messages,
)
from raykafka.protocol.messages import (
    ApiKey,
    ErrorResponse,
    FetchRequest,
    HelloResponse,
    Message,
    MetadataResponse,
    ProduceRequest,
    ProduceResponse,
)


def test_every_api_key_has_a_row_and_types_of_its_name() -> None:
    assert set(apis.APIS) == set(ApiKey)
    for key, api in apis.APIS.items():
        name = "".join(word.capitalize() for word in key.name.split("_"))
        assert api.key is key
        assert api.request.__name__ == f"{name}Request"
        assert api.response is None or api.response.__name__ == f"{name}Response"
        assert 0 <= api.min_version <= api.max_version < 2**15


def test_every_request_and_response_type_is_in_the_table() -> None:
    in_table = {api.request for api in apis.APIS.values()}
    in_table |= {api.response for api in apis.APIS.values() if api.response}
    defined = {
        value
        for module in (
            group_messages,
            messages,
            operations_messages,
            quorum_messages,
            replication_messages,
            share_messages,
            txn_messages,
        )
        for name, value in vars(module).items()
        if re.search("(Request|Response)$", name) and issubclass(value, Message)
    }
    assert defined - {ErrorResponse} == in_table


def test_only_the_handshake_goes_without_authentication() -> None:
    open_to_all = {key for key, api in apis.APIS.items() if not api.authenticated}
    assert open_to_all == {ApiKey.HELLO, ApiKey.AUTHENTICATE}


def test_every_response_can_report_an_error() -> None:
    for api in apis.APIS.values():
        response = api.response or ErrorResponse
        assert {"error_code", "error_message"} <= set(response.__struct_fields__)


def test_unknown_fields_are_skipped() -> None:
    header = msgspec.msgpack.encode(
        {"topic_id": "t", "partition": 1, "leader_epoch": 2, "from_the_future": [{"a": [1]}]}
    )
    assert apis.decode_request(ApiKey.PRODUCE, header) == ProduceRequest("t", 1, 2)


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"\xc1",
        b"\x93\x01\x02\x03",
        msgspec.msgpack.encode({"topic_id": "t"}),
        msgspec.msgpack.encode({"topic_id": 5, "partition": 1, "leader_epoch": 2}),
        msgspec.msgpack.encode({"topic_id": "t", "partition": "1", "leader_epoch": 2}),
        b"\x83\xa8topic_id\xa2\xff\xfe",
    ],
)
def test_bad_request_headers_are_refused_by_name(header: bytes) -> None:
    with pytest.raises(InvalidRequestError, match="PRODUCE"):
        apis.decode_request(ApiKey.PRODUCE, header)


@pytest.mark.parametrize("unit", [b"\x91", b"\x81\xa1a"])
def test_nesting_bombs(unit: bytes) -> None:
    header = b"\x81\xa1x" + unit * 200_000
    with pytest.raises(InvalidRequestError, match="nested too deeply"):
        apis.decode_request(ApiKey.PRODUCE, header)
    with pytest.raises(ProtocolError, match="nested too deeply"):
        apis.decode_response(ApiKey.PRODUCE, header)


@pytest.mark.parametrize(
    "bomb",
    [
        b"\x81\xaapartitions\xdd\xff\xff\xff\xff",
        b"\x81\xa7columns\xdd\xff\xff\xff\xff",
        b"\x81\xa7host_id\xdb\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\x81\xa1x\xdf\xff\xff\xff\xff",
    ],
)
def test_announced_counts_cost_nothing(bomb: bytes) -> None:
    with pytest.raises(InvalidRequestError, match="truncated"):
        apis.decode_request(ApiKey.FETCH, bomb)


def test_error_in_place_of_a_response_with_required_fields() -> None:
    header = apis.encode(ErrorResponse(35, "no such version"))
    for key in (ApiKey.HELLO, ApiKey.METADATA):
        assert apis.decode_response(key, header) == ErrorResponse(35, "no such version")
    assert apis.decode_response(ApiKey.PRODUCE, header) == ProduceResponse(
        error_code=35, error_message="no such version"
    )


def test_what_is_neither_response_nor_error() -> None:
    for header in (b"", b"\x80", b"\xc1"):
        with pytest.raises(ProtocolError, match="METADATA"):
            apis.decode_response(ApiKey.METADATA, header)
    assert apis.decode_error(b"\x80") is None
    assert apis.decode_error(b"\xc1") is None


def test_versions() -> None:
    api = apis.APIS[ApiKey.FETCH]
    apis.check_version(api, 0)
    for version in (-1, 1, 32767):
        with pytest.raises(UnsupportedVersionError, match=f"version {version} of FETCH"):
            apis.check_version(api, version)


def test_version_ranges_are_sorted() -> None:
    ranges = apis.version_ranges([ApiKey.PRODUCE, ApiKey.HELLO])
    assert [each.api_key for each in ranges] == [20000, 20003]


def test_defaults_are_left_out() -> None:
    assert apis.encode(ProduceResponse()) == b"\x80"
    assert msgspec.msgpack.decode(apis.encode(FetchRequest([], push=True))) == {
        "partitions": [],
        "push": True,
    }


def test_the_hello_answer_and_metadata_name_what_they_need() -> None:
    """Fields without a default are the part of a message that can never be left out."""
    assert HelloResponse.__struct_config__.omit_defaults
    required = len(MetadataResponse.__struct_fields__) - len(MetadataResponse.__struct_defaults__)
    assert MetadataResponse.__struct_fields__[:required] == (
        "cluster_id",
        "cluster_name",
        "metadata_offset",
        "brokers",
        "topics",
    )
