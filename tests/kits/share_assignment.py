"""An assignment that does not change, in the place of a share group's coordinator."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable

from raykafka.model import TopicPartition


class FixedAssignment:
    """``Assignment``: these partitions, whatever is subscribed to."""

    def __init__(self, *partitions: TopicPartition) -> None:
        self.member_id = uuid.uuid4().hex
        self._partitions = partitions

    def subscribe(self, topics: Iterable[str], pattern: str) -> None:
        """Nothing changes."""

    def partitions(self) -> Collection[TopicPartition]:
        return self._partitions

    def start_poll(self) -> None:
        """There is no session."""

    def end_poll(self) -> None:
        """There is no session."""

    def close(self, timeout_ms: int) -> None:
        """There is nothing to leave."""
