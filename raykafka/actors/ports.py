"""The seams of the shells: what they serve to the network, and what the controller asks of others.

Data side: a shell hands ``Handler`` functions to the listener it was given; each request comes with
a ``Reply`` that may be called at once or later, always on the actor's own loop.
Control side: the controller places, watches and instructs actors through ``ActorSpawner`` and the
ports it returns. Ray handles implement them in production, plain objects in ``raykafka.testing``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from raykafka.actors.voters import VoterPort
from raykafka.errors import RaykafkaError
from raykafka.model import Endpoint, PartitionId
from raykafka.protocol.messages import ApiKey, HelloResponse, Message

Buffer = Any
"""Anything with the buffer protocol: bytes, bytearray, memoryview, ``pa.Buffer``."""


class Reply(Protocol):
    """Answers one request. Calling it on a closed connection does nothing."""

    role: str
    """What the peer proved to be: ``client`` or ``broker``."""
    correlation_id: int
    """Names a fetch session on its connection."""
    connection: object
    """Identity of the connection, for session look-ups."""

    def __call__(self, response: Message, payload: Sequence[Buffer] = ()) -> None:
        """Write one frame without joining its parts."""

    @property
    def closed(self) -> bool:
        """Whether the connection is gone."""

    @property
    def writable(self) -> bool:
        """False while the connection's write buffer is over its high-water mark."""

    def on_close(self, callback: Callable[[], None]) -> None:
        """Call once when the connection ends, so that what was parked for it can be dropped."""

    def on_writable(self, callback: Callable[[], None]) -> None:
        """Call once when ``writable`` is true again (at once, if it is now)."""


OnResponse = Callable[["Message | RaykafkaError", memoryview], None]
"""What a request's answer, or its end, is handed to: (response or error, payload)."""


class PeerConnection(Protocol):
    """A connection to another actor's listener, on which this side has proven to be a broker.

    Everything happens on the actor's own loop; answers are handed over there.
    """

    hello: HelloResponse
    """Who answered: its name and incarnation."""

    def send(
        self,
        api_key: ApiKey,
        request: Message,
        payload: Sequence[Buffer] = (),
        on_response: OnResponse | None = None,
        *,
        stream: bool = False,
    ) -> int:
        """Send one request; returns its correlation id.

        With ``stream`` the callback is called for every response until ``forget``. Without a
        callback answers are thrown away. Raises ``ConnectionLostError`` when the connection has
        ended; when it ends later, every pending callback gets that error, once.
        """

    async def call(
        self,
        api_key: ApiKey,
        request: Message,
        payload: Sequence[Buffer] = (),
        *,
        timeout_s: float,
    ) -> Message:
        """Send one request and wait for its answer.

        Raises the error that the answer reports, ``RequestTimedOutError``, ``ConnectionLostError``.
        """

    def forget(self, correlation_id: int) -> None:
        """Throw away whatever still comes for that request."""

    @property
    def closed(self) -> bool:
        """Whether the connection has ended, by either side."""

    def on_close(self, callback: Callable[[], None]) -> None:
        """Call once when the connection ends, at once if it has."""

    def close(self) -> None:
        """End the connection."""


class Connector(Protocol):
    """Opens connections to other actors of the cluster."""

    async def __call__(
        self, endpoint: Endpoint, secret: bytes, *, client_id: str, timeout_s: float
    ) -> PeerConnection:
        """Connect and prove the broker's role.

        Raises ``ConnectionLostError`` when the listener cannot be reached or does not answer in
        time, ``ClusterAuthorizationFailedError``, and what the listener refuses with.
        """


Handler = Callable[[Any, Any, Reply], None]
"""(request struct, payload memoryview, reply); never blocks; an error it raises is the answer."""


@dataclass(frozen=True, slots=True)
class ListenerLimits:
    """Bounds of one listener, in bytes and counts."""

    max_request_bytes: int = 100 << 20
    max_connections: int = 10_000
    max_queued_bytes: int = 512 << 20
    """Bytes that all connections together may hold in write buffers before reads pause."""


@dataclass(frozen=True, slots=True)
class ListenerSpec:
    """What a listener is told about the actor it serves. ``port`` 0 takes any free one."""

    host: str
    port: int
    cluster_id: str
    node: str
    incarnation: int
    secret: bytes = field(repr=False)
    limits: ListenerLimits = ListenerLimits()


class Listener(Protocol):
    """A started listener."""

    async def start(self) -> Endpoint:
        """Bind and accept; returns the bound address."""

    async def close(self) -> None:
        """Close the listener and every connection."""


ListenerFactory = Callable[[ListenerSpec, Mapping[ApiKey, Handler]], Listener]


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """A Ray node that may store data."""

    node_id: str
    host: str
    rack: str = ""
    cores: int = 0
    """CPU cores, 0 when unknown: the controller then takes the number of its own machine."""


@dataclass(frozen=True, slots=True)
class ControllerSpec:
    """Everything a ``ControllerActor`` is started with; small, Ray keeps it for restarts."""

    name: str
    """Name of the actor; see ``controller_name``."""
    cluster_name: str
    data_dir: str
    """Voter 0 owns ``<data_dir>/controller``, voter n ``<data_dir>/controller-<n>``, broker n gets
    ``<data_dir>/broker-<n>``."""
    host: str
    """Address that the controller's listener binds."""
    port: int = 0
    """0 takes the port of the controller's last life if it is free, else any free one."""
    configs: Mapping[str, str] = field(default_factory=dict)
    """Broker settings of the whole cluster as given; parsed by ``BrokerConfig``."""
    voter_id: int = 0
    may_found: bool = True
    """Whether an empty directory begins a new cluster; else the other voters fill it."""
    cluster_id: str = ""
    """Cluster to join; empty for the one that the directory belongs to."""
    secret: bytes = field(default=b"", repr=False)
    """Secret of that cluster."""


def controller_name(cluster: str, voter_id: int = 0) -> str:
    """Name of a voter's actor."""
    return f"{cluster}/controller-{voter_id}" if voter_id else f"{cluster}/controller"


@dataclass(frozen=True, slots=True)
class ClusterAccess:
    """What a client needs to find the controller and to prove that it may talk to it."""

    cluster_id: str
    cluster_name: str
    controller: Endpoint
    """Who is active, as far as whoever gives this knows."""
    secret: bytes = field(repr=False)
    controllers: tuple[Endpoint, ...] = ()
    """Every voter, the active one first."""


@dataclass(frozen=True, slots=True)
class BrokerSpec:
    """Everything a ``BrokerActor`` is started with; small, because Ray keeps it for restarts."""

    name: str
    cluster_id: str
    cluster_name: str
    broker_id: int
    incarnation: int
    node: NodeInfo
    log_dir: str
    configs: Mapping[str, str]
    """Broker settings as given; parsed by ``BrokerConfig``."""


@dataclass(frozen=True, slots=True)
class PartitionActorSpec:
    """Everything a ``PartitionActor`` is started with."""

    name: str
    cluster_id: str
    cluster_name: str
    broker_id: int
    slot: int
    """Place in the broker's pool; owns ``.lock-<slot>`` in the log directory."""
    incarnation: int
    node: NodeInfo
    log_dir: str
    configs: Mapping[str, str]
    secret: bytes = field(repr=False)
    controllers: tuple[Endpoint, ...] = ()
    """Voters that may be active; with none the actor needs no lease."""


@dataclass(frozen=True, slots=True)
class PartitionAssignment:
    """One replica that a partition actor shall own. Applying the same one twice changes nothing."""

    topic: str
    partition: PartitionId
    leader_epoch: int
    configs: Mapping[str, str]
    """The topic's own settings; defaults come from the broker's."""
    schemas: Sequence[bytes]
    """Arrow IPC schema messages, one per schema id; empty for an untyped topic."""
    opened_before: bool
    """True when this replica holds what was acknowledged: its directory must exist, it is never
    made anew."""
    leader_id: int = -1
    """Broker that leads in ``leader_epoch``; this replica follows unless that is its own."""
    leader: Endpoint | None = None
    """Listener of the leader's partition actor; None for the leader itself, or while unknown."""
    replicas: tuple[int, ...] = ()
    isr: tuple[int, ...] = ()
    elr: tuple[int, ...] = ()
    """Replicas out of sync that hold all that is committed (KIP-966)."""
    partition_epoch: int = 0
    """Version of the partition's state in the metadata (Kafka's, KIP-497)."""
    throttled_rate: int = -1
    """Bytes per second that this actor may send to followers that are not in sync, all partitions
    that it leads together; or, of a follower, receive while it is not in sync. -1: no limit."""


@dataclass(frozen=True, slots=True)
class PartitionRemoval:
    """A replica of a deleted topic, to be removed from disk even if this actor never opened it."""

    topic: str
    partition: PartitionId


@dataclass(frozen=True, slots=True)
class AssignmentResult:
    """What became of one assignment or removal."""

    partition: PartitionId
    leader_epoch: int
    log_end_offset: int = -1
    error_code: int = 0
    error_message: str = ""


@dataclass(frozen=True, slots=True)
class ActorStarted:
    """First word of an actor after its start."""

    pid: int
    endpoint: Endpoint | None
    """None for an actor without a listener (the broker)."""
    directory_id: str = ""
    """Brokers: identity of the log directory."""
    intact: bool = True
    """Brokers: False when the machine may have lost what was written to the directory."""
    last_incarnation: int = -1
    """Brokers: the incarnation that claimed the directory before; -1 when that is not known."""


class PartitionActorPort(Protocol):
    """The controller's view of one partition actor."""

    async def start(self) -> ActorStarted:
        """Lock the slot and listen; idempotent. ``LogDirLockedError`` while another lives."""

    async def assign(
        self, assignments: Sequence[PartitionAssignment], removals: Sequence[PartitionRemoval]
    ) -> list[AssignmentResult]:
        """Open, re-configure or delete replicas; one result each, removals first.

        Errors stand inside the results. What is not on disk counts as removed.
        """

    async def stop(self) -> None:
        """Close every log cleanly and release the slot."""

    async def wait_dead(self) -> None:
        """Return when the actor's process is gone."""

    def kill(self) -> None:
        """End the process without ceremony; used to be sure before a successor starts."""


class BrokerPort(Protocol):
    """The controller's view of one broker actor."""

    async def start(self) -> ActorStarted:
        """Lock the log directory and check that it belongs to this cluster and broker."""

    async def stop(self) -> None:
        """Release the log directory."""

    async def wait_dead(self) -> None:
        """Return when the actor's process is gone."""

    def kill(self) -> None:
        """End the process without ceremony."""


class ActorSpawner(Protocol):
    """Creates and finds actors; in production the only thing of the controller's that knows Ray."""

    def nodes(self) -> list[NodeInfo]:
        """Nodes that may store data now."""

    async def spawn_broker(self, spec: BrokerSpec) -> BrokerPort:
        """Create the actor on its node; ``start`` is called by the caller."""

    async def spawn_partition_actor(self, spec: PartitionActorSpec) -> PartitionActorPort:
        """Create the actor on its node; ``start`` is called by the caller."""

    async def spawn_controller(self, spec: ControllerSpec, node: NodeInfo) -> VoterPort:
        """Create a voter's actor on a node; ``start_voter`` is called by the caller."""

    async def find_broker(self, name: str) -> BrokerPort | None:
        """The running actor of that name, or None; used by a controller that comes back."""

    async def find_partition_actor(self, name: str) -> PartitionActorPort | None:
        """The running actor of that name, or None."""

    async def find_controller(self, name: str) -> VoterPort | None:
        """The running actor of that name, or None."""


class ControllerPort(Protocol):
    """What a broker tells the controller."""

    def heartbeat(self, broker_id: int, incarnation: int, usable_bytes: int) -> Awaitable[bool]:
        """Renew the lease; False when the broker has been replaced and must exit.

        Raises ``NotControllerError`` where another controller is active.
        """


SpawnerFactory = Callable[[ControllerPort], ActorSpawner]
"""Makes the spawner; the port is for brokers that share the controller's process (tests), Ray
brokers find the controller by its name."""
