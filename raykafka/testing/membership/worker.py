"""One member of the group, in a process of its own: polls, commits, and tells what it owns."""

from __future__ import annotations

from collections.abc import Iterable
from multiprocessing.connection import Connection
from typing import Final, NamedTuple

from raykafka.client.cluster.bootstrap import Bootstrap
from raykafka.client.consumer import Consumer
from raykafka.client.consuming.rebalance_listener import ConsumerRebalanceListener
from raykafka.clock import SystemClock
from raykafka.errors import RaykafkaError
from raykafka.model import TopicPartition

POLL_MS: Final = 20

ASSIGNED: Final = "assigned"
REVOKED: Final = "revoked"
LOST: Final = "lost"
POLLED: Final = "polled"
COMMITTED: Final = "committed"
REFUSED: Final = "refused"
LEFT: Final = "left"


class Event(NamedTuple):
    """Something that one member did, by the machine's monotonic clock."""

    what: str
    at_ms: int
    partitions: tuple[int, ...] = ()
    offsets: tuple[int, ...] = ()
    text: str = ""


class _Teller(ConsumerRebalanceListener):
    def __init__(self, tell: Connection, clock: SystemClock) -> None:
        self._tell = tell
        self._clock = clock

    def on_partitions_assigned(self, partitions: Iterable[TopicPartition]) -> None:
        self._send(ASSIGNED, partitions)

    def on_partitions_revoked(self, partitions: Iterable[TopicPartition]) -> None:
        self._send(REVOKED, partitions)

    def on_partitions_lost(self, partitions: Iterable[TopicPartition]) -> None:
        self._send(LOST, partitions)

    def _send(self, what: str, partitions: Iterable[TopicPartition]) -> None:
        numbers = tuple(sorted(each.partition for each in partitions))
        self._tell.send(Event(what, self._clock.monotonic_ms(), numbers))


def run_member(
    bootstrap: Bootstrap, topic: str, group_id: str, instance_id: str, tell: Connection
) -> None:
    """Until something is sent through ``tell``: then leave the group."""
    clock = SystemClock()
    consumer = Consumer(
        bootstrap,
        group_id=group_id,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        group_instance_id=instance_id,
    )
    consumer.subscribe([topic], listener=_Teller(tell, clock))
    while not tell.poll():
        try:
            found = consumer.poll(POLL_MS)
            numbers = tuple(sorted(each.partition for each in consumer.assignment()))
            tell.send(Event(POLLED, clock.monotonic_ms(), numbers))
            if found:
                consumer.commit()
                committed = {place.partition: consumer.position(place) for place in found}
                tell.send(
                    Event(
                        COMMITTED,
                        clock.monotonic_ms(),
                        tuple(committed),
                        tuple(committed.values()),
                    )
                )
        except RaykafkaError as error:
            tell.send(Event(REFUSED, clock.monotonic_ms(), text=repr(error)))
    consumer.close()
    tell.send(Event(LEFT, clock.monotonic_ms()))
