"""A leader falls while producers write: how long nothing is acknowledged.

Both systems get the same load and the same fault: SIGKILL to the process that leads the partition,
or SIGSTOP to every process of its node, which closes no connection and says nothing, as a node that
is cut off from the network does. Everything that was acknowledged is read back afterwards.
"""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from bench.headline import work
from bench.headline.session import Session
from bench.measuring.records import Records
from bench.measuring.verification import VoidRunError
from bench.peers import confluent, raykafka
from bench.peers.api import Client, Options

RATE = 500.0
"""Records per second, one by one: a gap is told to some milliseconds."""
_BEFORE_S = 1.5
"""Load before the fault."""
_UNDER_WAY_NS = 200_000_000
"""Load that must have been acknowledged before the fault."""
_NS = 1e9


@dataclass(frozen=True)
class Strike:
    """A fault, and how often and long it is measured on one side."""

    figure: str
    signal: signal.Signals
    client: Client
    times: int
    after_s: float
    """Load behind the fault; what was not acknowledged by then is waited for."""

    @property
    def pauses(self) -> bool:
        return self.signal is signal.SIGSTOP


def killed_leader(session: Session) -> None:
    """SIGKILL."""
    kill = signal.SIGKILL
    _strike(session, Strike("kill gap", kill, raykafka.RECORDS, 10, 2.5))
    _strike(session, Strike("kill gap", kill, confluent.CLIENT, 2, 13))


def silent_leader(session: Session) -> None:
    """SIGSTOP to the leader's node, SIGCONT when producing has gone on."""
    stop = signal.SIGSTOP
    _strike(session, Strike("silent gap", stop, raykafka.RECORDS, 5, 4.5))
    _strike(session, Strike("silent gap", stop, confluent.CLIENT, 1, 13))


def _strike(session: Session, strike: Strike) -> None:
    if not session.offers(strike.client):
        return
    for _ in range(strike.times):
        what = f"{strike.figure}, {strike.client.name}"
        with session.attempt(what):
            session.say(what)
            session.record(f"{strike.figure}/{strike.client.name}", _gap(session, strike))


def _gap(session: Session, strike: Strike) -> float:
    """Seconds without an acknowledgement around one fault."""
    client = strike.client
    records = Records(int(RATE * (_BEFORE_S + strike.after_s)), 100)
    with session.topic(client) as topic:
        peer = session.peer(client.peer)
        peer.restore(topic)
        worker = session.worker(client)
        options = Options(linger_ms=0)
        worker.start(work.paced, client, peer.address, topic, options, records, RATE)
        time.sleep(_BEFORE_S)
        pids = peer.leader_pids(topic, whole_node=strike.pauses)
        struck = time.monotonic_ns()
        for pid in pids:
            os.kill(pid, strike.signal)
        try:
            paced: work.Paced = worker.finish()
        finally:
            if strike.pauses:
                _wake(pids)
        peer.restore(topic)
        session.read_back(client, topic, records)
        if struck < paced.acked_ns[0] + _UNDER_WAY_NS:
            raise VoidRunError(
                "the fault came before the load was under way; try a quieter machine"
            )
        return longest_gap(paced.acked_ns, struck)


def longest_gap(acked_ns: Sequence[int], struck_ns: int) -> float:
    """Seconds of the longest time without an acknowledgement that ends behind ``struck_ns``."""
    steps = itertools.pairwise(sorted(acked_ns))
    return max(after - before for before, after in steps if after > struck_ns) / _NS


def _wake(pids: Sequence[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
