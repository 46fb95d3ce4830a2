"""From what callers hand to ``send`` to bytes, or to rows of a typed topic."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from raykafka.errors import (
    InvalidConfigError,
    InvalidRecordError,
    InvalidTimestampError,
    RaykafkaError,
    SerializationError,
)

Serialize = Callable[[str, Any], Any]
"""Topic and key or value; returns bytes, or a mapping for a typed topic."""

_SCALAR_BYTES = 8
_LARGEST_TIMESTAMP_MS = (1 << 63) - 1


def as_serialize(serializer: Any, what: str) -> Serialize | None:
    """A configured ``key_serializer`` or ``value_serializer`` as a function of topic and value.

    It is a function of the value (as kafka-python has it), or an object with
    ``serialize(topic, value)`` (as Kafka has it). What it raises becomes ``SerializationError``.
    """
    if serializer is None:
        return None
    method = getattr(serializer, "serialize", None)
    if method is None and not callable(serializer):
        raise InvalidConfigError(f"{what} must be a function or have a serialize method")

    def serialize(topic: str, value: Any) -> Any:
        try:
            return serializer(value) if method is None else method(topic, value)
        except RaykafkaError:
            raise
        except Exception as error:
            raise SerializationError(
                f"{what} failed for a {type(value).__name__} of topic {topic!r}: {error}"
            ) from error

    return serialize


def to_bytes(value: Any, what: str) -> bytes | None:
    """Bytes as they are, text as UTF-8, None as None; ``SerializationError`` for the rest."""
    if value is None or type(value) is bytes:
        return value
    if isinstance(value, str):
        try:
            return value.encode()
        except UnicodeEncodeError as error:
            raise SerializationError(f"the {what} is not text that UTF-8 has: {error}") from error
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    raise SerializationError(
        f"a {what} must be bytes or text, not {type(value).__name__}; configure "
        f"{what}_serializer, for example json"
    )


def check_headers(headers: Any) -> Sequence[tuple[str, bytes | None]] | None:
    """Headers as a list of (name, bytes) pairs; a mapping and text values are accepted too."""
    if not headers:
        return None
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    checked = []
    for pair in pairs:
        if not (isinstance(pair, (tuple, list)) and len(pair) == 2 and isinstance(pair[0], str)):
            raise SerializationError(f"headers must be (name, bytes) pairs, not {pair!r:.80}")
        checked.append((pair[0], to_bytes(pair[1], "header")))
    return checked


def checked_timestamp(timestamp_ms: Any) -> int:
    """``timestamp_ms`` itself; ``InvalidTimestampError`` for what a log cannot hold."""
    if type(timestamp_ms) is not int or not 0 <= timestamp_ms <= _LARGEST_TIMESTAMP_MS:
        raise InvalidTimestampError(
            f"timestamp_ms must be milliseconds since the epoch, not {timestamp_ms!r:.40}"
        )
    return timestamp_ms


class RowShape:
    """How values of a typed topic become rows: one tuple per record, in the schema's order."""

    __slots__ = ("_get", "_names", "_required", "key_column", "schema_id")

    def __init__(self, schema: pa.Schema, schema_id: int, key_column: str) -> None:
        self.schema_id = schema_id
        self.key_column = key_column
        self._get = tuple(schema.names)
        self._names = frozenset(schema.names)
        self._required = frozenset(field.name for field in schema if not field.nullable)

    def row(self, topic: str, value: Any) -> tuple[Any, ...]:
        """The columns of one value: a mapping, a dataclass instance or a named tuple.

        The values themselves are not copied: do not change lists and dicts inside of them before
        the record has been sent. Raises ``InvalidRecordError`` that names the column where one is
        unknown or missing.
        """
        columns = _mapping(topic, value)
        if not columns.keys() <= self._names:
            unknown = sorted(str(name) for name in columns.keys() - self._names)
            raise InvalidRecordError(
                f"column {unknown[0]!r} is not in the schema of topic {topic!r}, which has "
                f"{', '.join(map(repr, self._get))}"
            )
        if self._required and not self._required <= columns.keys():
            missing = sorted(self._required - columns.keys())
            raise InvalidRecordError(
                f"column {missing[0]!r} of topic {topic!r} is missing and does not accept nulls"
            )
        return tuple(map(columns.get, self._get))

    def accepts(self, value: Any) -> bool:
        """Whether no column of the value is unknown here; a newer schema may know it."""
        return not isinstance(value, Mapping) or value.keys() <= self._names


def row_bytes(row: Sequence[Any]) -> int:
    """About what a row takes in a batch."""
    size = 0
    for value in row:
        size += len(value) + _SCALAR_BYTES if hasattr(value, "__len__") else _SCALAR_BYTES
    return size


def _mapping(topic: str, value: Any) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        return {name: getattr(value, name) for name in names}
    as_dict = getattr(value, "_asdict", None)
    if as_dict is not None:
        found: Mapping[str, Any] = as_dict()
        return found
    raise InvalidRecordError(
        f"topic {topic!r} has a schema: send a mapping of its columns, a dataclass or a named "
        f"tuple, not {type(value).__name__}"
    )
