"""What the log of the share coordinator says: records of ``__share_group_state``.

The newest record of a key says everything of what the key names, as in a compacted topic: leaders
send what has changed, the log has the state that results. Compatibility rule: a field is never
renamed or given a new meaning; a new field has a default.
"""

from __future__ import annotations

from typing import Final

import msgspec

from raykafka.errors import UnsupportedVersionError
from raykafka.share.state import UNINITIALIZED, StateBatch


class ShareRecord(msgspec.Struct, frozen=True, omit_defaults=True, tag=True):
    """Base of every record; the struct's name is its tag in the key."""

    group_id: str


class ShareSnapshot(ShareRecord, frozen=True):
    """Everything about one share partition."""

    topic_id: str
    partition: int
    state_epoch: int = 0
    leader_epoch: int = -1
    start_offset: int = UNINITIALIZED
    batches: list[StateBatch] = []


class ShareStateDeleted(ShareRecord, frozen=True):
    """Nothing is known of the share partition any more."""

    topic_id: str
    partition: int


class ShareGroupConfigured(ShareRecord, frozen=True):
    """The group's own settings."""

    epoch: int = 0
    """Grows with every change; 0 forgets them."""
    configs: dict[str, str] = {}


AnyRecord = ShareSnapshot | ShareStateDeleted | ShareGroupConfigured

_KINDS: Final = {"state": ShareSnapshot, "config": ShareGroupConfigured}
_DECODERS: Final = {name: msgspec.msgpack.Decoder(kind) for name, kind in _KINDS.items()}
_encode: Final = msgspec.msgpack.Encoder().encode
_decode_key: Final = msgspec.msgpack.Decoder(tuple[str, str, str, int]).decode


def encode(record: AnyRecord) -> tuple[bytes, bytes | None]:
    """Key and value of a record in the log; None is a tombstone."""
    if isinstance(record, ShareGroupConfigured):
        value = _encode(record) if record.epoch else None
        return _encode(("config", record.group_id, "", -1)), value
    key = _encode(("state", record.group_id, record.topic_id, record.partition))
    return key, None if isinstance(record, ShareStateDeleted) else _encode(record)


def decode(key: bytes, value: bytes | None) -> AnyRecord:
    """The record that ``encode`` made; raises ``UnsupportedVersionError`` for an unknown kind."""
    try:
        kind, group_id, topic_id, partition = _decode_key(key)
        if value is not None:
            record: AnyRecord = _DECODERS[kind].decode(value)
            return record
    except (msgspec.MsgspecError, KeyError, UnicodeDecodeError) as error:
        raise UnsupportedVersionError(
            f"a record of the share coordinator cannot be read: {error}; it was written by a later "
            "version"
        ) from error
    if kind == "config":
        return ShareGroupConfigured(group_id)
    return ShareStateDeleted(group_id, topic_id, partition)
