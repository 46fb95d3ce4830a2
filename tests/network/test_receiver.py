"""Frames come out whole, once and in order, however the stream is cut."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raykafka.errors import RaykafkaError
from raykafka.network.buffers import BufferPool
from raykafka.network.connection import CARRY_BYTES, CHUNK_BYTES, Fields, FrameReceiver
from raykafka.protocol.framing import REQUEST_PREFIX, request_head

CHUNK = memoryview(bytearray(CHUNK_BYTES))


class Collector(FrameReceiver):
    """Keeps what it is given; ``stop_at`` frames it stops, ``refuse`` holds payloads back."""

    def __init__(self, max_bytes: int = 1 << 30) -> None:
        self._start_receiving(REQUEST_PREFIX, CHUNK, BufferPool(), max_bytes)
        self.frames: list[tuple[int, bytes, bytes]] = []
        self.begun: list[tuple[int, bytes, int]] = []
        self.broken: list[RaykafkaError] = []
        self.stop_at = -1
        self.refuse = False

    def on_frame(self, fields: Fields, header: memoryview, payload: memoryview) -> None:
        self.frames.append((fields[3], bytes(header), bytes(payload)))
        if len(self.frames) == self.stop_at:
            self._stopped = True

    def on_payload_begins(
        self, fields: Fields, header: bytes | memoryview, payload_size: int
    ) -> None:
        assert fields[3] not in [number for number, _, _ in self.frames]
        self.begun.append((fields[3], bytes(header), payload_size))

    def on_broken_frame(self, fields: Fields, error: RaykafkaError) -> None:
        self.broken.append(error)

    def reserve(self, fields: Fields, payload_size: int) -> bool:
        self._stopped = self.refuse
        return not self.refuse

    def feed(self, data: bytes, step: int | None = None) -> None:
        """Give it ``data`` as a socket would: as much as fits, ``step`` bytes at most."""
        view = memoryview(data)
        while view:
            CHUNK[-64:] = b"\xaa" * 64  # the chunk is shared: others write to it in between
            target = self.get_buffer(-1)
            assert len(target) > 0
            count = min(len(target), len(view), step or len(view))
            target[:count] = view[:count]
            self.buffer_updated(count)
            view = view[count:]


def frame(number: int, header: bytes, payload: bytes) -> bytes:
    return request_head(20003, 0, number, header, len(payload)) + payload


def content(size: int, seed: int) -> bytes:
    return bytes((seed + index) % 251 for index in range(251)) * (size // 251) + bytes(size % 251)


FRAMES = [
    (1, b"", b""),
    (2, b"h", content(700, 1)),
    (3, content(3000, 2), b""),
    (4, b"hh", content(CARRY_BYTES + 5, 3)),
    (5, content(CHUNK_BYTES + 10, 4), content(10, 5)),
    (6, content(CARRY_BYTES * 2 - 40, 6), b"x"),
    (7, b"hhh", content(200_000, 7)),
    (8, content(CHUNK_BYTES * 2, 8), b""),
    (9, b"", content(CHUNK_BYTES - 16, 9)),
    (10, b"end", b"end"),
]
STREAM = b"".join(frame(*each) for each in FRAMES)


@pytest.mark.parametrize("step", [None, 1, 7, 1000, 16_384, 65_535, 65_536])
def test_every_step(step: int | None) -> None:
    receiver = Collector()
    receiver.feed(STREAM, step)
    assert receiver.frames == FRAMES
    assert not receiver._in_a_frame


@pytest.mark.parametrize("step", [1, 1000])
def test_the_header_of_a_large_frame_is_told_before_its_payload_is_there(step: int) -> None:
    receiver = Collector()
    receiver.feed(STREAM, step)
    large = [each for each in FRAMES if len(each[1]) + len(each[2]) > CARRY_BYTES and each[2]]
    assert receiver.begun == [(number, header, len(payload)) for number, header, payload in large]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_every_cut(cuts: list[int]) -> None:
    receiver = Collector()
    places = [0, *sorted(cuts), len(STREAM)]
    for start, end in itertools.pairwise(places):
        receiver.feed(STREAM[start:end])
    assert receiver.frames == FRAMES


def test_every_cut_around_small_frames() -> None:
    stream = b"".join(frame(*each) for each in FRAMES[:2])
    for first in range(len(stream)):
        receiver = Collector()
        receiver.feed(stream[:first])
        receiver.feed(stream[first:])
        assert receiver.frames == FRAMES[:2]


def test_two_connections_share_a_chunk() -> None:
    receivers = [Collector(), Collector()]
    for start in range(0, len(STREAM), 777):
        for receiver in receivers:
            receiver.feed(STREAM[start : start + 777])
    assert [receiver.frames for receiver in receivers] == [FRAMES, FRAMES]


def test_a_stopped_receiver_keeps_the_rest_for_later() -> None:
    receiver = Collector()
    receiver.stop_at = 2
    receiver.feed(b"".join(frame(number, b"h", b"abc") for number in range(5)))
    assert [number for number, _, _ in receiver.frames] == [0, 1]
    CHUNK[:200] = bytes(200)
    receiver.stop_at = 4
    receiver._go_on()
    assert [number for number, _, _ in receiver.frames] == [0, 1, 2, 3]
    receiver._go_on()
    assert [number for number, _, _ in receiver.frames] == [0, 1, 2, 3, 4]
    receiver._go_on()
    assert len(receiver.frames) == 5


@pytest.mark.parametrize("first", [17, 5000, CHUNK_BYTES])
def test_a_payload_that_has_to_wait(first: int) -> None:
    receiver = Collector()
    receiver.refuse = True
    receiver.feed(frame(*FRAMES[6])[:first])
    assert receiver._stopped
    receiver.refuse = False
    receiver._go_on()
    receiver.feed(frame(*FRAMES[6])[first:] + frame(*FRAMES[9]))
    assert receiver.frames == [FRAMES[6], FRAMES[9]]


def test_bounds() -> None:
    receiver = Collector(max_bytes=1000)
    receiver.feed(frame(1, b"h", bytes(1000 - 13)))
    assert len(receiver.frames) == 1
    receiver.feed(frame(2, b"h", bytes(1000 - 12)))
    assert len(receiver.frames) == len(receiver.broken) == 1
