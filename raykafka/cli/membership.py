"""``raykafka consume --group`` and ``--share-group``: reading as a member of a group."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from raykafka import ConsumerRebalanceListener
from raykafka.cli.records import METADATA, ROWS_AT_ONCE, WAIT_MS, RecordWriter
from raykafka.errors import UnknownTopicOrPartitionError
from raykafka.model import TopicPartition

if TYPE_CHECKING:
    from raykafka.client.consumer import Consumer
    from raykafka.client.share_consumer import ShareConsumer

_SHORT_WAIT_MS = 50
"""Whether all is read can be told after a wait only."""


class _Joined(ConsumerRebalanceListener):
    """Notes that the group has given partitions, be it none."""

    joined = False

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        self.joined = True


def copy_as_member(
    consumer: Consumer, topic: str, count: int | None, writer: RecordWriter, *, follow: bool
) -> None:
    """Print until ``count`` records were printed or, unless ``follow``, until this member has
    read what its partitions held when it got them.
    """
    if consumer.partitions_for_topic(topic) is None:
        raise UnknownTopicOrPartitionError(
            f"topic {topic} does not exist; `raykafka topic list` shows those that do"
        )
    listener = _Joined()
    consumer.subscribe([topic], listener=listener)
    printed: dict[TopicPartition, int] = {}
    try:
        _copy_until_read(consumer, listener, count, writer, printed, follow=follow)
    except KeyboardInterrupt:
        assigned = consumer.assignment()
        consumer.commit({place: end for place, end in printed.items() if place in assigned})
        raise


def _copy_until_read(
    consumer: Consumer,
    listener: _Joined,
    count: int | None,
    writer: RecordWriter,
    printed: dict[TopicPartition, int],
    *,
    follow: bool,
) -> None:
    """Notes in ``printed`` where the partitions go on after what has been printed."""
    ends: dict[TopicPartition, int] = {}
    written = 0
    while count is None or written < count:
        limit = ROWS_AT_ONCE if count is None else min(ROWS_AT_ONCE, count - written)
        wait_ms = WAIT_MS if follow else _SHORT_WAIT_MS
        batches = consumer.poll_batches(wait_ms, limit, metadata=METADATA)
        for batch in batches:
            written += writer.write(batch.partition, batch.batch)
        writer.flush()
        printed.update({batch.partition: batch.next_offset for batch in batches})
        if follow or not listener.joined:
            continue
        assigned = consumer.assignment()
        ends.update(consumer.end_offsets(assigned - ends.keys()))
        if all(consumer.position(place) >= ends[place] for place in assigned):
            return


def copy_as_share_member(
    consumer: ShareConsumer, topic: str, count: int | None, writer: RecordWriter, *, follow: bool
) -> None:
    """Print and accept until ``count`` records were printed or, unless ``follow``, until nothing
    is left that this member could have.
    """
    consumer.subscribe([topic])
    written = 0
    while count is None or written < count:
        limit = ROWS_AT_ONCE if count is None else min(ROWS_AT_ONCE, count - written)
        joined = bool(consumer.assignment())
        try:
            batches = consumer.poll_batches(WAIT_MS, limit, metadata=METADATA)
        except KeyboardInterrupt:
            consumer.commit()  # what was printed before is done
            raise
        for batch in batches:
            written += writer.write(batch.partition, batch.batch)
        writer.flush()
        if joined and not batches and not follow:
            break
    consumer.commit()
