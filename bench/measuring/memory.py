"""Free memory that is quick to take, for as long as a measurement lasts."""

from __future__ import annotations

import contextlib
import mmap
import time
from typing import Final

import psutil

_PIECE_BYTES: Final = 32 << 20
_REST_S: Final = 0.001
_NEVER_HELD: Final = 0.15
"""Part of the machine's memory that stays available: Ray ends processes beyond that."""


class QuickMemory:
    """Memory that is held until something is measured that will take as much.

    A virtual machine tells its host what is free two seconds after it was freed, and the host takes
    it away. To take it again costs five times as much as to use it; and while the host takes
    gigabytes away, virtual processors stop for tens of milliseconds, disks for hundreds.
    """

    def __init__(self, size: int) -> None:
        """Take ``size`` bytes, less where not so much is available; takes seconds.

        What nobody has used for long may be taken out of the page cache for it.
        """
        memory = psutil.virtual_memory()
        spare = memory.available - int(memory.total * _NEVER_HELD)
        size = self.size = max(min(size, spare), mmap.PAGESIZE)
        self._memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        with contextlib.suppress(AttributeError, OSError):  # a system that has none
            self._memory.madvise(mmap.MADV_HUGEPAGE)  # quick to give back
        zeros = bytes(_PIECE_BYTES)
        for start in range(0, size, _PIECE_BYTES):
            self._memory[start : start + _PIECE_BYTES] = zeros[: size - start]

    def release(self) -> None:
        """Give it back in pieces, so that nobody waits for a processor."""
        with contextlib.suppress(AttributeError):  # a system that has none
            for start in range(0, self.size, _PIECE_BYTES):
                piece = min(_PIECE_BYTES, self.size - start)
                self._memory.madvise(mmap.MADV_DONTNEED, start, piece)
                time.sleep(_REST_S)
        self._memory.close()
