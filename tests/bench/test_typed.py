"""The typed cases: their rows, how they are checked, and how bytes are counted."""

from __future__ import annotations

import importlib.util
import os
import socket
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from bench.measuring.verification import VoidRunError
from bench.peers import redis_streams
from bench.typed import columns, footprint, ray_data, tensors, wire

# --- ray.data -------------------------------------------------------------------------------------


def test_rows_are_the_same_whenever_they_are_asked_for() -> None:
    assert ray_data.rows(100, 50).equals(ray_data.rows(100, 50))
    assert ray_data.rows(100, 50)["id"].to_pylist() == list(range(100, 150))
    parts = ray_data._parts(1001)
    assert pa.concat_tables(parts.values())["id"].to_pylist() == list(range(1001))


@pytest.mark.parametrize("decoder", ray_data.DECODERS)
def test_both_decoders_give_back_the_columns(decoder: str) -> None:
    table = ray_data.rows(0, 500)
    messages = pa.table({"value": pa.array(ray_data.json_values(table), pa.binary())})
    decoded = ray_data.DECODERS[decoder](messages)
    assert decoded.schema == ray_data.SCHEMA
    ray_data.check_rows(decoded, table)


def test_rows_may_come_in_any_order_but_must_be_the_same() -> None:
    table = ray_data.rows(0, 100)
    order = np.random.default_rng(1).permutation(100)
    ray_data.check_rows(table.take(order), table)
    with pytest.raises(VoidRunError, match="99 rows came, 100 were written"):
        ray_data.check_rows(table.slice(1), table)
    doubled = pa.concat_tables([table.slice(0, 99), table.slice(0, 1)])
    with pytest.raises(VoidRunError, match="column 'id'"):
        ray_data.check_rows(doubled, table)
    prices = np.asarray(table["price"]).copy()
    prices[7] += 1
    changed = table.set_column(3, "price", pa.array(prices))
    with pytest.raises(VoidRunError, match="column 'price'"):
        ray_data.check_rows(changed, table)


# --- columns --------------------------------------------------------------------------------------


def test_there_are_twenty_columns_and_three_differ_in_type() -> None:
    assert len(columns.SCHEMA) == 20
    assert columns.chosen(1) == ["int_0"]
    assert len({columns.SCHEMA.field(name).type for name in columns.chosen(3)}) == 3
    assert sorted(columns.chosen(20)) == sorted(columns.SCHEMA.names)


def test_only_the_visible_bytes_of_a_slice_are_touched() -> None:
    table = columns.rows(1000)
    text = columns.visible(table["text_0"].chunk(0).slice(10, 5))
    assert bytes(text[1]) == "".join(table["text_0"].to_pylist()[10:15]).encode()
    whole = table.select(["int_0", "text_0"])
    assert columns.touch(whole) == 8 * 1000 + 4 * 1001 + 9 * 1000
    assert columns.touch(whole.slice(100, 10)) == 8 * 10 + 4 * 11 + 9 * 10


def test_columns_must_come_as_they_were_written() -> None:
    table = columns.rows(100)
    columns.check(table.select(["int_0"]), table, ["int_0"])
    with pytest.raises(VoidRunError, match="were asked for"):
        columns.check(table, table, ["int_0"])
    with pytest.raises(VoidRunError, match="99 rows came"):
        columns.check(table.select(["int_0"]).slice(1), table, ["int_0"])
    backwards = table.select(["int_0"]).take(list(range(99, -1, -1)))
    with pytest.raises(VoidRunError, match="column 'int_0'"):
        columns.check(backwards, table, ["int_0"])


def test_the_kernel_counts_what_a_connection_received() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        before = wire.received_bytes()
        with socket.create_connection(server.getsockname()) as near, server.accept()[0] as far:
            far.sendall(bytes(50_000))
            left = 50_000
            while left:
                left -= len(near.recv(left))
            assert wire.received_bytes() - before == 50_000
            assert wire.received_by(near.fileno()) == 50_000
            assert wire.received_by(far.fileno()) == 0
    with open(os.devnull) as nothing:
        assert wire.received_by(nothing.fileno()) == 0


# --- tensors --------------------------------------------------------------------------------------


def test_a_column_of_lists_is_the_matrix_without_a_copy() -> None:
    rows = tensors.matrix(100)
    table = tensors.as_table(rows)
    [whole] = tensors.matrices(table)
    assert np.shares_memory(whole, rows)
    [part] = tensors.matrices(table.slice(40, 20))
    assert np.shares_memory(part, rows)
    assert part.tolist() == rows[40:60].tolist()


@pytest.mark.parametrize("framework", tensors.FRAMEWORKS)
def test_each_framework_sums_up_the_same(framework: str) -> None:
    reason = tensors.missing(framework)
    if reason is not None:
        pytest.skip(reason)
    rows = tensors.matrix(1000)
    consume = tensors.CONSUMERS[framework]()
    joined = np.frombuffer(b"".join(row.tobytes() for row in rows), np.float32)
    total = consume(rows[:300]) + consume(joined.reshape(-1, tensors.WIDTH)[300:])
    tensors.check(total, 1000)
    with pytest.raises(VoidRunError, match="sum"):
        tensors.check(total - 1, 1000)


def test_a_missing_framework_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert tensors.missing("torch") == "torch is not installed (pip install torch)"


# --- footprint ------------------------------------------------------------------------------------


def test_a_footprint_has_servers_and_client_for_both_directions(tmp_path: Path) -> None:
    peer = redis_streams.Redis()
    reason = peer.missing()
    if reason is not None:
        pytest.skip(reason)
    peer.start(tmp_path)
    try:
        figures = footprint.measure(peer, [redis_streams.CLIENT], count=20_000)
    finally:
        peer.stop()
    [(name, found)] = figures.items()
    assert name == "redis-py"
    for what in ("produce", "consume"):
        assert found[f"{what}_client_cpu_s"] > 0
        assert found[f"{what}_server_cpu_s"] >= 0  # counted in ticks of 10 ms, so it may be none
        assert found[f"{what}_records_per_s"] > 0
        assert found[f"{what}_client_bytes"] > 1 << 20
        assert found[f"{what}_server_bytes"] > 1 << 20
