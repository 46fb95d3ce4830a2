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

from crc32c import crc32c as _crc32c

from raykafka.errors import CorruptMessageError
from raykafka.log.ipc_message import PREFIX_SIZE, SLOT_POSITION, read_prefix
from raykafka.model import Compression, PartitionId, TimestampType

Message = bytes | bytearray | memoryview
"""Bytes of one batch; reading from a longer buffer whose beginning is a batch is fine."""

MAGIC: Final = b"raykafka1:"
FORMAT_VERSION: Final = 1
MAX_RECORDS: Final = 2**31 - 1
MAX_BATCH_BYTES: Final = 2**31 - 1

LOG_APPEND_TIME: Final = 1
"""Leader flag: the append time, not the ``__timestamp`` column, is the records' timestamp."""
CONTROL: Final = 1
TRANSACTIONAL: Final = 2
SPECIAL: Final = CONTROL | TRANSACTIONAL
"""Flags of what is no plain batch: ``header.flags & SPECIAL``."""
_COMMIT: Final = 16
"""Of a control batch: the marker commits its producer's transaction; without it, it aborts."""
_LARGEST_FLAGS: Final = 11
_COMMIT_MARKER: Final = SPECIAL | _COMMIT
_CODEC_SHIFT: Final = 2
_CODECS: Final = (Compression.NONE, Compression.LZ4, Compression.ZSTD)

_LEADER = struct.Struct("<qiqHI")
_CHECK = struct.Struct("<I")
_PRODUCER = struct.Struct("<BBhIqihqqI")
_SLOT = struct.Struct("<qiqHIIBBhIqihqqI")
"""Both parts and the check between them."""
LEADER_START: Final = SLOT_POSITION + len(MAGIC)
LEADER_END: Final = LEADER_START + 40
_FLAGS_AT: Final = LEADER_END + 2
"""The character of the slot in which the lower flags stand."""
_BASE64: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_SPECIAL_OF: Final = bytes(
    _BASE64.find(code) >> 2 & SPECIAL if code in _BASE64 else 0 for code in range(256)
)
_CHECKED_BYTES: Final = _LEADER.size

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
        return bool(self.flags & CONTROL)

    @property
    def is_transactional(self) -> bool:
        return bool(self.flags & TRANSACTIONAL)

    @property
    def is_commit(self) -> bool:
        """Whether it is the marker of a transaction that was committed."""
        return self.flags & _COMMIT_MARKER == _COMMIT_MARKER

    @property
    def is_special(self) -> bool:
        """Whether it is a control batch or belongs to a transaction."""
        return self.flags & SPECIAL != 0

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


def make_header(fields: tuple[int, ...]) -> BatchHeader:
    """``BatchHeader(*fields)`` without a look at their number; one is made for every batch."""
    return tuple.__new__(BatchHeader, fields)


def flags_of(
    compression: Compression, *, control: bool, transactional: bool, commit: bool = False
) -> int:
    """The producer part's flags; ``commit`` makes a transactional control batch a commit marker."""
    return (
        _CODECS.index(compression) << _CODEC_SHIFT
        | (CONTROL if control else 0)
        | (TRANSACTIONAL if transactional else 0)
        | (_COMMIT if commit else 0)
    )


def special_flags(message: Message, position: int = 0) -> int:
    """``CONTROL`` and ``TRANSACTIONAL``, as far as they are set, of the batch that begins at
    ``position``: without a look at the rest of its header, which has been checked.
    """
    return _SPECIAL_OF[message[position + _FLAGS_AT]]


def leader_part(fields: tuple[int, ...]) -> bytes:
    """The leader part of a slot in base64, from the header's fields ``base_offset`` to ``crc``."""
    part = _LEADER.pack(*fields)
    return binascii.b2a_base64(part + _CHECK.pack(_crc32c(part)), newline=False)


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
    (metadata_size, body_size, _), slot = read_prefix(message)
    if slot[:10] != MAGIC:
        raise CorruptMessageError("the batch's header slot does not begin with raykafka1:")
    try:
        # 96 characters; any that does not belong there makes it shorter.
        parts = binascii.a2b_base64(slot[10:])
        fields = _SLOT.unpack(parts)
    except (binascii.Error, struct.error):
        raise CorruptMessageError("the batch's header slot is not base64") from None
    if _crc32c(parts[:_CHECKED_BYTES]) != fields[5]:
        raise CorruptMessageError("the leader's part of the batch's header fails its check")
    if fields[6] != FORMAT_VERSION:
        raise CorruptMessageError(
            f"the batch has format version {fields[6]}, this raykafka reads {FORMAT_VERSION}"
        )
    header = make_header((*fields[:5], *fields[7:], metadata_size))
    size = header.size
    if (
        size != metadata_size + body_size
        or size > MAX_BATCH_BYTES
        or not header.record_count
        or (header.flags > _LARGEST_FLAGS and header.flags != _COMMIT_MARKER)
    ):
        raise CorruptMessageError("the batch's header contradicts the message around it")
    return header


def verify(message: Message, partition: PartitionId) -> BatchHeader:
    """The header of a batch whose CRC-32C has been computed and holds for ``partition``.

    Raises ``CorruptMessageError`` otherwise.
    """
    header = read_header(message)
    body = memoryview(message)
    crc = _crc32c(body[:LEADER_START], partition_seed(partition))
    if _crc32c(body[LEADER_END : header.size], crc) != header.crc:
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
    header: BatchHeader | None = None,
) -> BatchHeader:
    """Fills in the leader part in place; the batch's CRC keeps its value and stays true.

    ``header`` is what ``read_header`` or ``verify`` returned; without it the message's is read.
    Returns the header as it is now.
    """
    if header is None:
        header = read_header(message)
    flags = LOG_APPEND_TIME if log_append_time else 0
    leader = (base_offset, leader_epoch, append_time_ms, flags, header.crc)
    message[LEADER_START:LEADER_END] = leader_part(leader)
    return make_header(leader + header[5:])


@functools.lru_cache(maxsize=65_536)
def partition_seed(partition: PartitionId) -> int:
    """What a batch's CRC starts from: CRC-32C of the topic id and the partition (uint32)."""
    return int(_crc32c(partition[0].encode("ascii") + _CHECK.pack(partition[1])))


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
