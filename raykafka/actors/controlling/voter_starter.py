"""Brings voters back where nobody is active who would: after a stop, or when a majority is gone.

Voter 0 is started by whoever starts the cluster. Without a majority it cannot lead, and without an
active controller nobody looks after the others: so it starts those that its log names, each where
its directory is. The same does any voter that is left when the machines of the others have been
started anew.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable
from typing import Final

from raykafka.actors.controlling.keeper import ClusterContext
from raykafka.actors.ports import ControllerSpec, NodeInfo, controller_name
from raykafka.actors.timeouts import within
from raykafka.quorum.machine import QuorumMachine
from raykafka.quorum.voters import Voter

logger = logging.getLogger(__name__)

_FIRST_PAUSE_S: Final = 0.1
_PAUSE_S: Final = 2.0
_LATER_S: Final = 3.0
"""How long a voter other than 0 waits first: who started the cluster goes before."""


async def start_voters(
    spec: ControllerSpec, machine: QuorumMachine, make_context: Callable[[], ClusterContext]
) -> None:
    """Find or create the other voters whenever nobody leads, without end."""
    context: ClusterContext | None = None
    await asyncio.sleep(_FIRST_PAUSE_S)  # those that live let hear of themselves
    while True:
        if machine.leader_id < 0 and spec.voter_id:
            await asyncio.sleep(_LATER_S)
        if machine.leader_id < 0:
            context = context or make_context()
            try:
                await _start_all(spec, context, list(machine.voters.voters))
            except Exception as error:  # noqa: BLE001  # the next attempt may succeed
                logger.warning("the other voters could not be started: %r", error)
        await asyncio.sleep(_PAUSE_S)


async def _start_all(spec: ControllerSpec, context: ClusterContext, voters: list[Voter]) -> None:
    loop, patience = asyncio.get_running_loop(), context.patience
    asking = loop.run_in_executor(None, context.spawner.nodes)
    nodes = await within(asking, patience.find_s, "listing the nodes")
    free = [node for node in nodes if node.node_id != context.node_id]
    for voter in voters:
        if voter.id == spec.voter_id:
            continue
        name = controller_name(context.cluster_name, voter.id)
        finding = context.spawner.find_controller(name)
        port = await within(finding, patience.find_s, f"search for {name}")
        if port is None:
            node = _home_of(voter, free)
            if node is None:
                continue
            free.remove(node)
            wanted = voter_spec(spec, context, voter.id, node)
            creating = context.spawner.spawn_controller(wanted, node)
            port = await within(creating, patience.spawn_s, f"creating {name}")
        started = await within(port.start_voter(), patience.start_s, f"start of {name}")
        # One that died before it had heard of its own admission listens anywhere.
        context.shell.node.links.learn(voter.id, started.endpoint)


def _home_of(voter: Voter, nodes: list[NodeInfo]) -> NodeInfo | None:
    """The node that has the voter's directory: after a restart only its address is the same."""
    return next((node for node in nodes if node.host == voter.host), None)


def voter_spec(
    spec: ControllerSpec, context: ClusterContext, voter_id: int, node: NodeInfo
) -> ControllerSpec:
    """What another voter is started with on a node."""
    return dataclasses.replace(
        spec,
        name=controller_name(context.cluster_name, voter_id),
        host=node.host,
        port=0,
        voter_id=voter_id,
        may_found=False,
        cluster_id=context.cluster_id,
        secret=context.secret,
    )
