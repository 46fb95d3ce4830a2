"""Reads and writes the state of share partitions at their group's share coordinator.

A group has one write under way; what changes meanwhile goes into the next one, so that many
acknowledgements share few writes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final, TypeVar

from raykafka.actors.peers import Peers
from raykafka.actors.replicas.replica import Replica
from raykafka.actors.sharing.shared_partition import Loaded, SharedPartition
from raykafka.actors.timeouts import cancel_all
from raykafka.config.share_group import ShareDefaults, ShareGroupConfig
from raykafka.errors import (
    CoordinatorNotAvailableError,
    RaykafkaError,
    RequestTimedOutError,
    UnknownServerError,
    error_for,
)
from raykafka.internal_topics import SHARE_GROUP_STATE, coordinator_partition
from raykafka.protocol.group_messages import FindCoordinatorRequest
from raykafka.protocol.messages import ApiKey, Message
from raykafka.protocol.share_messages import (
    InitializeShareGroupStateRequest,
    InitializeShareGroupStateResponse,
    InitialShareState,
    ReadShareGroupStateRequest,
    ReadShareGroupStateResponse,
    ShareStateResult,
    ShareStateToRead,
    ShareStateToWrite,
    WriteShareGroupStateRequest,
    WriteShareGroupStateResponse,
)

logger = logging.getLogger(__name__)

_TIMEOUT_S: Final = 15.0
"""Without an answer for so long the leader gives its share partitions up, and reads them again."""
_UNKNOWN: Final = -1

R = TypeVar("R", bound=Message)
Written = asyncio.Future["RaykafkaError | None"]
"""Done when what had changed is with the coordinator, or never will be."""


class ShareStates:
    """The share coordinators, as the leaders of one actor use them."""

    def __init__(
        self,
        peers: Peers,
        defaults: ShareDefaults,
        give_up: Callable[[SharedPartition, RaykafkaError], None],
    ) -> None:
        """``give_up`` is told of share partitions whose state could not be written."""
        self._peers = peers
        self._defaults = defaults
        self._give_up = give_up
        self._queued: dict[str, dict[SharedPartition, Written]] = {}
        self._writing: dict[str, dict[SharedPartition, Written]] = {}
        self._writers: dict[str, asyncio.Task[None]] = {}

    async def close(self) -> None:
        """Write no more; whoever waits hears an error."""
        await cancel_all(list(self._writers.values()))
        error = CoordinatorNotAvailableError("this actor is closing; the state was not written")
        for kept in (self._queued, self._writing):
            for batch in kept.values():
                for written in batch.values():
                    _settle(written, error)
            kept.clear()

    # --- reading ----------------------------------------------------------------------------------

    async def load(self, group_id: str, replica: Replica) -> Loaded:
        """The share partition's state; a group that is new there begins where its settings say.

        Raises ``FencedLeaderEpochError`` when a newer leader has read it, and what the coordinator
        or the way to it raises.
        """
        topic_id, partition = replica.partition
        wanted = ShareStateToRead(topic_id, partition, replica.leader_epoch)
        found = await self._call(
            group_id,
            ApiKey.READ_SHARE_GROUP_STATE,
            lambda place: ReadShareGroupStateRequest(group_id, place, [wanted]),
            ReadShareGroupStateResponse,
        )
        config = ShareGroupConfig.parse(dict(found.configs), self._defaults)
        state = _checked(found.states[0])
        if state.start_offset == _UNKNOWN:
            earliest = config.share_auto_offset_reset == "earliest"
            start = replica.log.log_start_offset if earliest else replica.high_watermark
            initial = InitialShareState(topic_id, partition, start)
            made = await self._call(
                group_id,
                ApiKey.INITIALIZE_SHARE_GROUP_STATE,
                lambda place: InitializeShareGroupStateRequest(group_id, place, [initial]),
                InitializeShareGroupStateResponse,
            )
            state = _checked(made.states[0])
        return Loaded(
            state.state_epoch, state.start_offset, state.batches, config, found.config_epoch
        )

    # --- writing ----------------------------------------------------------------------------------

    def on_changed(self, shared: SharedPartition) -> None:
        """Write what has changed, soon."""
        group_id = shared.group_id
        queued = self._queued.setdefault(group_id, {})
        if shared not in queued:
            queued[shared] = asyncio.get_running_loop().create_future()
        if group_id not in self._writers:
            task = asyncio.ensure_future(self._write_all(group_id))
            self._writers[group_id] = task

    def pending(self, shared: SharedPartition) -> Written | None:
        """What to wait for until everything that has changed so far is written; None: nothing."""
        queued = self._queued.get(shared.group_id, {}).get(shared)
        if queued is not None:
            return queued
        return self._writing.get(shared.group_id, {}).get(shared)

    async def _write_all(self, group_id: str) -> None:
        try:
            while self._queued.get(group_id):
                await asyncio.sleep(0)  # what else arrives in this turn of the loop goes along
                self._writing[group_id] = batch = self._queued.pop(group_id)
                try:
                    await self._write(group_id, batch)
                finally:
                    self._writing.pop(group_id, None)
        finally:
            self._writers.pop(group_id, None)

    async def _write(self, group_id: str, batch: dict[SharedPartition, Written]) -> None:
        alive = {shared: written for shared, written in batch.items() if shared.gone is None}
        states = [_to_write(shared) for shared in alive]
        known_epoch = min((shared.config_epoch for shared in alive), default=0)
        try:
            if states:
                answer = await self._call(
                    group_id,
                    ApiKey.WRITE_SHARE_GROUP_STATE,
                    lambda place: WriteShareGroupStateRequest(group_id, place, states, known_epoch),
                    WriteShareGroupStateResponse,
                )
                self._take(alive, answer)
        except RaykafkaError as error:
            logger.warning("the state of share group %s was not written: %s", group_id, error)
            self._lose(alive, error)
        except Exception:
            logger.exception("the state of share group %s was not written", group_id)
            self._lose(alive, UnknownServerError())  # whoever waits must not hear that it was
        finally:
            for shared, written in batch.items():
                _settle(written, shared.gone)

    def _lose(self, alive: dict[SharedPartition, Written], error: RaykafkaError) -> None:
        for shared, written in alive.items():
            self._give_up(shared, error)
            _settle(written, error)

    def _take(
        self, alive: dict[SharedPartition, Written], answer: WriteShareGroupStateResponse
    ) -> None:
        by_place = {(state.topic_id, state.partition): state for state in answer.states}
        config: ShareGroupConfig | None = None
        for shared, written in alive.items():
            topic_id, partition = shared.replica.partition
            state = by_place[topic_id, partition]
            if state.error_code:
                error = error_for(state.error_code, state.error_message)
                self._give_up(shared, error)
                _settle(written, error)
                continue
            _settle(written, None)
            if answer.config_epoch != shared.config_epoch:
                config = config or ShareGroupConfig.parse(dict(answer.configs), self._defaults)
                shared.configure(config, answer.config_epoch)

    # --- inside -----------------------------------------------------------------------------------

    async def _call(
        self,
        group_id: str,
        api_key: ApiKey,
        make_request: Callable[[int], Message],
        expected: type[R],
    ) -> R:
        place = await self._coordinator(group_id)
        answer = await self._peers.call_leader(
            SHARE_GROUP_STATE, place, api_key, make_request(place), timeout_s=_TIMEOUT_S
        )
        assert isinstance(answer, expected)
        return answer

    async def _coordinator(self, group_id: str) -> int:
        view = self._peers.view
        if SHARE_GROUP_STATE not in view.topics:
            await self._peers.call_controller(
                ApiKey.FIND_COORDINATOR,
                FindCoordinatorRequest(SHARE_GROUP_STATE),
                timeout_s=_TIMEOUT_S,
            )
            await view.refresh()
            if SHARE_GROUP_STATE not in view.topics:
                raise RequestTimedOutError(f"{SHARE_GROUP_STATE} is not known yet; try again")
        return coordinator_partition(group_id, len(view.topics[SHARE_GROUP_STATE].partitions))


def _to_write(shared: SharedPartition) -> ShareStateToWrite:
    changes = shared.machine.take_changes()
    return ShareStateToWrite(
        *shared.replica.partition,
        shared.state_epoch,
        shared.leader_epoch,
        changes.start_offset,
        changes.batches,
    )


def _checked(state: ShareStateResult) -> ShareStateResult:
    if state.error_code:
        raise error_for(state.error_code, state.error_message)
    return state


def _settle(written: Written, error: RaykafkaError | None) -> None:
    if not written.done():
        written.set_result(error)
