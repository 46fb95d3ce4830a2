"""The text of docs/protocol.md, made of the api table, messages, errors and golden frames."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from raykafka.errors import ERRORS_BY_CODE, RaykafkaError
from raykafka.network import listening
from raykafka.protocol import (
    apis,
    auth,
    framing,
    group_messages,
    messages,
    operations_messages,
    quorum_messages,
    replication_messages,
    share_messages,
    txn_messages,
)
from raykafka.protocol.messages import ApiKey, Message
from raykafka.quorum.messages import EpochRun, OffsetAndEpoch
from raykafka.quorum.voters import ReplicaKey, Voter, VotersAt, VoterSet

_MODULES = (
    messages,
    operations_messages,
    quorum_messages,
    replication_messages,
    group_messages,
    txn_messages,
    share_messages,
)

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests/unit/protocol/golden"

_EXAMPLE_SECRET = bytes(range(32))
_EXAMPLE = auth.Words(
    "client", "c-1", "default/partitions-0-1", 3, b"\x05" * auth.CHALLENGE_BYTES, b"\x07" * 32
)

_INTRODUCTION = """\
# Protocol

What a client and a listener of raykafka say to each other over TCP: enough to write a client in
another language. Every actor that owns state (the controller, each partition actor) has a listener;
METADATA, asked of the controller, tells where the partitions' listeners are.

<!-- Written by docs/generate_protocol.py from raykafka/protocol: change that, then `make docs`. -->

Contents: [Framing](#framing) · [Headers](#headers) · [Handshake](#handshake) ·
[Bounds](#bounds) · [Reading: long poll, push and mapped files](#reading) · [APIs](#apis) ·
[Shared structures](#shared-structures) · [Errors](#errors)

## Framing

The framing is Kafka's. All integers in it are big-endian. A frame begins with its size, an int32
that counts every byte after itself.

| request | type | |
| --- | --- | --- |
| size | int32 | bytes that follow: {request_fixed} + header size + payload |
| api key | int16 | which request it is; raykafka's own begin at 20000 |
| api version | int16 | 0 |
| correlation id | int32 | chosen by the client; the answer carries it |
| header size | uint32 | |
| header | bytes | one MessagePack map |
| payload | bytes | the rest of the frame; only where the api says so |

| response | type | |
| --- | --- | --- |
| size | int32 | bytes that follow: {response_fixed} + header size + payload |
| correlation id | int32 | that of the request; {connection_error} for an error of the connection |
| header size | uint32 | |
| header | bytes | one MessagePack map |
| payload | bytes | the rest of the frame |

Requests may be pipelined: any number can be sent before the first answer. Answers to PRODUCE come
in the order of the requests for a partition; others may overtake each other, so go by the
correlation id. An error with correlation id {connection_error} concerns the connection, which the
server closes after it: every request without an answer has failed with that error.

## Headers

A header is a MessagePack map from field names to values: `string` and `binary` are MessagePack's
str and bin, `integer` is any of its integers, `array` its arrays, `null` its nil; a structure is a
map again. Encoders leave out fields that have their default, decoders take the default for what is
missing and skip names they do not know. That is how versions live together: a field is never
renamed or given another meaning, and a new field has a default.

Where a response has failed as a whole, its `error_code` is not 0 and its other fields need not be
there: `{{"error_code": 3, "error_message": "..."}}` may stand in the place of any response.

Timestamps are milliseconds since 1970 (UTC), times are milliseconds, sizes are bytes.
"""

_HANDSHAKE = """\
## Handshake

The first two requests on a connection are HELLO and AUTHENTICATE, in this order; nothing else is
taken before, no frame may be larger than {unauthenticated} bytes until then, and a connection that
has not come through in {timeout:g} seconds is closed. A failed proof is answered with
CLUSTER_AUTHORIZATION_FAILED (31) after a short pause, and the connection is closed: there is one
try per connection.

1. The client sends HELLO. The server answers with its cluster, the name and incarnation of its
   actor, the apis it serves and a **challenge** of {challenge} random bytes, used once.
2. The client picks a **nonce** of {nonce} random bytes and sends AUTHENTICATE with its role, the
   nonce and its proof. The role is `client`; `broker` is for raykafka's own actors.
3. The server compares the proof in constant time and answers with a proof of its own, which the
   client must check: otherwise it may be talking to an impostor.

```
words  = for each of: role, cluster_id, node, incarnation in decimal, challenge, nonce
             uint32 big-endian length, then the bytes (text as UTF-8)
key(p) = HMAC-SHA256(secret, "raykafka authentication 1 " + p)
client proof = HMAC-SHA256(key(role), words)
server proof = HMAC-SHA256(key("server"), words)
```

The secret never travels. It is random, {secret_hint} bytes or more, made with the cluster; clients
inside the Ray cluster get it through Ray. Traffic is neither encrypted nor signed after the
handshake: keep listeners on a network you trust.

A worked example:

{example}

"""

_BOUNDS = """\
## Bounds

Sizes are checked before memory is taken for them. The listener says the largest frame that it takes
in HELLO's `max_request_bytes` (broker setting `socket.request.max.bytes`); a header is {header}
bytes at most. Sizes that contradict each other, or are over the bound, end the connection; so does
a frame that was begun and gets no further byte for {stall:g} seconds.

A sane frame that cannot be served is answered, and the connection goes on:

| what | error |
| --- | --- |
| api key or version that is not served here | UNSUPPORTED_VERSION (35) |
| header that is not the map it should be; payload where none is allowed | INVALID_REQUEST (42) |
| more connections than `max.connections` | 20000, then the connection is closed |

Who does not read its answers is not read from either: the listener stops receiving from a
connection while more than about a megabyte waits to be sent on it. A client that sends a lot must
therefore read while it sends. When all connections together leave more than `queued.max.bytes`
unread, the one with the most is closed.

## Reading

**Long poll.** FETCH with `push` false is answered once: at once if `min_bytes` are there, otherwise
when they are or after `max_wait_ms`.

**Push.** FETCH with `push` true opens a session, named by its correlation id, that is answered
again and again as records commit, one frame per partition, as long as credit lasts. `credit_bytes`
counts payload bytes; a frame is sent while any credit is left, so it goes below zero by at most one
frame. FETCH_CREDIT adds to it, or ends the session with `close`. The last frame of a session names
no partition (or is an error); after it the correlation id is free.

**Mapped files.** A client on the machine of the server sends its `host_id`: the kernel's boot id
(`/proc/sys/kernel/random/boot_id`), a slash, and the target of the link `/proc/self/ns/mnt`. Where
it is the server's own, the answer may hold `mapped` instead of batches: path, device and inode of a
segment file, with pairs of little-endian uint64 position and size, one per batch, as the payload.
The client opens the path, compares device and inode, and maps the file. If anything is in the way
it asks again without `host_id`.

**Payloads.** The payload of FETCH's answer is the batches of its partitions, in order; each
partition's `sizes` tell where they end. A batch, here and in PRODUCE, is one Arrow IPC message
([architecture.md](architecture.md) describes its header slot and checksum).

"""


def protocol_page() -> str:
    """The text of docs/protocol.md."""
    parts = [
        _INTRODUCTION.format(
            request_fixed=framing.REQUEST_PREFIX.size - framing.SIZE_BYTES,
            response_fixed=framing.RESPONSE_PREFIX.size - framing.SIZE_BYTES,
            connection_error=framing.CONNECTION_ERROR_ID,
        ),
        _HANDSHAKE.format(
            unauthenticated=framing.MAX_UNAUTHENTICATED_BYTES,
            timeout=listening.AUTHENTICATION_TIMEOUT_S,
            challenge=auth.CHALLENGE_BYTES,
            nonce=auth.NONCE_BYTES,
            secret_hint=32,
            example=_worked_example(),
        ),
        _BOUNDS.format(header=framing.MAX_HEADER_BYTES, stall=listening.STALL_TIMEOUT_S),
        "\n".join(_apis()),
        "\n".join(_structures()),
        "\n".join(_errors()),
    ]
    return "\n".join(part.strip("\n") + "\n" for part in parts)


def _worked_example() -> str:
    rows = [
        ("secret", _EXAMPLE_SECRET.hex()),
        ("role", _EXAMPLE.role),
        ("cluster_id", _EXAMPLE.cluster_id),
        ("node", _EXAMPLE.node),
        ("incarnation", str(_EXAMPLE.incarnation)),
        ("challenge", _EXAMPLE.challenge.hex()),
        ("nonce", _EXAMPLE.nonce.hex()),
        ("words", _EXAMPLE.packed().hex()),
        ("client proof", auth.client_proof(_EXAMPLE_SECRET, _EXAMPLE).hex()),
        ("server proof", auth.server_proof(_EXAMPLE_SECRET, _EXAMPLE).hex()),
    ]
    lines = []
    for name, value in rows:
        first, *rest = textwrap.wrap(value, 64)
        lines.append(f"{name:<12}  {first}")
        lines += [f"{'':<12}  {more}" for more in rest]
    return "\n".join(["```", *lines, "```"])


# --- apis -----------------------------------------------------------------------------------------


def _apis() -> Iterator[str]:
    yield "## APIs\n"
    yield "| key | api | versions | served by | request payload | response payload |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for api in apis.APIS.values():
        name = api.key.name
        versions = f"{api.min_version} to {api.max_version}"
        payloads = f"{_yes(api.payload)} | {_yes(api.response_payload)}"
        link = f"[{name}](#{name.lower()})"
        yield f"| {int(api.key)} | {link} | {versions} | {api.served_by} | {payloads} |"
    yield "\nThe golden frames below are those that the tests check, whole and in hexadecimal.\n"
    for api in apis.APIS.values():
        yield f"### {api.key.name}\n"
        yield from _message("Request", api.request)
        if api.response is None:
            yield "**Response**: none; only an error is answered.\n"
        else:
            yield from _message("Response", api.response)
        yield from _golden(api.key)


def _message(title: str, message: type[Message]) -> Iterator[str]:
    text = _docstring(message)
    yield f"**{title}**" + (f": {text}\n" if text else "\n")
    yield from _fields(message)


def _fields(message: type[Message]) -> Iterator[str]:
    documentation = _field_documentation(message)
    fields = msgspec.structs.fields(message)
    if not fields:
        yield "No fields.\n"
        return
    yield "| field | type | default | |"
    yield "| --- | --- | --- | --- |"
    for field in fields:
        annotation, text = documentation[field.name]
        default = "required" if field.required else f"`{_default(field)}`"
        yield f"| `{field.name}` | {_type(annotation)} | {default} | {text} |"
    yield ""


def _golden(key: ApiKey) -> Iterator[str]:
    yield "Golden frames, request and response:\n"
    for kind in ("request", "response"):
        yield "```"
        yield (GOLDEN / f"{key.name.lower()}_{kind}.hex").read_text().strip()
        yield "```"
    yield ""


def _structures() -> Iterator[str]:
    """Those that are not a whole header but a part of one."""
    whole = {api.request for api in apis.APIS.values()}
    whole |= {api.response for api in apis.APIS.values() if api.response is not None}
    yield "## Shared structures\n"
    for name, value in [item for module in _MODULES for item in vars(module).items()]:
        is_message = inspect.isclass(value) and issubclass(value, Message) and value is not Message
        if is_message and value not in whole:
            yield f"### {name}\n"
            text = _docstring(value)
            if text:
                yield f"{text}\n"
            yield from _fields(value)
    yield from _arrays()


def _arrays() -> Iterator[str]:
    """What stands as an array of its fields."""
    own = [value for module in _MODULES for value in vars(module).values() if _is_array(value)]
    of_quorum = (ReplicaKey, Voter, VoterSet, VotersAt, OffsetAndEpoch, EpochRun)
    for record in dict.fromkeys((*own, *of_quorum)):
        yield f"### {record.__name__}\n"
        yield f"An array of its fields. {_docstring(record)}\n"
        yield "| field | type | |"
        yield "| --- | --- | --- |"
        for field, (annotation, text) in _field_documentation(record).items():
            yield f"| `{field}` | {_type(annotation)} | {text} |"
        yield ""


def _is_array(value: object) -> bool:
    is_struct = inspect.isclass(value) and issubclass(value, msgspec.Struct)
    return is_struct and not issubclass(value, Message) and value.__struct_config__.array_like


def _errors() -> Iterator[str]:
    yield "## Errors\n"
    yield (
        "Codes up to 133 are Kafka's, with its names and meaning; from 20000 they are raykafka's "
        "own. *Retriable*:\nthe same request may succeed when it is sent again. *Refresh*: get "
        "fresh metadata first. A code that\nyou do not know is an error that is not retriable.\n"
    )
    yield "| code | error | retriable | refresh | meaning |"
    yield "| --- | --- | --- | --- | --- |"
    yield "| 0 | none | | | Success. |"
    for code, error in sorted(ERRORS_BY_CODE.items()):
        if code >= -1:
            yield (
                f"| {code} | `{error.__name__}` | {_yes(error.retriable)} "
                f"| {_yes(error.refresh_metadata)} | {_summary(error)} |"
            )


# --- out of the source ----------------------------------------------------------------------------


def _field_documentation(message: type[Any]) -> dict[str, tuple[ast.expr, str]]:
    """Annotation and text of every field; the text is the string that follows the field."""
    body = _class_body(message)
    found = {}
    for statement, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            text = _constant_text(after)
            found[statement.target.id] = (statement.annotation, " ".join(text.split()))
    return found


def _class_body(message: type[Any]) -> list[ast.stmt]:
    tree = ast.parse(textwrap.dedent(inspect.getsource(message)))
    definition = tree.body[0]
    assert isinstance(definition, ast.ClassDef)
    return definition.body


def _constant_text(statement: ast.stmt | None) -> str:
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        return str(statement.value.value).replace("``", "`")
    return ""


def _docstring(message: type[Any]) -> str:
    text = ast.get_docstring(ast.Module(_class_body(message), []))  # not the inherited one
    return text.replace("``", "`") if text else ""


def _type(annotation: ast.expr) -> str:
    names = {"str": "string", "int": "integer", "bytes": "binary", "bool": "boolean"}
    match annotation:
        case ast.Name(name):
            return names.get(name) or f"[{name}](#{name.lower()})"
        case ast.Constant(None):
            return "null"
        case ast.BinOp(left, ast.BitOr(), right):
            return f"{_type(left)} or {_type(right)}"
        case ast.Subscript(ast.Name("list"), item):
            return f"array of {_type(item)}"
        case ast.Subscript(ast.Name("tuple"), ast.Tuple([item, ast.Constant(value)])) if (
            value is ...
        ):
            return f"array of {_type(item)}"
        case ast.Subscript(ast.Name("tuple"), ast.Tuple(items)):
            return f"array of {' and '.join(_type(item) for item in items)}"
        case ast.Subscript(ast.Name("dict"), ast.Tuple([key, value])):
            return f"map from {_type(key)} to {_type(value)}"
    raise TypeError(f"no wire type for {ast.unparse(annotation)}")


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.default_factory is not msgspec.NODEFAULT:
        return repr(field.default_factory())
    if field.default is None or isinstance(field.default, bool):
        return str(field.default).lower().replace("none", "null")
    if isinstance(field.default, str):
        return f'"{field.default}"'
    return "empty" if field.default == b"" else repr(field.default)


def _summary(error: type[RaykafkaError]) -> str:
    return (error.__doc__ or "").partition("\n")[0]


def _yes(value: bool) -> str:
    return "yes" if value else ""
