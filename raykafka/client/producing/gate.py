"""What sending has to know of transactions, where there are any."""

from __future__ import annotations

from typing import Protocol

from raykafka.client.producing.partition_queue import Identity
from raykafka.errors import RaykafkaError


class Identities(Protocol):
    """Who numbers batches: the cluster's producer ids, or those of a transactional id."""

    current: Identity
    """What new batches are numbered under; -1, -1 without idempotence."""

    def ensure(self, timeout_ms: float) -> None:
        """Have an identity."""

    def renew(self, burnt: Identity) -> None:
        """Get a new epoch in the background, unless ``burnt`` is not the current identity."""


class Gate(Identities, Protocol):
    """The transaction of a producer, as whoever sends its batches sees it. Thread-safe."""

    transactional_id: str

    def refusal(self) -> RaykafkaError | None:
        """Why no batch can be sent now; None while a transaction is open."""

    def batch_sent(self) -> None:
        """A batch is on its way: the transaction may have reached the cluster."""

    def understood(self, error: RaykafkaError) -> RaykafkaError:
        """What a leader's refusal means for a transaction."""

    def failed(self, error: RaykafkaError) -> None:
        """Records have failed for good, and the transaction with them."""
