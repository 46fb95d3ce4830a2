"""Which schema the batches of a segment were written with."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from raykafka.errors import CorruptMessageError
from raykafka.log.batch_header import peek_header
from raykafka.log.ipc_message import PREFIX_SIZE
from raykafka.log.segment import read_preamble
from raykafka.storage.api import SegmentStore
from raykafka.storage.log_segment import LogSegment


def schema_of(store: SegmentStore, segment: LogSegment, schemas: Sequence[pa.Schema]) -> pa.Schema:
    """The storage schema of a segment: its first batch's, else what the file begins with."""
    index = segment.loaded_index
    if len(index):
        try:
            header = peek_header(store.read(segment.path, index.position[0], PREFIX_SIZE))
            return schemas[header.schema_id]
        except (CorruptMessageError, IndexError):
            pass  # then it stands at the beginning of the file
    try:
        return read_preamble(store.read(segment.path, 0, segment.size_bytes)).schema
    except CorruptMessageError:
        return schemas[-1]
