"""From keys to partitions, exactly as Kafka's default partitioner does it.

A keyed record goes to ``(murmur2(key) & 0x7fffffff) % partitions``
(``BuiltInPartitioner.partitionForKey``), records without a key stick to one partition until enough
bytes went there (KIP-480, KIP-794).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raykafka.errors import InvalidRecordError

_SEED = 0x9747B28C
_M = 0x5BD1E995
_MASK = 0xFFFFFFFF
_FEW = 16
"""With fewer keys than this left in a round, numpy's calls cost more than plain Python."""

STICKY_BYTES = 16_384
"""Bytes of keyless records after which the next chunk goes elsewhere: Kafka's ``batch.size``, whose
default decides how often a Kafka producer moves on (KIP-794)."""

UInt32Array = npt.NDArray[np.uint32]
Int64Array = npt.NDArray[np.int64]


def murmur2(data: bytes) -> int:
    """Kafka's 32-bit murmur2 (``Utils.murmur2``), as an unsigned number."""
    length = len(data)
    h = (_SEED ^ length) & _MASK
    blocks = length & ~3
    for i in range(0, blocks, 4):
        k = (int.from_bytes(data[i : i + 4], "little") * _M) & _MASK
        k = ((k ^ (k >> 24)) * _M) & _MASK
        h = ((h * _M) & _MASK) ^ k
    if length > blocks:
        h = ((h ^ int.from_bytes(data[blocks:], "little")) * _M) & _MASK
    h = ((h ^ (h >> 13)) * _M) & _MASK
    return h ^ (h >> 15)


def partition_for_key(key: bytes, partitions: int) -> int:
    """The partition of ``key`` among ``partitions``."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def partitions_for_keys(keys: pa.Array, partitions: int) -> Int64Array:
    """The partition of every key of an Arrow column, -1 where the key is null.

    Binary and string columns count byte by byte, integers as their decimal text.
    """
    rendered = render_keys(keys)
    positive = (murmur2_array(rendered) & np.uint32(0x7FFFFFFF)).astype(np.int64)
    found: Int64Array = positive % partitions
    if rendered.null_count:
        found[np.asarray(pc.is_null(rendered))] = -1
    return found


def render_keys(keys: pa.Array | pa.ChunkedArray) -> pa.Array:
    """A key column as ``pa.binary()``: the bytes that are hashed and stored as the records' key.

    Raises ``InvalidRecordError`` for a column that is neither binary, string nor integer.
    """
    if isinstance(keys, pa.ChunkedArray):
        keys = keys.combine_chunks()
    if isinstance(keys, pa.ChunkedArray):  # older pyarrow keeps a column of no chunks chunked
        keys = pa.concat_arrays(keys.chunks) if keys.num_chunks else pa.array([], keys.type)
    if pa.types.is_dictionary(keys.type):
        keys = keys.dictionary_decode()
    kind = keys.type
    if pa.types.is_binary(kind):
        return keys
    if pa.types.is_integer(kind):
        return keys.cast(pa.string()).cast(pa.binary())
    if pa.types.is_null(kind):
        return pa.nulls(len(keys), pa.binary())
    if _is_bytes_like(kind):
        return keys.cast(pa.binary())
    raise InvalidRecordError(
        f"a key column must be binary, string or integer, not {kind}; cast it before sending"
    )


def murmur2_array(keys: pa.BinaryArray) -> UInt32Array:
    """``murmur2`` of every key of a ``pa.binary()`` array; nulls give the hash of no bytes."""
    count = len(keys)
    offsets = np.frombuffer(keys.buffers()[1], np.int32)[keys.offset : keys.offset + count + 1]
    starts = offsets[:-1].astype(np.int64)
    lengths = np.diff(offsets).astype(np.int64)
    if keys.null_count:
        lengths[np.asarray(pc.is_null(keys))] = 0
    data = keys.buffers()[2]
    padded = np.zeros((0 if data is None else data.size) + 4, np.uint8)
    if data is not None:
        padded[:-4] = np.frombuffer(data, np.uint8)
    # One little-endian word beginning at every byte: a gather reads any four neighbours at once.
    words = np.ndarray((len(padded) - 3,), "<u4", padded, 0, (1,))
    return _hash_all(words, padded, starts, lengths)


def _hash_all(
    words: UInt32Array, data: npt.NDArray[np.uint8], starts: Int64Array, lengths: Int64Array
) -> UInt32Array:
    """Round by round over all keys, the longest first, so that those still running are a prefix."""
    blocks = lengths >> 2
    order = None
    if len(blocks) and blocks.min() != blocks.max():
        order = np.argsort(-blocks, kind="stable")
        starts, lengths, blocks = starts[order], lengths[order], blocks[order]
    m = np.uint32(_M)
    h: UInt32Array = np.uint32(_SEED) ^ lengths.astype(np.uint32)
    running = len(blocks)
    position = starts.copy()
    for block in range(int(blocks[0]) if len(blocks) else 0):
        if blocks[running - 1] <= block:
            running = int(np.searchsorted(-blocks, -block, side="left"))
        if running < _FEW and len(blocks) >= _FEW:
            break
        k = words[position[:running]] * m
        k ^= k >> np.uint32(24)
        k *= m
        h[:running] *= m
        h[:running] ^= k
        position[:running] += 4
    else:
        running = 0
    _finish(words, h, position, lengths)
    for index in range(running):
        start = int(starts[index])
        h[index] = murmur2(data[start : start + int(lengths[index])].tobytes())
    if order is None:
        return h
    result: UInt32Array = np.empty_like(h)
    result[order] = h
    return result


def _finish(words: UInt32Array, h: UInt32Array, position: Int64Array, lengths: Int64Array) -> None:
    rest = (lengths & 3).astype(np.uint32)
    tail = np.flatnonzero(rest)
    if len(tail):
        keep = (np.uint32(1) << (rest[tail] << np.uint32(3))) - np.uint32(1)
        h[tail] = (h[tail] ^ (words[position[tail]] & keep)) * np.uint32(_M)
    h ^= h >> np.uint32(13)
    h *= np.uint32(_M)
    h ^= h >> np.uint32(15)


def _is_bytes_like(kind: Any) -> bool:
    checks = (
        "is_string",
        "is_large_string",
        "is_large_binary",
        "is_fixed_size_binary",
        "is_string_view",
        "is_binary_view",
    )
    return any(getattr(pa.types, check, _never)(kind) for check in checks)


def _never(_: Any) -> bool:
    return False


class StickyPartition:
    """Where the records without a key of one topic go for now. Not thread-safe."""

    __slots__ = ("_bytes", "_current", "_random")

    def __init__(self, seed: int | None = None) -> None:
        self._random = random.Random(seed)
        self._current = -1
        self._bytes = 0

    def choose(self, available: Sequence[int], size_bytes: int) -> int:
        """The partition for the next ``size_bytes``, among those that have a leader now."""
        if self._current not in available or self._bytes >= STICKY_BYTES:
            others = [partition for partition in available if partition != self._current]
            self._current = self._random.choice(others or list(available))
            self._bytes = 0
        self._bytes += size_bytes
        return self._current
