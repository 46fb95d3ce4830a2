"""How a voter takes its place in the quorum, and where it listens."""

from __future__ import annotations

import random
from collections.abc import Callable

from raykafka.actors.controlling.controller_home import ControllerHome
from raykafka.actors.environment import Environment
from raykafka.actors.ports import ControllerSpec, Listener, ListenerLimits, ListenerSpec
from raykafka.actors.quorum.options import QuorumOptions
from raykafka.config import BrokerConfig
from raykafka.errors import NetworkError
from raykafka.model import Endpoint
from raykafka.quorum.leading import Timing
from raykafka.quorum.machine import QuorumMachine


def quorum_options(
    spec: ControllerSpec, config: BrokerConfig, secret: bytes, environment: Environment
) -> QuorumOptions:
    """The quorum as the settings want it, with this process's connections and chance."""
    random_bytes = environment.random_bytes
    fetch_ms = config.controller_quorum_fetch_timeout_ms
    return QuorumOptions(
        replica_id=spec.voter_id,
        may_found=spec.may_found,
        secret=secret,
        connector=environment.connector,
        timing=Timing(
            election_timeout_ms=config.controller_quorum_election_timeout_ms,
            fetch_timeout_ms=fetch_ms,
            heartbeat_ms=max(1, fetch_ms // 5),
            lost_leader_ms=max(1, fetch_ms // 10),
        ),
        jitter=random.Random(random_bytes(8)).random,
        new_directory_id=lambda: random_bytes(16).hex(),
    )


def listener_plan(
    spec: ControllerSpec, config: BrokerConfig, home: ControllerHome, machine: QuorumMachine
) -> list[ListenerSpec]:
    """The places where a voter may listen, the last life's first: so it is found where it was."""
    known = machine.voters.find(machine.local.id)
    limits = ListenerLimits(
        config.socket_request_max_bytes, config.max_connections, config.queued_max_bytes
    )
    return [
        ListenerSpec(
            host=config.listener_host or spec.host,
            port=port,
            cluster_id=home.cluster_id,
            node=spec.name,
            incarnation=machine.epoch + 1,
            secret=home.secret,
            limits=limits,
        )
        for port in _ports(spec, config, 0 if known is None else known.port)
    ]


async def listen(
    make: Callable[[ListenerSpec], Listener], plan: list[ListenerSpec]
) -> tuple[Listener, Endpoint]:
    """The first listener that can be started; raises ``NetworkError`` when none can."""
    problem: NetworkError | None = None
    for spec in plan:
        listener = make(spec)
        try:
            return listener, await listener.start()
        except NetworkError as error:
            problem = error
    raise NetworkError(f"the controller found no free port on {plan[0].host}: {problem}")


def _ports(spec: ControllerSpec, config: BrokerConfig, before: int) -> list[int]:
    if spec.port:
        return [spec.port]
    first, last = config.listener_port_range
    wanted = list(range(first, last + 1))
    if before and (first == 0 or before in wanted):
        return [before, *(port for port in wanted if port != before)]
    return wanted
