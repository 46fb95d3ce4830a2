"""``python -m raykafka.testing.bank``: transfers on a real cluster under faults."""

from __future__ import annotations

import os
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from random import Random

import click
from rich.console import Console

from raykafka.clock import SystemClock
from raykafka.testing.bank.audit import Audit
from raykafka.testing.bank.clients import Auditor, Requester
from raykafka.testing.bank.faults import bank_faults
from raykafka.testing.bank.run import PARTITIONS, PAUSE_S, Bank, create_topics, log_lines, seeded
from raykafka.testing.bank.teller import OFFSETS_OUTSIDE
from raykafka.testing.bank.tellers import Tellers
from raykafka.testing.chaos.deployment import Deployment
from raykafka.testing.chaos.namespaces import are_possible
from raykafka.testing.chaos.rounds import HEAL_S, Nemesis, Round

READ_UNCOMMITTED = "read-uncommitted"
"""Planted bug: the auditor sees what is not committed."""
SETTLE_S = 300.0
CONFIGS = {"group.consumer.session.timeout.ms": "3000"}
"""A teller that was killed said no goodbye: its requests wait until its session is over."""


@click.command()
@click.option("--minutes", default=10.0, show_default=True, help="How long to break things.")
@click.option("--rounds", default=0, help="Stop after so many rounds instead.")
@click.option("--seed", default=1, show_default=True, help="Which faults, on whom and when.")
@click.option("--tellers", "count", default=3, show_default=True, help="Worker processes.")
@click.option("--only", multiple=True, metavar="FAULT", help="Inject these faults only.")
@click.option(
    "--plant",
    type=click.Choice([READ_UNCOMMITTED, OFFSETS_OUTSIDE]),
    default=None,
    help="Put a bug in; the run must find it.",
)
def main(
    minutes: float, rounds: int, seed: int, count: int, only: tuple[str, ...], plant: str | None
) -> None:
    """Move money on a cluster of three Ray nodes under faults; end with 1 if they are wrong."""
    console = Console(stderr=True)
    console.print(f"starting three Ray nodes and a cluster on them; seed {seed}")
    directory = Path(tempfile.mkdtemp(prefix="rkb"))
    faults: Counter[str] = Counter()
    unhealed = 0
    with ExitStack() as closing:
        deployment = Deployment(
            directory, partitions=1, replication_factor=3, min_insync=2, configs=CONFIGS
        )
        closing.callback(deployment.close)
        bank, logs = _bank(deployment, directory, seed, count, plant)
        closing.callback(bank.tellers.stop)
        chosen = [fault for fault in bank_faults(bank.tellers) if not only or fault.name in only]
        chosen = [fault for fault in chosen if are_possible() or not fault.needs_root]
        if not chosen:
            raise click.BadParameter(f"no such fault: {', '.join(only)}")
        nemesis = Nemesis(deployment, bank, chosen, Random(f"bank {seed}"))
        clock = SystemClock()
        end_ms = clock.monotonic_ms() + int(minutes * 60_000)
        bank.start()
        done = 0
        while (done < rounds if rounds else clock.monotonic_ms() < end_ms) and not unhealed:
            done += 1
            each = nemesis.round(done)
            faults.update(each.faults)
            unhealed += not each.healed
            _tell(console, each, bank.auditor.audit)
        console.print("closing the books")
        bank.stop()
        deployment.wait_healthy(HEAL_S)
        settled = bank.settle(SETTLE_S)
        said = log_lines(logs)
    _show(bank, faults, said)
    if not settled:
        click.echo("not everything that was asked for was done and decided in the end")
    click.echo(
        f"seed {seed}, {done} rounds, {bank.auditor.audit.violations} violations; "
        f"{bank.auditor.audit.transfers:,} transfers of {bank.requester.sent:,} requests, "
        f"{bank.auditor.audit.snapshots:,} snapshots, {bank.tellers.kills} tellers killed"
    )
    sys.stdout.flush()
    failed = bank.auditor.audit.violations or unhealed or not settled
    os._exit(1 if failed else 0)  # Ray's threads of this process end with it


def _bank(
    deployment: Deployment, directory: Path, seed: int, count: int, plant: str | None
) -> tuple[Bank, Path]:
    create_topics(deployment.admin, replication_factor=3, min_insync=2)
    logs = directory / "tellers"
    logs.mkdir()
    isolation = "read_uncommitted" if plant == READ_UNCOMMITTED else "read_committed"
    planted = OFFSETS_OUTSIDE if plant == OFFSETS_OUTSIDE else ""
    bank = Bank(
        Requester(deployment.bootstrap, seeded(seed, "requester"), pause_s=PAUSE_S),
        Tellers(deployment.data_dir, count, seed, logs, planted=planted),
        Auditor(deployment.bootstrap, PARTITIONS, isolation_level=isolation),
    )
    return bank, logs


def _tell(console: Console, each: Round, audit: Audit) -> None:
    what = ", ".join(each.faults) or "nothing could be harmed"
    healed = "" if each.healed else ", and it did NOT heal"
    console.print(
        f"round {each.number}: {what}; longest gap {each.longest_gap_ms:,} ms{healed}; "
        f"{audit.transfers:,} transfers, {audit.violations} violations",
        highlight=False,
    )
    for line in each.trouble:
        console.print(f"  {line}", highlight=False)


def _show(bank: Bank, faults: Counter[str], said: list[str]) -> None:
    click.echo(f"faults: {', '.join(f'{name} {n}' for name, n in faults.most_common())}")
    for rule, examples in bank.auditor.audit.examples.items():
        click.echo(f"{rule}: {bank.auditor.audit.counts[rule]}")
        for example in examples:
            click.echo(f"  {example}")
    told = Counter(said)
    for line, count in told.most_common(10):
        click.echo(f"{count} times {line}"[:300])
    for problem in sorted(set(bank.requester.problems + bank.auditor.problems))[:10]:
        click.echo(f"a client was told: {problem}")


if __name__ == "__main__":
    main()
