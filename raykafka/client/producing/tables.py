"""From whatever a caller calls a table to batches that fit a topic."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from raykafka.client.cluster.metadata import TopicMetadata
from raykafka.client.partitioner import partitions_for_keys, render_keys
from raykafka.client.producing.cutting import split_by_partition, timestamp_column
from raykafka.client.producing.groups import TablePart
from raykafka.client.producing.serializers import checked_timestamp
from raykafka.errors import (
    InvalidRecordError,
    InvalidTimestampError,
    MessageTooLargeError,
    SerializationError,
    UnknownTopicOrPartitionError,
)
from raykafka.log.schema import HEADERS, HEADERS_TYPE, KEY, RESERVED, TIMESTAMP, conform

Partitioner = Callable[[str, "bytes | None", int], int]
"""Topic, key, number of partitions; returns the partition."""

READER_COLUMNS = frozenset({"__offset", "__partition", "__topic"})
"""Columns that ``poll_table`` may add; a table that was read may be sent on as it is."""

_GOOD_CHUNK_BYTES = 1 << 20


def as_table(data: Any, wanted: pa.Schema) -> pa.Table:
    """An Arrow table of any kind of table: Arrow, pandas, polars, a dict of arrays, rows as dicts.

    ``wanted`` decides on the width of Python's numbers, which have none. Raises
    ``SerializationError`` for anything else.
    """
    if isinstance(data, pa.Table):
        return data
    if isinstance(data, pa.RecordBatch):
        return pa.Table.from_batches([data])
    try:
        if isinstance(data, pa.RecordBatchReader):
            return data.read_all()
        if isinstance(data, Mapping):
            return pa.table({name: _column(data[name], name, wanted) for name in data})
        library = type(data).__module__.partition(".")[0]
        if library == "pandas":
            return pa.Table.from_pandas(data, preserve_index=False)
        if library == "polars" and hasattr(data, "to_arrow"):
            # Dictionaries of string views, polars' own choice, are more than Arrow can unpack.
            return data.to_arrow(compat_level=sys.modules["polars"].CompatLevel.oldest())
        if hasattr(data, "__arrow_c_stream__") or hasattr(data, "__arrow_c_array__"):
            return pa.table(data)
        if isinstance(data, (list, tuple)) and all(isinstance(row, Mapping) for row in data):
            return _table_of_rows(data, wanted)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise SerializationError(f"the data do not make an Arrow table: {error}") from error
    raise SerializationError(
        f"cannot make a table of {type(data).__name__}; send an Arrow table or batch, a pandas or "
        "polars frame, a dict of arrays or a list of dicts"
    )


def _table_of_rows(rows: Sequence[Mapping[str, Any]], wanted: pa.Schema) -> pa.Table:
    """A row may lack what others have; Arrow itself would take the columns of the first only."""
    names = dict.fromkeys(name for row in rows for name in row)
    return pa.table(
        {name: _column([row.get(name) for row in rows], name, wanted) for name in names}
    )


def _column(values: Any, name: str, wanted: pa.Schema) -> Any:
    """Arrays as they are, lists as arrays."""
    if not isinstance(values, (list, tuple)):
        return values
    position = wanted.get_field_index(name)
    try:
        array = pa.array(values)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        kind = wanted.types[position] if position >= 0 else None
        try:  # maps, for one, are not told from lists by their values
            return pa.array(values, kind)
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            if kind is None:
                raise SerializationError(f"column {name!r} is no array: {error}") from error
            raise InvalidRecordError(
                f"column {name!r} has type {kind}, which does not hold its values: {error}"
            ) from error
    if position >= 0 and _differs_in_width(array.type, wanted.types[position]):
        with contextlib.suppress(pa.ArrowException):  # told when the table is made to conform
            return pa.array(values, wanted.types[position])
    return array


def _differs_in_width(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether Arrow took Python's numbers for longer ones than the floats that are wanted."""
    types = pa.types
    if types.is_list(found):
        kinds = (types.is_list, types.is_large_list, types.is_fixed_size_list)
        return any(is_kind(wanted) for is_kind in kinds) and _differs_in_width(
            found.value_type, wanted.value_type
        )
    return bool(
        types.is_floating(wanted)
        and found != wanted
        and (types.is_floating(found) or types.is_integer(found))
    )


class TablePlan:
    """How one table goes to one topic: its columns sorted out, then cut by partition and size."""

    def __init__(
        self,
        data: Any,
        topic: TopicMetadata,
        *,
        key: str | None,
        timestamps: Any,
        now_ms: int,
    ) -> None:
        """Raises ``InvalidRecordError`` where the table does not fit the topic's schema or lacks a
        column that was named, ``SerializationError`` where it is no table.
        """
        self._topic = topic
        table = as_table(data, topic.value_schema)
        names = table.column_names
        dropped = set(READER_COLUMNS.intersection(names))
        key_name = self._key_name(key, table)
        self._keys: pa.Array | None = None
        own_key = None
        if key_name is not None:
            self._keys = render_keys(table.column(key_name))
            if key_name != topic.key_column:
                own_key = self._keys
            if key_name not in topic.value_schema.names:
                dropped.add(key_name)
        elif KEY in names:
            own_key = self._keys = render_keys(table.column(KEY))
        stamps, stamp_name = _timestamps(table, timestamps, now_ms)
        if stamp_name is not None and stamp_name not in topic.value_schema.names:
            dropped.add(stamp_name)
        headers = table.column(HEADERS) if HEADERS in names else None
        others = [name for name in names if name in dropped or name in RESERVED]
        values = table.drop_columns(others) if others else table
        rows = table.num_rows
        self._table = pa.Table.from_arrays(
            [
                stamps,
                pa.nulls(rows, pa.binary()) if own_key is None else own_key,
                pa.nulls(rows, HEADERS_TYPE) if headers is None else _headers(headers),
                *conform(values, topic.value_schema).columns,
            ],
            schema=topic.storage_schemas[topic.schema_id],
        )

    def cut(
        self, partition: int | None, partitioner: Partitioner | None, largest_batch: int
    ) -> list[TablePart]:
        """Batches of at most about ``largest_batch`` bytes.

        Raises ``MessageTooLargeError`` for a row that is larger by itself.
        """
        table = self._table
        if not table.num_rows:
            return []
        count = len(self._topic.partitions)
        if partition is not None and not 0 <= partition < count:
            raise UnknownTopicOrPartitionError(
                f"topic {self._topic.name!r} has partitions 0 to {count - 1}, not {partition}"
            )
        if partition is None and count == 1:
            partition = 0
        parts: list[TablePart] = []
        start = 0
        for batch in _batches(table):
            if partition is not None or self._keys is None:
                pieces = [(-1 if partition is None else partition, batch)]
            else:
                keys = self._keys.slice(start, batch.num_rows)
                pieces, _ = split_by_partition(batch, self._places(keys, count, partitioner))
            start += batch.num_rows
            for place, piece in pieces:
                parts += _slices(place, piece, largest_batch)
        return parts

    def _places(self, keys: pa.Array, count: int, partitioner: Partitioner | None) -> Any:
        if partitioner is None:
            return partitions_for_keys(keys, count)
        chosen = [partitioner(self._topic.name, key, count) for key in keys.to_pylist()]
        for place in chosen:
            if not 0 <= place < count:
                raise UnknownTopicOrPartitionError(
                    f"the partitioner chose {place}, topic {self._topic.name!r} has partitions "
                    f"0 to {count - 1}"
                )
        return np.array(chosen, np.int64)

    def _key_name(self, key: str | None, table: pa.Table) -> str | None:
        own = self._topic.key_column
        if own and key not in (None, own):
            raise InvalidRecordError(
                f"the key of topic {self._topic.name!r} is its column {own!r} (key.column), not "
                f"{key!r}; leave key out"
            )
        name = key or own or None
        if name is not None and name not in table.column_names:
            raise InvalidRecordError(
                f"the key column {name!r} is missing; the table has "
                f"{', '.join(map(repr, table.column_names))}"
            )
        return name


def _timestamps(table: pa.Table, given: Any, now_ms: int) -> tuple[pa.Array, str | None]:
    """The timestamp column, and the name of the table's column it was taken from."""
    rows = table.num_rows
    name = given if isinstance(given, str) else None
    if given is None and TIMESTAMP in table.column_names:
        name = TIMESTAMP
    if name is not None:
        if name not in table.column_names:
            raise InvalidRecordError(f"the timestamp column {name!r} is missing from the table")
        column = table.column(name)
    elif given is None or isinstance(given, int):
        stamp = now_ms if given is None else checked_timestamp(given)
        return timestamp_column(np.full(rows, stamp)), None
    elif isinstance(given, (pa.Array, pa.ChunkedArray)):
        column = given
    else:
        try:
            column = pa.array(given)
        except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
            raise InvalidTimestampError(
                f"timestamps must be times or milliseconds since the epoch: {error}"
            ) from None
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    if column.null_count or len(column) != rows:
        raise InvalidTimestampError(
            f"{rows} rows need as many timestamps without nulls, not {len(column)} with "
            f"{column.null_count} nulls"
        )
    kind = column.type
    try:
        if pa.types.is_timestamp(kind):
            column = column.cast(pa.timestamp("ms", kind.tz), safe=False).cast(pa.int64())
        elif pa.types.is_integer(kind):
            column = column.cast(pa.int64())
        else:
            column = column.cast(pa.timestamp("ms")).cast(pa.int64())
    except (pa.ArrowException, ValueError) as error:
        raise InvalidTimestampError(
            f"timestamps must be times or milliseconds since the epoch, not {kind}: {error}"
        ) from None
    return column.view(pa.timestamp("ms")), name


def _headers(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if column.type == HEADERS_TYPE:
        return column
    try:
        return column.cast(HEADERS_TYPE)
    except (pa.ArrowException, ValueError) as error:
        raise InvalidRecordError(
            f"column {HEADERS!r} has type {column.type}, it must be {HEADERS_TYPE}: {error}"
        ) from None


def _batches(table: pa.Table) -> Sequence[pa.RecordBatch]:
    """Batches of the table without copies, unless it is made of many small chunks."""
    batches: list[pa.RecordBatch] = table.to_batches()
    if len(batches) > 1 and table.nbytes < _GOOD_CHUNK_BYTES * len(batches):
        batches = table.combine_chunks().to_batches()
    return [batch for batch in batches if batch.num_rows]


def _slices(place: int, batch: pa.RecordBatch, largest_batch: int) -> list[TablePart]:
    size = batch.nbytes
    if size <= largest_batch:
        return [TablePart(place, batch, size)]
    rows = batch.num_rows
    if rows == 1:
        raise MessageTooLargeError(
            f"one row has {size} bytes, a batch may have {largest_batch}; raise max_request_size "
            "and the topic's max.message.bytes"
        )
    pieces: list[TablePart] = []
    count = min(rows, -(-size // largest_batch))
    step = -(-rows // count)
    for start in range(0, rows, step):
        pieces += _slices(place, batch.slice(start, step), largest_batch)
    return pieces
