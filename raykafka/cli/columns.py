"""Columns as people write them: ``id: int64 not null, name: string, tags: list<string>``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from raykafka.errors import InvalidRequestError

if TYPE_CHECKING:
    import pyarrow as pa

_COLUMN = re.compile(r"\s*(?P<name>[^\s:,<>]+)\s*:\s*(?P<type>.+?)(?P<required>\s+not\s+null)?\s*")
_DECIMAL = re.compile(r"decimal(?:128)?\(\s*(\d+)\s*,\s*(\d+)\s*\)")
_ZONED = re.compile(r"timestamp\[\s*(s|ms|us|ns)\s*,\s*(\S+)\s*\]")
_HELP = (
    "columns are written as name: type, name: type not null, ... with types such as int64, double, "
    "bool, string, binary, date32, timestamp[ms], timestamp[us, UTC], decimal(10, 2), list<string>"
)


def parse_columns(text: str) -> pa.Schema:
    """The schema that ``text`` describes; raises ``InvalidRequestError`` that shows how."""
    import pyarrow as pa

    fields = []
    for part in _split(text):
        match = _COLUMN.fullmatch(part)
        if match is None:
            raise InvalidRequestError(f"{part.strip()!r} is not a column: {_HELP}")
        kind = _parse_type(match["type"].strip())
        fields.append(pa.field(match["name"], kind, nullable=match["required"] is None))
    if not fields:
        raise InvalidRequestError(f"there are no columns: {_HELP}")
    return pa.schema(fields)


def schema_of_file(path: str) -> pa.Schema:
    """The columns of a Parquet, Arrow IPC or CSV file; every one of them accepts nulls."""
    import pyarrow as pa
    from pyarrow import csv, ipc, parquet

    suffix = Path(path).suffix.lower()
    try:
        if suffix in (".parquet", ".pq"):
            schema = parquet.read_schema(path)
        elif suffix in (".arrow", ".feather", ".ipc"):
            with pa.OSFile(path) as file:
                schema = ipc.open_file(file).schema
        elif suffix in (".csv", ".tsv"):
            delimiter = "\t" if suffix == ".tsv" else ","
            options = csv.ParseOptions(delimiter=delimiter)
            schema = csv.open_csv(path, parse_options=options).schema
        else:
            raise InvalidRequestError(
                f"{path}: columns are taken from .parquet, .arrow, .feather, .csv and .tsv files"
            )
    except (pa.ArrowException, OSError) as error:
        raise InvalidRequestError(f"cannot take the columns of {path}: {error}") from error
    return pa.schema([pa.field(field.name, field.type) for field in schema])


def columns_text(schema: pa.Schema) -> str:
    """A schema as ``parse_columns`` reads it, one column a line."""
    lines = (f"{f.name}: {f.type}{'' if f.nullable else ' not null'}" for f in schema)
    return "\n".join(lines)


def _parse_type(text: str) -> pa.DataType:
    import pyarrow as pa

    if text.startswith("list<") and text.endswith(">"):
        return pa.list_(_parse_type(text[5:-1].removeprefix("item:").strip()))
    decimal = _DECIMAL.fullmatch(text)
    zoned = _ZONED.fullmatch(text)
    try:
        if decimal:
            return pa.decimal128(int(decimal[1]), int(decimal[2]))
        if zoned:
            return pa.timestamp(zoned[1], zoned[2].removeprefix("tz="))
        return pa.type_for_alias(text)
    except (ValueError, pa.ArrowException) as error:
        raise InvalidRequestError(f"{text!r} is not a type: {_HELP}") from error


def _split(text: str) -> list[str]:
    """At commas and line ends that are not inside of brackets."""
    parts, depth, start = [], 0, 0
    for position, letter in enumerate(text):
        if letter in "<([":
            depth += 1
        elif letter in ">)]":
            depth -= 1
        elif letter in ",\n" and depth == 0:
            parts.append(text[start:position])
            start = position + 1
    parts.append(text[start:])
    return [part for part in parts if part.strip()]
