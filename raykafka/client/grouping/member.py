"""What a member of a group is made of. Pure."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from raykafka.model import TopicPartition
from raykafka.protocol.group_messages import ConsumerGroupHeartbeatRequest, TopicPartitions


class OwnedPartition(NamedTuple):
    """A partition of one incarnation of a topic."""

    topic: str
    topic_id: str
    partition: int

    @property
    def place(self) -> TopicPartition:
        """The partition as users name it."""
        return TopicPartition(self.topic, self.partition)


Owned = frozenset[OwnedPartition]
NOTHING: Final[Owned] = frozenset()


class MemberState(enum.Enum):
    """Where a member stands."""

    IDLE = "not in a group"
    JOINING = "joining"
    MEMBER = "in the group"
    FENCED = "removed by the coordinator"
    LEAVING = "leaving"
    AWAY = "left since it did not poll"
    FAILED = "refused by the coordinator"


@dataclass(frozen=True, slots=True)
class MemberSettings:
    """What does not change while a member lives."""

    group_id: str
    member_id: str
    instance_id: str = ""
    client_id: str = ""
    rack_id: str = ""
    assignor: str = ""
    max_poll_interval_ms: int = 300_000
    retry_backoff_ms: int = 20
    share: bool = False


class Work(NamedTuple):
    """What the member's owner has to do: give up, then take."""

    lost: Owned | None = None
    """All that is owned, if it is gone already and may be somebody else's."""
    revoked: Owned = NOTHING
    added: Owned = NOTHING


class Heartbeat(NamedTuple):
    """One that has been sent, with what it said."""

    request: ConsumerGroupHeartbeatRequest
    life: int
    """Counts the joins of the member."""
    owned: Owned | None = None
    subscription: int = 0
    """Counts the subscriptions of the member."""

    @property
    def held(self) -> bool:
        """Whether the coordinator answers when it has something to say."""
        return self.request.max_wait_ms > 0

    @property
    def leaves(self) -> bool:
        """Whether it says goodbye."""
        return self.request.member_epoch < 0


def as_topics(owned: Iterable[OwnedPartition]) -> list[TopicPartitions]:
    """Partitions as they travel."""
    found: dict[tuple[str, str], list[int]] = {}
    for topic, topic_id, partition in sorted(owned):
        found.setdefault((topic, topic_id), []).append(partition)
    return [TopicPartitions(*name, partitions) for name, partitions in found.items()]


def as_owned(topics: Iterable[TopicPartitions]) -> Owned:
    """The reverse of ``as_topics``."""
    return frozenset(
        OwnedPartition(each.topic, each.topic_id, partition)
        for each in topics
        for partition in each.partitions
    )
