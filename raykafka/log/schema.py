"""The Arrow schemas of topics: what they may contain, how they are stored, what fits them.

A topic's *value schema* holds the columns that its owner declared (``value: binary`` for an untyped
topic). The *storage schema* of its segments puts the reserved columns in front. Schemas come from
outside, so they are judged here before anything else looks at them.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

import pyarrow as pa

from raykafka.errors import (
    InvalidConfigError,
    InvalidRecordError,
    InvalidRequestError,
    UnsupportedSchemaChangeError,
)

TIMESTAMP: Final = "__timestamp"
KEY: Final = "__key"
HEADERS: Final = "__headers"
RESERVED: Final = (TIMESTAMP, KEY, HEADERS)
"""Columns that every segment has in front of the value's."""

MAX_COLUMNS: Final = 1000
MAX_NESTING: Final = 32
MAX_SCHEMA_BYTES: Final = 4 << 20

HEADERS_TYPE: Final = pa.list_(
    pa.struct([pa.field("key", pa.string()), pa.field("value", pa.binary())])
)
_RESERVED_FIELDS: Final = (
    pa.field(TIMESTAMP, pa.timestamp("ms")),
    pa.field(KEY, pa.binary()),
    pa.field(HEADERS, HEADERS_TYPE),
)
UNTYPED_VALUE_SCHEMA: Final = pa.schema([pa.field("value", pa.binary())])
"""Schema id 0 of an untyped topic; a null value is a tombstone."""

ARROW_ERRORS: Final = (pa.ArrowException, OSError, ValueError, MemoryError, IndexError)
"""What Arrow raises over bytes that are not what they should be."""

_EXTENSION_KEY: Final = b"ARROW:extension:"
_CONTINUATION: Final = b"\xff\xff\xff\xff"

# Arrow type ids by the way their buffers stand in a message (format/Columnar.rst).
FIXED_WIDTH = frozenset(
    {
        *(pa.bool_().id, pa.int8().id, pa.int16().id, pa.int32().id, pa.int64().id),
        *(pa.uint8().id, pa.uint16().id, pa.uint32().id, pa.uint64().id),
        *(pa.float16().id, pa.float32().id, pa.float64().id),
        *(pa.decimal128(1).id, pa.decimal256(1).id, pa.date32().id, pa.date64().id),
        *(pa.time32("s").id, pa.time64("us").id, pa.timestamp("ms").id, pa.duration("ms").id),
        *(pa.month_day_nano_interval().id, pa.binary(1).id),
    }
)
VARIABLE_WIDTH = frozenset(
    {pa.binary().id, pa.string().id, pa.large_binary().id, pa.large_string().id}
)
_LISTS = frozenset(
    {pa.list_(pa.int8()).id, pa.large_list(pa.int8()).id, pa.map_(pa.int8(), pa.int8()).id}
)


class ColumnLayout(NamedTuple):
    """Where the columns of a schema stand in the node and buffer lists of a message."""

    buffers_per_node: tuple[int, ...]
    nodes: tuple[tuple[int, int], ...]
    """Per column: first and one past its last node."""
    buffers: tuple[tuple[int, int], ...]
    """Per column: first and one past its last buffer."""
    not_null: tuple[int, ...]
    """Columns that may not hold nulls; ``__timestamp`` is always one of them."""
    positions: dict[str, int]


def storage_schema(value_schema: pa.Schema) -> pa.Schema:
    """The schema of a topic's segments: reserved columns, then the value's, without metadata."""
    return pa.schema([*_RESERVED_FIELDS, *value_schema])


UNTYPED_SCHEMA: Final = storage_schema(UNTYPED_VALUE_SCHEMA)

_layouts: dict[int, tuple[pa.Schema, ColumnLayout]] = {}


def column_layout(schema: pa.Schema) -> ColumnLayout:
    """The layout of a schema, remembered per schema object: hashing one costs more than a lookup.

    Raises ``InvalidConfigError`` for a type that topics do not support.
    """
    known = _layouts.get(id(schema))
    if known is not None:
        return known[1]
    buffers_per_node: list[int] = []
    nodes: list[tuple[int, int]] = []
    buffers: list[tuple[int, int]] = []
    not_null: list[int] = []
    for position, field in enumerate(schema):
        first_node, first_buffer = len(buffers_per_node), sum(buffers_per_node)
        buffers_per_node += _node_buffers(field.type, field.name, 0)
        nodes.append((first_node, len(buffers_per_node)))
        buffers.append((first_buffer, sum(buffers_per_node)))
        if not field.nullable or field.name == TIMESTAMP:
            not_null.append(position)
    layout = ColumnLayout(
        tuple(buffers_per_node),
        tuple(nodes),
        tuple(buffers),
        tuple(not_null),
        {name: position for position, name in enumerate(schema.names)},
    )
    if len(_layouts) >= 1024:
        _layouts.clear()
    _layouts[id(schema)] = (schema, layout)  # holding the schema keeps its id from being reused
    return layout


def check_value_schema(schema: pa.Schema) -> None:
    """Raises ``InvalidConfigError`` where a topic cannot have this value schema."""
    names = schema.names
    if not names:
        raise InvalidConfigError("a typed topic needs at least one column")
    if len(names) > MAX_COLUMNS:
        raise InvalidConfigError(f"{len(names)} columns are more than the {MAX_COLUMNS} allowed")
    for name in names:
        if not name or name.startswith("__"):
            raise InvalidConfigError(
                f"column name {name!r} is not allowed: names are not empty and do not begin with "
                "two underscores, which raykafka keeps for itself"
            )
    twice = _repeated(names)
    if twice is not None:
        raise InvalidConfigError(f"column {twice!r} appears more than once; rename one of them")
    if _has_extension(schema):
        raise InvalidConfigError(
            "extension types are not supported; declare the column with its storage type"
        )
    column_layout(schema)


def serialize_schema(schema: pa.Schema) -> bytes:
    """An Arrow IPC schema message of a value schema, without its schema-level metadata.

    Raises ``InvalidConfigError`` where a topic cannot have this schema.
    """
    check_value_schema(schema)
    return bytes(schema.remove_metadata().serialize())


def deserialize_schema(data: bytes | bytearray | memoryview) -> pa.Schema:
    """Reads what ``serialize_schema`` wrote; ``data`` need not be trusted.

    Raises ``InvalidRequestError`` where the bytes are not a schema message and
    ``InvalidConfigError`` where a topic cannot have the schema.
    """
    raw = bytes(data)
    if len(raw) > MAX_SCHEMA_BYTES:
        raise InvalidRequestError(
            f"a schema of {len(raw)} bytes is larger than the {MAX_SCHEMA_BYTES} allowed"
        )
    refuse_extensions(raw)
    size = schema_message_size(raw)
    if size != len(raw):
        raise InvalidRequestError(f"{len(raw)} bytes are not one Arrow schema message")
    try:
        schema = pa.ipc.read_schema(pa.py_buffer(raw))
        check_value_schema(schema)  # names that are not UTF-8 are found here
    except ARROW_ERRORS as error:
        raise InvalidRequestError(f"the bytes are not an Arrow schema message: {error}") from None
    return pa.schema(list(schema))  # in the machine's byte order, whatever the message says


def refuse_extensions(raw: bytes | memoryview) -> None:
    """Raises ``InvalidConfigError`` where bytes that hold a schema name an extension type.

    The bytes are searched before Arrow reads them: reading runs the code of registered types.
    """
    if _EXTENSION_KEY in bytes(raw):
        raise InvalidConfigError(
            "extension types are not supported; declare the column with its storage type"
        )


def schema_message_size(data: bytes | bytearray | memoryview) -> int:
    """Bytes of the schema message with which ``data`` begins.

    Raises ``InvalidRequestError`` where there is none.
    """
    if len(data) < 8 or bytes(data[:4]) != _CONTINUATION:
        raise InvalidRequestError("the bytes do not begin with an Arrow message")
    size = 8 + int(struct.unpack_from("<i", data, 4)[0])
    if not 8 < size <= len(data):
        raise InvalidRequestError("the Arrow message is longer than the bytes that are here")
    return size


def evolve(old: pa.Schema, added: pa.Schema) -> pa.Schema:
    """The value schema with columns added at its end.

    Raises ``UnsupportedSchemaChangeError`` where an added column exists already or does not accept
    nulls (older records have nothing in it), ``InvalidConfigError`` where its type is unsupported.
    """
    for field in added:
        if field.name in old.names:
            raise UnsupportedSchemaChangeError(f"column {field.name!r} exists already")
        if not field.nullable:
            raise UnsupportedSchemaChangeError(
                f"column {field.name!r} must be nullable: records written before have no value"
            )
    new = pa.schema([*old, *added])
    check_value_schema(new)
    return new


def check_fits(table_schema: pa.Schema, topic_schema: pa.Schema) -> None:
    """Whether a table with ``table_schema`` may be appended to a topic: order does not matter,
    nullable columns may be missing, lossless conversions are made.

    Raises ``InvalidRecordError`` that names the column and both types.
    """
    names = table_schema.names
    known = set(topic_schema.names)
    for name in names:
        if name not in known:
            raise InvalidRecordError(
                f"column {name!r} is not in the topic's schema, which has "
                f"{', '.join(map(repr, topic_schema.names))}; add it to the topic or drop it"
            )
    twice = _repeated(names)
    if twice is not None:
        raise InvalidRecordError(f"column {twice!r} appears more than once in the table")
    for field in topic_schema:
        if field.name in names:
            found = table_schema.field(field.name).type
            if found != field.type and not _converts(found, field.type):
                raise InvalidRecordError(
                    f"column {field.name!r} has type {found}, the topic's schema says {field.type}"
                )
        elif not field.nullable:
            raise InvalidRecordError(
                f"column {field.name!r} ({field.type}) is missing and does not accept nulls"
            )


def conform(table: pa.Table | pa.RecordBatch, topic_schema: pa.Schema) -> pa.Table:
    """The table with exactly the columns of the topic's value schema, in its order.

    Raises ``InvalidRecordError`` where it does not fit (see ``check_fits``), where a conversion
    would change a value, or where a column that must not hold nulls does.
    """
    if isinstance(table, pa.RecordBatch):
        table = pa.Table.from_batches([table])
    if not table.schema.equals(topic_schema):
        check_fits(table.schema, topic_schema)
    elif not column_layout(topic_schema).not_null:
        return table
    columns = []
    for field in topic_schema:
        position = table.schema.get_field_index(field.name)
        if position < 0:
            columns.append(pa.chunked_array([pa.nulls(table.num_rows, field.type)]))
            continue
        column = table.column(position)
        if column.type != field.type:
            column = _convert(column, field)
        if not field.nullable and column.null_count:
            raise InvalidRecordError(
                f"column {field.name!r} ({field.type}) holds {column.null_count} nulls and does "
                "not accept any"
            )
        columns.append(column)
    return pa.Table.from_arrays(columns, schema=topic_schema)


def _convert(column: pa.ChunkedArray, field: pa.Field) -> pa.ChunkedArray:
    try:
        return column.cast(field.type, safe=True)
    except ARROW_ERRORS as error:
        raise InvalidRecordError(
            f"column {field.name!r} has type {column.type} and does not convert to the topic's "
            f"{field.type} without loss: {error}"
        ) from None


def _repeated(names: list[str]) -> str | None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def _has_extension(schema: pa.Schema) -> bool:
    return any(
        isinstance(field.type, pa.BaseExtensionType)
        or any(key.startswith(_EXTENSION_KEY) for key in field.metadata or ())
        for field in schema
    )


def _node_buffers(kind: pa.DataType, name: str, depth: int) -> list[int]:
    """Buffers of each node of a column, depth first; refuses types that topics do not support."""
    if depth > MAX_NESTING:
        raise InvalidConfigError(f"column {name!r} nests deeper than {MAX_NESTING} levels")
    if isinstance(kind, pa.BaseExtensionType):
        raise InvalidConfigError(
            f"column {name!r} has extension type {kind}; declare it with its storage type "
            f"{kind.storage_type}"
        )
    if kind.id in FIXED_WIDTH:
        return [2]
    if kind.id in VARIABLE_WIDTH:
        return [3]
    if kind.id in _LISTS:
        children = [kind.field(0)]
        own = 2
    elif pa.types.is_fixed_size_list(kind) and kind.list_size > 0:
        children = [kind.field(0)]
        own = 1
    elif pa.types.is_struct(kind) and kind.num_fields:
        children = [kind.field(position) for position in range(kind.num_fields)]
        own = 1
    else:
        raise InvalidConfigError(
            f"column {name!r} has type {kind}, which topics do not support; dictionaries are "
            "stored as their values, views as plain strings or binaries, unions not at all"
        )
    buffers = [own]
    for child in children:
        if any(key.startswith(_EXTENSION_KEY) for key in child.metadata or ()):
            raise InvalidConfigError(f"column {name!r} contains an extension type")
        buffers += _node_buffers(child.type, name, depth + 1)
    return buffers


def _converts(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether values of one type may become values of the other; the cast itself stays checked."""
    types = pa.types
    if types.is_null(found) or found == wanted:
        return True
    if types.is_dictionary(found):
        return _converts(found.value_type, wanted)
    if isinstance(found, pa.BaseExtensionType):
        return False
    if types.is_integer(found):
        return bool(types.is_integer(wanted) or types.is_float64(wanted))
    if types.is_floating(found):
        return bool(types.is_floating(wanted) and wanted.bit_width >= found.bit_width)
    if types.is_decimal(found):
        return bool(types.is_decimal(wanted))
    if _is_text(found):
        return bool(_is_text(wanted) or _is_bytes(wanted))
    if _is_bytes(found) or types.is_fixed_size_binary(found):
        return _is_bytes(wanted)
    if types.is_timestamp(found):
        return bool(types.is_timestamp(wanted) and (found.tz is None) == (wanted.tz is None))
    if types.is_time(found) or types.is_date(found) or types.is_duration(found):
        same = (types.is_time, types.is_date, types.is_duration)
        return any(kind(found) and kind(wanted) for kind in same)
    return _converts_nested(found, wanted)


def _converts_nested(found: pa.DataType, wanted: pa.DataType) -> bool:
    types = pa.types
    lists = (types.is_list, types.is_large_list, types.is_fixed_size_list)
    if any(kind(found) for kind in lists):
        return any(kind(wanted) for kind in lists) and _converts(
            found.value_type, wanted.value_type
        )
    if types.is_struct(found) and types.is_struct(wanted) and found.num_fields == wanted.num_fields:
        pairs = [(found.field(i), wanted.field(i)) for i in range(found.num_fields)]
        return all(a.name == b.name and _converts(a.type, b.type) for a, b in pairs)
    if types.is_map(found) and types.is_map(wanted):
        return _converts(found.key_type, wanted.key_type) and _converts(
            found.item_type, wanted.item_type
        )
    return False


def _is_text(kind: pa.DataType) -> bool:
    types = pa.types
    view = types.is_string_view(kind)
    return bool(types.is_string(kind) or types.is_large_string(kind) or view)


def _is_bytes(kind: pa.DataType) -> bool:
    types = pa.types
    view = types.is_binary_view(kind)
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or view)
