"""Producer ids and epochs (KIP-98, KIP-360).

Ids are made durable in blocks, as in Kafka: what a killed controller had not handed out is skipped.
"""

from __future__ import annotations

from typing import Final

from raykafka.controller.commands import AllocateProducerIds, Outcome, ProducerIdAnswer
from raykafka.controller.image import MetadataImage
from raykafka.controller.updates import ProducerIdsAllocated
from raykafka.errors import UnknownProducerIdError

_LAST_EPOCH: Final = (1 << 15) - 2
"""Kafka keeps the largest epoch as a fence; the id is given up before it is reached."""


def allocate_producer_ids(image: MetadataImage, command: AllocateProducerIds) -> Outcome:
    """A block of ids that nobody has had before."""
    first = image.next_producer_id
    return Outcome([ProducerIdsAllocated(first + command.block_size)], first)


def next_epoch(
    image: MetadataImage, producer_id: int, producer_epoch: int
) -> ProducerIdAnswer | None:
    """The producer's next epoch, or None when its epochs are used up and it needs a new id.

    There is nothing to record: who holds the id alone asks for it, and asking twice is harmless.
    Raises ``UnknownProducerIdError`` for an id that was never given out.
    """
    if producer_id >= image.next_producer_id:
        raise UnknownProducerIdError(
            f"producer id {producer_id} was never given out by this cluster; ask for a new one"
        )
    if producer_epoch >= _LAST_EPOCH:
        return None
    return ProducerIdAnswer(producer_id, max(0, producer_epoch + 1))
