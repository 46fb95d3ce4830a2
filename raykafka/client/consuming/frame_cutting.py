"""From the payload of a fetch to its batches, wherever they are: in the payload or in a file."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from raykafka.errors import MappedReadError, RaykafkaError
from raykafka.log.batch_header import BatchHeader, read_header, verify
from raykafka.log.one_record_runs import SHORTEST_RUN, OneRecordRuns
from raykafka.model import Endpoint, PartitionId, TopicId
from raykafka.network.mapped import MappedReader, Pieces, host_id
from raykafka.protocol.messages import FetchedPartition

PLACE_BYTES = 16
"""What names a mapped batch in a payload: position and size."""


class CutFrame(NamedTuple):
    """The batches of one partition's part of a payload."""

    messages: Sequence[Any]
    costs: Sequence[int]
    """Bytes of the payload that each batch took."""
    last_header: BatchHeader | None
    """Header of the last one: it says where the log goes on. None without any."""
    trusted: bool
    """Whether their CRCs need no check (any more)."""
    error: RaykafkaError | None
    """Why the bytes after the last one are no batch."""
    runs: OneRecordRuns | None = None
    """Reads many of the batches at once, where there are many."""


class FrameCutter:
    """Maps files where it can; remembers whose files it cannot map."""

    def __init__(self, mapped_reads: bool, check_crcs: bool) -> None:
        self.host_id = host_id() if mapped_reads else ""
        self._check_crcs = check_crcs
        self._reader = MappedReader()
        self._unmappable: set[Endpoint] = set()

    def maps(self, endpoint: Endpoint) -> bool:
        """Whether that server may answer with places in files."""
        return bool(self.host_id) and endpoint not in self._unmappable

    def cut(
        self, endpoint: Endpoint, fetched: FetchedPartition, payload: memoryview
    ) -> CutFrame | None:
        """The batches; None when they are in a file that cannot be mapped: ask for bytes then.

        What is mapped has been checked by the server. A batch that comes alone is checked here,
        where its header is looked at anyway; those of larger frames when their turn comes.
        """
        if fetched.mapped is not None:
            try:
                places = self._reader.batches(fetched.mapped, payload)
            except MappedReadError:
                # Another mount namespace, permissions, a segment deleted just now.
                self._unmappable.add(endpoint)
                return None
            return _cut(places, [PLACE_BYTES] * len(places), None)
        sizes = fetched.sizes
        identity = PartitionId(TopicId(fetched.topic_id), fetched.partition)
        if len(sizes) != 1 or not self._check_crcs:
            return _cut(_pieces(payload, sizes), sizes, identity if self._check_crcs else None)
        try:
            return CutFrame((payload,), sizes, verify(payload, identity), True, None)
        except RaykafkaError as error:
            return CutFrame((), (), None, True, error)

    def close(self) -> None:
        """Let go of mapped files; views that were handed out stay valid."""
        self._reader.close()


def payload_size(fetched: FetchedPartition) -> int:
    """Bytes of the payload that belong to the partition."""
    if fetched.mapped is not None:
        return PLACE_BYTES * fetched.mapped_count
    return sum(fetched.sizes)


def _pieces(payload: memoryview, sizes: Sequence[int]) -> Pieces:
    return Pieces(payload, list(accumulate(sizes, initial=0))[:-1], sizes)


def _cut(messages: Pieces, costs: Sequence[int], untrusted: PartitionId | None) -> CutFrame:
    """Only the last header is read now: it says where the log goes on.

    ``untrusted`` is the partition for which CRCs are still to be checked.
    """
    trusted = untrusted is None
    if not messages:
        return CutFrame((), (), None, True, None)
    runs = None
    if len(messages) >= SHORTEST_RUN:
        runs = OneRecordRuns(messages.data, messages.positions, messages.sizes, untrusted)
    try:
        return CutFrame(messages, costs, read_header(messages[-1]), trusted, None, runs)
    except RaykafkaError:
        pass
    header = None
    for index, message in enumerate(messages):
        try:
            header = read_header(message)
        except RaykafkaError as error:
            return CutFrame(messages[:index], costs[:index], header, trusted, error)
    raise AssertionError("unreachable: the last message has no header")
