"""What an application hears of its group."""

from __future__ import annotations

from collections.abc import Collection

from raykafka.model import TopicPartition


class ConsumerRebalanceListener:
    """Told what a consumer gets and gives up; override what is needed (Kafka's interface).

    Called by ``poll`` in the thread that polls, and by ``unsubscribe`` and ``close``. A callback
    may call every method of the consumer but ``poll`` and iteration. What one raises is raised by
    ``poll``, once the rebalance is through.
    """

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """These have been added; positions can be moved here before anything is read."""

    def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """These are about to be given up; they are still owned, and can be committed here."""

    def on_partitions_lost(self, lost: Collection[TopicPartition]) -> None:
        """These are gone already: the member was removed, and they may be read by others.

        Calls ``on_partitions_revoked`` unless it is overridden, as in Kafka.
        """
        self.on_partitions_revoked(lost)
