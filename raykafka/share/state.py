"""What the share coordinator keeps of a share partition: where it starts, and what lies behind.

Leases are not kept: a record that was acquired is available again for the next leader, with the
delivery count that was written last.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from raykafka.share.spans import RecordState, Span, SpanMap

UNINITIALIZED = -1
"""Start offset of a share partition that nobody has begun to read."""


class StateBatch(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Records from ``first_offset`` to ``last_offset`` that are in the same state."""

    first_offset: int
    last_offset: int
    delivery_state: int
    """0 available, 2 acknowledged, 3 archiving, 4 archived."""
    delivery_count: int


class ShareState:
    """One share partition's state; ``write`` overlays what has changed."""

    __slots__ = ("_spans", "leader_epoch", "start_offset", "state_epoch")

    def __init__(
        self,
        state_epoch: int,
        leader_epoch: int,
        start_offset: int,
        batches: Sequence[StateBatch] = (),
    ) -> None:
        self.state_epoch = state_epoch
        """Grows when somebody else than the leader sets the state, as a reset does."""
        self.leader_epoch = leader_epoch
        """Newest epoch of the partition in which a leader has read or written; older are fenced."""
        self.start_offset = start_offset
        self._spans = SpanMap()
        self._overlay(batches)

    def write(self, leader_epoch: int, start_offset: int, batches: Sequence[StateBatch]) -> None:
        """Take over what a leader has written; writing it again changes nothing."""
        self.leader_epoch = max(self.leader_epoch, leader_epoch)
        if start_offset > self.start_offset:
            self.start_offset = start_offset
            self._spans.drop_before(start_offset)
        self._overlay(batches)

    @property
    def batches(self) -> list[StateBatch]:
        """Everything known behind the start offset."""
        return batches_of(self._spans)

    @property
    def in_flight(self) -> int:
        """Records behind the start offset that are known and not done."""
        done = (RecordState.ACKNOWLEDGED, RecordState.ARCHIVED)
        return sum(len(span) for span in self._spans if span.state not in done)

    def _overlay(self, batches: Sequence[StateBatch]) -> None:
        for batch in batches:
            first = max(batch.first_offset, self.start_offset)
            if first <= batch.last_offset:
                state = RecordState(batch.delivery_state)
                self._spans.put(Span(first, batch.last_offset + 1, state, batch.delivery_count))


def batches_of(spans: SpanMap) -> list[StateBatch]:
    """The spans as they are written."""
    return [
        StateBatch(span.first, span.end - 1, int(span.state), span.delivery_count) for span in spans
    ]
