"""Sealed segments on anything fsspec reaches: S3, GCS, Azure, a mounted file system.

Object stores cannot append, so this store takes whole files only: ``append`` and ``truncate`` are
refused. Reads are range requests.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import fsspec

from raykafka.errors import InvalidRequestError, KafkaStorageError
from raykafka.storage.api import Buffer, checked_path, missing, too_short


class FsspecStore:
    """A ``SegmentStore`` without append on an fsspec URL; blocks, so call it from a thread."""

    def __init__(self, url: str, **options: Any) -> None:
        """``url`` as in ``s3://bucket/prefix``; ``options`` go to the file system as they are.

        Raises ``KafkaStorageError`` when the file system is not known or its package not installed.
        """
        # Other processes write here, too: neither listings nor file systems are taken from a cache.
        settings = {"use_listings_cache": False, "skip_instance_cache": True, **options}
        try:
            self._fs, root = fsspec.core.url_to_fs(url, **settings)
        except (ImportError, ValueError, TypeError) as error:
            raise KafkaStorageError(
                f"cannot use {url}: {error}; check the URL and its options, and install the "
                "package it needs (for s3:// that is raykafka[s3])"
            ) from error
        self.url = url
        self._root = root.rstrip("/")

    def append(self, path: str, data: Buffer) -> int:
        """Always ``InvalidRequestError``: publish the sealed segment as a whole instead."""
        raise InvalidRequestError(f"{self.url} cannot append to {path}: publish whole files there")

    def truncate(self, path: str, size: int) -> None:
        """Always ``InvalidRequestError``: files here do not change."""
        raise InvalidRequestError(f"{self.url} cannot cut {path}: files there do not change")

    def flush(self, path: str) -> None:
        """Nothing to do: ``publish`` returns when the store has the file."""

    def publish(self, path: str, data: Buffer, *, durable: bool = True) -> None:
        """PUT the file; atomic on object stores, always durable."""
        full = self._full(path)
        with self._translated(f"could not write {full}"):
            self._fs.makedirs(full.rpartition("/")[0], exist_ok=True)
            self._fs.pipe_file(full, bytes(data))

    def read(self, path: str, start: int, length: int) -> memoryview:
        """One range request; see ``SegmentStore.read``."""
        full = self._full(path)
        if start < 0 or length < 0:
            raise too_short(full, start, length, self.size(path))
        if length == 0:
            return memoryview(b"")
        with self._translated(f"could not read {full}"):
            data = self._fs.cat_file(full, start=start, end=start + length)
        if len(data) != length:
            raise too_short(full, start, length, start + len(data))
        return memoryview(data)

    def size(self, path: str) -> int:
        """Bytes in the file; raises ``MissingFileError``."""
        full = self._full(path)
        with self._translated(f"could not look at {full}"):
            return int(self._fs.info(full)["size"])

    def list(self, prefix: str) -> list[str]:
        """Sorted paths below the root that start with ``prefix``."""
        directory = f"{self._root}/{prefix}".rpartition("/")[0]
        with self._translated(f"could not list {directory}"):
            found = self._fs.find(directory)
        paths = (self._fs._strip_protocol(path)[len(self._root) + 1 :] for path in found)
        return sorted(path for path in paths if path.startswith(prefix))

    def delete(self, path: str) -> None:
        """Remove the file; raises ``MissingFileError``."""
        full = self._full(path)
        with self._translated(f"could not delete {full}"):
            self._fs.info(full)  # object stores answer a DELETE of nothing with success
            self._fs.rm_file(full)

    def close(self) -> None:
        """Nothing to give back: connections belong to the file system."""

    def _full(self, path: str) -> str:
        return f"{self._root}/{checked_path(path)}"

    @contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise missing(f"{what}: it") from error
        except Exception as error:  # every file system has error classes of its own
            raise KafkaStorageError(
                f"{what}: {error}; check the store's address, its credentials and its state"
            ) from error
