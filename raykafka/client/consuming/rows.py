"""Columns of consecutive records, each turned into a Python list when somebody asks for it.

Whoever reads only values never pays for keys, headers or timestamps; whoever reads tables pays for
no Python object at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import pyarrow as pa

from raykafka.client.partitioner import render_keys
from raykafka.errors import SerializationError
from raykafka.log.small_batch import OneRecord

Header = tuple[str, bytes]
Deserialize = Callable[[str, bytes], Any]
"""(topic, bytes that are not None) -> object."""

_MISSING: Final = object()
_NO_TIMESTAMP: Final = -1


class RowFormat(NamedTuple):
    """How the columns of a topic become the fields of a record."""

    topic: str
    value_columns: tuple[str, ...]
    """Columns of a typed topic's value, in the order wanted; empty for an untyped topic."""
    key_column: str = ""
    """Typed topics: the column that is the key, rendered to bytes."""
    deserialize_key: Deserialize | None = None
    deserialize_value: Deserialize | None = None
    """Untyped topics only: a typed value is a dict of its columns."""


class Rows:
    """A run of consecutive records of one partition, with columns made into lists on demand."""

    __slots__ = (
        "base_offset",
        "columns",
        "count",
        "format",
        "given",
        "header_lists",
        "keys",
        "log_append_time",
        "partition",
        "raw_keys",
        "raw_values",
        "timestamps",
        "values",
    )

    def __init__(
        self,
        columns: pa.RecordBatch | OneRecord,
        row_format: RowFormat,
        partition: int,
        base_offset: int,
        log_append_time: int | None = None,
    ) -> None:
        """``log_append_time`` (ms) replaces every timestamp where the topic uses LogAppendTime."""
        self.given = columns
        """The columns, or a record that can be made into columns."""
        self.format = row_format
        self.partition = partition
        self.base_offset = base_offset
        self.count: int = columns.num_rows
        self.log_append_time = log_append_time

    def __getattr__(self, name: str) -> Any:
        make = _LISTS.get(name)
        if make is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        made = make(self)
        setattr(self, name, made)
        return made

    def where(self, index: int) -> str:
        """Topic, partition and offset of one record, for messages."""
        return f"{self.format.topic}-{self.partition} at offset {self.base_offset + index}"


class _Deserialized:
    """A list whose elements go through a deserializer when they are first asked for."""

    __slots__ = ("_deserialize", "_done", "_field", "_raw", "_rows")

    def __init__(
        self, rows: Rows, raw: list[bytes | None], deserialize: Deserialize, field: str
    ) -> None:
        self._rows = rows
        self._raw = raw
        self._deserialize = deserialize
        self._field = field
        self._done: list[Any] = [_MISSING] * len(raw)

    def __getitem__(self, index: int) -> Any:
        made = self._done[index]
        if made is _MISSING:
            raw = self._raw[index]
            made = None if raw is None else self._call(raw, index)
            self._done[index] = made
        return made

    def _call(self, raw: bytes, index: int) -> Any:
        try:
            return self._deserialize(self._rows.format.topic, raw)
        except Exception as error:
            raise SerializationError(
                f"{self._field} of {self._rows.where(index)} cannot be deserialized: "
                f"{type(error).__name__}: {error}"
            ) from error


class _Dicts:
    """The values of a typed topic: a dict of its columns, made when it is first asked for."""

    __slots__ = ("_columns", "_done", "_names")

    def __init__(self, columns: pa.RecordBatch, names: tuple[str, ...]) -> None:
        self._names = names
        self._columns = [columns.column(name).to_pylist() for name in names]
        self._done: list[dict[str, Any] | None] = [None] * columns.num_rows

    def __getitem__(self, index: int) -> dict[str, Any]:
        made = self._done[index]
        if made is None:
            values = (column[index] for column in self._columns)
            made = self._done[index] = dict(zip(self._names, values, strict=True))
        return made


def as_arrow(columns: pa.RecordBatch | OneRecord) -> pa.RecordBatch:
    """The columns, whatever they were given as."""
    return columns.to_arrow() if type(columns) is OneRecord else columns


def _columns(rows: Rows) -> pa.RecordBatch:
    return as_arrow(rows.given)


def _timestamps(rows: Rows) -> Sequence[int]:
    if rows.log_append_time is not None:
        return [rows.log_append_time] * rows.count
    if type(rows.given) is OneRecord:
        return [rows.given.timestamp]
    millis = rows.columns.column("__timestamp").view(pa.int64())
    if millis.null_count:
        millis = millis.fill_null(_NO_TIMESTAMP)
    listed: list[int] = millis.to_numpy(zero_copy_only=True).tolist()
    return listed


def _raw_keys(rows: Rows) -> list[bytes | None]:
    if type(rows.given) is OneRecord:
        return [rows.given.key]
    if rows.format.key_column:
        return _listed(render_keys(rows.columns.column(rows.format.key_column)))
    return _listed(rows.columns.column("__key"))


def _raw_values(rows: Rows) -> list[bytes | None]:
    if type(rows.given) is OneRecord:
        return [rows.given.value]
    return _listed(rows.columns.column("value"))


def _listed(column: pa.Array) -> list[Any]:
    if column.null_count == len(column):
        return [None] * len(column)
    return list(column.to_pylist())


def _keys(rows: Rows) -> Any:
    if rows.format.deserialize_key is None:
        return rows.raw_keys
    return _Deserialized(rows, rows.raw_keys, rows.format.deserialize_key, "key")


def _values(rows: Rows) -> Any:
    if rows.format.value_columns:
        return _Dicts(rows.columns, rows.format.value_columns)
    if rows.format.deserialize_value is None:
        return rows.raw_values
    return _Deserialized(rows, rows.raw_values, rows.format.deserialize_value, "value")


def _header_lists(rows: Rows) -> list[list[Header] | None]:
    if type(rows.given) is OneRecord:
        return [None]
    column = rows.columns.column("__headers")
    if column.null_count == len(column):
        return [None] * len(column)
    return [
        None if headers is None else [(header["key"], header["value"]) for header in headers]
        for headers in column.to_pylist()
    ]


_LISTS: Final[dict[str, Callable[[Rows], Any]]] = {
    "columns": _columns,
    "timestamps": _timestamps,
    "raw_keys": _raw_keys,
    "raw_values": _raw_values,
    "keys": _keys,
    "values": _values,
    "header_lists": _header_lists,
}
