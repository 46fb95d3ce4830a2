"""Waiting with a bound.

Not ``asyncio.wait_for``: up to Python 3.11 it drops a cancellation that comes at the moment in
which the awaited thing completes, and the task that was to end goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from typing import Any, Final, TypeVar

from raykafka.errors import RequestTimedOutError

T = TypeVar("T")
_CANCEL_AGAIN_S: Final = 0.1


async def within(awaitable: Awaitable[T], timeout_s: float, what: str) -> T:
    """Its result; raises ``RequestTimedOutError`` that names ``what`` when it takes longer."""
    future = asyncio.ensure_future(awaitable)
    try:
        await asyncio.wait({future}, timeout=timeout_s)
        if not future.done():
            raise RequestTimedOutError(f"{what} took longer than {timeout_s:g} s")
        return future.result()
    finally:
        future.cancel()


async def cancel_all(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel ``tasks`` and return when they have ended, whatever they end with."""
    remaining = set(tasks)
    while remaining:
        for task in remaining:
            task.cancel()
        # Again and again: libraries may still swallow one, see above.
        _, remaining = await asyncio.wait(remaining, timeout=_CANCEL_AGAIN_S)
