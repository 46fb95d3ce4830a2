"""Does transfers, one transaction for each handful of requests, with the group's offsets in it.

As a program: ``python -m raykafka.testing.bank.teller DATA_DIR NAME SEED [PLANTED_BUG]``; it runs
until it is killed, and is started again under the same name.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, Final

from raykafka.actors.endpoint_file import endpoint_file
from raykafka.client.cluster.bootstrap import Bootstrap
from raykafka.client.cluster.file_bootstrap import FileBootstrap
from raykafka.client.consumer import Consumer
from raykafka.client.producer import Producer
from raykafka.client.producing.futures import RecordFuture
from raykafka.errors import IllegalStateError, RaykafkaError
from raykafka.model import TopicPartition
from raykafka.testing.bank.records import LEDGER, REQUESTS, TELLERS, Request, entries_of

MOST_REQUESTS: Final = 20
"""Of one transaction."""
DOOMED: Final = 0.1
"""Share of the transactions that are aborted for no reason, when all is written."""
TIMEOUT_MS: Final = 10_000
"""Of transactions: what a killed teller has left open blocks readers for so long at most."""
SESSION_MS: Final = 6_000
OFFSETS_OUTSIDE: Final = "offsets-outside"
"""Planted bug: offsets are committed with the next turn and not within the transaction."""
PLACES: Final = ("polled", "sent", "offsets", "committed")
"""Where a teller says that it is, in this order, in each transaction."""

Polled = Mapping[TopicPartition, Sequence[Any]]
Hazard = Callable[[str], None]


def no_hazard(place: str) -> None:
    """Nothing goes wrong."""


class Teller:
    """One worker; ``run`` returns when it is told to, and raises what it cannot go on after."""

    def __init__(
        self,
        bootstrap: Bootstrap,
        name: str,
        random: Random,
        *,
        planted: str = "",
        hazard: Hazard = no_hazard,
    ) -> None:
        """``hazard`` is called at each of ``PLACES`` and may raise ``Killed``."""
        self.name = name
        self.transactions = 0
        self.doomed = 0
        self.left_behind: list[Producer] = []
        """What still has a transaction open, because this teller was ``Killed``."""
        self._bootstrap = bootstrap
        self._random = random
        self._planted = planted
        self._hazard = hazard
        self._outside: dict[TopicPartition, int] = {}
        """What was done in the last transaction."""

    def run(self, goes_on: Callable[[], bool]) -> None:
        """Do transfers; whatever is left open when an error comes out of here stays open."""
        producer = Producer(
            self._bootstrap,
            transactional_id=self.name,
            transaction_timeout_ms=TIMEOUT_MS,
            linger_ms=1,
            client_id=self.name,
        )
        settings: dict[str, Any] = {
            "group_id": TELLERS,
            "client_id": self.name,
            "enable_auto_commit": False,
            "auto_offset_reset": "earliest",
            "isolation_level": "read_committed",
        }
        consumer = Consumer(self._bootstrap, **settings)
        try:
            producer.init_transactions()
            consumer.subscribe([REQUESTS])
            while goes_on():
                polled = consumer.poll(timeout_ms=200, max_records=MOST_REQUESTS)
                if polled:
                    self._transact(producer, consumer, polled)
        except Killed:
            self.left_behind.append(producer)
            raise
        except BaseException:
            producer.close(0)
            raise
        else:
            producer.close()
        finally:
            consumer.close()

    def _transact(self, producer: Producer, consumer: Consumer, polled: Polled) -> None:
        doomed = self._random.random() < DOOMED
        if self._planted == OFFSETS_OUTSIDE:
            consumer.commit(self._outside)
        self._hazard("polled")
        producer.begin_transaction()
        try:
            futures = self._write(producer, polled, doomed=doomed)
            self._hazard("sent")
            offsets = {place: found[-1].offset + 1 for place, found in polled.items()}
            if self._planted != OFFSETS_OUTSIDE:
                producer.send_offsets_to_transaction(offsets, consumer.group_metadata())
            self._hazard("offsets")
            if doomed:
                for future in futures:
                    future.get()
                self.doomed += 1
                raise _Doomed
            producer.commit_transaction()
            self.transactions += 1
            self._hazard("committed")
            self._outside = offsets
        except (RaykafkaError, _Doomed):
            # Raises what means that this producer is of no use any more.
            producer.abort_transaction()
            _rewind(consumer, polled)

    def _write(self, producer: Producer, polled: Polled, *, doomed: bool) -> list[RecordFuture]:
        futures = []
        for found in polled.values():
            for record in found:
                for entry in entries_of(Request.decode(record.value), doomed=doomed):
                    key = b"%d" % entry.account
                    futures.append(producer.send(LEDGER, entry.encode(), key))
        return futures


class Killed(BaseException):
    """The teller stops where it is and ends nothing: what SIGKILL does to a process."""


class _Doomed(Exception):
    """The transaction is aborted on purpose."""


def _rewind(consumer: Consumer, polled: Polled) -> None:
    """Read again what was not done; partitions that have gone meanwhile are somebody else's."""
    for place, found in polled.items():
        with contextlib.suppress(IllegalStateError):
            consumer.seek(place, found[0].offset)


def main(data_dir: str, name: str, seed: str, planted: str = "") -> None:
    """Work until killed, or until whoever started this is gone.

    A producer that was fenced, or has lost its way, makes place for another.
    """
    parent = os.getppid()
    bootstrap = FileBootstrap(endpoint_file(data_dir))
    random = Random(f"{name} {seed}")
    while os.getppid() == parent:
        try:
            teller = Teller(bootstrap, name, random, planted=planted)
            teller.run(lambda: os.getppid() == parent)
        except RaykafkaError as error:
            print(f"{name}: {error!r}", file=sys.stderr, flush=True)  # noqa: T201 - its only voice


if __name__ == "__main__":
    main(*sys.argv[1:])
