"""Group coordinators: requests become commands of the group machine, for ``__consumer_offsets``.

Rules:
- A heartbeat that has nothing new for its member may be held back. What the machine decides for
  another member wakes it, and the machine is asked again: so it is no state that could be lost.
- Offsets of a transaction are accepted once this partition is part of it, so that its end arrives.
- The machine is told of the cluster's topics when it begins to serve and whenever they change.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Iterable
from typing import Final

from raykafka.actors.coordinating.group_parts.answers import (
    described,
    error_of,
    fetched,
    named,
    outcomes,
    places_of,
)
from raykafka.actors.coordinating.group_parts.held import HeldHeartbeats, Wake
from raykafka.actors.coordinating.group_parts.settings import group_settings
from raykafka.actors.coordinating.group_parts.topics import TopicPictures
from raykafka.actors.coordinating.kind import CoordinatorContext, ServiceKind
from raykafka.actors.coordinating.service import HostedService
from raykafka.actors.replicas.verifying import TransactionVerifier
from raykafka.errors import RaykafkaError
from raykafka.group.assignment import Assignment, from_listing
from raykafka.group.commands import (
    CommitOffsets,
    CommitPendingOffsets,
    DeleteGroups,
    DeleteOffsets,
    DescribeGroups,
    EndTransaction,
    FetchOffsets,
    Heartbeat,
    HeartbeatAnswer,
    ListGroups,
    RemoveMembers,
    UpdateTopics,
)
from raykafka.group.machine import GroupMachine
from raykafka.internal_topics import CONSUMER_OFFSETS
from raykafka.protocol.group_messages import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
    DeleteGroupsRequest,
    DeleteGroupsResponse,
    DescribeGroupsRequest,
    DescribeGroupsResponse,
    GroupListing,
    GroupOutcome,
    ListGroupsRequest,
    ListGroupsResponse,
    MemberOutcome,
    OffsetCommitRequest,
    OffsetCommitResponse,
    OffsetDeleteRequest,
    OffsetDeleteResponse,
    OffsetFetchRequest,
    OffsetFetchResponse,
    RemoveMembersRequest,
    RemoveMembersResponse,
    TopicPartitions,
    TxnOffsetCommitRequest,
    TxnOffsetCommitResponse,
)
from raykafka.protocol.messages import ApiKey
from raykafka.protocol.txn_messages import TxnPartition

logger = logging.getLogger(__name__)

_VERIFY_TIMEOUT_S: Final = 5.0
"""For making a partition part of a transaction."""
_PAUSE_S: Final = 0.2
"""Before a machine that could not be told of the topics is told again."""


class GroupCoordinator:
    """Serves the requests of ``__consumer_offsets``; one per partition actor."""

    def __init__(self, context: CoordinatorContext) -> None:
        """Raises ``InvalidConfigError``."""
        self._settings = group_settings(context.config)
        self._view = context.peers.view
        self._verify = TransactionVerifier(context.peers)
        self._pictures = TopicPictures(self._view)
        self._held = HeldHeartbeats()
        self._changed: weakref.WeakKeyDictionary[HostedService, asyncio.Event]
        self._changed = weakref.WeakKeyDictionary()
        """Set when the service's machine has to hear of the topics."""
        self._view.on_change(self._on_change)

    def kind(self) -> ServiceKind:
        """The row of the host's table."""
        return ServiceKind(
            CONSUMER_OFFSETS,
            self._make_machine,
            {
                ApiKey.CONSUMER_GROUP_HEARTBEAT: self.heartbeat,
                ApiKey.OFFSET_COMMIT: self.commit,
                ApiKey.TXN_OFFSET_COMMIT: self.commit_in_transaction,
                ApiKey.OFFSET_FETCH: self.fetch,
                ApiKey.OFFSET_DELETE: self.delete_offsets,
                ApiKey.LIST_GROUPS: self.list_groups,
                ApiKey.DESCRIBE_GROUPS: self.describe_groups,
                ApiKey.DELETE_GROUPS: self.delete_groups,
                ApiKey.REMOVE_MEMBERS: self.remove_members,
            },
            on_loaded=self.on_loaded,
            end_transaction=self.end_transaction,
        )

    # --- members ----------------------------------------------------------------------------------

    async def heartbeat(
        self, service: HostedService, request: ConsumerGroupHeartbeatRequest
    ) -> ConsumerGroupHeartbeatResponse:
        """CONSUMER_GROUP_HEARTBEAT: answered at once, or when there is something to say."""
        command = Heartbeat(
            request.group_id,
            request.member_id,
            request.member_epoch,
            request.instance_id,
            request.client_id,
            request.host,
            request.rack_id,
            request.rebalance_timeout_ms,
            request.subscribed_topics,
            request.subscribed_pattern,
            request.assignor,
            None if request.owned is None else from_listing(request.owned),
            request.share,
        )
        self._held.wake(request.group_id, request.member_id, Wake.OVERTAKEN)
        if request.subscribed_topics:
            await self._look_for(service, ((name, "") for name in request.subscribed_topics))
        answer: HeartbeatAnswer = await service.submit(command)
        quiet = answer.assignment is None and answer.member_epoch == request.member_epoch
        if quiet and request.member_epoch > 0 and request.max_wait_ms > 0:
            why = await self._hold(service, request)
            if why in (Wake.NEWS, Wake.ENDED):
                answer = await service.submit(command._replace(owned=None))
        return ConsumerGroupHeartbeatResponse(
            request.member_id,
            answer.member_epoch,
            answer.heartbeat_interval_ms,
            None if answer.assignment is None else self._listing(answer.assignment),
        )

    async def _hold(self, service: HostedService, request: ConsumerGroupHeartbeatRequest) -> Wake:
        machine: GroupMachine = service.machine
        longest_ms = machine.session_timeout_ms(share=request.share) // 3
        wait_s = min(request.max_wait_ms, longest_ms) / 1000
        end_s = asyncio.get_running_loop().time() + wait_s
        while service.is_active:
            if service.machine.has_news(request.group_id, request.member_id):
                return Wake.NEWS
            left_s = end_s - asyncio.get_running_loop().time()
            why = await self._held.wait(
                service, request.group_id, request.member_id, max(0.0, left_s)
            )
            if why is not Wake.NEWS:
                return why
        return Wake.ENDED

    async def remove_members(
        self, service: HostedService, request: RemoveMembersRequest
    ) -> RemoveMembersResponse:
        """REMOVE_MEMBERS: each of them, or why not."""
        command = RemoveMembers(request.group_id, request.member_ids, request.instance_ids)
        return RemoveMembersResponse(
            [
                MemberOutcome(one.member_id, one.instance_id, *error_of(one.error))
                for one in await service.submit(command)
            ]
        )

    # --- offsets ----------------------------------------------------------------------------------

    async def commit(
        self, service: HostedService, request: OffsetCommitRequest
    ) -> OffsetCommitResponse:
        """OFFSET_COMMIT: one outcome for each partition."""
        await self._look_for(service, ((one.topic, one.topic_id) for one in request.offsets))
        command = CommitOffsets(
            request.group_id,
            request.offsets,
            request.member_id,
            request.member_epoch,
            request.instance_id,
        )
        errors = await service.submit(command)
        return OffsetCommitResponse(
            outcomes(((one.topic, one.partition) for one in request.offsets), errors)
        )

    async def commit_in_transaction(
        self, service: HostedService, request: TxnOffsetCommitRequest
    ) -> TxnOffsetCommitResponse:
        """TXN_OFFSET_COMMIT: this partition becomes part of the transaction first (KIP-890)."""
        replica = service.replica
        place = TxnPartition(replica.topic, replica.partition.topic_id, replica.partition.partition)
        producer = (request.producer_id, request.producer_epoch)
        await self._verify(request.transactional_id, producer, place, _VERIFY_TIMEOUT_S)
        await self._look_for(service, ((one.topic, one.topic_id) for one in request.offsets))
        command = CommitPendingOffsets(
            request.group_id,
            *producer,
            request.offsets,
            request.member_id,
            request.member_epoch,
            request.instance_id,
        )
        errors = await service.submit(command)
        return TxnOffsetCommitResponse(
            outcomes(((one.topic, one.partition) for one in request.offsets), errors)
        )

    async def end_transaction(
        self, service: HostedService, producer_id: int, producer_epoch: int, *, commit: bool
    ) -> None:
        """WRITE_TXN_MARKERS: what a producer has pending here counts, or is forgotten."""
        await service.submit(EndTransaction(producer_id, producer_epoch, commit))

    async def fetch(
        self, service: HostedService, request: OffsetFetchRequest
    ) -> OffsetFetchResponse:
        """OFFSET_FETCH: each partition asked for, or all that there are."""
        command = FetchOffsets(
            request.group_id,
            None if request.topics is None else places_of(request.topics),
            request.member_id,
            request.member_epoch,
            request.require_stable,
        )
        return OffsetFetchResponse([fetched(one) for one in await service.submit(command)])

    async def delete_offsets(
        self, service: HostedService, request: OffsetDeleteRequest
    ) -> OffsetDeleteResponse:
        """OFFSET_DELETE: one outcome for each partition."""
        places = places_of(request.topics)
        errors = await service.submit(DeleteOffsets(request.group_id, places))
        return OffsetDeleteResponse(outcomes(places, errors))

    # --- administration ---------------------------------------------------------------------------

    async def list_groups(
        self, service: HostedService, request: ListGroupsRequest
    ) -> ListGroupsResponse:
        """LIST_GROUPS: those of this partition."""
        found = await service.submit(ListGroups(request.states, request.types))
        return ListGroupsResponse([GroupListing(*one) for one in found])

    async def describe_groups(
        self, service: HostedService, request: DescribeGroupsRequest
    ) -> DescribeGroupsResponse:
        """DESCRIBE_GROUPS: each, or why there is nothing to say of it."""
        found = await service.submit(DescribeGroups(request.group_ids))
        pairs = zip(request.group_ids, found, strict=True)
        return DescribeGroupsResponse([described(name, one) for name, one in pairs])

    async def delete_groups(
        self, service: HostedService, request: DeleteGroupsRequest
    ) -> DeleteGroupsResponse:
        """DELETE_GROUPS: each, or why not."""
        errors = await service.submit(DeleteGroups(request.group_ids))
        pairs = zip(request.group_ids, errors, strict=True)
        return DeleteGroupsResponse([GroupOutcome(name, *error_of(error)) for name, error in pairs])

    # --- topics -----------------------------------------------------------------------------------

    def on_loaded(self, service: HostedService) -> None:
        """Tell the machine of the topics, now and as long as the service lasts."""
        event = self._changed.get(service)
        if event is not None:  # the machine has been rebuilt: who was held back asks again
            self._held.wake_all(service)
            event.set()
            return
        event = self._changed[service] = asyncio.Event()
        event.set()
        service.spawn(self._tell_topics(service, event))

    def _on_change(self) -> None:
        for event in list(self._changed.values()):
            event.set()

    async def _tell_topics(self, service: HostedService, event: asyncio.Event) -> None:
        try:
            await self._refresh()
            while True:
                await event.wait()
                event.clear()
                await self._tell_once(service, event)
        finally:
            self._held.wake_all(service)

    async def _refresh(self) -> None:
        """What is known may be older than what the coordinator before knew."""
        try:
            await self._view.refresh()
        except RaykafkaError as error:
            logger.debug("no metadata for the groups yet: %s", error)

    async def _tell_once(self, service: HostedService, event: asyncio.Event) -> None:
        picture = self._pictures.newest()
        if picture is None:
            return
        try:
            await service.submit(UpdateTopics(picture))
        except RaykafkaError as error:
            logger.debug("%s: has yet to hear of the topics: %s", service.name, error)
            await asyncio.sleep(_PAUSE_S)
            event.set()

    async def _look_for(self, service: HostedService, topics: Iterable[tuple[str, str]]) -> None:
        """Topics that were just made are found, which the watching would take a second for.

        ``topics`` are names and ids, empty text for an unknown id.
        """
        known = self._pictures.newest() or {}
        for name, topic_id in topics:
            view = known.get(name)
            if view is None or topic_id not in ("", view.topic_id):
                await self._refresh()
                picture = self._pictures.newest()
                if picture is not None:
                    await service.submit(UpdateTopics(picture))
                return

    def _make_machine(self) -> GroupMachine:
        return GroupMachine(
            self._settings,
            on_news=lambda group_id, member_id: self._held.wake(group_id, member_id, Wake.NEWS),
            on_problem=logger.error,
        )

    def _listing(self, assignment: Assignment) -> list[TopicPartitions]:
        names = {topic.topic_id: name for name, topic in (self._pictures.newest() or {}).items()}
        return named(assignment, names)


def groups(context: CoordinatorContext) -> ServiceKind:
    """Group coordinators, with the broker's settings; raises ``InvalidConfigError``."""
    return GroupCoordinator(context).kind()
