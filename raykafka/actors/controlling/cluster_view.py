"""The actors of a cluster as DESCRIBE_CLUSTER shows them."""

from __future__ import annotations

from raykafka.actors.controlling.keeper import ClusterContext
from raykafka.actors.controlling.metadata_view import broker_infos
from raykafka.actors.controlling.reconcile import Reconciler
from raykafka.controller.image import MetadataImage, SlotKey
from raykafka.protocol.messages import ActorInfo, DescribeClusterResponse


class ClusterView:
    """Makes answers from the durable image and what the reconciler is about to do."""

    def __init__(
        self, controller_name: str, context: ClusterContext, reconciler: Reconciler
    ) -> None:
        self._controller_name = controller_name
        self._context = context
        self._reconciler = reconciler

    def describe(self) -> DescribeClusterResponse:
        """Brokers, actors and counts."""
        image = self._context.image
        partitions = [p for topic in image.topics.values() for p in topic.partitions]
        return DescribeClusterResponse(
            cluster_id=image.cluster_id,
            cluster_name=image.cluster_name,
            controller_epoch=image.controller_epoch,
            brokers=broker_infos(image),
            actors=[
                self._controller(image),
                *self._brokers(image),
                *self._partition_actors(image),
            ],
            topics=len(image.topics),
            partitions=len(partitions),
            offline_partitions=sum(
                not partition.online or image.leader_actor(partition) is None
                for partition in partitions
            ),
        )

    def _controller(self, image: MetadataImage) -> ActorInfo:
        return ActorInfo(
            name=self._controller_name,
            role="controller",
            broker_id=-1,
            incarnation=image.controller_epoch,
            state="alive",
            pid=self._context.environment.pid,
            host=image.controller_host,
            port=image.controller_port,
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


def _state(alive: bool, starting: bool) -> str:
    if alive:
        return "alive"
    return "starting" if starting else "dead"
