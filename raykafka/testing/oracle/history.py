"""What clients did and were told, as columns.

Every record that is sent carries a number that no other record of its partition has. A process is
one life of one client: a client that is made anew is another process. Times are nanoseconds of one
clock that never goes back.

Three tables:
- ``sends``: one row per record, in the order in which its process handed them over.
- ``reads``: one row per record that a poll returned, in the order in which it was returned.
- ``polls``: one row per poll and partition, also where nothing was returned: the position after it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

OK: Final = 0
"""The record was acknowledged."""
FAIL: Final = 1
"""The record was definitely not taken."""
INFO: Final = 2
"""Nobody knows; it may turn up later."""
UNKNOWN: Final = -1
"""In the place of an offset."""


class _Table:
    @property
    def rows(self) -> int:
        """How many there are."""
        return len(getattr(self, fields(self)[0].name))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Sends(_Table):
    """Records that producers handed over."""

    process: Ints
    partition: Ints
    value: Ints
    offset: Ints
    """``UNKNOWN`` unless acknowledged with one."""
    status: Ints
    """``OK``, ``FAIL`` or ``INFO``."""
    operation: Ints
    """Records of one transaction share its number; others have one each."""
    invoked: Ints
    completed: Ints


@dataclass(frozen=True)
class Reads(_Table):
    """Records that polls returned."""

    process: Ints
    partition: Ints
    offset: Ints
    value: Ints
    operation: Ints
    """Number of the poll, or of the transaction that polled."""


@dataclass(frozen=True)
class Polls(_Table):
    """Where every poll left each of its partitions."""

    process: Ints
    partition: Ints
    position: Ints
    """Offset of the next record to be read."""
    operation: Ints
    reassigned: Ints
    """1 where the partition came to the process or left it since the poll before."""
    invoked: Ints


@dataclass(frozen=True)
class History:
    """Everything that is known of one run."""

    sends: Sends
    reads: Reads
    polls: Polls

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as a numpy archive."""
        columns = {
            f"{table.name}.{column.name}": getattr(getattr(self, table.name), column.name)
            for table in fields(self)
            for column in fields(getattr(self, table.name))
        }
        np.savez_compressed(path, **columns)


def load(path: str | os.PathLike[str]) -> History:
    """Read what ``History.save`` wrote."""
    with np.load(path, allow_pickle=False) as archive:
        return History(
            *(
                table(*(archive[f"{name}.{column.name}"] for column in fields(table)))
                for name, table in _TABLES
            )
        )


def merge(histories: Iterable[History]) -> History:
    """Several clients' histories as one; their processes, values and operations must differ."""
    parts = list(histories)
    return History(
        *(
            table(
                *(
                    np.concatenate(
                        [getattr(getattr(part, name), column.name) for part in parts]
                        or [np.empty(0, np.int64)]
                    )
                    for column in fields(table)
                )
            )
            for name, table in _TABLES
        )
    )


class Recorder:
    """Writes the history of the clients of one thread; rows are lists until ``history``."""

    def __init__(self, *, first_operation: int = 0) -> None:
        """``first_operation`` keeps the numbers of several recorders apart."""
        self._sends: list[list[int]] = []
        self._reads: list[tuple[int, ...]] = []
        self._polls: list[tuple[int, ...]] = []
        self._operation = first_operation

    def operation(self) -> int:
        """A new number for a transaction or a poll."""
        self._operation += 1
        return self._operation

    def send(
        self, process: int, partition: int, value: int, now: int, operation: int | None = None
    ) -> int:
        """A record was handed over; its outcome is unknown until told under the number returned."""
        number = self.operation() if operation is None else operation
        self._sends.append([process, partition, value, UNKNOWN, INFO, number, now, now])
        return len(self._sends) - 1

    def acknowledged(self, send: int, offset: int, now: int) -> None:
        """The record is in the log, at ``offset``."""
        row = self._sends[send]
        row[3], row[4], row[7] = offset, OK, now

    def failed(self, send: int, now: int) -> None:
        """The record was refused and can not turn up any more."""
        row = self._sends[send]
        row[4], row[7] = FAIL, now

    def polled(
        self,
        process: int,
        records: Sequence[tuple[int, int, int]],
        positions: Iterable[tuple[int, int]],
        invoked: int,
        *,
        reassigned: Iterable[int] = (),
        operation: int | None = None,
    ) -> None:
        """A poll that began at ``invoked`` returned (partition, offset, value) records.

        ``positions`` are (partition, next offset) of every partition that the process reads;
        ``reassigned`` those that came or went since its last poll.
        """
        number = self.operation() if operation is None else operation
        moved = set(reassigned)
        self._reads += [
            (process, partition, offset, value, number) for partition, offset, value in records
        ]
        self._polls += [
            (process, partition, position, number, int(partition in moved), invoked)
            for partition, position in positions
        ]

    def history(self) -> History:
        """What was recorded so far."""
        rows: tuple[Sequence[Any], ...] = (self._sends, self._reads, self._polls)
        return History(
            *(
                table(*_columns(part, len(fields(table))))
                for (_, table), part in zip(_TABLES, rows, strict=False)
            )
        )


def _columns(rows: Sequence[Sequence[int]], width: int) -> list[Ints]:
    array = np.array(rows, np.int64).reshape(len(rows), width)
    return [np.ascontiguousarray(array[:, number]) for number in range(width)]


_TABLES: Final[tuple[tuple[str, Any], ...]] = (("sends", Sends), ("reads", Reads), ("polls", Polls))
