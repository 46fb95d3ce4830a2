"""Which partitions a consumer reads, and how far it has come in each. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from raykafka.errors import IllegalStateError, InvalidPartitionsError
from raykafka.model import EARLIEST_TIMESTAMP, LATEST_TIMESTAMP, TopicPartition

RESET_TIMESTAMPS = {"earliest": EARLIEST_TIMESTAMP, "latest": LATEST_TIMESTAMP}
"""What ``ListOffsets`` is asked for by each ``auto_offset_reset`` that moves the position."""


class PartitionState:
    """One assigned partition. ``position`` is the offset of the next record to hand out."""

    __slots__ = ("asks_committed", "missing", "position", "reset_timestamp", "topic_id")

    def __init__(self) -> None:
        self.position: int | None = None
        self.reset_timestamp: int | None = None
        """Without a position: what to look up, or None for the consumer's reset policy."""
        self.asks_committed = True
        """Without a position: whether a committed offset comes before all that."""
        self.missing = False
        """Whether the topic has been deleted, which the group's coordinator is about to notice."""
        self.topic_id = ""
        """Identity of the topic that ``position`` belongs to; empty until the leader is known."""


class Subscription:
    """The assigned partitions, in the order they were given."""

    def __init__(self) -> None:
        self._states: dict[TopicPartition, PartitionState] = {}
        self.paused: set[TopicPartition] = set()
        """Partitions that no records are wanted from for now."""
        self.managed = False
        """Whether a group's coordinator decides on the partitions."""

    def __iter__(self) -> Iterator[TopicPartition]:
        return iter(self._states)

    def __contains__(self, partition: object) -> bool:
        return partition in self._states

    def __len__(self) -> int:
        return len(self._states)

    def assign(self, partitions: Iterable[TopicPartition]) -> set[TopicPartition]:
        """Replace the assignment; what stays keeps its position. Returns what was dropped.

        Raises ``InvalidPartitionsError`` for something that is not a topic's name and a partition's
        number, before anything is changed.
        """
        wanted = dict.fromkeys(checked(partition) for partition in partitions)
        before = self._states
        self._states = {
            partition: before.get(partition) or PartitionState() for partition in wanted
        }
        self.paused &= self._states.keys()
        return set(before) - set(self._states)

    def state(self, partition: TopicPartition) -> PartitionState:
        """The partition's state; ``IllegalStateError`` when it is not assigned."""
        found = self._states.get(partition)
        if found is None:
            raise IllegalStateError(f"{partition} is not assigned to this consumer; assign() it")
        return found

    def position(self, partition: TopicPartition) -> int | None:
        """The partition's position; None without one, or if it is not assigned."""
        state = self._states.get(partition)
        return None if state is None else state.position

    def selected(self, partitions: Iterable[TopicPartition]) -> list[TopicPartition]:
        """The partitions given, checked; all assigned ones when none is given."""
        chosen = [checked(partition) for partition in partitions]
        for partition in chosen:
            self.state(partition)
        return chosen or list(self._states)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Read on at ``offset``."""
        state = self.state(partition)
        state.position = offset
        state.reset_timestamp = None

    def reset(self, partition: TopicPartition, timestamp: int | None) -> None:
        """Forget the position; None leaves the choice to the consumer's reset policy."""
        state = self.state(partition)
        state.position = None
        state.asks_committed = False
        state.reset_timestamp = timestamp

    def fetchable(self) -> Iterator[tuple[TopicPartition, int]]:
        """Partitions that records are wanted from, with their positions."""
        for partition, state in self._states.items():
            if state.position is None or state.missing:
                continue
            if partition not in self.paused:
                yield partition, state.position

    def unpositioned(self) -> list[TopicPartition]:
        """Partitions whose position has to be looked up first."""
        return [
            partition
            for partition, state in self._states.items()
            if state.position is None and not state.missing
        ]


def checked(partition: object) -> TopicPartition:
    """``partition`` as a ``TopicPartition``; plain (topic, number) pairs will do.

    Raises ``InvalidPartitionsError`` for anything else.
    """
    if isinstance(partition, tuple) and len(partition) == 2:
        topic, number = partition
        is_number = isinstance(number, int) and not isinstance(number, bool)
        if isinstance(topic, str) and is_number and number >= 0:
            return TopicPartition(topic, number)
    raise InvalidPartitionsError(f"{partition!r} is not a TopicPartition(topic, partition)")
