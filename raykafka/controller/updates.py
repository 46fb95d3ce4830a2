"""What the metadata log says: one struct per change, encoded as MessagePack.

Compatibility rule: a field is never renamed or given a new meaning; a new field has a default. An
update of an unknown kind stops the replay, since skipping it would make another cluster of it.
"""

from __future__ import annotations

from typing import Final

import msgspec

from raykafka.errors import UnsupportedVersionError
from raykafka.model import TopicId


class StateRecord(msgspec.Struct, frozen=True, omit_defaults=True, tag=True):
    """Base of every update; the struct's name is its tag in the log."""


class Placement(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Where a new partition lives: ``slots[i]`` is the place in broker ``replicas[i]``'s pool."""

    replicas: tuple[int, ...]
    slots: tuple[int, ...]
    leader: int
    """-1 while no replica's actor runs."""
    isr: tuple[int, ...] = ()
    """Replicas whose actor runs; empty stands for all of them."""


class PartitionChange(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The whole state of one partition from now on, but for what was opened.

    Empty ``replicas`` leave replicas and slots as they are. Replicas that are no longer among them
    are to be removed from disk.
    """

    partition: int
    leader: int
    leader_epoch: int
    partition_epoch: int
    isr: tuple[int, ...]
    elr: tuple[int, ...] = ()
    last_known_leader: int = -1
    adding: tuple[int, ...] = ()
    removing: tuple[int, ...] = ()
    replicas: tuple[int, ...] = ()
    slots: tuple[int, ...] = ()


class LeaderChange(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The new leader of one partition and the epoch that begins with it."""

    partition: int
    leader: int
    leader_epoch: int


class OpenedPartition(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A replica has the partition's log open, in ``leader_epoch``."""

    partition: int
    leader_epoch: int


class ControllerElected(StateRecord, frozen=True):
    """A controller began to write; the first one also names the cluster."""

    controller_epoch: int
    cluster_id: str
    cluster_name: str
    host: str
    port: int


class BrokerRegistered(StateRecord, frozen=True):
    """A broker is about to be started on a node. It stays fenced until it has."""

    broker_id: int
    incarnation: int
    node_id: str
    host: str
    rack: str
    slots: int
    """Size of its pool of partition actors."""


class BrokerUnfenced(StateRecord, frozen=True):
    """The broker's actor runs and renews its lease."""

    broker_id: int
    incarnation: int
    pid: int
    directory_id: str = ""
    """Of its log directory; empty when the broker did not say."""


class BrokerFenced(StateRecord, frozen=True):
    """The broker's actor died or let its lease run out."""

    broker_id: int
    incarnation: int


class BrokerStateChanged(StateRecord, frozen=True):
    """What operators and the controller want of the broker; see ``BrokerState``."""

    broker_id: int
    draining: bool = False
    stopping: bool = False


class BrokerUnregistered(StateRecord, frozen=True):
    """The broker is gone for good, and its node is left alone."""

    broker_id: int


class PartitionActorAllocated(StateRecord, frozen=True):
    """A partition actor of this incarnation is to be started: a new controller looks for it."""

    broker_id: int
    slot: int
    incarnation: int


class PartitionActorStarted(StateRecord, frozen=True):
    """The partition actor listens."""

    broker_id: int
    slot: int
    incarnation: int
    host: str
    port: int
    pid: int


class PartitionActorLost(StateRecord, frozen=True):
    """The partition actor of this incarnation is gone."""

    broker_id: int
    slot: int
    incarnation: int


class TopicCreated(StateRecord, frozen=True):
    """A topic with all of its partitions."""

    topic_id: TopicId
    name: str
    partitions: list[Placement]
    configs: dict[str, str] = {}
    schemas: list[bytes] = []


class PartitionsCreated(StateRecord, frozen=True):
    """More partitions at the end of a topic."""

    topic_id: TopicId
    partitions: list[Placement]


class TopicDeleted(StateRecord, frozen=True):
    """The topic is gone; its replicas are removed from disk afterwards (``ReplicasRemoved``)."""

    topic_id: TopicId


class ReplicasRemoved(StateRecord, frozen=True):
    """These replicas, given up or of a deleted topic, are no longer on that slot's disk."""

    broker_id: int
    slot: int
    topic_id: TopicId
    partitions: list[int]


class LeadersChanged(StateRecord, frozen=True):
    """Elections in one topic, as they were written before there was more than one replica."""

    topic_id: TopicId
    changes: list[LeaderChange]


class PartitionsChanged(StateRecord, frozen=True):
    """Elections, changes of the ISR and reassignments in one topic."""

    topic_id: TopicId
    changes: list[PartitionChange]


class PartitionsOpened(StateRecord, frozen=True):
    """Replicas that are ready. One that was opened once is never made anew while it is trusted."""

    topic_id: TopicId
    opened: list[OpenedPartition]
    broker_id: int = -1
    """Whose replicas; -1 in older entries: those of the leaders."""


class TopicConfigChanged(StateRecord, frozen=True):
    """All of the topic's own settings from now on."""

    topic_id: TopicId
    configs: dict[str, str]


class BrokerConfigChanged(StateRecord, frozen=True):
    """All dynamic settings of one broker, or with ``broker_id`` -1 of every broker."""

    broker_id: int
    configs: dict[str, str]


class SchemaAdded(StateRecord, frozen=True):
    """The next schema of a typed topic."""

    topic_id: TopicId
    schema_id: int
    schema: bytes


class ProducerIdsAllocated(StateRecord, frozen=True):
    """Producer ids below ``next_producer_id`` may be in use."""

    next_producer_id: int


Update = (
    ControllerElected
    | BrokerRegistered
    | BrokerUnfenced
    | BrokerFenced
    | BrokerStateChanged
    | BrokerUnregistered
    | PartitionActorAllocated
    | PartitionActorStarted
    | PartitionActorLost
    | TopicCreated
    | PartitionsCreated
    | TopicDeleted
    | ReplicasRemoved
    | LeadersChanged
    | PartitionsChanged
    | PartitionsOpened
    | TopicConfigChanged
    | BrokerConfigChanged
    | SchemaAdded
    | ProducerIdsAllocated
)

_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final[msgspec.msgpack.Decoder[Update]] = msgspec.msgpack.Decoder(Update)


def encode(update: Update) -> bytes:
    """The update as it stands in the metadata log."""
    return _ENCODER.encode(update)


def decode(data: bytes | memoryview) -> Update:
    """The update in ``data``; ``UnsupportedVersionError`` when this version cannot read it."""
    try:
        return _DECODER.decode(data)
    except msgspec.MsgspecError as error:
        raise UnsupportedVersionError(
            f"the metadata log holds an entry that this version cannot read ({error}); start the"
            " version of raykafka that wrote it, or a newer one"
        ) from error
