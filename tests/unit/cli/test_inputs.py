from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from raykafka.cli.inputs import Input, InputOptions, chunks, format_of
from raykafka.errors import InvalidRecordError, InvalidRequestError, RaykafkaError

SCHEMA = pa.schema([("id", pa.int32()), ("name", pa.string()), ("at", pa.timestamp("ms"))])


def read(data: bytes, **options: object) -> list[pa.Table]:
    source = Input(io.BytesIO(data), "-", None)
    return list(chunks(source, InputOptions(**options)))  # type: ignore[arg-type]


def rows(tables: list[pa.Table]) -> list[dict[str, object]]:
    return [row for table in tables for row in table.to_pylist()]


def values(tables: list[pa.Table]) -> list[object]:
    return [row["value"] for row in rows(tables)]


@pytest.mark.parametrize(
    ("name", "typed", "expected"),
    [
        ("-", False, "lines"), ("-", True, "json"), ("a.txt", False, "lines"),
        ("a.JSONL", False, "json"), ("a.ndjson", True, "json"), ("a.csv", False, "csv"),
        ("dir.csv/a", True, "json"), ("a.parquet", True, "parquet"),
    ],
)  # fmt: skip
def test_formats_by_name(name: str, typed: bool, expected: str) -> None:
    assert format_of(name, typed) == expected


def test_lines() -> None:
    assert values(read(b"a\nb\r\n\nlast", format="lines")) == [b"a", b"b", b"", b"last"]
    assert values(read(b"a\n", format="lines")) == [b"a"]
    assert read(b"", format="lines") == []


def test_lines_with_keys() -> None:
    tables = read(b"k1:v1\nk2:v:2\n", format="lines", key_separator=":")
    assert rows(tables) == [
        {"value": b"v1", "__key": b"k1"},
        {"value": b"v:2", "__key": b"k2"},
    ]
    with pytest.raises(InvalidRecordError, match="line 2.*':'"):
        read(b"k1:v1\nk2\n", format="lines", key_separator=":")


def test_lines_into_one_text_column() -> None:
    schema = pa.schema([("word", pa.string())])
    assert rows(read(b"a\nb\n", format="lines", schema=schema)) == [{"word": "a"}, {"word": "b"}]


def test_lines_do_not_fit_several_columns() -> None:
    with pytest.raises(InvalidRequestError, match=r"id, name, at.*--format json"):
        read(b"a\n", format="lines", schema=SCHEMA)


def test_json_values_are_kept_as_they_are() -> None:
    data = b'{"a": 1}\n\n [1, 2] \n"text"'
    assert values(read(data, format="json")) == [b'{"a": 1}', b"[1, 2]", b'"text"']


def test_json_keys() -> None:
    data = b'{"k": "x", "v": 1}\n{"k": 7}\n{"k": null}\n'
    keys = [row["__key"] for row in rows(read(data, format="json", key="k"))]
    assert keys == [b"x", b"7", None]
    with pytest.raises(InvalidRecordError, match="line 1.*no field 'id'"):
        read(data, format="json", key="id")


def test_broken_json_names_the_line() -> None:
    with pytest.raises(InvalidRecordError, match="-, line 2"):
        read(b'{"a": 1}\n{"a": \n', format="json")


def test_json_columns() -> None:
    data = b'{"name": "x", "id": 1, "at": "2013-01-01 05:00:00"}\n{"id": 2}\n'
    found = rows(read(data, format="json", schema=SCHEMA))
    assert found[0]["id"] == 1
    assert str(found[0]["at"]) == "2013-01-01 05:00:00"
    assert found[1] == {"id": 2, "name": None, "at": None}


@pytest.mark.parametrize("line", [b'{"id": "one"}', b'{"other": 1}', b"{", b"[1]"])
def test_json_that_does_not_fit_the_columns(line: bytes) -> None:
    with pytest.raises(InvalidRecordError, match="lines 1 to 2"):
        read(b'{"id": 1}\n' + line + b"\n", format="json", schema=SCHEMA)


def test_csv_columns() -> None:
    data = b"id,name,at\n1,x,2013-01-01 05:00:00\n2,,\n"
    found = rows(read(data, format="csv", schema=SCHEMA, key="id"))
    assert found[1] == {"id": 2, "name": None, "at": None}


def test_csv_options() -> None:
    data = b"id;name\n1;NA\n"
    found = rows(read(data, format="csv", schema=SCHEMA, delimiter=";", null="NA"))
    assert found == [{"id": 1, "name": None}]


def test_csv_that_does_not_fit_names_column_and_value() -> None:
    with pytest.raises(InvalidRecordError, match=r"int32.*'x'"):
        read(b"id,name\nx,y\n", format="csv", schema=SCHEMA)


def test_csv_into_an_untyped_topic_becomes_json() -> None:
    found = rows(read(b"id,name\n1,x\n", format="csv", key="name"))
    assert found == [{"value": b'{"id":1,"name":"x"}', "__key": b"x"}]


@pytest.fixture
def parquet_file(tmp_path: Path) -> Path:
    table = pa.table({"id": pa.array(range(25_000), pa.int32()), "name": ["x"] * 25_000})
    path = tmp_path / "a.parquet"
    parquet.write_table(table, path)
    return path


def test_parquet_comes_in_chunks_and_shows_how_far_it_is(parquet_file: Path) -> None:
    with parquet_file.open("rb") as file:
        source = Input(file, str(parquet_file), os.path.getsize(parquet_file))
        tables, positions = [], []
        for table in chunks(source, InputOptions("parquet", SCHEMA)):
            tables.append(table)
            positions.append(source.position)
    assert [table.num_rows for table in tables] == [10_000, 10_000, 5_000]
    assert positions == sorted(positions)
    assert positions[-1] == source.total_bytes
    assert tables[2].column("id")[-1].as_py() == 24999


def test_parquet_from_a_pipe(parquet_file: Path) -> None:
    tables = read(parquet_file.read_bytes(), format="parquet")
    assert values(tables)[1] == b'{"id":1,"name":"x"}'


def test_empty_parquet(tmp_path: Path) -> None:
    path = tmp_path / "empty.parquet"
    parquet.write_table(pa.table({"id": pa.array([], pa.int32())}), path)
    assert rows(read(path.read_bytes(), format="parquet", schema=SCHEMA)) == []


@pytest.mark.parametrize("format", ["csv", "parquet"])
@pytest.mark.parametrize("data", [b"", b"\x00\xff garbage", b"PAR1PAR1"])
def test_garbage_is_a_typed_error(format: str, data: bytes) -> None:
    with pytest.raises(RaykafkaError):
        read(data, format=format, schema=SCHEMA)


@pytest.mark.parametrize(
    ("options", "column"),
    [
        (InputOptions("lines"), None),
        (InputOptions("lines", key_separator=":"), "__key"),
        (InputOptions("json", key="id"), "__key"),
        (InputOptions("csv", SCHEMA, key="id"), "id"),
        (InputOptions("csv", SCHEMA), None),
    ],
)
def test_which_column_is_the_key(options: InputOptions, column: str | None) -> None:
    assert options.key_column == column


def test_a_key_that_a_row_does_not_have_is_an_error() -> None:
    with pytest.raises(InvalidRecordError, match="no field 'x'"):
        read(b"id\n1\n", format="csv", key="x")


class Trickle(io.RawIOBase):
    """Hands its lines over one by one, as a person at a terminal does."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts = parts

    def read1(self, _: int) -> bytes:
        return next(self._parts, b"")


def test_lines_are_taken_as_they_come() -> None:
    source = Input(Trickle(iter([b"a\nb", b"c\n", b"d"])), "-", None)  # type: ignore[arg-type]
    found = [table.column("value").to_pylist() for table in chunks(source, InputOptions("lines"))]
    assert found == [[b"a"], [b"bc"], [b"d"]]


def test_a_line_without_end_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raykafka.cli.inputs._LONGEST_LINE", 10)
    with pytest.raises(InvalidRecordError, match="line 2 is longer than 10 bytes"):
        read(b"a\n" + b"x" * 11, format="lines")
