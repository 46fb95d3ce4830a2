"""A voter that takes connections and says nothing, as one does whose process is stopped."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from scripted_cluster import SECRET, ScriptedCluster, _spec

from raykafka.actors.ports import Reply
from raykafka.client.cluster.bootstrap import BootstrapInfo, StaticBootstrap
from raykafka.client.cluster.metadata import ClusterMetadata
from raykafka.clock import SystemClock
from raykafka.errors import ClusterUnreachableError, RetriableError
from raykafka.model import Endpoint
from raykafka.network.server import TcpListener
from raykafka.protocol.messages import ApiKey


class Silent:
    """A listener beside those of a scripted cluster that answers no request for metadata."""

    def __init__(self, cluster: ScriptedCluster) -> None:
        self.asked = threading.Event()
        self._listener = TcpListener(_spec("paused"), {ApiKey.METADATA: self._on_metadata})
        self._cluster = cluster
        self.endpoint: Endpoint = cluster.run(self._listener.start)

    def _on_metadata(self, request: Any, payload: Any, reply: Reply) -> None:
        self.asked.set()

    def close(self) -> None:
        self._cluster.run(self._listener.close)


@pytest.mark.parametrize("alone", [False, True])
def test_another_voter_is_asked_soon(alone: bool) -> None:
    with ScriptedCluster() as cluster:
        cluster.create("t")
        silent = Silent(cluster)
        answering = cluster.bootstrap().controller
        voters = () if alone else (silent.endpoint, answering)
        info = BootstrapInfo("c1", "scripted", silent.endpoint, SECRET, voters)
        metadata = ClusterMetadata(
            StaticBootstrap(info), client_id="c", clock=SystemClock(), request_timeout_ms=30_000
        )
        try:
            start = time.monotonic()
            if alone:
                with pytest.raises((ClusterUnreachableError, RetriableError)):
                    metadata.topic("t", timeout_ms=1500)
            else:
                assert len(metadata.topic("t", timeout_ms=20_000).partitions) == 1
                assert time.monotonic() - start < 10
            assert silent.asked.is_set()
        finally:
            metadata.close()
            silent.close()
