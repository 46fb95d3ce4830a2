"""What the share-partition machine goes by, and what it hands out."""

from __future__ import annotations

from typing import Final, NamedTuple

from raykafka.share.state import StateBatch

REJECTED: Final = "Offset rejected by client."
DELIVERED_TOO_OFTEN: Final = "Offset delivery count exceeded the threshold."
"""Causes as Kafka words them in the header ``__dlq.errors.message``."""


class ShareLimits(NamedTuple):
    """Settings of a group that the machine goes by."""

    lock_duration_ms: int = 30_000
    delivery_limit: int = 5
    """Deliveries after which a record that is not accepted is given up."""
    max_record_locks: int = 2000
    """Records in flight beyond which no new ones are acquired."""
    dead_letters: bool = False
    """Whether what is given up goes to a dead-letter topic first."""


class Acquired(NamedTuple):
    """Records that a member has just been given."""

    first_offset: int
    last_offset: int
    delivery_count: int


class DeadLetter(NamedTuple):
    """Records that are to be written to the dead-letter topic."""

    first_offset: int
    last_offset: int
    delivery_count: int
    cause: str


class Changes(NamedTuple):
    """What has to be written so that a new leader knows as much."""

    start_offset: int
    batches: list[StateBatch]
