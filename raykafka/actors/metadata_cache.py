"""What an actor knows of the cluster beyond its own replicas: topics, their leaders, the brokers.

It is the active controller's METADATA, asked for again and again while somebody needs it and at
once when something turns out to be old. An answer is empty while nothing has changed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from raykafka.actors.timeouts import cancel_all
from raykafka.errors import RaykafkaError
from raykafka.model import Endpoint
from raykafka.protocol.messages import (
    ApiKey,
    BrokerInfo,
    Message,
    MetadataRequest,
    MetadataResponse,
    TopicInfo,
)

logger = logging.getLogger(__name__)

_INTERVAL_S: Final = 1.0
"""Between two questions while somebody watches."""


class CallController(Protocol):
    """Asks the active controller."""

    async def __call__(self, api_key: ApiKey, request: Message, *, timeout_s: float) -> Message:
        """Its answer; raises the error that it reports, or that it cannot be found."""


class MetadataCache:
    """The newest metadata that this actor has; everything on its loop."""

    def __init__(self, call: CallController, *, timeout_s: float = 2.0) -> None:
        self._call = call
        self._timeout_s = timeout_s
        self._refreshing: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._listeners: list[Callable[[], None]] = []
        self.offset = -1
        """``metadata_offset`` of what is known; -1: nothing yet."""
        self.topics: Mapping[str, TopicInfo] = {}
        """By name."""
        self.brokers: Mapping[int, BrokerInfo] = {}
        """By id."""

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` whenever something has changed."""
        self._listeners.append(listener)

    def watch(self) -> None:
        """Keep the view up to date from now on."""
        if self._watching is None:
            self._watching = asyncio.ensure_future(self._watch())

    async def refresh(self) -> None:
        """Ask now; several callers share one question. Raises what the controller raises."""
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.ensure_future(self._refresh())
        await asyncio.shield(self._refreshing)

    async def close(self) -> None:
        """Ask no more."""
        tasks = [task for task in (self._watching, self._refreshing) if task is not None]
        await cancel_all(tasks)

    def leader(self, topic: str, partition: int) -> Endpoint | None:
        """Listener of the partition's leader; None while it, or the partition, is not known."""
        found = self.topics.get(topic)
        if found is None or not 0 <= partition < len(found.partitions):
            return None
        info = found.partitions[partition]
        return Endpoint(info.host, info.port) if info.port else None

    async def _watch(self) -> None:
        while True:
            try:
                await self.refresh()
            except RaykafkaError as error:
                logger.debug("no metadata: %s", error)
            await asyncio.sleep(_INTERVAL_S)

    async def _refresh(self) -> None:
        request = MetadataRequest(known_offset=self.offset)
        answer = await self._call(ApiKey.METADATA, request, timeout_s=self._timeout_s)
        assert isinstance(answer, MetadataResponse)
        if answer.metadata_offset <= self.offset:
            return  # nothing new, or a controller that has yet to catch up
        self.offset = answer.metadata_offset
        self.topics = {topic.name: topic for topic in answer.topics}
        self.brokers = {broker.broker_id: broker for broker in answer.brokers}
        for listener in self._listeners:
            listener()
