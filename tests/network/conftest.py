"""A listener with echo handlers, on both kinds of loop."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from wire_kit import Echo, Running, running_listener


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture(params=["uvloop", "asyncio"])
def running(request: pytest.FixtureRequest, echo: Echo) -> Iterator[Running]:
    with running_listener(echo.handlers(), loop_kind=request.param) as started:
        yield started
