"""Receive buffers are used again only when nobody can see them any more."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from raykafka.network.buffers import GRANULE, BufferPool


def address(view: memoryview) -> int:
    return int(np.frombuffer(view, np.uint8).ctypes.data)


def test_a_free_buffer_is_taken_again() -> None:
    pool = BufferPool()
    first = pool.take(1 << 20)
    where = address(first)
    del first
    assert address(pool.take(1_000_000)) == where
    assert pool.held_bytes == 1 << 20


@pytest.mark.parametrize(
    "hold",
    [
        lambda view: view,
        lambda view: view[100:200],
        lambda view: view.obj,
        lambda view: memoryview(view).cast("B").toreadonly()[5:6],
        lambda view: pa.py_buffer(view),
        lambda view: pa.py_buffer(view).slice(10, 10),
        lambda view: np.frombuffer(view, np.uint8)[3:7],
    ],
)
def test_a_buffer_that_anything_refers_to_is_not(hold: object) -> None:
    pool = BufferPool()
    view = pool.take(100_000)
    where = address(view)
    held = hold(view)  # type: ignore[operator]
    del view
    assert address(pool.take(100_000)) != where
    del held
    taken = {address(pool.take(100_000)) for _ in range(2)}
    assert len(taken) == 1
    assert pool.held_bytes == 4 * GRANULE


def test_views_have_the_size_asked_for_and_can_be_written() -> None:
    pool = BufferPool()
    for size in (1, GRANULE, GRANULE + 1, 3_000_000):
        view = pool.take(size)
        assert len(view) == size
        view[-1] = 7
        assert not view.readonly


def test_a_large_buffer_is_not_wasted_on_a_small_payload() -> None:
    pool = BufferPool()
    where = address(pool.take(16 << 20))
    assert address(pool.take(100_000)) != where


def test_what_is_kept_is_bounded() -> None:
    pool = BufferPool(max_bytes=4 * GRANULE)
    in_use = [pool.take(GRANULE) for _ in range(10)]
    assert pool.held_bytes == 4 * GRANULE
    assert len({address(view) for view in in_use}) == 10
    del in_use
    pool.take(3 * GRANULE)
    assert pool.held_bytes <= 4 * GRANULE
    pool.take(5 * GRANULE)
    assert pool.held_bytes <= 4 * GRANULE


def test_trimming_spares_what_is_in_use() -> None:
    pool = BufferPool()
    in_use = pool.take(GRANULE)
    pool.take(2 * GRANULE)
    pool.trim()
    assert pool.held_bytes == GRANULE
    del in_use
    pool.trim()
    assert pool.held_bytes == 0
