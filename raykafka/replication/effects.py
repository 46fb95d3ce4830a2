"""Everything a replica asks its shell to do. Tokens are the shell's own and come back unread."""

from __future__ import annotations

from typing import Any, NamedTuple

from raykafka.errors import RaykafkaError


class ReplyProduce(NamedTuple):
    """Answer the parked produce: with success, or with ``error``."""

    token: Any
    error: RaykafkaError | None = None


class AdvanceHighWatermark(NamedTuple):
    """Records below ``high_watermark`` are committed: parked fetches may be served."""

    high_watermark: int


class ProposeIsr(NamedTuple):
    """Ask the controller for another ISR; ``IsrChanged`` or ``IsrRefused`` is the answer."""

    isr: frozenset[int]
    partition_epoch: int


ReplicaEffect = ReplyProduce | AdvanceHighWatermark | ProposeIsr
