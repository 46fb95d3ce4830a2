"""Seeds: the same one is the same run, and what once failed is run for ever."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from raykafka.testing.simulation.scenario import run_seed

ROOT = Path(__file__).parents[2]
FIRST_SEEDS = range(1, 13)
FAILED_ONCE = [1721, 4198, 5965, 40314, 59115, 93692]
"""Seeds that found a bug; each was mended in the commit that added it here."""

_TRACES = """
import sys
from raykafka.testing.simulation.scenario import run_seed
for seed in map(int, sys.argv[1:]):
    result = run_seed(seed)
    print(seed, result.trace, result.steps, result.acknowledged, *result.violations)
"""


@pytest.mark.parametrize("seed", [*FIRST_SEEDS, *FAILED_ONCE])
def test_nothing_is_violated(seed: int) -> None:
    result = run_seed(seed)
    assert not result.violations
    assert result.acknowledged
    assert result.read


def test_a_seed_is_the_same_run_byte_for_byte() -> None:
    """In two processes that hash strings differently, after different other seeds."""

    def traces(hash_seed: str, *seeds: str) -> dict[str, str]:
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run(
            [sys.executable, "-c", _TRACES, *seeds],
            env=environment, cwd=ROOT, capture_output=True, text=True, check=True, timeout=100,
        )  # fmt: skip
        return {line.split()[0]: line for line in done.stdout.splitlines()}

    one, other = traces("1", "7", "8", "9", "10"), traces("2", "10", "9", "8", "7")
    assert one == other
    assert len(set(one.values())) == 4
