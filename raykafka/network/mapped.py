"""Reads of a co-located client: the server says where batches stand, the client maps the file.

The server names the file by path, device and inode. A path alone proves nothing: it may mean
another file in another mount namespace, or after a segment was deleted. Nothing is mapped that is
not the very file the server meant; whatever is in the way, the client asks for the bytes instead.
"""

from __future__ import annotations

import operator
import os
import stat
import struct
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, overload

from raykafka.errors import MappedReadError
from raykafka.protocol.messages import MappedSegment
from raykafka.storage.mapping import FileMapping, capacity_for

MAX_MAPPINGS: Final = 256
"""Files that a reader keeps mapped; address space only, the pages belong to the page cache."""

_ENTRY_BYTES: Final = 16
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_MOUNTS: Final = Path("/proc/self/ns/mnt")


def host_id() -> str:
    """Names what this process sees as its files: the running kernel and the mount namespace.

    Equal on both sides means that a path means the same file. Empty where the system does not tell
    (other than Linux); nothing is mapped then.
    """
    try:
        return f"{_BOOT_ID.read_text().strip()}/{_MOUNTS.readlink()}"
    except OSError:
        return ""


class Pieces(Sequence[memoryview]):
    """Parts of one buffer, made into views when they are asked for."""

    __slots__ = ("data", "positions", "sizes")

    def __init__(self, data: memoryview, positions: Sequence[int], sizes: Sequence[int]) -> None:
        self.data = data
        self.positions = positions
        self.sizes = sizes

    def __len__(self) -> int:
        return len(self.sizes)

    @overload
    def __getitem__(self, index: int) -> memoryview: ...
    @overload
    def __getitem__(self, index: slice) -> Pieces: ...
    def __getitem__(self, index: int | slice) -> memoryview | Pieces:
        if isinstance(index, slice):
            return Pieces(self.data, self.positions[index], self.sizes[index])
        position = self.positions[index]
        return self.data[position : position + self.sizes[index]]


class MappedReader:
    """Hands out batches as views of mapped files; keeps the most recently used ones mapped.

    A view stays valid for as long as it is referred to, whatever happens to the file's name or to
    the reader. One thread at a time.
    """

    def __init__(self, max_mappings: int = MAX_MAPPINGS) -> None:
        self._max_mappings = max_mappings
        self._mappings: OrderedDict[tuple[int, int], FileMapping] = OrderedDict()

    def __len__(self) -> int:
        return len(self._mappings)

    def batches(self, segment: MappedSegment, index: Any) -> Pieces:
        """The batches of ``segment`` that ``index`` names: uint64 position and size, pair by pair.

        Raises ``MappedReadError`` when the file cannot be opened here, is another one than meant,
        or is shorter than the index says: ask the server for the bytes then.
        """
        view = memoryview(index).cast("B")
        if len(view) % _ENTRY_BYTES:
            raise MappedReadError(f"an index of {len(view)} bytes does not consist of whole pairs")
        places = struct.unpack(f"<{len(view) // 8}Q", view)
        positions, sizes = places[::2], places[1::2]
        if not places:
            return Pieces(memoryview(b""), (), ())
        needed = max(map(operator.add, positions, sizes))
        return Pieces(self._mapping(segment, needed).view, positions, sizes)

    def close(self) -> None:
        """Let go of every mapping; those that somebody still looks at end with the last view."""
        self._mappings.clear()

    def _mapping(self, segment: MappedSegment, needed: int) -> FileMapping:
        identity = (segment.device, segment.inode)
        mapping = self._mappings.get(identity)
        if mapping is None or mapping.size < needed:
            mapping = self._map(segment, needed, mapping)
            self._mappings[identity] = mapping
            while len(self._mappings) > self._max_mappings:
                self._mappings.popitem(last=False)
        self._mappings.move_to_end(identity)
        return mapping

    def _map(
        self, segment: MappedSegment, needed: int, existing: FileMapping | None
    ) -> FileMapping:
        """Map the file anew, or see how far it has grown within the mapping there is."""
        try:
            # Not blocking: a name that means a pipe by now must not stop the reader.
            descriptor = os.open(segment.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (OSError, ValueError) as error:
            raise MappedReadError(f"cannot open {segment.path}: {error}") from error
        try:
            found = os.fstat(descriptor)
            if (found.st_dev, found.st_ino) != (segment.device, segment.inode):
                raise MappedReadError(f"{segment.path} is another file here than on the server")
            if not stat.S_ISREG(found.st_mode):
                raise MappedReadError(f"{segment.path} is not a regular file")
            if found.st_size < needed:
                raise MappedReadError(
                    f"{segment.path} has {found.st_size} bytes, the server told of {needed}"
                )
            if existing is not None and found.st_size <= existing.capacity:
                existing.size = found.st_size
                return existing
            return FileMapping(descriptor, found.st_size, capacity_for(found.st_size))
        except OSError as error:
            raise MappedReadError(f"cannot map {segment.path}: {error}") from error
        finally:
            os.close(descriptor)
