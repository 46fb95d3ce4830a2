"""Starts an actor's listener on the first port of ``listener.ports`` that is free."""

from __future__ import annotations

from collections.abc import Mapping

from raykafka.actors.ports import (
    Handler,
    Listener,
    ListenerFactory,
    ListenerLimits,
    ListenerSpec,
    PartitionActorSpec,
)
from raykafka.config import BrokerConfig
from raykafka.errors import NetworkError
from raykafka.model import Endpoint
from raykafka.protocol.messages import ApiKey


async def listen(
    factory: ListenerFactory,
    spec: PartitionActorSpec,
    config: BrokerConfig,
    handlers: Mapping[ApiKey, Handler],
) -> tuple[Listener, Endpoint]:
    """A started listener on the node's address, or on ``listener.host`` where that is set.

    Raises ``NetworkError`` when no port of the range is free.
    """
    limits = ListenerLimits(
        config.socket_request_max_bytes, config.max_connections, config.queued_max_bytes
    )
    first, last = config.listener_port_range
    problem: NetworkError | None = None
    for port in range(first, last + 1):
        listener = factory(
            ListenerSpec(
                host=config.listener_host or spec.node.host,
                port=port,
                cluster_id=spec.cluster_id,
                node=spec.name,
                incarnation=spec.incarnation,
                secret=spec.secret,
                limits=limits,
            ),
            handlers,
        )
        try:
            return listener, await listener.start()
        except NetworkError as error:
            problem = error
    raise NetworkError(f"no port of listener.ports={config.listener_ports} is free: {problem}")
