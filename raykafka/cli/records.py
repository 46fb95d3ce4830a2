"""How ``raykafka consume`` prints records: lines, rows of columns, or JSON lines."""

from __future__ import annotations

import base64
import datetime
import sys
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

import msgspec

from raykafka.model import TopicPartition

if TYPE_CHECKING:
    import pyarrow as pa

WAIT_MS = 500
ROWS_AT_ONCE = 10_000
METADATA = ("__offset", "__timestamp", "__key", "__headers")
"""What a consumer is asked for, beside the values."""

_META_COLUMNS = ("partition", "offset", "time", "key")
_WIDEST = 40


class RecordWriter(Protocol):
    """Prints batches that carry the metadata columns before the value's."""

    to_terminal: bool

    def write(self, partition: TopicPartition, batch: pa.RecordBatch) -> int:
        """Print the batch; returns its number of records."""

    def flush(self) -> None:
        """Hand what was printed on to whoever reads it."""


def writer_for(topic: str, *, as_json: bool, meta: bool) -> RecordWriter:
    """The writer for these options, on standard output."""
    stream = sys.stdout.buffer
    terminal = sys.stdout.isatty()
    if as_json:
        return JsonWriter(stream, topic, terminal)
    return TextWriter(stream, meta, terminal)


class JsonWriter:
    """One JSON object per record; bytes that are not UTF-8 are ``{"base64": ...}``."""

    def __init__(self, stream: BinaryIO, topic: str, to_terminal: bool) -> None:
        self.to_terminal = to_terminal
        self._stream = stream
        self._topic = topic
        self._encoder = msgspec.json.Encoder(enc_hook=str)

    def write(self, partition: TopicPartition, batch: pa.RecordBatch) -> int:
        """Print one line per record."""
        rows = _readable(batch).to_pylist()
        times = batch.column("__timestamp").cast("int64").to_pylist()
        untyped = _is_untyped(batch)
        lines = []
        for row, time in zip(rows, times, strict=True):
            value = {name: _plain(item) for name, item in row.items() if name[:2] != "__"}
            headers = row["__headers"] or ()
            record = {
                "topic": self._topic,
                "partition": partition.partition,
                "offset": row["__offset"],
                "timestamp": time,
                "key": _plain(row["__key"]),
                "headers": [{k: _plain(v) for k, v in header.items()} for header in headers],
                "value": value["value"] if untyped else value,
            }
            lines.append(self._encoder.encode(record))
        if lines:
            self._stream.write(b"\n".join(lines) + b"\n")
        return len(lines)

    def flush(self) -> None:
        """Flush standard output."""
        self._stream.flush()


class TextWriter:
    """A line per record; columns are separated by tabs, on a terminal padded under their names."""

    def __init__(self, stream: BinaryIO, meta: bool, to_terminal: bool) -> None:
        self.to_terminal = to_terminal
        self._stream = stream
        self._meta = meta
        self._widths: list[int] = []
        self._head: list[str] | None = None

    def write(self, partition: TopicPartition, batch: pa.RecordBatch) -> int:
        """Print one line per record, and the columns' names before the first."""
        if _is_untyped(batch) and not self._meta:
            values = batch.column("value").to_pylist()
            lines = [b"null" if value is None else value for value in values]
            if lines:
                self._stream.write(b"\n".join(lines) + b"\n")
            return len(lines)
        rows = [self._cells(partition, row) for row in _readable(batch).to_pylist()]
        if rows and self._head is None:
            names = [name for name in batch.schema.names if name[:2] != "__"]
            self._head = [*(_META_COLUMNS if self._meta else ()), *names]
            columns = zip(self._head, *rows, strict=True)
            self._widths = [min(_WIDEST, max(len(cell) for cell in column)) for column in columns]
            rows.insert(0, self._head)
            written = len(rows) - 1
        else:
            written = len(rows)
        for row in rows:
            self._stream.write(self._line(row).encode() + b"\n")
        return written

    def _cells(self, partition: TopicPartition, row: dict[str, Any]) -> list[str]:
        cells = [_text(value) for name, value in row.items() if name[:2] != "__"]
        if not self._meta:
            return cells
        stamp = row["__timestamp"]
        return [
            str(partition.partition),
            str(row["__offset"]),
            "" if stamp is None else stamp.isoformat(timespec="milliseconds") + "Z",
            _text(row["__key"]),
            *cells,
        ]

    def _line(self, cells: list[str]) -> str:
        if not self.to_terminal:
            return "\t".join(cells)
        padded = [f"{cell:<{width}}" for cell, width in zip(cells, self._widths, strict=True)]
        return "  ".join(padded).rstrip()

    def flush(self) -> None:
        """Flush standard output."""
        self._stream.flush()


def _is_untyped(batch: pa.RecordBatch) -> bool:
    names = [name for name in batch.schema.names if name[:2] != "__"]
    return names == ["value"] and str(batch.schema.field("value").type) == "binary"


def _readable(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Times in nanoseconds do not fit into Python's datetime; microseconds do."""
    import pyarrow as pa

    columns = []
    for column in batch.columns:
        kind = column.type
        if pa.types.is_timestamp(kind) and kind.unit == "ns":
            column = column.cast(pa.timestamp("us", kind.tz), safe=False)
        columns.append(column)
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return {"base64": base64.b64encode(value).decode()}
    return value


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bytes):
        value = value.decode(errors="backslashreplace")
    elif isinstance(value, (datetime.date, datetime.time)):
        value = value.isoformat()
    elif isinstance(value, (dict, list)):
        value = msgspec.json.encode(value, enc_hook=str).decode()
    text = str(value)
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
