"""What the metadata machine cannot judge, because it knows no Arrow: the schemas of topics."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from raykafka.config import TOPIC
from raykafka.errors import InvalidConfigError
from raykafka.log.schema import deserialize_schema, evolve, serialize_schema
from raykafka.protocol.messages import NewTopic

_KEY_TYPES: Final = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_fixed_size_binary,
    pa.types.is_integer,
)


def checked_schema(topic: NewTopic) -> bytes:
    """The topic's schema as it is stored; empty for an untyped topic.

    Raises ``InvalidRequestError`` or ``InvalidConfigError``, also where ``key.column`` names no
    column, or one that cannot be a key.
    """
    if not topic.schema:
        return b""
    schema = deserialize_schema(topic.schema)
    for name, value in topic.configs.items():
        if name in TOPIC and TOPIC.find(name).name == "key.column" and value:
            _check_key_column(schema, value.strip())
    return serialize_schema(schema)


def _check_key_column(schema: pa.Schema, name: str) -> None:
    if name not in schema.names:
        raise InvalidConfigError(
            f'"key.column" is {name!r}, but the schema has no such column; it has'
            f" {', '.join(schema.names[:20])}"
        )
    kind = schema.field(name).type
    if not any(is_type(kind) for is_type in _KEY_TYPES):
        raise InvalidConfigError(
            f'"key.column" {name!r} is of type {kind}; a key is text, binary or an integer'
        )


def evolved_schema(current: bytes, added: bytes) -> bytes:
    """``current`` with the columns of ``added`` at its end.

    Raises ``UnsupportedSchemaChangeError``, ``InvalidRequestError`` or ``InvalidConfigError``.
    """
    return serialize_schema(evolve(deserialize_schema(current), deserialize_schema(added)))
