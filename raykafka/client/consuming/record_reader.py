"""Waits for records and hands them out: what ``poll``, tables and iteration have in common."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from raykafka.client.cluster.deadline import Deadline
from raykafka.client.cluster.leader_connections import LeaderConnections
from raykafka.client.consuming.fetch_queue import FetchedBatch
from raykafka.client.consuming.fetcher import Fetcher, FetchFailure
from raykafka.client.consuming.records import ConsumerRecord, ConsumerRecords
from raykafka.client.consuming.rows import Rows
from raykafka.client.consuming.subscription import Subscription
from raykafka.clock import Clock
from raykafka.errors import CorruptMessageError, RaykafkaError, RequestTimedOutError
from raykafka.model import TopicPartition

_LONGEST_WAIT_MS = 60_000
_ITERATED_ROWS = 4096
"""Rows made into Python objects together while iterating, however large their batch is."""
UNBOUNDED = 1 << 62


class BetweenRecords(Protocol):
    """What else a consumer has to do while nobody has records of it in hand."""

    def start_poll(self) -> None:
        """A poll begins: whatever was handed out before has been dealt with."""

    def end_poll(self) -> None:
        """The poll ends, with or without records."""

    def serve(self) -> None:
        """Do what is due; the subscription may be another one afterwards."""

    def due_in_ms(self, at_most_ms: int) -> int:
        """Milliseconds until ``serve`` has something to do, as far as is known."""


class RecordReader:
    """Moves positions as records are handed out. Not thread-safe, but for ``wake``."""

    def __init__(
        self,
        subscription: Subscription,
        fetcher: Fetcher,
        connections: LeaderConnections,
        clock: Clock,
    ) -> None:
        self._subscription = subscription
        self._fetcher = fetcher
        self._connections = connections
        self._clock = clock
        self._woken = False
        self._metadata_changed = False
        self._iterated: FetchedBatch | None = None
        self._iterator: Iterator[ConsumerRecord] = iter(())
        self._last: ConsumerRecord | None = None
        self.records = 0
        """Records handed out so far."""
        self.group: BetweenRecords | None = None
        """Set for a consumer with a group."""
        self.interrupted = False
        """Whether iteration must let ``group`` serve before it goes on."""

    @property
    def last(self) -> ConsumerRecord | None:
        """The record that iteration has returned last, since the last wait."""
        return self._last

    def interrupt(self) -> None:
        """Let ``group`` serve soon. Thread-safe."""
        self.interrupted = True
        self._connections.wake()

    def wake(self) -> None:
        """End the wait under way, or the next one. Thread-safe."""
        self._woken = True
        self._connections.wake()

    def on_metadata(self) -> None:
        """Fresh metadata have arrived. Thread-safe."""
        self._metadata_changed = True
        self._connections.wake()

    def maintain(self) -> None:
        """Let the fetcher see to what has changed; raises what only the caller can solve."""
        if self._metadata_changed:
            self._metadata_changed = False
            self._fetcher.changed()
        self._fetcher.maintain()

    def wait(self, timeout_ms: int | None) -> FetchedBatch | None:
        """The batch whose turn it is, once there is one; None when time is up or ``wake`` came.

        Raises what stands at a partition's position, once nothing else is there to hand out.
        """
        group = self.group
        if group is None:
            return self._wait(timeout_ms)
        group.start_poll()
        try:
            group.serve()
            return self._wait(timeout_ms)
        finally:
            group.end_poll()

    def _wait(self, timeout_ms: int | None) -> FetchedBatch | None:
        group = self.group
        queue = self._fetcher.queue
        deadline: Deadline | None = None
        self.maintain()
        while True:
            batch = queue.head(self._subscription.paused)
            if batch is not None:
                if batch.columns.num_rows:
                    self._woken = False  # returning is all that was asked for
                    return batch
                self._consumed(batch, 0)
                continue
            failure = self._fetcher.due_failure()
            if failure is not None:
                raise _described(failure)
            if self._woken:
                self._woken = False
                return None
            if deadline is None:
                deadline = Deadline(self._clock, timeout_ms)
                remaining = _LONGEST_WAIT_MS if timeout_ms is None else timeout_ms
            elif deadline.expired:
                return None
            else:
                remaining = deadline.remaining_ms(_LONGEST_WAIT_MS)
            if group is not None:
                remaining = group.due_in_ms(remaining)
            self._connections.pump(self._fetcher.retry_in_ms(min(remaining, _LONGEST_WAIT_MS)))
            if group is not None:
                group.serve()
            if group is not None or queue.head(self._subscription.paused) is None:
                self.maintain()

    def take(
        self, max_records: int, max_bytes: float = UNBOUNDED, *, refill: bool = False
    ) -> Iterator[Rows]:
        """Hand out what has arrived, batch after batch, until one of the limits is reached.

        Batches are not split to keep ``max_bytes``: the last one may exceed it. With ``refill``
        what arrives meanwhile is handed out as well, as long as there is no need to wait.
        """
        queue = self._fetcher.queue
        paused = self._subscription.paused
        while max_records > 0 and max_bytes > 0:
            batch = queue.head(paused)
            if batch is None:
                if refill and self._refill():
                    continue
                return
            rows = batch.rows(max_records)
            self._consumed(batch, rows.count)
            if rows.count:
                max_records -= rows.count
                max_bytes -= rows.count * batch.row_bytes
                yield rows

    def _refill(self) -> bool:
        """Take in what has arrived; whether that brought anything."""
        before = self._fetcher.frames
        self.maintain()
        self._connections.pump(0)
        return self._fetcher.frames > before

    def next_record(self, timeout_ms: int | None) -> ConsumerRecord | None:
        """The next record one by one; None when time is up or ``wake`` came."""
        record = None if self.interrupted else next(self._iterator, None)
        if record is None:
            self.settle()
            batch = self.wait(timeout_ms)
            if batch is None:
                return None
            self._iterated = batch
            self._iterator = iter(ConsumerRecords([batch.rows(_ITERATED_ROWS)]))
            record = next(self._iterator)
        self._last = record
        return record

    def rest(self) -> Iterator[ConsumerRecord]:
        """The records at hand after ``next_record``, until something else is called."""
        batch = self._iterated
        for record in self._iterator:
            self._last = record
            yield record
            if self._iterated is not batch or self.interrupted:
                return

    def settle(self) -> None:
        """Make the position follow the last record that iteration has returned."""
        batch, last = self._iterated, self._last
        if batch is None:
            return
        self._iterated = self._last = None
        self._iterator = iter(())
        if last is not None:
            self._consumed(batch, last.offset + 1 - batch.offset)

    def find_position(self, partition: TopicPartition, timeout_ms: int) -> int:
        """The partition's position, looked up if there is none yet.

        Raises ``RequestTimedOutError`` when that takes longer than ``timeout_ms``.
        """
        state = self._subscription.state(partition)
        deadline = Deadline(self._clock, timeout_ms)
        while state.position is None:
            self.maintain()
            if state.position is None:
                if deadline.expired:
                    raise RequestTimedOutError(
                        f"the position of {partition} was not found in {timeout_ms} ms; "
                        "its leader may be down"
                    )
                remaining = deadline.remaining_ms(_LONGEST_WAIT_MS)
                self._connections.pump(self._fetcher.retry_in_ms(remaining))
        return state.position

    def _consumed(self, batch: FetchedBatch, count: int) -> None:
        position = self._fetcher.queue.consume(batch, count)
        self._subscription.state(batch.partition).position = position
        self.records += count


def _described(failure: FetchFailure) -> RaykafkaError:
    """The error with the place that the caller may seek past."""
    error = failure.error
    hint = ""
    if isinstance(error, CorruptMessageError):
        hint = "; read it again, and if it stays so, seek past it"
    return type(error)(f"{failure.partition} at offset {failure.offset}: {error.message}{hint}")
