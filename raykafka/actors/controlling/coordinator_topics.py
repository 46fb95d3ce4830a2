"""Creates the topics of coordinators when somebody first needs them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from raykafka.actors.controlling.keeper import ClusterContext
from raykafka.config.coordinators import CoordinatorConfig
from raykafka.controller.commands import TopicAnswer, TopicToCreate
from raykafka.controller.image import TopicState
from raykafka.errors import (
    CoordinatorNotAvailableError,
    InvalidRequestError,
    TopicAlreadyExistsError,
)
from raykafka.internal_topics import (
    CONSUMER_OFFSETS,
    INTERNAL_TOPICS,
    SHARE_GROUP_STATE,
    TRANSACTION_STATE,
)
from raykafka.model import TopicId
from raykafka.protocol.group_messages import FindCoordinatorRequest, FindCoordinatorResponse

CreateTopics = Callable[[Sequence[TopicToCreate]], Awaitable[list[TopicAnswer]]]

_ID_BYTES: Final = 16
_COPIES_FOR_MIN_ISR: Final = 3
"""From so many copies on two must be in sync."""


class CoordinatorTopics:
    """Serves FIND_COORDINATOR."""

    def __init__(self, context: ClusterContext, create: CreateTopics) -> None:
        self._shell = context.shell
        self._settings = context.settings
        self._random_bytes = context.environment.random_bytes
        self._create = create

    async def find(self, request: FindCoordinatorRequest) -> FindCoordinatorResponse:
        """The topic, made if it is not there; its partitions' leaders are in the metadata.

        Raises ``InvalidRequestError`` for any other topic, ``CoordinatorNotAvailableError`` while
        it cannot be made.
        """
        if request.topic not in INTERNAL_TOPICS:
            raise InvalidRequestError(
                f"{request.topic!r} is not a topic of coordinators; those are"
                f" {', '.join(sorted(INTERNAL_TOPICS))}"
            )
        topic = self._shell.view.topic(request.topic)
        if topic is None:
            topic = await self._make(request.topic)
        return FindCoordinatorResponse(topic.name, topic.topic_id, len(topic.partitions))

    async def _make(self, name: str) -> TopicState:
        image = self._shell.view
        partitions, copies = _size(self._settings.broker(image).coordinators, name)
        copies = max(1, min(copies, len(image.placeable_brokers())))
        new = TopicToCreate(
            name,
            TopicId(self._random_bytes(_ID_BYTES).hex()),
            partitions,
            copies,
            {
                "retention.ms": "-1",
                "retention.bytes": "-1",
                "min.insync.replicas": "2" if copies >= _COPIES_FOR_MIN_ISR else "1",
                "unclean.leader.election.enable": "false",
            },
            internal=True,
        )
        [made] = await self._create([new])
        if made.error is not None and not isinstance(made.error, TopicAlreadyExistsError):
            raise CoordinatorNotAvailableError(
                f"{name} cannot be created yet: {made.error.message}"
            )
        topic = self._shell.view.topic(name)
        if topic is None:
            raise CoordinatorNotAvailableError(f"{name} is being created; try again")
        return topic


def _size(config: CoordinatorConfig, name: str) -> tuple[int, int]:
    sizes = {
        CONSUMER_OFFSETS: (
            config.offsets_topic_num_partitions,
            config.offsets_topic_replication_factor,
        ),
        TRANSACTION_STATE: (
            config.transaction_state_log_num_partitions,
            config.transaction_state_log_replication_factor,
        ),
        SHARE_GROUP_STATE: (
            config.share_coordinator_state_topic_num_partitions,
            config.share_coordinator_state_topic_replication_factor,
        ),
    }
    return sizes[name]
