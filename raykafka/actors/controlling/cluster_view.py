"""The actors of a cluster as DESCRIBE_CLUSTER shows them."""

from __future__ import annotations

from collections.abc import Iterator

from raykafka.actors.controlling.keeper import ClusterContext
from raykafka.actors.controlling.metadata_view import broker_infos
from raykafka.actors.controlling.reconcile import Reconciler
from raykafka.actors.controlling.voter_keeper import VoterKeeper
from raykafka.actors.ports import controller_name
from raykafka.controller.image import MetadataImage, SlotKey
from raykafka.controller.settings import Settings
from raykafka.protocol.messages import ActorInfo, DescribeClusterResponse


class ClusterView:
    """Makes answers from the durable image and what the reconciler is about to do."""

    def __init__(
        self, context: ClusterContext, reconciler: Reconciler, voters: VoterKeeper
    ) -> None:
        self._context = context
        self._reconciler = reconciler
        self._voters = voters

    def describe(self) -> DescribeClusterResponse:
        """Brokers, actors and counts."""
        image = self._context.image
        health = _Health(image, self._context.settings)
        return DescribeClusterResponse(
            cluster_id=image.cluster_id,
            cluster_name=image.cluster_name,
            controller_epoch=image.controller_epoch,
            brokers=broker_infos(image),
            actors=[
                *self._controllers(image),
                *self._brokers(image),
                *self._partition_actors(image),
            ],
            topics=len(image.topics),
            partitions=health.partitions,
            offline_partitions=health.offline,
            under_replicated_partitions=health.under_replicated,
            under_min_isr_partitions=health.under_min_isr,
            reassigning_partitions=health.reassigning,
        )

    def _controllers(self, image: MetadataImage) -> Iterator[ActorInfo]:
        """The active one first."""
        machine = self._context.shell.node.machine
        local = machine.local.id
        for voter in sorted(machine.voters.voters, key=lambda voter: voter.id != local):
            started = self._voters.started.get(voter.id)
            pid = 0 if started is None else started.pid
            yield ActorInfo(
                name=controller_name(self._context.cluster_name, voter.id),
                role="controller",
                broker_id=-1,
                incarnation=image.controller_epoch if voter.id == local else 0,
                state=_state(voter.id == local or started is not None, False),
                pid=self._context.environment.pid if voter.id == local else pid,
                host=voter.host,
                port=voter.port,
            )

    def _brokers(self, image: MetadataImage) -> list[ActorInfo]:
        return [
            ActorInfo(
                name=self._context.broker_name(broker_id, broker.incarnation),
                role="broker",
                broker_id=broker_id,
                incarnation=broker.incarnation,
                state=_state(not broker.fenced, self._reconciler.is_broker_starting(broker_id)),
                pid=broker.pid,
                host=broker.host,
            )
            for broker_id, broker in sorted(image.brokers.items())
        ]

    def _partition_actors(self, image: MetadataImage) -> list[ActorInfo]:
        loads = image.slot_loads()
        infos = []
        for slot, actor in sorted(image.actors.items()):
            name = self._context.partition_actor_name(*slot, actor.incarnation)
            infos.append(
                ActorInfo(
                    name=name,
                    role="partition",
                    broker_id=slot.broker_id,
                    incarnation=actor.incarnation,
                    state=_state(actor.alive, self._reconciler.is_starting(SlotKey(*slot))),
                    pid=actor.pid,
                    host=actor.host,
                    port=actor.port,
                    partitions=loads.get(slot, 0),
                )
            )
        return infos


class _Health:
    """Counts over all partitions."""

    def __init__(self, image: MetadataImage, settings: Settings) -> None:
        self.partitions = 0
        self.offline = 0
        self.under_replicated = 0
        self.under_min_isr = 0
        self.reassigning = 0
        for topic in image.topics.values():
            minimum = settings.topic(image, topic).min_insync_replicas
            for partition in topic.partitions:
                self.partitions += 1
                self.reassigning += bool(partition.adding or partition.removing)
                if not partition.online or image.leader_actor(partition) is None:
                    self.offline += 1
                    continue
                in_sync = len(partition.isr)
                self.under_replicated += not set(partition.original) <= set(partition.isr)
                self.under_min_isr += in_sync < partition.effective_min_isr(minimum)


def _state(alive: bool, starting: bool) -> str:
    if alive:
        return "alive"
    return "starting" if starting else "dead"
