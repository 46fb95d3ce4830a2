"""A simulated cluster: machines, a controller that comes back when it dies, a topic, clients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from raykafka.actors.ports import ControllerSpec
from raykafka.errors import RaykafkaError, TopicAlreadyExistsError, error_for
from raykafka.protocol.messages import ApiKey, CreateTopicsRequest, CreateTopicsResponse, NewTopic
from raykafka.testing.simulation.checks import Checks
from raykafka.testing.simulation.consuming import SimulatedConsumer
from raykafka.testing.simulation.control import ControlPlane
from raykafka.testing.simulation.hosts import Host, Process
from raykafka.testing.simulation.link import Bootstrap, Link
from raykafka.testing.simulation.metadata_checks import MetadataChecks
from raykafka.testing.simulation.network import Network
from raykafka.testing.simulation.producing import SimulatedProducer
from raykafka.testing.simulation.spawner import SimulatedSpawner
from raykafka.testing.simulation.voters import Voters
from raykafka.testing.simulation.world import World

NAME: Final = "sim"
CONTROLLER: Final = f"{NAME}/controller"
TOPIC: Final = "t"
LOOK_S: Final = 1.5
"""Between two looks of somebody whether the cluster is up."""


class Shape(NamedTuple):
    """How large a simulated cluster is and what its topic promises."""

    hosts: int
    partition_actors: int
    partitions: int
    replication_factor: int
    min_insync_replicas: int
    fsync: str
    producers: int
    consumers: int
    lag_ms: int
    """``replica.lag.time.max.ms``"""


class SimulatedCluster:
    """Everything that runs in one simulation."""

    def __init__(self, world: World, shape: Shape) -> None:
        self.world = world
        self.shape = shape
        self.network = Network(world)
        self.plane = ControlPlane(world, self.network)
        self.bootstrap = Bootstrap()
        self.checks = Checks(world, TOPIC, shape.partitions, shape.min_insync_replicas)
        self.metadata_checks = MetadataChecks(world)
        self.voters = Voters(
            self.plane,
            lambda process: SimulatedSpawner(self.plane, process, self.voters),
            self.bootstrap.learn,
            self.metadata_checks.watch,
        )
        self.plane.on_partition_actor = self.checks.watch_partition_actor
        for number in range(shape.hosts):
            self.plane.add_host(f"10.0.0.{number + 1}")
        self.client_hosts: list[Host] = []
        self.producers: list[SimulatedProducer] = []
        self.consumers: list[SimulatedConsumer] = []
        self._spec = ControllerSpec(
            name=CONTROLLER,
            cluster_name=NAME,
            data_dir="/data",
            host=self.plane.hosts[0].address,
            configs={
                "partition.actors": str(shape.partition_actors),
                "controller.quorum.voters": str(min(shape.hosts, 3)),
                "disk.reserve.bytes": "0",
                # So little that copies are far behind now and then.
                "replica.fetch.max.bytes": "2048",
                "replica.lag.time.max.ms": str(shape.lag_ms),
            },
        )
        self._look_after()
        for number in range(shape.producers + shape.consumers):
            self._add_client(number)

    # --- controllers ------------------------------------------------------------------------------

    def _look_after(self) -> None:
        """Bring voter 0 up where it is down for good, as who calls ``raykafka up`` does."""
        host = self.plane.hosts[0]
        if host.up and not self.voters.is_known(CONTROLLER):
            self.voters.start(self._spec, host)
        self.world.after(LOOK_S, self._look_after)

    # --- clients ----------------------------------------------------------------------------------

    def _add_client(self, number: int) -> None:
        shape = self.shape
        host = Host(self.world, len(self.network.hosts), f"10.0.1.{number + 1}")
        self.network.add(host)
        self.client_hosts.append(host)
        process = self.plane.process(host, f"client-{number}")
        link = Link(self.network, process, self.bootstrap, TOPIC)
        if number < shape.producers:
            producer = SimulatedProducer(link, self.checks, number, shape.partitions)
            self.producers.append(producer)
            run: Any = producer.run
        else:
            consumer = SimulatedConsumer(link, self.checks, number, shape.partitions)
            self.consumers.append(consumer)
            run = consumer.run

        async def live() -> None:
            if number == 0:
                await self._create_topic(link)
            await run()

        process.start(live)

    async def _create_topic(self, link: Link) -> None:
        shape = self.shape
        configs: Mapping[str, str] = {
            "fsync": shape.fsync,
            "fsync.interval.ms": "200",
            "min.insync.replicas": str(shape.min_insync_replicas),
        }
        topic = NewTopic(TOPIC, shape.partitions, shape.replication_factor, dict(configs))
        while True:
            try:
                answer = await link.ask_controller(
                    ApiKey.CREATE_TOPICS, CreateTopicsRequest([topic])
                )
                assert isinstance(answer, CreateTopicsResponse)
                [result] = answer.topics
                if result.error_code:
                    raise error_for(result.error_code, result.error_message)
                return
            except TopicAlreadyExistsError:
                return
            except RaykafkaError:
                await link.pause()

    # --- the end ----------------------------------------------------------------------------------

    @property
    def is_whole(self) -> bool:
        """Whether something was acknowledged, and every partition has all of its copies in sync."""
        if not self.checks.acknowledgements:
            return False
        whole = sum(
            len(replica.machine.isr) == self.shape.replication_factor
            for _, replica in self._replicas()
        )
        return whole == self.shape.partitions

    @property
    def has_settled(self) -> bool:
        """Whether the producers' last batches are acknowledged and read by every consumer."""
        if not all(producer.done for producer in self.producers):
            return False
        ends = self.checks.ends()
        return all(consumer.positions == ends for consumer in self.consumers) and (
            self._copies() >= self.shape.replication_factor * self.shape.partitions
        )

    def _copies(self) -> int:
        """Replicas that have all of the committed log, and know it."""
        ends = self.checks.ends()
        return sum(
            replica.high_watermark == replica.log.log_end_offset == ends[number]
            for number, replica in self._replicas()
        )

    def _replicas(self) -> Iterator[tuple[int, Any]]:
        for process in self.partition_actors():
            for replica in process.shell._replicas:
                if replica.topic == TOPIC:
                    yield replica.partition.partition, replica

    def check_logs(self) -> None:
        """Every copy in sync is equal, once the cluster has settled."""
        in_sync = {
            (number, broker_id)
            for number, replica in self._replicas()
            for broker_id in replica.machine.isr
        }
        for process in self.partition_actors():
            flipped = process.host.disk.flipped
            for replica in process.shell._replicas:
                number = replica.partition.partition
                if replica.topic == TOPIC and (number, replica.machine.local_id) in in_sync:
                    self.checks.check_log(process.name, replica, flipped=flipped)

    def partition_actors(self) -> list[Process]:
        """The living partition actors, in the order of their names."""
        return [
            process
            for name, process in sorted(self.plane.actors.items())
            if "/partitions-" in name and process.shell is not None
        ]

    def brokers(self) -> list[Process]:
        """The living brokers, in the order of their names."""
        return [
            process for name, process in sorted(self.plane.actors.items()) if "/broker-" in name
        ]

    def controller(self) -> Process | None:
        """The active controller."""
        return self.voters.active()
