"""Small files beside the segments: what is known of a partition's log, and its producers' state.

Both are advisory but for the log start offset: what cannot be read is rebuilt from the segments,
and the recovery report says so. Each is an envelope with a CRC-32C over its JSON body.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from crc32c import crc32c

from raykafka.errors import LogDamagedError, UnsupportedVersionError

FORMAT_VERSION = 1
CHECKPOINT_FILE = "checkpoint.json"
SNAPSHOT_SUFFIX = ".producers.json"


class Checkpoint(msgspec.Struct, frozen=True):
    """What was true of a log when it was written; offsets only grow afterwards."""

    topic: str
    topic_id: str
    partition: int
    log_start_offset: int = 0
    recovery_offset: int = 0
    """Everything below was durable and whole: missing from disk, it was lost, not torn."""
    log_end_offset: int = 0
    active_base_offset: int = 0
    """Name of the segment that was appended to."""
    active_created: bool = False
    """Whether that segment had a file."""
    high_watermark: int = 0
    """Everything below was committed (Kafka's ``replication-offset-checkpoint``)."""


class ProducerSnapshot(msgspec.Struct, frozen=True):
    """State of idempotent producers after all batches below ``offset``."""

    offset: int
    topic_id: str
    partition: int
    producers: Any
    transactions: Any = None
    """Open and aborted ones; None where there are none, and in files of an older raykafka."""


class _Envelope(msgspec.Struct, frozen=True):
    format_version: int
    crc32c: int
    body: msgspec.Raw


T = TypeVar("T", Checkpoint, ProducerSnapshot)


def encode(content: Checkpoint | ProducerSnapshot) -> bytes:
    """The file's bytes."""
    body = msgspec.json.encode(content)
    return msgspec.json.encode(
        _Envelope(FORMAT_VERSION, _checksum(FORMAT_VERSION, body), msgspec.Raw(body))
    )


def decode(data: bytes | memoryview, content: type[T], name: str) -> T:
    """The content of a file called ``name``.

    Raises ``LogDamagedError`` when it is not whole, ``UnsupportedVersionError`` when a later
    raykafka wrote it.
    """
    try:
        envelope = msgspec.json.decode(data, type=_Envelope)
        if envelope.crc32c != _checksum(envelope.format_version, bytes(envelope.body)):
            raise LogDamagedError(f"{name} does not match its checksum; it is rebuilt if possible")
        if envelope.format_version > FORMAT_VERSION:
            raise UnsupportedVersionError(
                f"{name} has format {envelope.format_version}, this raykafka reads up to "
                f"{FORMAT_VERSION}; upgrade raykafka"
            )
        return msgspec.json.decode(envelope.body, type=content)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise LogDamagedError(
            f"{name} is not readable ({error}); it is rebuilt if possible"
        ) from error


def _checksum(format_version: int, body: bytes) -> int:
    """Covers the version, too: a flipped bit must not pass for a later format."""
    return int(crc32c(body, format_version & 0xFFFFFFFF))


def snapshot_name(offset: int) -> str:
    """File name of the producer snapshot at ``offset``."""
    return f"{offset:020d}{SNAPSHOT_SUFFIX}"


def parse_snapshot_name(name: str) -> int | None:
    """The offset in a snapshot's file name, None for any other file."""
    digits = name.removesuffix(SNAPSHOT_SUFFIX)
    if digits == name or len(digits) != 20 or not digits.isascii() or not digits.isdigit():
        return None
    return int(digits)
