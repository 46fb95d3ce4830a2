"""Finds a cluster of this machine by the file that its controller keeps up to date."""

from __future__ import annotations

from dataclasses import dataclass

from raykafka.actors.endpoint_file import read_endpoint_file
from raykafka.client.cluster.bootstrap import BootstrapInfo


@dataclass(frozen=True, slots=True)
class FileBootstrap:
    """A ``Bootstrap`` that reads the file anew each time: the controller may have moved."""

    path: str

    def __call__(self) -> BootstrapInfo:
        """Raises ``ClusterUnreachableError`` when the file is missing or not whole."""
        access = read_endpoint_file(self.path)
        return BootstrapInfo(
            access.cluster_id,
            access.cluster_name,
            access.controller,
            access.secret,
            access.controllers,
        )
