"""What should run against what runs: one broker per node, one partition actor per slot.

Deaths are seen by the keepers at once; the loop here follows the nodes and is the safety net.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import Any

from raykafka.actors.controlling.broker_keeper import BrokerKeeper, pool_size
from raykafka.actors.controlling.keeper import ClusterContext, Keeper
from raykafka.actors.controlling.leader_balance import balance_leaders
from raykafka.actors.controlling.newcomers import Newcomers
from raykafka.actors.controlling.phantoms import Phantoms
from raykafka.actors.controlling.session import Session
from raykafka.actors.controlling.slot_keeper import SlotKeeper
from raykafka.actors.ports import NodeInfo
from raykafka.actors.timeouts import cancel_all, within
from raykafka.controller.brokers import match_broker
from raykafka.controller.commands import (
    FenceBroker,
    LosePartitionActor,
    RegisterBroker,
    ShutDownBroker,
    UnregisterBroker,
)
from raykafka.controller.image import BrokerState, SlotKey
from raykafka.controller.leaders import registered
from raykafka.errors import (
    BrokerNotAvailableError,
    InvalidRequestError,
    NotControllerError,
    RaykafkaError,
    RequestTimedOutError,
)
from raykafka.model import PartitionId, TopicId

logger = logging.getLogger(__name__)


class Reconciler:
    """All keepers of a cluster."""

    def __init__(self, context: ClusterContext) -> None:
        self._context = context
        self._brokers: dict[int, BrokerKeeper] = {}
        self._slots: dict[SlotKey, SlotKeeper] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._newcomers = Newcomers()
        self._phantoms = Phantoms()
        self._progress = asyncio.Event()
        self._heard: set[tuple[SlotKey, int]] = set()
        """Partition actors that have asked for their leases since this controller is active."""
        self._seen: Mapping[str, NodeInfo] = {}
        """The nodes at the last look."""
        self._stopping: set[int] = set()
        """Brokers that are being stopped on demand: nothing is started for them."""
        context.shell.on_change(self.on_change)

    def start(self) -> None:
        """Begin to look after the cluster."""
        self._tasks.append(asyncio.ensure_future(self._follow_nodes()))
        self._tasks.append(asyncio.ensure_future(balance_leaders(self._context)))
        self._tasks.append(asyncio.ensure_future(self._judge_silent()))

    async def halt(self) -> None:
        """Look after nothing any more; the actors live on."""
        while self._tasks:  # a keeper may begin another one before it ends
            tasks, self._tasks = self._tasks, []
            await cancel_all(tasks)

    async def stop_actors(self) -> None:
        """End every actor cleanly: partition actors first, then the brokers."""
        await self.halt()
        await _stop_all(self._slots.values())
        await _stop_all(self._brokers.values())

    async def restart_broker(self, broker_id: int, *, force: bool) -> None:
        """Let a broker hand over, stop it cleanly and begin to start it; returns when it stopped.

        Raises ``BrokerIdNotRegisteredError``, ``BrokerNotAvailableError`` when it does not run or
        is being stopped already, and ``NotEnoughReplicasError`` (see ``ShutDownBroker``).
        """
        keeper = self._brokers.get(broker_id)
        registered(self._context.image, broker_id)
        if keeper is None or keeper.node is None or broker_id in self._stopping:
            raise BrokerNotAvailableError(
                f"broker {broker_id} does not run, or is stopping already; see `raykafka broker"
                " list`"
            )
        node = keeper.node
        await self._context.shell.submit(ShutDownBroker(broker_id, force))
        await self._wait_handed_over(broker_id)
        self._stopping.add(broker_id)
        try:
            await self._stop_broker(broker_id)
        finally:
            self._stopping.discard(broker_id)
            if node.node_id in self._seen:  # else it comes back on another, or later
                keeper.place(node)

    async def retire_broker(self, broker_id: int) -> None:
        """Stop a broker that holds no replicas, and never start one on its node again.

        Raises ``BrokerIdNotRegisteredError``, ``InvalidRequestError`` while it holds replicas.
        """
        held = self._context.image.replica_count(broker_id)
        registered(self._context.image, broker_id)
        if held:
            raise InvalidRequestError(f"broker {broker_id} holds {held} replicas; drain it first")
        self._stopping.add(broker_id)
        try:
            await self._stop_broker(broker_id)
            await self._context.shell.submit(UnregisterBroker(broker_id))
            self._brokers.pop(broker_id, None)
            for slot in [slot for slot in self._slots if slot.broker_id == broker_id]:
                del self._slots[slot]
        finally:
            self._stopping.discard(broker_id)

    async def _wait_handed_over(self, broker_id: int) -> None:
        """Return when the broker's actors know that others lead, or after a bounded time."""
        slots = [keeper for slot, keeper in self._slots.items() if slot.broker_id == broker_id]
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._context.patience.stop_s
        while not all(keeper.planner.has_handed_over(self._context.image) for keeper in slots):
            self._progress.clear()
            try:
                await within(self._progress.wait(), deadline - loop.time(), "the hand-over")
            except RequestTimedOutError:
                return

    async def _stop_broker(self, broker_id: int) -> None:
        """Partition actors first, each closing its logs, then the broker."""
        slots = [keeper for slot, keeper in self._slots.items() if slot.broker_id == broker_id]
        for slot_keeper in slots:
            slot_keeper.place(None)
        await _stop_all(slots)
        keeper = self._brokers.get(broker_id)
        if keeper is not None:
            keeper.place(None)
            await _stop_all([keeper])

    def replicas_failed(self, slot: SlotKey, partitions: Iterable[PartitionId]) -> None:
        """The actor in ``slot`` has given replicas up; they are opened again after a while."""
        keeper = self._slots.get(slot)
        if keeper is not None:
            keeper.planner.on_failed(partitions, self._context.clock.monotonic_ms())
            keeper.wake()

    def usable_bytes(self, broker_id: int) -> int:
        """Free disk beyond the reserve, as the broker reported last; -1 before."""
        keeper = self._brokers.get(broker_id)
        return -1 if keeper is None else keeper.usable_bytes

    def renew_lease(self, broker_id: int, incarnation: int, usable_bytes: int) -> bool:
        """Pass a heartbeat on; False when that broker is not the one that should run.

        Raises ``NotControllerError`` where this controller knows older ones only: it was asleep.
        """
        known = self._context.image.brokers.get(broker_id)
        if known is not None and known.incarnation < incarnation:
            raise NotControllerError(f"broker {broker_id} is newer than what is known of it here")
        keeper = self._brokers.get(broker_id)
        if keeper is not None:
            return keeper.renew(incarnation, usable_bytes)
        # A controller that has just come back has not looked at the nodes yet.
        broker = self._context.image.brokers.get(broker_id)
        return broker is not None and broker.incarnation == incarnation

    def renew_actor(self, slot: SlotKey, incarnation: int) -> bool:
        """Renew a partition actor's lease; False when it is not the one that should run.

        Raises as ``renew_lease`` does.
        """
        known = self._context.image.actors.get(slot)
        if known is not None and known.incarnation < incarnation:
            raise NotControllerError(f"the actor of {slot} is newer than what is known of it here")
        self._heard.add((slot, incarnation))
        keeper = self._slots.get(slot)
        if keeper is not None:
            return keeper.renew(incarnation)
        # As above: its broker has not been looked at yet.
        actor = self._context.image.actors.get(slot)
        return actor is not None and actor.incarnation == incarnation

    def counts_on(self, slot: SlotKey, incarnation: int) -> bool:
        """Whether a partition actor that was not replaced may serve."""
        keeper = self._slots.get(slot)
        if keeper is not None:
            return keeper.counts_on(incarnation)
        return self._context.image.actor_runs(slot)

    def failure(self, slot: SlotKey, partition: PartitionId) -> RaykafkaError | None:
        """Why the actor in ``slot`` could not open the partition, or None."""
        keeper = self._slots.get(slot)
        return None if keeper is None else keeper.planner.failures.get(partition)

    def is_starting(self, slot: SlotKey) -> bool:
        """Whether an actor for the slot is on its way."""
        keeper = self._slots.get(slot)
        return keeper is not None and keeper.node is not None

    def is_broker_starting(self, broker_id: int) -> bool:
        """Whether a broker is on its way."""
        keeper = self._brokers.get(broker_id)
        return keeper is not None and keeper.node is not None

    async def wait_settled(self, topic_ids: Iterable[TopicId], timeout_s: float) -> bool:
        """Wait until the running actors know the topics' newest settings; False after the time."""
        wanted = list(topic_ids)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while not self._is_settled(wanted):
            self._progress.clear()
            try:
                await within(self._progress.wait(), deadline - loop.time(), "the change")
            except RequestTimedOutError:
                return self._is_settled(wanted)
        return True

    def _is_settled(self, topic_ids: list[TopicId]) -> bool:
        topics = self._context.image.topics
        return all(
            keeper.is_settled(topics[topic_id])
            for topic_id in topic_ids
            if topic_id in topics
            for keeper in self._slots.values()
        )

    async def _judge_silent(self) -> None:
        """Partition actors that a former controller left, and that do not find this one.

        Their leases are over, so others may lead: to look for their processes may take long where
        their node has died together with that controller. Leases count from when a majority obeyed
        who granted them; whoever lives has half a session to find this controller.
        """
        image, context = self._context.image, self._context
        session = Session(context.clock)
        session_ms = context.settings.broker(image).broker_session_timeout_ms
        fair_ms = context.clock.monotonic_ms() - session_ms // 2
        session.begin(max(fair_ms, context.shell.node.predecessor_obeyed_ms()))
        await session.wait_silent(session_ms, self._context.patience.check_s)
        for slot, actor in self._context.image.actors.items():
            keeper = self._slots.get(slot)
            is_adopted = keeper is not None and keeper.port is not None
            if actor.alive and not is_adopted and (slot, actor.incarnation) not in self._heard:
                logger.warning("the actor of %s has not been heard of", slot)
                await self._context.shell.submit(LosePartitionActor(*slot, actor.incarnation))

    # --- nodes ------------------------------------------------------------------------------------

    async def _follow_nodes(self) -> None:
        while True:
            try:
                self._seen = nodes = await self._nodes()
                await self._place(nodes)
                await self._retire_absent(nodes)
                for phantom in self._phantoms.find(
                    self._context.image, nodes, self._context.clock.monotonic_ms()
                ):
                    await self.retire_broker(phantom)
            except Exception as error:  # noqa: BLE001  # the next look may succeed
                logger.warning("could not look after the nodes: %r", error)
            await asyncio.sleep(self._context.patience.check_s)

    async def _nodes(self) -> dict[str, NodeInfo]:
        asking = asyncio.get_running_loop().run_in_executor(None, self._context.spawner.nodes)
        nodes = await within(asking, self._context.patience.find_s, "listing the nodes")
        return {node.node_id: node for node in nodes}

    async def _place(self, nodes: dict[str, NodeInfo]) -> None:
        image = self._context.image
        placed = set(image.retired.values())
        placed.update(image.brokers[broker_id].node_id for broker_id in self._stopping)
        for broker_id, keeper in self._brokers.items():
            if broker_id in self._stopping:
                continue
            node = keeper.node
            if node is not None and node.node_id in nodes:
                placed.add(node.node_id)
            else:
                self._move(broker_id, None)
        now_ms = self._context.clock.monotonic_ms()
        self._newcomers.note(nodes, now_ms)
        for node_id, node in nodes.items():
            if node_id in placed:
                continue
            if self._newcomers.must_wait(node, self._context.image, now_ms, self._last_seen):
                continue
            found = await self._broker_for(node, nodes)
            if found is not None:
                self._move(found, node)

    def _last_seen(self, broker: BrokerState) -> tuple[str, int]:
        keeper = self._brokers.get(broker.broker_id)
        if keeper is None:
            return broker.node_id, 0
        node_id = broker.node_id if keeper.node is None else keeper.node.node_id
        return node_id, keeper.heard_ms

    async def _broker_for(self, node: NodeInfo, nodes: dict[str, NodeInfo]) -> int | None:
        """None while a broker is being stopped that may turn out to be this node's."""
        placed = [id_ for id_, keeper in self._brokers.items() if keeper.node is not None]
        placed.extend(self._stopping)
        known = match_broker(self._context.image, node.node_id, node.host, nodes, placed)
        if known is not None:
            return known.broker_id
        if self._stopping:
            return None
        slots = pool_size(self._context, node)
        command = RegisterBroker(-1, node.node_id, node.host, node.rack, slots)
        registered: BrokerState = await self._context.shell.submit(command)
        return registered.broker_id

    async def _retire_absent(self, nodes: dict[str, NodeInfo]) -> None:
        """Brokers that ran when the last controller did, and whose nodes are no longer there."""
        image, submit = self._context.image, self._context.shell.submit
        present = {id_ for id_, broker in image.brokers.items() if broker.node_id in nodes}
        present.update(self._brokers)
        for broker in image.live_brokers():
            if broker.broker_id not in present:
                await submit(FenceBroker(broker.broker_id, broker.incarnation))
        for slot, actor in image.actors.items():
            if actor.alive and slot.broker_id not in present:
                await submit(LosePartitionActor(*slot, actor.incarnation))

    def _move(self, broker_id: int, node: NodeInfo | None) -> None:
        keeper = self._brokers.get(broker_id)
        if keeper is None:
            keeper = BrokerKeeper(self._context, broker_id, self._on_broker_ready)
            self._brokers[broker_id] = keeper
            self._tasks.append(asyncio.ensure_future(keeper.run()))
        keeper.place(node)
        # A broker that comes back judges its log directory before its partition actors use it.
        for slot, slot_keeper in self._slots.items():
            if slot.broker_id == broker_id and slot_keeper.node != node:
                slot_keeper.place(None)

    def _on_broker_ready(self, broker: BrokerState) -> None:
        """The broker owns its directory: now its partition actors may use it."""
        broker_keeper = self._brokers[broker.broker_id]
        node = broker_keeper.node
        for index in range(broker.slots):
            slot = SlotKey(broker.broker_id, index)
            if slot not in self._slots:
                keeper = SlotKeeper(
                    self._context,
                    slot,
                    self._on_progress,
                    self._is_led,
                    broker_keeper.wait_answering,
                )
                self._slots[slot] = keeper
                self._tasks.append(asyncio.ensure_future(keeper.run()))
            self._slots[slot].place(node)

    def _is_led(self, by_other_than: SlotKey, partition: PartitionId, leader_epoch: int) -> bool:
        """Whether an actor that lives still believes that it leads, in an older epoch."""
        image = self._context.image
        return any(
            keeper.planner.still_leads(partition, leader_epoch) and image.actor_runs(slot)
            for slot, keeper in self._slots.items()
            if slot != by_other_than
        )

    def _on_progress(self) -> None:
        self._progress.set()
        for keeper in self._slots.values():
            if keeper.is_held:
                keeper.wake()

    def on_change(self) -> None:
        """The metadata have changed."""
        for keeper in self._slots.values():
            keeper.wake()


async def _stop_all(keepers: Iterable[Keeper[Any]]) -> None:
    await asyncio.gather(*(keeper.stop_actor() for keeper in keepers))
