"""Transactions: of one record, and of a thousand beside the same records without."""

from __future__ import annotations

from bench.headline import work
from bench.headline.session import Session, settle
from bench.measuring.records import Records
from bench.measuring.statistics import percentile
from bench.peers import confluent, raykafka
from bench.peers.api import Options

_SIZE = 1000
_COMMITS = 2_500
_WARM_UP_COMMITS = 8_000
"""A fresh broker compiles while it commits."""


def transactions(session: Session) -> None:
    """One producer, one partition, one transaction after the other; all of it is read back."""
    for client, count in ((raykafka.RECORDS, 400_000), (confluent.CLIENT, 150_000)):
        if not session.offers(client):
            continue
        with session.attempt(f"commit, {client.name}"), session.topic(client) as topic:
            commits = Records(_COMMITS if session.counting else _WARM_UP_COMMITS, 100)
            samples = session.ask(client, work.commits, topic, Options(linger_ms=0), commits)
            session.record(f"commit p50/{client.name}", percentile(samples, 0.5))
            session.read_back(client, topic, commits)
        settle()
        session.warm_memory()
        records = Records(count, 100)
        with session.attempt(f"transactions, {client.name}"), session.topic(client) as topic:
            within, without = session.ask(
                client, work.transactions, topic, Options(), records, _SIZE
            )
            session.record(f"transactions/{client.name}", count / within.seconds)
            session.record(f"without transactions/{client.name}", count / without.seconds)
        settle()
