"""What a producer has to know of a topic that it sends to."""

from __future__ import annotations

from raykafka.client.cluster.metadata import TopicMetadata
from raykafka.client.producing.accumulator import TopicBuffer
from raykafka.client.producing.serializers import RowShape
from raykafka.errors import MessageTooLargeError

BATCH_OVERHEAD_BYTES = 2048
"""What a batch may take beside its records: metadata, padding, statistics."""
COLUMN_OVERHEAD_BYTES = 256


class Target:
    """What ``send`` has to know of a topic."""

    __slots__ = ("buffer", "largest_batch", "metadata", "plain", "shape")

    def __init__(
        self, metadata: TopicMetadata, buffer: TopicBuffer, largest_batch: int, *, plain: bool
    ) -> None:
        self.metadata = metadata
        self.buffer = buffer
        self.largest_batch = largest_batch
        self.plain = plain and not metadata.typed
        """Whether keys and values that are bytes may be taken as they are."""
        self.shape: RowShape | None = None
        if metadata.typed:
            self.shape = RowShape(metadata.value_schema, metadata.schema_id, metadata.key_column)


def largest_batch(max_request_size: int, metadata: TopicMetadata) -> int:
    """Bytes of records that a batch for the topic may hold."""
    largest = max_request_size
    if metadata.max_message_bytes > 0:
        largest = min(largest, metadata.max_message_bytes)
    return max(largest - BATCH_OVERHEAD_BYTES, largest // 2)


def too_large(size: int, largest: int) -> MessageTooLargeError:
    """The error for a record that no batch takes."""
    return MessageTooLargeError(
        f"the record has {size} bytes, a batch of its topic may have {largest}; raise "
        "max_request_size and the topic's max.message.bytes, or send less"
    )
