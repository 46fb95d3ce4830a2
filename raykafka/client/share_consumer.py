"""``ShareConsumer``: reads topics as queues, together with others (KIP-932)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import pyarrow as pa

from raykafka.client.cluster.bootstrap import Bootstrap
from raykafka.client.cluster.deadline import Deadline
from raykafka.client.consuming.polled_tables import as_batch, as_table, checked_metadata
from raykafka.client.sharing.arguments import types_of, where
from raykafka.client.sharing.iteration import Iteration, take_rows
from raykafka.client.sharing.share_fetcher import Outcomes
from raykafka.client.sharing.share_parts import assemble
from raykafka.client.sharing.share_records import ShareBatch, ShareRecord, ShareRecords, ShareRows
from raykafka.client.sharing.share_session import Assignment
from raykafka.clock import Clock, SystemClock
from raykafka.config.share_consumer import ShareConsumerConfig
from raykafka.errors import (
    ClientClosedError,
    IllegalStateError,
    InvalidRequestError,
    RequestTimedOutError,
)
from raykafka.model import AcknowledgeType, TopicPartition

CLOSE_TIMEOUT_MS: Final = 10_000
_LONGEST_WAIT_MS: Final = 60_000


class ShareConsumer:
    """A member of a share group: members take records from the same partitions, each record for a
    time of its own, and say of each what became of it.

    There may be more members than partitions. A record that is released, or whose lease
    (``share.record.lock.duration.ms``, 30 s) ends, is delivered again, to anybody; after
    ``share.delivery.count.limit`` deliveries it is given up, as one that is rejected at once. Where
    a group begins, leases, limits and the dead-letter topic are settings of the group: see
    ``Admin.alter_share_group_configs``. Order is kept within what one ``poll`` returns of a
    partition, and otherwise not.

    With ``share_acknowledgement_mode="implicit"`` what ``poll`` returned is accepted by the next
    ``poll`` or ``commit``; with ``"explicit"`` every record has to be acknowledged first. ``close``
    gives back what was neither. Not thread-safe, but for ``wakeup``.
    """

    def __init__(
        self,
        bootstrap: Bootstrap,
        config: ShareConsumerConfig | None = None,
        *,
        clock: Clock | None = None,
        assignment: Assignment | None = None,
        **settings: object,
    ) -> None:
        """``settings`` are those of ``ShareConsumerConfig``; ``group_id`` must be given.

        ``assignment`` stands in the place of the group's coordinator, for tests. Nobody is
        contacted. Raises ``InvalidConfigError``.
        """
        if config is not None and settings:
            raise InvalidRequestError(
                f"give a ShareConsumerConfig or settings, not both ({', '.join(settings)})"
            )
        self._config = config if config is not None else ShareConsumerConfig.parse(settings)
        self._clock = clock if clock is not None else SystemClock()
        self._lock = threading.Lock()
        self._closed = self._woken = False
        self._parts = assemble(self, bootstrap, self._config.consumer, self._clock, assignment)
        self._fetcher = self._parts.fetcher
        self._connections = self._parts.connections
        self._acknowledgements = self._parts.acknowledgements
        self._topics: set[str] = set()
        self._callback: Callable[[Outcomes], None] | None = None
        self._polled: list[ShareRows] = []
        self._iteration = Iteration()

    # --- subscription -----------------------------------------------------------------------------

    def subscribe(self, topics: Iterable[str] = (), pattern: str = "") -> None:
        """Read these topics, or those whose whole name matches ``pattern``, from now on.

        In the place of what was subscribed to before. Raises ``InvalidRequestError`` without
        either, or with both.
        """
        wanted = {topics} if isinstance(topics, str) else set(topics)
        if bool(wanted) == bool(pattern):
            raise InvalidRequestError("subscribe to topics, or to a pattern")
        with self._exclusive():
            self._topics = wanted
            self._parts.assignment.subscribe(wanted, pattern)

    def subscription(self) -> set[str]:
        """The topics subscribed to by name."""
        return set(self._topics)

    def assignment(self) -> set[TopicPartition]:
        """The partitions that this member may read now; others may, too."""
        with self._exclusive():
            return set(self._parts.assignment.partitions())

    # --- reading ----------------------------------------------------------------------------------

    def poll(
        self, timeout_ms: int = 0, max_records: int | None = None
    ) -> dict[TopicPartition, ShareRecords]:
        """Records by partition, acquired for this member: what comes first within ``timeout_ms``.

        At most ``max_records`` (by default ``max_poll_records``); empty when none came. Raises
        ``IllegalStateError`` in explicit mode while records of the last poll are not acknowledged,
        ``CorruptMessageError`` once for records that cannot be read, which are given back, and what
        only the caller can solve.
        """
        found: dict[TopicPartition, list[ShareRows]] = {}
        for rows in self._poll(timeout_ms, max_records):
            found.setdefault(rows.place, []).append(rows)
        return {place: ShareRecords(runs) for place, runs in found.items()}

    def poll_batches(
        self, timeout_ms: int = 0, max_records: int | None = None, metadata: Iterable[str] = ()
    ) -> list[ShareBatch]:
        """Like ``poll``, as columns: runs of records that were acquired together.

        ``metadata`` are columns put before the value's, as for ``Consumer.poll_table``.
        """
        wanted = checked_metadata(metadata)
        return [
            ShareBatch(rows.place, rows.base_offset, rows.delivery_count, as_batch(rows, wanted))
            for rows in self._poll(timeout_ms, max_records)
        ]

    def poll_table(
        self, timeout_ms: int = 0, max_records: int | None = None, metadata: Iterable[str] = ()
    ) -> pa.Table | None:
        """Like ``poll``, as one table, None when no record came; see ``acknowledge_rows``.

        Raises ``IllegalStateError`` when topics that are read together differ in a column's type;
        the next poll has their records then.
        """
        batches = self.poll_batches(timeout_ms, max_records, metadata)
        return as_table([each.batch for each in batches], self.put_back) if batches else None

    def put_back(self) -> None:
        """Have the next poll return the records of the last one again.

        Raises ``IllegalStateError`` where one of them has been acknowledged.
        """
        with self._exclusive():
            if not all(map(self._acknowledgements.is_outstanding, self._polled)):
                raise IllegalStateError("records of the last poll have been acknowledged")
            self._iteration.take_unseen()
            self._put_back(self._polled)
            self._polled = []

    def __iter__(self) -> Iterator[ShareRecord]:
        """Record after record; polls again when those at hand are through.

        Ends after ``consumer_timeout_ms`` without a record (by default never), or on ``wakeup``.
        What it has not returned when something else is called comes again, as after ``break``.
        """
        limit_ms = self._config.consumer.consumer_timeout_ms
        while self._poll(None if limit_ms < 0 else limit_ms, None):
            yield from self.iterate_polled()

    def iterate_polled(self) -> Iterator[ShareRecord]:
        """The records of the last poll one by one, as iterating over the consumer returns them."""
        return self._iteration.over(self._polled)

    # --- acknowledging ----------------------------------------------------------------------------

    def acknowledge(
        self, what: ShareRecord | ShareBatch, type: AcknowledgeType = AcknowledgeType.ACCEPT
    ) -> None:
        """Say what became of a record, or of all records of a batch.

        Sent with the next ``poll`` or ``commit``. Raises ``IllegalStateError`` in implicit mode and
        for what is not outstanding.
        """
        self._acknowledge(what, bytes([AcknowledgeType(type)]))

    def acknowledge_mask(
        self,
        batch: ShareBatch,
        accepted: Any,
        otherwise: AcknowledgeType = AcknowledgeType.RELEASE,
    ) -> None:
        """Accept the rows of a batch for which ``accepted`` (booleans, one per row) is true.

        The others become ``otherwise``. Raises as ``acknowledge`` does.
        """
        self._acknowledge(batch, types_of(accepted, batch.num_rows, otherwise))

    def acknowledge_rows(
        self, accepted: Any = None, otherwise: AcknowledgeType = AcknowledgeType.RELEASE
    ) -> None:
        """Accept the rows of the last poll's table, or where ``accepted`` is false ``otherwise``.

        ``accepted`` are booleans in the order of the table's rows; None accepts all. Raises as
        ``acknowledge`` does.
        """
        rows = sum(run.count for run in self._polled)
        types = b"\x01" * rows if accepted is None else types_of(accepted, rows, otherwise)
        with self._exclusive():
            self._check_explicit()
            start = 0
            for run in self._polled:
                part = types[start : start + run.count]
                start += run.count
                self._acknowledgements.acknowledge(run.place, run.base_offset, run.end_offset, part)

    def renew(self, *records: ShareRecord | ShareBatch, timeout_ms: int | None = None) -> Outcomes:
        """Begin the leases of these records anew; without arguments of all that are outstanding.

        Waits until the leaders have said yes, as ``commit`` does; also in implicit mode.
        """
        with self._exclusive():
            if not records:
                self._acknowledgements.acknowledge_all(AcknowledgeType.RENEW)
            for each in records:
                place, first, end = where(each)
                renew = bytes([AcknowledgeType.RENEW])
                self._acknowledgements.acknowledge(place, first, end, renew)
            return self._settled(timeout_ms)

    def commit(self, timeout_ms: int | None = None) -> Outcomes:
        """Send what is acknowledged and wait until the leaders have made it durable.

        In implicit mode all that ``poll`` returned is accepted. The result tells by partition what
        became of every acknowledgement since the last result: ``InvalidRecordStateError`` where a
        lease had ended. Raises ``RequestTimedOutError`` after ``timeout_ms`` (by default
        ``request_timeout_ms``).
        """
        with self._exclusive():
            self._put_back(self._iteration.take_unseen())
            if not self._config.explicit:
                self._acknowledgements.acknowledge_all(AcknowledgeType.ACCEPT)
            return self._settled(timeout_ms)

    def commit_async(self, callback: Callable[[Outcomes], None] | None = None) -> None:
        """Send what is acknowledged; ``callback`` hears the outcomes, within a later ``poll``,
        ``commit`` or ``close``, and so does every later one until it is replaced.
        """
        with self._exclusive():
            self._put_back(self._iteration.take_unseen())
            if callback is not None:
                self._callback = callback
            if not self._config.explicit:
                self._acknowledgements.acknowledge_all(AcknowledgeType.ACCEPT)
            self._fetcher.tell()

    # --- the rest ---------------------------------------------------------------------------------

    @property
    def acquisition_lock_timeout_ms(self) -> int | None:
        """How long records are leased, as the leaders said last; None before they did."""
        return self._fetcher.lock_timeout_ms or None

    def metrics(self) -> dict[str, Any]:
        """Counters of this consumer."""
        return {
            "records_consumed_total": self._fetcher.records,
            "records_outstanding": self._acknowledgements.outstanding,
            "connection_count": len(self._connections),
        }

    def wakeup(self) -> None:
        """Make a ``poll`` that waits, or else the next one that would, return. Thread-safe."""
        self._woken = True
        self._connections.wake()

    def close(self, timeout_ms: int = CLOSE_TIMEOUT_MS) -> None:
        """Send what is acknowledged, give back the rest, leave the group, close the connections.

        What ``poll`` returned and was not acknowledged is delivered to others; call ``commit``
        first where it is done. Idempotent.
        """
        if self._closed:
            return
        deadline = Deadline(self._clock, timeout_ms)
        with self._exclusive():
            try:
                self._put_back(self._iteration.take_unseen())
                self._acknowledgements.acknowledge_all(AcknowledgeType.RELEASE)
                self._fetcher.release()
                self._wait_answers(deadline)
                self._call_back()
            finally:
                self._closed = True
                try:
                    self._parts.assignment.close(int(deadline.remaining_ms(timeout_ms)))
                finally:
                    self._parts.close()

    def __enter__(self) -> ShareConsumer:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    # --- inside -----------------------------------------------------------------------------------

    def _poll(self, timeout_ms: int | None, max_records: int | None) -> list[ShareRows]:
        limit = self._config.consumer.max_poll_records if max_records is None else max_records
        if limit < 1:
            raise InvalidRequestError(f"max_records is at least 1, not {limit}")
        with self._exclusive():
            self._put_back(self._iteration.take_unseen())
            assignment, acknowledgements = self._parts.assignment, self._acknowledgements
            if not self._config.explicit:
                acknowledgements.acknowledge_all(AcknowledgeType.ACCEPT)
            elif acknowledgements.outstanding:
                raise IllegalStateError(
                    f"{acknowledgements.outstanding} records of the last poll are not "
                    "acknowledged; accept, release or reject them first"
                )
            assignment.start_poll()
            try:
                self._wait_ready(Deadline(self._clock, timeout_ms), limit)
            finally:
                assignment.end_poll()
            self._call_back()  # before records are taken, which an exception would lose
            self._polled = take_rows(self._fetcher.ready, limit)
            for rows in self._polled:
                acknowledgements.deliver(rows)
            return self._polled

    def _wait_ready(self, deadline: Deadline, max_records: int) -> None:
        fetcher, first = self._fetcher, True
        while not fetcher.ready:
            if fetcher.error is not None:
                error, fetcher.error = fetcher.error, None
                raise error
            if self._woken or (deadline.expired and not first):
                break
            fetcher.fetch(self._parts.assignment.partitions(), max_records)
            fetcher.tell()
            if not fetcher.ready:
                left_ms = deadline.remaining_ms(_LONGEST_WAIT_MS)
                self._connections.pump(int(fetcher.retry_in_ms(int(left_ms))))
            first = False
        self._woken = False
        fetcher.tell()

    def _put_back(self, polled: list[ShareRows]) -> None:
        for rows in filter(self._acknowledgements.is_outstanding, reversed(polled)):
            self._acknowledgements.withdraw(rows)
            self._fetcher.ready.appendleft(rows)

    def _acknowledge(self, what: ShareRecord | ShareBatch, types: bytes) -> None:
        with self._exclusive():
            self._check_explicit()
            place, first, end = where(what)
            self._acknowledgements.acknowledge(place, first, end, types)

    def _check_explicit(self) -> None:
        if not self._config.explicit:
            raise IllegalStateError(
                "records are acknowledged by poll and commit in implicit mode; make the consumer "
                'with share_acknowledgement_mode="explicit"'
            )

    def _settled(self, timeout_ms: int | None) -> Outcomes:
        limit = self._config.consumer.request_timeout_ms if timeout_ms is None else timeout_ms
        self._fetcher.tell()
        if not self._wait_answers(Deadline(self._clock, limit)):
            raise RequestTimedOutError(
                f"the leaders did not answer in {limit} ms; what was acknowledged may be durable"
            )
        outcomes = self._fetcher.take_outcomes()
        if self._callback is not None and outcomes:
            self._callback(outcomes)
        return outcomes

    def _wait_answers(self, deadline: Deadline) -> bool:
        while self._fetcher.unanswered:
            if deadline.expired:
                return False
            self._connections.pump(int(deadline.remaining_ms(_LONGEST_WAIT_MS)))
        return True

    def _call_back(self) -> None:
        if self._callback is not None and self._fetcher.outcomes:
            self._callback(self._fetcher.take_outcomes())

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        if not self._lock.acquire(blocking=False):
            raise IllegalStateError(
                "the share consumer is in use by another thread; give each thread its own"
            )
        try:
            if self._closed:
                raise ClientClosedError("the share consumer is closed; make a new one")
            yield
        finally:
            self._lock.release()
