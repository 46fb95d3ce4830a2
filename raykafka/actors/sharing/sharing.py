"""Serves SHARE_FETCH and SHARE_ACKNOWLEDGE for the partitions that an actor leads.

Rules: an acknowledgement is answered when the share coordinator has it; records are a member's for
as long as its lease lasts and the connection over which it got them, whichever ends first; fetches
that wait take turns.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, Final

from raykafka.actors.peers import Peers
from raykafka.actors.ports import Buffer, Handler, Reply
from raykafka.actors.replicas.fetch import MAX_BYTES_PER_FETCH, MAX_PARTITIONS_PER_FETCH
from raykafka.actors.replicas.reading import PartitionReader
from raykafka.actors.replicas.replica_set import ReplicaSet
from raykafka.actors.sharing.collecting import Collected, collect, read_request
from raykafka.actors.sharing.registry import Errors, Member, ShareRegistry
from raykafka.actors.sharing.shared_partition import SharedPartition
from raykafka.actors.timeouts import cancel_all
from raykafka.clock import Clock
from raykafka.config.share_group import ShareDefaults
from raykafka.errors import (
    InvalidGroupIdError,
    InvalidRequestError,
    RaykafkaError,
    ServerBusyError,
    UnknownServerError,
)
from raykafka.protocol.messages import ApiKey, ErrorResponse, Message
from raykafka.protocol.share_messages import (
    AcknowledgementBatch,
    AcquiredRecords,
    ShareAcknowledgedPartition,
    ShareAcknowledgeRequest,
    ShareAcknowledgeResponse,
    ShareFetchedPartition,
    ShareFetchRequest,
    ShareFetchResponse,
)

logger = logging.getLogger(__name__)

MAX_REQUESTS: Final = 10_000
"""Requests of share consumers that one actor works on or lets wait."""


Serve = Callable[[Any, Member, Reply], Coroutine[Any, Any, None]]
"""Serves one request of a member."""


class _Look:
    """A fetch that waits: ``woken`` is set when it may be served."""

    def __init__(self) -> None:
        self.woken = asyncio.Event()

    def wake(self) -> None:
        """See ``Waiting``."""
        self.woken.set()


class Sharing:
    """Every share partition of one actor; everything on its loop."""

    def __init__(
        self,
        replicas: ReplicaSet,
        reader: PartitionReader,
        peers: Peers,
        clock: Clock,
        defaults: ShareDefaults,
    ) -> None:
        self._reader = reader
        self._clock = clock
        self._registry = ShareRegistry(replicas, peers, clock, defaults)
        self._states = self._registry.states
        self._requests: set[asyncio.Task[None]] = set()

    def handlers(self) -> Mapping[ApiKey, Handler]:
        """What the listener serves."""
        return {
            ApiKey.SHARE_FETCH: self.handle_fetch,
            ApiKey.SHARE_ACKNOWLEDGE: self.handle_acknowledge,
        }

    async def close(self) -> None:
        """Serve nobody any more; what was not written yet is not answered."""
        await cancel_all(list(self._requests))
        await self._registry.close()

    def handle_fetch(self, request: ShareFetchRequest, payload: Any, reply: Reply) -> None:
        """SHARE_FETCH. Raises ``InvalidRequestError``, ``ServerBusyError``."""
        _check(request.group_id, request.partitions)
        if request.max_records < 1:
            raise InvalidRequestError(f"max_records is at least 1, not {request.max_records}")
        self._serve(self._fetch, request, reply)

    def handle_acknowledge(
        self, request: ShareAcknowledgeRequest, payload: Any, reply: Reply
    ) -> None:
        """SHARE_ACKNOWLEDGE. Raises ``InvalidRequestError``, ``ServerBusyError``."""
        _check(request.group_id, request.partitions)
        self._serve(self._acknowledge, request, reply)

    # --- requests ---------------------------------------------------------------------------------

    async def _fetch(self, request: ShareFetchRequest, member: Member, reply: Reply) -> None:
        acknowledging = [bool(part.acknowledgements) for part in request.partitions]
        errors: Errors = {}
        found = await self._registry.find_all(request.group_id, request.partitions, errors, member)
        if self._has_left(reply, found, member):
            return
        refused = self._apply(request.partitions, found, member)
        deadline_ms = self._clock.monotonic_ms() + request.max_wait_ms
        collected = await self._collect_all(request, found, errors, member, reply)
        while not (collected or errors or any(acknowledging)):
            left_ms = deadline_ms - self._clock.monotonic_ms()
            if left_ms <= 0 or reply.closed:
                break
            await _wait(found.values(), left_ms)
            self._registry.recheck(request.partitions, found, errors)
            collected = await self._collect_all(request, found, errors, member, reply)
        await self._written(found, refused, acknowledging)
        if reply.closed:
            return  # ``_on_closed`` has released what was acquired here, or does so now
        self._answer_fetch(request, reply, found, collected, errors, refused)

    async def _acknowledge(
        self, request: ShareAcknowledgeRequest, member: Member, reply: Reply
    ) -> None:
        errors: Errors = {}
        found = await self._registry.find_all(request.group_id, request.partitions, errors, member)
        if self._has_left(reply, found, member):
            return
        refused = self._apply(request.partitions, found, member)
        if request.release:
            for shared in found.values():
                shared.machine.release_member(member.name, delivered=False)
                shared.settle()
        await self._written(found, refused, [True] * len(request.partitions))
        if request.release:
            for shared in found.values():
                self._registry.leave(shared, member)
        failed = {**refused, **errors}
        partitions = [
            ShareAcknowledgedPartition(part.topic_id, part.partition, *_code(failed.get(index)))
            for index, part in enumerate(request.partitions)
        ]
        reply(ShareAcknowledgeResponse(partitions, _lock_ms(found.values())))

    def _has_left(self, reply: Reply, found: Mapping[int, SharedPartition], member: Member) -> bool:
        """Whether the connection ended while something was loaded: then nothing of it is kept."""
        if reply.closed:
            for shared in found.values():
                self._registry.leave(shared, member)
        return reply.closed

    def _serve(self, serve: Serve, request: Any, reply: Reply) -> None:
        if len(self._requests) >= MAX_REQUESTS:
            raise ServerBusyError(f"{MAX_REQUESTS} requests of share consumers wait; try again")
        member = self._registry.member(request.member_id, reply)
        task = asyncio.ensure_future(_answered(serve, request, member, reply))
        self._requests.add(task)
        task.add_done_callback(self._requests.discard)

    def _apply(
        self,
        parts: Sequence[Any],
        found: Mapping[int, SharedPartition],
        member: Member,
    ) -> Errors:
        """Apply every acknowledgement that is right; returns why others are refused."""
        refused: Errors = {}
        for index, shared in found.items():
            acknowledgements: list[AcknowledgementBatch] = parts[index].acknowledgements
            if not acknowledgements:
                continue
            if shared.gone is not None:
                refused[index] = shared.gone
                continue
            now_ms = self._clock.monotonic_ms()
            for each in acknowledgements:
                try:
                    shared.machine.acknowledge(
                        member.name, each.first_offset, each.last_offset, each.types, now_ms=now_ms
                    )
                except RaykafkaError as error:
                    refused.setdefault(index, error)
            shared.settle()
        return refused

    async def _written(
        self, found: Mapping[int, SharedPartition], refused: Errors, acknowledging: Sequence[bool]
    ) -> None:
        """Return when what was acknowledged is with the coordinator."""
        for index, shared in found.items():
            if not acknowledging[index]:
                continue
            pending = self._states.pending(shared)
            error = shared.gone if pending is None else await asyncio.shield(pending)
            if error is not None:
                refused[index] = error

    async def _collect_all(
        self,
        request: ShareFetchRequest,
        found: Mapping[int, SharedPartition],
        errors: Errors,
        member: Member,
        reply: Reply,
    ) -> dict[int, Collected]:
        """Acquire what there is; loads what is on the disk only."""
        may_load = True
        while not reply.closed:
            collected, loads = self._look(request, found, errors, member, may_load=may_load)
            for got in collected:
                found[got].settle()
            if collected or not loads:
                return collected
            await asyncio.gather(*(self._load(load) for load in loads))
            may_load = False
        for shared in found.values():
            shared.wake_next()  # in the place of this one
        return {}

    def _look(
        self,
        request: ShareFetchRequest,
        found: Mapping[int, SharedPartition],
        errors: Errors,
        member: Member,
        *,
        may_load: bool,
    ) -> tuple[dict[int, Collected], list[Any]]:
        collected: dict[int, Collected] = {}
        loads = []
        records = request.max_records
        budget = min(request.max_bytes, MAX_BYTES_PER_FETCH)
        for index, shared in found.items():
            part = request.partitions[index]
            if part.max_bytes <= 0 or shared.gone is not None or index in errors:
                continue
            if records <= 0 or budget <= 0:
                break
            got = collect(
                shared,
                self._reader,
                read_request(request, shared),
                member.name,
                min(part.max_bytes, budget),
                records,
                may_load=may_load,
            )
            if got.error is not None:
                errors[index] = got.error
            elif got.load is not None:
                loads.append(got.load)
            elif got.acquired:
                collected[index] = got
                records -= got.records
                budget -= got.payload_bytes
        return collected, loads

    async def _load(self, load: Any) -> None:
        loaded = asyncio.Event()
        self._reader.load(load, loaded.set)
        await loaded.wait()

    def _answer_fetch(
        self,
        request: ShareFetchRequest,
        reply: Reply,
        found: Mapping[int, SharedPartition],
        collected: Mapping[int, Collected],
        errors: Errors,
        refused: Errors,
    ) -> None:
        partitions: list[ShareFetchedPartition] = []
        chunks: list[Buffer] = []
        for index, part in enumerate(request.partitions):
            got = collected.get(index, Collected())
            if not (got.acquired or index in errors or part.acknowledgements):
                continue
            partitions.append(
                ShareFetchedPartition(
                    part.topic_id,
                    part.partition,
                    got.fetched,
                    [AcquiredRecords(*each) for each in got.acquired],
                    *_code(refused.get(index)),
                    *_code(errors.get(index)),
                )
            )
            chunks += got.chunks
        reply(ShareFetchResponse(partitions, _lock_ms(found.values())), chunks)


async def _wait(found: Iterable[SharedPartition], left_ms: int) -> None:
    """Until one of the share partitions may have a record, or time is up."""
    look = _Look()
    for shared in found:
        shared.wait(look)
    try:
        await asyncio.wait_for(look.woken.wait(), left_ms / 1000)
    except asyncio.TimeoutError:
        pass
    finally:
        for shared in found:
            shared.leave(look)


async def _answered(serve: Serve, request: Any, member: Member, reply: Reply) -> None:
    try:
        await serve(request, member, reply)
    except RaykafkaError as error:
        reply(ErrorResponse(error.code, error.message))
    except Exception:
        logger.exception("a request of a share consumer failed")
        unknown = UnknownServerError()
        reply(ErrorResponse(unknown.code, unknown.message))


def _check(group_id: str, partitions: Sequence[Message]) -> None:
    if not group_id:
        raise InvalidGroupIdError("a share group has a name")
    if not 0 < len(partitions) <= MAX_PARTITIONS_PER_FETCH:
        raise InvalidRequestError(
            f"a request names 1 to {MAX_PARTITIONS_PER_FETCH} partitions, not {len(partitions)}"
        )


def _code(error: RaykafkaError | None) -> tuple[int, str]:
    return (0, "") if error is None else (error.code, error.message)


def _lock_ms(found: Iterable[SharedPartition]) -> int:
    return max((shared.config.share_record_lock_duration_ms for shared in found), default=0)
