"""The header slot of a batch: what stands in it, how it is read, checked and filled in.

The slot is the value of the key ``rk`` in the message's metadata: ten characters of magic, then two
little-endian structs in base64, so that every Arrow reader accepts it as a string.

- The *leader part* is filled in by the leader: base offset, leader epoch, append time. It also
  carries the batch's CRC-32C and a check over itself. The batch's CRC leaves this part out, as
  Kafka's leaves out base offset and leader epoch, so that a leader need not compute it again.
- The *producer part* is written once, by the producer, and covered by the CRC.

The CRC is seeded with the partition's identity: a batch that ends up in another partition's log
does not pass.
"""

from __future__ import annotations

import binascii
import functools
import struct
from typing import Final, NamedTuple

import crc32c

from raykafka.errors import CorruptMessageError
from raykafka.log.ipc_message import (
    PREFIX_SIZE,
    SLOT_POSITION,
    read_prefix,
)
from raykafka.model import Compression, PartitionId, TimestampType

Message = bytes | bytearray | memoryview
"""Bytes of one batch; reading from a longer buffer whose beginning is a batch is fine."""

MAGIC: Final = b"raykafka1:"
FORMAT_VERSION: Final = 1
MAX_RECORDS: Final = 2**31 - 1
MAX_BATCH_BYTES: Final = 2**31 - 1

LOG_APPEND_TIME: Final = 1
"""Leader flag: the append time, not the ``__timestamp`` column, is the records' timestamp."""
_CONTROL: Final = 1
_TRANSACTIONAL: Final = 2
_CODEC_SHIFT: Final = 2
_CODECS: Final = (Compression.NONE, Compression.LZ4, Compression.ZSTD)

_LEADER = struct.Struct("<qiqHI")
_CHECK = struct.Struct("<I")
_PRODUCER = struct.Struct("<BBhIqihqqI")
LEADER_START: Final = SLOT_POSITION + len(MAGIC)
LEADER_END: Final = LEADER_START + 40
_LEADER_BYTES: Final = 30
_PRODUCER_BYTES: Final = 42

_SEQUENCES: Final = 2**31


class BatchHeader(NamedTuple):
    """The fields of a batch's header, in the order of the slot."""

    base_offset: int
    """-1 until a leader has assigned it."""
    leader_epoch: int
    append_time_ms: int
    leader_flags: int
    crc: int
    flags: int
    producer_epoch: int
    record_count: int
    producer_id: int
    base_sequence: int
    schema_id: int
    base_timestamp: int
    """Smallest timestamp of the batch's ``__timestamp`` column, in milliseconds."""
    max_timestamp: int
    """Largest one; see ``largest_timestamp`` for what readers see."""
    size: int
    """Bytes of the whole message."""
    metadata_size: int
    """Bytes of the message before its body (not in the slot: the message itself says it)."""

    @property
    def last_offset(self) -> int:
        return self.base_offset + self.record_count - 1

    @property
    def next_offset(self) -> int:
        return self.base_offset + self.record_count

    @property
    def last_sequence(self) -> int:
        """Sequences wrap from 2^31 - 1 to 0, as in Kafka's ``DefaultRecordBatch``."""
        if self.base_sequence < 0:
            return self.base_sequence
        return (self.base_sequence + self.record_count - 1) % _SEQUENCES

    @property
    def has_producer_id(self) -> bool:
        return self.producer_id >= 0

    @property
    def is_control(self) -> bool:
        return bool(self.flags & _CONTROL)

    @property
    def is_transactional(self) -> bool:
        return bool(self.flags & _TRANSACTIONAL)

    @property
    def compression(self) -> Compression:
        return _CODECS[self.flags >> _CODEC_SHIFT & 3]

    @property
    def timestamp_type(self) -> TimestampType:
        return TimestampType(self.leader_flags & LOG_APPEND_TIME)

    @property
    def largest_timestamp(self) -> int:
        """The largest timestamp a reader of this batch sees, in milliseconds."""
        return self.append_time_ms if self.leader_flags & LOG_APPEND_TIME else self.max_timestamp


def flags_of(compression: Compression, *, control: bool, transactional: bool) -> int:
    """The producer part's flags."""
    return (
        _CODECS.index(compression) << _CODEC_SHIFT
        | (_CONTROL if control else 0)
        | (_TRANSACTIONAL if transactional else 0)
    )


def leader_part(fields: tuple[int, ...]) -> bytes:
    """The leader part of a slot in base64, from the header's fields ``base_offset`` to ``crc``."""
    part = _LEADER.pack(*fields)
    return binascii.b2a_base64(part + _CHECK.pack(crc32c.crc32c(part)), newline=False)


def producer_part(fields: tuple[int, ...]) -> bytes:
    """The producer part of a slot in base64, from the header's fields ``flags`` to ``size``."""
    return binascii.b2a_base64(_PRODUCER.pack(FORMAT_VERSION, *fields), newline=False)


def read_header(message: Message) -> BatchHeader:
    """The header of the batch with which ``message`` begins; does not compute the batch's CRC.

    Raises ``CorruptMessageError`` where it is not a batch, the leader part fails its check, the
    sizes contradict each other, or fewer bytes are there than the batch has.
    """
    header = peek_header(message)
    if header.size > len(message):
        raise CorruptMessageError(
            f"the batch says it has {header.size} bytes, but {len(message)} are here; "
            "read or send all of it"
        )
    return header


def peek_header(message: Message) -> BatchHeader:
    """Like ``read_header``, but the body need not be there: the first bytes of a batch are enough
    (``PREFIX_SIZE`` of them).
    """
    metadata_size, body_size, slot, _ = read_prefix(message)
    if slot[:10] != MAGIC:
        raise CorruptMessageError("the batch's header slot does not begin with raykafka1:")
    try:
        leader = binascii.a2b_base64(slot[10:50])
        producer = binascii.a2b_base64(slot[50:])
    except binascii.Error:
        raise CorruptMessageError("the batch's header slot is not base64") from None
    if len(leader) != _LEADER_BYTES or len(producer) != _PRODUCER_BYTES:
        raise CorruptMessageError("the batch's header slot is not base64")
    if crc32c.crc32c(leader[:26]) != _CHECK.unpack_from(leader, 26)[0]:
        raise CorruptMessageError("the leader's part of the batch's header fails its check")
    fields = _PRODUCER.unpack(producer)
    header = BatchHeader._make((*_LEADER.unpack_from(leader), *fields[1:], metadata_size))
    if fields[0] != FORMAT_VERSION:
        raise CorruptMessageError(
            f"the batch has format version {fields[0]}, this raykafka reads {FORMAT_VERSION}"
        )
    if (
        header.size != metadata_size + body_size
        or header.size > MAX_BATCH_BYTES
        or not header.record_count
        or header.flags > 11
    ):
        raise CorruptMessageError("the batch's header contradicts the message around it")
    return header


def verify(message: Message, partition: PartitionId) -> BatchHeader:
    """The header of a batch whose CRC-32C has been computed and holds for ``partition``.

    Raises ``CorruptMessageError`` otherwise.
    """
    header = read_header(message)
    body = memoryview(message)
    crc = crc32c.crc32c(body[:LEADER_START], partition_seed(partition))
    if crc32c.crc32c(body[LEADER_END : header.size], crc) != header.crc:
        raise CorruptMessageError(
            f"the batch at offset {header.base_offset} fails its CRC for partition "
            f"{partition.partition} of topic {partition.topic_id}: it is damaged or was meant for "
            "another partition"
        )
    return header


def stamp(
    message: bytearray | memoryview,
    *,
    base_offset: int,
    leader_epoch: int,
    append_time_ms: int,
    log_append_time: bool,
) -> None:
    """Fills in the leader part in place; the batch's CRC keeps its value and stays true.

    The message must have passed ``read_header`` or ``verify``.
    """
    leader = binascii.a2b_base64(bytes(message[LEADER_START:LEADER_END]))
    flags = LOG_APPEND_TIME if log_append_time else 0
    crc = _LEADER.unpack_from(leader)[4]
    message[LEADER_START:LEADER_END] = leader_part(
        (base_offset, leader_epoch, append_time_ms, flags, crc)
    )


@functools.lru_cache(maxsize=65_536)
def partition_seed(partition: PartitionId) -> int:
    """What a batch's CRC starts from: CRC-32C of the topic id and the partition (uint32)."""
    return int(crc32c.crc32c(partition[0].encode("ascii") + _CHECK.pack(partition[1])))


def find_batch(data: Message, start: int = 0, *, alignment: int = 0) -> int:
    """Position of the next thing in ``data`` that looks like a batch, at or after ``start``; -1
    where there is none. Only its header has been looked at.

    ``alignment`` is the position of ``data`` in its file: batches start at multiples of 8 there.
    """
    view = memoryview(data)
    step = 1 << 20
    overlap = PREFIX_SIZE
    position = start
    while position + overlap <= len(view):
        window = bytes(view[position : position + step + overlap])
        at = window.find(MAGIC)
        while at >= 0:
            candidate = position + at - SLOT_POSITION
            if candidate >= start and (candidate + alignment) % 8 == 0:
                try:
                    peek_header(view[candidate : candidate + PREFIX_SIZE])
                except CorruptMessageError:
                    pass
                else:
                    return candidate
            at = window.find(MAGIC, at + 1)
        position += step
    return -1
