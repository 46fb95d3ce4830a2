"""Sees to it that there are as many voters as there shall be, each on a node of its own.

Rules:
- The number of voters is odd: one more would have to be waited for, and none more could be lost.
- A voter whose directory is another one than the quorum knows has lost its disk: it is voted out,
  filled from the others, and voted in again (KIP-853).
- A voter whose node has been gone for a while is made anew on another node, if there is one.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from raykafka.actors.controlling.keeper import ClusterContext
from raykafka.actors.controlling.voter_starter import voter_spec
from raykafka.actors.ports import ControllerSpec, NodeInfo, controller_name
from raykafka.actors.timeouts import cancel_all, within
from raykafka.actors.voters import VoterPort, VoterStarted
from raykafka.errors import RaykafkaError, ReassignmentInProgressError
from raykafka.quorum.voters import Voter, VoterSet

logger = logging.getLogger(__name__)

_GROW_AFTER_MS: Final = 500
"""How long the nodes must stay as they are before voters are added."""


class VoterKeeper:
    """Looks after the other voters while this one is active."""

    def __init__(self, spec: ControllerSpec, context: ClusterContext) -> None:
        self._spec = spec
        self._context = context
        self._node = context.shell.node
        self._ports: dict[int, VoterPort] = {}
        self._places: dict[int, str] = {}
        """Node on which each of the others is, or was made and has not said so yet."""
        self._missing_ms: dict[int, int] = {}
        self._nodes: list[NodeInfo] = []
        self._stable_ms = 0
        self._task: asyncio.Task[None] | None = None
        self.started: dict[int, VoterStarted] = {}
        """What the other voters said of themselves last."""

    def start(self) -> None:
        """Begin to look after the voters."""
        self._task = asyncio.ensure_future(self._run())

    async def halt(self) -> None:
        """Look after them no more; they live on."""
        if self._task is not None:
            await cancel_all({self._task})

    async def stop_voters(self) -> None:
        """Let the other voters end cleanly; never raises."""
        ids = {voter.id for voter in self._node.machine.voters.voters} | set(self._ports)
        await asyncio.gather(*(self._stop(id_) for id_ in sorted(ids - {self._spec.voter_id})))

    # --- looking ----------------------------------------------------------------------------------

    async def _run(self) -> None:
        patience = self._context.patience
        while True:
            try:
                await self._look()
            except ReassignmentInProgressError as error:
                logger.debug("voters: %s", error)
            except Exception as error:  # noqa: BLE001  # the next look may succeed
                logger.warning("could not look after the voters: %r", error)
            await asyncio.sleep(patience.check_s)

    async def _look(self) -> None:
        config = self._context.settings.broker(self._context.image)
        if config.controller_quorum_voters == 1 and self._is_alone():
            return
        await self._follow_nodes()
        voters = self._node.machine.voters
        for voter in voters.voters:
            if voter.id != self._spec.voter_id:
                started = await self._started(voter.id)
                if started is not None:
                    self._admit(voter.id, started)
        await self._grow(voters, self._wanted(config.controller_quorum_voters))

    def _is_alone(self) -> bool:
        return len(self._node.machine.voters.voters) == 1

    async def _follow_nodes(self) -> None:
        loop = asyncio.get_running_loop()
        asking = loop.run_in_executor(None, self._context.spawner.nodes)
        nodes = await within(asking, self._context.patience.find_s, "listing the nodes")
        if {node.node_id for node in nodes} != {node.node_id for node in self._nodes}:
            self._stable_ms = self._context.clock.monotonic_ms()
        self._nodes = nodes

    def _wanted(self, most: int) -> int:
        """How many voters there shall be on the nodes that there are."""
        present = len(self._node.machine.voters.voters)
        if self._context.clock.monotonic_ms() - self._stable_ms < _GROW_AFTER_MS:
            return present
        odd = (len(self._nodes) + 1) // 2 * 2 - 1
        return max(present, min(most, odd))

    async def _grow(self, voters: VoterSet, wanted: int) -> None:
        """Add voters when all those have started that make their number odd."""
        present = len(voters.voters)
        absent = [
            voter_id
            for voter_id in range(wanted)
            if voters.find(voter_id) is None and voter_id != self._spec.voter_id
        ][: max(wanted - present, 0)]
        found = [(voter_id, await self._started(voter_id)) for voter_id in absent]
        ready = [(voter_id, started) for voter_id, started in found if started is not None]
        is_even = (present + len(ready)) % 2 == 0
        for voter_id, started in ready[: len(ready) - is_even]:
            self._admit(voter_id, started)

    def _admit(self, voter_id: int, started: VoterStarted) -> None:
        """It votes with the disk that the quorum knows, and is where it says."""
        self._missing_ms.pop(voter_id, None)
        present = self._node.machine.voters.find(voter_id)
        voter = Voter(voter_id, started.directory_id, *started.endpoint)
        if present is not None and present.key != voter.key:
            logger.warning("controller %d has lost its disk and is filled again", voter_id)
            self._node.remove_voter(present.key)
        elif present != voter:
            self._node.add_voter(voter)

    async def _started(self, voter_id: int) -> VoterStarted | None:
        patience = self._context.patience
        port = self._ports.get(voter_id)
        if port is None:
            port = await self._find_or_create(voter_id)
            if port is None:
                return None
            self._ports[voter_id] = port
        try:
            asking = port.start_voter()
            started = await within(asking, patience.find_s, f"controller {voter_id}'s answer")
        except RaykafkaError as error:
            logger.info("controller %d does not answer: %s", voter_id, error)
            del self._ports[voter_id]
            self.started.pop(voter_id, None)
            return None
        self.started[voter_id] = started
        self._places[voter_id] = started.node_id
        return started

    async def _find_or_create(self, voter_id: int) -> VoterPort | None:
        context = self._context
        name = controller_name(context.cluster_name, voter_id)
        finding = context.spawner.find_controller(name)
        port = await within(finding, context.patience.find_s, f"search for {name}")
        if port is not None:
            return port
        node = self._free_node(voter_id)
        known = self._node.machine.voters.find(voter_id) is not None
        if node is None or (known and not self._is_overdue(voter_id)):
            return None
        spec = voter_spec(self._spec, context, voter_id, node)
        logger.info("controller %d is made on node %s", voter_id, node.node_id)
        self._places[voter_id] = node.node_id
        creating = context.spawner.spawn_controller(spec, node)
        return await within(creating, context.patience.spawn_s, f"creating {name}")

    def _is_overdue(self, voter_id: int) -> bool:
        now_ms = self._context.clock.monotonic_ms()
        since_ms = self._missing_ms.setdefault(voter_id, now_ms)
        return now_ms - since_ms >= self._context.patience.replace_voter_ms

    def _free_node(self, voter_id: int) -> NodeInfo | None:
        """A node without voter; None also while it is not known where one of the others is.

        Two on one node would be lost with it, and with them the majority.
        """
        present = {voter.id for voter in self._node.machine.voters.voters}
        others = (present | set(self._places)) - {voter_id, self._spec.voter_id}
        if not others <= set(self._places):
            return None
        taken = {self._places[other] for other in others} | {self._context.node_id}
        return next((node for node in self._nodes if node.node_id not in taken), None)

    async def _stop(self, voter_id: int) -> None:
        patience = self._context.patience
        name = controller_name(self._context.cluster_name, voter_id)
        port = self._ports.pop(voter_id, None)
        try:
            if port is None:
                finding = self._context.spawner.find_controller(name)
                port = await within(finding, patience.find_s, f"search for {name}")
            if port is not None:
                await within(port.leave(), patience.stop_s, f"end of {name}")
                port.kill()
                await within(port.wait_dead(), patience.dead_s, f"end of {name}")
        except Exception as error:  # noqa: BLE001  # it is killed, and recovers at its start
            logger.warning("%s was not stopped cleanly: %s", name, error)
            if port is not None:
                port.kill()
