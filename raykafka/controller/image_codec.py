"""The metadata image as bytes, for snapshots of the metadata log.

Compatibility rule: as for ``updates``, a field is never renamed or given a new meaning, and a new
one has a default. What an older raykafka could not read takes a new ``FORMAT_VERSION``.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Final

import msgspec

from raykafka.controller.image import MetadataImage
from raykafka.errors import LogDamagedError, UnsupportedVersionError

FORMAT_VERSION: Final = 1


class _Snapshot(msgspec.Struct, frozen=True):
    format_version: int
    image: msgspec.Raw


def encode_image(image: MetadataImage) -> bytes:
    """MessagePack of the image."""
    return _ENCODER.encode(_Snapshot(FORMAT_VERSION, msgspec.Raw(_ENCODER.encode(image))))


def decode_image(data: bytes) -> MetadataImage:
    """The reverse of ``encode_image``.

    Raises ``UnsupportedVersionError`` for a later format, ``LogDamagedError`` for anything else.
    """
    try:
        snapshot = msgspec.msgpack.decode(data, type=_Snapshot)
        if snapshot.format_version > FORMAT_VERSION:
            raise UnsupportedVersionError(
                f"the metadata snapshot has format {snapshot.format_version}, this raykafka reads"
                f" up to {FORMAT_VERSION}; upgrade raykafka"
            )
        return msgspec.msgpack.decode(snapshot.image, type=MetadataImage)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise LogDamagedError(f"the metadata snapshot cannot be read: {error}") from error


def _plain(value: Any) -> Any:
    if isinstance(value, MappingProxyType):
        return dict(value)
    raise TypeError(type(value))


_ENCODER: Final = msgspec.msgpack.Encoder(enc_hook=_plain)
