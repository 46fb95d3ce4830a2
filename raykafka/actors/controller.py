"""``ControllerActor``: the shell around the cluster-metadata machine."""

from __future__ import annotations

from raykafka.actors.ports import (
    ClusterAccess,
    ControllerSpec,
    ListenerFactory,
    SpawnerFactory,
)
from raykafka.clock import Clock


class ControllerActor:
    """Keeps the cluster's metadata, and the cluster's actors running.

    The constructor does nothing but remember; ``start`` does the work and may be called again.
    """

    def __init__(
        self,
        spec: ControllerSpec,
        spawner_factory: SpawnerFactory,
        listener_factory: ListenerFactory,
        clock: Clock,
    ) -> None:
        self.spec = spec
        self._spawner_factory = spawner_factory
        self._listener_factory = listener_factory
        self._clock = clock

    # Still to come in this file, with these signatures:
    #   async start() -> ClusterAccess      idempotent; LogDirLockedError while another controller lives
    #   async bootstrap() -> ClusterAccess  starts if need be
    #   async stop() -> None                clean shutdown of the whole cluster
    #   async heartbeat(broker_id, incarnation, usable_bytes) -> bool
    #   async wait_failed() -> None         returns when the metadata log cannot be trusted any more: exit then
