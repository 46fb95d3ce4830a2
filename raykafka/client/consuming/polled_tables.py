"""Fetched batches as Arrow record batches and tables, without an object per record."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa

from raykafka.client.consuming.rows import Rows
from raykafka.client.partitioner import render_keys
from raykafka.errors import IllegalStateError, InvalidConfigError
from raykafka.log.schema import storage_schema
from raykafka.model import TopicPartition

METADATA_COLUMNS: Final = (
    "__topic",
    "__partition",
    "__offset",
    "__timestamp",
    "__key",
    "__headers",
)
"""Columns that ``poll_table`` and ``poll_batches`` put before the value's, where asked to."""

_TIMESTAMP: Final = pa.timestamp("ms")
_RESERVED: Final = storage_schema(pa.schema([]))
_TYPES: Final = {
    "__topic": pa.string(),
    "__partition": pa.int32(),
    "__offset": pa.int64(),
    **{each.name: each.type for each in _RESERVED},
}


@dataclass(frozen=True, slots=True)
class PartitionBatch:
    """Consecutive records of one partition as columns; ``batch`` shares memory with the log's."""

    partition: TopicPartition
    base_offset: int
    """Offset of the first row; the others follow without gaps."""
    next_offset: int
    """Where the partition is read on."""
    batch: pa.RecordBatch = field(repr=False)

    @property
    def num_rows(self) -> int:
        """Records in the batch."""
        rows: int = self.batch.num_rows
        return rows


def checked_metadata(columns: Iterable[str]) -> tuple[str, ...]:
    """Names of metadata columns; raises ``InvalidConfigError`` for any other."""
    wanted = (columns,) if isinstance(columns, str) else tuple(columns)
    for name in wanted:
        if name not in _TYPES:
            raise InvalidConfigError(
                f"{name!r} is not a metadata column; there are {', '.join(METADATA_COLUMNS)}"
            )
    return wanted


def as_batch(rows: Rows, metadata: Sequence[str]) -> pa.RecordBatch:
    """The metadata columns asked for and the value's columns."""
    names = rows.format.value_columns or ("value",)
    if not metadata:
        return rows.columns.select(names)
    columns = [_METADATA[name](rows) for name in metadata]
    columns += [rows.columns.column(name) for name in names]
    fields = [rows.columns.schema.field(name) for name in names]
    return pa.RecordBatch.from_arrays(columns, schema=metadata_schema(metadata, fields))


def as_table(
    batches: Sequence[pa.RecordBatch], put_back: Callable[[], None] | None = None
) -> pa.Table:
    """The batches as one table, without copying; columns that some lack are null there.

    Raises ``IllegalStateError`` where a column has two types, as topics may differ; ``put_back`` is
    called before, since nobody gets the records then.
    """
    schema = batches[0].schema
    if all(batch.schema.equals(schema) for batch in batches[1:]):
        return pa.Table.from_batches(batches)
    tables = [pa.Table.from_batches([batch]) for batch in batches]
    try:
        return pa.concat_tables(tables, promote_options="default")
    except (pa.ArrowException, ValueError, TypeError) as error:
        if put_back is not None:
            put_back()
        raise IllegalStateError(
            f"the topics' columns do not fit in one table ({error}); use poll_batches, or a "
            "consumer for each topic"
        ) from error


def metadata_schema(metadata: Sequence[str], values: Iterable[pa.Field]) -> pa.Schema:
    """The schema of what ``as_batch`` makes."""
    return pa.schema([*[pa.field(name, _TYPES[name]) for name in metadata], *values])


def _topics(rows: Rows) -> pa.Array:
    return pa.repeat(pa.scalar(rows.format.topic, pa.string()), rows.count)


def _partitions(rows: Rows) -> pa.Array:
    return pa.array(np.full(rows.count, rows.partition, np.int32))


def _offsets(rows: Rows) -> pa.Array:
    return pa.array(np.arange(rows.base_offset, rows.base_offset + rows.count, dtype=np.int64))


def _timestamps(rows: Rows) -> pa.Array:
    if rows.log_append_time is None:
        return rows.columns.column("__timestamp")
    return pa.array(np.full(rows.count, rows.log_append_time, np.int64)).view(_TIMESTAMP)


def _keys(rows: Rows) -> pa.Array:
    if rows.format.key_column:
        return render_keys(rows.columns.column(rows.format.key_column))
    return rows.columns.column("__key")


def _headers(rows: Rows) -> pa.Array:
    return rows.columns.column("__headers")


_METADATA: Final[dict[str, Any]] = {
    "__topic": _topics,
    "__partition": _partitions,
    "__offset": _offsets,
    "__timestamp": _timestamps,
    "__key": _keys,
    "__headers": _headers,
}
