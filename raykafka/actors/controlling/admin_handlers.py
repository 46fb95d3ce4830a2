"""Requests that the controller serves: from the wire to commands of the machine and back.

A change is answered when it is durable and the actors concerned have taken it over, so that what a
client does next finds it; or after a bound, with what is known, and the actors follow on their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from raykafka.actors.controlling.coordinator_topics import CoordinatorTopics
from raykafka.actors.controlling.keeper import ClusterContext
from raykafka.actors.controlling.metadata_view import MetadataView, broker_infos
from raykafka.actors.controlling.reconcile import Reconciler
from raykafka.actors.controlling.schema_rules import checked_schema, evolved_schema
from raykafka.actors.ports import Handler
from raykafka.actors.requests import RequestTasks, immediate
from raykafka.controller.commands import (
    AddSchema,
    AllocateProducerIds,
    AlterConfigs,
    CreatePartitions,
    CreateTopics,
    DeleteTopics,
    PartitionsToCreate,
    ResourceToAlter,
    SettingChange,
    TopicAnswer,
    TopicToCreate,
)
from raykafka.controller.configs import describe_configs
from raykafka.controller.image import MetadataImage
from raykafka.controller.producer_ids import next_epoch
from raykafka.controller.topics import unknown_topic
from raykafka.errors import (
    InvalidReplicaAssignmentError,
    InvalidUpdateVersionError,
    RaykafkaError,
    UnsupportedSchemaChangeError,
)
from raykafka.model import TopicId
from raykafka.protocol import messages
from raykafka.protocol.messages import ApiKey

APPLY_TIMEOUT_S: Final = 15.0
"""How long an answer waits for the actors to take a change over."""
BROKER_TIMEOUT_S: Final = 15.0
"""How long a new topic waits for the first broker, as right after the cluster's start."""
_SCHEMA_ATTEMPTS: Final = 10
_PRODUCER_ID_BLOCK: Final = 1000
_ID_BYTES: Final = 16


class AdminHandlers:
    """One method per api."""

    def __init__(self, context: ClusterContext, reconciler: Reconciler, view: MetadataView) -> None:
        self._shell = context.shell
        self._settings = context.settings
        self._random_bytes = context.environment.random_bytes
        self._reconciler = reconciler
        self._view = view
        self._producer_ids = range(0)
        """Durably this controller's, and not handed out yet."""
        self._allocating = asyncio.Lock()
        self._coordinators = CoordinatorTopics(context, self.create)

    def table(self, requests: RequestTasks) -> Mapping[ApiKey, Handler]:
        """The handlers by api, for a listener."""
        return {
            ApiKey.METADATA: immediate(self.metadata),
            ApiKey.CREATE_TOPICS: requests.handler(self.create_topics),
            ApiKey.DELETE_TOPICS: requests.handler(self.delete_topics),
            ApiKey.CREATE_PARTITIONS: requests.handler(self.create_partitions),
            ApiKey.ADD_COLUMNS: requests.handler(self.add_columns),
            ApiKey.DESCRIBE_CONFIGS: immediate(self.describe_configs),
            ApiKey.ALTER_CONFIGS: requests.handler(self.alter_configs),
            ApiKey.INIT_PRODUCER_ID: requests.handler(self.init_producer_id),
            ApiKey.FIND_COORDINATOR: requests.handler(self._coordinators.find),
        }

    def metadata(self, request: messages.MetadataRequest) -> messages.MetadataResponse:
        """Answered from the durable image alone."""
        image, offset = self._shell.view, self._shell.view_offset
        if offset == request.known_offset:
            return messages.MetadataResponse(
                image.cluster_id, image.cluster_name, offset, brokers=[], topics=[]
            )
        return messages.MetadataResponse(
            cluster_id=image.cluster_id,
            cluster_name=image.cluster_name,
            metadata_offset=offset,
            brokers=broker_infos(image),
            topics=self._view.topics(image, request.topics),
        )

    async def create_topics(
        self, request: messages.CreateTopicsRequest
    ) -> messages.CreateTopicsResponse:
        """Answered when a producer may write to the new topics at once."""
        refused: dict[int, TopicAnswer] = {}
        accepted: list[TopicToCreate] = []
        for position, topic in enumerate(request.topics):
            try:
                schema = checked_schema(topic)
                assignments = _assignments(topic)
            except RaykafkaError as error:
                refused[position] = TopicAnswer(topic.name, error=error)
                continue
            accepted.append(
                TopicToCreate(
                    topic.name,
                    TopicId(self._random_bytes(_ID_BYTES).hex()),
                    topic.num_partitions,
                    topic.replication_factor,
                    topic.configs,
                    schema,
                    assignments,
                )
            )
        answers = await self.create(accepted, validate_only=request.validate_only)
        for position, answer in sorted(refused.items()):
            answers.insert(position, answer)
        return messages.CreateTopicsResponse(_topic_results(answers))

    async def create(
        self, topics: Sequence[TopicToCreate], *, validate_only: bool = False
    ) -> list[TopicAnswer]:
        """Returns when they are online, or after a bound."""
        if topics:
            await self._wait_until_creatable({topic.name for topic in topics})
        answers = list(await self._shell.submit(CreateTopics(topics, validate_only)))
        if not validate_only:
            await self._wait_until_online(answers)
        return answers

    async def delete_topics(
        self, request: messages.DeleteTopicsRequest
    ) -> messages.DeleteTopicsResponse:
        """Answered when the topics' files are gone, and their names free again."""
        answers: list[TopicAnswer] = await self._shell.submit(DeleteTopics(request.names))
        deleted = {answer.topic_id for answer in answers if answer.error is None}

        def are_removed(image: MetadataImage) -> bool:
            return not any(partition.topic_id in deleted for partition in image.removals)

        await self._shell.wait_for(are_removed, APPLY_TIMEOUT_S)
        return messages.DeleteTopicsResponse(_topic_results(answers))

    async def create_partitions(
        self, request: messages.CreatePartitionsRequest
    ) -> messages.CreatePartitionsResponse:
        """Answered when a producer may write to the new partitions at once."""
        wanted = [
            PartitionsToCreate(topic.name, topic.total_count, topic.new_assignments)
            for topic in request.topics
        ]
        command = CreatePartitions(wanted, request.validate_only)
        answers: list[TopicAnswer] = await self._shell.submit(command)
        if not request.validate_only:
            await self._wait_until_online(answers)
        return messages.CreatePartitionsResponse(_topic_results(answers))

    async def add_columns(self, request: messages.AddColumnsRequest) -> messages.AddColumnsResponse:
        """Answered when the leaders accept records of the new schema."""
        for _ in range(_SCHEMA_ATTEMPTS):
            topic = self._shell.view.topic(request.topic)
            if topic is None:
                raise unknown_topic(request.topic)
            if not topic.schemas:
                raise UnsupportedSchemaChangeError(
                    f"topic {request.topic!r} is untyped, it has no columns to add to; create a"
                    " topic with a schema"
                )
            schema = evolved_schema(topic.schemas[-1], request.schema)
            command = AddSchema(request.topic, len(topic.schemas), schema)
            try:
                schema_id: int = await self._shell.submit(command)
            except InvalidUpdateVersionError:
                # Someone else was faster: add to what they made of it, once it is durable.
                await self._wait_for_schema(request.topic, len(topic.schemas))
                continue
            await self._reconciler.wait_settled([topic.topic_id], APPLY_TIMEOUT_S)
            return messages.AddColumnsResponse(schema_id)
        raise InvalidUpdateVersionError(
            f"the schema of topic {request.topic!r} keeps changing; try again"
        )

    def describe_configs(
        self, request: messages.DescribeConfigsRequest
    ) -> messages.DescribeConfigsResponse:
        """Every setting of each resource, with its source."""
        return messages.DescribeConfigsResponse(
            [self._describe(resource) for resource in request.resources]
        )

    async def alter_configs(
        self, request: messages.AlterConfigsRequest
    ) -> messages.AlterConfigsResponse:
        """Answered when the running actors know the new settings."""
        resources = [
            ResourceToAlter(
                altered.resource.type,
                altered.resource.name,
                [SettingChange(change.name, change.value, change.op) for change in altered.changes],
            )
            for altered in request.resources
        ]
        command = AlterConfigs(resources, request.validate_only)
        errors: list[RaykafkaError | None] = await self._shell.submit(command)
        if not request.validate_only:
            await self._reconciler.wait_settled(self._concerned(resources, errors), APPLY_TIMEOUT_S)
        return messages.AlterConfigsResponse(
            [
                messages.AlteredResource(
                    altered.resource,
                    error_code=0 if error is None else error.code,
                    error_message="" if error is None else error.message,
                )
                for altered, error in zip(request.resources, errors, strict=True)
            ]
        )

    async def init_producer_id(
        self, request: messages.InitProducerIdRequest
    ) -> messages.InitProducerIdResponse:
        """A producer id that no other producer has ever had, or the next epoch of one."""
        if request.producer_id >= 0:
            known = next_epoch(self._shell.view, request.producer_id, request.producer_epoch)
            if known is not None:
                return messages.InitProducerIdResponse(known.producer_id, known.producer_epoch)
        return messages.InitProducerIdResponse(await self._next_producer_id(), 0)

    # --- inside -----------------------------------------------------------------------------------

    async def _next_producer_id(self) -> int:
        async with self._allocating:
            if not self._producer_ids:
                command = AllocateProducerIds(_PRODUCER_ID_BLOCK)
                first: int = await self._shell.submit(command)
                self._producer_ids = range(first, first + _PRODUCER_ID_BLOCK)
            producer_id, self._producer_ids = self._producer_ids[0], self._producer_ids[1:]
            return producer_id

    async def _wait_until_creatable(self, names: set[str]) -> None:
        """A cluster that has just started gets its broker, a deleted topic leaves, in a moment."""

        def is_creatable(image: MetadataImage) -> bool:
            deleting = any(removal.topic in names for removal in image.removals.values())
            return bool(image.live_brokers()) and not deleting

        await self._shell.wait_for(is_creatable, BROKER_TIMEOUT_S)

    async def _wait_for_schema(self, name: str, schema_id: int) -> None:
        def is_there(image: MetadataImage) -> bool:
            topic = image.topic(name)
            return topic is None or len(topic.schemas) > schema_id

        await self._shell.wait_for(is_there, APPLY_TIMEOUT_S)

    async def _wait_until_online(self, answers: Sequence[TopicAnswer]) -> None:
        created = [TopicId(answer.topic_id) for answer in answers if answer.error is None]

        def are_online(image: MetadataImage) -> bool:
            return all(
                partition.online and image.leader_actor(partition) is not None
                for topic_id in created
                if topic_id in image.topics
                for partition in image.topics[topic_id].partitions
            )

        await self._shell.wait_for(are_online, APPLY_TIMEOUT_S)

    def _concerned(
        self, resources: Sequence[ResourceToAlter], errors: Sequence[RaykafkaError | None]
    ) -> Iterable[TopicId]:
        """Topics whose replicas have to be told; a broker's settings concern all of them."""
        image = self._shell.view
        altered = [r for r, error in zip(resources, errors, strict=True) if error is None]
        if any(resource.type == "broker" for resource in altered):
            return list(image.topics)
        return [image.topic_ids[r.name] for r in altered if r.name in image.topic_ids]

    def _describe(self, resource: messages.ConfigResource) -> messages.DescribedConfigs:
        try:
            found = describe_configs(self._shell.view, self._settings, resource.type, resource.name)
        except RaykafkaError as error:
            return messages.DescribedConfigs(
                resource, error_code=error.code, error_message=error.message
            )
        return messages.DescribedConfigs(
            resource,
            [
                messages.ConfigEntry(
                    setting.name,
                    setting.value,
                    setting.source,
                    setting.read_only,
                    setting.documentation,
                )
                for setting in found
            ],
        )


def _assignments(topic: messages.NewTopic) -> list[list[int]]:
    """Replicas in order of partitions, which must be numbered from 0 without gaps."""
    given = topic.replica_assignments
    if sorted(given) != list(range(len(given))):
        raise InvalidReplicaAssignmentError(
            f"topic {topic.name!r}: partitions are numbered from 0 without gaps, replicas were"
            f" assigned to {sorted(given)}"
        )
    return [given[partition] for partition in range(len(given))]


def _topic_results(answers: Sequence[TopicAnswer]) -> list[messages.TopicResult]:
    return [
        messages.TopicResult(
            answer.name,
            answer.topic_id,
            answer.num_partitions,
            0 if answer.error is None else answer.error.code,
            "" if answer.error is None else answer.error.message,
        )
        for answer in answers
    ]
