"""Samples of share groups' requests and responses; see ``wire_samples``."""

from __future__ import annotations

import struct
from typing import Any

from raykafka.protocol.messages import (
    ApiKey,
    ConfigChange,
    FetchedPartition,
    MappedSegment,
    Message,
)
from raykafka.protocol.share_messages import (
    AcknowledgementBatch,
    AcquiredRecords,
    AlterShareGroupConfigsRequest,
    AlterShareGroupConfigsResponse,
    AlterShareGroupOffsetsRequest,
    AlterShareGroupOffsetsResponse,
    DeleteShareGroupStateRequest,
    DeleteShareGroupStateResponse,
    DescribedShareOffset,
    DescribeShareGroupConfigsRequest,
    DescribeShareGroupConfigsResponse,
    DescribeShareGroupOffsetsRequest,
    DescribeShareGroupOffsetsResponse,
    InitializeShareGroupStateRequest,
    InitializeShareGroupStateResponse,
    InitialShareState,
    ReadShareGroupStateRequest,
    ReadShareGroupStateResponse,
    ShareAcknowledgedPartition,
    ShareAcknowledgePartition,
    ShareAcknowledgeRequest,
    ShareAcknowledgeResponse,
    ShareFetchedPartition,
    ShareFetchPartition,
    ShareFetchRequest,
    ShareFetchResponse,
    SharePartitionPlace,
    ShareStateResult,
    ShareStateToRead,
    ShareStateToWrite,
    WriteShareGroupStateRequest,
    WriteShareGroupStateResponse,
)
from raykafka.share.state import StateBatch

TOPIC_ID = "0123456789abcdef0123456789abcdef"
FAILED: dict[str, Any] = {"error_code": 7, "error_message": "timed out"}
INDEX = struct.pack("<QQ", 8, 24)
_ACKNOWLEDGED = [AcknowledgementBatch(5, 7, b"\x01\x02\x03"), AcknowledgementBatch(9, 12, b"\x04")]
_BATCHES = [StateBatch(5, 6, 0, 1), StateBatch(7, 9, 3, 5)]
_RESULT = ShareStateResult(TOPIC_ID, 1, 2, 5, _BATCHES, **FAILED)
_CONFIGS = {"share.auto.offset.reset": "earliest"}

REQUESTS: dict[ApiKey, tuple[Message, bytes]] = {
    ApiKey.SHARE_FETCH: (
        ShareFetchRequest(
            "workers",
            "m-1",
            [ShareFetchPartition(TOPIC_ID, 1, 3, 4096, _ACKNOWLEDGED)],
            250,
            8192,
            100,
            ["value"],
            "host-1",
        ),
        b"",
    ),
    ApiKey.SHARE_ACKNOWLEDGE: (
        ShareAcknowledgeRequest(
            "workers", "m-1", [ShareAcknowledgePartition(TOPIC_ID, 1, _ACKNOWLEDGED)], True
        ),
        b"",
    ),
    ApiKey.INITIALIZE_SHARE_GROUP_STATE: (
        InitializeShareGroupStateRequest("workers", 4, [InitialShareState(TOPIC_ID, 1, 5)]),
        b"",
    ),
    ApiKey.READ_SHARE_GROUP_STATE: (
        ReadShareGroupStateRequest("workers", 4, [ShareStateToRead(TOPIC_ID, 1, 3)]),
        b"",
    ),
    ApiKey.WRITE_SHARE_GROUP_STATE: (
        WriteShareGroupStateRequest(
            "workers", 4, [ShareStateToWrite(TOPIC_ID, 1, 2, 3, 5, _BATCHES)], 6
        ),
        b"",
    ),
    ApiKey.DELETE_SHARE_GROUP_STATE: (
        DeleteShareGroupStateRequest("workers", 4, [SharePartitionPlace(TOPIC_ID, 1)]),
        b"",
    ),
    ApiKey.DESCRIBE_SHARE_GROUP_OFFSETS: (DescribeShareGroupOffsetsRequest("workers", 4), b""),
    ApiKey.ALTER_SHARE_GROUP_OFFSETS: (
        AlterShareGroupOffsetsRequest("workers", 4, [InitialShareState(TOPIC_ID, 1, 5)]),
        b"",
    ),
    ApiKey.DESCRIBE_SHARE_GROUP_CONFIGS: (DescribeShareGroupConfigsRequest("workers", 4), b""),
    ApiKey.ALTER_SHARE_GROUP_CONFIGS: (
        AlterShareGroupConfigsRequest(
            "workers", 4, [ConfigChange("share.auto.offset.reset", "earliest", "delete")]
        ),
        b"",
    ),
}

RESPONSES: dict[ApiKey, tuple[Message, bytes]] = {
    ApiKey.SHARE_FETCH: (
        ShareFetchResponse(
            [
                ShareFetchedPartition(
                    TOPIC_ID,
                    1,
                    FetchedPartition(
                        TOPIC_ID, 1, 20, 2, 18, [], MappedSegment("/d/s.arrow", 7, 99), 1, 11
                    ),
                    [AcquiredRecords(5, 7, 2), AcquiredRecords(9, 10, 1)],
                    121,
                    "its lease has ended",
                    **FAILED,
                )
            ],
            30_000,
            **FAILED,
        ),
        INDEX,
    ),
    ApiKey.SHARE_ACKNOWLEDGE: (
        ShareAcknowledgeResponse(
            [ShareAcknowledgedPartition(TOPIC_ID, 1, **FAILED)], 30_000, **FAILED
        ),
        b"",
    ),
    ApiKey.INITIALIZE_SHARE_GROUP_STATE: (
        InitializeShareGroupStateResponse([_RESULT], 6, _CONFIGS, **FAILED),
        b"",
    ),
    ApiKey.READ_SHARE_GROUP_STATE: (
        ReadShareGroupStateResponse([_RESULT], 6, _CONFIGS, **FAILED),
        b"",
    ),
    ApiKey.WRITE_SHARE_GROUP_STATE: (
        WriteShareGroupStateResponse([_RESULT], 6, _CONFIGS, **FAILED),
        b"",
    ),
    ApiKey.DELETE_SHARE_GROUP_STATE: (DeleteShareGroupStateResponse([_RESULT], **FAILED), b""),
    ApiKey.DESCRIBE_SHARE_GROUP_OFFSETS: (
        DescribeShareGroupOffsetsResponse(
            [DescribedShareOffset(TOPIC_ID, 1, 5, 2, 3, 40)], **FAILED
        ),
        b"",
    ),
    ApiKey.ALTER_SHARE_GROUP_OFFSETS: (AlterShareGroupOffsetsResponse([_RESULT], **FAILED), b""),
    ApiKey.DESCRIBE_SHARE_GROUP_CONFIGS: (
        DescribeShareGroupConfigsResponse(6, _CONFIGS, **FAILED),
        b"",
    ),
    ApiKey.ALTER_SHARE_GROUP_CONFIGS: (
        AlterShareGroupConfigsResponse(6, _CONFIGS, **FAILED),
        b"",
    ),
}
