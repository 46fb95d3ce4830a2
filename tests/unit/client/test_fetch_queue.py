"""The order in which batches are handed out, against a slow obvious model."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raykafka.client.consuming.fetch_queue import FetchedBatch, FetchedFrame, FetchQueue
from raykafka.client.consuming.rows import RowFormat
from raykafka.errors import CorruptMessageError, RaykafkaError
from raykafka.log.batch_header import BatchHeader
from raykafka.model import TopicPartition

A, B = TopicPartition("t", 0), TopicPartition("t", 1)
SOURCE = object()
HEADER = BatchHeader(*range(len(BatchHeader._fields)))


class Harness:
    """A queue of messages that are just (base offset, count); "bad" ones do not decode."""

    def __init__(self, together: int = 1) -> None:
        """Up to ``together`` messages of a frame are decoded at once."""
        self.together = together
        self.released = 0
        self.failed: list[tuple[TopicPartition, int]] = []
        self.queue = FetchQueue(self.decode, self.release, self.fail)

    def decode(self, frame: FetchedFrame, index: int, offset: int) -> FetchedBatch:
        taken = frame.messages[index : index + self.together]
        if taken[0][1] < 0:
            raise CorruptMessageError("bad")
        end = taken[-1][0] + taken[-1][1]
        rows = pa.record_batch({"value": pa.array(range(offset, end), pa.int64())})
        if frame.next_offset >= 0 and index + len(taken) == len(frame.messages):
            end = frame.next_offset
        return FetchedBatch(
            frame.partition, offset, end, rows, RowFormat("t", ()), None, 1.0, len(taken)
        )

    def release(self, source: object, size: int) -> None:
        assert source is SOURCE
        self.released += size

    def fail(self, partition: TopicPartition, offset: int, error: RaykafkaError) -> None:
        self.failed.append((partition, offset))

    def put(self, partition: TopicPartition, base: int, *counts: int, offset: int = -1) -> int:
        messages = []
        for count in counts:
            messages.append((base, count))
            base += abs(count)
        first = messages[0][0] if offset < 0 else offset
        header = HEADER._replace(base_offset=base - 1, record_count=1)
        costs = [10] * len(counts)
        self.queue.put(
            FetchedFrame(partition, "id", first, messages, costs, header, True, False, SOURCE)
        )
        return base

    def take(self, count: int) -> tuple[TopicPartition, list[int]] | None:
        batch = self.queue.head()
        if batch is None:
            return None
        rows = batch.rows(count)
        values = rows.columns.column(0).to_pylist()
        assert values == list(range(rows.base_offset, rows.base_offset + rows.count))
        self.queue.consume(batch, rows.count)
        return batch.partition, values


def test_partitions_take_turns_batch_by_batch() -> None:
    harness = Harness()
    harness.put(A, 0, 2, 2)
    harness.put(B, 5, 1, 1)
    taken = [harness.take(1) for _ in range(6)]
    assert taken == [(A, [0]), (A, [1]), (B, [5]), (A, [2]), (A, [3]), (B, [6])]
    assert harness.take(1) is None
    assert harness.released == 40


def test_paused_partitions_are_passed_over() -> None:
    harness = Harness()
    harness.put(A, 0, 1)
    harness.put(B, 0, 1)
    head = harness.queue.head({A})
    assert head is not None
    assert head.partition == B
    assert harness.queue.head({A, B}) is None


def test_the_next_fetch_starts_behind_what_waits() -> None:
    harness = Harness()
    assert harness.queue.end_offset(A, 7) == 7
    end = harness.put(A, 7, 3, 3)
    assert harness.queue.end_offset(A, 7) == end == 13
    harness.take(2)
    assert harness.queue.end_offset(A, 9) == 13


def test_a_frame_may_begin_before_what_is_wanted() -> None:
    harness = Harness()
    harness.put(A, 0, 5, 2, offset=3)
    assert harness.take(10) == (A, [3, 4])
    assert harness.take(10) == (A, [5, 6])


def test_dropping_returns_the_rest_of_the_credit() -> None:
    harness = Harness()
    harness.put(A, 0, 2, 2, 2)
    harness.put(A, 6, 2)
    harness.take(2)
    harness.take(1)
    harness.queue.drop(A)
    assert harness.released == 40
    assert A not in harness.queue
    harness.queue.drop(A)
    assert harness.released == 40


def test_several_messages_may_be_decoded_at_once() -> None:
    harness = Harness(together=2)
    harness.put(A, 0, 2, 2, 2)
    harness.put(B, 0, 1)
    assert harness.take(1) == (A, [0])
    assert harness.released == 0
    assert harness.take(9) == (A, [1, 2, 3])
    assert harness.released == 20
    assert [harness.take(9) for _ in range(3)] == [(B, [0]), (A, [4, 5]), None]
    assert harness.released == 40
    harness.put(A, 6, 1, 1, 1, 1)
    harness.take(1)
    harness.queue.drop(A)
    assert harness.released == 80


def test_damage_is_noticed_in_its_place() -> None:
    harness = Harness()
    harness.put(A, 0, 2, -1, 2)
    harness.put(B, 0, 1)
    assert harness.take(5) == (A, [0, 1])
    assert harness.failed == []
    assert harness.take(5) == (B, [0])
    assert harness.take(5) is None
    assert harness.failed == [(A, 2)]
    assert harness.released == 40
    assert A not in harness.queue


@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from([A, B]), st.lists(st.integers(1, 4), min_size=1, max_size=3)),
            st.integers(1, 5),
            st.sampled_from([A, B]).map(lambda p: ("drop", p)),
        ),
        max_size=40,
    ),
    st.integers(1, 3),
)
def test_every_row_comes_once_and_in_order(steps: list[Any], together: int) -> None:
    harness = Harness(together)
    ends: dict[TopicPartition, int] = defaultdict(int)
    want: dict[TopicPartition, int] = defaultdict(int)
    charged = 0
    for step in steps:
        if isinstance(step, int):
            taken = harness.take(step)
            if taken is None:
                assert want == ends or all(want[p] == ends[p] for p in (A, B))
            else:
                partition, values = taken
                assert values[0] == want[partition]
                want[partition] = values[-1] + 1
        elif step[0] == "drop":
            harness.queue.drop(step[1])
            ends[step[1]] = want[step[1]]
        else:
            partition, counts = step
            charged += 10 * len(counts)
            ends[partition] = harness.put(partition, ends[partition], *counts)
        for partition in (A, B):
            assert harness.queue.end_offset(partition, want[partition]) == ends[partition]
    while (taken := harness.take(100)) is not None:
        want[taken[0]] = taken[1][-1] + 1
    assert harness.released == charged
    assert all(want[p] == ends[p] for p in (A, B))


def test_a_control_batch_hands_out_nothing() -> None:
    harness = Harness()
    harness.put(A, 0, 1)
    batch = harness.queue.head()
    assert batch is not None
    batch.columns = batch.columns.slice(0, 0)
    assert harness.queue.consume(batch, 0) == 1
    assert harness.queue.head() is None


def test_rows_refuses_nothing_it_has() -> None:
    harness = Harness()
    harness.put(A, 0, 3)
    batch = harness.queue.head()
    assert batch is not None
    assert batch.rows(3).columns is batch.columns
    assert batch.rows(2).count == 2
    with pytest.raises(KeyError):
        harness.queue.consume(
            FetchedBatch(B, 0, 1, batch.columns, RowFormat("t", ()), None, 1.0), 1
        )


def test_a_frame_that_batches_were_left_out_of_ends_where_the_server_says() -> None:
    harness = Harness()
    harness.queue.put(
        FetchedFrame(A, "id", 0, [(0, 2)], [10], HEADER, True, False, SOURCE, None, 7)
    )
    assert harness.queue.end_offset(A, 0) == 7


def test_what_comes_without_records_moves_the_end_of_what_waits() -> None:
    harness = Harness()
    assert not harness.queue.skip_to(A, 9)
    harness.put(A, 0, 2)
    assert harness.queue.skip_to(A, 5)
    assert harness.queue.end_offset(A, 0) == 5
    harness.put(A, 5, 1)
    assert harness.queue.end_offset(A, 0) == 6
    assert [harness.take(2), harness.take(2)] == [(A, [0, 1]), (A, [5])]
    assert harness.take(1) is None


def test_a_reader_behind_the_last_record_is_moved_with_it() -> None:
    harness = Harness()
    harness.put(A, 0, 2)
    assert harness.take(1) == (A, [0])
    assert harness.queue.skip_to(A, 5)
    batch = harness.queue.head()
    assert batch is not None
    assert harness.queue.consume(batch, 1) == 5
    assert A not in harness.queue
