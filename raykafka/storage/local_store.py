"""Segments as files below one directory of a local (or mounted) file system."""

from __future__ import annotations

import errno
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterator, MutableSequence, Sequence
from contextlib import contextmanager

from raykafka.errors import KafkaStorageError
from raykafka.storage.api import Buffer, LocalFile, checked_path, missing, too_short
from raykafka.storage.descriptors import (
    NO_DESCRIPTOR,
    READ_FLAGS,
    duplicate,
    storage_error,
    sync_data,
    sync_directory,
    write_all,
)
from raykafka.storage.mapping import FileMapping, capacity_for

_APPEND_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
_REPLACE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
_LOAD = 1 << 20
_LARGE = 128 << 10
"""A write of that many bytes does not keep others waiting for the lock."""


class _OpenFile:
    __slots__ = ("descriptor", "size")

    def __init__(self, descriptor: int, size: int) -> None:
        self.descriptor = descriptor
        self.size = size


class LocalStore:
    """A ``SegmentStore`` on a directory; keeps a bounded number of files open and mapped.

    Everything short runs under one lock, so that a flush in another thread never meets a descriptor
    that was closed or given to another file; the fsync itself runs outside of it.
    """

    def __init__(self, root: str, *, max_open_files: int = 256, max_mappings: int = 256) -> None:
        """``root`` is created on first use. ``max_open_files`` bounds descriptors kept open."""
        self.root = os.path.abspath(root)
        self._max_open_files = max_open_files
        self._max_mappings = max_mappings
        self._files: OrderedDict[str, _OpenFile] = OrderedDict()
        self._mappings: OrderedDict[str, FileMapping] = OrderedDict()
        self._unsynced_directories: set[str] = set()
        self._lock = threading.Lock()
        # A store that is dropped without ``close``, as by a test that simulates a kill.
        weakref.finalize(self, _close_all, self._files)

    # --- writing ----------------------------------------------------------------------------------

    def append(self, path: str, data: Buffer) -> int:
        """Write at the end of the file; see ``SegmentStore.append``."""
        length = memoryview(data).nbytes
        with self._lock:
            file = self._opened(path)
            descriptor = duplicate(file.descriptor) if length >= _LARGE else -1
            if descriptor < 0:
                try:
                    write_all(file.descriptor, data)
                except OSError as error:
                    raise self._undone(path, file.size, file.descriptor, error) from error
                return self._appended(path, file, length)
        try:
            write_all(descriptor, data)
        except OSError as error:
            with self._lock:
                raise self._undone(path, file.size, descriptor, error) from error
        finally:
            os.close(descriptor)
        with self._lock:
            return self._appended(path, file, length)

    def flush(self, path: str) -> None:
        """fsync the file, and the directories whose entries on the way to it are new."""
        with self._lock:
            file = self._files.get(path)
            try:
                if file is not None:
                    descriptor = os.dup(file.descriptor)
                else:
                    descriptor = os.open(self._full(path), READ_FLAGS)
            except OSError as error:
                raise storage_error(f"could not open {self._full(path)}", error) from error
            directories = self._unsynced_above(path)
        try:
            if not os.fstat(descriptor).st_nlink:
                raise missing(self._full(path))  # deleted by hand while it was open
            sync_data(descriptor)
            for directory in directories:
                sync_directory(directory)
        except OSError as error:
            raise KafkaStorageError(
                f"fsync of {self._full(path)} failed ({error.strerror}): what was written since "
                "the last one may be lost; check the disk and restart the partition"
            ) from error
        finally:
            os.close(descriptor)
        with self._lock:
            self._unsynced_directories.difference_update(directories)

    def truncate(self, path: str, size: int) -> None:
        """Cut the file; see ``SegmentStore.truncate``."""
        with self._lock, self._translated(f"could not cut {self._full(path)}"):
            self._mappings.pop(path, None)
            os.truncate(self._full(path), size)
            file = self._files.get(path)
            if file is not None:
                file.size = size

    def publish(self, path: str, data: Buffer, *, durable: bool = True) -> None:
        """Write a temporary file beside it and rename; see ``SegmentStore.publish``."""
        full = self._full(checked_path(path))
        temporary = full + ".tmp"
        with self._translated(f"could not write {full}"):
            with self._lock:
                descriptor = self._create(temporary, _REPLACE_FLAGS)
            try:
                write_all(descriptor, data)
                if durable:
                    os.fsync(descriptor)
            except OSError:
                os.unlink(temporary)
                raise
            finally:
                os.close(descriptor)
            with self._lock:
                self._forget(path)
                os.replace(temporary, full)
                self._unsynced_directories.add(os.path.dirname(full))
                directories = self._unsynced_above(path) if durable else []
            for directory in directories:
                sync_directory(directory)
        with self._lock:
            self._unsynced_directories.difference_update(directories)

    def delete(self, path: str) -> None:
        """Remove the file; see ``SegmentStore.delete``."""
        full = self._full(checked_path(path))
        with self._lock, self._translated(f"could not delete {full}"):
            self._forget(path)
            os.unlink(full)
            directory = os.path.dirname(full)
            self._unsynced_directories.add(directory)
            if directory != self.root:
                self._remove_if_empty(directory)

    # --- reading ----------------------------------------------------------------------------------

    def read(self, path: str, start: int, length: int) -> memoryview:
        """A slice of the file's mapping; see ``SegmentStore.read``."""
        end = start + length
        with self._lock:
            mapping = self._mappings.get(path)
            if mapping is None or start < 0 or length < 0 or end > mapping.size:
                mapping = self._map(path, start, length)
            else:
                self._mappings.move_to_end(path)
        return mapping.view[start:end]

    def is_cached(self, path: str, start: int, length: int) -> bool:
        """Whether the system has those bytes of the file in memory."""
        with self._lock:
            mapping = self._mappings.get(path)
            if mapping is None or start + length > mapping.size:
                mapping = self._map(path, start, length)
        return mapping.is_resident(start, length)

    def load(self, path: str, start: int, length: int) -> None:
        """Read those bytes and forget them: the system keeps them."""
        with self._translated(f"could not read {self._full(path)}"):
            descriptor = os.open(self._full(checked_path(path)), READ_FLAGS)
            try:
                end = start + length
                while start < end:
                    start += len(os.pread(descriptor, min(_LOAD, end - start), start)) or end
            finally:
                os.close(descriptor)

    def size(self, path: str) -> int:
        """Bytes in the file; raises ``MissingFileError``."""
        file = self._files.get(path)
        if file is not None:
            return file.size
        with self._translated(f"could not look at {path}"):
            return os.stat(self._full(path)).st_size

    def list(self, prefix: str) -> list[str]:
        """Sorted paths below the root that start with ``prefix``."""
        directory = prefix.rpartition("/")[0]
        found: list[str] = []
        with self._translated(f"could not list {prefix}"):
            self._collect(directory, prefix, found)
        return sorted(found)

    def local_file(self, path: str) -> LocalFile:
        """The absolute path with the numbers that tell whether it is still the same file."""
        full = self._full(path)
        with self._translated(f"could not look at {full}"):
            status = os.stat(full)
        return LocalFile(full, status.st_dev, status.st_ino, status.st_mtime_ns)

    def close(self) -> None:
        """Close every descriptor; the store may be used again afterwards."""
        with self._lock:
            _close_all(self._files)
            self._mappings.clear()

    # --- inside -----------------------------------------------------------------------------------

    def _full(self, path: str) -> str:
        return f"{self.root}/{path}"

    def _opened(self, path: str) -> _OpenFile:
        file = self._files.get(path)
        if file is None:
            return self._open(path)
        self._files.move_to_end(path)
        return file

    def _appended(self, path: str, file: _OpenFile, length: int) -> int:
        """Where the file ends now, if that is where it should; the lock is held."""
        file.size += length
        if self._files.get(path) is not file:
            return file.size  # its descriptor was needed elsewhere
        try:
            status = os.fstat(file.descriptor)
        except OSError as error:
            raise storage_error(f"could not look at {self._full(path)}", error) from error
        if not status.st_nlink:
            self._forget(path)
            raise missing(self._full(path))  # deleted by hand while it was open
        if status.st_size != file.size:
            self._forget(path)
            raise KafkaStorageError(
                f"{self._full(path)} ends at byte {status.st_size} after an append that should"
                f" have ended at {file.size}: somebody else writes to it or has cut it. Find out"
                " who; restarting the partition says what is left"
            )
        return file.size

    def _open(self, path: str) -> _OpenFile:
        with self._translated(f"could not open {self._full(checked_path(path))}"):
            descriptor = self._create(self._full(path), _APPEND_FLAGS)
            size = os.fstat(descriptor).st_size
        if size == 0:
            self._unsynced_directories.add(os.path.dirname(self._full(path)))
        file = self._files[path] = _OpenFile(descriptor, size)
        if len(self._files) > self._max_open_files:
            os.close(self._files.popitem(last=False)[1].descriptor)
        return file

    def _create(self, full: str, flags: int) -> int:
        """Open a file for writing; makes its directory and room for a descriptor if need be."""
        for _ in range(2):
            try:
                return os.open(full, flags, 0o644)
            except FileNotFoundError:
                self._make_directory(os.path.dirname(full))
            except OSError as error:
                if error.errno not in NO_DESCRIPTOR or not self._files:
                    raise
                # Others use up the process's descriptors: half of ours can be had again any time.
                for _ in range(len(self._files) // 2 + 1):
                    os.close(self._files.popitem(last=False)[1].descriptor)
        return os.open(full, flags, 0o644)

    def _make_directory(self, directory: str) -> None:
        parent = os.path.dirname(directory)
        if not os.path.isdir(parent):
            self._make_directory(parent)
        os.makedirs(directory, exist_ok=True)
        self._unsynced_directories.add(parent)

    def _remove_if_empty(self, directory: str) -> None:
        try:
            os.rmdir(directory)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        else:
            self._unsynced_directories.discard(directory)
            self._unsynced_directories.add(os.path.dirname(directory))

    def _unsynced_above(self, path: str) -> Sequence[str]:
        """Directories from the file's own upwards whose entries have not been synced."""
        if not self._unsynced_directories:
            return []
        directory = os.path.dirname(self._full(path))
        found = []
        while True:
            if directory in self._unsynced_directories:
                found.append(directory)
            parent = os.path.dirname(directory)
            if parent == directory:
                return found
            directory = parent

    def _undone(self, path: str, size: int, descriptor: int, error: OSError) -> KafkaStorageError:
        """Undo a partial write; what to raise then."""
        try:
            os.ftruncate(descriptor, size)
        except OSError as second:
            self._forget(path)
            return KafkaStorageError(
                f"a partial write to {self._full(path)} could not be cut back ({second.strerror}); "
                "check the disk and restart the partition"
            )
        return storage_error(f"could not append to {self._full(path)}", error)

    def _forget(self, path: str) -> None:
        self._mappings.pop(path, None)
        file = self._files.pop(path, None)
        if file is not None:
            os.close(file.descriptor)

    def _map(self, path: str, start: int, length: int) -> FileMapping:
        """A mapping that holds the bytes asked for: the present one, grown, or a new one."""
        file = self._files.get(path)
        with self._translated(f"could not map {self._full(path)}"):
            size = os.stat(self._full(path)).st_size if file is None else file.size
            if start < 0 or length < 0 or start + length > size:
                raise too_short(self._full(path), start, length, size)
            mapping = self._mappings.get(path)
            if mapping is not None and size <= mapping.capacity:
                mapping.size = size
                self._mappings.move_to_end(path)
                return mapping
            if file is not None:
                mapping = FileMapping(file.descriptor, size, capacity_for(size))
            else:
                descriptor = os.open(self._full(checked_path(path)), READ_FLAGS)
                try:
                    mapping = FileMapping(descriptor, size, capacity_for(size))
                finally:
                    os.close(descriptor)
        self._mappings[path] = mapping
        if len(self._mappings) > self._max_mappings:
            self._mappings.popitem(last=False)
        return mapping

    def _collect(self, directory: str, prefix: str, found: MutableSequence[str]) -> None:
        try:
            entries = os.scandir(self._full(directory) if directory else self.root)
        except (FileNotFoundError, NotADirectoryError):
            return
        with entries:
            for entry in entries:
                path = f"{directory}/{entry.name}" if directory else entry.name
                if entry.is_dir(follow_symlinks=False):
                    if path.startswith(prefix) or prefix.startswith(path + "/"):
                        self._collect(path, prefix, found)
                elif path.startswith(prefix):
                    found.append(path)

    @contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise missing(str(error.filename)) from error
        except OSError as error:
            raise storage_error(what, error) from error


def _close_all(files: OrderedDict[str, _OpenFile]) -> None:
    while files:
        os.close(files.popitem()[1].descriptor)
