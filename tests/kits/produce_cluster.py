"""A scripted cluster that also takes records: real batches, real sequence rules, faults on command.

A fault decides over one produce request: it may append or not, answer, answer with an error, stay
silent or cut the connection. Requests without one are served as a leader serves them.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from raykafka.actors.ports import Reply
from raykafka.client.cluster.bootstrap import BootstrapInfo, StaticBootstrap
from raykafka.errors import (
    InvalidProducerEpochError,
    MessageTooLargeError,
    RaykafkaError,
    UnknownSchemaVersionError,
    UnknownTopicIdError,
)
from raykafka.log.batch import decode_batch, read_header, stamp, validate_batch, verify
from raykafka.log.producers import ProducerStates
from raykafka.log.schema import UNTYPED_SCHEMA, storage_schema
from raykafka.model import PartitionId
from raykafka.network.server import TcpListener
from raykafka.protocol.messages import (
    ApiKey,
    InitProducerIdRequest,
    InitProducerIdResponse,
    ProduceRequest,
    ProduceResponse,
    TopicInfo,
)
from tests.kits.scripted_cluster import SECRET, Leader, Log, ScriptedCluster, Topic, _spec

Serve = Callable[[], ProduceResponse]
Fault = Callable[[Serve, Reply], None]


def answer(error: RaykafkaError) -> Fault:
    """Refuse without appending."""

    def fault(serve: Serve, reply: Reply) -> None:
        raise error

    return fault


def append_and_answer(error: RaykafkaError) -> Fault:
    """Append, and claim that it failed."""

    def fault(serve: Serve, reply: Reply) -> None:
        serve()
        raise error

    return fault


def cut(serve: Serve, reply: Reply) -> None:
    """Break the connection before anything was appended."""
    reply.connection.abort()  # type: ignore[attr-defined]


def append_and_cut(serve: Serve, reply: Reply) -> None:
    """Append and break the connection: the acknowledgement is lost."""
    serve()
    reply.connection.abort()  # type: ignore[attr-defined]


def append_silently(serve: Serve, reply: Reply) -> None:
    """Append and never answer."""
    serve()


def ignore(serve: Serve, reply: Reply) -> None:
    """Neither append nor answer."""


class ProducingLeader(Leader):
    """A leader that appends to its logs."""

    cluster: ProduceCluster

    async def start(self) -> None:
        handlers = {
            ApiKey.FETCH: self.on_fetch,
            ApiKey.FETCH_CREDIT: self.on_credit,
            ApiKey.LIST_OFFSETS: self.on_list_offsets,
            ApiKey.PRODUCE: self.on_produce,
            **self.cluster.leader_handlers(self.number),
        }
        self.listener = TcpListener(_spec(f"leader-{self.number}"), handlers)
        self.endpoint = await self.listener.start()

    def on_produce(self, request: ProduceRequest, payload: Any, reply: Reply) -> None:
        cluster = self.cluster
        header = read_header(payload)
        cluster.produces.append((request, header))

        def serve() -> ProduceResponse:
            return cluster.append_produced(self.number, request, payload)

        fault = cluster.faults.popleft() if cluster.faults else None
        if fault is None and cluster.rule is not None:
            fault = cluster.rule(request, header)
        if fault is not None:
            fault(serve, reply)
            return
        if cluster.silent:
            cluster.held.append((serve, reply, request))
            return
        response = serve()
        if request.acks:
            reply(response)


class ProduceCluster(ScriptedCluster):
    """``with ProduceCluster() as cluster: Producer(cluster.bootstrap)``."""

    leaders: list[ProducingLeader]  # type: ignore[assignment]

    def __init__(self, leaders: int = 1) -> None:
        super().__init__(0)
        self.leaders = [ProducingLeader(self, number) for number in range(leaders)]
        self.states: dict[PartitionId, ProducerStates] = {}
        self.produces: list[tuple[ProduceRequest, Any]] = []
        """Every produce request with the header of its batch."""
        self.faults: deque[Fault | None] = deque()
        """One per request, None for a good one; when it is used up all are good."""
        self.rule: Callable[[ProduceRequest, Any], Fault | None] | None = None
        """Asked for each request that no entry of ``faults`` decides."""
        self.silent = False
        """Keep requests, in order, until ``release``."""
        self.held: list[tuple[Serve, Reply, ProduceRequest]] = []
        self.max_message_bytes = 8 << 20
        self.compression = "producer"
        self.append_time_ms = -1
        """0 or more: the topics use LogAppendTime, and this is the time."""
        self.next_producer_id = 1000
        self.epochs: dict[int, int] = {}
        self.id_requests: list[InitProducerIdRequest] = []

    # --- what tests look at -----------------------------------------------------------------------

    def records(self, topic: Topic, partition: int | None = None) -> list[Any]:
        """Values of a topic in the order of partitions and offsets; dicts for a typed one."""
        found: list[Any] = []
        for log in topic.logs if partition is None else [topic.logs[partition]]:
            found.extend(row.get("value") if not topic.schemas else row for row in self.rows(log))
        return found

    def rows(self, log: Log) -> list[dict[str, Any]]:
        """Rows of one log with all columns."""
        return [
            row for message in list(log.batches) for row in self.batch(log, message).to_pylist()
        ]

    def batch(self, log: Log, message: bytearray) -> pa.RecordBatch:
        header = verify(message, log.identity)
        return decode_batch(message, self._schema(log.identity, header.schema_id))

    def headers(self, topic: Topic, partition: int = 0) -> list[Any]:
        """Headers of the batches of one log."""
        return [read_header(message) for message in topic.logs[partition].batches]

    def release(self) -> None:
        """Serve what was kept while ``silent``, and be silent no more."""

        def serve_all() -> None:
            self.silent = False
            held, self.held = self.held, []
            for serve, reply, request in held:
                try:
                    response = serve()
                except RaykafkaError as error:
                    reply(ProduceResponse(error_code=error.code, error_message=str(error)))
                else:
                    if request.acks:
                        reply(response)

        self.call(serve_all)

    def forget_producers(self) -> None:
        """As after the expiry of their state."""
        self.call(self.states.clear)

    def change_topics(self) -> None:
        """Make the next metadata newer; for tests that changed a topic themselves."""

        def change() -> None:
            self.metadata_offset += 1

        self.call(change)

    # --- on the loop ------------------------------------------------------------------------------

    def append_produced(
        self, number: int, request: ProduceRequest, payload: Any
    ) -> ProduceResponse:
        log = self.find(request.topic_id, request.partition)
        if log is None:
            raise UnknownTopicIdError("no such topic")
        if log.leader != number:
            raise self.not_leader("this server does not lead the partition")
        if request.leader_epoch < log.epoch:
            raise self.fenced(f"epoch {request.leader_epoch} is older than {log.epoch}")
        if len(payload) > self.max_message_bytes:
            raise MessageTooLargeError(f"more than {self.max_message_bytes} bytes")
        header = verify(payload, log.identity)
        topic = next(topic for topic in self.topics.values() if log in topic.logs)
        if topic.schemas and header.schema_id < len(topic.schemas) - 1:
            raise UnknownSchemaVersionError("the topic has a newer schema")
        validate_batch(payload, self._schema(log.identity, header.schema_id))
        states = self.states.setdefault(log.identity, ProducerStates())
        seen = states.check(header)
        if seen is not None:
            return ProduceResponse(seen.base_offset, seen.append_time_ms, 0, duplicate=True)
        message = bytearray(payload)
        base = log.end
        stamp(
            message,
            base_offset=base,
            leader_epoch=log.epoch,
            append_time_ms=self.append_time_ms,
            log_append_time=self.append_time_ms >= 0,
        )
        log.batches.append(message)
        states.append(read_header(message))
        self.wake(log)
        return ProduceResponse(base, self.append_time_ms, 0)

    def _schema(self, identity: PartitionId, schema_id: int) -> pa.Schema:
        topic = next(t for t in self.topics.values() if t.topic_id == identity.topic_id)
        return storage_schema(topic.schemas[schema_id]) if topic.schemas else UNTYPED_SCHEMA

    def _info(self, name: str) -> TopicInfo:
        info = super()._info(name)
        if info.error_code:
            return info
        return replace_info(info, self.compression, self.max_message_bytes)

    def _on_ids(self, request: InitProducerIdRequest, payload: Any, reply: Reply) -> None:
        self.id_requests.append(request)
        if request.producer_id < 0:
            producer_id, epoch = self.next_producer_id, 0
            self.next_producer_id += 1
        else:
            producer_id, epoch = request.producer_id, request.producer_epoch + 1
            if self.epochs.get(producer_id) != request.producer_epoch:
                raise InvalidProducerEpochError("not the newest epoch")
        self.epochs[producer_id] = epoch
        reply(InitProducerIdResponse(producer_id, epoch))

    async def _start(self) -> None:
        for leader in self.leaders:
            await leader.start()
        handlers = {
            ApiKey.METADATA: self._on_metadata,
            ApiKey.INIT_PRODUCER_ID: self._on_ids,
            **self.controller_handlers,
        }
        self._controller = TcpListener(_spec("controller"), handlers)
        endpoint = await self._controller.start()
        self.bootstrap = StaticBootstrap(BootstrapInfo("c1", "scripted", endpoint, SECRET))


def replace_info(info: TopicInfo, compression: str, max_message_bytes: int) -> TopicInfo:
    """The same with what the scripted cluster does not know."""
    return TopicInfo(
        info.name,
        info.topic_id,
        info.partitions,
        info.schemas,
        info.key_column,
        compression,
        max_message_bytes,
    )


def counts(values: list[Any]) -> Counter[Any]:
    """How often each value appears."""
    return Counter(values)
