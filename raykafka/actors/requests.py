"""Handlers made of functions: those that answer at once, and those that wait, within a bound."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from raykafka.actors.ports import Handler, Reply
from raykafka.actors.timeouts import cancel_all
from raykafka.errors import RaykafkaError, ServerBusyError, UnknownServerError
from raykafka.protocol.messages import ErrorResponse, Message

logger = logging.getLogger(__name__)

MAX_PARKED_REQUESTS: Final = 2000
"""Requests that one actor lets wait at a time; further ones are refused as busy."""


def immediate(answer: Callable[[Any], Message]) -> Handler:
    """A ``Handler`` that answers at once with what ``answer(request)`` returns."""

    def handle(request: Any, payload: Any, reply: Reply) -> None:
        reply(answer(request))

    return handle


class RequestTasks:
    """Turns coroutine functions into ``Handler`` functions, one task per request."""

    def __init__(self, limit: int = MAX_PARKED_REQUESTS) -> None:
        self._limit = limit
        self._tasks: set[asyncio.Task[None]] = set()

    def handler(self, answer: Callable[[Any], Awaitable[Message]]) -> Handler:
        """Answers with what ``answer(request)`` returns, or with the error it raises.

        A request whose connection has ended runs to its end all the same: it may have taken
        effect. Raises ``ServerBusyError`` over the limit.
        """

        def handle(request: Any, payload: Any, reply: Reply) -> None:
            if len(self._tasks) >= self._limit:
                raise ServerBusyError(f"{self._limit} requests are waiting already; try again")
            task = asyncio.ensure_future(_run(answer, request, reply))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        return handle

    async def close(self) -> None:
        """Give up what still waits; its senders see their connection end."""
        await cancel_all(self._tasks)


async def _run(answer: Callable[[Any], Awaitable[Message]], request: Any, reply: Reply) -> None:
    try:
        response = await answer(request)
    except RaykafkaError as error:
        response = ErrorResponse(error.code, error.message)
    except Exception:
        # The task's end is nobody's business but ours; the peer gets a code, the log the rest.
        logger.exception("%s failed", type(request).__name__)
        unknown = UnknownServerError()
        response = ErrorResponse(unknown.code, unknown.message)
    reply(response)
