from __future__ import annotations

import copy
import pickle

import pytest

from raykafka import errors
from raykafka.errors import (
    ERRORS_BY_CODE,
    ClientError,
    DiskFullError,
    KafkaStorageError,
    LogDamagedError,
    NotLeaderOrFollowerError,
    OffsetOutOfRangeError,
    RaykafkaError,
    UnknownServerError,
    error_for,
    raise_for,
)

# The constants of org.apache.kafka.common.protocol.Errors in Kafka 4.1, in order of their codes.
KAFKA_CONSTANTS = [
    "OFFSET_OUT_OF_RANGE",
    "CORRUPT_MESSAGE",
    "UNKNOWN_TOPIC_OR_PARTITION",
    "INVALID_FETCH_SIZE",
    "LEADER_NOT_AVAILABLE",
    "NOT_LEADER_OR_FOLLOWER",
    "REQUEST_TIMED_OUT",
    "BROKER_NOT_AVAILABLE",
    "REPLICA_NOT_AVAILABLE",
    "MESSAGE_TOO_LARGE",
    "STALE_CONTROLLER_EPOCH",
    "OFFSET_METADATA_TOO_LARGE",
    "NETWORK_EXCEPTION",
    "COORDINATOR_LOAD_IN_PROGRESS",
    "COORDINATOR_NOT_AVAILABLE",
    "NOT_COORDINATOR",
    "INVALID_TOPIC_EXCEPTION",
    "RECORD_LIST_TOO_LARGE",
    "NOT_ENOUGH_REPLICAS",
    "NOT_ENOUGH_REPLICAS_AFTER_APPEND",
    "INVALID_REQUIRED_ACKS",
    "ILLEGAL_GENERATION",
    "INCONSISTENT_GROUP_PROTOCOL",
    "INVALID_GROUP_ID",
    "UNKNOWN_MEMBER_ID",
    "INVALID_SESSION_TIMEOUT",
    "REBALANCE_IN_PROGRESS",
    "INVALID_COMMIT_OFFSET_SIZE",
    "TOPIC_AUTHORIZATION_FAILED",
    "GROUP_AUTHORIZATION_FAILED",
    "CLUSTER_AUTHORIZATION_FAILED",
    "INVALID_TIMESTAMP",
    "UNSUPPORTED_SASL_MECHANISM",
    "ILLEGAL_SASL_STATE",
    "UNSUPPORTED_VERSION",
    "TOPIC_ALREADY_EXISTS",
    "INVALID_PARTITIONS",
    "INVALID_REPLICATION_FACTOR",
    "INVALID_REPLICA_ASSIGNMENT",
    "INVALID_CONFIG",
    "NOT_CONTROLLER",
    "INVALID_REQUEST",
    "UNSUPPORTED_FOR_MESSAGE_FORMAT",
    "POLICY_VIOLATION",
    "OUT_OF_ORDER_SEQUENCE_NUMBER",
    "DUPLICATE_SEQUENCE_NUMBER",
    "INVALID_PRODUCER_EPOCH",
    "INVALID_TXN_STATE",
    "INVALID_PRODUCER_ID_MAPPING",
    "INVALID_TRANSACTION_TIMEOUT",
    "CONCURRENT_TRANSACTIONS",
    "TRANSACTION_COORDINATOR_FENCED",
    "TRANSACTIONAL_ID_AUTHORIZATION_FAILED",
    "SECURITY_DISABLED",
    "OPERATION_NOT_ATTEMPTED",
    "KAFKA_STORAGE_ERROR",
    "LOG_DIR_NOT_FOUND",
    "SASL_AUTHENTICATION_FAILED",
    "UNKNOWN_PRODUCER_ID",
    "REASSIGNMENT_IN_PROGRESS",
    "DELEGATION_TOKEN_AUTH_DISABLED",
    "DELEGATION_TOKEN_NOT_FOUND",
    "DELEGATION_TOKEN_OWNER_MISMATCH",
    "DELEGATION_TOKEN_REQUEST_NOT_ALLOWED",
    "DELEGATION_TOKEN_AUTHORIZATION_FAILED",
    "DELEGATION_TOKEN_EXPIRED",
    "INVALID_PRINCIPAL_TYPE",
    "NON_EMPTY_GROUP",
    "GROUP_ID_NOT_FOUND",
    "FETCH_SESSION_ID_NOT_FOUND",
    "INVALID_FETCH_SESSION_EPOCH",
    "LISTENER_NOT_FOUND",
    "TOPIC_DELETION_DISABLED",
    "FENCED_LEADER_EPOCH",
    "UNKNOWN_LEADER_EPOCH",
    "UNSUPPORTED_COMPRESSION_TYPE",
    "STALE_BROKER_EPOCH",
    "OFFSET_NOT_AVAILABLE",
    "MEMBER_ID_REQUIRED",
    "PREFERRED_LEADER_NOT_AVAILABLE",
    "GROUP_MAX_SIZE_REACHED",
    "FENCED_INSTANCE_ID",
    "ELIGIBLE_LEADERS_NOT_AVAILABLE",
    "ELECTION_NOT_NEEDED",
    "NO_REASSIGNMENT_IN_PROGRESS",
    "GROUP_SUBSCRIBED_TO_TOPIC",
    "INVALID_RECORD",
    "UNSTABLE_OFFSET_COMMIT",
    "THROTTLING_QUOTA_EXCEEDED",
    "PRODUCER_FENCED",
    "RESOURCE_NOT_FOUND",
    "DUPLICATE_RESOURCE",
    "UNACCEPTABLE_CREDENTIAL",
    "INCONSISTENT_VOTER_SET",
    "INVALID_UPDATE_VERSION",
    "FEATURE_UPDATE_FAILED",
    "PRINCIPAL_DESERIALIZATION_FAILURE",
    "SNAPSHOT_NOT_FOUND",
    "POSITION_OUT_OF_RANGE",
    "UNKNOWN_TOPIC_ID",
    "DUPLICATE_BROKER_REGISTRATION",
    "BROKER_ID_NOT_REGISTERED",
    "INCONSISTENT_TOPIC_ID",
    "INCONSISTENT_CLUSTER_ID",
    "TRANSACTIONAL_ID_NOT_FOUND",
    "FETCH_SESSION_TOPIC_ID_ERROR",
    "INELIGIBLE_REPLICA",
    "NEW_LEADER_ELECTED",
    "OFFSET_MOVED_TO_TIERED_STORAGE",
    "FENCED_MEMBER_EPOCH",
    "UNRELEASED_INSTANCE_ID",
    "UNSUPPORTED_ASSIGNOR",
    "STALE_MEMBER_EPOCH",
    "MISMATCHED_ENDPOINT_TYPE",
    "UNSUPPORTED_ENDPOINT_TYPE",
    "UNKNOWN_CONTROLLER_ID",
    "UNKNOWN_SUBSCRIPTION_ID",
    "TELEMETRY_TOO_LARGE",
    "INVALID_REGISTRATION",
    "TRANSACTION_ABORTABLE",
    "INVALID_RECORD_STATE",
    "SHARE_SESSION_NOT_FOUND",
    "INVALID_SHARE_SESSION_EPOCH",
    "FENCED_STATE_EPOCH",
    "INVALID_VOTER_KEY",
    "DUPLICATE_VOTER",
    "VOTER_NOT_FOUND",
    "INVALID_REGULAR_EXPRESSION",
    "REBOOTSTRAP_REQUIRED",
    "STREAMS_INVALID_TOPOLOGY",
    "STREAMS_INVALID_TOPOLOGY_EPOCH",
    "STREAMS_TOPOLOGY_FENCED",
    "SHARE_SESSION_LIMIT_REACHED",
]

# Subclasses of Kafka's RetriableException and of its InvalidMetadataException.
RETRIABLE = {
    2, 3, 5, 6, 7, 9, 13, 14, 15, 16, 19, 20, 41, 51, 56, 70, 71, 72, 74, 75, 78, 80, 83, 84, 88,
    89, 100, 103, 106, 122, 123, 133,
}  # fmt: skip
REFRESH_METADATA = {3, 5, 6, 9, 13, 56, 72, 74, 80, 83, 84, 100, 103}

ALL = sorted(ERRORS_BY_CODE.items())


def class_name(constant: str) -> str:
    words = constant.split("_")
    if words[-1] in ("ERROR", "EXCEPTION"):
        words.pop()
    return "".join(word.capitalize() for word in words) + "Error"


def test_every_constant_of_kafka_has_its_code_and_name() -> None:
    expected = {code: class_name(name) for code, name in enumerate(KAFKA_CONSTANTS, start=1)}
    expected[-1] = "UnknownServerError"
    found = {code: kind.__name__ for code, kind in ALL if -1 <= code < 20000}
    assert found == expected


def test_flags_are_kafkas() -> None:
    kafka = {code: kind for code, kind in ALL if -1 <= code < 20000}
    assert {code for code, kind in kafka.items() if kind.retriable} == RETRIABLE
    assert {code for code, kind in kafka.items() if kind.refresh_metadata} == REFRESH_METADATA


@pytest.mark.parametrize("kind", [kind for _, kind in ALL], ids=lambda kind: kind.__name__)
def test_errors_cross_process_borders(kind: type[RaykafkaError]) -> None:
    error = kind("topic clicks-3 is gone")
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is kind
        assert twin.message == str(twin) == "topic clicks-3 is gone"
        assert (twin.code, twin.retriable) == (error.code, error.retriable)


@pytest.mark.parametrize(("code", "kind"), ALL, ids=lambda value: str(value))
def test_a_code_makes_its_own_error_and_without_message_it_explains_itself(
    code: int, kind: type[RaykafkaError]
) -> None:
    error = error_for(code)
    assert type(error) is kind
    assert error.code == code
    assert len(error.message) > 15
    assert hasattr(errors, kind.__name__)


def test_wire_codes_fit_into_sixteen_bits() -> None:
    assert all(-(1 << 15) <= code < (1 << 15) for code, _ in ALL)
    assert all(code < -1 for code, kind in ALL if issubclass(kind, ClientError))


def test_raise_for_zero_is_success() -> None:
    raise_for(0)
    with pytest.raises(NotLeaderOrFollowerError, match="moved"):
        raise_for(6, "moved")
    with pytest.raises(ValueError, match="success"):
        error_for(0)


def test_an_unknown_code_is_named() -> None:
    error = error_for(31999, "from the future")
    assert type(error) is UnknownServerError
    assert "31999" in error.message
    assert "from the future" in error.message


def test_damage_is_a_storage_error_that_is_not_tried_again() -> None:
    assert issubclass(LogDamagedError, KafkaStorageError)
    assert not LogDamagedError.retriable
    assert DiskFullError.retriable
    assert KafkaStorageError.code == 56


def test_a_code_cannot_be_used_twice() -> None:
    with pytest.raises(TypeError, match="OffsetOutOfRangeError"):
        type("AnotherError", (RaykafkaError,), {}, code=OffsetOutOfRangeError.code)
