"""What an import loads: the import linter sees neither package files nor lazy names."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import raykafka

PACKAGE = Path(raykafka.__file__).parent

FOUNDATION = ["model", "errors", "clock", "config"]
HEAVY = {"ray", "pyarrow", "fsspec", "numpy", "uvloop"}
RULES = {
    "raykafka": HEAVY,
    **{f"raykafka.{name}": HEAVY | {"asyncio", "socket"} for name in FOUNDATION},
    "raykafka.log": {"ray", "fsspec"},  # pyarrow itself loads asyncio and socket
    "raykafka.replication": HEAVY | {"asyncio", "socket"},
    "raykafka.quorum": HEAVY | {"asyncio", "socket"},
    "raykafka.txn": HEAVY | {"asyncio", "socket"},
    "raykafka.group": HEAVY | {"asyncio", "socket"},
    "raykafka.group.assignors": HEAVY | {"asyncio", "socket"},
    "raykafka.controller": HEAVY | {"asyncio", "socket"},
    "raykafka.protocol": HEAVY | {"asyncio", "socket"},
    "raykafka.storage": {"ray"},
    "raykafka.network": {"ray"},
    "raykafka.client": {"ray"},
    "raykafka.cli.main": HEAVY,
}


def loaded_by(*statements: str) -> set[str]:
    program = "; ".join([*statements, "import sys", "print(' '.join(sys.modules))"])
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        capture_output=True,
        text=True,
        cwd=PACKAGE.parent,
    )
    return set(done.stdout.split())


def modules_of(name: str) -> list[str]:
    folder = PACKAGE.joinpath(*name.split(".")[1:])
    if name == "raykafka" or not folder.is_dir():
        return [name]
    return [name, *(f"{name}.{info.name}" for info in pkgutil.iter_modules([str(folder)]))]


@pytest.mark.parametrize("name", RULES)
def test_a_package_loads_no_more_than_it_may(name: str) -> None:
    loaded = loaded_by(*(f"import {module}" for module in modules_of(name)))
    assert not loaded & RULES[name]


def test_modules_of_the_log_that_need_no_arrow_do_not_load_it() -> None:
    with_arrow = {"batch", "batch_header", "schema", "stats", "segment"}
    names = {module.rpartition(".")[2] for module in modules_of("raykafka.log")} - with_arrow
    without = [name for name in ("epochs", "producers", "view", "retention") if name in names]
    assert not loaded_by(*(f"import raykafka.log.{name}" for name in without)) & {
        "pyarrow",
        "numpy",
    }


def test_every_public_name_resolves() -> None:
    for name in raykafka.__all__:
        assert getattr(raykafka, name) is not None
    assert set(raykafka.__all__) <= set(dir(raykafka))


def test_no_other_name_is_answered() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Broker'"):
        raykafka.Broker  # noqa: B018
    loaded = loaded_by("from raykafka import config", "from raykafka import clock")
    assert not loaded & HEAVY
    with pytest.raises(ImportError):
        exec("from raykafka import nonsense")


def test_importing_takes_under_three_tenths_of_a_second() -> None:
    times = []
    for _ in range(5):
        program = (
            "import time; t = time.process_time(); import raykafka, raykafka.errors; "
            "print(time.process_time() - t)"
        )
        done = subprocess.run(
            [sys.executable, "-c", program],
            check=True,
            capture_output=True,
            text=True,
            cwd=PACKAGE.parent,
        )
        times.append(float(done.stdout))
    assert min(times) < 0.3
