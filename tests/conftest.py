"""Rules for every test."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

# How long an example takes says more about the machine's other work than about the code.
settings.register_profile("raykafka", deadline=None)
settings.load_profile("raykafka")

_TESTS = Path(__file__).parent
_MAY_START_RAY = {"actors", "docs", "e2e"}


def _is_ray_running() -> bool:
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


@pytest.fixture(autouse=True)
def _no_ray(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Ray is slow to start and hides races, so only a few folders may use it."""
    folder = request.path.relative_to(_TESTS).parts[0]
    if folder in _MAY_START_RAY:
        yield
        return

    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError(f"tests below tests/{folder} do not start Ray; see tests/conftest.py")

    if "ray" in sys.modules:  # importing it just to patch it would cost every run a second
        monkeypatch.setattr(sys.modules["ray"], "init", refuse)
    was_running = _is_ray_running()
    yield
    if _is_ray_running() and not was_running:
        pytest.fail(f"this test started Ray, which tests below tests/{folder} do not")
