"""Reads the batches of a segment that has no index: the active one, or one whose footer is bad.

Three things look alike and are not. A *torn tail* is a write that a crash interrupted: it was never
acknowledged, and is cut. A *damaged batch* was whole once: it is kept, and its offsets are reported
as damaged, never handed out again. And after damage in the middle there are *later batches*, which
are found and kept.
"""

from __future__ import annotations

import binascii
import struct
from collections.abc import Callable
from typing import NamedTuple

from raykafka.errors import CorruptMessageError
from raykafka.log.batch_header import (
    MAGIC,
    MAX_RECORDS,
    BatchHeader,
    find_batch,
    read_header,
    verify,
)
from raykafka.log.ipc_message import PREFIX_SIZE, SLOT_END, SLOT_POSITION, read_layout
from raykafka.model import PartitionId

OnBatch = Callable[[int, BatchHeader], None]
"""Called with the position and the header of each good batch, in order."""

_SIZES = struct.Struct("<4xi32xq")  # flatbuffer size and body size, as in ipc_message.PREFIX
_PRODUCER = struct.Struct("<BBhIqihqqI")


class ScanResult(NamedTuple):
    """Where the batches end."""

    end: int
    """Position behind the last batch, good or damaged; what follows is torn."""
    next_offset: int
    checked_bytes: int
    """Bytes whose checksums were computed."""


class _Remains(NamedTuple):
    """What is known of a batch whose checksum fails."""

    size: int
    record_count: int


def scan(
    data: memoryview,
    start: int,
    next_offset: int,
    partition: PartitionId,
    on_batch: OnBatch,
    *,
    trusted_below: int = 0,
) -> ScanResult:
    """Walk the batches from position ``start``, where ``next_offset`` is expected.

    Offsets that no call of ``on_batch`` covers are damaged. Batches below offset ``trusted_below``
    were whole when they were last looked at: their checksums are left to whoever reads them.
    """
    position = end = start
    checked = 0
    later = -1  # the first good batch after the damage, looked for once: a search is a pass
    searched = False
    while position < len(data):
        header = _good_batch(data, position, next_offset, partition, trusted_below)
        if header is not None:
            on_batch(position, header)
            if header.base_offset >= trusted_below:
                checked += header.size
            next_offset = header.next_offset
            position = end = position + header.size
            searched = False
            continue
        if not searched:
            later = _next_good_batch(data, position + 8, next_offset, partition)
            searched = True
        remains = _remains_of(data, position)
        if remains is not None and (later < 0 or later >= position + remains.size):
            next_offset += remains.record_count
            if later >= 0:  # its offset is certain, the damaged batch's record count is not
                next_offset = min(next_offset, read_header(data[later:]).base_offset)
            position = end = position + remains.size
        elif later < 0:
            break
        else:
            position = later
    return ScanResult(end, next_offset, checked)


def _good_batch(
    data: memoryview, position: int, next_offset: int, partition: PartitionId, trusted_below: int
) -> BatchHeader | None:
    try:
        header = read_header(data[position:])
        if header.base_offset < next_offset:
            return None
        if header.base_offset >= trusted_below:
            verify(data[position : position + header.size], partition)
    except CorruptMessageError:
        return None
    return header


def _next_good_batch(
    data: memoryview, position: int, next_offset: int, partition: PartitionId
) -> int:
    """Position of the next batch whose checksum holds, -1 where there is none.

    A batch can carry another one as its value; such a copy has an offset that is not ahead.
    """
    while True:
        position = find_batch(data, position)
        if position < 0:
            return -1
        if _good_batch(data, position, next_offset, partition, 0) is not None:
            return position
        position += 8


def _remains_of(data: memoryview, position: int) -> _Remains | None:
    """How long a damaged batch is and how many records it had; None where it does not look whole.

    Damage sits anywhere, also in the header, so both places that tell the size are asked: the
    header slot and Arrow's own metadata. Where they differ, one that ends with the file is right.
    """
    head = bytes(data[position : position + PREFIX_SIZE])
    if len(head) < PREFIX_SIZE:
        return None
    left = len(data) - position
    slot_size, slot_count = _slot_values(head)
    flatbuffer_size, body_size = _SIZES.unpack_from(head)
    arrow_size = 8 + flatbuffer_size + body_size
    if slot_size != arrow_size:
        if left not in (slot_size, arrow_size):
            return None
        size = left
    elif PREFIX_SIZE <= slot_size <= left:
        size = slot_size
    else:
        return None
    try:
        arrow_count = read_layout(data[position:], 8 + flatbuffer_size).length
    except CorruptMessageError:
        arrow_count = 0
    # Too many offsets marked as damaged do no harm; one handed out twice would.
    count = max(slot_count, arrow_count, 1)
    return _Remains(size, min(count, MAX_RECORDS))


def _slot_values(head: bytes) -> tuple[int, int]:
    """Size and record count in the producer's part of a header slot; (-1, 0) if not readable."""
    slot = head[SLOT_POSITION:SLOT_END]
    try:
        fields = _PRODUCER.unpack(binascii.a2b_base64(slot[len(MAGIC) + 40 :]))
    except (binascii.Error, struct.error):
        return -1, 0
    return fields[9], fields[3]
