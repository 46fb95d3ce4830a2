"""Samples of the requests and responses of groups and their offsets; see ``wire_samples``."""

from __future__ import annotations

from typing import Any

from raykafka.protocol.group_messages import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
    DeleteGroupsRequest,
    DeleteGroupsResponse,
    DescribedGroup,
    DescribeGroupsRequest,
    DescribeGroupsResponse,
    FetchedOffset,
    FindCoordinatorRequest,
    FindCoordinatorResponse,
    GroupListing,
    GroupMember,
    GroupOutcome,
    ListGroupsRequest,
    ListGroupsResponse,
    MemberOutcome,
    OffsetCommitRequest,
    OffsetCommitResponse,
    OffsetDeleteRequest,
    OffsetDeleteResponse,
    OffsetFetchRequest,
    OffsetFetchResponse,
    OffsetToCommit,
    PartitionOutcome,
    RemoveMembersRequest,
    RemoveMembersResponse,
    TopicPartitions,
    TxnOffsetCommitRequest,
    TxnOffsetCommitResponse,
)
from raykafka.protocol.messages import ApiKey, Message

TOPIC_ID = "0123456789abcdef0123456789abcdef"
FAILED: dict[str, Any] = {"error_code": 7, "error_message": "timed out"}
_PARTITIONS = [TopicPartitions("flights", TOPIC_ID, [0, 3])]
_OFFSETS = [OffsetToCommit("flights", TOPIC_ID, 3, 1000, 5, "row 17")]
_OUTCOMES = [PartitionOutcome("flights", 3, 12, "metadata too large")]
_AS_MEMBER: dict[str, Any] = {"member_id": "m-1", "member_epoch": 4, "instance_id": "node-a"}

REQUESTS: dict[ApiKey, tuple[Message, bytes]] = {
    ApiKey.FIND_COORDINATOR: (FindCoordinatorRequest("__consumer_offsets"), b""),
    ApiKey.CONSUMER_GROUP_HEARTBEAT: (
        ConsumerGroupHeartbeatRequest(
            "readers",
            5,
            "m-1",
            4,
            "node-a",
            "app",
            "10.0.0.7",
            "rack-2",
            300_000,
            ["flights"],
            "fl.*",
            "uniform",
            _PARTITIONS,
            True,
            5000,
        ),
        b"",
    ),
    ApiKey.OFFSET_COMMIT: (OffsetCommitRequest("readers", 5, _OFFSETS, **_AS_MEMBER), b""),
    ApiKey.OFFSET_FETCH: (
        OffsetFetchRequest("readers", 5, _PARTITIONS, "m-1", 4, require_stable=True),
        b"",
    ),
    ApiKey.OFFSET_DELETE: (OffsetDeleteRequest("readers", 5, _PARTITIONS), b""),
    ApiKey.TXN_OFFSET_COMMIT: (
        TxnOffsetCommitRequest("readers", 5, "orders-1", 7, 4, _OFFSETS, **_AS_MEMBER),
        b"",
    ),
    ApiKey.LIST_GROUPS: (ListGroupsRequest(5, ["Stable"], ["share"]), b""),
    ApiKey.DESCRIBE_GROUPS: (DescribeGroupsRequest(5, ["readers", "b"]), b""),
    ApiKey.DELETE_GROUPS: (DeleteGroupsRequest(5, ["readers", "b"]), b""),
    ApiKey.REMOVE_MEMBERS: (RemoveMembersRequest("readers", 5, ["m-1"], ["node-a"]), b""),
}

RESPONSES: dict[ApiKey, tuple[Message, bytes]] = {
    ApiKey.FIND_COORDINATOR: (
        FindCoordinatorResponse("__consumer_offsets", TOPIC_ID, 8, **FAILED),
        b"",
    ),
    ApiKey.CONSUMER_GROUP_HEARTBEAT: (
        ConsumerGroupHeartbeatResponse("m-1", 5, 5000, _PARTITIONS, **FAILED),
        b"",
    ),
    ApiKey.OFFSET_COMMIT: (OffsetCommitResponse(_OUTCOMES, **FAILED), b""),
    ApiKey.OFFSET_FETCH: (
        OffsetFetchResponse(
            [FetchedOffset("flights", 3, TOPIC_ID, 1000, 5, "row 17", 1_700_000_000_000, **FAILED)],
            **FAILED,
        ),
        b"",
    ),
    ApiKey.OFFSET_DELETE: (OffsetDeleteResponse(_OUTCOMES, **FAILED), b""),
    ApiKey.TXN_OFFSET_COMMIT: (TxnOffsetCommitResponse(_OUTCOMES, **FAILED), b""),
    ApiKey.LIST_GROUPS: (
        ListGroupsResponse([GroupListing("readers", "consumer", "Stable", 2)], **FAILED),
        b"",
    ),
    ApiKey.DESCRIBE_GROUPS: (
        DescribeGroupsResponse(
            [
                DescribedGroup(
                    "readers",
                    "consumer",
                    "Reconciling",
                    9,
                    8,
                    "uniform",
                    [
                        GroupMember(
                            "m-1",
                            8,
                            "node-a",
                            "app",
                            "10.0.0.7",
                            "rack-2",
                            ["flights"],
                            "fl.*",
                            _PARTITIONS,
                            [TopicPartitions("flights", TOPIC_ID, [0])],
                        )
                    ],
                    **FAILED,
                )
            ],
            **FAILED,
        ),
        b"",
    ),
    ApiKey.DELETE_GROUPS: (
        DeleteGroupsResponse([GroupOutcome("readers", 68, "has members")], **FAILED),
        b"",
    ),
    ApiKey.REMOVE_MEMBERS: (
        RemoveMembersResponse([MemberOutcome("m-1", "node-a", 25, "unknown")], **FAILED),
        b"",
    ),
}
