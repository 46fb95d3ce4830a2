"""A controller and leaders on real listeners, whose logs are lists and whose faults are scripted.

It does what a test says and nothing by itself: leaders move, refuse, corrupt and fall silent on
command, which a real cluster does only when it feels like it. Runs on a loop in a thread.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from raykafka.actors.ports import ListenerSpec, Reply
from raykafka.client.cluster.bootstrap import BootstrapInfo, StaticBootstrap
from raykafka.errors import RaykafkaError, UnknownTopicOrPartitionError
from raykafka.log.batch import encode_batch, project_batch, read_header, stamp
from raykafka.log.schema import HEADERS_TYPE, UNTYPED_VALUE_SCHEMA, serialize_schema, storage_schema
from raykafka.model import Compression, Endpoint, PartitionId, TopicId
from raykafka.network.server import TcpListener
from raykafka.protocol.messages import (
    ApiKey,
    FetchCreditRequest,
    FetchedPartition,
    FetchRequest,
    FetchResponse,
    ListedOffset,
    ListOffsetsRequest,
    ListOffsetsResponse,
    MetadataRequest,
    MetadataResponse,
    PartitionInfo,
    TopicInfo,
)
from raykafka.testing.loop_thread import LoopThread

SECRET = b"s" * 32
TIMEOUT_S = 10.0


@dataclass
class Log:
    """One partition: whole batches, stamped, in order."""

    identity: PartitionId
    leader: int
    epoch: int = 0
    batches: list[bytearray] = field(default_factory=list)
    start: int = 0
    error: RaykafkaError | None = None
    """Answers every fetch and lookup of this partition."""

    @property
    def end(self) -> int:
        return read_header(self.batches[-1]).next_offset if self.batches else self.start


@dataclass
class Topic:
    """A topic's metadata."""

    name: str
    topic_id: TopicId
    logs: list[Log]
    schemas: list[pa.Schema] = field(default_factory=list)
    key_column: str = ""


@dataclass
class Session:
    """A push session as its leader keeps it."""

    request: FetchRequest
    reply: Reply
    positions: dict[tuple[str, int], int]
    credit: int
    spent: int = 0


class Leader:
    """Serves the logs that it leads."""

    def __init__(self, cluster: ScriptedCluster, number: int) -> None:
        self.cluster = cluster
        self.number = number
        self.endpoint = Endpoint("127.0.0.1", 0)
        self.silent = False
        """Takes requests and answers none."""
        self.fetches: list[FetchRequest] = []
        self.credits: list[FetchCreditRequest] = []
        self.sessions: dict[tuple[int, int], Session] = {}
        self.listener: TcpListener | None = None

    async def start(self) -> None:
        handlers = {
            ApiKey.FETCH: self.on_fetch,
            ApiKey.FETCH_CREDIT: self.on_credit,
            ApiKey.LIST_OFFSETS: self.on_list_offsets,
            **self.cluster.leader_handlers(self.number),
        }
        self.listener = TcpListener(_spec(f"leader-{self.number}"), handlers)
        self.endpoint = await self.listener.start()

    async def stop(self) -> None:
        listener, self.listener = self.listener, None
        self.sessions.clear()
        if listener is not None:
            await listener.close()

    def on_fetch(self, request: FetchRequest, payload: Any, reply: Reply) -> None:
        self.fetches.append(request)
        if self.silent:
            return
        if not request.push:
            frames = [
                self._read(p.topic_id, p.partition, p.offset, p.leader_epoch, request)
                for p in request.partitions
            ]
            chunks = [chunk for _, each in frames for chunk in each]
            reply(FetchResponse([fetched for fetched, _ in frames]), chunks)
            return
        positions = {(p.topic_id, p.partition): p.offset for p in request.partitions}
        session = Session(request, reply, positions, request.credit_bytes)
        self.sessions[id(reply.connection), reply.correlation_id] = session
        self.push(session)

    def on_credit(self, request: FetchCreditRequest, payload: Any, reply: Reply) -> None:
        self.credits.append(request)
        key = (id(reply.connection), request.session)
        session = self.sessions.get(key)
        if session is None:
            return
        if request.close:
            del self.sessions[key]
            session.reply(FetchResponse())
            return
        session.credit += request.credit_bytes
        self.push(session)

    def push(self, session: Session) -> None:
        """Send what the session has not seen, one batch per frame, while there is credit."""
        epochs = {(p.topic_id, p.partition): p.leader_epoch for p in session.request.partitions}
        progress = True
        while progress and not self.silent:
            progress = False
            for place, offset in list(session.positions.items()):
                if session.credit <= session.spent:
                    return
                fetched, chunks = self._read(*place, offset, epochs[place], session.request)
                if fetched.error_code:
                    del session.positions[place]
                    session.reply(FetchResponse([fetched]))
                elif chunks:
                    session.reply(FetchResponse([fetched]), chunks)
                    session.spent += sum(fetched.sizes)
                    session.positions[place] = self.cluster.served_to
                    progress = True

    def on_list_offsets(self, request: ListOffsetsRequest, payload: Any, reply: Reply) -> None:
        if self.silent:
            return
        listed = []
        for asked in request.partitions:
            place = (asked.topic_id, asked.partition)
            try:
                log = self._log(*place, asked.leader_epoch)
            except RaykafkaError as error:
                listed.append(ListedOffset(*place, error_code=error.code, error_message=str(error)))
                continue
            offset = {-1: log.end, -2: log.start}.get(asked.timestamp)
            stamp_ms = -1
            if offset is None:
                offset, stamp_ms = _first_at(log, asked.timestamp)
            listed.append(ListedOffset(*place, offset, stamp_ms, log.epoch))
        reply(ListOffsetsResponse(listed))

    def _log(self, topic_id: str, partition: int, epoch: int) -> Log:
        log = self.cluster.find(topic_id, partition)
        if log is None or log.leader != self.number:
            raise self.cluster.not_leader("this server does not lead the partition")
        if epoch < log.epoch:
            raise self.cluster.fenced(f"epoch {epoch} is older than {log.epoch}")
        if log.error is not None:
            raise log.error
        return log

    def _read(
        self, topic_id: str, partition: int, offset: int, epoch: int, request: FetchRequest
    ) -> tuple[FetchedPartition, Sequence[Any]]:
        try:
            log = self._log(topic_id, partition, epoch)
            if not log.start <= offset <= log.end:
                raise self.cluster.out_of_range(f"offset {offset} is not in the log")
        except RaykafkaError as error:
            failed = FetchedPartition(
                topic_id, partition, error_code=error.code, error_message=str(error)
            )
            return failed, ()
        for batch in log.batches:
            header = read_header(batch)
            if header.next_offset > offset:
                self.cluster.served_to = header.next_offset
                chunks = self.cluster.project(log, batch, request.columns)
                size = sum(memoryview(chunk).nbytes for chunk in chunks)
                chunks = self.cluster.tamper(chunks)
                return FetchedPartition(
                    topic_id, partition, log.end, log.start, log.end, [size]
                ), chunks
        return FetchedPartition(topic_id, partition, log.end, log.start, log.end), ()


class ScriptedCluster:
    """``with ScriptedCluster(leaders=2) as cluster: Consumer(cluster.bootstrap)``."""

    from raykafka.errors import FencedLeaderEpochError as fenced
    from raykafka.errors import NotLeaderOrFollowerError as not_leader
    from raykafka.errors import OffsetOutOfRangeError as out_of_range

    def __init__(self, leaders: int = 1) -> None:
        self.topics: dict[str, Topic] = {}
        self.leaders = [Leader(self, number) for number in range(leaders)]
        self.metadata_offset = 0
        self.metadata_requests = 0
        self.served_to = 0
        self.tamper: Callable[[Sequence[Any]], Sequence[Any]] = lambda chunks: chunks
        """Applied to the payload of every fetch."""
        self.leader_handlers: Callable[[int], dict[ApiKey, Any]] = lambda number: {}
        """What else each leader serves, and below the controller; set before they start."""
        self.controller_handlers: dict[ApiKey, Any] = {}
        self._ids = 0
        self._thread = LoopThread("scripted-cluster")
        self._controller: TcpListener | None = None
        self.bootstrap: StaticBootstrap

    def __enter__(self) -> ScriptedCluster:
        self.run(self._start)
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self._stop)
        self._thread.close()

    # --- what tests do ----------------------------------------------------------------------------

    def create(
        self,
        name: str,
        partitions: int = 1,
        schema: pa.Schema | None = None,
        key_column: str = "",
    ) -> Topic:
        """A new topic, also under a name that was taken; partitions go round the leaders."""
        self._ids += 1
        topic_id = TopicId(f"{self._ids:032x}")
        logs = [Log(PartitionId(topic_id, p), p % len(self.leaders)) for p in range(partitions)]
        topic = Topic(name, topic_id, logs, [] if schema is None else [schema], key_column)

        def change() -> None:
            self.topics[name] = topic
            self.metadata_offset += 1

        self.call(change)
        return topic

    def append(
        self,
        topic: Topic,
        columns: dict[str, Any] | Sequence[bytes | None],
        partition: int = 0,
        *,
        timestamps: Sequence[int] | None = None,
        keys: Sequence[bytes | None] | None = None,
        append_time_ms: int = -1,
        schema_id: int | None = None,
        compression: Compression = Compression.NONE,
    ) -> int:
        """Append one batch and push it to whoever waits; its base offset."""
        values = columns if isinstance(columns, dict) else {"value": list(columns)}
        newest = len(topic.schemas) - 1 if schema_id is None else schema_id
        value_schema = topic.schemas[newest] if topic.schemas else UNTYPED_VALUE_SCHEMA
        schema = storage_schema(value_schema)
        count = len(next(iter(values.values())))
        batch = pa.record_batch(
            [
                pa.array(timestamps or [1_000] * count, pa.timestamp("ms")),
                pa.array(keys or [None] * count, pa.binary()),
                pa.nulls(count, HEADERS_TYPE),
                *[pa.array(values[f.name], f.type) for f in value_schema],
            ],
            schema=schema,
        )
        log = topic.logs[partition]
        encoded = encode_batch(
            batch, log.identity, schema_id=max(0, newest), compression=compression
        )
        message = bytearray(b"".join(bytes(chunk) for chunk in encoded.chunks))

        def add() -> int:
            base = log.end
            stamp(
                message,
                base_offset=base,
                leader_epoch=log.epoch,
                append_time_ms=append_time_ms,
                log_append_time=append_time_ms >= 0,
            )
            log.batches.append(message)
            self.wake(log)
            return base

        return self.call(add)

    def move(self, log: Log, leader: int) -> None:
        """Give a partition another leader and tell the sessions of the old one."""

        def change() -> None:
            log.leader, log.epoch = leader, log.epoch + 1
            self.metadata_offset += 1
            self.wake(log)

        self.call(change)

    def wake(self, log: Log) -> None:
        """Push to every session that reads the log. On the loop."""
        for leader in self.leaders:
            for session in list(leader.sessions.values()):
                if (log.identity.topic_id, log.identity.partition) in session.positions:
                    leader.push(session)

    def restart_leader(self, number: int) -> None:
        """Close the listener with its connections and open it again on another port."""

        async def restart() -> None:
            await self.leaders[number].stop()
            await self.leaders[number].start()
            self.metadata_offset += 1

        self.run(restart)

    def stop_leader(self, number: int) -> None:
        self.run(self.leaders[number].stop)

    def call(self, function: Callable[[], Any]) -> Any:
        """Run a plain function on the loop."""

        async def run() -> Any:
            return function()

        return self.run(run)

    def run(self, make: Callable[[], Any]) -> Any:
        return self._thread.run(make(), timeout_s=TIMEOUT_S)

    # --- on the loop ------------------------------------------------------------------------------

    def find(self, topic_id: str, partition: int) -> Log | None:
        for topic in self.topics.values():
            if topic.topic_id == topic_id and partition < len(topic.logs):
                return topic.logs[partition]
        return None

    def project(self, log: Log, batch: bytearray, columns: list[str] | None) -> Sequence[Any]:
        if columns is None:
            return [batch]
        topic = next(t for t in self.topics.values() if log in t.logs)
        schema = UNTYPED_VALUE_SCHEMA
        if topic.schemas:
            schema = topic.schemas[read_header(batch).schema_id]
        stored = storage_schema(schema)
        wanted = [name for name in columns if name in stored.names]
        return project_batch(batch, stored, wanted, log.identity)

    async def _start(self) -> None:
        for leader in self.leaders:
            await leader.start()
        handlers = {ApiKey.METADATA: self._on_metadata, **self.controller_handlers}
        self._controller = TcpListener(_spec("controller"), handlers)
        endpoint = await self._controller.start()
        self.bootstrap = StaticBootstrap(BootstrapInfo("c1", "scripted", endpoint, SECRET))

    async def _stop(self) -> None:
        for leader in self.leaders:
            await leader.stop()
        if self._controller is not None:
            await self._controller.close()

    def _on_metadata(self, request: MetadataRequest, payload: Any, reply: Reply) -> None:
        self.metadata_requests += 1
        names = list(self.topics) if request.topics is None else request.topics
        reply(
            MetadataResponse(
                "c1", "scripted", self.metadata_offset, [], [self._info(name) for name in names]
            )
        )

    def _info(self, name: str) -> TopicInfo:
        topic = self.topics.get(name)
        if topic is None:
            return TopicInfo(name, error_code=UnknownTopicOrPartitionError.code)
        partitions = []
        for number, log in enumerate(topic.logs):
            leader = self.leaders[log.leader] if log.leader >= 0 else None
            up = leader is not None and leader.listener is not None
            partitions.append(
                PartitionInfo(
                    number,
                    log.leader if up else -1,
                    log.epoch,
                    leader.endpoint.host if leader is not None else "",
                    leader.endpoint.port if up and leader is not None else 0,
                )
            )
        return TopicInfo(
            name,
            topic.topic_id,
            partitions,
            [serialize_schema(schema) for schema in topic.schemas],
            topic.key_column,
        )


def _first_at(log: Log, timestamp: int) -> tuple[int, int]:
    for batch in log.batches:
        header = read_header(batch)
        if header.max_timestamp >= timestamp:
            return header.base_offset, header.max_timestamp
    return -1, -1


def _spec(node: str) -> ListenerSpec:
    return ListenerSpec("127.0.0.1", 0, "c1", node, 1, SECRET)


replace = dataclasses.replace
