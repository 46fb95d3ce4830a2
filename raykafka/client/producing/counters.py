"""What a producer counts."""

from __future__ import annotations

from dataclasses import dataclass

from raykafka.client.producing.delivery import Delivery


@dataclass(slots=True)
class Counters:
    """Totals since the producer was made."""

    records_sent: int = 0
    """Acknowledged, or handed to the socket with ``acks=0``."""
    records_failed: int = 0
    batches_sent: int = 0
    bytes_sent: int = 0
    """Of batches, as they are stored, repeated attempts not counted."""
    retries: int = 0

    def sent(self, delivery: Delivery) -> None:
        """A batch was acknowledged."""
        self.records_sent += delivery.count
        self.batches_sent += 1
        if delivery.encoded is not None:
            self.bytes_sent += delivery.encoded.header.size
