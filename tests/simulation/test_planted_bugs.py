"""The simulator finds bugs that were planted: the proof that a run without violations says much."""

from __future__ import annotations

import pytest
from planted_bugs import (
    ACK_BEFORE_COMMIT,
    ACKS_BELOW_MINIMUM,
    MISSING_EPOCH_CHECK,
    STALE_LEADER_SERVES_READS,
    TRUNCATION_BY_HIGH_WATERMARK,
    Planted,
    find,
)

WITHIN = 1000
"""Seeds among which each of them must be found."""


@pytest.mark.parametrize(
    "planted",
    [ACK_BEFORE_COMMIT, ACKS_BELOW_MINIMUM, MISSING_EPOCH_CHECK],
    ids=lambda planted: planted.name,
)
def test_bugs_that_show_soon(planted: Planted) -> None:
    found = find(planted, 1, WITHIN)
    assert found is not None


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "planted",
    [TRUNCATION_BY_HIGH_WATERMARK, STALE_LEADER_SERVES_READS],
    ids=lambda planted: planted.name,
)
def test_bugs_that_need_a_rare_chain_of_faults(planted: Planted) -> None:
    found = find(planted, 1, WITHIN)
    assert found is not None
