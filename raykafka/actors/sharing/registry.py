"""The share partitions of one actor: found or loaded, their members, what is done for them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from itertools import count
from typing import Any

from raykafka.actors.peers import Peers
from raykafka.actors.ports import Reply
from raykafka.actors.replicas.replica import Replica
from raykafka.actors.replicas.replica_set import ReplicaSet
from raykafka.actors.sharing.dead_letters import DeadLetters
from raykafka.actors.sharing.shared_partition import SharedPartition
from raykafka.actors.sharing.states import ShareStates
from raykafka.actors.timeouts import cancel_all
from raykafka.clock import Clock
from raykafka.config.share_group import ShareDefaults
from raykafka.errors import (
    FencedLeaderEpochError,
    NotLeaderOrFollowerError,
    RaykafkaError,
)
from raykafka.protocol.share_messages import ShareFetchPartition
from raykafka.share.values import DeadLetter

logger = logging.getLogger(__name__)

Key = tuple[str, str, int]
"""Group, topic id, partition."""
Errors = dict[int, RaykafkaError]
"""By the index of the partition in the request."""


class Member:
    """A member on one connection: whose records they are."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.shared: set[SharedPartition] = set()


class ShareRegistry:
    """Everything on the actor's loop; ``Owner`` of its share partitions."""

    def __init__(
        self, replicas: ReplicaSet, peers: Peers, clock: Clock, defaults: ShareDefaults
    ) -> None:
        self._replicas = replicas
        self._clock = clock
        self.states = ShareStates(peers, defaults, self._give_up)
        """What is written, and what was not yet."""
        self._dead_letters = DeadLetters(peers, clock)
        self._shared: dict[Key, SharedPartition] = {}
        self._loading: dict[Key, asyncio.Task[SharedPartition]] = {}
        self._members: dict[object, dict[str, Member]] = {}
        self._numbers = count(1)
        self._work: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Serve nobody any more."""
        gone = NotLeaderOrFollowerError("this actor is closing; refresh the metadata")
        for shared in list(self._shared.values()):
            self._drop(shared, gone)
        await cancel_all([*self._work, *self._loading.values()])
        await self.states.close()

    # --- share partitions -------------------------------------------------------------------------

    async def find_all(
        self, group_id: str, parts: Sequence[Any], errors: Errors, member: Member
    ) -> dict[int, SharedPartition]:
        """The share partitions of a request by their index, loaded where they are not yet."""
        found: dict[int, SharedPartition] = {}
        loading: dict[int, asyncio.Task[SharedPartition]] = {}
        for index, part in enumerate(parts):
            try:
                replica = self._leader(part)
            except RaykafkaError as error:
                errors[index] = error
                continue
            key = (group_id, part.topic_id, part.partition)
            shared = self._shared.get(key)
            if shared is not None and shared.leader_epoch != replica.leader_epoch:
                self._drop(shared, FencedLeaderEpochError("a newer leader epoch has begun"))
                shared = None
            # One that nobody has used for a while is read again: the group may have been reset.
            if shared is None or not shared.users:
                loading[index] = self._load(key, replica)
            else:
                found[index] = shared
        for index, task in loading.items():
            try:
                found[index] = await asyncio.shield(task)
            except RaykafkaError as error:
                errors[index] = type(error)(error.message)
        for shared in found.values():
            shared.users.add(member.name)
            member.shared.add(shared)
        return dict(sorted(found.items())) if loading else found

    def recheck(
        self, parts: Sequence[Any], found: Mapping[int, SharedPartition], errors: Errors
    ) -> None:
        """Note which of the share partitions are not served here any more."""
        for index, shared in found.items():
            try:
                if shared.gone is not None:
                    raise type(shared.gone)(shared.gone.message)
                self._leader(parts[index])
            except RaykafkaError as error:
                errors[index] = error

    def _leader(self, part: Any) -> Replica:
        epoch = part.leader_epoch if isinstance(part, ShareFetchPartition) else -1
        now_ms = self._clock.monotonic_ms()
        return self._replicas.leader(part.topic_id, part.partition, epoch, now_ms)

    def _load(self, key: Key, replica: Replica) -> asyncio.Task[SharedPartition]:
        task = self._loading.get(key)
        if task is None:
            task = self._loading[key] = asyncio.ensure_future(self._load_now(key, replica))
            task.add_done_callback(lambda _: self._loading.pop(key, None))
        return task

    async def _load_now(self, key: Key, replica: Replica) -> SharedPartition:
        before = self._shared.get(key)
        if before is not None:
            await self._write_rest(before)
            self._drop(before, NotLeaderOrFollowerError("the state is read again"))
        epoch = replica.leader_epoch
        loaded = await self.states.load(key[0], replica)
        if replica.gone is not None or replica.leader_epoch != epoch:
            raise NotLeaderOrFollowerError("the leader has changed meanwhile; try again")
        shared = SharedPartition(key[0], replica, loaded, self, self._clock)
        self._shared[key] = shared
        shared.settle()
        return shared

    async def _write_rest(self, shared: SharedPartition) -> None:
        while (pending := self.states.pending(shared)) is not None:
            await asyncio.shield(pending)

    def _give_up(self, shared: SharedPartition, error: RaykafkaError) -> None:
        again = NotLeaderOrFollowerError(f"the state was not written, try again: {error.message}")
        self._drop(shared, again)

    def _drop(self, shared: SharedPartition, error: RaykafkaError) -> None:
        """Forget a share partition: it is loaded again when somebody asks for it."""
        key = (shared.group_id, *shared.replica.partition)
        if self._shared.get(key) is shared:
            del self._shared[key]
        if shared.gone is None:
            shared.close(error)

    # --- ``Owner`` --------------------------------------------------------------------------------

    def on_changed(self, shared: SharedPartition) -> None:
        """See ``Owner``."""
        self.states.on_changed(shared)

    def on_dead_letters(self, shared: SharedPartition, letters: list[DeadLetter]) -> None:
        """See ``Owner``."""
        self._spawn(self._write_dead_letters, shared, letters)

    def on_gone(self, shared: SharedPartition, error: RaykafkaError) -> None:
        """See ``Owner``."""
        self._drop(shared, error)

    async def _write_dead_letters(
        self, shared: SharedPartition, letters: Iterable[DeadLetter]
    ) -> None:
        shared.dead_letters += 1
        try:
            for letter in letters:
                await self._dead_letters.write(shared, letter)
                if shared.gone is not None:
                    return
                shared.machine.on_dead_lettered(letter.first_offset, letter.last_offset)
                shared.settle()
        finally:
            shared.dead_letters -= 1
        self._drop_unused(shared)

    # --- members and their connections ------------------------------------------------------------

    def member(self, member_id: str, reply: Reply) -> Member:
        """The member on the connection of a request."""
        mine = self._members.get(reply.connection)
        if mine is None:
            connection = reply.connection
            mine = self._members[connection] = {}
            reply.on_close(lambda: self._on_closed(connection))
        member = mine.get(member_id)
        if member is None:
            member = mine[member_id] = Member(f"{member_id}/{next(self._numbers)}")
        return member

    def leave(self, shared: SharedPartition, member: Member) -> None:
        """The member asks for no more records of the share partition."""
        member.shared.discard(shared)
        shared.users.discard(member.name)
        self._drop_unused(shared)

    def _on_closed(self, connection: object) -> None:
        """Others may have what was acquired over it; the application may have seen it."""
        for member in self._members.pop(connection, {}).values():
            for shared in list(member.shared):
                if shared.gone is None:
                    shared.machine.release_member(member.name, delivered=True)
                    shared.settle()
                self.leave(shared, member)

    def _drop_unused(self, shared: SharedPartition) -> None:
        if not shared.users and not shared.dead_letters and shared.gone is None:
            self._spawn(self._drop_written, shared)

    async def _drop_written(self, shared: SharedPartition) -> None:
        await self._write_rest(shared)
        if not shared.users and not shared.dead_letters:
            self._drop(shared, NotLeaderOrFollowerError("nobody used the share partition"))

    def _spawn(self, work: Callable[..., Coroutine[Any, Any, None]], *arguments: Any) -> None:
        task = asyncio.ensure_future(_logged(work, *arguments))
        self._work.add(task)
        task.add_done_callback(self._work.discard)


async def _logged(work: Callable[..., Coroutine[Any, Any, None]], *arguments: Any) -> None:
    try:
        await work(*arguments)
    except Exception:
        logger.exception("work for a share group failed")
