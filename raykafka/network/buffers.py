"""Large receive buffers that are used again, because fresh memory costs more than filling it.

A new megabyte is 256 page faults, about a millisecond on a small virtual machine, as long as the
socket takes for its content. A buffer goes back by itself: it is free again when nothing outside
the pool refers to it, so views that somebody keeps stay valid for as long as they are kept.
"""

from __future__ import annotations

import sys
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

_Buffer: TypeAlias = "npt.NDArray[np.uint8]"
"""Not a bytearray, which would be filled with zeros first; and numpy asks for huge pages."""

GRANULE: Final = 64 << 10
"""Capacities are multiples of this, so that sizes that differ a little share a buffer."""
MAX_WASTE: Final = 4
"""A buffer serves requests down to this fraction of its capacity."""


class BufferPool:
    """Hands out writable views of exactly the size asked for. One thread at a time.

    ``max_bytes`` bounds what the pool keeps; buffers beyond it are made and forgotten.
    """

    def __init__(self, max_bytes: int = 64 << 20) -> None:
        self._max_bytes = max_bytes
        self._held_bytes = 0
        self.takes = 0
        """How often a buffer has been asked for; tells whether the pool is in use."""
        self._buffers: list[_Buffer] = []
        """The least recently taken first."""

    @property
    def held_bytes(self) -> int:
        """Bytes of all buffers that the pool refers to, in use or free."""
        return self._held_bytes

    def take(self, size: int) -> memoryview:
        """A writable view of ``size`` bytes whose content is arbitrary."""
        self.takes += 1
        buffers = self._buffers
        for index in range(len(buffers) - 1, -1, -1):
            capacity = len(buffers[index])
            if size <= capacity <= size * MAX_WASTE + GRANULE and _is_free(buffers, index):
                buffer = buffers.pop(index)
                buffers.append(buffer)
                return buffer.data[:size]
        fresh: _Buffer = np.empty(-(-size // GRANULE) * GRANULE, np.uint8)
        if self._make_room(len(fresh)):
            buffers.append(fresh)
            self._held_bytes += len(fresh)
        return fresh.data[:size]

    def trim(self) -> None:
        """Forget every free buffer."""
        self._make_room(self._max_bytes + 1)

    def _make_room(self, size: int) -> bool:
        """Forget free buffers, oldest first, until ``size`` more bytes fit; False if they don't."""
        buffers = self._buffers
        index = 0
        while self._held_bytes + size > self._max_bytes and index < len(buffers):
            if _is_free(buffers, index):
                self._held_bytes -= len(buffers.pop(index))
            else:
                index += 1
        return self._held_bytes + size <= self._max_bytes


def _references(buffers: list[_Buffer], index: int) -> int:
    """How many hold the buffer; a view or an export of it holds a reference too."""
    return sys.getrefcount(buffers[index])


def _is_free(buffers: list[_Buffer], index: int) -> bool:
    return _references(buffers, index) <= _ALONE


_ALONE: Final = _references([np.empty(0, np.uint8)], 0)
"""The count when the list is the only holder; it differs between versions of Python."""
