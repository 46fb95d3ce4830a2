"""One Ray for all tests of this folder, apart from any other Ray on the machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ["RAY_ADDRESS"] = "local"


@pytest.fixture(scope="session", autouse=True)
def ray_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Ray that ends with the tests, and a home of its own for clusters."""
    import ray

    from raykafka import ray_runtime

    before = os.environ.get("RAYKAFKA_HOME")
    os.environ["RAYKAFKA_HOME"] = str(tmp_path_factory.mktemp("home"))
    ray_runtime.start_ray()
    yield
    ray.shutdown()
    if before is None:
        del os.environ["RAYKAFKA_HOME"]
    else:
        os.environ["RAYKAFKA_HOME"] = before


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    folder = Path(__file__).parent
    for item in items:
        if folder in item.path.parents:
            item.add_marker(pytest.mark.slow)
