from __future__ import annotations

import base64
import struct
from typing import Any

import crc32c
import pyarrow as pa
import pytest

from raykafka.errors import CorruptMessageError
from raykafka.log.batch import encode_batch
from raykafka.log.batch_header import find_batch, peek_header, read_header, stamp, verify
from raykafka.log.ipc_message import PREFIX_SIZE
from raykafka.model import PartitionId, TimestampType


@pytest.fixture
def message(untyped: Any, partition: PartitionId, joined: Any) -> bytearray:
    return bytearray(
        joined(
            encode_batch(
                untyped([b"one", b"two"], timestamps=[5, 9]),
                partition,
                producer_id=77,
                producer_epoch=2,
                base_sequence=10,
            ).chunks
        )
    )


def test_the_slot_is_laid_out_as_documented(message: bytearray, partition: PartitionId) -> None:
    slot = bytes(message[100:206])
    assert slot[:10] == b"raykafka1:"
    leader = base64.b64decode(slot[10:50], validate=True)
    producer = base64.b64decode(slot[50:], validate=True)
    base_offset, epoch, append_time, flags, crc, check = struct.unpack("<qiqHII", leader)
    assert (base_offset, epoch, append_time, flags) == (-1, -1, -1, 0)
    assert check == crc32c.crc32c(leader[:26])
    assert struct.unpack("<BBhIqihqqI", producer) == (1, 0, 2, 2, 77, 10, 0, 5, 9, len(message))
    seed = partition.topic_id.encode() + struct.pack("<I", partition.partition)
    assert crc == crc32c.crc32c(seed + bytes(message[:110]) + bytes(message[150:]))


def test_stamping_fills_in_the_leader_part_only(message: bytearray, partition: PartitionId) -> None:
    before = verify(message, partition)
    original = bytes(message)
    stamp(
        memoryview(message),
        base_offset=2**62,
        leader_epoch=2**31 - 1,
        append_time_ms=1_700_000_000_000,
        log_append_time=True,
    )
    after = verify(message, partition)
    assert after.base_offset == 2**62
    assert (after.last_offset, after.next_offset) == (2**62 + 1, 2**62 + 2)
    assert after.leader_epoch == 2**31 - 1
    assert after.timestamp_type is TimestampType.LOG_APPEND_TIME
    assert after.largest_timestamp == 1_700_000_000_000
    assert after.max_timestamp == 9
    assert after[4:] == before[4:]
    assert original[:110] == message[:110]
    assert original[150:] == message[150:]


def test_create_time_is_what_the_producer_said(message: bytearray) -> None:
    stamp(message, base_offset=0, leader_epoch=0, append_time_ms=1_000, log_append_time=False)
    header = read_header(message)
    assert header.timestamp_type is TimestampType.CREATE_TIME
    assert header.largest_timestamp == 9
    assert header.append_time_ms == 1_000


def test_every_flipped_bit_is_noticed(message: bytearray, partition: PartitionId) -> None:
    for position in range(len(message)):
        for bit in (1, 16, 128):
            message[position] ^= bit
            with pytest.raises(CorruptMessageError):
                verify(message, partition)
            message[position] ^= bit
    verify(message, partition)


def test_every_truncation_is_noticed(message: bytearray) -> None:
    for size in range(len(message)):
        with pytest.raises(CorruptMessageError):
            read_header(message[:size])


def test_a_batch_at_the_beginning_of_a_longer_buffer(
    message: bytearray, partition: PartitionId
) -> None:
    assert verify(message + b"more", partition) == verify(message, partition)


def test_peeking_needs_the_prefix_only(message: bytearray) -> None:
    assert peek_header(message[:PREFIX_SIZE]) == read_header(message)
    with pytest.raises(CorruptMessageError, match="208 are here"):
        read_header(message[:PREFIX_SIZE])
    with pytest.raises(CorruptMessageError, match="too few"):
        peek_header(message[: PREFIX_SIZE - 1])


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, pa.py_buffer])
def test_any_buffer_can_be_read(message: bytearray, partition: PartitionId, kind: Any) -> None:
    assert verify(kind(message), partition).producer_id == 77


def test_a_newer_format_is_refused(message: bytearray) -> None:
    producer = bytearray(base64.b64decode(message[150:206]))
    producer[0] = 2
    message[150:206] = base64.b64encode(producer)
    with pytest.raises(CorruptMessageError, match="format version 2, this raykafka reads 1"):
        read_header(message)


@pytest.mark.parametrize(("field", "value"), [(4, 0), (4, 2**32 - 1), (38, 8), (1, 12), (1, 0x80)])
def test_a_header_that_contradicts_the_message_is_refused(
    message: bytearray, field: int, value: int
) -> None:
    producer = bytearray(base64.b64decode(message[150:206]))
    if field == 1:
        producer[1] = value
    else:
        struct.pack_into("<I", producer, field, value)
    message[150:206] = base64.b64encode(producer)
    if (field, value) == (4, 2**32 - 1):  # how many records there are only the body can tell
        assert read_header(message).record_count == value
        return
    with pytest.raises(CorruptMessageError, match="contradicts"):
        read_header(message)


def test_base64_with_foreign_characters_is_refused(message: bytearray) -> None:
    for place in (110, 149, 150, 205):
        for character in b" \n=*\xff":
            damaged = bytearray(message)
            damaged[place] = character
            with pytest.raises(CorruptMessageError):
                read_header(damaged)


def test_finding_the_next_batch(message: bytearray) -> None:
    size = len(message)
    data = b"x" * 64 + message + b"y" * 1024 + b"raykafka1:" + b"y" * 6 + message + message[:150]
    second = 64 + size + 1024 + 16
    assert find_batch(data) == 64
    assert find_batch(data, 64) == 64
    assert find_batch(data, 65) == second
    assert find_batch(data, second + 1) == -1
    assert find_batch(data[3:], alignment=3) == 61
    assert find_batch(data[3:]) == -1
    assert find_batch(b"") == -1


@pytest.mark.parametrize("shift", range(-320, 321, 40))
def test_finding_a_batch_across_the_search_window(message: bytearray, shift: int) -> None:
    start = (1 << 20) + shift
    assert find_batch(memoryview(bytes(start) + message)) == start


def test_every_constant_of_the_prefix_is_compared(message: bytearray) -> None:
    # reading the header alone must tell: the CRC has not been computed yet
    constants = [*range(4), *range(8, 36), *range(48, 100), *range(206, 208)]
    for position in constants:
        message[position] ^= 0x40
        with pytest.raises(CorruptMessageError):
            read_header(message)
        message[position] ^= 0x40
    read_header(message)
