"""Names and small values that every layer shares.

Offsets follow Kafka: ``log_start_offset`` is an inclusive lower bound; ``high_watermark``,
``log_end_offset`` and ``last_stable_offset`` are exclusive upper bounds.
"""

from __future__ import annotations

import enum
from typing import Final, NamedTuple, NewType

TopicId = NewType("TopicId", str)
"""Identity of a topic for its whole life: 32 hexadecimal characters, never reused."""
LeaderEpoch = NewType("LeaderEpoch", int)
ProducerId = NewType("ProducerId", int)
ProducerEpoch = NewType("ProducerEpoch", int)

NO_PRODUCER_ID: Final = ProducerId(-1)
NO_PRODUCER_EPOCH: Final = ProducerEpoch(-1)
NO_SEQUENCE: Final = -1
NO_LEADER_EPOCH: Final = LeaderEpoch(-1)

LATEST_TIMESTAMP: Final = -1
"""``ListOffsets`` timestamp that asks for the high watermark."""
EARLIEST_TIMESTAMP: Final = -2
"""``ListOffsets`` timestamp that asks for the log start offset."""
MAX_TIMESTAMP: Final = -3
"""``ListOffsets`` timestamp that asks for the record with the largest timestamp (KIP-734)."""


class TopicPartition(NamedTuple):
    """A topic's name and one of its partitions, as users name it."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}"


class PartitionId(NamedTuple):
    """A partition's identity in the cluster: outlives deletion and re-creation of a name."""

    topic_id: TopicId
    partition: int


class Acks(enum.IntEnum):
    """What a producer waits for (Kafka's ``acks``)."""

    ALL = -1
    NONE = 0
    LEADER = 1


class TimestampType(enum.IntEnum):
    """Who set a record's timestamp (KIP-32)."""

    CREATE_TIME = 0
    LOG_APPEND_TIME = 1


class IsolationLevel(enum.IntEnum):
    """Which records a reader sees (KIP-98)."""

    READ_UNCOMMITTED = 0
    READ_COMMITTED = 1


class AcknowledgeType(enum.IntEnum):
    """What became of a record that a share consumer was given (KIP-932); Kafka's numbers."""

    ACCEPT = 1
    """Done: it is not delivered again."""
    RELEASE = 2
    """Not done: others may have it, until it has been delivered too often."""
    REJECT = 3
    """Never to be done: it is not delivered again, and goes to the dead-letter topic if any."""
    RENEW = 4
    """Still being worked on: its lease begins anew (KIP-1222)."""


class FsyncPolicy(str, enum.Enum):
    """When written batches are made to survive a power cut."""

    BATCH = "batch"
    INTERVAL = "interval"
    NONE = "none"


class Compression(str, enum.Enum):
    """Codec of a batch's Arrow buffers."""

    NONE = "none"
    LZ4 = "lz4"
    ZSTD = "zstd"


class OffsetAndTimestamp(NamedTuple):
    """The first record whose timestamp is at or after the one asked for."""

    offset: int
    timestamp: int
    leader_epoch: int


class OffsetAndMetadata(NamedTuple):
    """A committed offset: that of the next record to read, and a note that is kept with it."""

    offset: int
    metadata: str = ""
    leader_epoch: int = NO_LEADER_EPOCH


class ConsumerGroupMetadata(NamedTuple):
    """Who commits: what a producer needs to commit a consumer's offsets with a transaction."""

    group_id: str
    member_epoch: int = -1
    """-1 for somebody who is not a member (Kafka calls it the generation id)."""
    member_id: str = ""
    group_instance_id: str = ""


class RecordMetadata(NamedTuple):
    """Where an acknowledged record stands in the log.

    ``offset`` is -1 with ``acks=0``; ``timestamp`` is in milliseconds since the epoch.
    """

    topic: str
    partition: int
    offset: int
    timestamp: int


class Endpoint(NamedTuple):
    """Where a listener accepts connections."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"
