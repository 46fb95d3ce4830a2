"""When a partition actor may act, and when nobody's word is needed for it."""

from __future__ import annotations

import pytest

from raykafka.actors.replicas.lease import Lease
from raykafka.errors import NotLeaderOrFollowerError


def test_without_a_controller_it_never_ends() -> None:
    Lease(needed=False).check(1 << 60)


def test_it_begins_with_the_controllers_word_and_ends_without() -> None:
    lease = Lease(needed=True)
    with pytest.raises(NotLeaderOrFollowerError):
        lease.check(0)
    lease.renew(100)
    lease.renew(50)
    lease.check(99)
    with pytest.raises(NotLeaderOrFollowerError, match="controller"):
        lease.check(100)


def test_it_is_extended_while_it_lasts_only() -> None:
    lease = Lease(needed=True)
    lease.renew(100)
    lease.extend(200, 99)
    lease.check(199)
    lease.extend(300, 200)
    with pytest.raises(NotLeaderOrFollowerError):
        lease.check(200)
