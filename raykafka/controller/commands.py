"""What the metadata machine can be asked, and what it answers; all of it is plain data.

A command with several items answers each of them: an item's error stands in its answer and leaves
the other items alone. A command about one thing raises its error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from raykafka.controller.updates import OpenedPartition, Update
from raykafka.errors import RaykafkaError
from raykafka.model import PartitionId, TopicId, TopicPartition


class Outcome(NamedTuple):
    """The records that a command leads to, and its answer once they are durable."""

    records: Sequence[Update]
    answer: Any


# --- topics -------------------------------------------------------------------------------------


class TopicToCreate(NamedTuple):
    """-1 takes the cluster's default. ``schema`` has been checked by the caller.

    ``assignments`` names the brokers of each partition, preferred leader first, in the place of a
    count and a factor.
    """

    name: str
    topic_id: TopicId
    """Fresh and random: the machine makes no identifiers."""
    num_partitions: int = -1
    replication_factor: int = -1
    configs: Mapping[str, str] = {}
    schema: bytes = b""
    assignments: Sequence[Sequence[int]] = ()
    internal: bool = False
    """Whether a coordinator keeps its state in it; users cannot make these."""


class CreateTopics(NamedTuple):
    """Answered by a ``TopicAnswer`` per topic."""

    topics: Sequence[TopicToCreate]
    validate_only: bool = False


class DeleteTopics(NamedTuple):
    """Answered by a ``TopicAnswer`` per name."""

    names: Sequence[str]


class PartitionsToCreate(NamedTuple):
    """The topic shall have ``total_count`` partitions, more than it has.

    ``assignments`` names the brokers of each new one; empty leaves it to the controller.
    """

    name: str
    total_count: int
    assignments: Sequence[Sequence[int]] = ()


class CreatePartitions(NamedTuple):
    """Answered by a ``TopicAnswer`` per topic."""

    topics: Sequence[PartitionsToCreate]
    validate_only: bool = False


class TopicAnswer(NamedTuple):
    """What became of one topic of a command."""

    name: str
    topic_id: str = ""
    num_partitions: int = -1
    error: RaykafkaError | None = None


class AddSchema(NamedTuple):
    """Appends a whole schema to a typed topic; answered by its schema id.

    ``schema_id`` is the id the caller expects, so that a schema made from an outdated one is
    refused with ``InvalidUpdateVersionError`` instead of dropping a column.
    """

    topic: str
    schema_id: int
    schema: bytes


# --- configuration ------------------------------------------------------------------------------


class SettingChange(NamedTuple):
    """``op`` is ``set`` or ``delete`` (back to the default), as in KIP-339."""

    name: str
    value: str = ""
    op: str = "set"


class ResourceToAlter(NamedTuple):
    """``type`` is ``topic`` or ``broker``; a broker's name is its id, or empty for all of them."""

    type: str
    name: str
    changes: Sequence[SettingChange]


class AlterConfigs(NamedTuple):
    """Answered by an error or None per resource."""

    resources: Sequence[ResourceToAlter]
    validate_only: bool = False


# --- operations ---------------------------------------------------------------------------------


class Reassignment(NamedTuple):
    """The replicas that a partition shall have, preferred leader first; None cancels (KIP-455)."""

    topic: str
    partition: int
    replicas: Sequence[int] | None


class AlterReassignments(NamedTuple):
    """Answered by an error or None per partition."""

    changes: Sequence[Reassignment]


class ElectLeaders(NamedTuple):
    """The preferred replica shall lead; with ``unclean`` anyone, where nobody does (KIP-460).

    Answered by an ``ElectionAnswer`` per partition; ``partitions`` None stands for all of them, and
    only those are answered then that got another leader.
    """

    unclean: bool
    partitions: Sequence[TopicPartition] | None = None


class ElectionAnswer(NamedTuple):
    """What became of one election."""

    topic: str
    partition: int
    error: RaykafkaError | None = None


class DrainBroker(NamedTuple):
    """The broker takes no new replicas, or again, when ``draining`` is False.

    Raises ``InvalidReplicationFactorError`` when the others are too few for what it holds.
    """

    broker_id: int
    draining: bool = True


class ShutDownBroker(NamedTuple):
    """The broker is about to stop: others lead, and it leaves every ISR where it is not alone.

    Answered by the number of partitions that it leads still. Raises ``NotEnoughReplicasError``
    (retriable) where writes with acks=all would be refused for the time, unless ``force``.
    """

    broker_id: int
    force: bool = False


class ResumeBroker(NamedTuple):
    """The broker did not stop after all."""

    broker_id: int


class UnregisterBroker(NamedTuple):
    """The broker is gone for good. Raises ``InvalidRequestError`` while it runs or has replicas."""

    broker_id: int


# --- producers ----------------------------------------------------------------------------------


class AllocateProducerIds(NamedTuple):
    """A block of fresh producer ids; answered by the first of them."""

    block_size: int


class ProducerIdAnswer(NamedTuple):
    """The id and epoch to write with."""

    producer_id: int
    producer_epoch: int


# --- the cluster's actors -----------------------------------------------------------------------


class ElectController(NamedTuple):
    """A controller takes over; answered by its epoch. The first one names the cluster."""

    cluster_id: str
    cluster_name: str
    host: str
    port: int


class RegisterBroker(NamedTuple):
    """A broker shall be started on a node; answered by its ``BrokerState``."""

    broker_id: int
    """-1 gives a new node an id, and incarnation 0; see also ``brokers.match_broker``."""
    node_id: str
    host: str
    rack: str
    slots: int


class UnfenceBroker(NamedTuple):
    """The broker's actor runs. Raises ``StaleBrokerEpochError`` for another incarnation."""

    broker_id: int
    incarnation: int
    pid: int
    directory_id: str = ""
    """Of its log directory; empty leaves open which one it is."""
    clean: bool = True
    """False when the machine may have lost what the last incarnation wrote."""
    last_incarnation: int = -1
    """The incarnation that used the directory before; -1 leaves it open."""


class FenceBroker(NamedTuple):
    """The broker's actor is gone or silent; a no-op for another incarnation."""

    broker_id: int
    incarnation: int


class AllocatePartitionActor(NamedTuple):
    """A partition actor shall be started; answered by its incarnation."""

    broker_id: int
    slot: int


class StartPartitionActor(NamedTuple):
    """The partition actor listens: elect. ``StaleBrokerEpochError`` for another incarnation."""

    broker_id: int
    slot: int
    incarnation: int
    host: str
    port: int
    pid: int


class LosePartitionActor(NamedTuple):
    """The partition actor is gone; a no-op for another incarnation or one already lost."""

    broker_id: int
    slot: int
    incarnation: int


class FailReplicas(NamedTuple):
    """A partition actor could not open replicas, or their logs failed; what is old is ignored."""

    broker_id: int
    slot: int
    incarnation: int
    partitions: Sequence[PartitionId]


class IsrMember(NamedTuple):
    """A replica in sync, and the incarnation of its partition actor that is (KIP-903)."""

    broker_id: int
    incarnation: int


class IsrChange(NamedTuple):
    """The ISR that a leader proposes, and the versions of what it knows."""

    topic_id: TopicId
    partition: int
    leader_epoch: int
    partition_epoch: int
    isr: Sequence[IsrMember]


class AlterPartitions(NamedTuple):
    """A leader's proposals (KIP-497); answered by an ``IsrAnswer`` each.

    Raises ``StaleBrokerEpochError`` for another incarnation.
    """

    broker_id: int
    slot: int
    incarnation: int
    changes: Sequence[IsrChange]


class IsrAnswer(NamedTuple):
    """What holds from now on; with an ``error`` the other fields say what is known."""

    topic_id: TopicId
    partition: int
    leader: int = -1
    leader_epoch: int = -1
    partition_epoch: int = -1
    isr: tuple[int, ...] = ()
    error: RaykafkaError | None = None


class ReportReplicas(NamedTuple):
    """A partition actor opened or removed replicas; what is out of date is ignored."""

    broker_id: int
    slot: int
    incarnation: int
    opened: Mapping[TopicId, Sequence[OpenedPartition]]
    removed: Sequence[PartitionId] = ()


Command = (
    CreateTopics
    | DeleteTopics
    | CreatePartitions
    | AddSchema
    | AlterConfigs
    | AlterReassignments
    | ElectLeaders
    | DrainBroker
    | ShutDownBroker
    | ResumeBroker
    | UnregisterBroker
    | AllocateProducerIds
    | ElectController
    | RegisterBroker
    | UnfenceBroker
    | FenceBroker
    | AllocatePartitionActor
    | StartPartitionActor
    | LosePartitionActor
    | ReportReplicas
    | FailReplicas
    | AlterPartitions
)
