"""What ``__transaction_state`` says: records, and the keys and values they are written as.

The key is the transactional id, the value its whole state in MessagePack, so the newest record of
a key is all that counts. Compatibility rule: a field is never removed or given a new meaning; a new
one is the last and has a default.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec

from raykafka.errors import CorruptMessageError
from raykafka.txn.states import TransactionStatus

LAST_EPOCH: Final = (1 << 15) - 2
"""The last epoch that a producer may have."""
FENCING_EPOCH: Final = LAST_EPOCH + 1
"""Newer than any producer's: only markers have it, and an id whose epochs are used up."""


class TransactionPartition(NamedTuple):
    """A partition that belongs to a transaction, or shall."""

    topic: str
    topic_id: str
    partition: int


class TransactionTopic(msgspec.Struct, frozen=True, array_like=True):
    """Those of a topic's partitions that belong to a transaction, in the order they came."""

    topic: str
    topic_id: str
    partitions: tuple[int, ...]


def with_partitions(
    topics: tuple[TransactionTopic, ...], added: Iterable[TransactionPartition]
) -> tuple[TransactionTopic, ...]:
    """``topics`` with more partitions; the same object when it has them all."""
    new: dict[str, TransactionTopic] = {}
    for topic, topic_id, partition in added:
        known = new.get(topic_id)
        if known is None:
            known = next((each for each in topics if each.topic_id == topic_id), None)
            known = known or TransactionTopic(topic, topic_id, ())
        if partition not in known.partitions:
            new[topic_id] = TransactionTopic(topic, topic_id, (*known.partitions, partition))
    if not new:
        return topics
    return (*(new.pop(each.topic_id, each) for each in topics), *new.values())


class ProducerIdentity(NamedTuple):
    """A producer id and epoch; -1 and -1 stand for nobody."""

    producer_id: int
    producer_epoch: int


NOBODY: Final = ProducerIdentity(-1, -1)


class EndedTransaction(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The last decision made for a transactional id: what its end's repetition is answered with."""

    transaction: ProducerIdentity
    """Whose batches stand in the partitions."""
    owner: ProducerIdentity
    """Who the id belonged to: the same one, unless the transaction was prepared before."""
    successor: ProducerIdentity
    """Who it has belonged to since (KIP-890)."""
    commit: bool
    requested: bool
    """By a producer; False for one that timed out or was aborted for a new producer."""

    @property
    def marker_epoch(self) -> int:
        """Newer than every epoch under which the transaction's producer id was given out."""
        if self.owner.producer_id != self.transaction.producer_id:
            return FENCING_EPOCH
        return min(self.owner.producer_epoch + 1, FENCING_EPOCH)


class TransactionState(msgspec.Struct, frozen=True, array_like=True):
    """All that is known of a transactional id."""

    owner: ProducerIdentity
    """Who may use it; everybody else is fenced."""
    status: TransactionStatus
    timeout_ms: int
    update_ms: int
    """Time of the last change, in milliseconds since the epoch."""
    two_phase: bool = False
    """Whether its transactions may be prepared (KIP-939)."""
    start_ms: int = -1
    """Begin of the transaction that is open or being ended."""
    transaction: ProducerIdentity = NOBODY
    """Under which identity the open transaction was begun."""
    former: ProducerIdentity = NOBODY
    """Who asked for the epoch that ``owner`` has, if it told its old one (KIP-360)."""
    ended: EndedTransaction | None = None
    topics: tuple[TransactionTopic, ...] = ()
    """Of the open transaction, or those that are owed a marker."""


class TransactionChanged(NamedTuple):
    """The whole state of an id: it takes the place of every record before."""

    transactional_id: str
    state: TransactionState


class TransactionForgotten(NamedTuple):
    """The id was not used for ``transactional.id.expiration.ms``."""

    transactional_id: str


Record = TransactionChanged | TransactionForgotten

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(TransactionState).decode


def encode(record: Record) -> tuple[bytes, bytes | None]:
    """Key and value; a value of None is a tombstone."""
    if isinstance(record, TransactionChanged):
        return record.transactional_id.encode(), _encode(record.state)
    return record.transactional_id.encode(), None


def decode(key: bytes, value: bytes | None) -> Record:
    """The reverse of ``encode``; raises ``CorruptMessageError`` for what is no record."""
    try:
        transactional_id = key.decode()
        if value is None:
            return TransactionForgotten(transactional_id)
        return TransactionChanged(transactional_id, _decode(value))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptMessageError(f"not a record of transactions: {error}") from None
