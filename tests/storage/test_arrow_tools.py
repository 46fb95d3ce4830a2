"""Sealed segments are Arrow files: other tools open them as they are, also from S3 by range."""

from __future__ import annotations

from pathlib import Path

import duckdb
import polars
import pyarrow as pa
import pyarrow.dataset
import pytest

from raykafka.log.batch_header import verify
from raykafka.log.schema import storage_schema
from raykafka.model import Compression
from raykafka.storage.fsspec_store import FsspecStore
from raykafka.storage.local_store import LocalStore
from raykafka.storage.log_segment import open_sealed
from raykafka.storage.log_types import LogConfig
from raykafka.storage.partition_log import PartitionLog
from tests.storage.batches import NOW, PARTITION, make_batch
from tests.storage.logs import append, open_log, segment_files

FLIGHTS = storage_schema(
    pa.schema([("carrier", pa.string()), ("delay", pa.int32()), ("tags", pa.list_(pa.string()))])
)


def fill(log: PartitionLog, batches: int, rows: int, codec: Compression) -> None:
    for number in range(batches):
        columns = [
            pa.array([("AA", "UA")[(number + row) % 2] for row in range(rows)]),
            pa.array([number * rows + row for row in range(rows)], pa.int32()),
            pa.array([[f"tag {row}"] for row in range(rows)]),
        ]
        append(
            log,
            make_batch([b""] * rows, schema=FLIGHTS, columns=columns, compression=codec),
        )


@pytest.fixture(params=list(Compression))
def segments(request: pytest.FixtureRequest, local_store: LocalStore) -> list[str]:
    """Paths of three sealed segments with 30 records in all."""
    log = open_log(local_store, LogConfig(), schemas=[FLIGHTS])
    for _ in range(3):
        fill(log, 2, 5, request.param)
        log.roll(NOW)
    log.close()
    return [f"{local_store.root}/{path}" for path in segment_files(local_store)]


def test_pyarrow(segments: list[str]) -> None:
    with pa.memory_map(segments[0]) as source:
        reader = pa.ipc.open_file(source)
        assert reader.schema == FLIGHTS
        table = reader.read_all()
    table.validate(full=True)
    assert table.column("delay").to_pylist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert table.column("tags").to_pylist()[3] == ["tag 3"]


def test_polars(segments: list[str]) -> None:
    frame = polars.read_ipc(segments[0])
    assert frame.shape == (10, 6)
    assert frame.filter(polars.col("carrier") == "AA")["delay"].sum() == 0 + 2 + 4 + 6 + 8
    lazy = polars.scan_ipc(segments).select("delay").collect()
    assert lazy.height == 30


def test_duckdb_through_a_dataset_of_all_segments(segments: list[str]) -> None:
    flights = pyarrow.dataset.dataset(segments, format="ipc")
    with duckdb.connect() as connection:
        connection.register("flights", flights)
        found = connection.execute(
            "select carrier, count(*), max(delay) from flights group by carrier order by carrier"
        ).fetchall()
    assert found == [("AA", 15, 8), ("UA", 15, 9)]


def test_the_active_segment_is_a_stream(local_store: LocalStore) -> None:
    log = open_log(local_store, schemas=[FLIGHTS])
    fill(log, 3, 4, Compression.NONE)
    (path,) = segment_files(local_store)
    content = Path(local_store.root, path).read_bytes()
    reader = pa.ipc.open_stream(content[8:])
    assert reader.read_all().num_rows == 12


def test_sealed_segments_on_s3_are_read_by_range(
    segments: list[str], local_store: LocalStore, s3_store: FsspecStore
) -> None:
    for path in segment_files(local_store):
        s3_store.publish(path, local_store.read(path, 0, local_store.size(path)))
    assert s3_store.list("t-0/") == segment_files(local_store)
    rows = 0
    for path in s3_store.list("t-0/"):
        segment = open_sealed(s3_store, path, int(path[-26:-6]), s3_store.size(path))
        for entry in segment.loaded_index:
            message = s3_store.read(path, entry.position, entry.size)
            assert verify(message, PARTITION).base_offset == entry.base_offset
            rows += entry.next_offset - entry.base_offset
    assert rows == 30


def test_arrow_tools_open_them_on_s3(
    segments: list[str], local_store: LocalStore, s3_store: FsspecStore
) -> None:
    path = segment_files(local_store)[0]
    s3_store.publish(path, local_store.read(path, 0, local_store.size(path)))
    with s3_store._fs.open(f"{s3_store._root}/{path}") as file:
        assert pa.ipc.open_file(file).read_all().num_rows == 10
