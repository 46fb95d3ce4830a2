"""``python -m raykafka.testing.chaos``: rounds of faults against a real cluster on this machine."""

from __future__ import annotations

import os
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from random import Random

import click
from rich.console import Console
from rich.table import Table

from raykafka.clock import SystemClock
from raykafka.testing.chaos.deployment import TOPIC, Deployment
from raykafka.testing.chaos.faults import FAULTS, Fault
from raykafka.testing.chaos.load import Load
from raykafka.testing.chaos.namespaces import are_possible
from raykafka.testing.chaos.rounds import Nemesis, Outcome, Round, conclude, run_rounds


@click.command()
@click.option("--minutes", default=10.0, show_default=True, help="How long to break things.")
@click.option("--rounds", default=0, help="Stop after so many rounds instead.")
@click.option("--seed", default=1, show_default=True, help="Which faults, on whom and when.")
@click.option("--partitions", default=3, show_default=True)
@click.option("--replication-factor", default=3, show_default=True)
@click.option("--min-insync", default=2, show_default=True, help="min.insync.replicas")
@click.option("--only", multiple=True, metavar="FAULT", help="Inject these faults only.")
@click.option("--history", type=click.Path(), help="Write what the clients were told here.")
def main(
    minutes: float,
    rounds: int,
    seed: int,
    partitions: int,
    replication_factor: int,
    min_insync: int,
    only: tuple[str, ...],
    history: str | None,
) -> None:
    """Break a cluster of three Ray nodes under load; stop with 1 when the oracle finds anything."""
    console = Console(stderr=True)
    faults = _chosen(only, console)
    outcome = Outcome(seed)
    console.print(f"starting three Ray nodes and a cluster on them; seed {seed}")
    deployment = Deployment(
        Path(tempfile.mkdtemp(prefix="rkc")),
        partitions=partitions,
        replication_factor=replication_factor,
        min_insync=min_insync,
    )
    try:
        load = Load(deployment.bootstrap, TOPIC, partitions)
        nemesis = Nemesis(deployment, load, faults, Random(f"chaos {seed}"))
        clock = SystemClock()
        end_ms = clock.monotonic_ms() + int(minutes * 60_000)

        def goes_on(done: int) -> bool:
            return done < rounds if rounds else clock.monotonic_ms() < end_ms

        run_rounds(nemesis, load, outcome, goes_on, lambda each: _tell(console, each, rounds))
        console.print("reading everything once more")
        conclude(deployment, load, outcome, TOPIC)
        if history:
            load.history().save(history)
    finally:
        deployment.close()
    _show(outcome, faults)
    sys.stdout.flush()
    os._exit(1 if outcome.failures else 0)  # Ray's threads of this process end with it


def _chosen(only: tuple[str, ...], console: Console) -> list[Fault]:
    unknown = set(only) - {fault.name for fault in FAULTS}
    if unknown:
        known = ", ".join(fault.name for fault in FAULTS)
        raise click.BadParameter(f"{', '.join(sorted(unknown))}; there are: {known}")
    chosen = [fault for fault in FAULTS if not only or fault.name in only]
    if not are_possible():
        left_out = ", ".join(fault.name for fault in chosen if fault.needs_root)
        console.print(f"without root and ip (iproute2) these are left out: {left_out}")
        chosen = [fault for fault in chosen if not fault.needs_root]
    return chosen


def _tell(console: Console, each: Round, rounds: int) -> None:
    of = f"/{rounds}" if rounds else ""
    healed = "" if each.healed else ", and the cluster did NOT heal"
    what = ", ".join(each.faults) or "nothing could be harmed"
    console.print(
        f"round {each.number}{of}: {what}; longest gap {each.longest_gap_ms:,} ms{healed}",
        highlight=False,
    )
    for line in each.trouble:
        console.print(f"  {line}", highlight=False)


def _show(outcome: Outcome, faults: list[Fault]) -> None:
    """The table and the line of totals."""
    rounds: dict[str, list[Round]] = defaultdict(list)
    for each in outcome.rounds:
        for name in each.faults:
            rounds[name].append(each)
    table = Table("fault", "rounds", "not healed", "longest gap")
    for fault in faults:
        mine = rounds[fault.name]
        table.add_row(
            fault.name,
            str(len(mine)),
            str(sum(not each.healed for each in mine)),
            f"{max(each.longest_gap_ms for each in mine):,} ms" if mine else "",
        )
    Console().print(table)
    for name, examples in outcome.report.examples.items():
        click.echo(f"{name}: {outcome.report.counts[name]}")
        for example in examples:
            click.echo(f"  {example}")
    for problem in sorted(set(outcome.problems))[:10]:
        click.echo(f"a client was told: {problem}")
    if not outcome.read_all:
        click.echo("the final read did not reach the end of every partition")
    click.echo(
        f"seed {outcome.seed}, {len(outcome.rounds)} rounds, {outcome.report.anomalies} anomalies; "
        f"{outcome.report.summary()}"
    )


if __name__ == "__main__":
    main()
