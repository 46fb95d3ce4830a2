"""Reads a log as its readers see it: without markers, and without what was aborted.

What is left out is told by two bits of each batch's header; only where a transaction was aborted
nearby whole headers are read. A log without transactions never comes here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from raykafka.errors import LogDamagedError
from raykafka.log.batch_header import CONTROL, read_header, special_flags
from raykafka.log.transactions import Transactions
from raykafka.storage.log_reader import LogReader
from raykafka.storage.log_types import SegmentSlice, VisibleBatches

_SKIPPED: Final = 64
"""Batches behind those of a read that are passed over with it, if readers do not see them."""

Hidden = tuple[Transactions, bool]
"""The log's transactions, and whether what was aborted is left out with the markers."""


def read_visible(
    reader: LogReader, hidden: Hidden, offset: int, max_bytes: int, up_to: int
) -> VisibleBatches:
    """See ``PartitionLog.read_visible``."""
    found = reader.read(offset, max_bytes, up_to)
    if not found:
        return VisibleBatches([], offset, True)
    if not hidden[0].touches(offset, up_to):
        return VisibleBatches(found, read_header(found[-1]).next_offset, True)
    seen = _visible(found, hidden)
    complete = len(seen) == len(found)
    next_offset = read_header(found[-1]).next_offset
    for _ in range(_SKIPPED):
        # A marker may stand behind the last record: readers are at the end then, not before it.
        try:
            found = reader.read(next_offset, 1, up_to)
        except LogDamagedError:
            break
        if not found or _visible(found, hidden):
            break
        next_offset, complete = read_header(found[-1]).next_offset, False
    return VisibleBatches(seen, next_offset, complete)


def locate_visible(
    reader: LogReader, hidden: Hidden, offset: int, max_batches: int, up_to: int
) -> SegmentSlice | None:
    """See ``PartitionLog.locate_visible``."""
    if not hidden[0].touches(offset, up_to):
        return reader.locate(offset, max_batches, up_to)

    def choose(
        data: memoryview, base_offsets: Sequence[int], positions: Sequence[int]
    ) -> Sequence[int]:
        origin = positions[0]
        flags = [special_flags(data, position - origin) for position in positions]
        aborted: _Aborted | None = None
        chosen = []
        for number, flag in enumerate(flags):
            if flag & CONTROL:
                continue
            if flag and hidden[1]:
                if aborted is None:
                    aborted = _Aborted(hidden[0], base_offsets[0], up_to)
                if aborted.holds(data[positions[number] - origin :]):
                    continue
            chosen.append(number)
        return chosen

    return reader.locate(offset, max_batches, up_to, choose)


def _visible(found: list[memoryview], hidden: Hidden) -> list[memoryview]:
    flags = [special_flags(message) for message in found]
    if not any(flags):
        return found
    transactions, committed = hidden
    plain = [message for message, flag in zip(found, flags, strict=True) if not flag & CONTROL]
    if not committed or not plain:
        return plain
    start, end = read_header(found[0]).base_offset, read_header(found[-1]).next_offset
    aborted = _Aborted(transactions, start, end)
    return [message for message in plain if not aborted.holds(message)]


class _Aborted:
    """Tells which batches of a range belong to aborted transactions."""

    def __init__(self, transactions: Transactions, start: int, end: int) -> None:
        self._ranges: dict[int, list[tuple[int, int]]] = {}
        for producer_id, first, last in transactions.aborted_in(start, end):
            self._ranges.setdefault(producer_id, []).append((first, last))

    def holds(self, message: memoryview) -> bool:
        """Whether the batch with which ``message`` begins was aborted."""
        if not self._ranges:
            return False
        header = read_header(message)
        if not header.is_transactional:
            return False
        return any(
            first <= header.base_offset < last
            for first, last in self._ranges.get(header.producer_id, ())
        )
