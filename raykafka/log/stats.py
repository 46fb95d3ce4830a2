"""Column statistics of a batch: smallest and largest value and the number of nulls.

They let readers of typed topics pass over batches that cannot match a filter. They are computed by
the producer and covered by the batch's CRC, as one JSON object under the metadata key ``rk.stats``.
"""

from __future__ import annotations

import json
import math
from typing import Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from raykafka.errors import CorruptMessageError
from raykafka.log.batch_header import Message
from raykafka.log.ipc_message import read_statistics_value
from raykafka.log.schema import RESERVED

MIN_ROWS: Final = 16
"""Smaller batches carry no statistics: they would cost more than reading the rows."""
MAX_BYTES: Final = 64 << 10
"""Statistics that come out larger are left out altogether."""
_MAX_TEXT: Final = 64

Scalar = int | float | str | bool | None


class ColumnStatistics(NamedTuple):
    """Bounds are None where the column has only nulls, or values without bounds of this kind.

    Dates, times, timestamps and durations are the integers that Arrow stores, in the unit of the
    column's type.
    """

    minimum: Scalar
    maximum: Scalar
    null_count: int


def column_statistics(batch: pa.RecordBatch) -> bytes:
    """The statistics of a batch's value columns as ASCII JSON, or nothing.

    Nothing for batches of fewer than ``MIN_ROWS`` records and where no column has an order that
    JSON can express: numbers, booleans, dates and times, and strings of at most 64 characters.
    NaN is not counted, and an infinite bound leaves the column out.
    """
    if batch.num_rows < MIN_ROWS:
        return b""
    found: dict[str, tuple[Scalar, Scalar, int]] = {}
    for position, name in enumerate(batch.schema.names):
        if name in RESERVED:
            continue
        column = _ordered(batch.column(position))
        if column is None:
            continue
        extremes = pc.min_max(column)
        low, high = extremes["min"].as_py(), extremes["max"].as_py()
        if _fits(low) and _fits(high):
            found[name] = (low, high, column.null_count)
    encoded = json.dumps(found, separators=(",", ":")).encode("ascii") if found else b""
    return encoded if len(encoded) <= MAX_BYTES else b""


def read_statistics(message: Message) -> dict[str, ColumnStatistics]:
    """The statistics that a batch carries, by column; empty where it has none.

    Raises ``CorruptMessageError`` where they are not what ``column_statistics`` writes.
    """
    encoded = read_statistics_value(message)
    if not encoded:
        return {}
    try:
        found = json.loads(encoded)
    except (ValueError, RecursionError):
        raise CorruptMessageError("the batch's statistics are not JSON") from None
    if not isinstance(found, dict):
        raise CorruptMessageError("the batch's statistics are not a JSON object")
    return {name: _column(name, value) for name, value in found.items()}


def _column(name: str, value: object) -> ColumnStatistics:
    if isinstance(value, list) and len(value) == 3:
        low, high, nulls = value
        scalars = (int, float, str, type(None))
        known = isinstance(low, scalars) and isinstance(high, scalars)
        if known and type(nulls) is int and nulls >= 0:
            return ColumnStatistics(low, high, nulls)
    raise CorruptMessageError(f"the batch's statistics of column {name!r} are not bounds")


def _ordered(column: pa.Array) -> pa.Array | None:
    """The column as something whose extremes JSON can express, or None."""
    kind = column.type
    types = pa.types
    if types.is_integer(kind) or types.is_boolean(kind):
        return column
    if types.is_float32(kind) or types.is_float64(kind):
        return column
    if types.is_string(kind) or types.is_large_string(kind):
        return column
    if types.is_date32(kind) or types.is_time32(kind):
        return column.view(pa.int32())
    if (
        types.is_date64(kind)
        or types.is_time64(kind)
        or types.is_timestamp(kind)
        or types.is_duration(kind)
    ):
        return column.view(pa.int64())
    return None


def _fits(bound: Scalar) -> bool:
    if isinstance(bound, float):
        return math.isfinite(bound)
    return not isinstance(bound, str) or len(bound) <= _MAX_TEXT
