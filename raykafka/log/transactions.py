"""The transactions of one partition: which are open, which were aborted, what is stable (KIP-98).

The rules are those of Kafka's ``ProducerStateManager`` and ``TransactionIndex``:

- a transaction begins with its producer's first transactional batch and ends with its marker;
- the *last stable offset* is where the oldest transaction begins that is open, or whose marker is
  not committed yet; below it nothing changes its mind any more;
- of an aborted transaction are remembered where it begins and where its marker stands. Together
  with each is noted how far the log was stable then: transactions that end later begin there or
  behind, which is where a search may stop.

Kafka keeps the index in a file beside each segment; here it is in memory, 32 bytes for each aborted
transaction that the log still holds, and in the snapshots of the producers.
"""

from __future__ import annotations

import base64
import binascii
import sys
from array import array
from bisect import bisect_left
from collections import deque
from typing import Any, Final, NamedTuple

from raykafka.errors import CorruptMessageError

_WIDE: Final = "q"
_COLUMNS: Final = 4


class AbortedTransaction(NamedTuple):
    """What readers of committed records do not see: the producer's transactional batches from
    ``first_offset`` on, before ``last_offset``.
    """

    producer_id: int
    first_offset: int
    last_offset: int
    """Of the marker."""


class Transactions:
    """Every transaction of a partition that a reader may have to know of.

    Tell it of transactional batches and markers in the order of the log. Nothing here is ever cut
    off at the end: a log that is cut rebuilds its producers from a snapshot.
    """

    __slots__ = ("_aborted", "_ended", "end_offset", "first_offset", "open")

    def __init__(self) -> None:
        self.open: dict[int, int] = {}
        """Producer ids of open transactions and where these begin; in the order of the log."""
        self._ended: deque[tuple[int, int]] = deque()
        """Offset of the marker, first offset: of transactions whose marker may not be committed."""
        self._aborted = tuple(array(_WIDE) for _ in range(_COLUMNS))
        self.first_offset = -1
        """Where the log's first transactional batch or marker begins; -1 where it has none."""
        self.end_offset = -1
        """Where the last one ends."""

    @property
    def aborted_count(self) -> int:
        """How many aborted transactions are remembered."""
        return len(self._aborted[0])

    def on_batch(self, producer_id: int, base_offset: int, next_offset: int) -> int:
        """Records of a transaction are in the log; returns where the transaction begins."""
        self._note(base_offset, next_offset)
        return self.open.setdefault(producer_id, base_offset)

    def on_marker(self, producer_id: int, offset: int, *, commit: bool) -> None:
        """The producer's transaction ends at ``offset``; a marker without one changes nothing."""
        self._note(offset, offset + 1)
        first = self.open.pop(producer_id, None)
        if first is None:
            return
        self._ended.append((offset, first))
        if not commit:
            stable = next(iter(self.open.values()), offset + 1)
            for column, value in zip(
                self._aborted, (producer_id, first, offset, stable), strict=True
            ):
                column.append(value)

    def last_stable_offset(self, high_watermark: int) -> int:
        """End of what readers of committed records may see; ``high_watermark`` never goes back.

        It may lie before the log start, which was moved into an open transaction.
        """
        ended = self._ended
        while ended and ended[0][0] < high_watermark:
            ended.popleft()
        stable = next(iter(self.open.values()), high_watermark)
        if ended:
            stable = min(stable, min(first for _, first in ended))
        return min(stable, high_watermark)

    def aborted_in(self, start: int, end: int) -> list[AbortedTransaction]:
        """Aborted transactions that have something between ``start`` and ``end`` (exclusive)."""
        producer_ids, firsts, lasts, stables = self._aborted
        found = []
        for number in range(bisect_left(lasts, start), len(lasts)):
            if firsts[number] < end:
                found.append(
                    AbortedTransaction(producer_ids[number], firsts[number], lasts[number])
                )
            if stables[number] >= end:
                break
        return found

    def touches(self, start: int, end: int) -> bool:
        """Whether a transactional batch or a marker may stand between these offsets."""
        return self.first_offset < end and self.end_offset > start

    def truncate_before(self, log_start_offset: int) -> None:
        """Forget what ended before the log's beginning. What is open stays: its end is to come."""
        if self.end_offset <= log_start_offset and not self.open:
            self.first_offset = self.end_offset = -1
        count = bisect_left(self._aborted[2], log_start_offset)
        if count:
            for column in self._aborted:
                del column[:count]

    def _note(self, base_offset: int, next_offset: int) -> None:
        if self.first_offset < 0:
            self.first_offset = base_offset
        self.end_offset = next_offset

    # --- snapshots --------------------------------------------------------------------------------

    def to_plain(self) -> dict[str, Any] | None:
        """The state for a snapshot; None where there is nothing to say."""
        if self.first_offset < 0:
            return None
        return {
            "first_offset": self.first_offset,
            "end_offset": self.end_offset,
            "open": list(self.open.items()),
            "ended": list(self._ended),
            "aborted": [_to_text(column) for column in self._aborted],
        }

    @classmethod
    def from_plain(cls, data: Any) -> Transactions:
        """Reads what ``to_plain`` gave, lists in place of tuples included (JSON).

        Raises ``CorruptMessageError`` where it is something else.
        """
        transactions = cls()
        if data is None:
            return transactions
        try:
            transactions.first_offset = _integer(data["first_offset"])
            transactions.end_offset = _integer(data["end_offset"])
            for producer_id, first_offset in data["open"]:
                transactions.open[_integer(producer_id)] = _integer(first_offset)
            for offset, first_offset in data["ended"]:
                transactions._ended.append((_integer(offset), _integer(first_offset)))
            columns = tuple(_from_text(text) for text in data["aborted"])
            if len(columns) != _COLUMNS or len(set(map(len, columns))) != 1:
                raise ValueError
            transactions._aborted = columns
        except (TypeError, ValueError, KeyError, binascii.Error):
            raise CorruptMessageError("the snapshot of transactions is damaged") from None
        return transactions


def _to_text(column: array[int]) -> str:
    """Little-endian numbers in base64: thousands of them would be long in decimal."""
    return base64.b64encode(_little_endian(column).tobytes()).decode("ascii")


def _from_text(text: str) -> array[int]:
    column = array(_WIDE)
    column.frombytes(base64.b64decode(text, validate=True))
    return _little_endian(column)


def _little_endian(column: array[int]) -> array[int]:
    if sys.byteorder == "little":
        return column
    swapped = column[:]
    swapped.byteswap()
    return swapped


def _integer(value: object) -> int:
    if type(value) is not int:
        raise TypeError
    return value
