"""Records that prove themselves: whoever reads them back can tell what was lost, doubled or moved.

A record is ``producer (uint32) | sequence (uint64) | sent (uint64, ns) | filler``, big-endian. The
filler is cut from a pool of random bytes by sequence number, so every byte can be foretold.
``sent`` is 0 unless the load is paced; it is read from the monotonic clock, which the processes of
one machine share.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

HEAD_BYTES = 20
SMALLEST_RECORD = HEAD_BYTES
KEYS = 1000
"""Different keys of a keyed load."""
_POOL_ROWS = 1000
_HEAD = np.dtype([("producer", ">u4"), ("sequence", ">u8"), ("sent", ">u8")])

Matrix = npt.NDArray[np.uint8]
"""One row per record, one column per byte."""


@functools.lru_cache(maxsize=8)
def filler_pool(size: int, random_share: float) -> Matrix:
    """Fillers of records of ``size`` bytes; the first ``random_share`` of each is random.

    The same in every process: the generator is seeded with the size.
    """
    width = size - HEAD_BYTES
    pool = np.zeros((_POOL_ROWS, width), np.uint8)
    random = round(width * random_share)
    pool[:, :random] = np.random.default_rng(size).integers(0, 256, (_POOL_ROWS, random), np.uint8)
    return pool


@dataclass(frozen=True)
class Records:
    """``count`` records of ``size`` bytes of one producer, from sequence ``first`` on."""

    count: int
    size: int
    producer: int = 0
    first: int = 0
    random_share: float = 1.0

    def __post_init__(self) -> None:
        if self.size < SMALLEST_RECORD:
            raise ValueError(
                f"a record has at least {SMALLEST_RECORD} bytes (who, which, when), not {self.size}"
            )

    def matrix(self) -> Matrix:
        """All of them, one per row."""
        sequences = np.arange(self.first, self.first + self.count, dtype=np.uint64)
        return expected(np.full(self.count, self.producer), sequences, self.size, self.random_share)

    def values(self) -> list[bytes]:
        """One ``bytes`` per record."""
        data = self.matrix().tobytes()
        size = self.size
        return [data[start : start + size] for start in range(0, len(data), size)]

    def keys(self) -> list[bytes]:
        """Keys that go round, as every keyed client sends them."""
        return [b"key-%d" % (number % KEYS) for number in range(self.count)]

    def column(self) -> pa.Array:
        """A binary column of them."""
        offsets = np.arange(0, (self.count + 1) * self.size, self.size, dtype=np.int32)
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(self.matrix().reshape(-1))]
        return pa.Array.from_buffers(pa.binary(), self.count, buffers)

    def stamped(self, sequence: int, sent_ns: int) -> bytes:
        """One record with the time at which it is sent."""
        head = _stamp(self.producer, sequence, sent_ns)
        return head + _filler_rows(self.size, self.random_share)[sequence % _POOL_ROWS]


def _stamp(producer: int, sequence: int, sent_ns: int) -> bytes:
    return producer.to_bytes(4, "big") + sequence.to_bytes(8, "big") + sent_ns.to_bytes(8, "big")


@functools.lru_cache(maxsize=8)
def _filler_rows(size: int, random_share: float) -> list[bytes]:
    return [row.tobytes() for row in filler_pool(size, random_share)]


def expected(
    producers: npt.NDArray[np.integer], sequences: npt.NDArray[np.integer], size: int, share: float
) -> Matrix:
    """What records of those producers and sequence numbers look like (``sent`` being 0)."""
    head = np.zeros(len(sequences), _HEAD)
    head["producer"], head["sequence"] = producers, sequences
    matrix = np.empty((len(sequences), size), np.uint8)
    matrix[:, :HEAD_BYTES] = head.view(np.uint8).reshape(-1, HEAD_BYTES)
    matrix[:, HEAD_BYTES:] = filler_pool(size, share)[sequences % _POOL_ROWS]
    return matrix


def heads(matrix: Matrix) -> npt.NDArray[np.void]:
    """The structured beginnings of records: fields ``producer``, ``sequence``, ``sent``."""
    return np.ascontiguousarray(matrix[:, :HEAD_BYTES]).view(_HEAD).reshape(-1)
