"""From a chunk of records to one Arrow batch per partition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raykafka.client.cluster.metadata import TopicMetadata
from raykafka.client.partitioner import (
    StickyPartition,
    partition_for_key,
    partitions_for_keys,
    render_keys,
)
from raykafka.client.producing.delivery import Delivery, Group
from raykafka.client.producing.groups import Chunk, TableGroup
from raykafka.errors import InvalidRecordError, RaykafkaError, UnknownTopicOrPartitionError
from raykafka.log.schema import HEADERS_TYPE
from raykafka.log.small_batch import MAX_ROWS, SmallRecords

Int64Array = npt.NDArray[np.int64]

_FRACTIONAL = (float, np.floating)
_TIMESTAMP_TYPE = pa.timestamp("ms")


def timestamp_column(timestamps: Int64Array) -> pa.Array:
    """Milliseconds since the epoch as a ``__timestamp`` column."""
    memory = pa.py_buffer(np.ascontiguousarray(timestamps))
    return pa.Array.from_buffers(_TIMESTAMP_TYPE, len(timestamps), [None, memory])


def cut(group: Group, topic: TopicMetadata, sticky: StickyPartition) -> RaykafkaError | None:
    """Make deliveries of a group; the first error of records that fail by themselves, if any do."""
    if isinstance(group, Chunk):
        cut_chunk(group, topic, sticky, topic.led)
        return next(iter(group.errors.values()), None)
    if isinstance(group, TableGroup):
        cut_table(group, sticky, topic.led)
    return None


def cut_chunk(
    chunk: Chunk, topic: TopicMetadata, sticky: StickyPartition, available: Sequence[int]
) -> None:
    """Make deliveries of a chunk and tell it which record is where.

    Records that do not fit the topic fail by themselves. ``available`` are the partitions that
    have a leader now: records without a key go to one of them.
    """
    if chunk.schema_id >= len(topic.storage_schemas) or topic.typed != chunk.typed:
        raise InvalidRecordError(
            f"topic {topic.name!r} was created anew with another schema; send the records again"
        )
    if len(chunk.values) <= MAX_ROWS and not topic.typed and chunk.headers is None:
        _cut_small(chunk, topic, sticky, available)
        return
    errors: dict[int, RaykafkaError] = {}
    values = _value_columns(chunk, topic, errors)
    kept = None
    if errors:
        good = [index for index in range(len(chunk.values)) if index not in errors]
        kept = np.array(good, np.int64)
        values = [column.take(pa.array(kept)) for column in values]
    keys = _pick(chunk.keys, kept)
    headers = _pick(chunk.headers, kept)
    timestamps = chunk.timestamps()
    rows = len(chunk.values) - len(errors)
    arrays = [
        timestamp_column(timestamps if kept is None else timestamps[kept]),
        pa.nulls(rows, pa.binary()) if keys is None else pa.array(keys, pa.binary()),
        pa.nulls(rows, HEADERS_TYPE) if headers is None else pa.array(headers, HEADERS_TYPE),
        *values,
    ]
    schema = topic.storage_schemas[chunk.schema_id]
    batch = pa.RecordBatch.from_arrays(arrays, schema=schema)
    key_column = arrays[1] if keys is not None else None
    if topic.key_column:
        key_column = render_keys(batch.column(topic.key_column))
    wished = _pick(chunk.partitions, kept)
    places = _partitions(wished, key_column, rows, topic, sticky, available, chunk.size)
    if rows and (places >= len(topic.partitions)).any():
        _refuse_missing(chunk, batch, places, kept, errors, topic)
        return
    _place(chunk, batch, places, kept, errors)


def _cut_small(
    chunk: Chunk, topic: TopicMetadata, sticky: StickyPartition, available: Sequence[int]
) -> None:
    """A few records of an untyped topic: plain Python is faster than Arrow and numpy."""
    keys, values = chunk.keys, chunk.values
    count = len(topic.partitions)
    if chunk.partitions is None and (keys is None or len(values) == 1):
        key = None if keys is None else keys[0]
        if key is None:
            place = sticky.choose(available, chunk.size)
        else:
            place = partition_for_key(key, count)
        _place_together(chunk, place)
        return
    wished = chunk.partitions or [-1] * len(values)
    resting = -1
    rows_of: dict[int, list[int]] = {}
    errors: dict[int, RaykafkaError] = {}
    for row, place in enumerate(wished):
        if place >= count:
            errors[row] = _missing(topic, place)
            continue
        if place < 0:
            key = None if keys is None else keys[row]
            if key is not None:
                place = partition_for_key(key, count)
            else:
                if resting < 0:
                    resting = sticky.choose(available, chunk.size)
                place = resting
        rows_of.setdefault(place, []).append(row)
    if len(rows_of) == 1 and not errors:
        _place_together(chunk, next(iter(rows_of)))
        return
    timestamps = chunk.timestamp_list()
    deliveries: list[Delivery] = []
    batch_of, position_of = [-1] * len(values), [0] * len(values)
    for place, rows in rows_of.items():
        for position, row in enumerate(rows):
            batch_of[row], position_of[row] = len(deliveries), position
        records = SmallRecords(
            [timestamps[row] for row in rows],
            None if keys is None else [keys[row] for row in rows],
            [values[row] for row in rows],
        )
        deliveries.append(Delivery(chunk, chunk.topic, place, records, chunk.schema_id))
    chunk.place(deliveries, batch_of, position_of, errors)


def _place_together(chunk: Chunk, place: int) -> None:
    records = SmallRecords(chunk.timestamp_list(), chunk.keys, chunk.values)
    only = Delivery(chunk, chunk.topic, place, records, chunk.schema_id)
    chunk.place((only,), None, None, {})


def cut_table(group: TableGroup, sticky: StickyPartition, available: Sequence[int]) -> None:
    """Make deliveries of a table's parts; those of no particular partition get one now."""
    deliveries: list[Delivery] = []
    for partition, batch, size in group.parts:
        chosen = partition if partition >= 0 else sticky.choose(available, size)
        deliveries.append(Delivery(group, group.topic, chosen, batch, group.schema_id))
    group.place(deliveries)


def split_by_partition(
    batch: pa.RecordBatch, places: Int64Array
) -> tuple[list[tuple[int, pa.RecordBatch]], Int64Array | None]:
    """One slice per partition, rows in their order; and the permutation that was applied."""
    if (places == places[0]).all():
        return [(int(places[0]), batch)], None
    # Numpy sorts small integers by counting them.
    small = places.astype(np.int16) if places.max() < 1 << 15 else places
    order = np.argsort(small, kind="stable")
    taken = batch.take(pa.array(order))
    in_order = places[order]
    bounds = [0, *(np.flatnonzero(np.diff(in_order)) + 1).tolist(), len(places)]
    parts = [
        (int(in_order[start]), taken.slice(start, end - start)) for start, end in pairwise(bounds)
    ]
    return parts, order


def _place(
    chunk: Chunk,
    batch: pa.RecordBatch,
    places: Int64Array,
    kept: Int64Array | None,
    errors: Mapping[int, RaykafkaError],
) -> None:
    total = len(chunk.values)
    if not len(places):
        chunk.place((), np.full(total, -1).tolist(), None, errors)
        return
    parts, order = split_by_partition(batch, places)
    deliveries = [
        Delivery(chunk, chunk.topic, partition, part, chunk.schema_id) for partition, part in parts
    ]
    if order is None and kept is None:
        chunk.place(deliveries, None, None, errors)
        return
    sizes = [part.num_rows for _, part in parts]
    batch_of = np.full(total, -1, np.int64)
    position_of = np.zeros(total, np.int64)
    rows = np.arange(len(places)) if order is None else order
    rows = rows if kept is None else kept[rows]
    batch_of[rows] = np.repeat(np.arange(len(parts)), sizes)
    position_of[rows] = np.concatenate([np.arange(size) for size in sizes])
    chunk.place(deliveries, batch_of, position_of, errors)


def _refuse_missing(
    chunk: Chunk,
    batch: pa.RecordBatch,
    places: Int64Array,
    kept: Int64Array | None,
    errors: dict[int, RaykafkaError],
    topic: TopicMetadata,
) -> None:
    """The topic was created anew with fewer partitions since ``send`` looked."""
    rows = np.arange(len(places)) if kept is None else kept
    missing = places >= len(topic.partitions)
    for row, partition in zip(rows[missing].tolist(), places[missing].tolist(), strict=True):
        errors[row] = _missing(topic, partition)
    there = ~missing
    _place(chunk, batch.filter(pa.array(there)), places[there], rows[there], errors)


def _missing(topic: TopicMetadata, partition: int) -> UnknownTopicOrPartitionError:
    return UnknownTopicOrPartitionError(
        f"topic {topic.name!r} now has {len(topic.partitions)} partitions, not {partition + 1}"
    )


def _pick(column: list[Any] | None, kept: Int64Array | None) -> list[Any] | None:
    if column is None or kept is None:
        return column
    return [column[index] for index in kept.tolist()]


def _partitions(
    wished: list[int] | None,
    keys: pa.Array | None,
    rows: int,
    topic: TopicMetadata,
    sticky: StickyPartition,
    available: Sequence[int],
    size_bytes: int,
) -> Int64Array:
    if wished is None:
        places = np.full(rows, -1, np.int64)
    else:
        places = np.array(wished, np.int64)
    if keys is not None:
        free = places < 0
        places[free] = partitions_for_keys(keys, len(topic.partitions))[free]
    free = places < 0
    count = int(np.count_nonzero(free))
    if count:
        places[free] = sticky.choose(available, size_bytes * count // rows)
    return places


def _value_columns(
    chunk: Chunk, topic: TopicMetadata, errors: dict[int, RaykafkaError]
) -> list[pa.Array]:
    if not topic.typed:
        return [pa.array(chunk.values, pa.binary())]
    schema = topic.schemas[chunk.schema_id]
    columns = []
    for field, values in zip(schema, zip(*chunk.values, strict=True), strict=True):
        try:
            _refuse_fractions(field.type, values)
            column = pa.array(values, field.type)
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            column = _salvage(field, values, errors)
        if not field.nullable and column.null_count:
            for index, value in enumerate(values):
                if value is None:
                    errors[index] = InvalidRecordError(
                        f"column {field.name!r} ({field.type}) does not accept nulls"
                    )
        columns.append(column)
    return columns


def _refuse_fractions(kind: pa.DataType, values: Sequence[Any]) -> None:
    """Arrow drops what stands behind the point of a number for a column of integers or times."""
    if not (pa.types.is_integer(kind) or pa.types.is_temporal(kind)):
        return
    if any(issubclass(found, _FRACTIONAL) for found in set(map(type, values))):
        for value in values:
            if isinstance(value, _FRACTIONAL) and not float(value).is_integer():
                raise ValueError("it has a fraction")


def _salvage(field: pa.Field, values: Sequence[Any], errors: dict[int, RaykafkaError]) -> pa.Array:
    """The column with null in place of the values it cannot hold, which go to ``errors``."""
    fitting: list[Any] = list(values)
    for index, value in enumerate(values):
        try:
            _refuse_fractions(field.type, (value,))
            pa.array([value], field.type)
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            errors[index] = InvalidRecordError(
                f"column {field.name!r} has type {field.type}, which does not hold {value!r:.80} "
                f"of type {type(value).__name__}: {error}"
            )
            fitting[index] = None
    return pa.array(fitting, field.type)
