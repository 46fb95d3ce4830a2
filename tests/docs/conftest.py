"""One Ray for all pages, and a home that is nobody's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from raykafka import ray_runtime


@pytest.fixture(scope="session")
def documents_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Home directory of the pages and their commands; a Ray runs that both of them join."""
    home = tmp_path_factory.mktemp("home")
    before = dict(os.environ)
    started = not ray.is_initialized()
    if not started:  # its token, which lets a process in, is below the home of before
        os.environ.setdefault("RAY_AUTH_TOKEN_PATH", str(Path.home() / ".ray" / "auth_token"))
    os.environ.update(HOME=str(home), RAYKAFKA_HOME=str(home / ".raykafka"))
    if started:
        os.environ["RAY_ADDRESS"] = "local"
        ray_runtime.start_ray()
    os.environ["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address
    try:
        yield home
    finally:
        if started:
            ray.shutdown()
        os.environ.clear()
        os.environ.update(before)
