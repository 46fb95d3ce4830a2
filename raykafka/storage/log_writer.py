"""Writes to the files of a log, and takes the log offline when the disk has lost its trust."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from raykafka.errors import DiskFullError, KafkaStorageError
from raykafka.log.segment import build_footer, build_preamble
from raykafka.storage.api import Buffer, MissingFileError, SegmentStore
from raykafka.storage.log_segment import LogSegment
from raykafka.storage.segment_schema import schema_of


class _Closed(KafkaStorageError, retriable=False, refresh_metadata=False):
    """The log is closed."""


class LogWriter:
    """A full disk leaves everything as it was; any other failure is final (see ``check``)."""

    __slots__ = ("_name", "_store", "failure")

    def __init__(self, store: SegmentStore, name: str) -> None:
        self._store = store
        self._name = name
        self.failure: KafkaStorageError | None = None
        """Why nothing is written any more."""

    @property
    def closed(self) -> bool:
        """Whether the log was closed or deleted, rather than lost."""
        return isinstance(self.failure, _Closed)

    def close(self, how: str) -> None:
        """Refuse further writes; ``how`` says what happened to the log."""
        self.failure = _Closed(f"the log of {self._name} {how}; open it again")

    def fail(self, error: Exception) -> None:
        """Take the log offline."""
        if not isinstance(error, KafkaStorageError):
            error = KafkaStorageError(f"the log of {self._name} failed: {error!r}")
        self.failure = error

    def check(self) -> None:
        """Raise ``KafkaStorageError`` once the log is offline or closed."""
        if self.failure is None:
            return
        if self.closed:
            raise _Closed(self.failure.message)
        raise KafkaStorageError(
            f"the log of {self._name} is offline since: {self.failure}. Restart the partition once "
            "the disk is well"
        )

    def begin(self, segment: LogSegment, schema: pa.Schema) -> None:
        """Create the segment's file."""
        segment.size_bytes = self._append(segment.path, build_preamble(schema))

    def begin_again(self, segment: LogSegment) -> None:
        """Empty a file that has only a preamble: the disk was full when its batch came."""
        self._store.truncate(segment.path, 0)
        segment.size_bytes = 0

    def write(self, segment: LogSegment, message: Buffer) -> int:
        """Write a batch to the end of the file; returns its position."""
        position = segment.size_bytes
        expected = position + len(message)
        try:
            end = self._store.append(segment.path, message)
        except KafkaStorageError as error:
            self._note(error)
            raise
        if end != expected:
            self.failure = KafkaStorageError(
                f"{segment.path} has {end} bytes where {expected} were expected: it was changed "
                "from outside; restart the partition to see what is left"
            )
            raise self.failure
        return position

    def seal(self, segment: LogSegment, schemas: Sequence[pa.Schema]) -> None:
        """Write the footer."""
        schema = schema_of(self._store, segment, schemas)
        segment.size_bytes = self._append(segment.path, build_footer(schema, segment.loaded_index))
        segment.sealed = True

    def flush(self, segment: LogSegment) -> None:
        """Make the file durable, unless it was deleted meanwhile."""
        try:
            self._store.flush(segment.path)
        except KafkaStorageError as error:
            if isinstance(error, MissingFileError) and (segment.deleted or self.closed):
                return
            if self.failure is None:
                self.failure = error
            raise

    def _append(self, path: str, data: Buffer) -> int:
        try:
            return self._store.append(path, data)
        except KafkaStorageError as error:
            self._note(error)
            raise

    def _note(self, error: KafkaStorageError) -> None:
        if not isinstance(error, DiskFullError):
            self.failure = error
