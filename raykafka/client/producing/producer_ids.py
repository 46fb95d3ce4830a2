"""The producer's identity for idempotence: asked of the controller, renewed when it is burnt."""

from __future__ import annotations

import threading
from collections.abc import Callable

from raykafka.client.cluster.metadata import ClusterMetadata
from raykafka.client.producing.partition_queue import Identity
from raykafka.errors import RaykafkaError
from raykafka.model import NO_PRODUCER_EPOCH, NO_PRODUCER_ID
from raykafka.protocol.messages import ApiKey, InitProducerIdRequest, InitProducerIdResponse

_NONE = Identity(NO_PRODUCER_ID, NO_PRODUCER_EPOCH)
_ATTEMPT_MS = 10_000


class ProducerIds:
    """One producer id with its epoch. Thread-safe."""

    def __init__(
        self, metadata: ClusterMetadata, *, enabled: bool, on_change: Callable[[], None]
    ) -> None:
        """``on_change`` is called, from another thread, when a renewal has come through."""
        self._metadata = metadata
        self._enabled = enabled
        self._on_change = on_change
        self._lock = threading.Lock()
        self._renewal: threading.Thread | None = None
        self.current = _NONE
        """What new batches are numbered under; -1, -1 without idempotence."""

    def ensure(self, timeout_ms: float) -> None:
        """Have an identity; asks the controller the first time, for up to ``timeout_ms``."""
        if not self._enabled or self.current.numbered:
            return
        with self._lock:
            if not self.current.numbered:
                self.current = self._ask(_NONE, timeout_ms)

    def renew(self, burnt: Identity) -> None:
        """Get a new epoch in the background, unless ``burnt`` is not the current identity."""
        with self._lock:
            if self.current != burnt or self._renewal is not None or self._metadata.closed:
                return
            self._renewal = threading.Thread(
                target=self._renew, args=(burnt,), name="raykafka-producer-id", daemon=True
            )
            self._renewal.start()

    def _renew(self, burnt: Identity) -> None:
        identity = burnt
        try:
            identity = self._ask(burnt, _ATTEMPT_MS)
        except RaykafkaError as error:
            if not error.retriable and not self._metadata.closed:
                identity = self._fresh(burnt)
        with self._lock:
            self.current = identity
            self._renewal = None
        # Also after a failure: the sender finds the identity unchanged and asks again.
        self._on_change()

    def _fresh(self, burnt: Identity) -> Identity:
        """The controller does not know our id any more: a new one does as well."""
        try:
            return self._ask(_NONE, _ATTEMPT_MS)
        except RaykafkaError:
            return burnt

    def _ask(self, known: Identity, timeout_ms: float) -> Identity:
        response: InitProducerIdResponse = self._metadata.call(
            ApiKey.INIT_PRODUCER_ID,
            InitProducerIdRequest(known.producer_id, known.epoch),
            timeout_ms=timeout_ms,
        )
        return Identity(response.producer_id, response.producer_epoch)
