"""What ``raykafka produce`` reads: lines, JSON lines, CSV and Parquet, as tables chunk by chunk.

A chunk for a typed topic has the topic's columns, one for an untyped topic has ``value`` and, where
keys were asked for, ``__key``. pyarrow is imported where it is needed, so that help and
completion stay quick.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec

from raykafka.errors import InvalidRecordError, InvalidRequestError

if TYPE_CHECKING:
    import pyarrow as pa

KEY_COLUMN = "__key"
FORMATS = ("lines", "json", "csv", "parquet")
_BY_SUFFIX = {
    ".csv": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".tsv": "csv",
}
_READ_BYTES = 1 << 20
_CHUNK_ROWS = 10_000
_LONGEST_LINE = 64 << 20


@dataclass(frozen=True, slots=True)
class InputOptions:
    """How the input is to be understood.

    ``schema`` is the typed topic's, None for an untyped one; ``key`` a field or column, empty for
    none; ``key_separator`` what stands between key and value of a line, empty for no keys.
    """

    format: str
    schema: pa.Schema | None = None
    key: str = ""
    key_separator: str = ""
    delimiter: str = ","
    null: str = ""

    @property
    def key_column(self) -> str | None:
        """The column of every chunk that holds the records' keys; None for no keys."""
        if self.key_separator or (self.key and self.schema is None):
            return KEY_COLUMN
        return self.key or None


class Input(io.RawIOBase):
    """A binary stream that knows its name and how much of it has been read."""

    def __init__(self, stream: BinaryIO, name: str, total_bytes: int | None) -> None:
        super().__init__()
        self.name = name
        self.total_bytes = total_bytes
        self.position = 0
        self._stream = stream

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        """As of any file: fewer bytes than asked for only at the end."""
        data = self._stream.read(size)
        self.position += len(data)
        return data

    def read_available(self) -> bytes:
        """What is there, without waiting for more; waits for the first byte."""
        data: bytes = self._stream.read1(_READ_BYTES)  # type: ignore[attr-defined]
        self.position += len(data)
        return data


def format_of(name: str, typed: bool) -> str:
    """The format of a file by its name; of standard input, lines or (typed topics) JSON lines."""
    default = "json" if typed else "lines"
    return _BY_SUFFIX.get(Path(name).suffix.lower(), default) if name != "-" else default


def chunks(source: Input, options: InputOptions) -> Iterator[pa.Table]:
    """The input as tables; raises ``InvalidRecordError`` that says where it does not fit."""
    import pyarrow as pa

    try:
        if options.format in ("lines", "json"):
            yield from _from_lines(source, options)
        elif options.schema is not None:
            yield from _columns(source, options)
        else:
            for table in _columns(source, options):
                yield _as_json_values(table, options)
    except pa.ArrowInvalid as error:
        raise InvalidRecordError(f"{source.name}: {error}") from error


# --- lines and JSON lines -------------------------------------------------------------------------


def _from_lines(source: Input, options: InputOptions) -> Iterator[pa.Table]:
    first = 1
    rest = b""
    while data := source.read_available():
        *lines, rest = (rest + data).split(b"\n")
        if len(rest) > _LONGEST_LINE:
            raise InvalidRecordError(
                f"{source.name}, line {first + len(lines)} is longer than {_LONGEST_LINE} bytes"
            )
        for start in range(0, len(lines), _CHUNK_ROWS):
            part = lines[start : start + _CHUNK_ROWS]
            yield from _parse_lines(part, first, source.name, options)
            first += len(part)
    if rest:
        yield from _parse_lines([rest], first, source.name, options)


def _parse_lines(
    lines: list[bytes], first: int, name: str, options: InputOptions
) -> Iterator[pa.Table]:
    if options.format == "lines":
        yield _plain_lines([line.removesuffix(b"\r") for line in lines], first, name, options)
        return
    if not any(line.strip() for line in lines):
        return
    if options.schema is None:
        yield _json_values(lines, first, name, options)
    else:
        yield from _json_columns(lines, first, name, options.schema)


def _plain_lines(lines: list[bytes], first: int, name: str, options: InputOptions) -> pa.Table:
    import pyarrow as pa

    column, kind = _only_column(options.schema)
    if not options.key_separator:
        return pa.table({column: pa.array(lines, pa.binary()).cast(kind)})
    separator = options.key_separator.encode()
    keys, values = [], []
    for number, line in enumerate(lines, start=first):
        key, found, value = line.partition(separator)
        if not found:
            raise InvalidRecordError(
                f"{name}, line {number}: there is no key separator {options.key_separator!r}"
            )
        keys.append(key)
        values.append(value)
    table = pa.table({column: pa.array(values, pa.binary()).cast(kind)})
    return table.append_column(KEY_COLUMN, pa.array(keys, pa.binary()))


def _only_column(schema: pa.Schema | None) -> tuple[str, pa.DataType]:
    import pyarrow as pa

    if schema is None:
        return "value", pa.binary()
    if len(schema) == 1 and schema.types[0] in (pa.string(), pa.binary(), pa.large_string()):
        return schema.names[0], schema.types[0]
    raise InvalidRequestError(
        f"the topic has columns ({', '.join(schema.names)}), so a line is not a record; "
        "use --format json, csv or parquet"
    )


def _json_values(lines: list[bytes], first: int, name: str, options: InputOptions) -> pa.Table:
    import pyarrow as pa

    decoder = msgspec.json.Decoder()
    values, keys = [], []
    for number, line in enumerate(lines, start=first):
        text = line.strip()
        if not text:
            continue
        try:
            parsed = decoder.decode(text)
        except msgspec.DecodeError as error:
            raise InvalidRecordError(f"{name}, line {number}: {error}") from error
        values.append(text)
        if options.key:
            keys.append(_key_of(parsed, options.key, f"{name}, line {number}"))
    table = pa.table({"value": pa.array(values, pa.binary())})
    return table.append_column(KEY_COLUMN, pa.array(keys, pa.binary())) if options.key else table


def _key_of(parsed: Any, field: str, where: str) -> bytes | None:
    if not isinstance(parsed, dict) or field not in parsed:
        raise InvalidRecordError(f"{where}: there is no field {field!r} to take the key from")
    value = parsed[field]
    if value is None:
        return None
    return value.encode() if isinstance(value, str) else msgspec.json.encode(value)


def _json_columns(
    lines: list[bytes], first: int, name: str, schema: pa.Schema
) -> Iterator[pa.Table]:
    import pyarrow as pa
    from pyarrow import json

    text = b"\n".join(lines)
    try:
        yield json.read_json(
            io.BytesIO(text),
            # One block: a record must not straddle two.
            read_options=json.ReadOptions(use_threads=False, block_size=len(text) + 1),
            parse_options=json.ParseOptions(
                explicit_schema=schema, unexpected_field_behavior="error"
            ),
        )
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        last = first + len(lines) - 1
        raise InvalidRecordError(f"{name}, lines {first} to {last}: {error}") from error


# --- CSV and Parquet ------------------------------------------------------------------------------


def _columns(source: Input, options: InputOptions) -> Iterator[pa.Table]:
    return _csv(source, options) if options.format == "csv" else _parquet(source)


def _csv(source: Input, options: InputOptions) -> Iterator[pa.Table]:
    import pyarrow as pa
    from pyarrow import csv

    types = {} if options.schema is None else {field.name: field.type for field in options.schema}
    reader = csv.open_csv(
        source,
        read_options=csv.ReadOptions(use_threads=False, block_size=_READ_BYTES),
        parse_options=csv.ParseOptions(delimiter=options.delimiter),
        convert_options=csv.ConvertOptions(
            column_types=types, null_values=[options.null], strings_can_be_null=True
        ),
    )
    for batch in reader:
        for start in range(0, batch.num_rows, _CHUNK_ROWS):
            yield pa.Table.from_batches([batch.slice(start, _CHUNK_ROWS)])


def _parquet(source: Input) -> Iterator[pa.Table]:
    import pyarrow as pa
    from pyarrow import parquet

    # The footer is at the end, so a pipe has to be read as a whole.
    path = None if source.total_bytes is None else source.name
    file = parquet.ParquetFile(path or pa.BufferReader(source.read()))
    rows, done = file.metadata.num_rows, 0
    for batch in file.iter_batches(batch_size=_CHUNK_ROWS):
        done += batch.num_rows
        source.position = (source.total_bytes or 0) * done // rows
        yield pa.Table.from_batches([batch])


def _as_json_values(table: pa.Table, options: InputOptions) -> pa.Table:
    import pyarrow as pa

    encoder = msgspec.json.Encoder(enc_hook=str)
    rows = table.to_pylist()
    found = pa.table({"value": pa.array([encoder.encode(row) for row in rows], pa.binary())})
    if not options.key:
        return found
    keys = [_key_of(row, options.key, "the input") for row in rows]
    return found.append_column(KEY_COLUMN, pa.array(keys, pa.binary()))
