"""What ``__consumer_offsets`` says: one struct per change, as key and value.

A record says all that is known under its key, a tombstone that nothing is, and neither needs
another one before it: a log in which only the last record of each key is left, in whatever order,
leads to the same state.

Compatibility rule: fields are never renamed, reordered or given a new meaning; a new field is the
last one and has a default. A record of an unknown kind stops the replay.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from raykafka.errors import LogDamagedError, UnsupportedVersionError
from raykafka.group.assignment import Assignment


class GroupMetadata(msgspec.Struct, frozen=True, array_like=True, tag=0, gc=False):
    """A group that has, or had, members (KIP-848)."""

    group_id: str
    share: bool
    epoch: int
    """Grows with every change of members, subscriptions or partitions."""
    assignment_epoch: int
    """The group epoch that the target assignment was made for."""
    assignor: str = ""
    topics: dict[str, tuple[str, int]] = {}
    """Ids and partition counts that the target assignment was made for."""
    empty_since_ms: int = -1
    """Wall clock time at which the last member went; -1 while there are members."""


class MemberMetadata(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """What a member said of itself."""

    group_id: str
    member_id: str
    instance_id: str = ""
    client_id: str = ""
    host: str = ""
    rack_id: str = ""
    rebalance_timeout_ms: int = 300_000
    subscribed_topics: tuple[str, ...] = ()
    subscribed_pattern: str = ""
    assignor: str = ""


class TargetAssignment(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    """What a member is going to own."""

    group_id: str
    member_id: str
    partitions: Assignment


class CurrentAssignment(msgspec.Struct, frozen=True, array_like=True, tag=3, gc=False):
    """How far a member is on its way to the target."""

    group_id: str
    member_id: str
    member_epoch: int
    """-2 for a static member that has left for now."""
    previous_epoch: int
    """Accepted too: the answer that gave the new one may have been lost."""
    assigned: Assignment = {}
    revoking: Assignment = {}
    """What the member has yet to let go."""


class OffsetCommitted(msgspec.Struct, frozen=True, array_like=True, tag=4, gc=False):
    """The committed offset of one partition."""

    group_id: str
    topic: str
    partition: int
    topic_id: str
    offset: int
    leader_epoch: int = -1
    metadata: str = ""
    commit_timestamp_ms: int = -1


class PendingOffsets(msgspec.Struct, frozen=True, array_like=True, tag=5, gc=False):
    """All that an open transaction is going to commit for a group (KIP-447)."""

    group_id: str
    producer_id: int
    producer_epoch: int
    offsets: tuple[OffsetCommitted, ...]


class TransactionEnded(msgspec.Struct, frozen=True, array_like=True, tag=6, gc=False):
    """The newest epoch with which a producer's transaction was ended here; commits of older ones
    come too late.
    """

    producer_id: int
    producer_epoch: int
    ended_ms: int


class GroupRemoved(msgspec.Struct, frozen=True, gc=False):
    """The group has no members any more and is forgotten; its offsets go by themselves."""

    group_id: str


class MemberRemoved(msgspec.Struct, frozen=True, gc=False):
    """The member left or was fenced."""

    group_id: str
    member_id: str


class TargetRemoved(msgspec.Struct, frozen=True, gc=False):
    """Stands beside ``MemberRemoved``."""

    group_id: str
    member_id: str


class CurrentRemoved(msgspec.Struct, frozen=True, gc=False):
    """Stands beside ``MemberRemoved``."""

    group_id: str
    member_id: str


class OffsetRemoved(msgspec.Struct, frozen=True, gc=False):
    """The offset was deleted or has expired."""

    group_id: str
    topic: str
    partition: int


class PendingRemoved(msgspec.Struct, frozen=True, gc=False):
    """The transaction has ended, or its group is gone."""

    group_id: str
    producer_id: int


class ProducerForgotten(msgspec.Struct, frozen=True, gc=False):
    """No late request of the producer can come any more."""

    producer_id: int


Upsert = (
    GroupMetadata
    | MemberMetadata
    | TargetAssignment
    | CurrentAssignment
    | OffsetCommitted
    | PendingOffsets
    | TransactionEnded
)
Tombstone = (
    GroupRemoved
    | MemberRemoved
    | TargetRemoved
    | CurrentRemoved
    | OffsetRemoved
    | PendingRemoved
    | ProducerForgotten
)
Record = Upsert | Tombstone

_KEYS: Final[dict[type, Callable[[Any], tuple[object, ...]]]] = {
    GroupMetadata: lambda record: (0, record.group_id),
    MemberMetadata: lambda record: (1, record.group_id, record.member_id),
    TargetAssignment: lambda record: (2, record.group_id, record.member_id),
    CurrentAssignment: lambda record: (3, record.group_id, record.member_id),
    OffsetCommitted: lambda record: (4, record.group_id, record.topic, record.partition),
    PendingOffsets: lambda record: (5, record.group_id, record.producer_id),
    TransactionEnded: lambda record: (6, record.producer_id),
    GroupRemoved: lambda record: (0, record.group_id),
    MemberRemoved: lambda record: (1, record.group_id, record.member_id),
    TargetRemoved: lambda record: (2, record.group_id, record.member_id),
    CurrentRemoved: lambda record: (3, record.group_id, record.member_id),
    OffsetRemoved: lambda record: (4, record.group_id, record.topic, record.partition),
    PendingRemoved: lambda record: (5, record.group_id, record.producer_id),
    ProducerForgotten: lambda record: (6, record.producer_id),
}
_TOMBSTONES: Final[dict[int, Callable[..., Tombstone]]] = {
    0: GroupRemoved,
    1: MemberRemoved,
    2: TargetRemoved,
    3: CurrentRemoved,
    4: OffsetRemoved,
    5: PendingRemoved,
    6: ProducerForgotten,
}
_WITHOUT_VALUE: Final = frozenset(_TOMBSTONES.values())
_ENCODER: Final = msgspec.msgpack.Encoder()
_UPSERTS: Final = msgspec.msgpack.Decoder(Upsert)
_KEY: Final = msgspec.msgpack.Decoder(list[int | str])
_NEWEST_KIND: Final = 6


def removal_of(group_id: str, member_id: str) -> list[Record]:
    """Records that take a member and all of its state away."""
    return [
        MemberRemoved(group_id, member_id),
        TargetRemoved(group_id, member_id),
        CurrentRemoved(group_id, member_id),
    ]


def encode(record: Record) -> tuple[bytes, bytes | None]:
    """Key and value as they stand in the log; a tombstone has no value."""
    kind = type(record)
    key = _ENCODER.encode(_KEYS[kind](record))
    return key, None if kind in _WITHOUT_VALUE else _ENCODER.encode(record)


def decode(key: bytes, value: bytes | None) -> Record:
    """The reverse of ``encode``.

    Raises ``UnsupportedVersionError`` for a record of a later raykafka, ``LogDamagedError`` for
    bytes that are no record.
    """
    try:
        if value is not None:
            upsert: Record = _UPSERTS.decode(value)
            return upsert
        kind, *rest = _KEY.decode(key)
        tombstone: Record = _TOMBSTONES[int(kind)](*rest)
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError, UnicodeDecodeError) as error:
        if _is_of_a_later_version(key):
            raise UnsupportedVersionError(
                "the log of the groups holds a record of a kind that this raykafka does not know; "
                "upgrade raykafka"
            ) from error
        raise LogDamagedError(f"a record of the groups' log cannot be read: {error}") from error
    return tombstone


def _is_of_a_later_version(key: bytes) -> bool:
    try:
        kind = _KEY.decode(key)[0]
    except (msgspec.MsgspecError, IndexError, UnicodeDecodeError):
        return False
    return isinstance(kind, int) and kind > _NEWEST_KIND
