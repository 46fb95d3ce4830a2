"""What the share coordinator's machine is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from raykafka.errors import RaykafkaError
from raykafka.share.records import AnyRecord
from raykafka.share.state import UNINITIALIZED, StateBatch


class Place(NamedTuple):
    """A share partition, but for its group."""

    topic_id: str
    partition: int


class Initialize(NamedTuple):
    """Begin to know of share partitions: where each starts. One that is known stays as it is."""

    group_id: str
    start_offsets: Mapping[Place, int]


class ReadState(NamedTuple):
    """A leader takes over; older leader epochs are fenced from then on."""

    group_id: str
    leader_epochs: Mapping[Place, int]


class PartitionWrite(NamedTuple):
    """What a leader wants to be known of one share partition."""

    state_epoch: int
    leader_epoch: int
    start_offset: int
    batches: Sequence[StateBatch]


class WriteState(NamedTuple):
    """Leaders' changes; each share partition is written or refused by itself."""

    group_id: str
    writes: Mapping[Place, PartitionWrite]
    config_epoch: int = -1
    """Of the settings that the writer knows."""


class DeleteState(NamedTuple):
    """Forget share partitions, or with ``places=None`` the whole group and its settings."""

    group_id: str
    places: Sequence[Place] | None = None


class AlterOffsets(NamedTuple):
    """Set where share partitions start; everything in flight is forgotten."""

    group_id: str
    start_offsets: Mapping[Place, int]


class DescribeOffsets(NamedTuple):
    """What is known of a group's share partitions."""

    group_id: str


class ConfigureGroup(NamedTuple):
    """Set or (None) remove settings of a group; they are checked by the caller."""

    group_id: str
    changes: Mapping[str, str | None]


Command = (
    Initialize
    | ReadState
    | WriteState
    | DeleteState
    | AlterOffsets
    | DescribeOffsets
    | ConfigureGroup
)


class PartitionState(NamedTuple):
    """What is known of one share partition, or why the command did nothing there."""

    place: Place
    error: RaykafkaError | None = None
    state_epoch: int = 0
    leader_epoch: int = -1
    start_offset: int = UNINITIALIZED
    batches: Sequence[StateBatch] = ()
    in_flight: int = 0


class GroupAnswer(NamedTuple):
    """The share partitions that the command was about, and the group's settings."""

    partitions: Sequence[PartitionState]
    config_epoch: int = 0
    configs: Mapping[str, str] = {}


class Outcome(NamedTuple):
    """Records to commit, and what to answer then."""

    records: Sequence[AnyRecord]
    answer: Any
