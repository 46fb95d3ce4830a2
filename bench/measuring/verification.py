"""Was every record read once, in its producer's order, and unchanged? Else the run is void."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from bench.measuring.records import HEAD_BYTES, Matrix, Records, filler_pool, heads

_BLOCK_ROWS = 100_000


class VoidRunError(Exception):
    """A run whose records were lost, doubled, reordered or changed counts for nothing."""


@dataclass(frozen=True)
class Taken:
    """What a consumer read from one partition, in its order."""

    partition: int
    values: Sequence[bytes] | Sequence[pa.Array]
    """Either one value per record, or binary columns of many."""

    def matrix(self, size: int) -> Matrix:
        """One row per record. Raises ``VoidRunError`` where a record has another size."""
        parts = [_as_bytes(value) for value in self.values]
        data = b"".join(parts)
        count = sum(len(value) if isinstance(value, pa.Array) else 1 for value in self.values)
        if len(data) != count * size:
            raise VoidRunError(
                f"partition {self.partition} gave {len(data)} bytes in {count} records, "
                f"not {size} each"
            )
        return np.frombuffer(data, np.uint8).reshape(count, size)


def _as_bytes(value: bytes | pa.Array) -> bytes | memoryview:
    if not isinstance(value, pa.Array):
        return value
    if not len(value):
        return b""
    start, end = value.offset, value.offset + len(value)
    width = np.int64 if pa.types.is_large_binary(value.type) else np.int32
    offsets = np.frombuffer(value.buffers()[1], width)
    return memoryview(value.buffers()[2])[offsets[start] : offsets[end]]


def join_parts(read: Sequence[tuple[int, list[bytes]]]) -> list[Taken]:
    """The helpings of each partition in one piece."""
    partitions: dict[int, list[bytes]] = {}
    for partition, values in read:
        partitions.setdefault(partition, []).extend(values)
    return [Taken(partition, values) for partition, values in partitions.items()]


def verify(taken: Iterable[Taken], sent: Sequence[Records]) -> int:
    """Check everything that was read against everything that was sent; the number of records.

    Every (producer, sequence) must be there once, a producer's sequences must rise within each
    partition, and every byte behind the head must be what was sent. Raises ``VoidRunError``.
    """
    size, share = sent[0].size, sent[0].random_share
    seen: dict[int, list[np.ndarray]] = {records.producer: [] for records in sent}
    total = 0
    for part in taken:
        matrix = part.matrix(size)
        total += len(matrix)
        head = heads(matrix)
        _check_filler(matrix, head["sequence"].astype(np.int64), size, share, part.partition)
        for producer in np.unique(head["producer"]).tolist():
            if producer not in seen:
                raise VoidRunError(f"a record of producer {producer}, which does not exist")
            sequences = head["sequence"][head["producer"] == producer].astype(np.int64)
            steps = np.diff(sequences)
            if (steps <= 0).any():
                at = int(np.flatnonzero(steps <= 0)[0])
                raise VoidRunError(
                    f"partition {part.partition}: sequence {sequences[at + 1]} of producer "
                    f"{producer} follows {sequences[at]}"
                )
            seen[producer].append(sequences)
    for records in sent:
        _check_complete(records, seen[records.producer])
    return total


def _check_filler(
    matrix: Matrix, sequences: np.ndarray, size: int, share: float, partition: int
) -> None:
    pool = filler_pool(size, share)
    for start in range(0, len(matrix), _BLOCK_ROWS):
        block = slice(start, start + _BLOCK_ROWS)
        wrong = (matrix[block, HEAD_BYTES:] != pool[sequences[block] % len(pool)]).any(axis=1)
        if wrong.any():
            at = start + int(np.flatnonzero(wrong)[0])
            raise VoidRunError(f"partition {partition}: the record at place {at} was changed")


def _check_complete(records: Records, parts: list[np.ndarray]) -> None:
    found = np.sort(np.concatenate(parts)) if parts else np.array([], np.int64)
    wanted = np.arange(records.first, records.first + records.count)
    if len(found) == len(wanted) and (found == wanted).all():
        return
    lost = np.setdiff1d(wanted, found)
    doubled = len(found) - len(np.unique(found))
    raise VoidRunError(
        f"producer {records.producer}: {len(lost)} of {len(wanted)} records lost"
        f"{f' (the first is {lost[0]})' if len(lost) else ''}, {doubled} doubled, "
        f"{len(np.setdiff1d(found, wanted))} never sent"
    )


def verify_ends(ends: Mapping[int, int], count: int) -> None:
    """For a client whose records are not ours: the log must hold as many as it says it sent."""
    if sum(ends.values()) != count:
        raise VoidRunError(f"{count} records were sent, the log holds {sum(ends.values())}")
