"""A few numbers that the processes of one run share while they are busy."""

from __future__ import annotations

from pathlib import Path

import numpy as np

STOP_SENDING = 0
STOP_READING = 1
MAY_READ = 2
_FLAGS = 3


class Board:
    """A mapped file of 64-bit cells: three flags, then one counter per producer and consumer.

    Every counter has one writer, so nothing needs a lock.
    """

    def __init__(self, path: Path, producers: int, consumers: int) -> None:
        self._path = path
        self._producers = producers
        self._consumers = consumers
        if not path.exists():
            path.write_bytes(bytes(8 * (_FLAGS + producers + consumers)))
        # A plain array on the mapped memory: the memmap class makes every access ten times slower.
        self._cells = np.asarray(np.memmap(path, np.int64, "r+"))

    def __reduce__(self) -> tuple[type[Board], tuple[Path, int, int]]:
        return Board, (self._path, self._producers, self._consumers)

    def raise_flag(self, flag: int) -> None:
        self._cells[flag] = 1

    def is_raised(self, flag: int) -> bool:
        return bool(self._cells[flag])

    def clear(self) -> None:
        """Lower all flags and set all counters to 0."""
        self._cells[:] = 0

    def set_sent(self, worker: int, count: int) -> None:
        self._cells[_FLAGS + worker] = count

    def set_received(self, consumer: int, count: int) -> None:
        self._cells[_FLAGS + self._producers + consumer] = count

    def sent(self) -> int:
        """Records that all producers have handed to their clients."""
        return int(self._cells[_FLAGS : _FLAGS + self._producers].sum())

    def received(self) -> int:
        """Records that all consumers have read."""
        return int(self._cells[_FLAGS + self._producers :].sum())
