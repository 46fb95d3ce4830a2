"""Operators at work in a simulation: copies and leaders move, brokers are restarted (row 24)."""

from __future__ import annotations

import contextlib
from random import Random
from typing import Final

from raykafka.errors import RaykafkaError
from raykafka.protocol.messages import ApiKey, Message
from raykafka.protocol.operations_messages import (
    AlterPartitionReassignmentsRequest,
    ElectLeadersRequest,
    PartitionReassignment,
    RestartBrokerRequest,
)
from raykafka.testing.simulation.cluster import TOPIC, SimulatedCluster
from raykafka.testing.simulation.faults import Fault, Undo
from raykafka.testing.simulation.link import Link


def _nothing() -> None:
    """What was asked for is under way, or was refused."""


def _ask(cluster: SimulatedCluster, api_key: ApiKey, request: Message) -> None:
    """One request of an operator to whoever is the controller; whatever it answers."""
    process = cluster.plane.process(cluster.client_hosts[0], "operator")
    link = Link(cluster.network, process, cluster.bootstrap, TOPIC)

    async def ask() -> None:
        with contextlib.suppress(RaykafkaError):  # refused, or nobody is there
            await link.ask_controller(api_key, request)

    process.start(ask)


def move_copies(cluster: SimulatedCluster, random: Random) -> Undo | None:
    """A partition moves to other machines, or its copies change their order."""
    shape = cluster.shape
    copies = random.sample(range(shape.hosts), shape.replication_factor)
    partition = random.randrange(shape.partitions)
    move = PartitionReassignment(TOPIC, partition, copies)
    _ask(
        cluster,
        ApiKey.ALTER_PARTITION_REASSIGNMENTS,
        AlterPartitionReassignmentsRequest([move]),
    )
    return _nothing


def move_copies_and_back(cluster: SimulatedCluster, random: Random) -> Undo | None:
    """A move begins and is cancelled."""
    move_copies(cluster, random)

    def cancel() -> None:
        moves = [PartitionReassignment(TOPIC, p, None) for p in range(cluster.shape.partitions)]
        _ask(
            cluster,
            ApiKey.ALTER_PARTITION_REASSIGNMENTS,
            AlterPartitionReassignmentsRequest(moves),
        )

    return cancel


def elect_preferred(cluster: SimulatedCluster, random: Random) -> Undo | None:
    """Leaders go back to where they are preferred."""
    _ask(cluster, ApiKey.ELECT_LEADERS, ElectLeadersRequest())
    return _nothing


def restart_broker(cluster: SimulatedCluster, random: Random) -> Undo | None:
    """A broker hands over, stops and is started again."""
    broker_id = random.randrange(cluster.shape.hosts)
    force = random.random() < 0.3
    _ask(cluster, ApiKey.RESTART_BROKER, RestartBrokerRequest(broker_id, force))
    return _nothing


OPERATIONS: Final = (
    Fault("move copies", move_copies),
    Fault("move copies and back", move_copies_and_back, 0.5),
    Fault("elect preferred leaders", elect_preferred),
    Fault("restart broker", restart_broker),
)
