"""``CoordinatorHost``: the coordinators of one partition actor, and the way of requests to them.

A replica of an internal topic that begins to lead gets a service, which ends when it leads no more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from raykafka.actors.coordinating.kind import AnswerRequest, ServiceKind
from raykafka.actors.coordinating.service import HostedService
from raykafka.actors.peers import Peers
from raykafka.actors.ports import Handler
from raykafka.actors.replicas.lease import Lease
from raykafka.actors.replicas.own_appends import OwnAppends
from raykafka.actors.replicas.replica import Replica
from raykafka.actors.requests import RequestTasks
from raykafka.actors.timeouts import cancel_all
from raykafka.clock import Clock
from raykafka.errors import InvalidTxnStateError, NotCoordinatorError, RaykafkaError
from raykafka.protocol.messages import ApiKey, Message

logger = logging.getLogger(__name__)

MAX_PARKED_REQUESTS: Final = 20_000
"""Requests to coordinators that one actor lets wait at a time."""
_TICK_S: Final = 0.2


class CoordinatorHost:
    """See the module's docstring; ``outlets.Leadership`` of the actor's replicas."""

    def __init__(
        self,
        kinds: Sequence[ServiceKind],
        appends: OwnAppends,
        lease: Lease,
        clock: Clock,
        peers: Peers,
    ) -> None:
        self._kinds = {kind.topic: kind for kind in kinds}
        self._appends = appends
        self._lease = lease
        self._clock = clock
        self._peers = peers
        self._requests = RequestTasks(MAX_PARKED_REQUESTS)
        self._services: dict[tuple[str, int], HostedService] = {}
        self._ended: set[asyncio.Task[None]] = set()
        self._ticking: asyncio.Task[None] | None = None
        self._closed = False

    def handlers(self) -> Mapping[ApiKey, Handler]:
        """What the listener serves for every kind."""
        return {
            api_key: self._requests.handler(self._routed(kind.topic, answer))
            for kind in self._kinds.values()
            for api_key, answer in kind.handlers.items()
        }

    def find(self, topic: str, partition: int) -> HostedService:
        """The service of a partition; raises ``NotCoordinatorError`` where it is not led here."""
        service = self._services.get((topic, partition))
        if service is None:
            raise NotCoordinatorError(
                f"{topic}-{partition} is not led here; refresh the metadata and ask its leader"
            )
        return service

    async def end_transaction(
        self, topic: str, partition: int, producer_id: int, producer_epoch: int, *, commit: bool
    ) -> None:
        """What WRITE_TXN_MARKERS asks of a partition whose coordinator takes part in transactions.

        Raises what ``find`` and ``HostedService.submit`` raise.
        """
        kind = self._kinds.get(topic)
        if kind is None or kind.end_transaction is None:
            raise InvalidTxnStateError(f"{topic} takes no part in transactions")
        service = self.find(topic, partition)
        await kind.end_transaction(service, producer_id, producer_epoch, commit=commit)

    def led(self, replica: Replica) -> None:
        """The replica leads in a new epoch."""
        kind = self._kinds.get(replica.topic)
        if kind is None or self._closed:
            return
        self.unled(replica)
        service = HostedService(
            replica, kind.make_machine, self._appends, self._lease, self._clock, kind.on_loaded
        )
        self._services[replica.topic, replica.partition.partition] = service
        service.start()
        self._peers.view.watch()
        if self._ticking is None:
            self._ticking = asyncio.ensure_future(self._tick())

    def unled(self, replica: Replica) -> None:
        """The replica leads no more, or the topic has been deleted."""
        place = (replica.topic, replica.partition.partition)
        service = self._services.get(place)
        if service is None or service.replica.partition != replica.partition:
            return
        del self._services[place]
        service.resign()
        task = asyncio.ensure_future(service.close())
        self._ended.add(task)
        task.add_done_callback(self._ended.discard)

    async def close(self) -> None:
        """End every service; whoever waits hears ``NotCoordinatorError``."""
        self._closed = True
        for service in list(self._services.values()):
            self.unled(service.replica)
        if self._ticking is not None:
            await cancel_all([self._ticking])
        while self._ended:
            await asyncio.wait(set(self._ended))
        await self._requests.close()

    # --- inside -----------------------------------------------------------------------------------

    def _routed(self, topic: str, answer: AnswerRequest) -> Callable[[Any], Any]:
        async def serve(request: Any) -> Message:
            return await answer(self.find(topic, request.partition), request)

        return serve

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            for (topic, _), service in list(self._services.items()):
                if service.is_active:
                    service.spawn(self._tick_one(self._kinds[topic], service))

    async def _tick_one(self, kind: ServiceKind, service: HostedService) -> None:
        try:
            answer = await service.tick()
        except RaykafkaError as error:
            logger.debug("%s: %s", service.name, error)
            return
        if answer is not None and service.is_active:
            kind.on_ticked(service, answer)
