"""The share-partition machine (KIP-932): which records of a partition are whose, for one group.

Records between ``start_offset`` and ``end_offset`` are in flight. A member acquires some under a
lease and acknowledges them before that ends; what is released, or whose lease ends, is available
again until it has been delivered too often. Everything is decided here and nothing is waited for:
the leader writes ``take_changes`` to the share coordinator before it answers an acknowledgement.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from raykafka.errors import InvalidRecordStateError
from raykafka.model import AcknowledgeType
from raykafka.share.leases import Leases
from raykafka.share.spans import NEVER, NOBODY, TERMINAL, RecordState, Span, SpanMap
from raykafka.share.state import StateBatch, batches_of
from raykafka.share.values import (
    DELIVERED_TOO_OFTEN,
    REJECTED,
    Acquired,
    Changes,
    DeadLetter,
    ShareLimits,
    check_types,
)

_RUNS: Final = re.compile(rb"(.)\1*", re.DOTALL)


class SharePartition:
    """One partition as one group sees it. ``now_ms`` is monotonic everywhere."""

    def __init__(
        self, limits: ShareLimits, start_offset: int, batches: Sequence[StateBatch] = ()
    ) -> None:
        """``batches`` is what the coordinator knows; what it does not mention is available."""
        self.limits = limits
        self.start_offset = start_offset
        """Everything before it is done."""
        self.end_offset = start_offset
        """Nothing from there on has been acquired so far."""
        self._log_start = -1
        """Where the log has been cut since; -1 as long as it has not been."""
        self._spans = SpanMap()
        self._available = 0
        self._leases = Leases()
        self._dead: list[DeadLetter] = []
        self._changed: list[tuple[int, int]] = []
        self._written_start = start_offset
        for batch in batches:
            self._restore(batch)
        self._advance()

    # --- looking ----------------------------------------------------------------------------------

    @property
    def in_flight(self) -> int:
        """Records between the start and the end offset, done ones included."""
        return self.end_offset - self.start_offset

    @property
    def spans(self) -> Iterator[Span]:
        """What is known of the records in flight, in order; not to be changed."""
        return iter(self._spans)

    @property
    def next_deadline_ms(self) -> int | None:
        """When the next lease ends."""
        return self._leases.next_ms

    @property
    def acquired(self) -> int:
        """Records that members work on."""
        return self._leases.total

    @property
    def has_changes(self) -> bool:
        """Whether ``take_changes`` has something to write."""
        return bool(self._changed) or self._written_start != self.start_offset

    def first_acquirable(self) -> int | None:
        """Offset of the first record that may be acquired, should the log have it; None while too
        many are in flight.
        """
        if self._available:
            for span in self._spans:
                if span.state is RecordState.AVAILABLE:
                    return span.first
        if self.in_flight >= self.limits.max_record_locks:
            return None
        return self.end_offset

    # --- acquiring --------------------------------------------------------------------------------

    def acquire(
        self,
        member: str,
        first: int,
        end: int,
        max_records: int,
        *,
        now_ms: int,
        holes: Sequence[tuple[int, int]] = (),
    ) -> list[Acquired]:
        """Give ``member`` up to ``max_records`` of the records from ``first`` to before ``end``.

        The log holds all of them but for the offsets in ``holes`` (first, and what follows the
        last), where markers of transactions stand, or what was aborted: nobody gets these. What has
        not been acquired so far begins at ``end_offset``. Records that have failed often are given
        in smaller portions, and alone at last, so that one bad record does not take its neighbours
        with it.
        """
        for hole in holes:
            self.skip(*hole)
        found: list[Acquired] = []
        until_ms = self._lease(now_ms)
        left = max_records
        if self._available:
            for span in self._spans.overlapping(first, end):
                if left <= 0:
                    break
                if span.state is RecordState.AVAILABLE:
                    left -= self._acquire_again(span, member, first, end, left, until_ms, found)
        if first <= self.end_offset:
            self._acquire_new(member, end, left, until_ms, holes, found)
            self._advance()
        return found

    def _acquire_new(
        self,
        member: str,
        end: int,
        left: int,
        until_ms: int,
        holes: Sequence[tuple[int, int]],
        found: list[Acquired],
    ) -> None:
        """Acquire from the end offset on, passing over holes."""
        for low, high in (*holes, (end, end)):
            at = self.end_offset
            count = min(low - at, left, self.limits.max_record_locks - self.in_flight)
            if count > 0:
                state = RecordState.ACQUIRED
                self._spans.append(Span(at, at + count, state, 1, member, until_ms))
                self._leases.add(until_ms, count)
                self.end_offset = at + count
                left -= count
                found.append(Acquired(at, at + count - 1, 1))
            if self.end_offset < low:
                return
            self.skip(low, high)

    def _acquire_again(
        self,
        span: Span,
        member: str,
        first: int,
        end: int,
        left: int,
        until_ms: int,
        found: list[Acquired],
    ) -> int:
        """Acquire a part of an available span; returns what that takes of the caller's limit."""
        start, stop = max(span.first, first), min(span.end, end)
        if span.delivery_count >= self.limits.delivery_limit:  # the limit has been lowered
            self._give_up(start, stop, DELIVERED_TOO_OFTEN)
            return 0
        careful = span.delivery_count >= self.limits.careful_from
        if careful and found:
            return left  # not together with others
        stop = min(stop, start + min(left, self.limits.portion(span.delivery_count)))
        for part in self._spans.within(start, stop):
            part.state = RecordState.ACQUIRED
            part.delivery_count += 1
            part.member = member
            part.until_ms = until_ms
            found.append(Acquired(part.first, part.end - 1, part.delivery_count))
        count = stop - start
        self._available -= count
        self._leases.add(until_ms, count)
        self._spans.join(start, stop)
        return left if careful else count

    def skip(self, first: int, end: int) -> None:
        """There are no records from ``first`` to before ``end`` in the log, nor will there be.

        Nothing changes for what lies behind the end offset, unless it begins there.
        """
        for span in self._spans.overlapping(first, end):
            if span.state is RecordState.AVAILABLE:
                low, high = max(span.first, first), min(span.end, end)
                self._available -= high - low
                self._settle(low, high, RecordState.ARCHIVED)
        start = max(first, self.end_offset)
        if start == self.end_offset and end > start:
            self._spans.append(Span(start, end, RecordState.ARCHIVED))
            self._changed.append((start, end))
            self.end_offset = end
        self._advance()

    def on_log_start(self, offset: int) -> None:
        """The log begins at ``offset`` now: what was before is gone, whoever works on it."""
        if offset <= self.start_offset:
            return
        for span in self._spans.within(self.start_offset, offset):
            self._forget(span)
        self._spans.drop_before(offset)
        self._dead = [each for each in self._dead if each.last_offset >= offset]
        self.start_offset = offset
        self.end_offset = max(self.end_offset, offset)
        self._log_start = offset
        self._advance()

    # --- acknowledging ----------------------------------------------------------------------------

    def acknowledge(self, member: str, first: int, last: int, types: bytes, *, now_ms: int) -> None:
        """Say what became of the records from ``first`` to ``last``.

        ``types`` has one ``AcknowledgeType`` for all of them, or one for each. Records that the log
        has deleted are passed over. Raises ``InvalidRecordStateError`` unless ``member`` holds all
        others, ``InvalidRequestError`` for what is no acknowledgement; nothing changes then.

        Kafka passes over whatever lies before the start offset; here a member whose lease ended is
        told so also when another one has accepted the record meanwhile.
        """
        check_types(first, last, types)
        start = max(first, self._log_start)
        self._check_held(member, start, last + 1)
        if len(types) == 1:
            self._acknowledge_run(start, last + 1, types[0], now_ms)
        else:
            for match in _RUNS.finditer(types):
                low, high = first + match.start(), first + match.end()
                self._acknowledge_run(max(low, start), high, match[0][0], now_ms)
        self._advance()

    def release_member(self, member: str, *, delivered: bool) -> None:
        """Make everything that ``member`` holds available to others.

        ``delivered=False`` takes the delivery back from the count: the application has not seen
        these records. Otherwise it counts, as the application may have died of one.
        """
        for span in list(self._spans):
            if span.state is RecordState.ACQUIRED and span.member == member:
                self._release(span, delivered=delivered)
        self._advance()

    def on_tick(self, *, now_ms: int) -> bool:
        """End the leases that are over; whether any was."""
        if not self._leases.are_over(now_ms):
            return False
        for span in list(self._spans):
            if span.state is RecordState.ACQUIRED and span.until_ms <= now_ms:
                self._release(span, delivered=True)
        self._advance()
        return True

    def _check_held(self, member: str, first: int, end: int) -> None:
        at = first
        for span in self._spans.overlapping(first, end) if first < end else ():
            held = span.state is RecordState.ACQUIRED and span.member == member
            if span.first > at or not held:
                break
            at = span.end
        if at < end:
            raise InvalidRecordStateError(
                f"record {max(at, first)} is not acquired by this member (any more); its lease may "
                "have ended, and another member may have it"
            )

    def _acknowledge_run(self, first: int, end: int, kind: int, now_ms: int) -> None:
        if first >= end:
            return
        if kind == AcknowledgeType.RELEASE:
            for span in self._spans.within(first, end):
                self._release(span, delivered=True)
            return
        if kind == AcknowledgeType.RENEW:
            until_ms = self._lease(now_ms)
            for span in self._spans.within(first, end):
                self._forget(span)
                span.until_ms = until_ms
                self._leases.add(until_ms, len(span))
            self._spans.join(first, end)
            return
        for span in self._spans.within(first, end):
            self._forget(span)
        if kind == AcknowledgeType.REJECT:
            self._give_up(first, end, REJECTED)
        else:
            self._settle(first, end, RecordState.ACKNOWLEDGED)

    def _release(self, span: Span, *, delivered: bool) -> None:
        self._forget(span)
        if not delivered:
            span.delivery_count -= 1
        first, end = span.first, span.end
        if span.delivery_count >= self.limits.delivery_limit:
            self._give_up(first, end, DELIVERED_TOO_OFTEN)
            return
        self._settle(first, end, RecordState.AVAILABLE)
        self._available += end - first

    # --- dead letters -----------------------------------------------------------------------------

    def take_dead_letters(self) -> list[DeadLetter]:
        """Records to write to the dead-letter topic; each is named once, until a new leader comes.

        Tell ``on_dead_lettered`` when they are written.
        """
        dead, self._dead = self._dead, []
        return dead

    def on_dead_lettered(self, first: int, last: int) -> None:
        """The records are in the dead-letter topic, or there is none any more."""
        for span in self._spans.within(max(first, self.start_offset), last + 1):
            if span.state is RecordState.ARCHIVING:
                self._settle(span.first, span.end, RecordState.ARCHIVED)
        self._advance()

    def _give_up(self, first: int, end: int, cause: str) -> None:
        for span in self._spans.within(first, end):
            if span.state is RecordState.AVAILABLE:
                self._available -= len(span)
            elif span.state is RecordState.ACQUIRED:
                span.member, span.until_ms = NOBODY, NEVER
            if self.limits.dead_letters:
                letter = DeadLetter(span.first, span.end - 1, span.delivery_count, cause)
                self._dead.append(letter)
        self._settle(
            first, end, RecordState.ARCHIVING if self.limits.dead_letters else RecordState.ARCHIVED
        )

    # --- inside -----------------------------------------------------------------------------------

    def take_changes(self) -> Changes:
        """What has changed since the last call; whoever takes it writes it, or gives up leading."""
        found = SpanMap()
        for first, end in sorted(self._changed):
            low = max(first, self.start_offset, found.end)
            for span in self._spans.overlapping(low, end) if low < end else ():
                held = span.state is RecordState.ACQUIRED
                state = RecordState.AVAILABLE if held else span.state
                start, stop = max(span.first, low), min(span.end, end)
                found.append(Span(start, stop, state, span.delivery_count))
        self._changed.clear()
        self._written_start = self.start_offset
        return Changes(self.start_offset, batches_of(found))

    def _restore(self, batch: StateBatch) -> None:
        first, end = max(batch.first_offset, self.end_offset), batch.last_offset + 1
        if first >= end:
            return
        if first > self.end_offset:
            self._spans.append(Span(self.end_offset, first, RecordState.AVAILABLE))
            self._available += first - self.end_offset
        state = RecordState(batch.delivery_state)
        if state is RecordState.ACQUIRED:
            state = RecordState.AVAILABLE
        self._spans.append(Span(first, end, state, batch.delivery_count))
        self.end_offset = end
        if state is RecordState.AVAILABLE:
            self._available += end - first
        elif state is RecordState.ARCHIVING:
            often = batch.delivery_count >= self.limits.delivery_limit
            cause = DELIVERED_TOO_OFTEN if often else REJECTED
            self._dead.append(DeadLetter(first, end - 1, batch.delivery_count, cause))

    def _lease(self, now_ms: int) -> int:
        return self._leases.end_of(now_ms, self.limits.lock_duration_ms)

    def _forget(self, span: Span) -> None:
        """The records of ``span`` are not counted where they were any more."""
        if span.state is RecordState.ACQUIRED:
            self._leases.remove(span.until_ms, len(span))
        elif span.state is RecordState.AVAILABLE:
            self._available -= len(span)

    def _settle(self, first: int, end: int, state: RecordState) -> None:
        """Give every record from ``first`` to before ``end`` a state, held by nobody."""
        for span in self._spans.within(first, end):
            span.state = state
            span.member, span.until_ms = NOBODY, NEVER
            if state in TERMINAL:
                span.delivery_count = 0  # nobody asks any more, and more spans are alike
        self._spans.join(first, end)
        self._changed.append((first, end))

    def _advance(self) -> None:
        """Move the start offset over what is done."""
        front = self._spans.front()
        while front is not None and front.state in TERMINAL:
            self.start_offset = front.end
            self._spans.drop_before(front.end)
            front = self._spans.front()
        if front is None:
            self.start_offset = self.end_offset
