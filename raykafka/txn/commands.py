"""What the transaction machine can be asked, and what it answers; all of it is plain data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from raykafka.txn.records import (
    NOBODY,
    ProducerIdentity,
    Record,
    TransactionPartition,
    TransactionTopic,
)


class TransactionLimits(NamedTuple):
    """The broker's settings that the machine obeys."""

    max_timeout_ms: int = 900_000
    """``transaction.max.timeout.ms``."""
    id_expiration_ms: int = 604_800_000
    """``transactional.id.expiration.ms``."""
    two_phase_commit: bool = True
    """``transaction.two.phase.commit.enable``."""


class Outcome(NamedTuple):
    """The records that a command leads to, and its answer once they are committed."""

    records: Sequence[Record]
    answer: Any


# --- commands -----------------------------------------------------------------------------------


class InitTransaction(NamedTuple):
    """Answered by ``TransactionIdentity``, ``ProducerIdNeeded`` or ``MarkersOwed``.

    ``known`` is what the producer has, when it asks for a new epoch (KIP-360).
    """

    transactional_id: str
    timeout_ms: int
    two_phase: bool = False
    keep_prepared: bool = False
    known: ProducerIdentity = NOBODY
    new_producer_id: int = -1
    """One that nobody has had before, where the answer was ``ProducerIdNeeded``."""


class AddPartitions(NamedTuple):
    """Answered by None or ``MarkersOwed``."""

    transactional_id: str
    producer: ProducerIdentity
    partitions: Sequence[TransactionPartition]


class PrepareTransaction(NamedTuple):
    """Answered by None or ``MarkersOwed``."""

    transactional_id: str
    producer: ProducerIdentity


class EndTransaction(NamedTuple):
    """Answered by ``TransactionEnd``, ``ProducerIdNeeded`` or ``MarkersOwed``."""

    transactional_id: str
    producer: ProducerIdentity
    commit: bool
    new_producer_id: int = -1


class CompleteTransaction(NamedTuple):
    """Every marker is written; answered by None, also when that was known.

    Nothing is logged at once: the next record of the id says so, or the next tick.
    """

    transactional_id: str
    transaction: ProducerIdentity
    marker_epoch: int


class ListMarkers(NamedTuple):
    """Answered by all ``Markers`` that are owed: what a new coordinator begins with."""


class DescribeTransactions(NamedTuple):
    """Answered by a ``TransactionDescription`` per id, or ``TransactionalIdNotFoundError``."""

    transactional_ids: Sequence[str]


class ListTransactions(NamedTuple):
    """Answered by the ``TransactionDescription`` of those that match; empty filters match all."""

    states: Sequence[str] = ()
    producer_ids: Sequence[int] = ()
    min_duration_ms: int = -1
    """Only transactions that began at least so long ago (KIP-994)."""


# --- answers ------------------------------------------------------------------------------------


class Markers(NamedTuple):
    """What has to stand in every partition of a transaction before it is complete."""

    transactional_id: str
    transaction: ProducerIdentity
    marker_epoch: int
    commit: bool
    topics: tuple[TransactionTopic, ...]


class TransactionIdentity(NamedTuple):
    """Who the producer is from now on, and whose prepared transaction waits for its end."""

    producer: ProducerIdentity
    prepared: ProducerIdentity = NOBODY


class TransactionEnd(NamedTuple):
    """The decision is made. ``successor`` is who the producer is in its next transaction; nobody
    for one that has ended a prepared transaction while the id belongs to another.
    """

    successor: ProducerIdentity
    markers: Markers | None
    """None when they are written."""


class ProducerIdNeeded(NamedTuple):
    """The command is to be given again with a new producer id."""


class MarkersOwed(NamedTuple):
    """The command is to be given again when these are written."""

    markers: Markers


class TransactionDescription(NamedTuple):
    """A transactional id as operators see it."""

    transactional_id: str
    status: str
    producer: ProducerIdentity
    timeout_ms: int
    start_ms: int
    two_phase: bool
    topics: tuple[TransactionTopic, ...]
