"""Many batches of one record each, read at once.

A log that was written record by record consists of them, and opening a batch with Arrow takes
several times longer than reading its record. Here a run of them becomes columns in a few steps of
numpy, whatever its length. Nothing is taken on trust: a batch belongs to a run only if it is, to
the byte, what ``small_batch`` makes of one record and its CRC holds; whatever else there is, is
left to ``batch.decode_batch``.
"""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import crc32c
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raykafka.log.batch_header import (
    FORMAT_VERSION,
    LEADER_END,
    LEADER_START,
    MAGIC,
    TRANSACTIONAL,
    partition_seed,
)
from raykafka.log.ipc_message import SLOT_END
from raykafka.log.schema import HEADERS_TYPE, UNTYPED_SCHEMA
from raykafka.log.small_batch import METADATA_OF_ONE, can_be, frame_of_one
from raykafka.model import PartitionId

SHORTEST_RUN: Final = 8
"""Fewer batches are opened faster one by one."""
WINDOW: Final = 1024
"""Batches looked at together, and so the longest run."""
MAX_BATCH: Final = 16 << 10
"""Larger ones are opened one by one, which copies no value."""

_EMPTY: Final = (0, 0, 0, 0)
_MIN_BATCH: Final = METADATA_OF_ONE + frame_of_one(*_EMPTY).body_size
_HEAD: Final = METADATA_OF_ONE + 24
"""Bytes of a batch that are compared with what they must be: up to its key's data."""
_TAIL: Final = 40
"""Bytes between the key's and the value's data."""
_SHAPE: Final = [35, 45, 56, 80]
"""Words of the head that tell the null counts and the sizes of key and value."""
_TIMESTAMP: Final = METADATA_OF_ONE // 8
_KEY_AT: Final = METADATA_OF_ONE + 16
_SLOT: Final = np.dtype(
    [
        ("base_offset", "<i8"),
        ("leader_epoch", "<i4"),
        ("append_time", "<i8"),
        ("leader_flags", "<u2"),
        ("crc", "<u4"),
        ("check", "<u4"),
        ("version", "u1"),
        ("flags", "u1"),
        ("producer_epoch", "<i2"),
        ("record_count", "<u4"),
        ("producer_id", "<i8"),
        ("base_sequence", "<i4"),
        ("schema_id", "<i2"),
        ("base_timestamp", "<i8"),
        ("max_timestamp", "<i8"),
        ("size", "<u4"),
    ]
)
"""The header slot out of its base64; see ``batch_header``."""
_CHECKED: Final = 26
"""Bytes of it that its check covers."""
_FIXED: Final = np.frombuffer(
    b"\xff" * LEADER_START
    + bytes(SLOT_END - LEADER_START)
    + b"\xff" * (METADATA_OF_ONE - SLOT_END)
    + bytes(8)
    + b"\xff" * 8
    + bytes(8),
    "<i8",
)
"""Mask of a head: all but the slot, the timestamp, and what may be the key's data."""
_NO_HEADERS: Final = pa.nulls(WINDOW, HEADERS_TYPE)

_Ints = npt.NDArray[np.int64]
_Bools = npt.NDArray[np.bool_]


class Run(NamedTuple):
    """Consecutive batches of one record."""

    base_offset: int
    columns: pa.RecordBatch
    """Their records in the untyped storage schema; no view of the batches."""
    size: int
    """Bytes of the batches."""


class OneRecordRuns:
    """The runs among the batches in a buffer; to be asked for in ascending order."""

    def __init__(
        self,
        data: memoryview,
        positions: Sequence[int],
        sizes: Sequence[int],
        partition: PartitionId | None,
    ) -> None:
        """CRCs are checked for ``partition``; None says that they have been."""
        self._data = data
        self._positions = positions
        self._sizes = sizes
        self._partition = partition
        self._window: _Window | None = None
        self._start = self._end = 0

    def read(self, index: int) -> Run | None:
        """The run that begins with batch number ``index``, or None."""
        if index >= self._end:
            self._start, self._end = index, min(index + WINDOW, len(self._sizes))
            self._window = _look_at(
                self._data,
                np.array(self._positions[index : self._end], np.int64),
                np.array(self._sizes[index : self._end], np.int64),
                self._partition,
            )
        window = self._window
        if window is None:
            return None
        start = index - self._start
        end = window.end_of_run(start)
        return window.run(self._data, start, end) if end - start >= SHORTEST_RUN else None


class _Texts(NamedTuple):
    """Where the keys or values of some batches stand."""

    at: _Ints
    sizes: _Ints
    nulls: _Ints

    def column(self, data: memoryview, part: slice) -> pa.Array:
        """Some of them, as an Arrow column."""
        at, sizes, nulls = self.at[part], self.sizes[part], self.nulls[part]
        rows, null_count = len(at), int(nulls.sum())
        if null_count == rows:
            return pa.nulls(rows, pa.binary())
        offsets = np.zeros(rows + 1, np.int32)
        np.cumsum(sizes, out=offsets[1:])
        validity = np.packbits(nulls == 0, bitorder="little") if null_count else None
        buffers = [
            None if validity is None else pa.py_buffer(validity),
            pa.py_buffer(offsets),
            pa.py_buffer(_joined(data, at, sizes)),
        ]
        return pa.Array.from_buffers(pa.binary(), rows, buffers, null_count)


class _Window(NamedTuple):
    """What has been found out about some batches: arrays with an item for each."""

    good: _Bools
    breaks: _Ints
    """Numbers of those that do not continue a run of the one before."""
    base_offset: _Ints
    timestamp: _Ints
    sizes: _Ints
    keys: _Texts
    values: _Texts

    def end_of_run(self, start: int) -> int:
        """One past the last batch of the run from ``start`` on."""
        if not self.good[start]:
            return start
        number = np.searchsorted(self.breaks, start, side="right")
        return int(self.breaks[number]) if number < len(self.breaks) else len(self.good)

    def run(self, data: memoryview, start: int, end: int) -> Run:
        """The batches from ``start`` to ``end`` as columns."""
        part = slice(start, end)
        stamps = [None, pa.py_buffer(self.timestamp[part])]
        columns = [
            pa.Array.from_buffers(UNTYPED_SCHEMA.types[0], end - start, stamps, 0),
            self.keys.column(data, part),
            _NO_HEADERS.slice(0, end - start),
            self.values.column(data, part),
        ]
        return Run(
            int(self.base_offset[start]),
            pa.RecordBatch.from_arrays(columns, schema=UNTYPED_SCHEMA),
            int(self.sizes[part].sum()),
        )


class _Shapes:
    """What the heads of batches must be by what they say of keys and values, and whether they are.

    What may not be is compared with the head of an empty record, which it is not.
    """

    def __init__(self, words: _Ints) -> None:
        shapes = words[:, _SHAPE]
        possible = ((shapes >= 0) & (shapes <= (1, 1, MAX_BATCH, MAX_BATCH))).all(axis=1)
        key_nulls, value_nulls, key_sizes, value_sizes = shapes.T
        codes = key_nulls | value_nulls << 1 | key_sizes << 2 | value_sizes << 32
        known, self._which = np.unique(np.where(possible, codes, 0), return_inverse=True)
        self._frames = []
        for code in known.tolist():
            shape = code & 1, code >> 1 & 1, code >> 2 & (1 << 30) - 1, code >> 32
            self._frames.append(frame_of_one(*(shape if can_be(*shape) else _EMPTY)))
        heads = [
            b"".join((f.before_slot, MAGIC, bytes(SLOT_END - LEADER_START), f.behind_slot))
            + bytes(8)
            + f.key.ljust(16, b"\0")
            for f in self._frames
        ]
        expected = np.frombuffer(b"".join(heads), "<i8").reshape(len(heads), -1) & _FIXED
        self.good: _Bools = (words & _FIXED == expected[self._which]).all(axis=1)
        self.good &= (key_nulls == 0) | (words[:, -1] == 0)
        self.sizes = METADATA_OF_ONE + self._each([f.body_size for f in self._frames])
        self.headers_at = METADATA_OF_ONE + self._each([f.headers_at for f in self._frames])

    def prefix_crcs(self, seed: int) -> list[int]:
        """CRC of what stands before the leader's part."""
        crcs = [crc32c.crc32c(frame.before_slot + MAGIC, seed) for frame in self._frames]
        listed: list[int] = self._each(crcs).tolist()
        return listed

    def _each(self, by_shape: list[int]) -> _Ints:
        found: _Ints = np.array(by_shape, np.int64)[self._which]
        return found


def _look_at(
    data: memoryview, at: _Ints, sizes: _Ints, partition: PartitionId | None
) -> _Window | None:
    """Take batches apart as if each had one record; None where that leads nowhere."""
    candidates: _Bools = (
        (sizes >= _MIN_BATCH) & (sizes <= MAX_BATCH) & (at >= 0) & (at + sizes <= len(data))
    )
    if not candidates.any():
        return None
    # What is no candidate is looked at as if it were the first one: all have the same length then.
    at = np.where(candidates, at, at[candidates.argmax()])
    words = _words(data, at, _HEAD)
    slots = _decoded(words)
    if slots is None:
        return None
    shapes = _Shapes(words)
    key_nulls, value_nulls, key_sizes, value_sizes = words[:, _SHAPE].T
    timestamps = words[:, _TIMESTAMP].copy()
    good = candidates & shapes.good & (shapes.sizes == sizes) & _fits(slots, sizes, timestamps)
    headers_at = at + np.where(good, shapes.headers_at, _KEY_AT)
    values_at = headers_at + _TAIL
    good &= _tails_fit(data, headers_at, np.where(good, value_nulls, 0), value_sizes)
    if partition is not None:
        prefixes = shapes.prefix_crcs(partition_seed(partition))
        bounds = zip((at + LEADER_END).tolist(), (at + sizes).tolist(), prefixes, strict=True)
        crcs = [crc32c.crc32c(data[start:end], prefix) for start, end, prefix in bounds]
        good &= np.array(crcs, np.uint32) == slots["crc"]
    continued = np.zeros(len(at), bool)
    continued[1:] = good[1:] & good[:-1] & (np.diff(slots["base_offset"]) == 1)
    return _Window(
        good,
        np.flatnonzero(~continued),
        slots["base_offset"],
        timestamps,
        sizes,
        _Texts(at + _KEY_AT, key_sizes, key_nulls),
        _Texts(values_at, value_sizes, value_nulls),
    )


def _decoded(heads: _Ints) -> npt.NDArray[Any] | None:
    """The header slots; None where one is not base64."""
    encoded = heads.view(np.uint8)[:, LEADER_START:SLOT_END].tobytes()
    try:
        decoded = binascii.a2b_base64(encoded)
    except binascii.Error:
        return None
    # What is not base64 is overlooked there.
    return np.frombuffer(decoded, _SLOT) if len(decoded) * 4 == len(encoded) * 3 else None


def _fits(slots: npt.NDArray[Any], sizes: _Ints, timestamps: _Ints) -> _Bools:
    """Whether a slot is that of one record with this timestamp, and its leader's part is whole."""
    content = slots.tobytes()
    crc, step = crc32c.crc32c, _SLOT.itemsize
    checks = [crc(content[at : at + _CHECKED]) for at in range(0, len(content), step)]
    fits: _Bools = (
        (np.array(checks, np.uint32) == slots["check"])
        & (slots["version"] == FORMAT_VERSION)
        & (slots["flags"] | TRANSACTIONAL == TRANSACTIONAL)
        & (slots["leader_flags"] == 0)
        & (slots["record_count"] == 1)
        & (slots["schema_id"] == 0)
        & (slots["size"] == sizes)
        & (slots["base_timestamp"] == timestamps)
        & (slots["max_timestamp"] == timestamps)
    )
    return fits


def _tails_fit(data: memoryview, at: _Ints, value_nulls: _Ints, value_sizes: _Ints) -> _Bools:
    """Whether between key and value stand no headers and the value's offsets."""
    words = _words(data, at, _TAIL)
    fit: _Bools = (words[:, :-1] == 0).all(axis=1) & (words[:, -1] == value_sizes << 32)
    tombstones = np.flatnonzero(value_nulls)
    if len(tombstones):
        fit[tombstones] &= _words(data, at[tombstones] + _TAIL, 8)[:, 0] == 0
    return fit


def _equal_pieces(data: memoryview, at: _Ints, size: int) -> npt.NDArray[Any]:
    """Pieces of ``data`` of one size, copied."""
    every: npt.NDArray[Any] = np.ndarray((len(data) - size + 1,), f"V{size}", data, 0, (1,))
    return every[at]


def _words(data: memoryview, at: _Ints, size: int) -> _Ints:
    """The same as rows of integers."""
    words: _Ints = _equal_pieces(data, at, size).view("<i8").reshape(len(at), -1)
    return words


def _joined(data: memoryview, at: _Ints, sizes: _Ints) -> bytes:
    """Pieces one behind the other."""
    size = int(sizes[0])
    if size and (sizes == size).all():
        return _equal_pieces(data, at, size).tobytes()
    bounds = zip(at.tolist(), (at + sizes).tolist(), strict=True)
    return b"".join([data[start:end] for start, end in bounds])
