"""A store in memory that forgets what was not synced, and fails on command."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from raykafka.errors import DiskFullError
from raykafka.storage.api import Buffer, checked_path, missing, too_short


class _File:
    __slots__ = ("content", "durable")

    def __init__(self) -> None:
        self.content = b""
        self.durable: bytes | None = None
        """What a power cut leaves; None when the file itself was never synced."""


class MemoryStore:
    """A ``SegmentStore`` for tests of everything above it."""

    def __init__(self, *, capacity_bytes: int | None = None) -> None:
        """With ``capacity_bytes`` it is a disk that fills up: ``DiskFullError`` past that."""
        self.capacity_bytes = capacity_bytes
        self._files: dict[str, _File] = {}
        self._failures: dict[str, deque[Exception]] = {}
        self.calls: dict[str, int] = {}
        """How often each operation was called."""

    # --- faults -----------------------------------------------------------------------------------

    def fail_next(self, operation: str, error: Exception) -> None:
        """The next call of ``operation`` (a method's name) raises ``error``; calls queue up."""
        self._failures.setdefault(operation, deque()).append(error)

    def drop_unsynced(self, keep: Callable[[str, int], int] | None = None) -> None:
        """A power cut: each file falls back to what was synced.

        ``keep(path, unsynced bytes)`` may let some of the appended bytes survive, as a page cache
        that was partly written back does; by default none do.
        """
        for path, file in list(self._files.items()):
            durable = file.durable if file.durable is not None else b""
            kept = len(durable)
            if keep is not None and file.content.startswith(durable):
                kept += keep(path, len(file.content) - len(durable))
            if file.durable is None and kept == 0:
                del self._files[path]
            else:
                file.content = file.content[:kept] if kept > len(durable) else durable
                file.durable = file.content

    def corrupt(self, path: str, position: int, mask: int = 0x01) -> None:
        """Flip bits of one byte, behind everybody's back."""
        file = self._file(path)
        damaged = bytearray(file.content)
        damaged[position] ^= mask
        file.content = file.durable = bytes(damaged)

    # --- SegmentStore -----------------------------------------------------------------------------

    def append(self, path: str, data: Buffer) -> int:
        """See ``SegmentStore.append``."""
        self._called("append")
        self._check_capacity(len(data))
        file = self._files.setdefault(checked_path(path), _File())
        file.content += bytes(data)
        return len(file.content)

    def read(self, path: str, start: int, length: int) -> memoryview:
        """See ``SegmentStore.read``."""
        self._called("read")
        content = self._file(path).content
        if start < 0 or length < 0 or start + length > len(content):
            raise too_short(path, start, length, len(content))
        return memoryview(content)[start : start + length]

    def size(self, path: str) -> int:
        """See ``SegmentStore.size``."""
        self._called("size")
        return len(self._file(path).content)

    def flush(self, path: str) -> None:
        """See ``SegmentStore.flush``."""
        self._called("flush")
        file = self._file(path)
        file.durable = file.content

    def truncate(self, path: str, size: int) -> None:
        """See ``SegmentStore.truncate``."""
        self._called("truncate")
        file = self._file(path)
        file.content = file.content[:size]

    def publish(self, path: str, data: Buffer, *, durable: bool = True) -> None:
        """See ``SegmentStore.publish``."""
        self._called("publish")
        self._check_capacity(len(data))
        file = self._files.setdefault(checked_path(path), _File())
        file.content = bytes(data)
        if durable:
            file.durable = file.content

    def list(self, prefix: str) -> list[str]:
        """See ``SegmentStore.list``."""
        self._called("list")
        return sorted(path for path in self._files if path.startswith(prefix))

    def delete(self, path: str) -> None:
        """See ``SegmentStore.delete``; takes effect at once, also on what a power cut leaves."""
        self._called("delete")
        self._file(path)
        del self._files[path]

    def close(self) -> None:
        """Nothing to give back; the content stays."""

    def _called(self, operation: str) -> None:
        self.calls[operation] = self.calls.get(operation, 0) + 1
        failures = self._failures.get(operation)
        if failures:
            raise failures.popleft()

    def _file(self, path: str) -> _File:
        file = self._files.get(path)
        if file is None:
            raise missing(path)
        return file

    def _check_capacity(self, size: int) -> None:
        if self.capacity_bytes is None:
            return
        used = sum(len(file.content) for file in self._files.values())
        if used + size > self.capacity_bytes:
            raise DiskFullError(
                f"the memory store holds {used} of {self.capacity_bytes} bytes; free space or "
                "lower the retention. Reads go on"
            )
