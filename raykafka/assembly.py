"""Puts shells together with this machine's listener, store and clock.

The functions travel to Ray's processes by reference, so this module stays small and loads no
client.
"""

from __future__ import annotations

from raykafka.actors.broker import BrokerActor
from raykafka.actors.controller import LOCK_TIMEOUT_S, ControllerActor
from raykafka.actors.controlling.keeper import Patience
from raykafka.actors.environment import Environment
from raykafka.actors.partition import PartitionActor
from raykafka.actors.ports import (
    BrokerSpec,
    ControllerPort,
    ControllerSpec,
    PartitionActorSpec,
    SpawnerFactory,
)
from raykafka.clock import SystemClock
from raykafka.network.catch_up import connect_catch_up
from raykafka.network.mapped import host_id
from raykafka.network.peer import connect
from raykafka.network.server import TcpListener


def machine_environment() -> Environment:
    """This machine: its clock and files, and listeners on TCP."""
    return Environment(SystemClock(), TcpListener, connect, connect_catch_up, host_id=host_id())


def make_partition_actor(spec: PartitionActorSpec) -> PartitionActor:
    """A partition actor on local files that listens on TCP."""
    return PartitionActor(spec, machine_environment())


def make_broker(spec: BrokerSpec, controller: ControllerPort) -> BrokerActor:
    """A broker that sends its heartbeats to ``controller``."""
    return BrokerActor(spec, controller, machine_environment())


def make_controller(
    spec: ControllerSpec,
    spawner_factory: SpawnerFactory,
    *,
    lock_timeout_s: float = LOCK_TIMEOUT_S,
    node_id: str = "",
    patience: Patience | None = None,
) -> ControllerActor:
    """A controller that listens on TCP and creates its actors through the spawner.

    ``lock_timeout_s`` bounds the wait for another one to let go of the data directory; ``node_id``
    is where it runs.
    """
    return ControllerActor(
        spec,
        spawner_factory,
        machine_environment(),
        lock_timeout_s=lock_timeout_s,
        node_id=node_id,
        patience=patience,
    )
