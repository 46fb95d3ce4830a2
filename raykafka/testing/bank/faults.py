"""What goes wrong at the bank, beside what the chaos runner does to every cluster."""

from __future__ import annotations

import signal
from functools import partial
from random import Random
from typing import Final

from raykafka.errors import RaykafkaError
from raykafka.internal_topics import CONSUMER_OFFSETS, TRANSACTION_STATE
from raykafka.testing.bank.tellers import Tellers
from raykafka.testing.chaos.deployment import Deployment
from raykafka.testing.chaos.faults import FAULTS, Fault, Undo

_OF_THE_CLUSTER: Final = frozenset(
    (
        "kill leader",
        "kill broker",
        "kill controller",
        "kill node's actors",
        "pause leader",
        "pause controller",
        "remove node",
        "cut off node",
    )
)
"""Those of the chaos runner's faults that stand in the way of transactions."""


def bank_faults(tellers: Tellers) -> list[Fault]:
    """All faults of a run."""
    return [
        Fault("kill teller", partial(_kill_teller, tellers)),
        Fault("pause teller", partial(_pause_teller, tellers), 1.0, 12.0),
        Fault("kill coordinator", kill_coordinator),
        Fault("pause coordinator", pause_coordinator, 1.0, 8.0),
        *(fault for fault in FAULTS if fault.name in _OF_THE_CLUSTER),
    ]


def _nothing() -> None:
    """It is over already."""


def _kill_teller(tellers: Tellers, _: Deployment, random: Random) -> Undo | None:
    """SIGKILL of a teller in whatever it does."""
    return _nothing if tellers.kill(random) else None


def _pause_teller(tellers: Tellers, _: Deployment, random: Random) -> Undo | None:
    """SIGSTOP of a teller: it wakes up when its group, and perhaps more, has moved on."""
    pid = tellers.pause(random)
    return None if pid is None else partial(tellers.resume, pid)


def _coordinator(deployment: Deployment, random: Random) -> list[int]:
    """Process id of an actor that leads a partition of a coordinators' topic."""
    topic = random.choice((TRANSACTION_STATE, CONSUMER_OFFSETS))
    try:
        [described] = deployment.admin.describe_topics([topic])
    except RaykafkaError:
        return []
    leader = random.choice(described.partitions).leader_id
    pids = [a.pid for a in deployment.actors("partition") if a.broker_id == leader]
    return [random.choice(pids)] if pids else []


def kill_coordinator(deployment: Deployment, random: Random) -> Undo | None:
    """SIGKILL of an actor that coordinates."""
    pids = _coordinator(deployment, random)
    return _nothing if deployment.signal(pids, signal.SIGKILL) else None


def pause_coordinator(deployment: Deployment, random: Random) -> Undo | None:
    """SIGSTOP of an actor that coordinates."""
    pids = _coordinator(deployment, random)
    if not deployment.signal(pids, signal.SIGSTOP):
        return None

    def resume() -> None:
        deployment.signal(pids, signal.SIGCONT)

    return resume
