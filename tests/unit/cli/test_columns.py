from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import feather, parquet

from raykafka.cli.columns import columns_text, parse_columns, schema_of_file
from raykafka.errors import InvalidRequestError

SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        ("name", pa.string()),
        ("at", pa.timestamp("ms")),
        ("seen", pa.timestamp("us", "UTC")),
        ("price", pa.decimal128(10, 2)),
        ("tags", pa.list_(pa.string())),
        ("grid", pa.list_(pa.list_(pa.float64()))),
        ("day", pa.date32()),
        ("raw", pa.binary()),
    ]
)


def test_columns() -> None:
    text = (
        "id: int64 not null, name:string, at: timestamp[ms], seen: timestamp[us, UTC], "
        "price: decimal(10, 2), tags: list<string>, grid: list<list<double>>, day: date32,\n"
        "raw: binary"
    )
    assert parse_columns(text) == SCHEMA


def test_what_is_shown_can_be_read_again() -> None:
    without_aliases = pa.schema([f for f in SCHEMA if f.name not in ("day",)])
    assert parse_columns(columns_text(without_aliases)) == without_aliases


@pytest.mark.parametrize(
    "text", ["", " , ", "id", "id int64", "id: int65", "tags: list<>", "x: list<string", ": int64"]
)
def test_nonsense_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InvalidRequestError, match=r"name: type"):
        parse_columns(text)


def test_columns_of_files(tmp_path: Path) -> None:
    table = pa.table({"id": pa.array([1], pa.int32()), "name": ["x"]})
    parquet.write_table(table, tmp_path / "a.parquet")
    feather.write_feather(table, str(tmp_path / "a.arrow"))
    (tmp_path / "a.csv").write_text("id,name\n1,x\n")
    assert schema_of_file(str(tmp_path / "a.parquet")) == table.schema
    assert schema_of_file(str(tmp_path / "a.arrow")) == table.schema
    assert schema_of_file(str(tmp_path / "a.csv")).names == ["id", "name"]


@pytest.mark.parametrize("name", ["missing.parquet", "broken.parquet", "broken.arrow", "a.txt"])
def test_unusable_files_are_named(tmp_path: Path, name: str) -> None:
    if name.startswith("broken"):
        (tmp_path / name).write_bytes(b"nothing of the kind")
    with pytest.raises(InvalidRequestError, match=name):
        schema_of_file(str(tmp_path / name))
