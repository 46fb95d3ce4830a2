"""One request and one response of every api with fixed values: the golden frames are made of them.

Every field differs from its default, so that a frame shows it.
"""

from __future__ import annotations

import struct

import wire_samples_groups
import wire_samples_share
import wire_samples_transactions

from raykafka.protocol import apis
from raykafka.protocol.framing import request_head, response_head
from raykafka.protocol.messages import (
    ActorInfo,
    AddColumnsRequest,
    AddColumnsResponse,
    AlterConfigsRequest,
    AlterConfigsResponse,
    AlteredResource,
    ApiKey,
    ApiVersionRange,
    AuthenticateRequest,
    AuthenticateResponse,
    BrokerInfo,
    ConfigChange,
    ConfigEntry,
    ConfigResource,
    CreatePartitionsRequest,
    CreatePartitionsResponse,
    CreateTopicsRequest,
    CreateTopicsResponse,
    DeletedRecords,
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsResponse,
    DeleteTopicsRequest,
    DeleteTopicsResponse,
    DescribeClusterRequest,
    DescribeClusterResponse,
    DescribeConfigsRequest,
    DescribeConfigsResponse,
    DescribedConfigs,
    DescribeLogDirsRequest,
    DescribeLogDirsResponse,
    ErrorResponse,
    FetchCreditRequest,
    FetchedPartition,
    FetchPartition,
    FetchRequest,
    FetchResponse,
    HelloRequest,
    HelloResponse,
    InitProducerIdRequest,
    InitProducerIdResponse,
    ListedOffset,
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsResponse,
    LogDirPartition,
    MappedSegment,
    Message,
    MetadataRequest,
    MetadataResponse,
    NewPartitions,
    NewTopic,
    PartitionInfo,
    ProduceRequest,
    ProduceResponse,
    TopicInfo,
    TopicResult,
)
from raykafka.protocol.operations_messages import (
    AlterPartitionReassignmentsRequest,
    AlterPartitionReassignmentsResponse,
    BrokerDescription,
    DescribeBrokersRequest,
    DescribeBrokersResponse,
    DrainBrokerRequest,
    DrainBrokerResponse,
    ElectLeadersRequest,
    ElectLeadersResponse,
    ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsResponse,
    OngoingReassignment,
    PartitionName,
    PartitionReassignment,
    PartitionResult,
    RestartBrokerRequest,
    RestartBrokerResponse,
    UnregisterBrokerRequest,
    UnregisterBrokerResponse,
)
from raykafka.protocol.quorum_messages import (
    DescribeQuorumRequest,
    DescribeQuorumResponse,
    EndQuorumEpochRequest,
    FetchSnapshotRequest,
    FetchSnapshotResponse,
    QuorumAppendRequest,
    QuorumAppendResponse,
    QuorumReplicaInfo,
    QuorumVoteRequest,
    QuorumVoteResponse,
)
from raykafka.protocol.replication_messages import (
    ActorHeartbeatRequest,
    ActorHeartbeatResponse,
    AlteredPartition,
    AlteredPartitionResult,
    AlterPartitionsRequest,
    AlterPartitionsResponse,
    CatchUpRequest,
    CatchUpResponse,
    ControllerEndpoint,
    FailedReplicaInfo,
    FailReplicasRequest,
    FailReplicasResponse,
    IsrMemberInfo,
    ReplicaPositionRequest,
    ReplicateRequest,
    ReplicateResponse,
)
from raykafka.quorum.messages import EpochRun, OffsetAndEpoch
from raykafka.quorum.voters import ReplicaKey, Voter, VotersAt, VoterSet

VOTER, PEER = ReplicaKey(0, "d0"), ReplicaKey(1, "d1")
TOPIC_ID = "0123456789abcdef0123456789abcdef"
FAILED = {"error_code": 7, "error_message": "timed out"}
BATCH = bytes(range(24))
INDEX = struct.pack("<QQ", 8, 24)
_TOPIC = ConfigResource("topic", "flights")

REQUESTS: dict[ApiKey, tuple[Message, bytes]] = {
    ApiKey.HELLO: (HelloRequest("app", "raykafka-python"), b""),
    ApiKey.AUTHENTICATE: (AuthenticateRequest(b"\x01" * 32, b"\x02" * 32, "broker"), b""),
    ApiKey.METADATA: (MetadataRequest(["flights"], 41), b""),
    ApiKey.PRODUCE: (
        ProduceRequest(TOPIC_ID, 1, 5, acks=1, timeout_ms=1500, transactional_id="orders-1"),
        BATCH,
    ),
    ApiKey.FETCH: (
        FetchRequest(
            [FetchPartition(TOPIC_ID, 1, 1000, 5, 65536, True)],
            min_bytes=100,
            max_wait_ms=250,
            max_bytes=1 << 20,
            isolation=1,
            columns=["delay", "carrier"],
            host_id="boot/mnt",
            push=True,
            credit_bytes=1 << 22,
            follower_reads=True,
        ),
        b"",
    ),
    ApiKey.FETCH_CREDIT: (FetchCreditRequest(9, 65536, True), b""),
    ApiKey.LIST_OFFSETS: (
        ListOffsetsRequest([ListOffsetsPartition(TOPIC_ID, 1, -3, 5)], isolation=1),
        b"",
    ),
    ApiKey.INIT_PRODUCER_ID: (InitProducerIdRequest(4000, 2), b""),
    ApiKey.CREATE_TOPICS: (
        CreateTopicsRequest(
            [NewTopic("flights", 4, 1, {"retention.ms": "1000"}, b"\x03\x04")], validate_only=True
        ),
        b"",
    ),
    ApiKey.DELETE_TOPICS: (DeleteTopicsRequest(["flights"]), b""),
    ApiKey.CREATE_PARTITIONS: (
        CreatePartitionsRequest([NewPartitions("flights", 8)], validate_only=True),
        b"",
    ),
    ApiKey.DESCRIBE_CONFIGS: (DescribeConfigsRequest([_TOPIC]), b""),
    ApiKey.ALTER_CONFIGS: (
        AlterConfigsRequest(
            [
                AlteredResource(
                    _TOPIC,
                    [ConfigChange("retention.ms", "5"), ConfigChange("fsync", op="delete")],
                    **FAILED,
                )
            ],
            validate_only=True,
        ),
        b"",
    ),
    ApiKey.DELETE_RECORDS: (
        DeleteRecordsRequest([DeleteRecordsPartition(TOPIC_ID, 1, 500, 5)]),
        b"",
    ),
    ApiKey.DESCRIBE_CLUSTER: (DescribeClusterRequest(), b""),
    ApiKey.DESCRIBE_LOG_DIRS: (DescribeLogDirsRequest(), b""),
    ApiKey.ADD_COLUMNS: (AddColumnsRequest("flights", b"\x03\x04"), b""),
    ApiKey.REPLICATE: (ReplicateRequest("t-1", 3, 7, 2, 5, 1000, 6, 1 << 20), b""),
    ApiKey.REPLICA_POSITION: (ReplicaPositionRequest(41, 1200, 9000, True), b""),
    ApiKey.ACTOR_HEARTBEAT: (ActorHeartbeatRequest(2, 1, 5), b""),
    ApiKey.ALTER_PARTITIONS: (
        AlterPartitionsRequest(
            2, 1, 5, [AlteredPartition("t-1", 3, 7, 12, [IsrMemberInfo(2, 5), IsrMemberInfo(1, 9)])]
        ),
        b"",
    ),
    ApiKey.QUORUM_VOTE: (
        QuorumVoteRequest(4, VOTER, PEER, OffsetAndEpoch(90, 3), True, "10.0.0.1", 9000),
        b"",
    ),
    ApiKey.QUORUM_APPEND: (
        QuorumAppendRequest(
            4,
            VOTER,
            PEER,
            OffsetAndEpoch(90, 3),
            (EpochRun(3, 90), EpochRun(4, 92)),
            95,
            91,
            17,
            (VotersAt(92, VoterSet((Voter(0, "d0", "10.0.0.1", 9000),))),),
            OffsetAndEpoch(80, 2),
            "10.0.0.1",
            9000,
        ),
        b"\x09\x0a",
    ),
    ApiKey.END_QUORUM_EPOCH: (EndQuorumEpochRequest(4, VOTER, (PEER,)), b""),
    ApiKey.FETCH_SNAPSHOT: (FetchSnapshotRequest(OffsetAndEpoch(80, 2), 4096, 1 << 16), b""),
    ApiKey.DESCRIBE_QUORUM: (DescribeQuorumRequest(), b""),
    ApiKey.CATCH_UP: (CatchUpRequest("t-1", 3, 7, 2, 5, 1000, 1 << 20), b""),
    ApiKey.FAIL_REPLICAS: (FailReplicasRequest(2, 1, 5, [FailedReplicaInfo("t-1", 3)]), b""),
    ApiKey.ALTER_PARTITION_REASSIGNMENTS: (
        AlterPartitionReassignmentsRequest([PartitionReassignment("flights", 1, [3, 1, 2])]),
        b"",
    ),
    ApiKey.LIST_PARTITION_REASSIGNMENTS: (
        ListPartitionReassignmentsRequest([PartitionName("flights", 1)]),
        b"",
    ),
    ApiKey.ELECT_LEADERS: (ElectLeadersRequest(True, [PartitionName("flights", 1)]), b""),
    ApiKey.DESCRIBE_BROKERS: (DescribeBrokersRequest(), b""),
    ApiKey.DRAIN_BROKER: (DrainBrokerRequest(2, False), b""),
    ApiKey.RESTART_BROKER: (RestartBrokerRequest(2, True), b""),
    ApiKey.UNREGISTER_BROKER: (UnregisterBrokerRequest(2), b""),
    **wire_samples_groups.REQUESTS,
    **wire_samples_share.REQUESTS,
    **wire_samples_transactions.REQUESTS,
}

RESPONSES: dict[ApiKey, tuple[Message, bytes]] = {
    ApiKey.HELLO: (
        HelloResponse(
            "c-1",
            "default/partitions-0-1",
            3,
            b"\x05" * 32,
            [ApiVersionRange(20000, 0, 0), ApiVersionRange(20001, 0, 0)],
            1 << 20,
            **FAILED,
        ),
        b"",
    ),
    ApiKey.AUTHENTICATE: (AuthenticateResponse(b"\x06" * 32, **FAILED), b""),
    ApiKey.METADATA: (
        MetadataResponse(
            "c-1",
            "default",
            77,
            [BrokerInfo(0, "10.0.0.1", "rack-a", False)],
            [
                TopicInfo(
                    "flights",
                    TOPIC_ID,
                    [PartitionInfo(0, 1, 5, "10.0.0.1", 4000, [1, 2], [1], 9, "why")],
                    [b"\x03\x04"],
                    "tailnum",
                    "lz4",
                    1 << 20,
                    1,
                    **FAILED,
                )
            ],
            **FAILED,
        ),
        b"",
    ),
    ApiKey.PRODUCE: (ProduceResponse(1000, 1_700_000_000_000, 10, True, **FAILED), b""),
    ApiKey.FETCH: (
        FetchResponse(
            [
                FetchedPartition(TOPIC_ID, 0, 1100, 10, 1090, [24], next_offset=1087, **FAILED),
                FetchedPartition(
                    TOPIC_ID, 1, mapped=MappedSegment("/data/0.arrow", 2, 3), mapped_count=1
                ),
            ],
            **FAILED,
        ),
        BATCH + INDEX,
    ),
    ApiKey.FETCH_CREDIT: (ErrorResponse(**FAILED), b""),
    ApiKey.LIST_OFFSETS: (
        ListOffsetsResponse([ListedOffset(TOPIC_ID, 1, 999, 123456, 5, **FAILED)], **FAILED),
        b"",
    ),
    ApiKey.INIT_PRODUCER_ID: (InitProducerIdResponse(4001, 0, **FAILED), b""),
    ApiKey.CREATE_TOPICS: (
        CreateTopicsResponse([TopicResult("flights", TOPIC_ID, 4, **FAILED)], **FAILED),
        b"",
    ),
    ApiKey.DELETE_TOPICS: (
        DeleteTopicsResponse([TopicResult("flights", TOPIC_ID, 4, **FAILED)], **FAILED),
        b"",
    ),
    ApiKey.CREATE_PARTITIONS: (
        CreatePartitionsResponse([TopicResult("flights", TOPIC_ID, 8, **FAILED)], **FAILED),
        b"",
    ),
    ApiKey.DESCRIBE_CONFIGS: (
        DescribeConfigsResponse(
            [
                DescribedConfigs(
                    _TOPIC,
                    [ConfigEntry("retention.ms", "1000", "topic", True, "How long.")],
                    **FAILED,
                )
            ],
            **FAILED,
        ),
        b"",
    ),
    ApiKey.ALTER_CONFIGS: (
        AlterConfigsResponse([AlteredResource(_TOPIC, [], **FAILED)], **FAILED),
        b"",
    ),
    ApiKey.DELETE_RECORDS: (
        DeleteRecordsResponse([DeletedRecords(TOPIC_ID, 1, 500, **FAILED)], **FAILED),
        b"",
    ),
    ApiKey.DESCRIBE_CLUSTER: (
        DescribeClusterResponse(
            "c-1",
            "default",
            2,
            [BrokerInfo(0, "10.0.0.1", "rack-a")],
            [
                ActorInfo(
                    "default/controller", "controller", -1, 1, "alive", 42, "10.0.0.1", 4000, 4
                )
            ],
            3,
            12,
            1,
            2,
            1,
            4,
            **FAILED,
        ),
        b"",
    ),
    ApiKey.DESCRIBE_LOG_DIRS: (
        DescribeLogDirsResponse(
            "/data",
            1 << 40,
            1 << 39,
            False,
            [LogDirPartition("flights", 1, 2048, 2, 10, 1100, [(500, 510)])],
            2,
            **FAILED,
        ),
        b"",
    ),
    ApiKey.ADD_COLUMNS: (AddColumnsResponse(1, **FAILED), b""),
    ApiKey.REPLICATE: (
        ReplicateResponse(1100, 10, [1, 1], 6, 900, 77, True, **FAILED),
        b"\x07\x08",
    ),
    ApiKey.REPLICA_POSITION: (ErrorResponse(**FAILED), b""),
    ApiKey.QUORUM_VOTE: (QuorumVoteResponse(4, True, True, 950, **FAILED), b""),
    ApiKey.QUORUM_APPEND: (
        QuorumAppendResponse(4, PEER, 17, True, 95, OffsetAndEpoch(60, 2), **FAILED),
        b"",
    ),
    ApiKey.END_QUORUM_EPOCH: (ErrorResponse(**FAILED), b""),
    ApiKey.FETCH_SNAPSHOT: (FetchSnapshotResponse(9000, **FAILED), b"\x0b"),
    ApiKey.DESCRIBE_QUORUM: (
        DescribeQuorumResponse(
            1,
            0,
            4,
            91,
            80,
            [QuorumReplicaInfo(1, "d1", "10.0.0.2", 9001, False, 90, 5, 12)],
            **FAILED,
        ),
        b"",
    ),
    ApiKey.ACTOR_HEARTBEAT: (
        ActorHeartbeatResponse(2000, True, [ControllerEndpoint("10.0.0.1", 9000)], **FAILED),
        b"",
    ),
    ApiKey.ALTER_PARTITIONS: (
        AlterPartitionsResponse(
            [AlteredPartitionResult("t-1", 3, 7, 13, [2, 1], **FAILED)], **FAILED
        ),
        b"",
    ),
    ApiKey.CATCH_UP: (CatchUpResponse(1100, 10, 1002, [1, 1], 5, **FAILED), b"\x07\x08"),
    ApiKey.FAIL_REPLICAS: (FailReplicasResponse(**FAILED), b""),
    ApiKey.ALTER_PARTITION_REASSIGNMENTS: (
        AlterPartitionReassignmentsResponse([PartitionResult("flights", 1, **FAILED)], **FAILED),
        b"",
    ),
    ApiKey.LIST_PARTITION_REASSIGNMENTS: (
        ListPartitionReassignmentsResponse(
            [OngoingReassignment("flights", 1, [3, 1, 2], [3], [2], [1, 2])], **FAILED
        ),
        b"",
    ),
    ApiKey.ELECT_LEADERS: (
        ElectLeadersResponse([PartitionResult("flights", 1, **FAILED)], **FAILED),
        b"",
    ),
    ApiKey.DESCRIBE_BROKERS: (
        DescribeBrokersResponse(
            [
                BrokerDescription(
                    2, "10.0.0.1", "rack-a", "n-2", "draining", 3, 4, 2, 90, 30, 31, 1, 1 << 39
                )
            ],
            **FAILED,
        ),
        b"",
    ),
    ApiKey.DRAIN_BROKER: (DrainBrokerResponse(**FAILED), b""),
    ApiKey.RESTART_BROKER: (RestartBrokerResponse(**FAILED), b""),
    ApiKey.UNREGISTER_BROKER: (UnregisterBrokerResponse(**FAILED), b""),
    **wire_samples_groups.RESPONSES,
    **wire_samples_share.RESPONSES,
    **wire_samples_transactions.RESPONSES,
}

CORRELATION_ID = 41


def request_frame(key: ApiKey) -> bytes:
    """The whole frame of the sample request."""
    message, payload = REQUESTS[key]
    header = apis.encode(message)
    return request_head(key, 0, CORRELATION_ID, header, len(payload)) + payload


def response_frame(key: ApiKey) -> bytes:
    """The whole frame of the sample response."""
    message, payload = RESPONSES[key]
    header = apis.encode(message)
    return response_head(CORRELATION_ID, header, len(payload)) + payload
