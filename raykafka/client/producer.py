"""The producer: ``send`` for records, ``send_table`` for tables."""

from __future__ import annotations

import os
import weakref
from collections.abc import Mapping
from types import TracebackType
from typing import Any, cast

from raykafka.client.cluster.bootstrap import Bootstrap
from raykafka.client.cluster.deadline import Deadline
from raykafka.client.cluster.metadata import ClusterMetadata
from raykafka.client.producing.accumulator import TopicBuffer
from raykafka.client.producing.futures import RecordFuture, TableFuture
from raykafka.client.producing.groups import RECORD_OVERHEAD_BYTES, TableGroup
from raykafka.client.producing.sender import Sender
from raykafka.client.producing.serializers import (
    as_serialize,
    check_headers,
    checked_timestamp,
    row_bytes,
    to_bytes,
)
from raykafka.client.producing.tables import Partitioner, TablePlan
from raykafka.client.producing.target import COLUMN_OVERHEAD_BYTES, Target, largest_batch, too_large
from raykafka.client.transacting.methods import TransactionMethods
from raykafka.client.transacting.transactions import ProducerTransactions
from raykafka.clock import Clock, SystemClock
from raykafka.config.producer import ProducerConfig
from raykafka.errors import (
    ClientClosedError,
    IllegalStateError,
    InvalidRecordError,
    UnknownTopicOrPartitionError,
)

_live: weakref.WeakSet[Producer] = weakref.WeakSet()


class Producer(TransactionMethods):
    """Writes records to topics. Thread-safe; make one per process and share it.

    ``Producer(cluster.bootstrap, linger_ms=10)``; settings are the keys of the producer table in
    ``docs/configuration.md`` with underscores. Idempotence is on by default: with ``acks="all"`` a
    record is written once and in order, whatever is repeated on the way. With a
    ``transactional_id`` records are sent in transactions only, see ``docs/transactions.md``.

    Raises ``InvalidConfigError`` for settings that are unknown or contradict each other.
    """

    def __init__(
        self, bootstrap: Bootstrap, *, clock: Clock | None = None, **settings: object
    ) -> None:
        self._config = config = ProducerConfig.parse(settings)
        clock = clock if clock is not None else SystemClock()
        self._clock = clock
        self._metadata = ClusterMetadata(
            bootstrap,
            client_id=config.client_id,
            request_timeout_ms=config.request_timeout_ms,
            retry_backoff_ms=config.retry_backoff_ms,
            metadata_max_age_ms=config.metadata_max_age_ms,
            clock=clock,
        )
        self._key_serializer = as_serialize(config.key_serializer, "key_serializer")
        self._value_serializer = as_serialize(config.value_serializer, "value_serializer")
        self._partitioner = cast("Partitioner | None", config.partitioner)
        self._known: dict[str, Target] = {}
        self._targets = self._known
        """What ``send`` finds: empty while nothing may be sent, so that it need not ask."""
        # Before the sender's own: who hears of a failure must not find what led to it still here.
        self._metadata.on_update(self._forget_targets)
        if config.transactional_id:
            self._transactions = ProducerTransactions(config, self._metadata, clock)
        self._sender = Sender(config, self._metadata, clock, self._transactions)
        if self._transactions is not None:
            self._transactions.attach(self._sender, self._admit)
        self._append = self._sender.accumulator.append
        self._append_plain = self._sender.accumulator.append_plain
        given = (config.partitioner, config.key_serializer, config.value_serializer)
        self._plain = all(option is None for option in given)
        self._buffers: dict[str, TopicBuffer] = {}
        self._closed = False
        self._pid = os.getpid()
        _live.add(self)

    def send(
        self,
        topic: str,
        value: Any = None,
        key: Any = None,
        headers: Any = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> RecordFuture:
        """Queue one record; the future tells where it was written.

        Without ``partition`` a keyed record goes where Kafka's default partitioner sends it, one
        without key to a partition that changes from batch to batch. ``value`` of a typed topic is
        a mapping (or dataclass) of its columns; None is a tombstone in an untyped one. ``headers``
        are (name, bytes) pairs. ``timestamp_ms`` is milliseconds since the epoch, default now.

        Returns at once, except that it waits up to ``max_block_ms`` for the topic's metadata the
        first time and whenever ``buffer_memory`` is full (``BufferExhaustedError``). Raises
        ``UnknownTopicOrPartitionError``, ``MessageTooLargeError``, ``SerializationError``,
        ``InvalidRecordError``, ``InvalidTimestampError``, ``ClientClosedError``. What happens
        after it was queued is reported by the future.
        """
        target = self._targets.get(topic)
        if target is None:
            target = self._find(topic)
        if (
            type(value) is bytes
            and partition is None
            and headers is None
            and timestamp_ms is None
            and target.plain
            and (key is None or type(key) is bytes)
        ):
            size = len(value) + RECORD_OVERHEAD_BYTES
            if key is not None:
                size += len(key)
            if size > target.largest_batch:
                raise too_large(size, target.largest_batch)
            return self._append_plain(target.buffer, value, key, size)
        return self._send(target, topic, value, key, headers, partition, timestamp_ms)

    def send_table(
        self,
        topic: str,
        data: Any,
        *,
        key: str | None = None,
        partition: int | None = None,
        timestamps: Any = None,
    ) -> TableFuture:
        """Queue a table; the future gives one ``BatchMetadata`` per batch it was cut into.

        ``data`` is an Arrow table or record batch, a pandas or polars frame, a dict of arrays or a
        list of dicts. Its columns must fit the topic's schema (``value`` for an untyped topic).
        ``key`` names the column by whose values rows are distributed like keyed records; a column
        that is not in the schema becomes the records' key only. ``timestamps`` is a column's name,
        an array, or one number of milliseconds; default now. Rows keep their order per partition.

        The columns are sent without a copy: do not change their memory before the future is done.
        Raises like ``send``.
        """
        target = self._targets.get(topic) or self._find(topic)
        now_ms = self._clock.now_ms()
        try:
            plan = TablePlan(data, target.metadata, key=key, timestamps=timestamps, now_ms=now_ms)
        except InvalidRecordError:
            known = target.metadata
            target = self._find(topic, refresh=True)
            if target.metadata.schemas == known.schemas:
                raise
            # A column has been added since the metadata were fetched.
            plan = TablePlan(data, target.metadata, key=key, timestamps=timestamps, now_ms=now_ms)
        metadata = target.metadata
        columns = len(metadata.storage_schemas[metadata.schema_id])
        largest = target.largest_batch
        largest = max(1, largest - COLUMN_OVERHEAD_BYTES * columns, largest // 2)
        parts = plan.cut(partition, self._partitioner, largest)
        group = TableGroup(
            self._sender, topic, self._clock.monotonic_ms(), parts, metadata.schema_id
        )
        if parts:
            size = sum(part.size for part in parts)
            self._sender.accumulator.add(group, size, target.buffer)
            self._sender.assist()
        return TableFuture(group)

    def flush(self, timeout: float | None = None) -> None:
        """Send everything now and wait until every record is acknowledged or has failed.

        Callbacks of those records have run when it returns. ``timeout`` is in seconds; raises
        ``TimeoutError`` when it is up.
        """
        self._check_usable()
        if not self._sender.flush(timeout):
            raise TimeoutError(f"records were still unacknowledged after {timeout:g} s")

    def partitions_for(self, topic: str) -> set[int]:
        """The numbers of the topic's partitions; waits up to ``max_block_ms`` for them."""
        target = self._targets.get(topic) or self._find(topic)
        return set(range(len(target.metadata.partitions)))

    def metrics(self) -> Mapping[str, int]:
        """Counts since the start: records, batches, bytes, retries; and what is under way now."""
        counters = self._sender.counters
        return {
            "records_sent": counters.records_sent,
            "records_failed": counters.records_failed,
            "batches_sent": counters.batches_sent,
            "bytes_sent": counters.bytes_sent,
            "retries": counters.retries,
            "batches_in_flight": self._sender.in_flight,
            "buffer_used_bytes": self._sender.accumulator.used_bytes,
        }

    def close(self, timeout: float | None = None) -> None:
        """Deliver what is queued, for up to ``timeout`` seconds, then let go of everything.

        What has not been delivered by then fails with ``ClientClosedError``. A transaction that is
        open is aborted, one that is prepared stays. Idempotent.
        """
        if self._closed:
            return
        self._check_usable()
        self._closed = True
        self._forget_targets()
        if self._transactions is not None:
            self._transactions.close()
        self._sender.close(timeout)
        self._metadata.close()
        _live.discard(self)

    def __enter__(self) -> Producer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        raise IllegalStateError(
            "a Producer holds threads and connections and cannot be pickled; pickle a TopicHandle "
            "or the bootstrap, and make a Producer where it is needed"
        )

    # --- inside -----------------------------------------------------------------------------------

    def _send(
        self,
        target: Target,
        topic: str,
        value: Any,
        key: Any,
        headers: Any,
        partition: int | None,
        timestamp_ms: int | None,
    ) -> RecordFuture:
        """``send`` for records that are not just bytes."""
        if (key is not None and type(key) is not bytes) or self._key_serializer is not None:
            key = self._key_bytes(topic, key)
        if self._value_serializer is not None:
            value = self._value_serializer(topic, value)
        schema_id = 0
        if target.shape is None:
            if type(value) is not bytes:
                value = to_bytes(value, "value")
            size = RECORD_OVERHEAD_BYTES if value is None else RECORD_OVERHEAD_BYTES + len(value)
        else:
            shape = target.shape
            if not shape.accepts(value):
                target = self._find(topic, refresh=True)
                shape = target.shape or shape
            if key is not None and shape.key_column:
                raise InvalidRecordError(
                    f"the key of topic {topic!r} is its column {shape.key_column!r}; leave key out"
                )
            value = shape.row(topic, value)
            schema_id = shape.schema_id
            size = RECORD_OVERHEAD_BYTES + row_bytes(value)
        if key is not None:
            size += len(key)
        if headers is not None:
            headers = check_headers(headers)
            size += sum(len(name) + len(data or b"") + 8 for name, data in headers or ())
        if timestamp_ms is not None:
            checked_timestamp(timestamp_ms)
        if size > target.largest_batch:
            raise too_large(size, target.largest_batch)
        if partition is not None or self._partitioner is not None:
            partition, target = self._place(target, topic, key, partition)
        return self._append(
            target.buffer, value, key, headers, partition, timestamp_ms, size, schema_id
        )

    def _key_bytes(self, topic: str, key: Any) -> bytes | None:
        if self._key_serializer is not None:
            key = self._key_serializer(topic, key)
        return to_bytes(key, "key")

    def _place(
        self, target: Target, topic: str, key: bytes | None, partition: int | None
    ) -> tuple[int, Target]:
        count = len(target.metadata.partitions)
        if partition is None:
            assert self._partitioner is not None
            partition = self._partitioner(topic, key, count)
        elif type(partition) is int and partition >= count:
            target = self._find(topic, refresh=True)  # some may have been added
            count = len(target.metadata.partitions)
        if type(partition) is not int or not 0 <= partition < count:
            raise UnknownTopicOrPartitionError(
                f"topic {topic!r} has partitions 0 to {count - 1}, not {partition!r}"
            )
        return partition, target

    def _find(self, topic: str, *, refresh: bool = False) -> Target:
        """Look a topic up; once per topic and once after each change of the metadata."""
        self._check_usable()
        targets, refusal = self._targets, self._refusal()
        if refusal is not None:
            raise refusal
        config = self._config
        deadline = Deadline(self._clock, config.max_block_ms)
        if refresh:
            self._metadata.refresh([topic], timeout_ms=config.max_block_ms)
        metadata = self._metadata.topic(topic, timeout_ms=deadline.remaining_ms(1 << 40))
        self._sender.ids.ensure(deadline.remaining_ms(1 << 40))
        largest = largest_batch(config.max_request_size, metadata)
        fresh = self._sender.accumulator.new_buffer(topic, largest)
        buffer = self._buffers.setdefault(topic, fresh)
        buffer.largest = buffer.limit = fresh.largest
        target = Target(metadata, buffer, largest, plain=self._plain)
        return targets.setdefault(topic, target)

    def _admit(self, admitted: bool) -> None:
        """Take records from now on, or none: that is for transactions to say."""
        if admitted:
            for buffer in self._buffers.values():
                buffer.hurry()
        self._targets = self._known if admitted else {}

    def _forget_targets(self) -> None:
        self._known.clear()

    def _check_usable(self) -> None:
        if self._closed:
            raise ClientClosedError("the producer is closed; make a new one")
        if self._pid != os.getpid():
            raise IllegalStateError(
                "the producer was made before this process was forked off; make one here"
            )


def _abandon_after_fork() -> None:
    """Threads and sockets stay with the parent: what was known makes way for a clear error."""
    for producer in list(_live):
        producer._forget_targets()


os.register_at_fork(after_in_child=_abandon_after_fork)
