"""Which open transactions of partitions nobody is ever going to end (KIP-664)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from raykafka.model import TopicPartition
from raykafka.protocol.txn_messages import DescribedTransaction, ProducerInfo

_ENDED: Final = frozenset(("Empty", "CompleteCommit", "CompleteAbort"))


class HangingTransaction(NamedTuple):
    """A transaction that is open in a partition and unknown to its coordinator.

    Readers that are read-committed get no further than ``start_offset`` until it is aborted with
    ``Admin.abort_transaction``.
    """

    topic: str
    partition: int
    producer_id: int
    producer_epoch: int
    start_offset: int
    last_timestamp_ms: int
    """When its producer wrote there last."""
    transactional_id: str
    """Of the producer, where a coordinator knows it; else empty."""


def open_since(
    producers: Mapping[TopicPartition, Sequence[ProducerInfo]], before_ms: int
) -> list[tuple[TopicPartition, ProducerInfo]]:
    """Transactions that are open and in which nothing was written since ``before_ms``."""
    return [
        (place, producer)
        for place, found in producers.items()
        for producer in found
        if producer.transaction_start_offset >= 0 and producer.last_timestamp_ms <= before_ms
    ]


def hanging(
    candidates: Iterable[tuple[TopicPartition, ProducerInfo]],
    known: Iterable[DescribedTransaction],
) -> list[HangingTransaction]:
    """Those of ``candidates`` that no coordinator has open in that partition.

    ``known`` is what coordinators say of the transactional ids of the candidates' producers.
    """
    by_producer = {each.producer_id: each for each in known}
    found = []
    for place, producer in candidates:
        transaction = by_producer.get(producer.producer_id)
        if transaction is not None and transaction.state not in _ENDED:
            places = {(part.topic, part.partition) for part in transaction.partitions}
            if place in places and transaction.producer_epoch == producer.producer_epoch:
                continue
        found.append(
            HangingTransaction(
                place.topic,
                place.partition,
                producer.producer_id,
                producer.producer_epoch,
                producer.transaction_start_offset,
                producer.last_timestamp_ms,
                "" if transaction is None else transaction.transactional_id,
            )
        )
    return found
