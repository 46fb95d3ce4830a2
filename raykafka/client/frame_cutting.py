"""From the payload of a fetch to its batches, wherever they are: in the payload or in a file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from raykafka.errors import MappedReadError, RaykafkaError
from raykafka.log.batch import read_header
from raykafka.model import Endpoint
from raykafka.network.mapped import MappedReader, host_id
from raykafka.protocol.messages import FetchedPartition

PLACE_BYTES = 16
"""What names a mapped batch in a payload: position and size."""


class CutFrame(NamedTuple):
    """The batches of one partition's part of a payload."""

    messages: Sequence[Any]
    costs: Sequence[int]
    """Bytes of the payload that each batch took."""
    next_offset: int
    """What follows the last one in the log; -1 without any."""
    error: RaykafkaError | None
    """Why the bytes after the last one are no batch."""


class FrameCutter:
    """Maps files where it can; remembers whose files it cannot map."""

    def __init__(self, mapped_reads: bool) -> None:
        self.host_id = host_id() if mapped_reads else ""
        self._reader = MappedReader()
        self._unmappable: set[Endpoint] = set()

    def maps(self, endpoint: Endpoint) -> bool:
        """Whether that server may answer with places in files."""
        return bool(self.host_id) and endpoint not in self._unmappable

    def cut(
        self, endpoint: Endpoint, fetched: FetchedPartition, payload: memoryview
    ) -> CutFrame | None:
        """The batches; None when they are in a file that cannot be mapped: ask for bytes then."""
        if fetched.mapped is None:
            return _whole(_slices(payload, fetched.sizes), fetched.sizes)
        try:
            messages = self._reader.batches(fetched.mapped, payload)
        except MappedReadError:
            # Another mount namespace, permissions, a segment deleted just now.
            self._unmappable.add(endpoint)
            return None
        return _whole(messages, [PLACE_BYTES] * len(messages))

    def close(self) -> None:
        """Let go of mapped files; views that were handed out stay valid."""
        self._reader.close()


def payload_size(fetched: FetchedPartition) -> int:
    """Bytes of the payload that belong to the partition."""
    if fetched.mapped is not None:
        return PLACE_BYTES * fetched.mapped_count
    return sum(fetched.sizes)


def _slices(payload: memoryview, sizes: Sequence[int]) -> list[memoryview]:
    if len(sizes) == 1:
        return [payload]
    messages = []
    start = 0
    for size in sizes:
        messages.append(payload[start : start + size])
        start += size
    return messages


def _whole(messages: Sequence[Any], costs: Sequence[int]) -> CutFrame:
    """Only the last header is read now: it says where the log goes on."""
    if not messages:
        return CutFrame((), (), -1, None)
    try:
        return CutFrame(messages, costs, read_header(messages[-1]).next_offset, None)
    except RaykafkaError:
        pass
    next_offset = -1
    for index, message in enumerate(messages):
        try:
            next_offset = read_header(message).next_offset
        except RaykafkaError as error:
            return CutFrame(messages[:index], costs[:index], next_offset, error)
    raise AssertionError("unreachable: the last message has no header")
