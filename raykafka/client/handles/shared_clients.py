"""Clients that all handles of a process share, because connections and threads are not free."""

from __future__ import annotations

import atexit
import os
import threading

from raykafka.client.cluster.bootstrap import Bootstrap
from raykafka.client.cluster.metadata import ClusterMetadata
from raykafka.client.producer import Producer

_LAST_WORDS_S = 5.0
"""How long a process that ends waits for appends that other threads have begun."""


class SharedClients:
    """One producer and one metadata cache per cluster, made when first used. Thread-safe.

    A forked process starts with none: sockets and threads do not survive a fork.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._producers: dict[tuple[int, Bootstrap], Producer] = {}
        self._metadata: dict[tuple[int, Bootstrap], ClusterMetadata] = {}

    def producer(self, bootstrap: Bootstrap) -> Producer:
        """The process's producer for that cluster."""
        key = (os.getpid(), bootstrap)
        with self._lock:
            found = self._producers.get(key)
            if found is None:
                found = self._producers[key] = Producer(bootstrap, client_id="topic-handle")
            return found

    def metadata(self, bootstrap: Bootstrap) -> ClusterMetadata:
        """The process's view of that cluster."""
        key = (os.getpid(), bootstrap)
        with self._lock:
            found = self._metadata.get(key)
            if found is None:
                found = ClusterMetadata(bootstrap, client_id="topic-handle")
                self._metadata[key] = found
            return found

    def forget(self, bootstrap: Bootstrap) -> None:
        """Close the clients of a cluster that is gone; the next use makes new ones.

        What an append still waits for fails with ``ClientClosedError``.
        """
        self._close({(os.getpid(), bootstrap)}, timeout_s=0)

    def close(self) -> None:
        """Close every client that this process has made."""
        with self._lock:
            keys = {*self._producers, *self._metadata}
        self._close({key for key in keys if key[0] == os.getpid()}, timeout_s=_LAST_WORDS_S)

    def _close(self, keys: set[tuple[int, Bootstrap]], timeout_s: float) -> None:
        with self._lock:
            producers = [self._producers.pop(key) for key in keys if key in self._producers]
            metadata = [self._metadata.pop(key) for key in keys if key in self._metadata]
        for producer in producers:
            producer.close(timeout_s)
        for cache in metadata:
            cache.close()


shared_clients = SharedClients()
"""The process's own."""
atexit.register(shared_clients.close)
