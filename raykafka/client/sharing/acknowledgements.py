"""What a share consumer has been given, and what it has to tell the leaders of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from raykafka.client.sharing.share_records import ShareRows
from raykafka.errors import IllegalStateError
from raykafka.model import AcknowledgeType, Endpoint, TopicPartition
from raykafka.protocol.share_messages import AcknowledgementBatch
from raykafka.share.spans import RecordState, Span, SpanMap


class _Said(NamedTuple):
    """An acknowledgement that has not been sent: one type for all records, or one for each."""

    first: int
    end: int
    types: bytes


class Acknowledgements:
    """Records that were delivered and not acknowledged, and acknowledgements not sent yet."""

    def __init__(self) -> None:
        self._delivered: dict[TopicPartition, SpanMap] = {}
        self._endpoints: dict[str, Endpoint] = {}
        self._said: dict[Endpoint, dict[TopicPartition, list[_Said]]] = {}
        self.outstanding = 0
        """Records that the application has and has said nothing of."""

    def deliver(self, rows: ShareRows) -> None:
        """The application gets these records."""
        name = str(rows.endpoint)
        self._endpoints[name] = rows.endpoint
        spans = self._delivered.setdefault(rows.place, SpanMap())
        span = Span(rows.base_offset, rows.end_offset, RecordState.ACQUIRED, 0, name)
        spans.put(span)
        self.outstanding += rows.count

    def withdraw(self, rows: ShareRows) -> None:
        """The application does not get these records after all; none has been acknowledged."""
        spans = self._delivered[rows.place]
        spans.put(Span(rows.base_offset, rows.end_offset, RecordState.ACKNOWLEDGED))
        self.outstanding -= rows.count

    def is_outstanding(self, rows: ShareRows) -> bool:
        """Whether nothing has been said of any of these records."""
        spans = self._delivered.get(rows.place, SpanMap())
        found = spans.overlapping(rows.base_offset, rows.end_offset)
        held = sum(
            min(span.end, rows.end_offset) - max(span.first, rows.base_offset)
            for span in found
            if span.state is RecordState.ACQUIRED
        )
        return held == rows.count

    def acknowledge(self, place: TopicPartition, first: int, end: int, types: bytes) -> None:
        """The records from ``first`` to before ``end`` are done with; ``types`` as on the wire.

        Raises ``IllegalStateError`` for records that were not delivered, or have been acknowledged;
        nothing changes then.
        """
        spans = self._delivered.get(place, SpanMap())
        found = spans.overlapping(first, end)
        at = first
        for span in found:
            if span.first > at or span.state is not RecordState.ACQUIRED:
                break
            at = span.end
        if at < end or first >= end:
            raise IllegalStateError(
                f"record {at} of {place} is not one of those that the last poll returned, or it "
                "has been acknowledged already"
            )
        if AcknowledgeType.RENEW in types and types.strip(bytes([AcknowledgeType.RENEW])):
            raise IllegalStateError("records are renewed by an acknowledgement of their own")
        for span in spans.within(first, end):
            part = types if len(types) == 1 else types[span.first - first : span.end - first]
            self._say(self._endpoints[span.member], place, _Said(span.first, span.end, part))
            if AcknowledgeType.RENEW not in part:
                span.state = RecordState.ACKNOWLEDGED
                self.outstanding -= len(span)
        spans.join(first, end)
        if not self.outstanding:
            self._delivered.clear()

    def acknowledge_all(self, kind: AcknowledgeType) -> None:
        """Say the same of everything that is outstanding."""
        for place, spans in self._delivered.items():
            for span in spans:
                if span.state is RecordState.ACQUIRED:
                    said = _Said(span.first, span.end, bytes([kind]))
                    self._say(self._endpoints[span.member], place, said)
        if kind is not AcknowledgeType.RENEW:
            self._delivered.clear()
            self.outstanding = 0

    def _say(self, endpoint: Endpoint, place: TopicPartition, said: _Said) -> None:
        """Note an acknowledgement; one that continues the last grows it."""
        kept = self._said.setdefault(endpoint, {}).setdefault(place, [])
        if kept and kept[-1][1:] == (said.first, said.types) and len(said.types) == 1:
            kept[-1] = _Said(kept[-1].first, said.end, said.types)
        else:
            kept.append(said)

    def endpoints(self) -> Iterable[Endpoint]:
        """Leaders that have something to hear."""
        return list(self._said)

    def waits(self, endpoint: Endpoint) -> bool:
        """Whether that leader has something to hear."""
        return endpoint in self._said

    def take(self, endpoint: Endpoint) -> Mapping[TopicPartition, list[AcknowledgementBatch]]:
        """What that leader has to hear, which is forgotten here."""
        said = self._said.pop(endpoint, {})
        return {place: _joined(parts) for place, parts in said.items()}


def _joined(said: list[_Said]) -> list[AcknowledgementBatch]:
    """Neighbours become one batch with a type for each record."""
    batches: list[AcknowledgementBatch] = []
    at = 0
    while at < len(said):
        stop = at + 1
        while stop < len(said) and said[stop].first == said[stop - 1].end:
            stop += 1
        first, last = said[at].first, said[stop - 1].end - 1
        if stop == at + 1:
            types = said[at].types
        else:
            types = b"".join(
                each.types * (each.end - each.first) if len(each.types) == 1 else each.types
                for each in said[at:stop]
            )
        batches.append(AcknowledgementBatch(first, last, types))
        at = stop
    return batches
