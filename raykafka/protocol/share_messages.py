"""Headers of the apis of share groups (KIP-932); see ``messages`` for the rules.

``SHARE_FETCH`` and ``SHARE_ACKNOWLEDGE`` go to the leaders of the topic's partitions. All others go
to the leader of one partition of ``__share_group_state``: ``partition`` says to which,
``internal_topics.coordinator_partition`` of the group's id says which one it belongs to.
"""

from __future__ import annotations

from typing import Final

import msgspec

from raykafka.protocol.api import COORDINATOR, PARTITION, Api
from raykafka.protocol.messages import ApiKey, ConfigChange, FetchedPartition, Message
from raykafka.share.state import StateBatch

# --- reading and acknowledging --------------------------------------------------------------------


class AcknowledgementBatch(msgspec.Struct, frozen=True, array_like=True):
    """What became of the records from ``first_offset`` to ``last_offset``."""

    first_offset: int
    last_offset: int
    types: bytes = b"\x01"
    """One ``AcknowledgeType`` for all records, or one for each of them."""


class ShareFetchPartition(Message, frozen=True):
    """One partition to acquire records of; ``max_bytes`` 0 only acknowledges."""

    topic_id: str
    partition: int
    leader_epoch: int = -1
    max_bytes: int = 1 << 20
    acknowledgements: list[AcknowledgementBatch] = []


class ShareFetchRequest(Message, frozen=True):
    """A long poll for records of a share group, with acknowledgements of earlier ones.

    What is acknowledged is done first; the request then waits for nothing, so that its answer tells
    of them at once. When the connection ends, records acquired over it become available again.
    """

    group_id: str
    member_id: str
    partitions: list[ShareFetchPartition]
    max_wait_ms: int = 500
    max_bytes: int = 50 << 20
    max_records: int = 500
    """Records that are acquired at most, over all partitions."""
    columns: list[str] | None = None
    """As in ``FetchRequest``."""
    host_id: str = ""
    """As in ``FetchRequest``."""


class AcquiredRecords(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Records that the member holds from now on."""

    first_offset: int
    last_offset: int
    delivery_count: int


class ShareFetchedPartition(Message, frozen=True):
    topic_id: str
    partition: int
    fetched: FetchedPartition | None = None
    """Where the batches are that hold the acquired records, and others beside them."""
    acquired: list[AcquiredRecords] = []
    acknowledge_error_code: int = 0
    acknowledge_error_message: str = ""
    """Why the acknowledgements for this partition were refused, all of them."""
    error_code: int = 0
    error_message: str = ""


class ShareFetchResponse(Message, frozen=True):
    partitions: list[ShareFetchedPartition] = []
    acquisition_lock_timeout_ms: int = 0
    """How long the records are the member's, where any were acquired."""
    error_code: int = 0
    error_message: str = ""


class ShareAcknowledgePartition(Message, frozen=True):
    topic_id: str
    partition: int
    acknowledgements: list[AcknowledgementBatch] = []


class ShareAcknowledgeRequest(Message, frozen=True):
    """Acknowledges without fetching."""

    group_id: str
    member_id: str
    partitions: list[ShareAcknowledgePartition]
    release: bool = False
    """Give back, afterwards, whatever else the member holds of these partitions; its delivery does
    not count. Sent when a consumer closes."""


class ShareAcknowledgedPartition(Message, frozen=True):
    topic_id: str
    partition: int
    error_code: int = 0
    error_message: str = ""


class ShareAcknowledgeResponse(Message, frozen=True):
    partitions: list[ShareAcknowledgedPartition] = []
    acquisition_lock_timeout_ms: int = 0
    error_code: int = 0
    error_message: str = ""


# --- state: between leaders and the share coordinator ---------------------------------------------


class InitialShareState(Message, frozen=True):
    topic_id: str
    partition: int
    start_offset: int


class ShareStateResult(Message, frozen=True):
    """What is known of one share partition after the request, or why it was refused."""

    topic_id: str
    partition: int
    state_epoch: int = 0
    start_offset: int = -1
    """-1 where nothing is known."""
    batches: list[StateBatch] = []
    error_code: int = 0
    error_message: str = ""


class InitializeShareGroupStateRequest(Message, frozen=True):
    """A share partition that is known already keeps its state, which the answer tells."""

    group_id: str
    partition: int
    states: list[InitialShareState]


class InitializeShareGroupStateResponse(Message, frozen=True):
    states: list[ShareStateResult] = []
    config_epoch: int = 0
    configs: dict[str, str] = {}
    error_code: int = 0
    error_message: str = ""


class ShareStateToRead(Message, frozen=True):
    topic_id: str
    partition: int
    leader_epoch: int = -1


class ReadShareGroupStateRequest(Message, frozen=True):
    """Fences leaders of older epochs."""

    group_id: str
    partition: int
    states: list[ShareStateToRead]


class ReadShareGroupStateResponse(Message, frozen=True):
    states: list[ShareStateResult] = []
    config_epoch: int = 0
    configs: dict[str, str] = {}
    error_code: int = 0
    error_message: str = ""


class ShareStateToWrite(Message, frozen=True):
    topic_id: str
    partition: int
    state_epoch: int
    leader_epoch: int
    start_offset: int
    batches: list[StateBatch] = []


class WriteShareGroupStateRequest(Message, frozen=True):
    """What has changed in share partitions of one group; each is written or refused by itself."""

    group_id: str
    partition: int
    states: list[ShareStateToWrite]
    config_epoch: int = -1
    """Of the group's settings that the writer knows."""


class WriteShareGroupStateResponse(Message, frozen=True):
    states: list[ShareStateResult] = []
    config_epoch: int = 0
    configs: dict[str, str] = {}
    """Empty where the writer knows them."""
    error_code: int = 0
    error_message: str = ""


class SharePartitionPlace(Message, frozen=True):
    topic_id: str
    partition: int


class DeleteShareGroupStateRequest(Message, frozen=True):
    """``states=None`` forgets the whole group and its settings. Refused while it has members."""

    group_id: str
    partition: int
    states: list[SharePartitionPlace] | None = None


class DeleteShareGroupStateResponse(Message, frozen=True):
    states: list[ShareStateResult] = []
    error_code: int = 0
    error_message: str = ""


# --- administration -------------------------------------------------------------------------------


class DescribeShareGroupOffsetsRequest(Message, frozen=True):
    group_id: str
    partition: int


class DescribedShareOffset(Message, frozen=True):
    topic_id: str
    partition: int
    start_offset: int = -1
    """Everything before it is done; -1 where nobody has begun to read."""
    state_epoch: int = 0
    leader_epoch: int = -1
    in_flight: int = 0
    """Records behind it that are known not to be done: released, or to become dead letters."""


class DescribeShareGroupOffsetsResponse(Message, frozen=True):
    offsets: list[DescribedShareOffset] = []
    error_code: int = 0
    error_message: str = ""


class AlterShareGroupOffsetsRequest(Message, frozen=True):
    """Refused while the group has members; what was in flight is forgotten."""

    group_id: str
    partition: int
    states: list[InitialShareState]


class AlterShareGroupOffsetsResponse(Message, frozen=True):
    states: list[ShareStateResult] = []
    error_code: int = 0
    error_message: str = ""


class DescribeShareGroupConfigsRequest(Message, frozen=True):
    group_id: str
    partition: int


class DescribeShareGroupConfigsResponse(Message, frozen=True):
    config_epoch: int = 0
    configs: dict[str, str] = {}
    """What the group sets itself; the broker's settings are the defaults of the rest."""
    error_code: int = 0
    error_message: str = ""


class AlterShareGroupConfigsRequest(Message, frozen=True):
    group_id: str
    partition: int
    changes: list[ConfigChange]


class AlterShareGroupConfigsResponse(Message, frozen=True):
    config_epoch: int = 0
    configs: dict[str, str] = {}
    error_code: int = 0
    error_message: str = ""


APIS: Final = (
    Api(
        ApiKey.SHARE_FETCH,
        ShareFetchRequest,
        ShareFetchResponse,
        PARTITION,
        response_payload=True,
    ),
    Api(
        ApiKey.SHARE_ACKNOWLEDGE,
        ShareAcknowledgeRequest,
        ShareAcknowledgeResponse,
        PARTITION,
    ),
    Api(
        ApiKey.INITIALIZE_SHARE_GROUP_STATE,
        InitializeShareGroupStateRequest,
        InitializeShareGroupStateResponse,
        COORDINATOR,
        broker_only=True,
    ),
    Api(
        ApiKey.READ_SHARE_GROUP_STATE,
        ReadShareGroupStateRequest,
        ReadShareGroupStateResponse,
        COORDINATOR,
        broker_only=True,
    ),
    Api(
        ApiKey.WRITE_SHARE_GROUP_STATE,
        WriteShareGroupStateRequest,
        WriteShareGroupStateResponse,
        COORDINATOR,
        broker_only=True,
    ),
    Api(
        ApiKey.DELETE_SHARE_GROUP_STATE,
        DeleteShareGroupStateRequest,
        DeleteShareGroupStateResponse,
        COORDINATOR,
    ),
    Api(
        ApiKey.DESCRIBE_SHARE_GROUP_OFFSETS,
        DescribeShareGroupOffsetsRequest,
        DescribeShareGroupOffsetsResponse,
        COORDINATOR,
    ),
    Api(
        ApiKey.ALTER_SHARE_GROUP_OFFSETS,
        AlterShareGroupOffsetsRequest,
        AlterShareGroupOffsetsResponse,
        COORDINATOR,
    ),
    Api(
        ApiKey.DESCRIBE_SHARE_GROUP_CONFIGS,
        DescribeShareGroupConfigsRequest,
        DescribeShareGroupConfigsResponse,
        COORDINATOR,
    ),
    Api(
        ApiKey.ALTER_SHARE_GROUP_CONFIGS,
        AlterShareGroupConfigsRequest,
        AlterShareGroupConfigsResponse,
        COORDINATOR,
    ),
)
