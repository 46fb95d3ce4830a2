"""Keeps a coordinator's log short: its state is written once more, then the log begins there.

What results holds the newest record of every key and nothing of deleted ones, as a compacted topic
does. The state is written in slices; a key that changes meanwhile is left out of those that follow,
because its newest record already stands behind the beginning.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from raykafka.actors.coordinating.machine import KeyedRecord

MIN_RECORDS: Final = 20_000
"""Records that a log may have before it is looked at."""
SLICE_RECORDS: Final = 500


class Compaction:
    """When to rewrite a log, and what is left of the rewriting that is under way."""

    def __init__(self, min_records: int = MIN_RECORDS) -> None:
        self._min_records = min_records
        self._appended = 0
        """Records in the log that are not known to be the newest of their keys."""
        self._kept = 0
        """Records that the last rewriting left."""
        self._left: list[KeyedRecord] | None = None
        self._changed: set[bytes] = set()
        self.start_offset = -1
        """Where the log is going to begin; -1 while nothing is being rewritten."""

    def restart(self, records: int) -> None:
        """The log has been loaded and has that many records."""
        self.end()
        self._appended, self._kept = records, 0

    @property
    def is_due(self) -> bool:
        """Whether the log is long enough, and not being rewritten."""
        return self._left is None and self._appended >= max(self._min_records, 2 * self._kept)

    @property
    def is_running(self) -> bool:
        """Whether slices are left to be written."""
        return self._left is not None

    def begin(self, records: Sequence[KeyedRecord], start_offset: int) -> None:
        """Rewrite ``records``, the whole state as of now; the log ends at ``start_offset``."""
        self._left = list(records)
        self._left.reverse()
        self._changed.clear()
        self._appended, self._kept = 0, len(records)
        self.start_offset = start_offset

    def on_appended(self, records: Sequence[KeyedRecord]) -> None:
        """These stand in the log now, or will next."""
        self._appended += len(records)
        if self._left is not None:
            self._changed.update(key for key, _ in records)

    def next_slice(self) -> list[KeyedRecord]:
        """What to append next; empty when all of it has been."""
        found: list[KeyedRecord] = []
        while self._left and len(found) < SLICE_RECORDS:
            record = self._left.pop()
            if record[0] not in self._changed:
                found.append(record)
        return found

    def end(self) -> None:
        """The log begins at ``start_offset`` now, or the attempt was given up."""
        self._left = None
        self.start_offset = -1
        self._changed.clear()
