"""The topics that coordinators keep their state in, and which partition a key belongs to.

Whoever leads a partition of one is the coordinator of the keys that belong to it, as in Kafka.
"""

from __future__ import annotations

import zlib
from typing import Final

from raykafka.errors import InvalidRequestError

CONSUMER_OFFSETS: Final = "__consumer_offsets"
"""Consumer groups and share groups: members, assignments, committed offsets."""
TRANSACTION_STATE: Final = "__transaction_state"
"""Transactions, by transactional id."""
SHARE_GROUP_STATE: Final = "__share_group_state"
"""How far share groups have come in each partition."""
INTERNAL_TOPICS: Final = frozenset((CONSUMER_OFFSETS, TRANSACTION_STATE, SHARE_GROUP_STATE))


def coordinator_partition(key: str, count: int) -> int:
    """Which of ``count`` partitions the state of a group id or transactional id stands in.

    Raises ``InvalidRequestError`` for what is not text.
    """
    try:
        encoded = key.encode()
    except UnicodeEncodeError:
        raise InvalidRequestError(f"{key!r} is not text that UTF-8 has") from None
    return zlib.crc32(encoded) % count
