"""A read-only mapping of a file that may still grow.

``mmap.mmap`` maps no further than the file's present end, so a reader at the tail would need a new
mapping per append, and each would hold a duplicate of the descriptor. Here address space is
reserved with an anonymous mapping, whose lifetime Python manages together with every slice of it,
and the file is mapped over it, beyond its present end. Pages behind the end of the file must not be
touched, so slices are given out up to ``size`` only.
"""

from __future__ import annotations

import ctypes
import mmap
import os

import pyarrow as pa

_MAP_FIXED = 0x10  # the same on Linux and macOS; the mmap module does not name it
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
_libc.mmap.argtypes = [
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_longlong,
]


class FileMapping:
    """The first ``size`` bytes of a file; ``size`` may be raised up to ``capacity``."""

    __slots__ = ("_address", "capacity", "size", "view")

    def __init__(self, descriptor: int, size: int, capacity: int) -> None:
        """Map ``capacity`` bytes, a multiple of the page size; the descriptor may be closed after.

        Raises ``OSError``.
        """
        memory = mmap.mmap(
            -1, capacity, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=mmap.PROT_READ
        )
        address = pa.py_buffer(memory).address
        flags = mmap.MAP_SHARED | _MAP_FIXED
        mapped = _libc.mmap(address, capacity, mmap.PROT_READ, flags, descriptor, 0)
        if mapped != address:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))
        self._address = address
        self.view = memoryview(memory)
        self.size = size
        self.capacity = capacity

    def is_resident(self, start: int, length: int) -> bool:
        """Whether touching those bytes waits for no disk; true if the system cannot tell."""
        first = start // mmap.PAGESIZE * mmap.PAGESIZE
        pages = (start + length - first + mmap.PAGESIZE - 1) // mmap.PAGESIZE
        found = ctypes.create_string_buffer(max(pages, 1))
        if _libc.mincore(self._address + first, start + length - first, found):
            return True
        return b"\0" not in found.raw[:pages]


def capacity_for(size: int) -> int:
    """How much to map of a file of ``size`` bytes: some room to grow, in whole mebibytes."""
    step = 1 << 20
    return (size + max(step, size >> 1) + step - 1) // step * step
