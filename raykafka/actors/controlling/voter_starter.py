"""Brings the voters of a cluster back that was stopped as a whole.

Voter 0 is started by whoever starts the cluster. Without a majority it cannot lead, and without an
active controller nobody looks after the others: so it starts those that its log names, each where
its directory is.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from typing import Final

from raykafka.actors.controlling.keeper import ClusterContext
from raykafka.actors.ports import ControllerSpec, NodeInfo, controller_name
from raykafka.actors.timeouts import within
from raykafka.quorum.voters import Voter

logger = logging.getLogger(__name__)

_FIRST_PAUSE_S: Final = 0.1
_PAUSE_S: Final = 2.0


async def start_voters(spec: ControllerSpec, context: ClusterContext) -> None:
    """Find or create the other voters, until somebody leads."""
    machine = context.shell.node.machine
    await asyncio.sleep(_FIRST_PAUSE_S)  # those that live let hear of themselves
    while machine.leader_id < 0:
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
        if await within(finding, patience.find_s, f"search for {name}") is None:
            node = _home_of(voter, free)
            if node is not None:
                free.remove(node)
                wanted = voter_spec(spec, context, voter.id, node)
                creating = context.spawner.spawn_controller(wanted, node)
                port = await within(creating, patience.spawn_s, f"creating {name}")
                await within(port.start_voter(), patience.start_s, f"start of {name}")


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
