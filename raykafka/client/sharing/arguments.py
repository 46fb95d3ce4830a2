"""What a share consumer's methods are given: which records, and what became of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from raykafka.client.sharing.share_records import ShareBatch, ShareRecord
from raykafka.errors import InvalidRequestError
from raykafka.model import AcknowledgeType, TopicPartition


def where(what: ShareRecord | ShareBatch) -> tuple[TopicPartition, int, int]:
    """Partition, first offset and what follows the last; raises ``InvalidRequestError``."""
    if isinstance(what, ShareBatch):
        return what.partition, what.base_offset, what.base_offset + what.num_rows
    if not isinstance(what, ShareRecord):
        raise InvalidRequestError(
            f"a record or a batch that poll returned is acknowledged, not {type(what).__name__}"
        )
    return what.topic_partition, what.offset, what.offset + 1


def types_of(accepted: Any, rows: int, otherwise: AcknowledgeType) -> bytes:
    """One acknowledgement type for each row; raises ``InvalidRequestError``."""
    if isinstance(accepted, (pa.Array, pa.ChunkedArray)):
        accepted = accepted.to_numpy(zero_copy_only=False)
    mask = np.asarray(accepted)
    if mask.shape != (rows,) or mask.dtype != np.bool_:
        raise InvalidRequestError(f"one boolean for each of {rows} rows is needed")
    chosen = np.where(mask, np.uint8(AcknowledgeType.ACCEPT), np.uint8(AcknowledgeType(otherwise)))
    return bytes(chosen.astype(np.uint8).tobytes())
