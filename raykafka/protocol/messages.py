"""Headers of raykafka's own APIs: msgspec structs, carried as MessagePack maps.

Compatibility rule: a field is never renamed or given a new meaning; a new field has a default. A
decoder ignores fields it does not know, so old and new processes understand each other.
Every request has a response of the same name; both say which api key they belong to.
Timestamps are milliseconds since the epoch, sizes are bytes. ``error_code`` 0 means success.
"""

from __future__ import annotations

import enum

import msgspec


class ApiKey(enum.IntEnum):
    """Api keys that raykafka serves; its own start at 20,000 so that Kafka's fit in beside."""

    HELLO = 20000
    AUTHENTICATE = 20001
    METADATA = 20002
    PRODUCE = 20003
    FETCH = 20004
    FETCH_CREDIT = 20005
    LIST_OFFSETS = 20006
    INIT_PRODUCER_ID = 20007
    CREATE_TOPICS = 20008
    DELETE_TOPICS = 20009
    CREATE_PARTITIONS = 20010
    DESCRIBE_CONFIGS = 20011
    ALTER_CONFIGS = 20012
    DELETE_RECORDS = 20013
    DESCRIBE_CLUSTER = 20014
    DESCRIBE_LOG_DIRS = 20015
    ADD_COLUMNS = 20016
    REPLICATE = 20017
    REPLICA_POSITION = 20018
    ACTOR_HEARTBEAT = 20019
    ALTER_PARTITIONS = 20020
    FAIL_REPLICAS = 20021
    CATCH_UP = 20022
    QUORUM_VOTE = 20030
    QUORUM_APPEND = 20031
    END_QUORUM_EPOCH = 20032
    FETCH_SNAPSHOT = 20033
    DESCRIBE_QUORUM = 20034
    ALTER_PARTITION_REASSIGNMENTS = 20040
    LIST_PARTITION_REASSIGNMENTS = 20041
    ELECT_LEADERS = 20042
    DESCRIBE_BROKERS = 20043
    DRAIN_BROKER = 20044
    RESTART_BROKER = 20045
    UNREGISTER_BROKER = 20046
    FIND_COORDINATOR = 20049
    CONSUMER_GROUP_HEARTBEAT = 20050
    OFFSET_COMMIT = 20051
    OFFSET_FETCH = 20052
    OFFSET_DELETE = 20053
    TXN_OFFSET_COMMIT = 20054
    LIST_GROUPS = 20055
    DESCRIBE_GROUPS = 20056
    DELETE_GROUPS = 20057
    REMOVE_MEMBERS = 20058
    INIT_TRANSACTION = 20070
    ADD_PARTITIONS_TO_TXN = 20071
    PREPARE_TXN = 20072
    END_TXN = 20073
    WRITE_TXN_MARKERS = 20074
    DESCRIBE_TRANSACTIONS = 20075
    LIST_TRANSACTIONS = 20076
    DESCRIBE_PRODUCERS = 20077
    ABORT_TRANSACTION = 20078
    SHARE_FETCH = 20080
    SHARE_ACKNOWLEDGE = 20081
    INITIALIZE_SHARE_GROUP_STATE = 20082
    READ_SHARE_GROUP_STATE = 20083
    WRITE_SHARE_GROUP_STATE = 20084
    DELETE_SHARE_GROUP_STATE = 20085
    DESCRIBE_SHARE_GROUP_OFFSETS = 20086
    ALTER_SHARE_GROUP_OFFSETS = 20087
    DESCRIBE_SHARE_GROUP_CONFIGS = 20088
    ALTER_SHARE_GROUP_CONFIGS = 20089

    __hash__ = int.__hash__
    """Enum's own goes through the name, in Python; keys are looked up for every frame."""


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    """Base of every header."""


class ErrorResponse(Message, frozen=True):
    """What an error alone looks like; it may stand in the place of any response."""

    error_code: int = 0
    error_message: str = ""


# --- connection ---------------------------------------------------------------------------------


class ApiVersionRange(Message, frozen=True):
    api_key: int
    min_version: int
    max_version: int


class HelloRequest(Message, frozen=True):
    """First frame on a connection."""

    client_id: str = ""
    software: str = ""


class HelloResponse(Message, frozen=True):
    """Who answers, what it speaks, and the challenge that the client must answer."""

    cluster_id: str
    node: str
    """Name of the actor that owns the listener."""
    incarnation: int
    challenge: bytes
    """32 random bytes, used once."""
    apis: list[ApiVersionRange]
    max_request_bytes: int = 0
    """Largest frame that the listener takes from an authenticated peer; 0 does not say."""
    error_code: int = 0
    error_message: str = ""


class AuthenticateRequest(Message, frozen=True):
    """Proof of the cluster's secret; see ``protocol.auth``."""

    nonce: bytes
    proof: bytes
    role: str = "client"
    """``client`` or ``broker``: each role is proven with a key of its own."""


class AuthenticateResponse(Message, frozen=True):
    proof: bytes = b""
    """The server's proof over both nonces, so that a client does not talk to an impostor."""
    error_code: int = 0
    error_message: str = ""


# --- metadata -----------------------------------------------------------------------------------


class MetadataRequest(Message, frozen=True):
    """``topics=None`` asks for all of them."""

    topics: list[str] | None = None
    known_offset: int = -1
    """The answer is empty when nothing has changed since that ``metadata_offset``."""


class BrokerInfo(Message, frozen=True):
    broker_id: int
    host: str
    rack: str = ""
    alive: bool = True


class FollowerInfo(msgspec.Struct, frozen=True, array_like=True):
    """A follower in sync and the listener of its partition actor."""

    broker_id: int
    host: str
    port: int


class PartitionInfo(Message, frozen=True):
    partition: int
    leader_id: int
    """Broker that leads the partition, -1 while there is none."""
    leader_epoch: int
    host: str
    port: int
    """Listener of the partition actor; 0 while there is none."""
    replicas: list[int] = []
    isr: list[int] = []
    error_code: int = 0
    error_message: str = ""
    """Why nobody leads the partition, where the controller knows more than that."""
    offline_replicas: list[int] = []
    eligible_leader_replicas: list[int] = []
    """Out of sync, but may lead when nobody in sync can (KIP-966)."""
    last_known_leader: int = -1
    adding_replicas: list[int] = []
    removing_replicas: list[int] = []
    followers: list[FollowerInfo] = []
    """Those that a reader near them may fetch from (KIP-392)."""


class TopicInfo(Message, frozen=True):
    name: str
    topic_id: str = ""
    partitions: list[PartitionInfo] = []
    schemas: list[bytes] = []
    """Arrow IPC schema messages of a typed topic's value columns, one per schema id, oldest first;
    empty for an untyped topic, whose only value column is ``value: binary``."""
    key_column: str = ""
    """Typed topics: the column that is the record's key, or empty."""
    compression: str = "none"
    max_message_bytes: int = 0
    timestamp_type: int = 0
    error_code: int = 0
    error_message: str = ""


class MetadataResponse(Message, frozen=True):
    cluster_id: str
    cluster_name: str
    metadata_offset: int
    """Log end offset of the metadata log that this answer reflects; never goes back."""
    brokers: list[BrokerInfo]
    topics: list[TopicInfo]
    error_code: int = 0
    error_message: str = ""


# --- data ---------------------------------------------------------------------------------------


class ProduceRequest(Message, frozen=True):
    """One batch for one partition; the payload is its Arrow message. Producer id, epoch, sequence,
    record count and CRC-32C stand in the batch's own header slot, which the CRC covers.
    """

    topic_id: str
    partition: int
    leader_epoch: int
    acks: int = -1
    timeout_ms: int = 30_000
    transactional_id: str = ""
    """Whose transaction a transactional batch belongs to; the leader asks its coordinator whether
    it is open, and takes part in it from then on (KIP-890)."""


class ProduceResponse(Message, frozen=True):
    base_offset: int = -1
    append_time_ms: int = -1
    """Set where the topic uses LogAppendTime, -1 otherwise."""
    log_start_offset: int = -1
    duplicate: bool = False
    error_code: int = 0
    error_message: str = ""


class FetchPartition(Message, frozen=True):
    topic_id: str
    partition: int
    offset: int
    leader_epoch: int = -1
    max_bytes: int = 1 << 20
    doubtful: bool = False
    """What came from there before failed its checksum: the listener verifies before it answers."""


class FetchRequest(Message, frozen=True):
    """Reads one or more partitions that the listener leads.

    ``push=False`` is Kafka's long poll: one answer, parked until ``min_bytes`` are there or
    ``max_wait_ms`` have passed. ``push=True`` opens a session: the same correlation id is answered
    again and again as records commit, while ``credit_bytes`` last; ``FetchCredit`` with that
    correlation id adds credit or ends it. One frame per partition is pushed.
    """

    partitions: list[FetchPartition]
    min_bytes: int = 1
    max_wait_ms: int = 500
    max_bytes: int = 50 << 20
    isolation: int = 0
    columns: list[str] | None = None
    """Value columns wanted, None for all; reserved columns are named like others."""
    host_id: str = ""
    """Set by a client that can map files of that host; empty asks for bytes."""
    push: bool = False
    credit_bytes: int = 0
    follower_reads: bool = False
    """Whether a listener that only follows may answer, with what it knows to be committed
    (KIP-392).
    """


class MappedSegment(Message, frozen=True):
    """Where a co-located client finds the batches: the payload then is the packed index
    (little-endian uint64 position and uint64 size, pair after pair) instead of their bytes.
    """

    path: str
    device: int
    inode: int


class FetchedPartition(Message, frozen=True):
    topic_id: str
    partition: int
    high_watermark: int = -1
    log_start_offset: int = -1
    last_stable_offset: int = -1
    sizes: list[int] = []
    """Sizes of the batches in the payload, in order; empty when ``mapped`` is set."""
    mapped: MappedSegment | None = None
    mapped_count: int = 0
    next_offset: int = -1
    """Where to read on, when that is not behind the last batch of the answer: markers, and for
    ``read_committed`` what was aborted, are left out by the server. -1: behind the last batch."""
    error_code: int = 0
    error_message: str = ""


class FetchResponse(Message, frozen=True):
    partitions: list[FetchedPartition] = []
    error_code: int = 0
    error_message: str = ""


class FetchCreditRequest(Message, frozen=True):
    """No answer of its own. ``close=True`` ends the session; its last frame has no partitions."""

    session: int
    credit_bytes: int = 0
    close: bool = False


class ListOffsetsPartition(Message, frozen=True):
    topic_id: str
    partition: int
    timestamp: int
    """A time, or -1 latest, -2 earliest, -3 the record with the largest timestamp."""
    leader_epoch: int = -1


class ListOffsetsRequest(Message, frozen=True):
    partitions: list[ListOffsetsPartition]
    isolation: int = 0


class ListedOffset(Message, frozen=True):
    topic_id: str
    partition: int
    offset: int = -1
    """-1 when no record is that young."""
    timestamp: int = -1
    leader_epoch: int = -1
    error_code: int = 0
    error_message: str = ""


class ListOffsetsResponse(Message, frozen=True):
    partitions: list[ListedOffset] = []
    error_code: int = 0
    error_message: str = ""


class DeleteRecordsPartition(Message, frozen=True):
    topic_id: str
    partition: int
    before_offset: int
    """First offset to keep; -1 means the high watermark."""
    leader_epoch: int = -1


class DeleteRecordsRequest(Message, frozen=True):
    partitions: list[DeleteRecordsPartition]


class DeletedRecords(Message, frozen=True):
    topic_id: str
    partition: int
    low_watermark: int = -1
    error_code: int = 0
    error_message: str = ""


class DeleteRecordsResponse(Message, frozen=True):
    partitions: list[DeletedRecords] = []
    error_code: int = 0
    error_message: str = ""


class DescribeLogDirsRequest(Message, frozen=True):
    """Asked of a partition actor: the replicas in its house."""


class LogDirPartition(Message, frozen=True):
    topic: str
    partition: int
    size_bytes: int
    segments: int
    log_start_offset: int
    log_end_offset: int
    damaged: list[tuple[int, int]] = []
    """Offset ranges, end exclusive, that are on disk but fail their checksum or are missing."""


class DescribeLogDirsResponse(Message, frozen=True):
    path: str = ""
    total_bytes: int = 0
    usable_bytes: int = 0
    accepts_writes: bool = True
    partitions: list[LogDirPartition] = []
    broker_id: int = -1
    """Whose replicas these are; -1 from an older version."""
    error_code: int = 0
    error_message: str = ""


# --- producer ids ---------------------------------------------------------------------------------


class InitProducerIdRequest(Message, frozen=True):
    """A new id, or with the current one a bumped epoch (KIP-360)."""

    producer_id: int = -1
    producer_epoch: int = -1


class InitProducerIdResponse(Message, frozen=True):
    producer_id: int = -1
    producer_epoch: int = -1
    error_code: int = 0
    error_message: str = ""


# --- administration (served by the controller) ---------------------------------------------------


class NewTopic(Message, frozen=True):
    """A topic to create; -1 takes the broker's default."""

    name: str
    num_partitions: int = -1
    replication_factor: int = -1
    configs: dict[str, str] = {}
    schema: bytes = b""
    """Arrow IPC schema message of the value columns; empty for an untyped topic."""
    replica_assignments: dict[int, list[int]] = {}
    """Broker ids by partition, preferred leader first, in the place of the two numbers."""


class CreateTopicsRequest(Message, frozen=True):
    topics: list[NewTopic]
    validate_only: bool = False


class TopicResult(Message, frozen=True):
    name: str
    topic_id: str = ""
    num_partitions: int = -1
    error_code: int = 0
    error_message: str = ""


class CreateTopicsResponse(Message, frozen=True):
    topics: list[TopicResult] = []
    error_code: int = 0
    error_message: str = ""


class DeleteTopicsRequest(Message, frozen=True):
    names: list[str]


class DeleteTopicsResponse(Message, frozen=True):
    topics: list[TopicResult] = []
    error_code: int = 0
    error_message: str = ""


class NewPartitions(Message, frozen=True):
    name: str
    total_count: int
    new_assignments: list[list[int]] = []
    """Broker ids of each new partition; empty leaves them to the controller."""


class CreatePartitionsRequest(Message, frozen=True):
    topics: list[NewPartitions]
    validate_only: bool = False


class CreatePartitionsResponse(Message, frozen=True):
    topics: list[TopicResult] = []
    error_code: int = 0
    error_message: str = ""


class ConfigResource(Message, frozen=True):
    """``type`` is ``topic`` or ``broker``; a broker's name is its id,
    or empty for the cluster's default.
    """

    type: str
    name: str


class DescribeConfigsRequest(Message, frozen=True):
    resources: list[ConfigResource]


class ConfigEntry(Message, frozen=True):
    name: str
    value: str
    source: str
    """``topic``, ``broker``, ``cluster`` or ``default``: where the value comes from."""
    read_only: bool = False
    documentation: str = ""


class DescribedConfigs(Message, frozen=True):
    resource: ConfigResource
    entries: list[ConfigEntry] = []
    error_code: int = 0
    error_message: str = ""


class DescribeConfigsResponse(Message, frozen=True):
    resources: list[DescribedConfigs] = []
    error_code: int = 0
    error_message: str = ""


class ConfigChange(Message, frozen=True):
    """``op``: ``set`` or ``delete`` (back to the default), as in KIP-339."""

    name: str
    value: str = ""
    op: str = "set"


class AlteredResource(Message, frozen=True):
    resource: ConfigResource
    changes: list[ConfigChange] = []
    error_code: int = 0
    error_message: str = ""


class AlterConfigsRequest(Message, frozen=True):
    resources: list[AlteredResource]
    validate_only: bool = False


class AlterConfigsResponse(Message, frozen=True):
    resources: list[AlteredResource] = []
    error_code: int = 0
    error_message: str = ""


class AddColumnsRequest(Message, frozen=True):
    """Adds nullable columns at the end of a typed topic's schema."""

    topic: str
    schema: bytes
    """Arrow IPC schema message of the new columns only."""


class AddColumnsResponse(Message, frozen=True):
    schema_id: int = -1
    error_code: int = 0
    error_message: str = ""


class DescribeClusterRequest(Message, frozen=True):
    pass


class ActorInfo(Message, frozen=True):
    """One actor of the cluster, for ``status`` and for tests that kill it."""

    name: str
    role: str
    """``controller``, ``broker`` or ``partition``."""
    broker_id: int
    incarnation: int
    state: str
    """``starting``, ``alive`` or ``dead``."""
    pid: int = 0
    host: str = ""
    port: int = 0
    partitions: int = 0


class DescribeClusterResponse(Message, frozen=True):
    cluster_id: str = ""
    cluster_name: str = ""
    controller_epoch: int = 0
    brokers: list[BrokerInfo] = []
    actors: list[ActorInfo] = []
    topics: int = 0
    partitions: int = 0
    offline_partitions: int = 0
    under_replicated_partitions: int = 0
    """Led, but not all of their replicas are in sync."""
    under_min_isr_partitions: int = 0
    """Led, but too few replicas are in sync for acks=all."""
    reassigning_partitions: int = 0
    error_code: int = 0
    error_message: str = ""
