"""Offsets that are committed together with a transaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from raykafka.client.grouping.offsets import offset_to_commit
from raykafka.errors import InvalidRequestError
from raykafka.model import OffsetAndMetadata, TopicPartition
from raykafka.protocol.group_messages import OffsetToCommit

Offsets: TypeAlias = (
    "Mapping[TopicPartition, OffsetAndMetadata | int] | "
    "Mapping[tuple[str, int], OffsetAndMetadata | int]"
)
"""The next offset to read per partition."""


def offsets_to_commit(offsets: Offsets, topic_id: Callable[[str], str]) -> list[OffsetToCommit]:
    """The offsets as the wire has them; raises ``InvalidRequestError`` for what is none."""
    found = []
    for (topic, partition), wanted in offsets.items():
        given = wanted if isinstance(wanted, OffsetAndMetadata) else OffsetAndMetadata(wanted)
        if type(given.offset) is not int or given.offset < 0:
            raise InvalidRequestError(f"{given.offset!r} is no offset to commit for {topic}")
        found.append(offset_to_commit((topic, partition), topic_id(topic), given))
    return found
