"""The api table: which requests exist, in which versions, who serves them and what they may carry.

The codecs are built once, here: one typed MessagePack decoder per api and direction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec

from raykafka.errors import InvalidRequestError, ProtocolError, UnsupportedVersionError
from raykafka.protocol import (
    group_messages,
    messages,
    operations_messages,
    quorum_messages,
    replication_messages,
    share_messages,
    txn_messages,
)
from raykafka.protocol.api import CONTROLLER, EVERY_LISTENER, PARTITION, Api
from raykafka.protocol.messages import ApiKey, ApiVersionRange, ErrorResponse, Message

Encode = Callable[[Message], bytes]
Decode = Callable[[Any], Message]


_APIS: Final = (
    Api(
        ApiKey.HELLO,
        messages.HelloRequest,
        messages.HelloResponse,
        EVERY_LISTENER,
        authenticated=False,
    ),
    Api(
        ApiKey.AUTHENTICATE,
        messages.AuthenticateRequest,
        messages.AuthenticateResponse,
        EVERY_LISTENER,
        authenticated=False,
    ),
    Api(ApiKey.METADATA, messages.MetadataRequest, messages.MetadataResponse, CONTROLLER),
    Api(
        ApiKey.PRODUCE,
        messages.ProduceRequest,
        messages.ProduceResponse,
        PARTITION,
        payload=True,
    ),
    Api(
        ApiKey.FETCH,
        messages.FetchRequest,
        messages.FetchResponse,
        PARTITION,
        response_payload=True,
    ),
    Api(ApiKey.FETCH_CREDIT, messages.FetchCreditRequest, None, PARTITION),
    Api(
        ApiKey.LIST_OFFSETS,
        messages.ListOffsetsRequest,
        messages.ListOffsetsResponse,
        PARTITION,
    ),
    Api(
        ApiKey.INIT_PRODUCER_ID,
        messages.InitProducerIdRequest,
        messages.InitProducerIdResponse,
        CONTROLLER,
    ),
    Api(
        ApiKey.CREATE_TOPICS,
        messages.CreateTopicsRequest,
        messages.CreateTopicsResponse,
        CONTROLLER,
    ),
    Api(
        ApiKey.DELETE_TOPICS,
        messages.DeleteTopicsRequest,
        messages.DeleteTopicsResponse,
        CONTROLLER,
    ),
    Api(
        ApiKey.CREATE_PARTITIONS,
        messages.CreatePartitionsRequest,
        messages.CreatePartitionsResponse,
        CONTROLLER,
    ),
    Api(
        ApiKey.DESCRIBE_CONFIGS,
        messages.DescribeConfigsRequest,
        messages.DescribeConfigsResponse,
        CONTROLLER,
    ),
    Api(
        ApiKey.ALTER_CONFIGS,
        messages.AlterConfigsRequest,
        messages.AlterConfigsResponse,
        CONTROLLER,
    ),
    Api(
        ApiKey.DELETE_RECORDS,
        messages.DeleteRecordsRequest,
        messages.DeleteRecordsResponse,
        PARTITION,
    ),
    Api(
        ApiKey.DESCRIBE_CLUSTER,
        messages.DescribeClusterRequest,
        messages.DescribeClusterResponse,
        CONTROLLER,
    ),
    Api(
        ApiKey.DESCRIBE_LOG_DIRS,
        messages.DescribeLogDirsRequest,
        messages.DescribeLogDirsResponse,
        PARTITION,
    ),
    Api(ApiKey.ADD_COLUMNS, messages.AddColumnsRequest, messages.AddColumnsResponse, CONTROLLER),
)

APIS: Final[Mapping[ApiKey, Api]] = {
    api.key: api
    for api in (
        *_APIS,
        *replication_messages.APIS,
        *quorum_messages.APIS,
        *operations_messages.APIS,
        *group_messages.APIS,
        *txn_messages.APIS,
        *share_messages.APIS,
    )
}

encode: Final[Encode] = msgspec.msgpack.Encoder().encode
"""Turns any header into MessagePack; fields that have their default are left out."""

REQUEST_DECODERS: Final[Mapping[ApiKey, Decode]] = {
    key: msgspec.msgpack.Decoder(api.request).decode for key, api in APIS.items()
}
"""The bare decoders, for the hot path; what they raise is ``DECODE_ERRORS``."""
RESPONSE_DECODERS: Final[Mapping[ApiKey, Decode]] = {
    key: msgspec.msgpack.Decoder(api.response or ErrorResponse).decode for key, api in APIS.items()
}
_decode_error: Final = msgspec.msgpack.Decoder(ErrorResponse).decode


DECODE_ERRORS: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What a decoder raises on bytes that are not a header of its type; nesting bombs included."""


def decode_request(key: ApiKey, header: Any) -> Message:
    """Decode a request's header; ``InvalidRequestError`` says what is wrong with it."""
    try:
        return REQUEST_DECODERS[key](header)
    except DECODE_ERRORS as error:
        raise undecodable_request(key, error) from None


def undecodable_request(key: ApiKey, error: BaseException) -> InvalidRequestError:
    """The answer to a request whose header could not be decoded."""
    return InvalidRequestError(f"the header of {key.name} cannot be decoded: {_reason(error)}")


def decode_response(key: ApiKey, header: Any) -> Message:
    """Decode a response's header, or the ``ErrorResponse`` that came in its place.

    Raises ``ProtocolError`` when it is neither.
    """
    try:
        return RESPONSE_DECODERS[key](header)
    except DECODE_ERRORS as error:
        failed = decode_error(header)
        if failed is not None:
            return failed
        raise ProtocolError(
            f"the answer to {key.name} cannot be decoded: {_reason(error)}"
        ) from None


def decode_error(header: Any) -> ErrorResponse | None:
    """The error that a header reports, or None when it reports none."""
    try:
        response = _decode_error(header)
    except DECODE_ERRORS:
        return None
    return response if response.error_code != 0 else None


def check_version(api: Api, version: int) -> None:
    """Raise ``UnsupportedVersionError`` when ``version`` is not one that this process speaks."""
    if not api.min_version <= version <= api.max_version:
        raise UnsupportedVersionError(
            f"version {version} of {api.key.name} is not spoken here, only "
            f"{api.min_version} to {api.max_version}"
        )


def version_ranges(keys: Iterable[ApiKey]) -> list[ApiVersionRange]:
    """What a HELLO answer lists for a listener that serves ``keys``."""
    return [
        ApiVersionRange(int(key), APIS[key].min_version, APIS[key].max_version)
        for key in sorted(keys)
    ]


def _reason(error: BaseException) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return str(error)
