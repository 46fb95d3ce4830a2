"""Heartbeats that are held back until the member's assignment changes, or their time is up."""

from __future__ import annotations

import asyncio
import enum
from typing import NamedTuple

from raykafka.actors.coordinating.service import HostedService


class Wake(enum.Enum):
    """Why a heartbeat is held no more."""

    TIME_IS_UP = "nothing has changed"
    OVERTAKEN = "another one of the member has come"
    NEWS = "the machine has something for the member"
    ENDED = "the coordinator is here no more"


class _Held(NamedTuple):
    service: HostedService
    future: asyncio.Future[Wake]


class HeldHeartbeats:
    """Of all groups that are coordinated in one actor; one for each member at most."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, str], _Held] = {}

    def __len__(self) -> int:
        return len(self._held)

    async def wait(
        self, service: HostedService, group_id: str, member_id: str, wait_s: float
    ) -> Wake:
        """Hold a member's heartbeat."""
        key = (group_id, member_id)
        self.wake(group_id, member_id, Wake.OVERTAKEN)
        loop = asyncio.get_running_loop()
        held = _Held(service, loop.create_future())
        self._held[key] = held
        timer = loop.call_later(wait_s, _settle, held.future, Wake.TIME_IS_UP)
        try:
            return await held.future
        finally:
            timer.cancel()
            if self._held.get(key) is held:
                del self._held[key]

    def wake(self, group_id: str, member_id: str, why: Wake) -> None:
        """Let go of the member's heartbeat, if one is held."""
        held = self._held.pop((group_id, member_id), None)
        if held is not None:
            _settle(held.future, why)

    def wake_all(self, service: HostedService) -> None:
        """The service has ended, or its machine is another one."""
        for (group_id, member_id), held in list(self._held.items()):
            if held.service is service:
                self.wake(group_id, member_id, Wake.ENDED)


def _settle(future: asyncio.Future[Wake], why: Wake) -> None:
    if not future.done():
        future.set_result(why)
