"""Hands out what was acquired, and knows which records nobody has seen."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from raykafka.client.sharing.share_records import ShareRecord, ShareRows


def take_rows(ready: deque[ShareRows], limit: int) -> list[ShareRows]:
    """Take up to ``limit`` records off the front."""
    taken: list[ShareRows] = []
    while ready and limit > 0:
        rows = ready.popleft()
        if rows.count > limit:
            rows, rest = rows.split(limit)
            ready.appendleft(rest)
        taken.append(rows)
        limit -= rows.count
    return taken


class Iteration:
    """How far iteration has come in the records of one poll."""

    def __init__(self) -> None:
        self._runs: Sequence[ShareRows] = ()
        self._at = (0, 0)
        """Run and row that come next."""

    def over(self, runs: Sequence[ShareRows]) -> Iterator[ShareRecord]:
        """The records of ``runs``, until ``take_unseen`` is called."""
        self._runs, self._at = runs, (0, 0)
        for number, run in enumerate(runs):
            for row in range(run.count):
                if self._runs is not runs:
                    return
                self._at = (number, row + 1)
                yield ShareRecord(run, row)

    def take_unseen(self) -> list[ShareRows]:
        """The records that have not been returned, which are not returned here any more."""
        runs, self._runs = self._runs, ()
        number, row = self._at
        if not runs:
            return []
        rest = [runs[number].split(row)[1]] if row < runs[number].count else []
        return [*rest, *runs[number + 1 :]]
