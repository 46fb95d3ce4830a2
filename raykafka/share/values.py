"""What the share-partition machine goes by, and what it hands out."""

from __future__ import annotations

from typing import Final, NamedTuple

from raykafka.errors import InvalidRequestError
from raykafka.model import AcknowledgeType
from raykafka.share.state import StateBatch

REJECTED: Final = "Offset rejected by client."
DELIVERED_TOO_OFTEN: Final = "Offset delivery count exceeded the threshold."
"""Causes as Kafka words them in the header ``__dlq.errors.message``."""

_CAREFUL_PORTION: Final = 31
_KNOWN_TYPES: Final = frozenset(AcknowledgeType)


class ShareLimits(NamedTuple):
    """Settings of a group that the machine goes by."""

    lock_duration_ms: int = 30_000
    delivery_limit: int = 5
    """Deliveries after which a record that is not accepted is given up."""
    max_record_locks: int = 2000
    """Records in flight beyond which no new ones are acquired."""
    dead_letters: bool = False
    """Whether what is given up goes to a dead-letter topic first."""

    @property
    def careful_from(self) -> int:
        """Deliveries after which a record is not given together with others without need."""
        return max(1, (self.delivery_limit + 1) // 2)

    def portion(self, delivery_count: int) -> int:
        """How many records that were delivered so often may be given together."""
        if delivery_count < self.careful_from:
            return self.max_record_locks
        if delivery_count >= self.delivery_limit - 1:
            return 1
        return max(1, _CAREFUL_PORTION >> (4 * (delivery_count - self.careful_from)))


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


def check_types(first: int, last: int, types: bytes) -> None:
    """Raise ``InvalidRequestError`` unless ``types`` says what became of these records."""
    count = last - first + 1
    if count <= 0 or len(types) not in (1, count) or not _KNOWN_TYPES.issuperset(types):
        raise InvalidRequestError(
            f"an acknowledgement of {first} to {last} has one type or one for each record, "
            f"and types from 1 to 4, not {types[:8]!r}"
        )
