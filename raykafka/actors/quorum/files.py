"""The small files beside a replicated log: what it has voted, and snapshots of its state.

Each is a MessagePack envelope with a format version and a CRC-32C over version and body. What is
not whole is refused: a vote that was forgotten could be given twice, and a snapshot stands for
records that are no more.
"""

from __future__ import annotations

import re
from typing import Any, TypeVar

import msgspec
from crc32c import crc32c

from raykafka.errors import LogDamagedError, UnsupportedVersionError
from raykafka.quorum.messages import OffsetAndEpoch
from raykafka.quorum.voters import ReplicaKey, VoterSet

FORMAT_VERSION = 1
STATE_FILE = "quorum-state"
_SNAPSHOT = re.compile(r"(\d{20})-(\d{10})\.snapshot")


class QuorumState(msgspec.Struct, frozen=True):
    """What a replica must never forget (Kafka's file of that name)."""

    directory_id: str
    """Identity of the disk: made at random when the directory was."""
    epoch: int = 0
    voted_for: ReplicaKey | None = None
    founding: bool = False
    """Whether this replica began the quorum, and the log does not name its voters yet."""


class Snapshot(msgspec.Struct, frozen=True):
    """State of a machine after all records before ``last.offset`` (KIP-630)."""

    last: OffsetAndEpoch
    voters: VoterSet
    state: bytes


class _Envelope(msgspec.Struct, frozen=True):
    format_version: int
    crc32c: int
    body: bytes


T = TypeVar("T", QuorumState, Snapshot)


def encode_file(content: QuorumState | Snapshot) -> bytes:
    """The file's bytes."""
    body = msgspec.msgpack.encode(content)
    return msgspec.msgpack.encode(_Envelope(FORMAT_VERSION, _checksum(FORMAT_VERSION, body), body))


def decode_file(data: Any, content: type[T], name: str) -> T:
    """What the file called ``name`` says.

    Raises ``LogDamagedError`` when it is not whole, ``UnsupportedVersionError`` when a later
    raykafka wrote it.
    """
    try:
        envelope = msgspec.msgpack.decode(data, type=_Envelope)
        if envelope.crc32c != _checksum(envelope.format_version, envelope.body):
            raise LogDamagedError(f"{name} does not match its checksum; {_ADVICE}")
        if envelope.format_version > FORMAT_VERSION:
            raise UnsupportedVersionError(
                f"{name} has format {envelope.format_version}, this raykafka reads up to "
                f"{FORMAT_VERSION}; upgrade raykafka"
            )
        return msgspec.msgpack.decode(envelope.body, type=content)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise LogDamagedError(f"{name} is not readable ({error}); {_ADVICE}") from error


def snapshot_name(last: OffsetAndEpoch) -> str:
    """File name of a snapshot."""
    return f"{last.offset:020d}-{last.epoch:010d}.snapshot"


def parse_snapshot_name(name: str) -> OffsetAndEpoch | None:
    """What a snapshot's file name says, None for any other file."""
    found = _SNAPSHOT.fullmatch(name)
    return None if found is None else OffsetAndEpoch(int(found[1]), int(found[2]))


def _checksum(format_version: int, body: bytes) -> int:
    return int(crc32c(body, format_version & 0xFFFFFFFF))


_ADVICE = (
    "restore the directory from a backup, or, while a majority of the other voters lives, remove"
    " it: they fill it again"
)
